//! The mount helper: `mount -t fuse.stunfs`, fstab and systemd end up here.
//!
//! Must not know: how a volume works. Invariant: an option that mount(8) passes to every helper is never an error.
//!
//! mount(8) calls `mount.fuse.stunfs SOURCE TARGET [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`; libfuse's `mount.fuse3`
//! calls `stunfs SOURCE TARGET -o OPTIONS`, without a sub-command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::{MountFlags, mount_remount};
use stunfs::internal::settings::{Opt, Settings, parse_mount_options};

use super::daemon::Daemon;
use super::exit::{FINE, UsageError};
use super::{output, volume_args};

/// Words with which a command line begins that is not mount's.
const SUB_COMMANDS: [&str; 10] =
    ["mount", "run", "disk", "write", "ctl", "profiles", "doctor", "mount-helper", "completions", "man"];

/// What mount(8) or `mount.fuse3` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountCall {
    args: Vec<OsString>,
}

impl MountCall {
    /// A call with the arguments after the program's name.
    pub(crate) const fn by_mount(args: Vec<OsString>) -> Self {
        Self { args }
    }
}

/// Whether this process was started as a mount helper.
pub(crate) fn called_by_mount(argv: &[OsString]) -> Option<MountCall> {
    let (program, args) = argv.split_first()?;
    let name = Path::new(program).file_name().unwrap_or_default().as_bytes();
    let is_helper = name.starts_with(b"mount.");
    (is_helper || is_mount_form(args)).then(|| MountCall::by_mount(args.to_vec()))
}

/// `SOURCE TARGET ...`: no sub-command first, and a second argument that is a path.
fn is_mount_form(args: &[OsString]) -> bool {
    let [source, target, ..] = args else { return false };
    let is_path = |arg: &OsStr| arg.as_bytes().contains(&b'/') || Path::new(arg).is_dir();
    let starts_with_option = source.as_bytes().starts_with(b"-");
    !starts_with_option && !SUB_COMMANDS.iter().any(|name| source == name) && is_path(source) && is_path(target)
}

/// The call, read.
#[derive(Debug, Default, PartialEq, Eq)]
struct HelperRequest {
    places: Vec<PathBuf>,
    options: String,
    /// `-f`: do everything but mount.
    fake: bool,
    verbose: bool,
}

pub(crate) fn run(call: MountCall) -> anyhow::Result<u8> {
    let request = read(call.args)?;
    let [backing, mountpoint] = request.places.as_slice() else {
        let form = "write mount.fuse.stunfs BACKING MOUNTPOINT [-o OPTIONS]";
        return Err(UsageError(format!("{} given instead of two places; {form}", request.places.len())).into());
    };
    let options = parse_mount_options(&request.options)?;
    if options.remount {
        return remount(mountpoint, &options.settings);
    }
    let settings = shown_as(backing, &options.settings);
    volume_args::resolve(&settings, backing, mountpoint)?;
    if request.fake {
        return Ok(FINE);
    }
    let ready = Daemon { backing, mountpoint, settings: &settings, log: None, pid_file: None }.start()?;
    if request.verbose {
        ready.notes.iter().for_each(output::say);
        output::say(&ready.ready);
    }
    Ok(FINE)
}

/// The mount table shows the source as fstab has it, so that `mount -a` knows that it is mounted already.
fn shown_as(backing: &Path, settings: &Settings) -> Settings {
    match backing.to_str() {
        Some(name) if !name.contains(',') => Settings::new().with(Opt::Fsname, name).merge(settings),
        _ => settings.clone(),
    }
}

fn read(args: Vec<OsString>) -> anyhow::Result<HelperRequest> {
    let mut request = HelperRequest::default();
    let mut args = args.into_iter();
    let mut only_places = false;
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--") if !only_places => only_places = true,
            Some(flag) if !only_places && flag.len() > 1 && flag.starts_with('-') => request.flag(flag, &mut args)?,
            _ => request.places.push(arg.into()),
        }
    }
    Ok(request)
}

impl HelperRequest {
    /// `-o`, `-t` and `-N` take a value, joined or as the next argument; the other letters may stand together.
    fn flag(&mut self, flag: &str, rest: &mut impl Iterator<Item = OsString>) -> anyhow::Result<()> {
        let mut letters = flag[1..].chars();
        while let Some(letter) = letters.next() {
            match letter {
                'o' | 't' | 'N' => {
                    let joined = letters.as_str();
                    let value = if joined.is_empty() { next_value(letter, rest)? } else { joined.to_owned() };
                    self.value(letter, &value);
                    return Ok(());
                }
                'f' => self.fake = true,
                'v' => self.verbose = true,
                's' | 'n' => {}
                _ => return Err(UsageError(format!("{flag}: not one of -o, -t, -N, -f, -n, -s, -v")).into()),
            }
        }
        Ok(())
    }

    fn value(&mut self, letter: char, value: &str) {
        if letter == 'o' {
            self.options.push_str(if self.options.is_empty() { "" } else { "," });
            self.options.push_str(value);
        }
    }
}

fn next_value(letter: char, rest: &mut impl Iterator<Item = OsString>) -> anyhow::Result<String> {
    let value = rest.next().ok_or_else(|| UsageError(format!("-{letter} needs a value")))?;
    value.into_string().map_err(|value| UsageError(format!("-{letter}: {} is not UTF-8", value.display())).into())
}

/// Only `ro` and `rw` count: mount(8) passes whatever fstab and the mount table say along with them.
fn remount(mountpoint: &Path, settings: &Settings) -> anyhow::Result<u8> {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, settings.get(Opt::ReadOnly) == Some("true"));
    mount_remount(mountpoint, flags, "")
        .map_err(std::io::Error::from)
        .with_context(|| format!("cannot remount {}", mountpoint.display()))?;
    Ok(FINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn request(text: &str) -> HelperRequest {
        read(argv(text)).unwrap()
    }

    #[test]
    fn helpers_are_known_by_name_or_form() {
        for helper in
            ["/sbin/mount.fuse.stunfs /a /b -o rw", "mount.stunfs a b", "stunfs /a /b", "stunfs /a /b -o rw,dev"]
        {
            assert!(called_by_mount(&argv(helper)).is_some(), "{helper}");
        }
        for other in
            ["stunfs mount /a /b", "stunfs mout /a /b", "stunfs -o x /a", "stunfs", "stunfs /a", "stunfs run -- /a"]
        {
            assert!(called_by_mount(&argv(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn what_mount_passes_is_read() {
        let read = request("/a /b -sv -N /ns -o rw,lanes=2 -t fuse.stunfs -oro");
        assert_eq!((read.options.as_str(), read.fake, read.verbose), ("rw,lanes=2,ro", false, true));
        assert_eq!(read.places, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert!(request("-f /a /b").fake);
        assert_eq!(request("-- -a -b").places.len(), 2);
        assert!(super::read(argv("/a /b -x")).is_err());
        assert!(super::read(argv("/a /b -o")).is_err());
    }

    #[test]
    fn the_mount_table_shows_the_source() {
        let shown = |list: &str| shown_as(Path::new("/a"), &parse_mount_options(list).unwrap().settings);
        assert_eq!(shown("rw").get(Opt::Fsname), Some("/a"));
        assert_eq!(shown("fsname=x").get(Opt::Fsname), Some("x"));
    }
}
