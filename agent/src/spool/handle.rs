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
    /// What was acknowledged and is not in the spool yet.
    acked: Mutex<Option<Seq>>,
    filled: Notify,
}

impl SpoolHandle {
    /// Opens the spool of a host, or begins it.
    ///
    /// # Errors
    /// If its folder or files cannot be read or made.
    pub fn open(settings: SpoolSettings, now: Now) -> io::Result<Self> {
        let (spool, latest, acked) = (Mutex::new(Spool::open(settings, now)?), Mutex::new(None), Mutex::new(None));
        Ok(Self { shared: Arc::new(Shared { spool, latest, acked, filled: Notify::new() }) })
    }

    /// See [`Spool::push_summary`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_summary(&self, summary: Summary, now: Now) -> io::Result<Seq> {
        let seq = self.acknowledged(now).push_summary(&summary, now);
        if let Ok(seq) = seq {
            *lock(&self.shared.latest) = Some((seq, summary));
        }
        self.shared.filled.notify_one();
        seq
    }

    /// The summary that was put in last, with its number, unless it was taken before.
    #[must_use]
    pub fn take_latest(&self) -> Option<(Seq, Summary)> {
        lock(&self.shared.latest).take()
    }

    /// See [`Spool::push_recording`].
    ///
    /// # Errors
    /// If they could not be written.
    pub fn push_recording(&self, recording: &FindingRecording, now: Now) -> io::Result<Seq> {
        self.filling(now, |spool| spool.push_recording(recording, now))
    }

    /// See [`Spool::push_scene`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_scene(&self, scene: &Scene, now: Now) -> io::Result<Seq> {
        self.filling(now, |spool| spool.push_scene(scene, now))
    }

    /// See [`Spool::push_finding`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_finding(&self, finding: &Finding, now: Now) -> io::Result<Seq> {
        self.filling(now, |spool| spool.push_finding(finding, now))
    }

    /// See [`Spool::push_change`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn push_change(&self, change: &Change, now: Now) -> io::Result<Seq> {
        self.filling(now, |spool| spool.push_change(change, now))
    }

    /// See [`Spool::refer`].
    ///
    /// # Errors
    /// If it could not be written.
    pub fn refer(&self, head: u64, now: Now) -> io::Result<()> {
        self.filling(now, |spool| spool.refer(head, now))
    }

    /// See [`Spool::next_items`].
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub fn next_items(&self, bytes_max: usize) -> io::Result<Vec<Stored>> {
        lock(&self.shared.spool).next_items(bytes_max)
    }

    /// The same, where nothing has to be read from the disk and nobody has to be waited for; `None` otherwise. May be called
    /// on a thread that must not wait.
    #[must_use]
    pub fn items_at_hand(&self, bytes_max: usize) -> Option<Vec<Stored>> {
        self.shared.spool.try_lock().ok()?.items_at_hand(bytes_max)
    }

    /// See [`Spool::acknowledge`]. Does not wait: it is written down with what is put in next, and a crash before that costs
    /// only what is sent twice.
    pub fn acknowledge(&self, durable: Seq) {
        let mut acked = lock(&self.shared.acked);
        *acked = (*acked).max(Some(durable));
    }

    /// See [`Spool::resume`].
    ///
    /// # Errors
    /// If a new spool was needed and could not be made.
    pub fn resume(&self, durable: Seq, ledger: u64, now: Now) -> io::Result<()> {
        self.acknowledged(now).resume(durable, ledger, now)
    }

    /// See [`Spool::rewind`].
    pub fn rewind(&self, now: Now) {
        self.acknowledged(now).rewind();
    }

    /// See [`Spool::status`].
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        let status = lock(&self.shared.spool).status();
        let acked = lock(&self.shared.acked).map_or(status.acked, |acked| acked.max(status.acked));
        SpoolStatus { acked, ..status }
    }

    /// See [`Spool::notes`].
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        lock(&self.shared.spool).notes().to_vec()
    }

    /// Waits until something was put in since the last call.
    pub async fn filled(&self) {
        self.shared.filled.notified().await;
    }

    fn filling<T>(&self, now: Now, put: impl FnOnce(&mut Spool) -> T) -> T {
        let done = put(&mut self.acknowledged(now));
        self.shared.filled.notify_one();
        done
    }

    /// The spool, with what was acknowledged until now.
    fn acknowledged(&self, now: Now) -> MutexGuard<'_, Spool> {
        let mut spool = lock(&self.shared.spool);
        if let Some(durable) = lock(&self.shared.acked).take() {
            spool.acknowledge(durable, now);
        }
        spool
    }
}

/// A panic while the lock was held left the files as a crash would: what is in memory is no less true than after one.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
