//! `stunfs ctl`: talks to a running volume over its control socket.
//!
//! Must not know: how a volume works. Invariant: what the volume refuses is said in its own words.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::Value;
use stunfs::internal::control::{
    Client, Command, DiscardReply, GrowReply, OptionChanges, ReleaseReply, ResumeReply, StatusReply, StunReply,
    WaitHeldReply, find_socket,
};
use stunfs::internal::settings::Settings;
use stunfs::internal::units::{Bytes, parse_duration};

use super::exit::{FAILED, FINE, UsageError};
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
    /// Show what the volume does, and which operations it holds
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
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        duration: Option<Duration>,
        /// How long to wait for operations that began before the stun; then say how many still run
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
        settle: Duration,
    },
    /// End the stun
    Resume,
    /// End all injection at once and let every held operation go
    Release,
    /// Hand grains that no file uses back to the pool
    Discard,
    /// Give the pool a new size
    Grow {
        /// Size with a unit, such as 20GiB
        #[arg(value_name = "SIZE")]
        pool: Bytes,
    },
    /// Wait until the volume holds at least N operations; exit code 1 if it does not
    WaitHeld {
        /// Number of operations
        #[arg(value_name = "N")]
        count: u64,
        /// How long to wait at most
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
        within: Duration,
    },
    /// Print events
    Events {
        /// Print new events too, until the volume ends
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
pub(crate) fn with_place(ctl: clap::Command) -> clap::Command {
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
    let command = command(&args.action)?;
    let socket = find_socket(args.socket.as_deref().or(args.mountpoint.as_deref()))?;
    let client = Client::connect(&socket)?;
    let Some(command) = command else {
        let CtlAction::Events { follow, since } = args.action else { return Ok(FINE) };
        return print_events(client, since, follow, args.json);
    };
    let reply = client.execute(&command)?;
    let answer = Answer::read(&args.action, &reply)?;
    if args.json {
        output::print_json(&reply)?
    } else {
        output::print(&answer.text).map(|_| ())?
    }
    Ok(answer.code)
}

/// The command that is asked for; `None` for the stream of events, which is none. Checked as far as that goes without the
/// volume.
fn command(action: &CtlAction) -> anyhow::Result<Option<Command>> {
    Ok(Some(match action {
        CtlAction::Status { limit } => Command::Status { limit: usize::try_from(*limit)? },
        CtlAction::Set { changes } => Command::Set(self::changes(changes)?),
        CtlAction::Arm => Command::Arm {},
        CtlAction::Disarm => Command::Disarm {},
        CtlAction::Stun { duration: Some(Duration::ZERO), .. } => {
            return Err(UsageError("a stun of 0 never begins; write a time such as 30s".to_owned()).into());
        }
        CtlAction::Stun { duration, settle } => Command::Stun { duration: *duration, settle: *settle },
        CtlAction::Resume => Command::Resume {},
        CtlAction::Release => Command::Release {},
        CtlAction::Discard => Command::Discard {},
        CtlAction::Grow { pool } => Command::Grow { pool: *pool },
        CtlAction::WaitHeld { count, within } => Command::WaitHeld { count: *count, within: *within },
        CtlAction::Stop => Command::Stop {},
        CtlAction::Events { .. } => return Ok(None),
    }))
}

fn changes(texts: &[String]) -> anyhow::Result<OptionChanges> {
    let mut settings = Settings::new();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        settings.set(name.trim_start_matches("--"), value)?;
    }
    Ok(serde_json::from_value(serde_json::to_value(settings)?)?)
}

/// What the user learns: the text, and the exit code.
#[derive(Debug)]
struct Answer {
    text: String,
    code: u8,
}

impl Answer {
    fn read(action: &CtlAction, reply: &Value) -> anyhow::Result<Self> {
        let code = match action {
            CtlAction::WaitHeld { .. } if !read::<WaitHeldReply>(reply)?.reached => FAILED,
            _ => FINE,
        };
        Ok(Self { text: text(action, reply)?, code })
    }
}

/// The answer for people.
fn text(action: &CtlAction, reply: &Value) -> anyhow::Result<String> {
    Ok(match action {
        CtlAction::Status { .. } => status::text(&read::<StatusReply>(reply)?),
        CtlAction::Set { changes } => format!("changed: {}\n", changes.join(" ")),
        CtlAction::Arm => "injection is on\n".to_owned(),
        CtlAction::Disarm => "injection is off; what is held stays held until its time\n".to_owned(),
        CtlAction::Stun { duration, settle } => stun_text(*duration, *settle, &read(reply)?),
        CtlAction::Resume => format!("resumed, {} let go\n", count(read::<ResumeReply>(reply)?.released, "operation")),
        CtlAction::Release => {
            format!("all injection has ended, {} let go\n", count(read::<ReleaseReply>(reply)?.released, "operation"))
        }
        CtlAction::Discard => {
            let discarded = read::<DiscardReply>(reply)?;
            format!("{} handed back, {}\n", count(discarded.grains, "grain"), status::pool_text(&discarded.pool))
        }
        CtlAction::Grow { .. } => {
            let grown = read::<GrowReply>(reply)?;
            format!("{}; {} let go\n", status::pool_text(&grown.pool), count(grown.released, "operation"))
        }
        CtlAction::WaitHeld { .. } => wait_held_text(&read(reply)?),
        CtlAction::Stop => "the volume is ending\n".to_owned(),
        CtlAction::Events { .. } => String::new(),
    })
}

fn read<T: DeserializeOwned>(reply: &Value) -> anyhow::Result<T> {
    T::deserialize(reply).context("the volume's answer is not understood; is it of another version?")
}

fn stun_text(duration: Option<Duration>, settle: Duration, reply: &StunReply) -> String {
    // Rounded to tenths of a second: it began a moment ago.
    let limit = Duration::from_millis(reply.for_us.saturating_add(50_000) / 100_000 * 100);
    let is_cut = |asked: Duration| asked > limit + settle + Duration::from_secs(1);
    let limit = output::time(limit);
    let mut text = match duration {
        Some(asked) if is_cut(asked) => {
            format!("stunned for {limit}, which is all that --max-hold allows; 'stunfs ctl resume' ends it earlier\n")
        }
        Some(asked) => {
            let asked = humantime::format_duration(asked);
            format!("stunned for {asked}; 'stunfs ctl resume' ends it earlier\n")
        }
        None => format!("stunned until 'stunfs ctl resume', at most for {limit} (--max-hold)\n"),
    };
    if reply.still_running > 0 {
        let running = count(reply.still_running, "operation");
        let settle = humantime::format_duration(settle);
        text.push_str(&format!("{running} that began before the stun still ran {settle} later\n"));
    }
    text
}

fn wait_held_text(reply: &WaitHeldReply) -> String {
    let held = count(reply.held, "operation");
    if reply.reached { format!("{held} held\n") } else { format!("only {held} held when the time was over\n") }
}

fn print_events(client: Client, since: u64, follow: bool, json: bool) -> anyhow::Result<u8> {
    for line in client.events(since, follow)? {
        let line = line?;
        let line = if json { line } else { status::event_line(&line) };
        if !output::print(&format!("{line}\n"))? {
            break;
        }
    }
    Ok(FINE)
}
