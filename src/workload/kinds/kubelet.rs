//! A kubelet and the container runtime beside it: containers' logs with rotation, checkpoints, and two heartbeats.
//!
//! Must not know: how threads run. Invariant: the lease's heartbeat touches no file; the other one comes only after a round that did.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::files::make_dir;
use super::rotating::{LogLayout, Rotating};
use crate::time::Clock;
use crate::workload::collect::Shown;
use crate::workload::crew::{Beat, Crew, Make, Role, Worker};
use crate::workload::heartbeat::Heartbeat;
use crate::workload::measure::{Meter, WriterOp};
use crate::workload::{RotateStyle, WorkloadOptions};

/// The PLEG lists the containers so often, and is unhealthy when it has not for so long.
const RELIST: Duration = Duration::from_secs(1);
const RELIST_LIMIT: Duration = Duration::from_secs(3 * 60);

/// The lease is renewed so often, and is lost when it was not for so long.
const RENEW: Duration = Duration::from_secs(10);
const LEASE_LIMIT: Duration = Duration::from_secs(40);

/// Rounds of the PLEG from one checkpoint to the next.
const ROUNDS: u64 = 10;

const LOG: LogLayout = LogLayout {
    file: "0.log",
    prefix: "2026-01-01T00:00:00.000000000Z stdout F ",
    record_bytes: 300,
    limit: 10 << 20,
    check: Duration::from_secs(10),
    keep: 4,
    style: RotateStyle::Rename,
    has_state: false,
};

/// Containers' logs, the loop that needs the disk, and the lease.
pub(super) fn crew(options: &WorkloadOptions, clock: Clock) -> Crew {
    let mut roles = Vec::new();
    for number in 0..options.threads {
        let (options, name) = (options.clone(), format!("kubelet-{number}"));
        let layout = LogLayout { record_bytes: options.record_bytes.unwrap_or(LOG.record_bytes), ..LOG };
        let log = name.clone();
        let make: Make = Box::new(move |meter| Ok(Box::new(Rotating::new(&options, &log, layout, meter)?)));
        roles.push(Role { name, beat: Beat::Records, make });
    }
    let disk = Arc::new(Heartbeat::new(clock, RELIST_LIMIT));
    let lease = Arc::new(Heartbeat::new(clock, LEASE_LIMIT));
    let (heart, dir) = (Arc::clone(&disk), options.dir.clone());
    let make: Make = Box::new(move |_| Ok(Box::new(StatusLoop { dir, heart, rounds: 0 })));
    roles.push(Role { name: "kubelet-pleg".to_owned(), beat: Beat::Background(RELIST), make });
    let heart = Arc::clone(&lease);
    let make: Make = Box::new(move |_| Ok(Box::new(Lease { heart })));
    roles.push(Role { name: "kubelet-lease".to_owned(), beat: Beat::Background(RENEW), make });
    Crew { roles, shown: Shown { heartbeats: Some([disk, lease]), ..Shown::default() } }
}

/// Lists what is there, and writes a checkpoint now and then.
#[derive(Debug)]
struct StatusLoop {
    dir: PathBuf,
    heart: Arc<Heartbeat>,
    rounds: u64,
}

impl StatusLoop {
    /// Writes to another name, syncs and renames, as the kubelet's checkpoint store does.
    fn checkpoint(&self, meter: &Meter) -> io::Result<()> {
        let dir = self.dir.join("kubelet");
        make_dir(&dir)?;
        let (new, checkpoint) = (dir.join("checkpoint.tmp"), dir.join("checkpoint.state"));
        let mut file = meter.time(WriterOp::Create, || File::create(&new))?;
        let text = format!("{{\"policyName\":\"none\",\"round\":{}}}\n", self.rounds);
        meter.time(WriterOp::Write, || file.write_all(text.as_bytes()))?;
        meter.time(WriterOp::Fsync, || file.sync_all())?;
        meter.time(WriterOp::Rename, || fs::rename(&new, &checkpoint))
    }
}

impl Worker for StatusLoop {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        meter.time(WriterOp::List, || fs::read_dir(&self.dir)?.try_for_each(|entry| entry?.metadata().map(|_| ())))?;
        if self.rounds.is_multiple_of(ROUNDS) {
            self.checkpoint(meter)?;
        }
        self.rounds += 1;
        self.heart.beat();
        Ok(())
    }

    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}

/// Renews the node's lease, which needs the network only.
#[derive(Debug)]
struct Lease {
    heart: Arc<Heartbeat>,
}

impl Worker for Lease {
    fn step(&mut self, _meter: &Meter) -> io::Result<()> {
        self.heart.beat();
        Ok(())
    }

    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}
