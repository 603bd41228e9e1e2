//! Where a volume's own files may lie.
//!
//! Must not know: what is written there. Invariant: no file of a volume lies on the volume itself, which would make it
//! wait for itself.

use std::path::Path;

use super::error::VolumeError;
use crate::options::{StateFile, VolumeOptions};

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
