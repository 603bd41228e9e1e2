//! The writers, each in a file of its own.
//!
//! Must not know: how threads run. Invariant: a crew is made without touching the file system; its threads do that.

mod appender;
mod chunk;
mod database;
mod files;
mod fluentd;
mod kubelet;
mod reader;
mod rotating;

pub(super) use appender::Appender;
use database::Database;
use reader::Reader;
use rotating::{LogLayout, Rotating};

use std::time::Duration;

use super::collect::Shown;
use super::crew::{Beat, Crew, Make, Role};
use super::{WorkloadOptions, WriterKind};
use crate::time::Clock;

/// The threads of a workload.
pub(super) fn crew(options: &WorkloadOptions, clock: Clock) -> Crew {
    match options.kind {
        WriterKind::Fluentd => fluentd::crew(options, clock),
        WriterKind::Kubelet => kubelet::crew(options, clock),
        _ => independent(options),
    }
}

/// Threads that share nothing.
fn independent(options: &WorkloadOptions) -> Crew {
    let roles = (0..options.threads).map(|number| {
        let name = format!("{}-{number}", options.kind);
        let (own, called) = (options.clone(), name.clone());
        let make: Make = match options.kind {
            WriterKind::Reader => Box::new(move |meter| Ok(Box::new(Reader::new(&own, &called, meter)?))),
            WriterKind::Database => Box::new(move |meter| Ok(Box::new(Database::new(&own, &called, meter)?))),
            WriterKind::Logger | WriterKind::Logrotate => {
                let layout = syslog(&own);
                Box::new(move |meter| Ok(Box::new(Rotating::new(&own, &called, layout, meter)?)))
            }
            _ => Box::new(move |meter| Ok(Box::new(Appender::new(&own, &called, meter)?))),
        };
        Role { name, beat: Beat::Records, make }
    });
    Crew { roles: roles.collect(), shown: Shown::default() }
}

/// What rsyslog writes: one line for each message, with one write(2). A logger rotates it often, so that short runs see it; a logrotate
/// as `--rotate` says, with a state file.
fn syslog(options: &WorkloadOptions) -> LogLayout {
    let alone = options.kind == WriterKind::Logger;
    LogLayout {
        file: "messages",
        prefix: "2026-01-01T00:00:00.000000+00:00 node app[1]: ",
        record_bytes: options.record_bytes.unwrap_or(300),
        limit: if alone { 256 << 10 } else { 1 << 20 },
        check: Duration::ZERO,
        keep: 4,
        style: options.rotate,
        has_state: !alone,
    }
}
