//! Volumes mounted for real. Needs `/dev/fuse`; where that is missing each test says that it was left out, and with
//! `STUNFS_REQUIRE_FUSE` set it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;

mod backings;
mod commands;
mod control_load;
mod daemon;
mod determinism;
mod differential;
mod endings;
mod escape;
mod first_write;
mod guard;
mod idle;
mod kernel_cache;
mod kill;
mod limits;
mod moves;
mod notices;
mod owners;
mod refusals;
mod rights;
mod routes;
mod signals;
mod stall;
mod state;
mod support;
mod unprivileged;
mod writers;
