//! Messages about failing devices and file systems: block layer, loop, XFS, ext4.
//!
//! Must not know: other lines. Invariant: one line, at most one finding; a healthy mount, recovery or unmount is none.

use crate::telemetry::event::StorageFault;

/// Something that storage did wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    /// What kind.
    pub fault: StorageFault,
    /// The device, if the line names one.
    pub device: Option<String>,
    /// The sector (512 bytes) or logical block, if the line names one.
    pub sector: Option<u64>,
}

/// Parts of XFS's and ext4's lines, in lower case, that tell of trouble. The rest of their lines is everyday life.
const TROUBLE: [&str; 12] = [
    "error",
    "corrupt",
    "fail",
    "cannot",
    "can't",
    "unable",
    "deadlock",
    "abort",
    "data will be lost",
    "page discard",
    "no space",
    "not happen",
];

/// Parts, in lower case, that tell of a file system that has given up.
const SHUTDOWN: [&str; 4] = ["shutdown", "shutting down", "shut down", "rectify the problem"];

/// The storage error in a line, if there is one.
pub(super) fn storage(text: &str) -> Option<StorageError> {
    xfs(text).or_else(|| ext4(text)).or_else(|| journal(text)).or_else(|| block(text))
}

/// `XFS (loop0): ...`.
fn xfs(text: &str) -> Option<StorageError> {
    let (_, rest) = text.split_once("XFS (")?;
    let (device, said) = rest.split_once("): ")?;
    let lower = said.to_ascii_lowercase();
    let fault = match () {
        () if has_any(&lower, &SHUTDOWN) => StorageFault::XfsShutdown,
        () if has_any(&lower, &TROUBLE) => StorageFault::XfsError,
        () => return None,
    };
    Some(StorageError { fault, device: Some(device.to_owned()), sector: number_after(&lower, "sector ") })
}

/// `EXT4-fs error (device loop0): ...`, `EXT4-fs error (device loop0) in ...` and `EXT4-fs (loop0): ...`.
fn ext4(text: &str) -> Option<StorageError> {
    let (_, rest) = text.split_once("EXT4-fs ")?;
    let (kind, rest) = rest.split_once('(')?;
    let (device, said) = rest.split_once(')')?;
    let device = device.strip_prefix("device ").unwrap_or(device);
    let lower = said.to_ascii_lowercase();
    let fault = match () {
        // Kernels up to 5.x print the mount options, `errors=remount-ro` among them.
        () if lower.contains("mounted filesystem") => return None,
        () if lower.contains("remounting filesystem read-only") => StorageFault::ReadOnly,
        () if lower.contains("aborted journal") || lower.contains("journal has aborted") => {
            StorageFault::JournalAborted
        }
        () if kind.starts_with("error") || has_any(&lower, &SHUTDOWN) => StorageFault::Ext4Error,
        () if has_any(&lower, &TROUBLE) => StorageFault::Ext4Error,
        () => return None,
    };
    let sector = number_after(&lower, "starting block ");
    Some(StorageError { fault, device: Some(device.to_owned()), sector })
}

/// `Aborting journal on device loop0-8.` and `JBD2: ...`.
fn journal(text: &str) -> Option<StorageError> {
    if let Some((_, device)) = text.split_once("Aborting journal on device ") {
        let device = Some(device.trim_end_matches('.').to_owned());
        return Some(StorageError { fault: StorageFault::JournalAborted, device, sector: None });
    }
    let said = text.strip_prefix("JBD2: ").filter(|said| has_any(&said.to_ascii_lowercase(), &TROUBLE))?;
    let device = [" on ", " for "].iter().find_map(|word| said.rsplit_once(word)).map(|(_, device)| first_word(device));
    Some(StorageError { fault: StorageFault::Ext4Error, device, sector: None })
}

/// The block layer's lines, and those of the loop driver.
fn block(text: &str) -> Option<StorageError> {
    if text.contains("Buffer I/O error on dev") || text.contains("lost page write due to I/O error on") {
        return Some(StorageError {
            fault: StorageFault::BufferIoError,
            device: device_in(text),
            sector: number_after(text, "logical block "),
        });
    }
    let is_request = text.contains(" error, dev ") && text.contains(", sector ");
    let is_loop = text.starts_with("loop: ") && text.contains(" error at byte offset ");
    (is_request || is_loop).then(|| StorageError {
        fault: StorageFault::IoError,
        device: device_in(text),
        sector: number_after(text, ", sector "),
    })
}

/// `dev loop0,`, `device loop0,` or `error on loop0`.
fn device_in(text: &str) -> Option<String> {
    let after = [" dev ", " device ", " error on "].iter().find_map(|word| text.split_once(word))?.1;
    Some(first_word(after))
}

/// Up to a blank or a comma, without a full stop at its end.
fn first_word(text: &str) -> String {
    text.split([' ', ',']).next().unwrap_or_default().trim_end_matches(['.', ':']).to_owned()
}

/// The decimal number right after `word`.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let rest = text.split_once(word)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let hex = rest.get(end..).is_some_and(|rest| rest.starts_with('x'));
    rest.get(..end).filter(|_| !hex)?.parse().ok()
}

fn has_any(text: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| text.contains(part))
}
