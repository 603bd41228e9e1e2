//! The way from the threads that take operations in, or release them, to those that carry them out.
//!
//! Must not know: what a job is. Invariant: a batch arrives as a whole. Whoever hands it over may be an ordinary thread,
//! which has to share the processor with everyone who has been answered already: handing jobs over one by one, it would
//! fall behind.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// First in, first out; any number of threads on either end.
#[derive(Debug)]
pub(super) struct JobQueue<T> {
    state: Mutex<JobQueueState<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct JobQueueState<T> {
    waiting: VecDeque<T>,
    /// Threads that wait for one.
    idle: usize,
    open: bool,
}

impl<T> JobQueue<T> {
    /// An empty queue; one that is not open takes nothing.
    pub(super) const fn new(open: bool) -> Self {
        Self { state: Mutex::new(JobQueueState { waiting: VecDeque::new(), idle: 0, open }), changed: Condvar::new() }
    }

    /// Appends a batch; gives it back if the queue has been closed.
    pub(super) fn push(&self, batch: Vec<T>) -> Result<(), Vec<T>> {
        let one = batch.len() == 1;
        {
            let mut state = self.state.lock();
            if !state.open {
                return Err(batch);
            }
            state.waiting.extend(batch);
        }
        if one {
            self.changed.notify_one();
        } else {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Whether a thread would take one more at once.
    pub(super) fn has_idle_thread(&self) -> bool {
        let state = self.state.lock();
        state.idle > state.waiting.len()
    }

    /// The next one, waited for; none when the queue has been closed and is empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(next) = state.waiting.pop_front() {
                return Some(next);
            }
            if !state.open {
                return None;
            }
            state.idle += 1;
            self.changed.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// Takes no more; what is in it still comes out.
    pub(super) fn close(&self) {
        self.state.lock().open = false;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_before_the_end_comes_out_in_order() {
        let queue = JobQueue::new(true);
        queue.push(vec![1, 2]).unwrap();
        queue.push(vec![3]).unwrap();
        queue.close();
        assert_eq!(queue.push(vec![4, 5]), Err(vec![4, 5]));
        let out: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(out, [1, 2, 3]);
    }

    #[test]
    fn threads_share_a_batch_and_end_with_the_queue() {
        let queue = JobQueue::new(true);
        let taken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(next) = queue.pop() {
                        taken.lock().push(next);
                    }
                });
            }
            (0..10).for_each(|batch| queue.push((batch * 100..batch * 100 + 100).collect()).unwrap());
            queue.close();
        });
        let mut taken = taken.into_inner();
        taken.sort_unstable();
        assert_eq!(taken, (0..1000).collect::<Vec<i32>>());
    }
}
