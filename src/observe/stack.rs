//! Lines of a kernel stack, as every kernel and architecture prints them.
//!
//! Must not know: where the lines were read, what a function means. Invariant: a function's name is a C identifier.
//!
//! Forms: `name+0x2d/0xe0 [module]`, with `[<address>]` before it (before 4.11, s390, `/proc`), with two addresses
//! (PowerPC), with a dot before the name (64-bit PowerPC's first ABI); `[<address>] (name) from [<address>] (caller+0x1/0x2)` and
//! `name from caller+0x1/0x2` (32-bit ARM); `name (file.c:12)` (decoded with the kernel's script).

/// What one line of a stack names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The function.
    pub name: &'a str,
    /// Who called it, where the line tells (32-bit ARM).
    pub caller: Option<&'a str>,
    /// False: found on the stack, but perhaps left over from an earlier call (`? name+0x..`).
    pub reliable: bool,
}

impl<'a> Frame<'a> {
    /// The frame that a line shows.
    pub fn parse(line: &'a str) -> Option<Self> {
        let rest = without_addresses(line)?;
        let (rest, reliable) = match rest.strip_prefix("? ") {
            Some(rest) => (without_addresses(rest)?, false),
            None => (rest, true),
        };
        if let Some((callee, caller)) = rest.split_once(" from ") {
            let caller = located(without_addresses(caller)?)?;
            let callee = callee.trim_start_matches('(').split([' ', ')', '+']).next()?;
            return Some(Self { name: identifier(callee)?, caller: Some(caller), reliable });
        }
        let name = located(rest).or_else(|| bare(line, rest))?;
        Some(Self { name, caller: None, reliable })
    }
}

/// The function's name in a line of a stack, unless the kernel marks it as unreliable.
pub fn frame_name(line: &str) -> Option<&str> {
    Frame::parse(line).filter(|frame| frame.reliable).map(|frame| frame.name)
}

/// What follows `[<c0a1b2c3>]`, `[c000000b31f240] [c000000000b31f24]` and brackets around the whole.
fn without_addresses(line: &str) -> Option<&str> {
    let mut rest = line.trim_start().trim_start_matches('(');
    while let Some(after) = rest.strip_prefix('[') {
        let (inside, after) = after.split_once(']')?;
        if !is_hex(inside.trim_start_matches('<').trim_end_matches('>')) {
            return None;
        }
        rest = after.trim_start().trim_start_matches('(');
    }
    Some(rest)
}

/// The name in `name+0x2d/0xe0 ...` or `name (file.c:12) ...`.
fn located(text: &str) -> Option<&str> {
    let end = text.find(['+', ' '])?;
    let (name, rest) = text.split_at_checked(end)?;
    let offset = rest.strip_prefix("+0x").and_then(|rest| rest.split_once("/0x"));
    let is_located = match offset {
        Some((offset, size)) => {
            is_hex(offset) && is_hex(size.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or_default())
        }
        None => is_source(rest),
    };
    if is_located { identifier(name) } else { None }
}

/// The name alone, also with its module behind it, where the line begins with an address `[<c0a1b2c3>]`.
fn bare<'a>(line: &str, rest: &'a str) -> Option<&'a str> {
    let (name, module) = rest.trim_end().split_once(' ').unwrap_or((rest.trim_end(), ""));
    let is_module = module.is_empty() || module.starts_with('[') && module.ends_with(']');
    let is_address = line.trim_start().trim_start_matches('(').starts_with("[<");
    if is_address && is_module { identifier(name) } else { None }
}

/// ` (fs/xfs/xfs_buf.c:123 ...`.
fn is_source(text: &str) -> bool {
    let place = text.strip_prefix(" (").and_then(|rest| rest.split([' ', ')']).next()).unwrap_or_default();
    let Some((file, line)) = place.rsplit_once(':') else { return false };
    let is_code = [".c", ".h", ".S", ".rs"].iter().any(|end| file.ends_with(end));
    is_code && line.bytes().all(|b| b.is_ascii_digit() || b == b'?')
}

/// `xfs_buf_lock` of `xfs_buf_lock.isra.0` and `.xfs_buf_lock`.
fn identifier(text: &str) -> Option<&str> {
    let name = text.trim_start_matches('.').split('.').next()?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then_some(name)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_kernels() {
        for line in [
            "xfs_buf_lock+0x2d/0xe0 [xfs]",
            " xfs_buf_lock+0x34/0xf0 [xfs 0123456789abcdef]",
            "[<ffffffffc0a1b2c3>] xfs_buf_lock+0x34/0xf0 [xfs]",
            "[c00000000b31f240] [c000000000b31f24] xfs_buf_lock+0x384/0xa20 (unreliable)",
            "[c00000000b31f240] [c000000000b31f24] .xfs_buf_lock+0x384/0xa20",
            "[<0>] xfs_buf_lock+0x34/0xf0 [xfs]",
            "([<000003ff8012a4b6>] xfs_buf_lock+0x6e/0x100 [xfs])",
            "[<c0a1b2c3>] xfs_buf_lock",
            "[<c0a1b2c3>] xfs_buf_lock [xfs]",
            "xfs_buf_lock.isra.0+0x34/0xf0",
            "xfs_buf_lock+0x34/0xf0 (T)",
            "xfs_buf_lock (fs/xfs/xfs_buf.c:988 fs/xfs/xfs_buf.c:1012) xfs",
        ] {
            assert_eq!(frame_name(line), Some("xfs_buf_lock"), "{line}");
        }
    }

    #[test]
    fn frames_of_32_bit_arm_name_the_caller() {
        for line in [
            "[<8074f586>] (io_schedule) from [<807811fb>] (wait_on_page_bit+0x1a8/0x2f0)",
            "[<8074f586>] (io_schedule+0x10/0x58) from [<807811fb>] (wait_on_page_bit+0x1a8/0x2f0)",
            "[<8074f586>] (io_schedule [ext4]) from [<807811fb>] (wait_on_page_bit+0x1a8/0x2f0 [ext4])",
            " io_schedule from wait_on_page_bit+0x1a8/0x2f0",
        ] {
            let expected = Frame { name: "io_schedule", caller: Some("wait_on_page_bit"), reliable: true };
            assert_eq!(Frame::parse(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn unreliable_frames_are_marked() {
        for line in ["? xfs_buf_lock+0x2d/0xe0", "[<ffffffff81030699>] ? xfs_buf_lock+0x2d/0xe0 [xfs]"] {
            assert_eq!(Frame::parse(line), Some(Frame { name: "xfs_buf_lock", caller: None, reliable: false }));
            assert_eq!(frame_name(line), None);
        }
    }

    #[test]
    fn what_is_no_frame() {
        for line in [
            "RIP: 0033:0x7f0000001234",
            "RIP: 0010:native_safe_halt+0xb/0x10",
            "Call Trace:",
            "0xffffffffc0a1b2c3",
            "a b+0x1/0x2",
            "mail from alice (at home.c:1)",
            "read (see the manual)",
            "[",
            "+0x1/0x2",
            "[sda] tag+0x1/0x2",
        ] {
            assert_eq!(Frame::parse(line), None, "{line}");
        }
    }
}
