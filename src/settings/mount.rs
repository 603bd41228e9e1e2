//! Options as `mount -o` and fstab have them: `profile=vmware-thin,first_write=20ms,ro`.
//!
//! Must not know: who mounts. Invariant: a comma within quotes, after a backslash, or within a latency
//! (`lognormal:8ms,p99=200ms`) does not end a value.

use super::error::SettingsError;
use super::{Opt, Settings};

/// What `-o` said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// The volume's options.
    pub settings: Settings,
    /// `remount`: only the flags of an existing mount are to change.
    pub remount: bool,
}

/// Options that mean something to mount(8), systemd or every FUSE file system, and nothing here: stunfs volumes are
/// always `nosuid,nodev` and check permissions in the kernel.
const IGNORED: [&str; 47] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "async",
    "sync",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "symfollow",
    "nosymfollow",
    "default_permissions",
    "nonempty",
    "subtype",
    "type",
    "comment",
    "fd",
    "rootmode",
    "user_id",
    "group_id",
    "blkdev",
];

/// Reads an option list. Options of mount(8) that mean nothing here are left out; anything else that is no option is
/// refused.
pub fn parse_mount_options(list: &str) -> Result<MountOptions, SettingsError> {
    let mut options = MountOptions::default();
    for item in items(list)? {
        let (name, value) = item.split_once('=').unwrap_or((item.as_str(), ""));
        options.take(name, value)?;
    }
    Ok(options)
}

impl MountOptions {
    fn take(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        match name {
            "ro" => self.settings.put(Opt::ReadOnly, "true"),
            "rw" => self.settings.put(Opt::ReadOnly, "false"),
            "remount" => self.remount = true,
            _ if is_generic(name) => {}
            _ => self.settings.set(name, value)?,
        }
        Ok(())
    }
}

fn is_generic(name: &str) -> bool {
    name.is_empty() || name.starts_with("x-") || name.starts_with("X-") || IGNORED.contains(&name)
}

/// The items of the list, without their quotes and backslashes.
fn items(list: &str) -> Result<Vec<String>, SettingsError> {
    let mut items: Vec<String> = Vec::new();
    for item in split(list)? {
        match items.last_mut() {
            Some(last) if continues(last, &item) => {
                last.push(',');
                last.push_str(&item);
            }
            _ => items.push(item),
        }
    }
    Ok(items)
}

/// Whether `item` is the rest of the latency in `last`: `p99=200ms` and `2s@1%` are no options.
fn continues(last: &str, item: &str) -> bool {
    let name = last.split_once('=').map_or("", |(name, _)| name);
    let is_latency = matches!(Opt::named(name), Some(Opt::FirstWrite | Opt::FirstRead));
    is_latency && (item.starts_with("p99=") || item.starts_with(|c: char| c.is_ascii_digit()))
}

fn split(list: &str) -> Result<Vec<String>, SettingsError> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        let part = match parts.last_mut() {
            Some(part) if c != ',' || quoted => part,
            _ => {
                parts.push(String::new());
                continue;
            }
        };
        match c {
            '"' => quoted = !quoted,
            '\\' => part.extend(chars.next()),
            _ => part.push(c),
        }
    }
    if quoted { Err(SettingsError::Syntax(format!("a quote is not closed in '{list}'"))) } else { Ok(parts) }
}
