//! The ioctls of `lsattr(1)` and `chattr(1)`.
//!
//! Must not know: who asks. Invariant: no other ioctl reaches the backing.

use std::os::fd::{AsFd, AsRawFd};

use super::object::last_error;
use super::{Errno, Result};

/// An ioctl that is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagCall {
    /// `FS_IOC_GETFLAGS`
    GetFlags,
    /// `FS_IOC_SETFLAGS`
    SetFlags,
    /// `FS_IOC_FSGETXATTR`
    GetAttributes,
    /// `FS_IOC_FSSETXATTR`
    SetAttributes,
}

/// `struct fsxattr`.
const ATTRIBUTES_BYTES: usize = 28;

impl FlagCall {
    /// By its number; `None`: not one of these.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            0x8008_6601 => Some(Self::GetFlags),
            0x4008_6602 => Some(Self::SetFlags),
            0x801c_581f => Some(Self::GetAttributes),
            0x401c_5820 => Some(Self::SetAttributes),
            _ => None,
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::GetFlags => 0x8008_6601,
            Self::SetFlags => 0x4008_6602,
            Self::GetAttributes => 0x801c_581f,
            Self::SetAttributes => 0x401c_5820,
        }
    }

    /// How many bytes the kernel reads or writes: the numbers say 8 for the flags, but it is an `int`.
    const fn bytes(self) -> usize {
        match self {
            Self::GetFlags | Self::SetFlags => 4,
            Self::GetAttributes | Self::SetAttributes => ATTRIBUTES_BYTES,
        }
    }

    /// Whether it changes the file.
    pub const fn writes(self) -> bool {
        matches!(self, Self::SetFlags | Self::SetAttributes)
    }
}

/// Does the call on an open file or directory; what it answers (nothing for those that set).
pub fn inode_flags(fd: impl AsFd, call: FlagCall, input: &[u8]) -> Result<Vec<u8>> {
    let mut argument = [0_u8; ATTRIBUTES_BYTES];
    let len = call.bytes();
    if call.writes() {
        argument[..len].copy_from_slice(input.get(..len).ok_or(Errno::INVAL)?);
    }
    // SAFETY: each of the four calls reads or writes at most `ATTRIBUTES_BYTES` bytes at the argument.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), call.number().into(), argument.as_mut_ptr()) };
    if done < 0 {
        return Err(last_error());
    }
    Ok(if call.writes() { Vec::new() } else { argument[..len].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for call in [FlagCall::GetFlags, FlagCall::SetFlags, FlagCall::GetAttributes, FlagCall::SetAttributes] {
            assert_eq!(FlagCall::from_number(call.number()), Some(call));
        }
        assert_eq!(FlagCall::from_number(0x1234), None);
    }

    #[test]
    fn short_input_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(inode_flags(&file, FlagCall::SetFlags, &[0; 3]), Err(Errno::INVAL));
    }
}
