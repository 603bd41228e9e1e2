//! The model, tested without a clock.

mod cases;
mod distributions;
mod properties;
mod reference;

use std::time::Duration;

use super::FileKey;

fn file(n: u64) -> FileKey {
    FileKey { dev: 1, ino: n }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
