//! The writers, each in a file of its own.
//!
//! Must not know: how threads run. Invariant: a crew is made without touching the file system; its threads do that.

mod appender;
mod chunk;
mod files;
mod fluentd;
mod reader;

pub(super) use appender::Appender;
use reader::Reader;

use super::collect::Shown;
use super::crew::{Beat, Crew, Make, Role};
use super::{WorkloadOptions, WriterKind};
use crate::time::Clock;

/// The threads of a workload.
pub(super) fn crew(options: &WorkloadOptions, clock: Clock) -> Crew {
    match options.kind {
        WriterKind::Fluentd => fluentd::crew(options, clock),
        _ => independent(options),
    }
}

/// Threads that share nothing.
fn independent(options: &WorkloadOptions) -> Crew {
    let roles = (0..options.threads).map(|number| {
        let name = format!("{}-{number}", options.kind);
        let make: Make = match options.kind {
            WriterKind::Reader => {
                let (options, name) = (options.clone(), name.clone());
                Box::new(move |meter| Ok(Box::new(Reader::new(&options, &name, meter)?)))
            }
            _ => {
                let (options, name) = (options.clone(), name.clone());
                Box::new(move |meter| Ok(Box::new(Appender::new(&options, &name, meter)?)))
            }
        };
        Role { name, beat: Beat::Records, make }
    });
    Crew { roles: roles.collect(), shown: Shown::default() }
}
