//! The guard itself: what runs in the forked process.
//!
//! A process forked from one with threads may only do what is safe in a signal handler: no allocation, no lock, no
//! panic. So all text is prepared in a [`GuardPlan`] before the fork, and only system calls are made after it.
//!
//! Must not know: the daemon's state. Invariant: from the fork to its exit it touches no memory of the daemon but the
//! plan, and ends in every case.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_char, c_int, c_uint};

use super::undo_log::UndoLog;

/// Longest line without its end; what is longer is no line of ours.
pub(super) const LINE_BYTES: usize = 16 << 10;
/// Room for how to thaw what is frozen: some 25,000 processes.
pub(super) const THAW_BYTES: usize = 1 << 20;
/// Room for the kernel settings to put back.
pub(super) const SETTINGS_BYTES: usize = 64 << 10;
/// `STATX_MNT_ID_UNIQUE`: Linux 6.8; older kernels ignore it.
const STATX_MNT_ID_UNIQUE: c_uint = 0x4000;
const CONNECTIONS: &CStr = c"/sys/fs/fuse/connections";

/// Everything the guard needs, prepared before the fork.
#[derive(Debug)]
pub(super) struct GuardPlan {
    mountpoint: CString,
    helper: Option<CString>,
    /// A lock that the guard keeps until it is done.
    lock: Option<RawFd>,
    thaw: UndoLog,
    settings: UndoLog,
}

impl GuardPlan {
    pub(super) fn new(mountpoint: CString, helper: Option<CString>, lock: Option<RawFd>) -> Self {
        let (thaw, settings) = (UndoLog::with_capacity(THAW_BYTES), UndoLog::with_capacity(SETTINGS_BYTES));
        Self { mountpoint, helper, lock, thaw, settings }
    }

    /// Writes down what a line says about things to thaw and settings to put back.
    fn hear(&mut self, line: &[u8]) {
        match line {
            b"thawed" => self.thaw.clear(),
            _ if line.starts_with(b"thaw-") => _ = self.thaw.note(line),
            _ if line.starts_with(b"put-back ") => _ = self.settings.note(line),
            _ => {}
        }
    }
}

/// What is to be undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Duties {
    /// Connection and mount number.
    mount: Option<(u32, u64)>,
    /// Nothing is left to be undone.
    dismissed: bool,
}

impl Duties {
    /// Takes in one line, without its end. Unknown lines are left alone.
    fn hear(&mut self, line: &[u8]) {
        let mut words = line.split(|byte| *byte == b' ');
        match words.next() {
            Some(b"mount") => self.mount = mount_of(words.next(), words.next()).or(self.mount),
            Some(b"done") => self.dismissed = true,
            _ => {}
        }
    }
}

fn mount_of(connection: Option<&[u8]>, mount_id: Option<&[u8]>) -> Option<(u32, u64)> {
    Some((u32::try_from(number(connection?)?).ok()?, number(mount_id?)?))
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Starts the guard, which reports its process number over `socket`. Returns in the daemon only.
pub(super) fn fork(plan: &mut GuardPlan, socket: RawFd) -> io::Result<()> {
    // The child must not run the daemon's signal handlers: they write into pipes that both processes hold.
    let former = block_signals();
    // SAFETY: the child makes only async-signal-safe calls and leaves with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        become_orphan();
        stand_guard(plan, socket);
    }
    let forked = if child < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: `former` is the mask that this thread had; the child's number is valid until it is waited for.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, &former, ptr::null_mut());
        while child > 0 && libc::waitpid(child, ptr::null_mut(), 0) < 0 && errno() == libc::EINTR {}
    }
    forked
}

fn block_signals() -> libc::sigset_t {
    let (mut all, mut former) = (MaybeUninit::<libc::sigset_t>::zeroed(), MaybeUninit::<libc::sigset_t>::zeroed());
    // SAFETY: both sets are valid when zeroed, and the pointers are to them.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), former.as_mut_ptr());
        former.assume_init()
    }
}

/// Forks once more and lets the process between the two go, so that the daemon never has to wait for the guard's end.
fn become_orphan() {
    // SAFETY: `fork` and `_exit` are async-signal-safe, and the signals are blocked.
    unsafe {
        match libc::fork() {
            0 => {}
            failed_or_child => libc::_exit(c_int::from(failed_or_child < 0)),
        }
    }
}

/// The guard's whole life.
fn stand_guard(plan: &mut GuardPlan, socket: RawFd) -> ! {
    leave_the_daemon(socket, plan.lock);
    report(socket);
    let duties = listen(plan, socket);
    if !duties.dismissed {
        undo(plan, duties);
    }
    // SAFETY: ends this process without running anything of the daemon's.
    unsafe { libc::_exit(0) }
}

/// Takes on a session, a name and standard streams of its own; lets go of all files but the socket and the lock; ignores
/// signals.
fn leave_the_daemon(socket: RawFd, lock: Option<RawFd>) {
    // SAFETY: plain system calls with constants and NUL-terminated strings; descriptors closed here belong to this
    // process alone.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"stunfs-guard".as_ptr());
        for signal in 1..=libc::SIGRTMAX() {
            // The mount helper waits for a child of its own: that needs SIGCHLD's default.
            if signal != libc::SIGCHLD {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
    close_all_but(socket, lock.unwrap_or(socket));
    // SAFETY: as above.
    unsafe {
        libc::chdir(c"/".as_ptr());
        // When memory is short the kernel should not kill the process that cleans up. Only root may ask for that.
        write_to(c"/proc/self/oom_score_adj", b"-1000");
        while (0..2).contains(&libc::open(c"/dev/null".as_ptr(), libc::O_RDWR)) {}
    }
}

fn close_all_but(one: RawFd, other: RawFd) {
    let number = |fd| c_uint::try_from(fd).unwrap_or(0);
    let (low, high) = (number(one.min(other)), number(one.max(other)));
    close_range(0, low.checked_sub(1));
    close_range(low + 1, high.checked_sub(1));
    close_range(high + 1, Some(c_uint::MAX));
}

/// Closes what is open from `first` to `last`; nothing if `last` comes before it.
fn close_range(first: c_uint, last: Option<c_uint>) {
    if let Some(last) = last.filter(|last| *last >= first) {
        // SAFETY: these descriptors belong to this process alone.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

fn report(socket: RawFd) {
    // SAFETY: writes four bytes of a local array.
    unsafe {
        let pid = libc::getpid().to_ne_bytes();
        libc::write(socket, pid.as_ptr().cast(), pid.len());
    }
}

/// Takes in lines until the daemon says `done` or is gone.
fn listen(plan: &mut GuardPlan, socket: RawFd) -> Duties {
    let mut duties = Duties::default();
    let mut line = [0_u8; LINE_BYTES];
    let mut length = 0_usize;
    while !duties.dismissed
        && let Some(byte) = next_byte(socket)
    {
        if byte == b'\n' {
            // A line that did not fit in is longer than the place it had.
            let line = line.get(..length).unwrap_or_default();
            duties.hear(line);
            plan.hear(line);
            length = 0;
        } else {
            if let Some(place) = line.get_mut(length) {
                *place = byte;
            }
            length = length.saturating_add(1);
        }
    }
    duties
}

/// The next byte; `None` when the daemon is gone. Lines are few and short: no buffer is needed.
fn next_byte(socket: RawFd) -> Option<u8> {
    let mut byte = 0_u8;
    loop {
        // SAFETY: reads one byte into a local variable.
        match unsafe { libc::read(socket, (&raw mut byte).cast(), 1) } {
            1 => return Some(byte),
            -1 if errno() == libc::EINTR => {}
            _ => return None,
        }
    }
}

/// Aborts the connection, thaws everything that is frozen, puts settings back, unmounts.
fn undo(plan: &mut GuardPlan, duties: Duties) {
    let ours = match duties.mount {
        Some(mount) => mount_at(&plan.mountpoint) == Some(mount),
        // Killed between `fusermount3` and the first line: a dead mount there can only be the daemon's.
        None => is_dead(&plan.mountpoint),
    };
    if let (true, Some((connection, _))) = (ours, duties.mount) {
        abort(connection);
    }
    plan.thaw.execute();
    plan.settings.execute();
    if ours {
        // Last: it may turn this process into another program.
        unmount(plan);
    }
}

/// Connection and mount number of what is mounted at `path`, without a request to it.
fn mount_at(path: &CStr) -> Option<(u32, u64)> {
    let found = statx(path, libc::AT_STATX_DONT_SYNC).ok()?;
    (found.stx_dev_major == 0).then_some((found.stx_dev_minor, found.stx_mnt_id))
}

fn is_dead(path: &CStr) -> bool {
    matches!(statx(path, libc::AT_STATX_FORCE_SYNC), Err(libc::ENOTCONN | libc::ECONNABORTED))
}

fn statx(path: &CStr, sync: c_int) -> Result<libc::statx, c_int> {
    let flags = sync | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID | STATX_MNT_ID_UNIQUE;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is NUL-terminated and the result's place is large enough; all-zero is a valid value of it.
    unsafe {
        match libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, mask, found.as_mut_ptr()) {
            0 => Ok(found.assume_init()),
            _ => Err(errno()),
        }
    }
}

/// Ends the connection through its `abort` file: what still waits in it gets an error. Mounts `fusectl` if it is missing.
fn abort(connection: u32) {
    let mut space = [0_u8; 64];
    let Some(file) = abort_file(connection, &mut space) else { return };
    if write_to(file, b"1") {
        return;
    }
    // SAFETY: all strings are NUL-terminated; fails without the right to do it.
    unsafe {
        libc::mount(c"none".as_ptr(), CONNECTIONS.as_ptr(), c"fusectl".as_ptr(), 0, ptr::null());
    }
    write_to(file, b"1");
}

fn write_to(file: &CStr, text: &[u8]) -> bool {
    // SAFETY: the path is NUL-terminated, and the bytes written are those of `text`.
    unsafe {
        let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let written = fd >= 0 && libc::write(fd, text.as_ptr().cast(), text.len()) > 0;
        libc::close(fd);
        written
    }
}

/// `/sys/fs/fuse/connections/N/abort`, put together in `space`.
fn abort_file(connection: u32, space: &mut [u8; 64]) -> Option<&CStr> {
    let mut digits = [0_u8; 10];
    let mut first = digits.len();
    let mut rest = connection;
    while first == digits.len() || rest > 0 {
        first = first.checked_sub(1)?;
        *digits.get_mut(first)? = b'0' + u8::try_from(rest % 10).ok()?;
        rest /= 10;
    }
    let parts = [CONNECTIONS.to_bytes(), b"/", digits.get(first..)?, b"/abort"];
    for (place, byte) in space.iter_mut().zip(parts.iter().flat_map(|part| part.iter())) {
        *place = *byte;
    }
    CStr::from_bytes_until_nul(space).ok()
}

/// Unmounts lazily; as a user who may not, by becoming the setuid helper.
fn unmount(plan: &GuardPlan) {
    // SAFETY: the path is NUL-terminated.
    let unmounted = unsafe { libc::umount2(plan.mountpoint.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
    let denied = unmounted != 0 && errno() == libc::EPERM;
    if let (true, Some(helper)) = (denied, &plan.helper) {
        let arguments: [*const c_char; 7] = [
            helper.as_ptr(),
            c"-u".as_ptr(),
            c"-q".as_ptr(),
            c"-z".as_ptr(),
            c"--".as_ptr(),
            plan.mountpoint.as_ptr(),
            ptr::null(),
        ];
        let environment: [*const c_char; 1] = [ptr::null()];
        // SAFETY: both arrays end with a null pointer, and all strings are NUL-terminated. Returns only if it fails.
        unsafe { libc::execve(helper.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    }
}

fn errno() -> c_int {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&[u8]]) -> Duties {
        let mut duties = Duties::default();
        lines.iter().for_each(|line| duties.hear(line));
        duties
    }

    #[test]
    fn lines_are_understood_and_unknown_ones_left_alone() {
        assert_eq!(heard(&[b"mount 47 99"]).mount, Some((47, 99)));
        assert_eq!(heard(&[b"mount 47 99", b"mount 4x 1", b"mount", b"thaw /x", b""]).mount, Some((47, 99)));
        assert_eq!(heard(&[b"mount 99999999999 1"]).mount, None);
        assert!(heard(&[b"done"]).dismissed);
        assert!(!heard(&[b"done2"]).dismissed);
    }

    #[test]
    fn what_is_frozen_and_set_is_written_down_until_it_is_thawed() {
        let mut plan = GuardPlan::new(c"/x".to_owned(), None, None);
        for line in ["thaw-nonsense", "put-back nonsense", "mount 1 2", ""] {
            plan.hear(line.as_bytes());
        }
        plan.hear(b"thawed");
        assert_eq!((plan.thaw.execute(), plan.settings.execute()), (0, 1));
        plan.hear(b"thaw-nonsense");
        assert_eq!((plan.thaw.execute(), plan.settings.execute()), (1, 0));
    }

    #[test]
    fn the_abort_file_is_put_together_without_allocating() {
        let path = |connection| abort_file(connection, &mut [0; 64]).map(CStr::to_owned);
        assert_eq!(path(0).unwrap().as_c_str(), c"/sys/fs/fuse/connections/0/abort");
        assert_eq!(path(47).unwrap().as_c_str(), c"/sys/fs/fuse/connections/47/abort");
        assert_eq!(path(u32::MAX).unwrap().as_c_str(), c"/sys/fs/fuse/connections/4294967295/abort");
    }

    #[test]
    fn what_is_mounted_is_found_without_a_request() {
        assert_eq!(mount_at(c"/proc").map(|(connection, _)| connection > 0), Some(true));
        assert_eq!(mount_at(c"/does/not/exist"), None);
        assert!(!is_dead(c"/proc"));
    }
}
