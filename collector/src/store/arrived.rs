//! What has come of hosts' series, for those whom it is handed on to: how far each host is, and what came late.
//!
//! Rows of a host come in the order of their times, but for what a host sends after its clock was set back or what it
//! had kept. Who hands rows on goes by their times, so a row that comes behind later ones is noted in the batch that
//! stores it, for every target, until it is sent as well.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Batch;
use super::keys::RemoteKey;

/// How far hosts are.
#[derive(Debug, Default)]
pub struct Arrived {
    of: Mutex<Of>,
}

#[derive(Debug, Default)]
struct Of {
    /// Whom rows are handed on to.
    targets: Vec<String>,
    /// The newest row of each host that one has come of.
    newest: BTreeMap<u32, i64>,
}

impl Arrived {
    /// Whom rows are handed on to from now on.
    pub fn follow(&self, targets: Vec<String>) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).targets = targets;
    }

    /// The newest row that has come of a host; it may not be durable yet.
    #[must_use]
    pub fn newest(&self, host: u32) -> Option<i64> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).newest.get(&host).copied()
    }

    /// Notes a row that is stored with a batch. `stored` is the newest row that an earlier run has stored of the host.
    pub(super) fn note(&self, batch: &mut Batch, host: u32, at_ms: i64, stored: impl FnOnce() -> Option<i64>) {
        if host >= RemoteKey::SOURCES_FROM {
            return;
        }
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.targets.is_empty() {
            return;
        }
        let newest = of.newest.entry(host).or_insert_with(|| stored().unwrap_or(at_ms));
        if at_ms >= *newest {
            *newest = at_ms;
            return;
        }
        for target in &of.targets {
            let key = RemoteKey { part: RemoteKey::LATE, number: host, at_ms, target: target.clone() };
            batch.put_raw(&key, Vec::new());
        }
    }
}
