//! Tells the kernel to forget what it keeps of a node.
//!
//! Must not know: why. Invariant: no thread that answers requests waits here for a page; what is to be called afterwards
//! is called once, whatever happens.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};

use crate::fs::KernelCache;
use crate::units::ByteRange;

/// The most threads. Each waits only for reads that are under way, held ones among them: more files than this would wait
/// for each other's held reads.
const MOST_THREADS: usize = 64;
/// A thread ends when it had nothing to do for so long.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// The kernel's caches of one mount.
pub(crate) struct Notify(Arc<Shared>);

struct Shared {
    notifier: Notifier,
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Forget>,
    threads: usize,
    idle: usize,
}

struct Forget {
    node: u64,
    range: ByteRange,
    then: Box<dyn FnOnce() + Send>,
}

impl Notify {
    pub(crate) fn new(notifier: Notifier) -> Self {
        Self(Arc::new(Shared { notifier, queue: Mutex::default(), more: Condvar::new() }))
    }
}

impl KernelCache for Notify {
    fn forget_attributes(&self, node: u64) {
        // A negative offset: attributes only.
        self.0.tell(node, -1, 0);
    }

    fn forget_pages(&self, node: u64, range: ByteRange, then: Box<dyn FnOnce() + Send>) {
        let shared = &self.0;
        let mut queue = shared.queue.lock();
        queue.jobs.push_back(Forget { node, range, then });
        if queue.idle >= queue.jobs.len() || queue.threads == MOST_THREADS {
            drop(queue);
            shared.more.notify_one();
            return;
        }
        queue.threads += 1;
        drop(queue);
        let worker = Arc::clone(shared);
        let started = std::thread::Builder::new().name("stunfs-notify".into()).spawn(move || worker.run());
        if started.is_err() {
            shared.without_thread();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                self.forget(job);
                queue = self.queue.lock();
                continue;
            }
            queue.idle += 1;
            let waited = self.more.wait_for(&mut queue, IDLE_LIMIT);
            queue.idle -= 1;
            if waited.timed_out() && queue.jobs.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }

    /// No thread could be started. If there is none at all, a write is better answered with stale pages left than never.
    fn without_thread(&self) {
        let mut queue = self.queue.lock();
        queue.threads -= 1;
        let left = if queue.threads == 0 { std::mem::take(&mut queue.jobs) } else { VecDeque::new() };
        drop(queue);
        for job in left {
            tracing::warn!("no thread could be started: the kernel may keep old pages of inode {}", job.node);
            (job.then)();
        }
    }

    fn forget(&self, job: Forget) {
        let start = i64::try_from(job.range.start).unwrap_or(i64::MAX);
        // A length of 0 or less: to the end.
        let len = i64::try_from(job.range.len()).unwrap_or(0);
        self.tell(job.node, start, len);
        (job.then)();
    }

    fn tell(&self, node: u64, offset: i64, len: i64) {
        // It fails when the mount has ended: then nothing is kept any more.
        let _mount_has_ended = self.notifier.inval_inode(INodeNo(node), offset, len);
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}
