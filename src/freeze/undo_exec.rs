//! Carries out a thaw action with system calls only: for the guard, after stunfs was killed.
//!
//! Must not know: what the action's target was frozen for. Invariants: allocates nothing, takes no lock and starts no
//! thread, so it may run in a child forked from a process with threads; nothing takes longer than [`PATIENCE`].

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::undo_action::RawUndoAction;
use crate::sys::process::TaskStat;
use crate::sys::{cgroup, sysctl};
use crate::time::Deadline;

/// The longest that one action takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Thaws what the action names. A target that is gone needs no thawing; a process id that was reused is not touched.
///
/// Allocates nothing. Takes at most 5 s.
///
/// # Errors
/// The system call's error; `PROTO` if the other end of a socket refused, `TIMEDOUT` if it did not answer, `PERM` if the
/// file to be written is not a control group's, or no kernel setting.
pub fn execute_raw(action: RawUndoAction<'_>) -> Result<(), Errno> {
    match action {
        RawUndoAction::Write { path, value } => gone_is_fine(cgroup::write_raw(path, value), Errno::NOENT),
        RawUndoAction::Cont { pid, start } => gone_is_fine(go_on(pid, start), Errno::SRCH),
        RawUndoAction::Http { socket, request } => http(socket, request),
        RawUndoAction::Qmp { socket } => qmp(socket),
        RawUndoAction::PutBack { path, value } => gone_is_fine(sysctl::write_raw(path, value), Errno::NOENT),
    }
}

fn gone_is_fine(done: Result<(), Errno>, gone: Errno) -> Result<(), Errno> {
    done.or_else(|error| if error == gone || error == Errno::NODEV { Ok(()) } else { Err(error) })
}

/// SIGCONT, through a descriptor of the process: between the look at its start time and the signal its id cannot change
/// hands.
pub(super) fn go_on(pid: Pid, start: u64) -> Result<(), Errno> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    if TaskStat::read_raw(pid)?.start != start {
        return Err(Errno::SRCH);
    }
    pidfd_send_signal(&process, Signal::CONT)
}

/// Connects to a Unix socket without ever blocking in the call: a full backlog is waited for until the deadline.
///
/// The socket is left non-blocking.
pub(super) fn connect_unix(path: &CStr, deadline: Deadline) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    loop {
        match connect(&socket, &address) {
            Err(Errno::AGAIN) if !deadline.passed() => rest(Duration::from_millis(20)),
            Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
            done => return done.map(|()| socket),
        }
    }
}

/// `pause` of time.rs would do, but nothing here may depend on what the standard library does after a fork.
fn rest(time: Duration) {
    let _ = poll(&mut [], Timespec::try_from(time).ok().as_ref());
}

/// Waits until the socket is ready for `events`.
fn ready(socket: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> Result<(), Errno> {
    loop {
        let left = Timespec::try_from(deadline.left()).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::from_borrowed_fd(socket, events)], Some(&left)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn send_all(socket: BorrowedFd<'_>, mut text: &[u8], deadline: Deadline) -> Result<(), Errno> {
    while !text.is_empty() {
        ready(socket, PollFlags::OUT, deadline)?;
        match send(socket, text, SendFlags::NOSIGNAL) {
            Ok(sent) => text = &text[sent..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One byte; a closed connection is `PROTO`. Answers are short: a system call per byte does no harm.
fn receive(socket: BorrowedFd<'_>, deadline: Deadline) -> Result<u8, Errno> {
    let mut byte = [0];
    loop {
        ready(socket, PollFlags::IN, deadline)?;
        match read(socket, &mut byte) {
            Ok(0) => return Err(Errno::PROTO),
            Ok(_) => return Ok(byte[0]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends the request. Gone (404) and not paused (409) need no thawing.
fn http(path: &CStr, request: &CStr) -> Result<(), Errno> {
    let deadline = Deadline::after(PATIENCE);
    let socket = connect_unix(path, deadline)?;
    send_all(socket.as_fd(), request.to_bytes(), deadline)?;
    let mut status = [0; b"HTTP/1.1 204".len()];
    for byte in &mut status {
        *byte = receive(socket.as_fd(), deadline)?;
    }
    match &status[9..] {
        [b'2', ..] | b"304" | b"404" | b"409" if status.starts_with(b"HTTP/1.") => Ok(()),
        _ => Err(Errno::PROTO),
    }
}

fn qmp(path: &CStr) -> Result<(), Errno> {
    let deadline = Deadline::after(PATIENCE);
    let socket = connect_unix(path, deadline)?;
    answer(socket.as_fd(), b"\"QMP\"", deadline)?;
    send_all(socket.as_fd(), b"{\"execute\":\"qmp_capabilities\"}\n", deadline)?;
    answer(socket.as_fd(), b"\"return\"", deadline)?;
    send_all(socket.as_fd(), b"{\"execute\":\"cont\"}\n", deadline)?;
    answer(socket.as_fd(), b"\"return\"", deadline)
}

/// Reads lines until one has `wanted` near its beginning; an error line is `PROTO`; events are passed over.
fn answer(socket: BorrowedFd<'_>, wanted: &[u8], deadline: Deadline) -> Result<(), Errno> {
    loop {
        let (mut line, mut length) = ([0; 128], 0);
        loop {
            match receive(socket, deadline)? {
                b'\n' => break,
                byte if length < line.len() => {
                    line[length] = byte;
                    length += 1;
                }
                _ => {}
            }
        }
        let has = |text: &[u8]| line[..length].windows(text.len()).any(|part| part == text);
        if has(wanted) {
            return Ok(());
        }
        if has(b"\"error\"") && !has(b"\"event\"") {
            return Err(Errno::PROTO);
        }
    }
}
