//! stunfs imitates thin-provisioned storage: first writes to blocks that have no space yet wait, nothing else does.

pub mod backing;
pub mod engine;
pub mod freeze;
pub mod fs;
pub mod fuse;
pub mod model;
pub mod options;
pub mod seed;
pub mod telemetry;
pub mod time;
pub mod units;
