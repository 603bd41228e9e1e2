//! `stunfs ctl`: talks to a running volume over its control socket.
//!
//! Must not know: how a volume works. Invariant: what the volume refuses is said in its own words.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Command, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stunfs::control::{
    Client, DiscardReply, GrowReply, ReleaseReply, ResumeReply, StatusReply, StunReply, find_socket,
};
use stunfs::model::PoolUse;
use stunfs::settings::{Settings, SettingsError};
use stunfs::units::parse_duration;

use super::exit::{FINE, UsageError};
use super::output::{self, count};
use super::status;

/// `stunfs ctl`
#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    /// Where the volume is mounted [the only one that runs]
    mountpoint: Option<PathBuf>,
    /// Its control socket, instead of the mount point
    #[arg(long, global = true, value_name = "SOCKET")]
    socket: Option<PathBuf>,
    /// Print the volume's answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: CtlAction,
}

#[derive(Debug, Subcommand)]
enum CtlAction {
    /// What the volume does, and who is held now
    Status {
        /// List at most this many held operations
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Change volume options: first-write=20ms lanes=4 pool=2GiB only=share=5%
    Set {
        /// Option and value
        #[arg(required = true, value_name = "OPTION=VALUE")]
        changes: Vec<String>,
    },
    /// Switch injection on
    Arm,
    /// Switch injection off; what is held stays held until its time
    Disarm,
    /// Stop everything on the volume
    Stun {
        /// For how long [until resume, at most --max-hold]
        #[arg(value_name = "TIME")]
        duration: Option<String>,
    },
    /// End the stun
    Resume,
    /// End all injection at once and let go whoever is held
    Release,
    /// Hand grains that no file uses back to the pool
    Discard,
    /// Give the pool a new size
    Grow {
        /// Size with a unit, such as 20GiB
        #[arg(value_name = "SIZE")]
        pool: String,
    },
    /// Print events
    Events {
        /// Go on with what comes, until the volume ends
        #[arg(long, short)]
        follow: bool,
        /// Begin after the event of this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        since: u64,
    },
    /// End the volume: drain, unmount
    Stop,
}

/// The usage lines of the commands with the mount point in front of them, where clap leaves out what is optional.
pub(crate) fn with_place(ctl: Command) -> Command {
    ctl.mut_subcommands(|command| {
        let names = command.get_positionals().map(ToString::to_string);
        let words = [command.get_name().to_owned(), "[OPTIONS]".to_owned()].into_iter().chain(names);
        let usage = format!("stunfs ctl [MOUNTPOINT] {}", words.collect::<Vec<_>>().join(" "));
        command.override_usage(usage)
    })
}

pub(crate) fn run(args: &CtlArgs) -> anyhow::Result<u8> {
    if args.socket.is_some() && args.mountpoint.is_some() {
        return Err(UsageError("name the mount point or --socket, not both".to_owned()).into());
    }
    let body = body(&args.action)?;
    let socket = find_socket(args.socket.as_deref().or(args.mountpoint.as_deref()))?;
    let client = Client::connect(&socket)?;
    match &args.action {
        CtlAction::Events { follow, since } => print_events(client, *since, *follow, args.json)?,
        action => {
            let reply = ask(client, action, &body)?;
            if args.json { output::print_json(&reply)? } else { output::print(&text(action, reply)?).map(|_| ())? }
        }
    }
    Ok(FINE)
}

/// What the request says; checked here as far as that goes without the volume.
fn body(action: &CtlAction) -> anyhow::Result<Value> {
    Ok(match action {
        CtlAction::Set { changes } => serde_json::to_value(self::changes(changes)?)?,
        CtlAction::Stun { duration: Some(duration) } => json!({ "for": duration }),
        CtlAction::Grow { pool } => json!({ "pool": pool }),
        _ => json!({}),
    })
}

fn changes(texts: &[String]) -> Result<Settings, SettingsError> {
    let mut settings = Settings::new();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        settings.set(name.trim_start_matches("--"), value)?;
    }
    Ok(settings)
}

fn ask(client: Client, action: &CtlAction, body: &Value) -> anyhow::Result<Value> {
    let path = match action {
        CtlAction::Status { limit } => return Ok(client.get(&format!("/v1/status?limit={limit}"))?.ok()?),
        CtlAction::Set { .. } => "/v1/set",
        CtlAction::Arm => "/v1/arm",
        CtlAction::Disarm => "/v1/disarm",
        CtlAction::Stun { .. } => "/v1/stun",
        CtlAction::Resume => "/v1/resume",
        CtlAction::Release => "/v1/release",
        CtlAction::Discard => "/v1/discard",
        CtlAction::Grow { .. } => "/v1/grow",
        CtlAction::Events { .. } => "/v1/events",
        CtlAction::Stop => "/v1/stop",
    };
    // These answer when the last held operation is out, however long that takes.
    let patient = matches!(action, CtlAction::Resume | CtlAction::Release | CtlAction::Grow { .. });
    let client = if patient { client.timeout(None) } else { client };
    Ok(client.post(path, body)?.ok()?)
}

/// The answer for people.
fn text(action: &CtlAction, reply: Value) -> anyhow::Result<String> {
    Ok(match action {
        CtlAction::Status { .. } => status::text(&read::<StatusReply>(reply)?),
        CtlAction::Set { changes } => format!("changed: {}\n", changes.join(" ")),
        CtlAction::Arm => "injection is on\n".to_owned(),
        CtlAction::Disarm => "injection is off; what is held stays held until its time\n".to_owned(),
        CtlAction::Stun { duration } => stun_text(duration.as_deref(), &read(reply)?),
        CtlAction::Resume => format!("resumed, {} let go\n", count(read::<ResumeReply>(reply)?.released, "operation")),
        CtlAction::Release => {
            format!("all injection has ended, {} let go\n", count(read::<ReleaseReply>(reply)?.released, "operation"))
        }
        CtlAction::Discard => {
            let discarded = read::<DiscardReply>(reply)?;
            format!("{} handed back, {}\n", count(discarded.grains, "grain"), pool_text(&discarded.pool))
        }
        CtlAction::Grow { .. } => {
            let grown = read::<GrowReply>(reply)?;
            format!("{}; {} let go\n", pool_text(&grown.pool), count(grown.released, "operation"))
        }
        CtlAction::Stop => "the volume is ending\n".to_owned(),
        CtlAction::Events { .. } => String::new(),
    })
}

fn read<T: DeserializeOwned>(reply: Value) -> anyhow::Result<T> {
    serde_json::from_value(reply).context("the volume's answer is not understood; is it of another version?")
}

fn stun_text(duration: Option<&str>, reply: &StunReply) -> String {
    // Rounded to tenths of a second: it began a moment ago.
    let limit = Duration::from_millis(reply.for_us.saturating_add(50_000) / 100_000 * 100);
    let is_cut = |asked: &str| parse_duration(asked).is_ok_and(|asked| asked > limit + Duration::from_secs(1));
    let limit = output::time(limit);
    match duration {
        Some(asked) if is_cut(asked) => {
            format!("stunned for {limit}, which is all that --max-hold allows; 'stunfs ctl resume' ends it earlier\n")
        }
        Some(asked) => format!("stunned for {asked}; 'stunfs ctl resume' ends it earlier\n"),
        None => format!("stunned until 'stunfs ctl resume', at most for {limit} (--max-hold)\n"),
    }
}

/// `pool 1 GiB of 2 GiB`
pub(super) fn pool_text(pool: &PoolUse) -> String {
    let used = output::size(pool.used_bytes);
    pool.size_bytes
        .map_or_else(|| format!("{used} provisioned"), |size| format!("pool {used} of {}", output::size(size)))
}

fn print_events(client: Client, since: u64, follow: bool, json: bool) -> anyhow::Result<()> {
    for line in client.events(since, follow)? {
        let line = line?;
        let line = if json { line } else { status::event_line(&line) };
        if !output::print(&format!("{line}\n"))? {
            return Ok(());
        }
    }
    Ok(())
}
