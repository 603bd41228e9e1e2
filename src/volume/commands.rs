//! What each command does to a volume. One handler a command.
//!
//! Must not know: sockets, HTTP, command lines. Invariant: a command has taken effect when its handler returns, or it has
//! changed nothing and the refusal says why.

use std::time::Duration;

use serde_json::Value;

use super::inner::Inner;
use super::path_checks;
use super::stopper::Stop;
use crate::control::{
    self, ArmReply, Command, ControlRefusal, DiscardReply, EventsStatus, GrowReply, HeldPage, OperationCounters,
    OptionChanges, ReleaseReply, Reply, ResumeReply, Status, StatusReply, StopReply, StunReply, StunStatus,
    WaitHeldReply, WaitsFor,
};
use crate::engine::{EngineStatus, HeldOperation};
use crate::fuse;
use crate::model::{ModelConfig, OnFull};
use crate::options::FilterOptions;
use crate::settings::Settings;
use crate::telemetry::event::OpRecord;
use crate::time::{SimTime, wait_until};
use crate::units::Bytes;

/// How often `wait-held` counts.
const LOOK: Duration = Duration::from_millis(1);

/// Carries out a command.
pub(super) fn execute(inner: &Inner, command: Command) -> Result<Reply, ControlRefusal> {
    match command {
        Command::Status { limit } => {
            Ok(Reply::Status(Box::new(StatusReply { status: status(inner), held: held(inner, limit) })))
        }
        Command::Set(changes) => set_options(inner, changes),
        Command::Arm {} => arm(inner),
        Command::Disarm {} => {
            inner.disarm();
            Ok(Reply::Arm(ArmReply { armed: false }))
        }
        Command::Stun { duration, settle } => stun(inner, duration, settle),
        Command::Resume {} => resume(inner),
        Command::Release {} => Ok(Reply::Release(ReleaseReply { released: inner.release_all().operations as u64 })),
        Command::Discard {} => {
            let grains = inner.engine.discard();
            Ok(Reply::Discard(DiscardReply { grains, pool: inner.engine.status().model.pool }))
        }
        Command::Grow { pool } => grow(inner, pool),
        Command::WaitHeld { count, within } => Ok(Reply::WaitHeld(wait_held(inner, count, within))),
        Command::Stop {} => {
            inner.stopper.request_stop_for(Stop::Drain, "stopped over the control socket");
            Ok(Reply::Stop(StopReply { stopping: true }))
        }
    }
}

fn status(inner: &Inner) -> Status {
    let now = inner.engine.status();
    let summary = inner.observer.summary(&now);
    let events = inner.observer.log.counts();
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        backing: inner.options.backing.display().to_string(),
        mountpoint: inner.options.mountpoint.display().to_string(),
        profile: inner.options.profile.clone(),
        started: humantime::format_rfc3339_micros(inner.clock.started_wall()).to_string(),
        uptime_us: now.now.as_micros(),
        armed: now.model.armed,
        expired: now.model.expired,
        stun: now.model.stunned_until.map(|until| StunStatus {
            until_us: until.as_micros(),
            left_us: micros(until.since(now.now)),
            frozen: inner.freezer.is_frozen(),
        }),
        pool: now.model.pool,
        queue_wait_us: micros(now.model.queue_wait),
        counters: OperationCounters {
            operations: summary.operations,
            held: summary.held + now.model.held,
            late: summary.late,
            refused: summary.refused,
            provisioned: now.model.provisioned,
            stuns: now.model.stuns,
            filter_asked: now.filter.asked,
            filter_selected: now.filter.selected,
        },
        events: EventsStatus { emitted: events.emitted, dropped: events.dropped, lost: events.lost },
        options: inner.run_options(),
        config: config_value(&now.config),
    }
}

fn held(inner: &Inner, limit: usize) -> HeldPage {
    let (ops, total) = inner.engine.held(limit);
    let now = inner.engine.status();
    HeldPage {
        total: total as u64,
        waiting_for_space: now.model.waiting_for_space,
        ops: ops.into_iter().map(|op| held_op(&op, &now)).collect(),
    }
}

fn set_options(inner: &Inner, changes: OptionChanges) -> Result<Reply, ControlRefusal> {
    let settings: Settings = serde_json::from_value(Value::Object(changes.into_inner())).map_err(invalid)?;
    set(inner, &settings).map(|config| Reply::Set(config_value(&config)))
}

/// Puts changed options in force.
pub(super) fn set(inner: &Inner, settings: &Settings) -> Result<ModelConfig, ControlRefusal> {
    let config = settings.apply_live(&inner.engine.status().config).map_err(invalid)?;
    fuse::check_request_timeout(config.max_hold).map_err(invalid)?;
    let only = settings.live_filter().map_err(invalid)?;
    let compile = |it: &FilterOptions| path_checks::filter(it, &inner.options);
    let filter = only.as_ref().map(compile).transpose().map_err(invalid)?;
    // The values are fine by now: what is refused here does not go with what the volume is or holds.
    inner.engine.reconfigure(config, filter).map_err(conflict)?;
    if let Some(only) = only {
        *inner.filter.lock() = only;
    }
    Ok(inner.engine.status().config)
}

fn arm(inner: &Inner) -> Result<Reply, ControlRefusal> {
    if inner.engine.status().model.expired {
        return Err(expired());
    }
    inner.engine.set_armed(true);
    Ok(Reply::Arm(ArmReply { armed: true }))
}

fn stun(inner: &Inner, duration: Option<Duration>, settle: Duration) -> Result<Reply, ControlRefusal> {
    let now = inner.engine.status().model;
    if now.expired {
        return Err(expired());
    }
    if !now.armed {
        return Err(ControlRefusal::Conflict("injection is off; arm the volume first (stunfs ctl arm)".into()));
    }
    let refused = |why| ControlRefusal::Unavailable(format!("{why}; nothing is stunned"));
    let stunned = inner.stun(duration, settle).map_err(refused)?;
    Ok(Reply::Stun(StunReply {
        until_us: stunned.until.as_micros(),
        for_us: micros(stunned.until.since(inner.clock.now())),
        still_running: stunned.still_running as u64,
    }))
}

fn resume(inner: &Inner) -> Result<Reply, ControlRefusal> {
    if inner.engine.status().model.stunned_until.is_none() {
        return Err(ControlRefusal::Conflict("no stun is in force".into()));
    }
    Ok(Reply::Resume(ResumeReply { released: inner.resume().operations as u64 }))
}

fn grow(inner: &Inner, pool: Bytes) -> Result<Reply, ControlRefusal> {
    let waiting = || inner.engine.status().model.waiting_for_space;
    let before = waiting();
    let grain = inner.engine.status().config.grain;
    if pool < grain.bytes() {
        return Err(ControlRefusal::Invalid(format!("pool: {pool} is smaller than one grain of {grain}")));
    }
    inner.engine.grow(pool).map_err(conflict)?;
    let pool = inner.engine.status().model.pool;
    Ok(Reply::Grow(GrowReply { pool, released: before.saturating_sub(waiting()) }))
}

fn wait_held(inner: &Inner, count: u64, within: Duration) -> WaitHeldReply {
    let held = || inner.engine.held_count() as u64;
    let reached = wait_until(within, LOOK, || held() >= count);
    WaitHeldReply { held: held(), reached }
}

fn invalid(error: impl std::fmt::Display) -> ControlRefusal {
    ControlRefusal::Invalid(error.to_string())
}

fn conflict(error: impl std::fmt::Display) -> ControlRefusal {
    ControlRefusal::Conflict(error.to_string())
}

fn expired() -> ControlRefusal {
    ControlRefusal::Conflict("the time limit of the injection (--ttl) has passed; mount again to inject more".into())
}

fn held_op(op: &HeldOperation, now: &EngineStatus) -> control::HeldOp {
    let (waits_for, until) = known_end(op.since, op.until, now);
    control::HeldOp {
        id: op.id,
        op: OpRecord::from(&*op.operation),
        since_us: op.since.as_micros(),
        until_us: Some(until.as_micros()),
        waits_for,
        penalty: op.penalty.into(),
    }
}

/// What an operation waits for that came in at `since` and is due at `due` (`None`: once there is space), and when it is
/// answered if nothing changes.
fn known_end(since: SimTime, due: Option<SimTime>, now: &EngineStatus) -> (Vec<WaitsFor>, SimTime) {
    let limit = since + now.config.max_hold;
    let (mut waits_for, own_end) = match (due, now.config.on_full) {
        (Some(due), _) if due > now.now => (vec![WaitsFor::Penalty], due),
        (Some(due), _) => (Vec::new(), due),
        (None, OnFull::Queue(wait)) => (vec![WaitsFor::Space], since + wait),
        (None, OnFull::Stun | OnFull::Enospc) => (vec![WaitsFor::Space], limit),
    };
    let stun = now.model.stunned_until.filter(|end| *end > own_end || due.is_none());
    waits_for.extend(stun.map(|_| WaitsFor::Stun));
    (waits_for, stun.map_or(own_end, |end| end.max(own_end)).min(limit.max(now.now)))
}

fn config_value(config: &ModelConfig) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
