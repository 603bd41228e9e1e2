//! What of a volume survives a clean unmount.
//!
//! Must not know: where checkpoints are kept. Invariant: a volume restored from its checkpoint uses at least as much of the pool
//! as it did when it was saved, and draws no penalty a second time for what has space already.

use serde::{Deserialize, Serialize};

use super::block_allocator::AllocatorCheckpoint;
use super::config::{CheckedConfig, ConfigError, Placement};
use super::direct_mapping::LunCheckpoint;
use super::mapping::Mapping;
use super::{Model, ModelCounters};
use crate::units::{Bytes, GrainSize};

/// All of a volume that its backing does not show: space that was freed but is still provisioned, the pool's use, how
/// far the random draws have come. What data the files have is read from the backing, file by file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolCheckpoint {
    placement: Placement,
    grain: GrainSize,
    used_bytes: u64,
    draws: u64,
    penalised: u64,
    ops: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<AllocatorCheckpoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<LunCheckpoint>,
}

impl PoolCheckpoint {
    /// The pool's use when they were saved: what a checkpoint keeps for [`Model::floor_use`].
    pub const fn used(&self) -> Bytes {
        Bytes(self.used_bytes)
    }
}

impl Model {
    /// What must survive a clean unmount.
    pub fn save(&self) -> PoolCheckpoint {
        let (disk, files) = match &self.mapping {
            Mapping::Direct(luns) => (None, luns.save()),
            Mapping::Packed(disk) => (Some(disk.save()), Vec::new()),
        };
        PoolCheckpoint {
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

    /// A volume that goes on where the one that saved `checkpoint` ended. A cold one forgets what is provisioned. Refused if
    /// placement or grain are others.
    pub fn restore(config: CheckedConfig, checkpoint: PoolCheckpoint) -> Result<Self, ConfigError> {
        let mut model = Self::new(config);
        let PoolCheckpoint { placement, grain, used_bytes, draws, penalised, ops, disk, files } = checkpoint;
        if (placement, grain) != (model.config.placement, model.config.grain) {
            return Err(ConfigError::new(format!(
                "the saved state is of a {placement:?} volume with grains of {grain}; mount with these, or without the state"
            )));
        }
        model.counters = ModelCounters { draws, penalised, ops, provisioned: 0 };
        match (&mut model.mapping, disk) {
            (Mapping::Packed(mapping), Some(disk)) => mapping.restore(&disk),
            (Mapping::Direct(luns), _) => luns.restore(files),
            (Mapping::Packed(_), None) => {}
        }
        // The scan of the backing counts the files; what is free again but still provisioned it cannot see.
        model.provisioned_unseen(Bytes(model.mapping.reusable_bytes()));
        model.floor_use(Bytes(used_bytes));
        Ok(model)
    }
}
