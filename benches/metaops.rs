//! How many files a second can be created, looked at and removed in a directory: `metaops DIR COUNT`.
//!
//! Must not know: what kind of file system it works on. Invariant: it leaves nothing behind in the directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use stunfs::internal::time::Clock;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, count] = arguments.as_slice() else {
        eprintln!("usage: metaops DIR COUNT");
        return ExitCode::from(2);
    };
    let Ok(count) = count.parse() else {
        eprintln!("metaops: COUNT is a number of files, not {count:?}");
        return ExitCode::from(2);
    };
    match measure(Path::new(dir), count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("metaops: {dir}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line `NAME RATE` (operations per second) for each of create, stat, unlink.
fn measure(dir: &Path, count: u32) -> io::Result<()> {
    let dir = dir.join(format!("metaops.{}", std::process::id()));
    fs::create_dir(&dir)?;
    let names: Vec<PathBuf> = (0..count).map(|n| dir.join(format!("file-{n:06}"))).collect();
    let measured = measure_each(&names);
    fs::remove_dir_all(&dir)?;
    measured
}

fn measure_each(names: &[PathBuf]) -> io::Result<()> {
    timed("create", names, |name| File::create_new(name).map(drop))?;
    timed("stat", names, |name| fs::metadata(name).map(drop))?;
    timed("unlink", names, |name| fs::remove_file(name))
}

fn timed(what: &str, names: &[PathBuf], operation: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let clock = Clock::start();
    for name in names {
        operation(name)?;
    }
    let seconds = clock.now().since(stunfs::internal::time::SimTime::ZERO).as_secs_f64();
    let count = u32::try_from(names.len()).map_or(f64::INFINITY, f64::from);
    println!("{what} {:.0}", count / seconds);
    Ok(())
}
