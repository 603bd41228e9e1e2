//! The daemon's side of its guard: a process that outlives it and cleans up if it is killed.
//!
//! The guard is forked, not executed, so that it works in every program that uses the library. It is not the daemon's child
//! (forked twice), in a session of its own, and knows of the daemon only through a socket: when that closes without the
//! word `done`, the daemon is dead. What is to be undone is told in lines of text:
//!
//! | line | meaning |
//! |---|---|
//! | `mount CONNECTION MOUNT_ID` | abort this FUSE connection and unmount this mount |
//! | `thaw-...` | carry out this [`UndoAction`] |
//! | `thawed` | forget all `thaw-...` lines so far |
//! | `put-back PATH VALUE` | write this kernel setting |
//! | `done` | nothing is left to be undone: exit |
//!
//! Must not know: how the guard undoes it. Invariant: a [`Guard`] that goes out of scope without
//! [`Guard::dismiss`] sets its process to work, exactly as the daemon's death does.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use super::guard_process::{self, GuardPlan, LINE_BYTES, SETTINGS_BYTES, THAW_BYTES};
use super::undo_action::UndoAction;
use crate::time::Deadline;

/// How long the guard may take to report that it watches.
const START_LIMIT: Duration = Duration::from_secs(5);

/// How long the guard may take to take in what it is told; it reads all the time, unless the machine is very busy.
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// A process that unmounts, thaws and puts settings back if this one is killed.
#[derive(Debug)]
pub struct Guard {
    socket: OwnedFd,
    pid: u32,
    /// Bytes of lines that it has to keep.
    to_thaw: AtomicUsize,
    to_put_back: AtomicUsize,
}

impl Guard {
    /// Starts a guard for what will be mounted at `mountpoint`; to be done before the mount.
    ///
    /// `helper` is `fusermount3`, needed where the kernel does not let this user unmount.
    pub fn spawn(mountpoint: &Path, helper: Option<&Path>) -> io::Result<Self> {
        Self::spawn_with_lock(mountpoint, helper, None)
    }

    /// As [`Guard::spawn`], for one that keeps `lock` open until it is done: a `flock` on it lasts as long.
    pub fn spawn_with_lock(mountpoint: &Path, helper: Option<&Path>, lock: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let helper = helper.map(|path| c_string(path.as_os_str())).transpose()?;
        let mut plan = GuardPlan::new(c_string(mountpoint.as_os_str())?, helper, lock.map(|lock| lock.as_raw_fd()));
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        guard_process::fork(&mut plan, theirs.as_raw_fd())?;
        drop(theirs);
        let pid = hear(ours.as_fd())?;
        Ok(Self { socket: ours, pid, to_thaw: AtomicUsize::new(0), to_put_back: AtomicUsize::new(0) })
    }

    /// Which mount is to go if this process is killed: as in `fuse::MountIdentity`.
    pub fn watch_mount(&self, connection: u32, mount_id: u64) -> io::Result<()> {
        self.tell(&format!("mount {connection} {mount_id}\n"))
    }

    /// What is about to be frozen, and how to thaw it. Thawed in the opposite order.
    ///
    /// # Errors
    /// The guard is dead, or has no room for more: then it must not be frozen.
    pub fn arm(&self, action: &UndoAction) -> io::Result<()> {
        let (kept, room) = match action {
            UndoAction::PutBack { .. } => (&self.to_put_back, SETTINGS_BYTES),
            _ => (&self.to_thaw, THAW_BYTES),
        };
        let line = format!("{action}\n");
        let needed = kept.fetch_add(line.len(), Relaxed) + line.len();
        if line.len() > LINE_BYTES || needed > room {
            kept.fetch_sub(line.len(), Relaxed);
            return Err(io::Error::other("there is too much to be undone for the guard process to keep"));
        }
        self.tell(&line)
    }

    /// All that was frozen goes on again; nothing that it was told to thaw needs to be.
    pub fn thawed(&self) -> io::Result<()> {
        self.to_thaw.store(0, Relaxed);
        self.tell("thawed\n")
    }

    /// The guard's process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still watches. If it was killed, another one should be started.
    pub fn alive(&self) -> bool {
        !self.hung_up(Duration::ZERO)
    }

    /// A descriptor that reports `POLLHUP` when the guard is gone.
    pub fn watch_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends it away: nothing is left to be undone. Whether it was gone within `within`.
    pub fn dismiss(self, within: Duration) -> bool {
        let _it_may_be_gone_already = self.tell("done\n");
        self.hung_up(within)
    }

    fn tell(&self, line: &str) -> io::Result<()> {
        let (mut rest, deadline) = (line.as_bytes(), Deadline::after(TELL_LIMIT));
        while !rest.is_empty() {
            match send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) if !deadline.passed() => {
                    wait_for(self.socket.as_fd(), PollFlags::OUT, deadline.left());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn hung_up(&self, within: Duration) -> bool {
        wait_for(self.socket.as_fd(), PollFlags::empty(), within).contains(PollFlags::HUP)
    }
}

/// What `fd` reports within `within` out of `events`, or that its other end is closed.
fn wait_for(fd: BorrowedFd<'_>, events: PollFlags, within: Duration) -> PollFlags {
    let deadline = Deadline::after(within);
    loop {
        let left = Timespec::try_from(deadline.left()).unwrap_or_default();
        let mut polled = [PollFd::new(&fd, events)];
        match poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) if !deadline.passed() => {}
            _ => return polled[0].revents(),
        }
    }
}

/// The guard's first words: its process number.
fn hear(socket: BorrowedFd<'_>) -> io::Result<u32> {
    if !wait_for(socket, PollFlags::IN, START_LIMIT).contains(PollFlags::IN) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the guard process did not start"));
    }
    let mut pid = [0; 4];
    match rustix::io::read(socket, &mut pid)? {
        4 => Ok(u32::from_ne_bytes(pid)),
        _ => Err(io::Error::other("the guard process ended at its start")),
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::TaskStat;
    use crate::time::wait_until;

    const SOON: Duration = Duration::from_secs(5);

    /// Whether it is there and not only waits for init to reap it.
    fn is_running(pid: u32) -> bool {
        TaskStat::read(pid.try_into().unwrap()).is_some_and(|stat| !stat.is_over())
    }

    #[test]
    fn a_dismissed_guard_is_gone_and_is_not_our_child() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Guard::spawn(dir.path(), None).unwrap();
        let pid = guard.pid();
        assert!(guard.alive() && is_running(pid));
        assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "stunfs-guard\n");
        assert!(guard.dismiss(SOON));
        assert!(wait_until(SOON, Duration::from_millis(5), || !is_running(pid)));
    }

    #[test]
    fn a_guard_holds_no_file_of_the_daemon_open() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Guard::spawn(dir.path(), None).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", guard.pid()))
            .unwrap()
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
            .collect();
        names.sort();
        assert_eq!(names[..3], ["/dev/null", "/dev/null", "/dev/null"]);
        assert!(names.len() == 4 && names[3].starts_with("socket:"), "{names:?}");
    }

    #[test]
    fn the_daemon_notices_a_guard_that_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Guard::spawn(dir.path(), None).unwrap();
        let pid = rustix::process::Pid::from_raw(guard.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(!guard.hung_up(Duration::from_millis(50)), "SIGTERM does not end it");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert!(guard.hung_up(SOON));
        assert!(!guard.alive());
    }

    #[test]
    fn a_guard_takes_in_many_lines_and_says_when_it_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Guard::spawn(dir.path(), None).unwrap();
        let action: UndoAction = format!("thaw-write /{} 0", "x".repeat(900)).parse().unwrap();
        let told = (0..2000).take_while(|_| guard.arm(&action).is_ok()).count();
        assert!(told > 1000 && told < 2000, "{told}");
        guard.thawed().unwrap();
        guard.arm(&action).unwrap();
        let long: UndoAction = format!("thaw-qmp /{}", "x".repeat(LINE_BYTES)).parse().unwrap();
        assert!(guard.arm(&long).is_err());
        assert!(guard.dismiss(SOON));
    }

    #[test]
    fn a_lock_lasts_as_long_as_the_guard() {
        use rustix::fs::{FlockOperation, flock};
        let dir = tempfile::tempdir().unwrap();
        let open = || std::fs::File::create(dir.path().join("lock")).unwrap();
        let (lock, other) = (open(), open());
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let guard = Guard::spawn_with_lock(dir.path(), None, Some(lock.as_fd())).unwrap();
        drop(lock);
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        assert!(guard.dismiss(SOON));
        let free = || flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok();
        assert!(wait_until(SOON, Duration::from_millis(5), free));
    }

    #[test]
    fn a_guard_without_a_mount_to_undo_just_goes() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Guard::spawn(dir.path(), None).unwrap();
        let pid = guard.pid();
        guard.watch_mount(4_000_000, 1).unwrap();
        drop(guard);
        assert!(wait_until(SOON, Duration::from_millis(5), || !is_running(pid)));
        assert!(dir.path().exists());
    }
}
