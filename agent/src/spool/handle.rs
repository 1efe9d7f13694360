//! The spool as two tasks share it: the loop puts items in, the uplink takes them out.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_core::change::Change;
use mainstay_core::finding::Finding;
use mainstay_core::id::Seq;
use mainstay_core::recording::FindingRecording;
use mainstay_core::scene::Scene;
use mainstay_core::series::Summary;
use mainstay_core::time::Now;
use tokio::sync::Notify;

use super::item::Stored;
use super::{Spool, SpoolSettings, SpoolStatus};

/// A shared spool. Every call may wait for the disk: not to be made on a thread that must not.
#[derive(Debug, Clone)]
pub struct SpoolHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spool: Mutex<Spool>,
    /// The summary that was put in last, until it is taken: who sends it at once need not read it.
    latest: Mutex<Option<(Seq, Summary)>>,
    filled: Notify,
}

impl SpoolHandle {
    /// Opens the spool of a host, or begins it.
    ///
    /// # Errors
    /// If its folder or files cannot be read or made.
    pub fn open(settings: SpoolSettings, now: Now) -> io::Result<Self> {
        let spool = Mutex::new(Spool::open(settings, now)?);
        Ok(Self { shared: Arc::new(Shared { spool, latest: Mutex::new(None), filled: Notify::new() }) })
    }

    /// See [`Spool::push_summary`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_summary(&self, summary: Summary, now: Now) -> io::Result<Seq> {
        let seq = self.lock().push_summary(&summary, now);
        if let Ok(seq) = seq {
            *self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((seq, summary));
        }
        self.shared.filled.notify_one();
        seq
    }

    /// The summary that was put in last, with its number, unless it was taken before.
    #[must_use]
    pub fn take_latest(&self) -> Option<(Seq, Summary)> {
        self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// See [`Spool::push_recording`].
    ///
    /// # Errors
    /// If they could not be written.
    pub fn push_recording(&self, recording: &FindingRecording, now: Now) -> io::Result<Seq> {
        self.filling(|spool| spool.push_recording(recording, now))
    }

    /// See [`Spool::push_scene`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_scene(&self, scene: &Scene, now: Now) -> io::Result<Seq> {
        self.filling(|spool| spool.push_scene(scene, now))
    }

    /// See [`Spool::push_finding`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_finding(&self, finding: &Finding, now: Now) -> io::Result<Seq> {
        self.filling(|spool| spool.push_finding(finding, now))
    }

    /// See [`Spool::push_change`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_change(&self, change: &Change, now: Now) -> io::Result<Seq> {
        self.filling(|spool| spool.push_change(change, now))
    }

    /// See [`Spool::refer`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn refer(&self, head: u64, now: Now) -> io::Result<()> {
        self.filling(|spool| spool.refer(head, now))
    }

    /// See [`Spool::next_items`].
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub fn next_items(&self, bytes_max: usize) -> io::Result<Vec<Stored>> {
        self.lock().next_items(bytes_max)
    }

    /// See [`Spool::acknowledge`].
    pub fn acknowledge(&self, durable: Seq, now: Now) {
        self.lock().acknowledge(durable, now);
    }

    /// See [`Spool::resume`].
    ///
    /// # Errors
    /// If a new spool was needed and could not be made.
    pub fn resume(&self, durable: Seq, ledger: u64, now: Now) -> io::Result<()> {
        self.lock().resume(durable, ledger, now)
    }

    /// See [`Spool::rewind`].
    pub fn rewind(&self) {
        self.lock().rewind();
    }

    /// See [`Spool::status`].
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        self.lock().status()
    }

    /// See [`Spool::notes`].
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.lock().notes().to_vec()
    }

    /// Waits until something was put in since the last call.
    pub async fn filled(&self) {
        self.shared.filled.notified().await;
    }

    fn filling<T>(&self, put: impl FnOnce(&mut Spool) -> T) -> T {
        let done = put(&mut self.lock());
        self.shared.filled.notify_one();
        done
    }

    /// A panic while the lock was held left the files as a crash would: what is in memory is no
    /// less true than after one.
    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
