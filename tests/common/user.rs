//! Another user on one thread: credentials of a thread are its own, if glibc does not spread them.

use rustix::thread::UnshareFlags;

/// Gives this thread its own umask, and one supplementary group, 1001.
pub(crate) fn prepare_thread() {
    // SAFETY: only the umask, the root and the working directory stop being shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS).unwrap() };
    let groups: [libc::gid_t; 1] = [1001];
    // SAFETY: reads one number from an array that outlives the call.
    assert_eq!(unsafe { libc::syscall(libc::SYS_setgroups, 1, groups.as_ptr()) }, 0);
}

/// This thread acts as `uid` and `gid` from now on; capabilities follow.
pub(crate) fn become_user(uid: u32, gid: u32) {
    set_effective(0, 0);
    set_effective(uid, gid);
}

fn set_effective(uid: u32, gid: u32) {
    let keep = u32::MAX;
    // SAFETY: changes attributes of the calling thread; no memory is involved.
    unsafe {
        if uid == 0 {
            assert_eq!(libc::syscall(libc::SYS_setresuid, keep, 0, keep), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, keep, gid, keep), 0);
        } else {
            assert_eq!(libc::syscall(libc::SYS_setresgid, keep, gid, keep), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, keep, uid, keep), 0);
        }
    }
}

/// The supplementary groups of this thread, which acts as root.
pub(crate) fn set_groups(groups: &[u32]) {
    let groups: Vec<_> = groups.iter().map(|&group| rustix::process::Gid::from_raw(group)).collect();
    rustix::thread::set_thread_groups(&groups).unwrap();
}

/// The effective capabilities of this thread, as far as it may have them. [`become_user`] sets them anew.
pub(crate) fn set_capabilities(capabilities: u64) {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective = rustix::thread::CapabilitySet::from_bits_retain(capabilities) & sets.permitted;
    rustix::thread::set_capabilities(None, sets).unwrap();
}

/// Does `work` as root, whatever user this thread has otherwise.
pub(crate) fn as_root<T>(work: impl FnOnce() -> T) -> T {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    become_user(0, 0);
    let value = work();
    become_user(uid, gid);
    value
}
