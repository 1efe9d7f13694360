//! How far what hosts reported was taken by one target: a mark for each host, in the store.
//!
//! A mark moves when what lies before it was taken or refused, and is stored a moment later: after a crash what was sent
//! in that moment is sent again, which changes nothing there.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::keys::RemoteKey;
use crate::store::values::SentRow;
use crate::store::{Batch, Store, StoreError};

/// The number under which it stands since when rows are handed on at all; no host has it.
const BEGIN: u32 = 0;

/// The marks of one target.
#[derive(Debug)]
pub(super) struct Marks {
    target: String,
    begin_ms: i64,
    of: BTreeMap<u32, i64>,
    /// Those that are not stored yet.
    moved: BTreeSet<u32>,
    /// Hosts that were read to their end once: of these it is known whether anything has come since.
    read: BTreeSet<u32>,
    /// Up to where others were looked through. No mark goes beyond the rows that are there: what a host has kept while it was
    /// away comes later.
    looked: BTreeMap<u32, i64>,
}

impl Marks {
    /// Those of an earlier run. Without any, what comes from now on is handed on.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub(super) async fn load(store: &Store, target: &str, now_ms: i64) -> Result<Self, StoreError> {
        let mut of = BTreeMap::new();
        for item in store.scan_values::<RemoteKey, SentRow>(&RemoteKey::all(RemoteKey::MARK)) {
            let (key, row) = item?;
            if key.target == target {
                of.insert(key.number, row.upto_ms);
            }
        }
        let begin = of.remove(&BEGIN);
        let mut marks = Self {
            target: target.to_owned(),
            begin_ms: begin.unwrap_or(now_ms),
            of,
            moved: BTreeSet::new(),
            read: BTreeSet::new(),
            looked: BTreeMap::new(),
        };
        if begin.is_none() {
            marks.moved.insert(BEGIN);
            marks.save(store).await?;
        }
        Ok(marks)
    }

    /// Up to which row of a host all was taken.
    pub(super) fn of(&self, host: u32) -> i64 {
        if host == BEGIN { self.begin_ms } else { self.of.get(&host).copied().unwrap_or(self.begin_ms) }
    }

    /// Whether there may be rows of a host to be sent.
    pub(super) fn is_pending(&self, host: u32, newest_ms: Option<i64>) -> bool {
        !self.read.contains(&host) || newest_ms.is_some_and(|newest| newest > self.of(host))
    }

    /// Moves the mark of a host on.
    pub(super) fn reach(&mut self, host: u32, upto_ms: i64) {
        if upto_ms > self.of(host) {
            self.of.insert(host, upto_ms);
            self.moved.insert(host);
        }
    }

    /// From where on a host is to be read.
    pub(super) fn position(&self, host: u32) -> i64 {
        self.looked.get(&host).copied().unwrap_or(i64::MIN).max(self.of(host))
    }

    /// Notes that a host was looked through up to there.
    pub(super) fn look(&mut self, host: u32, upto_ms: i64) {
        self.looked.insert(host, upto_ms);
    }

    /// Notes that a host was read to its end.
    pub(super) fn read_to_end(&mut self, host: u32) {
        self.looked.remove(&host);
        self.read.insert(host);
    }

    /// Makes durable what has moved.
    ///
    /// # Errors
    /// If the store cannot be written; it is tried again with the next.
    pub(super) async fn save(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for host in &self.moved {
            let key = RemoteKey { part: RemoteKey::MARK, number: *host, at_ms: 0, target: self.target.clone() };
            batch.put(&key, &SentRow { upto_ms: self.of(*host) });
        }
        store.commit(batch).await?;
        self.moved.clear();
        Ok(())
    }
}
