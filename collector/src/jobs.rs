//! Jobs: what goes on in the background for longer than somebody waits for it, as `mainstay status` shows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One job: what it does, since when, and how many entries it has done.
#[derive(Debug, Clone)]
pub struct Job {
    /// In words.
    pub what: String,
    /// Since when.
    pub since_ms: i64,
    /// Entries that are done; 0 where they are not counted.
    pub done: Arc<AtomicU64>,
}

/// Those that go on.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    all: Arc<Mutex<(u64, BTreeMap<u64, Job>)>>,
}

/// Ends a job when it is dropped.
#[derive(Debug)]
pub struct Running {
    jobs: Jobs,
    id: u64,
    done: Arc<AtomicU64>,
}

impl Jobs {
    /// Begins one.
    #[must_use]
    pub fn begin(&self, what: String, now_ms: i64) -> Running {
        let done = Arc::new(AtomicU64::new(0));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        let id = all.0;
        all.1.insert(id, Job { what, since_ms: now_ms, done: done.clone() });
        drop(all);
        Running { jobs: self.clone(), id, done }
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Job> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).1.values().cloned().collect()
    }
}

impl Running {
    /// Says how far it is.
    pub fn done(&self, entries: u64) {
        self.done.store(entries, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs.all.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.id);
    }
}
