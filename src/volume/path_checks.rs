//! Where a volume's own files may lie, and which paths on it a filter means.
//!
//! Must not know: what is written there. Invariant: no file of a volume lies on the volume itself, which would make it
//! wait for itself.

use std::path::{Path, PathBuf};

use super::error::VolumeError;
use crate::engine::Filter;
use crate::options::{FilterOptions, StateFile, VolumeOptions};

/// Refuses files that would lie on the volume, and a socket in the backing, where it would be seen on the volume. Both
/// directories must be canonical.
pub(super) fn check(options: &VolumeOptions) -> Result<(), VolumeError> {
    let state = if let StateFile::At(path) = &options.state { Some(path.as_path()) } else { None };
    let events = options.events.as_deref().filter(|path| path.as_os_str() != "-");
    let control = options.control.as_deref();
    for (option, path) in [("--events", events), ("--control", control), ("--state", state)] {
        check_outside(option, path, &options.mountpoint, "on the volume itself")?;
    }
    for console in &options.guest_consoles {
        check_outside("--guest-console", Some(console), &options.mountpoint, "on the volume itself")?;
    }
    check_outside("--control", control, &options.backing, "inside the backing")
}

/// The filter, compiled. A pattern that begins with the path of the mount point or the backing is one below it.
pub(super) fn filter(filter: &FilterOptions, options: &VolumeOptions) -> Result<Filter, VolumeError> {
    let places = [&options.mountpoint, &options.backing];
    let places = places.into_iter().flat_map(|place| [std::path::absolute(place).ok(), place.canonicalize().ok()]);
    let places: Vec<PathBuf> = places.flatten().filter(|place| place.parent().is_some()).collect();
    let below = |pattern: &String| {
        let below = places.iter().find_map(|place| Path::new(pattern).strip_prefix(place).ok());
        below.map_or_else(|| pattern.clone(), |below| format!("/{}", below.display()))
    };
    let paths: Vec<String> = filter.paths.iter().map(below).collect();
    Filter::new(&paths, &filter.comms, &filter.uids).map_err(|error| VolumeError::usage(format!("only: path {error}")))
}

fn check_outside(option: &str, path: Option<&Path>, place: &Path, what: &str) -> Result<(), VolumeError> {
    match path {
        Some(path) if is_below(path, place) => {
            Err(VolumeError::usage(format!("{option} {} would lie {what}; choose a path elsewhere", path.display())))
        }
        _ => Ok(()),
    }
}

/// Whether `path`, which need not be there, lies below `place`. The nearest directory that is there decides.
fn is_below(path: &Path, place: &Path) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let real = absolute.ancestors().find_map(|above| above.canonicalize().ok());
    absolute.starts_with(place) || real.is_some_and(|real| real.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_missing_directories_do_not_deceive() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap().join("mnt");
        std::fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(&place, dir.path().join("link")).unwrap();
        let at = |name: &str| is_below(&dir.path().join(name), &place);
        assert!(at("mnt/events") && at("link/events") && at("mnt/missing/events") && at("link/missing/events"));
        assert!(!at("events") && !at("missing/events") && !at("mnt2/events"));
    }

    #[test]
    fn regression_a_pattern_with_the_mount_points_path_matched_nothing() {
        let options = VolumeOptions::new("/srv/data", "/mnt/thin");
        let compiled = |pattern: &str| {
            let paths = vec![pattern.to_owned()];
            format!("{:?}", filter(&FilterOptions { paths, ..FilterOptions::default() }, &options).unwrap())
        };
        assert_eq!(compiled("/mnt/thin/log/**"), compiled("/log/**"));
        assert_eq!(compiled("/srv/data/log/**"), compiled("/log/**"));
        assert_ne!(compiled("/mnt/thinner/log/**"), compiled("/log/**"));
    }

    #[test]
    fn each_file_is_checked_and_standard_output_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let refusal = |change: fn(&mut VolumeOptions, &Path)| {
            let mut options = VolumeOptions::new(dir.join("backing"), dir.join("mnt"));
            change(&mut options, &dir);
            check(&options).map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert!(refusal(|o, dir| o.events = Some(dir.join("mnt/e"))).starts_with("--events"));
        assert!(refusal(|o, dir| o.control = Some(dir.join("mnt/c"))).starts_with("--control"));
        assert!(refusal(|o, dir| o.state = StateFile::At(dir.join("mnt/s"))).starts_with("--state"));
        assert!(refusal(|o, dir| o.guest_consoles.push(dir.join("mnt/g"))).starts_with("--guest-console"));
        assert!(refusal(|o, dir| o.control = Some(dir.join("backing/c"))).contains("inside the backing"));
        assert_eq!(refusal(|o, _| o.events = Some("-".into())), "");
        assert_eq!(refusal(|o, dir| o.events = Some(dir.join("e"))), "");
    }
}
