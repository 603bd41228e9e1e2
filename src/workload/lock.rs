//! A program's own lock, of which others can see who holds it.
//!
//! Must not know: what it protects. Invariant: to see who holds it takes no part in the lock, so that a watcher never waits for a
//! thread that waits for the file system.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::measure::Meter;

/// A lock with a name.
#[derive(Debug)]
pub(super) struct NamedLock<T> {
    watch: Arc<LockWatch>,
    inner: Mutex<T>,
}

/// Who holds a lock.
#[derive(Debug)]
pub(super) struct LockWatch {
    name: String,
    holder: Mutex<Option<String>>,
}

/// The lock is held until this is dropped.
#[derive(Debug)]
pub(super) struct LockGuard<'a, T> {
    watch: &'a LockWatch,
    inner: MutexGuard<'a, T>,
}

impl<T> NamedLock<T> {
    pub(super) fn new(name: &str, value: T) -> Self {
        Self::watched(&LockWatch::new(name), value)
    }

    /// A lock that takes the place of another, which is not used any more.
    pub(super) fn watched(watch: &Arc<LockWatch>, value: T) -> Self {
        Self { watch: Arc::clone(watch), inner: Mutex::new(value) }
    }

    pub(super) fn watch(&self) -> Arc<LockWatch> {
        Arc::clone(&self.watch)
    }

    /// Waits for the lock; the wait, if there is one, is counted as the thread's.
    pub(super) fn lock(&self, meter: &Meter) -> LockGuard<'_, T> {
        let inner =
            self.inner.try_lock().unwrap_or_else(|| meter.wait_for_lock(&self.watch.name, || self.inner.lock()));
        *self.watch.holder.lock() = Some(meter.name().to_owned());
        LockGuard { watch: &self.watch, inner }
    }
}

impl LockWatch {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), holder: Mutex::new(None) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn holder(&self) -> Option<String> {
        self.holder.lock().clone()
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        // Before the lock itself, whose guard is dropped after this.
        *self.watch.holder.lock() = None;
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
