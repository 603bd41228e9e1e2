//! The volume as the kernel sees it: fuser's types in and out, the mount, its end.
//!
//! Must not know: the model, the engine, what is injected. Invariant: every request that the kernel sends gets exactly
//! one answer, and nothing here sleeps on a thread that serves requests.

mod adapter;
mod attach;
mod convert;
mod error;
mod interrupt;
mod kernel;
mod mount_spec;
mod mountpoint;
mod negotiate;
mod notify;
mod pending;
mod replies;
mod session;
mod signal;

pub(crate) use adapter::Adapter;
pub use attach::find_fusermount;
pub use error::{MountError, UnmountError};
pub(crate) use kernel::abort;
pub use kernel::{ConnectionId, MountIdentity};
pub use mount_spec::MountSpec;
pub use mountpoint::{Checked, check, check_machine, check_request_timeout};
pub use session::{Ending, Session, UnmountOutcome, Visibility};
pub use signal::{block_file_size_signal, unblock as unblock_signals};
