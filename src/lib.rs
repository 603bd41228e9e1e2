//! stunfs imitates thin-provisioned storage: first writes to blocks that have no space yet wait, nothing else does.

pub mod model;
pub mod seed;
pub mod telemetry;
pub mod time;
pub mod units;
