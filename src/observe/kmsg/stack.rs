//! Stack frames as the kernel prints them, and which of them says what a task waits for.
//!
//! Must not know: where the frames were read. Invariant: a frame's name is a C identifier.

/// Functions that only say *that* a task waits.
const GENERIC: [&str; 35] = [
    "__bit_wait",
    "__down",
    "__down_common",
    "__down_interruptible",
    "__down_killable",
    "__flush_work",
    "__flush_workqueue",
    "__mutex_lock",
    "__mutex_lock_slowpath",
    "__rt_mutex_lock",
    "__schedule",
    "__switch_to",
    "__wait_for_common",
    "__wait_on_bit",
    "__wait_on_bit_lock",
    "bit_wait",
    "bit_wait_io",
    "call_rwsem_down_read_failed",
    "call_rwsem_down_write_failed",
    "context_switch",
    "down",
    "down_read",
    "down_write",
    "flush_work",
    "flush_workqueue",
    "folio_wait_bit_common",
    "io_schedule",
    "mutex_lock",
    "out_of_line_wait_on_bit",
    "out_of_line_wait_on_bit_lock",
    "schedule",
    "wait_for_completion",
    "wait_for_completion_io",
    "wait_on_page_bit_common",
    "wait_woken",
];

/// Beginnings of names of the same kind.
const GENERIC_STARTS: [&str; 9] = [
    "__down_",
    "__mutex_lock_",
    "__rwsem_",
    "down_",
    "io_schedule_",
    "mutex_lock_",
    "percpu_down_",
    "rwsem_",
    "schedule_",
];

/// The function's name in a line such as `xfs_buf_lock+0x2d/0xe0 [xfs]`, also with addresses before it. Lines that
/// the kernel marks as unreliable (`? name+0x..`) are no frames.
pub fn frame_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    while let Some(after) = rest.strip_prefix('[') {
        rest = after.split_once(']')?.1.trim_start();
    }
    let (name, offset) = rest.split_once("+0x")?;
    let is_offset = offset.split(['/', ' ']).next().is_some_and(is_hex) && offset.contains("/0x");
    let name = name.split('.').next()?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_offset && is_name).then_some(name)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The innermost frame that is not just "waits for a lock" or "waits for a bit"; if there is none, the outermost.
pub fn waits_in<S: AsRef<str>>(frames: &[S]) -> Option<&str> {
    let mut names = frames.iter().map(AsRef::as_ref);
    names.find(|name| !is_generic(name)).or_else(|| frames.last().map(AsRef::as_ref))
}

fn is_generic(name: &str) -> bool {
    GENERIC.contains(&name) || GENERIC_STARTS.iter().any(|start| name.starts_with(start))
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
            "[<0>] xfs_buf_lock+0x34/0xf0 [xfs]",
            "xfs_buf_lock.isra.0+0x34/0xf0",
        ] {
            assert_eq!(frame_name(line), Some("xfs_buf_lock"), "{line}");
        }
    }

    #[test]
    fn what_is_no_frame() {
        for line in [
            "? xfs_buf_lock+0x2d/0xe0",
            "RIP: 0033:0x7f0000001234",
            "RIP: 0010:native_safe_halt+0xb/0x10",
            "Call Trace:",
            "0xffffffffc0a1b2c3",
            "a b+0x1/0x2",
            "[",
            "+0x1/0x2",
        ] {
            assert_eq!(frame_name(line), None, "{line}");
        }
    }

    #[test]
    fn the_telling_frame() {
        let cases: [(&[&str], Option<&str>); 6] = [
            (
                &["__schedule", "schedule", "__down_common", "down", "xfs_buf_lock", "xfs_buf_find"],
                Some("xfs_buf_lock"),
            ),
            (
                &["io_schedule", "folio_wait_bit_common", "folio_wait_bit", "folio_wait_writeback"],
                Some("folio_wait_bit"),
            ),
            (&["schedule", "rwsem_down_write_slowpath", "down_write", "fuse_fsync"], Some("fuse_fsync")),
            (&["schedule", "request_wait_answer", "__fuse_simple_request"], Some("request_wait_answer")),
            (&["__schedule", "schedule"], Some("schedule")),
            (&[], None),
        ];
        for (frames, expected) in cases {
            assert_eq!(waits_in(frames), expected);
        }
    }
}
