//! The volume as the control socket sees it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::VolumeError;
use super::inner::Inner;
use super::path_checks;
use super::shutdown::Stop;
use crate::control::{
    self, ControlHandler, ControlRefusal, ControlServer, DiscardReply, EventsStatus, GrowReply, HeldPage,
    MetricsServer, OperationCounters, ReleaseReply, ResumeReply, Status, StunReply, StunStatus,
};
use crate::engine::{EngineStatus, HeldOperation};
use crate::fuse;
use crate::model::{ConfigError, PoolUse};
use crate::options::FilterOptions;
use crate::settings::Settings;
use crate::telemetry::events::EventLog;
use crate::telemetry::metrics::Mirrored;
use crate::units::Bytes;

/// Starts the control socket and the metrics port, as far as they are asked for.
pub(super) fn start_servers(inner: &Arc<Inner>) -> Result<(), VolumeError> {
    let target: Arc<dyn ControlHandler> = Arc::new(ControlledVolume(Arc::clone(inner)));
    let mut servers = inner.servers.lock();
    if let Some(path) = &inner.options.control {
        let server = ControlServer::start(path, Arc::clone(&target))?;
        servers.control = Some(server);
    }
    if let Some(address) = inner.options.metrics {
        servers.metrics = Some(MetricsServer::start(address, target)?);
    }
    Ok(())
}

/// What a place says in which nothing can be made, such as a read-only `/run`.
const CANNOT_WRITE: [io::ErrorKind; 4] = [
    io::ErrorKind::ReadOnlyFilesystem,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::StorageFull,
    io::ErrorKind::NotFound,
];

struct ControlledVolume(Arc<Inner>);

impl ControlledVolume {
    fn now(&self) -> EngineStatus {
        self.0.engine.status()
    }

    fn pool(&self) -> PoolUse {
        self.now().model.pool
    }
}

impl ControlHandler for ControlledVolume {
    fn status(&self) -> Status {
        let inner = &self.0;
        let now = self.now();
        let summary = inner.witness.summary(&now);
        let events = inner.witness.log.counts();
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
                refused: summary.refused,
                provisioned: now.model.provisioned,
                stuns: now.model.stuns,
                filter_asked: now.filter.asked,
                filter_selected: now.filter.selected,
            },
            events: EventsStatus { emitted: events.emitted, dropped: events.dropped, lost: events.lost },
            config: config_value(&now),
        }
    }

    fn held(&self, limit: usize) -> HeldPage {
        let (ops, total) = self.0.engine.held(limit);
        HeldPage {
            total: total as u64,
            waiting_for_space: self.now().model.waiting_for_space,
            ops: ops.into_iter().map(held_op).collect(),
        }
    }

    fn set(&self, changes: Map<String, Value>) -> Result<Value, ControlRefusal> {
        let invalid = |error: &dyn std::fmt::Display| ControlRefusal::Invalid(error.to_string());
        let settings: Settings = serde_json::from_value(Value::Object(changes)).map_err(|error| invalid(&error))?;
        let current = self.now().config;
        let config = settings.apply_live(&current).map_err(|error| invalid(&error))?;
        fuse::check_request_timeout(config.max_hold).map_err(|error| invalid(&error))?;
        let filter = settings.live_filter().map_err(|error| invalid(&error))?;
        let compile = |it: FilterOptions| path_checks::filter(&it, &self.0.options);
        let filter = filter.map(compile).transpose().map_err(|error| invalid(&error))?;
        self.0.engine.reconfigure(config, filter).map_err(|error| invalid(&error))?;
        Ok(config_value(&self.now()))
    }

    fn arm(&self) -> Result<(), ControlRefusal> {
        if self.now().model.expired {
            return Err(expired());
        }
        self.0.engine.set_armed(true);
        Ok(())
    }

    fn disarm(&self) -> Result<(), ControlRefusal> {
        self.0.disarm();
        Ok(())
    }

    fn stun(&self, duration: Option<Duration>) -> Result<StunReply, ControlRefusal> {
        let now = self.now().model;
        if now.expired {
            return Err(expired());
        }
        if !now.armed {
            return Err(ControlRefusal::Conflict("injection is off; arm the volume first (stunfs ctl arm)".into()));
        }
        let refused = |why| ControlRefusal::Unavailable(format!("{why}; nothing is stunned"));
        let until = self.0.stun(duration).map_err(refused)?;
        Ok(StunReply { until_us: until.as_micros(), for_us: micros(until.since(self.0.clock.now())) })
    }

    fn resume(&self) -> Result<ResumeReply, ControlRefusal> {
        if self.now().model.stunned_until.is_none() {
            return Err(ControlRefusal::Conflict("no stun is in force".into()));
        }
        Ok(ResumeReply { released: self.0.resume().operations as u64 })
    }

    fn release(&self) -> Result<ReleaseReply, ControlRefusal> {
        Ok(ReleaseReply { released: self.0.release_all().operations as u64 })
    }

    fn discard(&self) -> Result<DiscardReply, ControlRefusal> {
        Ok(DiscardReply { grains: self.0.engine.discard(), pool: self.pool() })
    }

    fn grow(&self, pool: Bytes) -> Result<GrowReply, ControlRefusal> {
        let waiting = |target: &Self| target.now().model.waiting_for_space;
        let before = waiting(self);
        let grain = self.now().config.grain;
        if pool < grain.bytes() {
            return Err(ControlRefusal::Invalid(format!("pool: {pool} is smaller than one grain of {grain}")));
        }
        self.0.engine.grow(pool).map_err(|error: ConfigError| ControlRefusal::Conflict(error.to_string()))?;
        Ok(GrowReply { pool: self.pool(), released: before.saturating_sub(waiting(self)) })
    }

    fn events(&self) -> EventLog {
        self.0.witness.log.clone()
    }

    fn metrics(&self) -> String {
        let now = self.now();
        let mirrored = Mirrored {
            held_memory_bytes: now.held_memory,
            held_spill_bytes: now.held_spilled,
            events: self.0.witness.log.counts(),
        };
        self.0.witness.metrics.render(&now.model, &mirrored)
    }

    fn stop(&self) -> Result<(), ControlRefusal> {
        self.0.stopper.request_stop_for(Stop::Drain, "stopped over the control socket");
        Ok(())
    }
}

fn expired() -> ControlRefusal {
    ControlRefusal::Conflict("the time limit of the injection (--ttl) has passed; mount again to inject more".into())
}

fn held_op(op: HeldOperation) -> control::HeldOp {
    control::HeldOp {
        id: op.id,
        op: Arc::unwrap_or_clone(op.record),
        since_us: op.since.as_micros(),
        until_us: op.until.map(crate::time::SimTime::as_micros),
        penalty: op.penalty.into(),
    }
}

fn config_value(now: &EngineStatus) -> Value {
    serde_json::to_value(&now.config).unwrap_or(Value::Null)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<control::ControlError> for VolumeError {
    fn from(error: control::ControlError) -> Self {
        let way_out = match &error {
            control::ControlError::System { place, source, .. }
                if place.starts_with('/') && CANNOT_WRITE.contains(&source.kind()) =>
            {
                "; choose another path with --control FILE, or --control none"
            }
            _ => "",
        };
        Self::new(super::ErrorKind::Unavailable, format!("{error}{way_out}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_read_only_run_did_not_name_the_way_out() {
        let told = |kind: io::ErrorKind, place: &str| {
            let source = io::Error::from(kind);
            VolumeError::from(control::ControlError::System { what: "make", place: place.into(), source }).to_string()
        };
        let read_only = told(io::ErrorKind::ReadOnlyFilesystem, "/run/stunfs");
        assert!(read_only.contains("/run/stunfs") && read_only.contains("--control none"), "{read_only}");
        assert!(!told(io::ErrorKind::PermissionDenied, "127.0.0.1:80").contains("--control"));
    }
}
