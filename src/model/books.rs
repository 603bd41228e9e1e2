//! What of a volume survives a clean unmount.
//!
//! Must not know: where books are kept. Invariant: a volume restored from its books uses at least as much of the pool
//! as it did when they were saved, and draws no penalty a second time for what has space already.

use serde::{Deserialize, Serialize};

use super::blocks::DiskBook;
use super::config::{ConfigError, ModelConfig, Placement};
use super::direct::LunBook;
use super::ledger::Ledger;
use super::{Counters, Model};
use crate::units::{Bytes, GrainSize};

/// All of a volume that its backing does not show: space that was freed but is still provisioned, the pool's use, how
/// far the random draws have come. What data the files have is read from the backing, file by file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Books {
    placement: Placement,
    grain: GrainSize,
    used_bytes: u64,
    draws: u64,
    penalised: u64,
    ops: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<DiskBook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<LunBook>,
}

impl Books {
    /// The pool's use when they were saved: what a checkpoint keeps for [`Model::floor_use`].
    pub const fn used(&self) -> Bytes {
        Bytes(self.used_bytes)
    }
}

impl Model {
    /// What must survive a clean unmount.
    pub fn save(&self) -> Books {
        let (disk, files) = match &self.ledger {
            Ledger::Direct(luns) => (None, luns.save()),
            Ledger::Packed(disk) => (Some(disk.save()), Vec::new()),
        };
        Books {
            placement: self.config.placement,
            grain: self.config.grain,
            used_bytes: self.pool.used_bytes(),
            draws: self.counters.draws,
            penalised: self.counters.penalised,
            ops: self.counters.ops,
            disk,
            files,
        }
    }

    /// A volume that goes on where the one that saved `books` ended. A cold one forgets what is provisioned. Refused if
    /// placement or grain are others.
    pub fn restore(config: ModelConfig, books: Books) -> Result<Self, ConfigError> {
        let mut model = Self::new(config)?;
        let Books { placement, grain, used_bytes, draws, penalised, ops, disk, files } = books;
        if (placement, grain) != (model.config.placement, model.config.grain) {
            return Err(ConfigError::new(format!(
                "the saved state is of a {placement:?} volume with grains of {grain}; mount with these, or without the state"
            )));
        }
        model.counters = Counters { draws, penalised, ops, provisioned: 0 };
        match (&mut model.ledger, disk) {
            (Ledger::Packed(ledger), Some(disk)) => ledger.restore(&disk),
            (Ledger::Direct(luns), _) => luns.restore(files),
            (Ledger::Packed(_), None) => {}
        }
        // The scan of the backing counts the files; what is free again but still provisioned it cannot see.
        model.provisioned_unseen(Bytes(model.ledger.reusable_bytes()));
        model.floor_use(Bytes(used_bytes));
        Ok(model)
    }
}
