//! A reader: random places of a file that it has written before, past the page cache.
//!
//! Must not know: threads, time. Invariant: every read is checked against what was written there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};

use crate::workload::WorkloadOptions;
use crate::workload::crew::Worker;
use crate::workload::measure::{Meter, WriterOp};
use crate::workload::record::{decode, encode, mix};

/// Bytes of a record, and of a read.
const RECORD: usize = 4096;

/// Records in the file: 8 MiB.
const RECORDS: u64 = 2048;

/// One reader.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    seed: u64,
    name: String,
    reads: u64,
}

impl Reader {
    /// Opens the file of an earlier run, or writes it.
    pub(super) fn new(options: &WorkloadOptions, name: &str, meter: &Meter) -> io::Result<Self> {
        let path = options.dir.join(format!("{name}.{:012}.log", 0));
        let open = || OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = meter.time(WriterOp::Open, open)?;
        if file.metadata()?.len() != RECORDS * RECORD as u64 {
            file.set_len(0)?;
            let records: Vec<u8> = (0..RECORDS).flat_map(|n| encode(options.seed, name, n, RECORD)).collect();
            meter.time(WriterOp::Write, || file.write_all(&records))?;
            // Only clean pages can be dropped from the cache.
            meter.time(WriterOp::Fsync, || file.sync_all())?;
        }
        Ok(Self { file, seed: mix(options.seed), name: name.to_owned(), reads: 0 })
    }
}

impl Worker for Reader {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        self.reads += 1;
        let number = mix(self.seed ^ self.reads) % RECORDS;
        let offset = number * RECORD as u64;
        // Where the advice is not taken, the read is answered from the cache, which is no error.
        let _ = fadvise(&self.file, offset, std::num::NonZeroU64::new(RECORD as u64), Advice::DontNeed);
        let mut buffer = [0; RECORD];
        meter.time(WriterOp::Read, || self.file.read_exact_at(&mut buffer, offset))?;
        let found = buffer.split_last().and_then(|(_, line)| decode(line));
        meter.read(found == Some((self.name.as_str(), number)));
        Ok(())
    }

    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}
