//! What the file system tells the model of its files, and what it asks of it.

use std::collections::HashSet;

use super::{Core, Engine};
use crate::model::{FileKey, PoolCheckpoint, VirtualSpace};
use crate::units::{ByteRange, Bytes};

impl Engine {
    /// A new, empty file.
    pub fn created(&self, file: FileKey, identity: u64) {
        self.shared.core().model.created(file, identity);
    }

    /// A file that was there at mount holds `data`.
    pub fn learn(&self, file: FileKey, identity: u64, data: &[ByteRange]) {
        let mut core = self.shared.core();
        if core.model.knows(file) {
            return;
        }
        core.count_once(file, data.iter().map(|range| range.len()).sum());
        core.model.learn(file, identity, data);
        self.shared.settle(core, Vec::new(), None);
    }

    /// Space of a file was given back: truncate, punch hole, zero range.
    pub fn free(&self, file: FileKey, range: ByteRange) {
        let mut core = self.shared.core();
        core.model.free(self.shared.clock.now(), file, range);
        self.shared.settle(core, Vec::new(), None);
    }

    /// A file's last link and last handle are gone. `unlearned_bytes`: its data, if it was never learned.
    pub fn remove(&self, file: FileKey, unlearned_bytes: u64) {
        let mut core = self.shared.core();
        if !core.model.knows(file) {
            core.count_once(file, unlearned_bytes);
        }
        core.model.remove(self.shared.clock.now(), file, unlearned_bytes);
        self.shared.settle(core, Vec::new(), None);
    }

    /// From now on a scan of the backing counts what was there at mount: [`Engine::found`], until [`Engine::scanned`].
    pub fn scanning(&self) {
        self.shared.core().counted = Some(HashSet::new());
    }

    /// The scan found a file with `bytes` of data.
    pub fn found(&self, file: FileKey, bytes: u64) {
        let mut core = self.shared.core();
        // What the model knows was created since the mount, or was counted when it was learned.
        if !core.model.knows(file) {
            core.count_once(file, bytes);
            self.shared.settle(core, Vec::new(), None);
        }
    }

    /// Has what is in use now recorded, for the case that this process is killed.
    pub fn record_usage(&self) -> Bytes {
        let core = self.shared.core();
        self.shared.usage_bound.renew(&core.model);
        let used = core.model.provisioned();
        drop(core);
        self.shared.usage_bound.record(&*self.shared.observer);
        used
    }

    /// The scan has seen every file. If the pool is low by what is known from the last session alone, that is told now.
    pub fn scanned(&self) {
        let mut core = self.shared.core();
        core.counted = None;
        core.model.preexisting(0);
        self.shared.settle(core, Vec::new(), None);
    }

    /// Whether the model knows the file.
    pub fn knows(&self, file: FileKey) -> bool {
        self.shared.core().model.knows(file)
    }

    /// The virtual disk, if it has a size of its own.
    pub fn virtual_space(&self) -> Option<VirtualSpace> {
        self.shared.core().model.statfs()
    }

    /// Whether files must be learned before they are read.
    pub fn wants_learned_reads(&self) -> bool {
        self.shared.core().model.config().first_read.is_some()
    }

    /// What must survive until the next mount.
    pub fn save(&self) -> PoolCheckpoint {
        self.shared.core().model.save()
    }

    /// What is provisioned now, whatever a thick volume shows.
    pub fn provisioned(&self) -> Bytes {
        self.shared.core().model.provisioned()
    }
}

impl Core {
    /// Adds a file's data to the pool's use, if a scan is under way that has not counted it.
    fn count_once(&mut self, file: FileKey, bytes: u64) {
        if self.counted.as_mut().is_some_and(|counted| counted.insert(file)) {
            self.model.preexisting(bytes);
        }
    }
}
