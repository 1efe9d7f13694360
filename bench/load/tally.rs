//! What all sessions together have seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connect::Traffic;

/// Counts and times since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Sessions that stand now.
    pub(crate) connected: AtomicU64,
    /// Attempts that were told to come back later, those that no session came of, and those refused for good.
    pub(crate) put_off: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Sessions that ended by themselves, and why.
    pub(crate) broken: AtomicU64,
    why: Mutex<BTreeMap<&'static str, u64>>,
    /// Summaries made, and those that were acknowledged, with their points.
    pub(crate) made: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) points: AtomicU64,
    /// Hosts that know of something to do: one that is not told yet that it is over goes on.
    pub(crate) at_work: AtomicU64,
    /// Points whose value is another one than in the summary before.
    pub(crate) changed: AtomicU64,
    /// Values of such points that are others.
    pub(crate) changed_values: AtomicU64,
    /// Bytes of pushes as messages, and of what they are there for.
    pub(crate) messages: AtomicU64,
    pub(crate) bodies: AtomicU64,
    /// Summaries that were acknowledged and that a later session did not know of.
    pub(crate) forgotten: AtomicU64,
    /// Hosts where an offer has come into force, and why the last one that was not believed was not.
    pub(crate) effective: AtomicU64,
    unbelieved: Mutex<Option<String>>,
    pub(crate) traffic: Arc<Traffic>,
    acks: Mutex<Vec<Duration>>,
    offers: Mutex<Vec<Instant>>,
    welcomes: Mutex<Vec<Instant>>,
}

/// How long some things took, in order.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// So many of a hundred took no longer than this.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let at = (self.0.len().saturating_sub(1) * percent).div_ceil(100);
        self.0.get(at).copied().unwrap_or_default()
    }
}

impl Tally {
    /// A session has ended by itself.
    pub(crate) fn broke(&self, why: &'static str) {
        Self::add(&self.broken, 1);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    /// How many have, and why.
    pub(crate) fn told_broken(&self) -> String {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        let why = why.iter().map(|(why, count)| format!(" ({count} {why})"));
        format!("{}{}", Self::get(&self.broken), why.collect::<String>())
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn take(counter: &AtomicU64, n: u64) {
        counter.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub(crate) fn ack_took(&self, took: Duration) {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).push(took);
    }

    pub(crate) fn offer_took_force(&self) {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        Self::add(&self.effective, 1);
    }

    pub(crate) fn disbelieve(&self, why: String) {
        *self.unbelieved.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    pub(crate) fn unbelieved(&self) -> Option<String> {
        self.unbelieved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn welcomed(&self) {
        self.welcomes.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }

    /// How long acknowledgements took since this was last asked.
    pub(crate) fn take_acks(&self) -> Times {
        Times::of(std::mem::take(&mut *self.acks.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// How long after a moment offers came into force, and sessions stood, since this was last asked.
    pub(crate) fn take_offers(&self, since: Instant) -> Times {
        Self::since(&self.offers, since)
    }

    pub(crate) fn take_welcomes(&self, since: Instant) -> Times {
        Self::since(&self.welcomes, since)
    }

    fn since(moments: &Mutex<Vec<Instant>>, since: Instant) -> Times {
        let moments = std::mem::take(&mut *moments.lock().unwrap_or_else(PoisonError::into_inner));
        Times::of(moments.into_iter().map(|at| at.saturating_duration_since(since)).collect())
    }
}
