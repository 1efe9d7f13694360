//! Retention: what is older than its age goes, and the disk gets its room back.
//!
//! Series and their rollups go by whole files where a file lies wholly before the limit, and by one range deletion at
//! the boundary. Findings, with the seconds around them, and decisions, with their scenes, go by their index of time; open
//! findings stay. Ledger
//! records go from the front of each ledger, so that what is left is one chain.

use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_fleet::rollup::Tier;
use mainstay_proto::v1;
use prost::Message;

use super::columns::Column;
use super::keys::{
    BlockKey, ChangeByTimeKey, ChangeKey, DecisionByHostKey, DecisionByTimeKey, DecisionKey, EventKey,
    FindingByTimeKey, FindingKey, Key, LedgerKey, OpenRowKey, PieceKey, RecordingKey, RollupKey, SceneKey,
};
use super::rollup::{number, stretch_of};
use super::series::hour_of;
use super::{Batch, Store, StoreError, decode, family};

/// Most keys that one pass removes one by one, so that a pass is short; the next goes on.
const PASS_MAX: usize = 50_000;

/// Most changes of all hosts together; some 300 bytes each.
pub const CHANGES_MAX: usize = 2_000_000;

/// Most marks of deployments.
pub const EVENTS_MAX: usize = 50_000;

/// How long each kind of data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Series, every summary of them (default 30 days).
    pub series: Duration,
    /// Series rolled up to five minutes (default 90 days).
    pub series_5m: Duration,
    /// Series rolled up to an hour (default 400 days).
    pub series_1h: Duration,
    /// Findings that have cleared, and incidents (default 180 days).
    pub findings: Duration,
    /// Decisions and ledger records (default 400 days).
    pub decisions: Duration,
    /// Changes of hosts and marks of deployments (default 180 days).
    pub changes: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Self {
            series: days(30),
            series_5m: days(90),
            series_1h: days(400),
            findings: days(180),
            decisions: days(400),
            changes: days(180),
        }
    }
}

impl Retention {
    /// How long a tier is kept; `None` is every summary.
    #[must_use]
    pub fn of(&self, tier: Option<Tier>) -> Duration {
        match tier {
            None => self.series,
            Some(Tier::Minutes5) => self.series_5m,
            Some(Tier::Hour) => self.series_1h,
        }
    }

    /// The first hour of which a tier is kept.
    #[must_use]
    pub fn first_hour(&self, tier: Option<Tier>, now_ms: i64) -> u32 {
        hour_of(before(now_ms, self.of(tier)))
    }
}

fn before(now_ms: i64, age: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).max(0)
}

impl Store {
    /// Removes what is too old. Says how many keys went one by one.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn retain(&self, hosts: &[HostId], retention: Retention, now_ms: i64) -> Result<usize, StoreError> {
        let series_ms = before(now_ms, retention.series);
        let mut batch = Batch::default();
        let hour = retention.first_hour(None, now_ms);
        let rows = [
            (vec![BlockKey::ORDINAL], BlockKey::from_hour(hour)),
            (vec![PieceKey::ORDINAL], PieceKey::from_hour(hour)),
        ];
        let rolled = Tier::ALL.map(|tier| {
            let first = stretch_of(tier, retention.first_hour(Some(tier), now_ms));
            (RollupKey::from_stretch(number(tier), 0), RollupKey::from_stretch(number(tier), first))
        });
        for (begin, first_kept) in rows.into_iter().chain(rolled) {
            self.db().delete_file_in_range_cf(family(self.db(), Column::Series), &begin, &first_kept)?;
            batch.delete_range(Column::Series, begin, first_kept);
        }
        let mut gone = self.old_rows(&mut batch, series_ms)?;
        gone += self.old_findings(&mut batch, before(now_ms, retention.findings))?;
        let decisions_ms = before(now_ms, retention.decisions);
        gone += self.old_decisions(&mut batch, decisions_ms)?;
        gone += self.old_changes(&mut batch, before(now_ms, retention.changes))?;
        for host in hosts {
            gone += self.old_records(&mut batch, *host, decisions_ms)?;
        }
        let schemas = self.old_schemas(&mut batch, &retention, now_ms)?;
        gone += schemas.len();
        self.commit(batch).await?;
        self.schemas.forget(&schemas);
        Ok(gone)
    }

    fn old_rows(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let prefix = OpenRowKey::all();
        let mut gone = 0;
        for item in self.scan::<OpenRowKey>(&prefix, &prefix) {
            let (key, _) = item?;
            if key.at_ms < before_ms && gone < PASS_MAX {
                batch.delete(&key);
                gone += 1;
            }
        }
        Ok(gone)
    }

    fn old_findings(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let prefix = FindingByTimeKey::all();
        let mut gone = 0;
        for item in self.scan::<FindingByTimeKey>(&prefix, &prefix).take(PASS_MAX) {
            let (key, _) = item?;
            if key.opened_ms >= before_ms {
                break;
            }
            let full = FindingKey { host: key.host, finding: key.finding };
            let open = self.get::<_, v1::Finding>(&full)?.is_some_and(|finding| finding.state == "open");
            if !open {
                batch.delete(&key);
                batch.delete(&full);
                batch.delete(&RecordingKey { host: key.host, finding: key.finding });
                gone += 1;
            }
        }
        Ok(gone)
    }

    fn old_decisions(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let prefix = DecisionByTimeKey::all();
        let mut gone = 0;
        for item in self.scan::<DecisionByTimeKey>(&prefix, &prefix).take(PASS_MAX) {
            let (key, _) = item?;
            if key.at_ms >= before_ms {
                break;
            }
            let (decision, host, at_ms) = (key.decision, key.host, key.at_ms);
            batch.delete(&DecisionKey { decision, host });
            let scenes = SceneKey::of(decision, host);
            for scene in self.scan::<SceneKey>(&scenes, &scenes) {
                batch.delete(&scene?.0);
            }
            batch.delete(&DecisionByHostKey { host, at_ms, decision });
            batch.delete(&key);
            gone += 1;
        }
        Ok(gone)
    }

    /// What is too old, and the oldest of what is more than [`CHANGES_MAX`].
    fn old_changes(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let prefix = ChangeByTimeKey::all();
        let there = self.scan::<ChangeByTimeKey>(&prefix, &prefix).count();
        let surplus = there.saturating_sub(CHANGES_MAX);
        let mut gone = 0;
        for item in self.scan::<ChangeByTimeKey>(&prefix, &prefix).take(PASS_MAX) {
            let (key, _) = item?;
            if key.at_ms >= before_ms && gone >= surplus {
                break;
            }
            batch.delete(&ChangeKey { host: key.host, at_ms: key.at_ms, id: key.id });
            batch.delete(&key);
            gone += 1;
        }
        let prefix = EventKey::all();
        let surplus = gone + self.scan::<EventKey>(&prefix, &prefix).count().saturating_sub(EVENTS_MAX);
        for item in self.scan::<EventKey>(&prefix, &prefix).take(PASS_MAX) {
            let (key, _) = item?;
            if key.at_ms >= before_ms && gone >= surplus {
                break;
            }
            batch.delete(&key);
            gone += 1;
        }
        Ok(gone)
    }

    fn old_records(&self, batch: &mut Batch, host: HostId, before_ms: i64) -> Result<usize, StoreError> {
        let prefix = LedgerKey::of(host);
        let mut gone = 0;
        for item in self.scan::<LedgerKey>(&prefix, &prefix).take(PASS_MAX) {
            let (key, value) = item?;
            let entry: v1::LedgerEntry = decode(&key.encode(), &value)?;
            let at_ms = v1::Record::decode(&entry.record[..]).ok().and_then(|r| r.at).map_or(0, |at| at.wall_ms);
            if at_ms >= before_ms {
                break;
            }
            batch.delete(&key);
            gone += 1;
        }
        Ok(gone)
    }
}
