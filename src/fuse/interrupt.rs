//! Makes the kernel stop asking for interrupts, so that a waiting process is in state D from its first moment, as it
//! is on a real disk.
//!
//! A FUSE daemon may answer FUSE_INTERRUPT with ENOSYS; the kernel then never sends one again on that connection, and
//! waits uninterruptibly. Until then waiters sleep in state S. fuser answers so too, but with several threads its answer
//! comes over another descriptor than the interrupted request, where the kernel ignores it. So this happens once, before
//! the daemon's threads start: a thread of ours asks for the root's attributes, a signal interrupts it, the interrupt is
//! answered ENOSYS, then the request is answered; a second request shows whether its waiter is in state D.
//!
//! Must not know: fuser, the file system. Invariant: every request that is read here is answered here, within
//! [`LIMIT`], and the process's signal dispositions are afterwards what they were.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::negotiate::MAX_WRITE_BYTES;
use super::signal::{Disposition, interrupt_thread, unblock};
use crate::sys::process::TaskStat;
use crate::time::{Deadline, wait_until};

/// All that the probe may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long one step may take: the next attempt begins after it.
const STEP: Duration = Duration::from_millis(300);
/// Attempts before it is given up.
const ATTEMPTS: u32 = 3;
/// The kernel refuses to hand out requests into a buffer smaller than the largest write and its headers.
const BUFFER_BYTES: usize = MAX_WRITE_BYTES as usize + 4096;

const HEADER_BYTES: usize = 40;
const OP_GETATTR: u32 = 3;
const OP_INTERRUPT: u32 = 36;
/// Requests that must not be answered: FORGET and BATCH_FORGET.
const OPS_WITHOUT_REPLY: [u32; 2] = [2, 42];

/// Tells the kernel, over the only descriptor that is open yet, that interrupts are not handled here.
///
/// `root` is the mount's root. An error means that the mount works, but its waiters are in state S.
pub(crate) fn disable(device: BorrowedFd<'_>, root: BorrowedFd<'_>) -> io::Result<()> {
    let mut probe = InterruptProbe { device, buffer: vec![0; BUFFER_BYTES], deadline: Deadline::after(LIMIT) };
    for _ in 0..ATTEMPTS {
        probe.interrupt_once(root)?;
        if probe.waits_uninterruptibly(root)? {
            return Ok(());
        }
    }
    Err(io::Error::other("the kernel still sends interrupts"))
}

struct InterruptProbe<'a> {
    device: BorrowedFd<'a>,
    buffer: Vec<u8>,
    deadline: Deadline,
}

/// The head of a request, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RequestHead {
    opcode: u32,
    unique: u64,
    pid: u32,
}

impl InterruptProbe<'_> {
    /// Has a request interrupted, refuses the interrupt, answers the request.
    fn interrupt_once(&mut self, root: BorrowedFd<'_>) -> io::Result<()> {
        let signal = Disposition::of_an_unused_signal()?;
        let waiter = ProbeThread::start(root)?;
        let pending = self.request_of(&waiter)?;
        let interrupted = interrupt_thread(waiter.tid, signal.number()).and_then(|()| self.refuse_interrupt());
        let answered = self.answer(pending, rustix::io::Errno::NODATA).and_then(|()| waiter.join());
        if answered.is_err() {
            // The signal may still be pending in the waiter: with its default disposition it would end the process.
            std::mem::forget(signal);
        }
        answered.and(interrupted)
    }

    /// Whether the waiter of a request is in state D.
    fn waits_uninterruptibly(&mut self, root: BorrowedFd<'_>) -> io::Result<bool> {
        let waiter = ProbeThread::start(root)?;
        let pending = self.request_of(&waiter)?;
        let in_d = wait_until(STEP / 3, Duration::from_millis(1), || waiter.state() == Some('D'));
        self.answer(pending, rustix::io::Errno::NODATA)?;
        waiter.join()?;
        Ok(in_d)
    }

    /// Reads on until the waiter's own request comes. Others can only come where `fusermount3` had to put the mount in
    /// place at once: a process looked into it in its first millisecond, and is asked to try again.
    fn request_of(&mut self, waiter: &ProbeThread) -> io::Result<RequestHead> {
        loop {
            match self.next(self.deadline)? {
                Some(request) if request.opcode == OP_GETATTR && request.pid == waiter.tid => return Ok(request),
                Some(stray) => self.answer(stray, rustix::io::Errno::AGAIN)?,
                None => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Waits for the interrupt and answers ENOSYS; does nothing if none comes in time.
    fn refuse_interrupt(&mut self) -> io::Result<()> {
        let step = Deadline::after(STEP);
        while let Some(request) = self.next(step)? {
            if request.opcode == OP_INTERRUPT {
                return self.answer(request, rustix::io::Errno::NOSYS);
            }
            self.answer(request, rustix::io::Errno::AGAIN)?;
        }
        Ok(())
    }

    /// The next request, or `None` after `until`.
    fn next(&mut self, until: Deadline) -> io::Result<Option<RequestHead>> {
        loop {
            let left = rustix::time::Timespec::try_from(until.left()).map_err(io::Error::other)?;
            if poll(&mut [PollFd::new(&self.device, PollFlags::IN)], Some(&left))? == 0 {
                return Ok(None);
            }
            match rustix::io::read(self.device, &mut self.buffer) {
                Ok(length) => return parse(&self.buffer[..length]).map(Some),
                // The request was withdrawn between `poll` and `read`, or a signal came.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
    }

    fn answer(&self, request: RequestHead, errno: rustix::io::Errno) -> io::Result<()> {
        if OPS_WITHOUT_REPLY.contains(&request.opcode) {
            return Ok(());
        }
        match rustix::io::write(self.device, &reply(request.unique, errno)) {
            // No thread waits for it any more.
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }
}

/// `struct fuse_in_header`: length, opcode, unique, node, uid, gid, pid, in the machine's byte order.
fn parse(message: &[u8]) -> io::Result<RequestHead> {
    let header: &[u8; HEADER_BYTES] = message.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let unique: &[u8; 8] = header[8..].first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    Ok(RequestHead { opcode: word(4), unique: u64::from_ne_bytes(*unique), pid: word(32) })
}

/// `struct fuse_out_header`: length, negative errno, unique.
fn reply(unique: u64, errno: rustix::io::Errno) -> [u8; 16] {
    let mut message = [0; 16];
    message[..4].copy_from_slice(&16_u32.to_ne_bytes());
    message[4..8].copy_from_slice(&(-errno.raw_os_error()).to_ne_bytes());
    message[8..].copy_from_slice(&unique.to_ne_bytes());
    message
}

/// A thread of ours that asks for the root's attributes and waits for the answer.
struct ProbeThread {
    tid: u32,
    thread: JoinHandle<()>,
    done: Receiver<()>,
}

impl ProbeThread {
    fn start(root: BorrowedFd<'_>) -> io::Result<Self> {
        let root: OwnedFd = root.try_clone_to_owned()?;
        let (tell_tid, tid) = channel();
        let (finish, done) = channel();
        let thread = std::thread::Builder::new().name("stunfs-probe".into()).spawn(move || {
            unblock();
            let _receiver_waits = tell_tid.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
            let _always_fails = statx(root.as_fd(), c"", flags, StatxFlags::BASIC_STATS);
            let _receiver_may_be_gone = finish.send(());
        })?;
        let tid = tid.recv().map_err(io::Error::other)?;
        Ok(Self { tid, thread, done })
    }

    /// The letter of its state.
    fn state(&self) -> Option<char> {
        Some(TaskStat::read(self.tid.try_into().ok()?)?.state.into())
    }

    fn join(self) -> io::Result<()> {
        self.done.recv_timeout(STEP).map_err(io::Error::other)?;
        self.thread.join().map_err(|_panic| io::Error::other("the probe's thread panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_field_by_field() {
        let mut message = vec![0; 56];
        message[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        message[8..16].copy_from_slice(&0x1234_5678_9abc_def0_u64.to_ne_bytes());
        message[32..36].copy_from_slice(&77_u32.to_ne_bytes());
        assert_eq!(parse(&message).unwrap(), RequestHead { opcode: 3, unique: 0x1234_5678_9abc_def0, pid: 77 });
        assert!(parse(&message[..39]).is_err());
    }

    #[test]
    fn a_reply_carries_the_negative_errno() {
        let message = reply(5, rustix::io::Errno::NOSYS);
        assert_eq!(message[4..8], (-38_i32).to_ne_bytes());
        assert_eq!(message[8..], 5_u64.to_ne_bytes());
    }
}
