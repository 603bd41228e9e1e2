//! stunfs imitates thin-provisioned storage: first writes to blocks that have no space yet wait, nothing else does.

pub mod backing;
pub mod control;
pub mod engine;
pub mod freeze;
pub mod fs;
pub mod fuse;
pub mod model;
pub mod observe;
pub mod options;
pub mod profiles;
pub mod seed;
pub mod settings;
pub mod telemetry;
pub mod time;
pub mod units;
pub mod workload;
