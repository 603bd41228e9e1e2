//! The kernel's log, line by line, as typed findings that keep the kernel's own words.
//!
//! Must not know: where lines come from ([`source`] does), clocks. Invariant: what begins a message decides what it is, so
//! a program that quotes the kernel reports nothing.
//!
//! A line goes this way: `fragments` joins what was cut in pieces, `records` and `envelope` open what holds messages in fields, `carriers` take off what stands before
//! a message, then `hung` collects reports of several lines, and tables of patterns (`devices`, `filesystems`,
//! `watchdogs`) tell what one line says.
//!
//! ```
//! use stunfs::internal::observe::kmsg::{Parser, What};
//!
//! let mut parser = Parser::new();
//! let line = "[  300.123456] watchdog: BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]";
//! let findings = parser.line(line, None);
//! assert!(matches!(&findings[0].what, What::SoftLockup(lockup) if lockup.seconds == 223));
//! ```

mod carriers;
mod dates;
mod devices;
mod envelope;
mod filesystems;
mod finding;
mod fragments;
mod hung;
mod line;
mod lockup;
mod nfs;
mod parser;
mod pattern;
mod records;
mod rule;
mod seen;
pub mod source;
mod storage;
#[cfg(test)]
mod tests;
mod watchdogs;

pub use finding::{Finding, What};
pub use hung::HungTask;
pub use lockup::SoftLockup;
pub use nfs::NfsServer;
pub use parser::Parser;
pub use rule::Notice;
pub use storage::StorageError;
