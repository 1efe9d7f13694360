//! Retention: what is older than its age goes, and the disk gets its room back.
//!
//! Series and their rollups go by whole files where a file lies wholly before the limit, and by one range deletion at
//! the boundary. Findings, with the seconds around them, incidents, and decisions, with their scenes, go by their index of
//! time; what is open stays. Ledger records go from the front of each ledger, so that what is left is one chain.

use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_fleet::rollup::Tier;
use mainstay_proto::v1;
use prost::Message;

use super::columns::Column;
use super::keys::{
    self, BlockKey, ChangeByTimeKey, ChangeKey, CommandKey, DecisionByHostKey, DecisionByTimeKey, DecisionKey,
    EventKey, FindingByTimeKey, FindingKey, IncidentByTimeKey, IncidentKey, IncidentOfKey, Key, LedgerKey, OpenRowKey,
    PieceKey, RecordByTimeKey, RecordingKey, RollupKey, SceneKey,
};
use super::rollup::{number, stretch_of};
use super::series::hour_of;
use super::thin::Ages;
use super::values::{IncidentRow, symptom_id};
use super::{Batch, Store, StoreError, decode, family};

/// Most keys that one pass removes one by one, so that a pass is short; the next goes on.
const PASS_MAX: usize = 50_000;

/// Most changes of all hosts together; some 300 bytes each.
pub const CHANGES_MAX: usize = 2_000_000;

/// Most commands that are kept.
pub const COMMANDS_MAX: usize = 1_000_000;

/// Most marks of deployments.
pub const EVENTS_MAX: usize = 50_000;

/// The first hour that there may be of each tier: of every summary, by five minutes, and by hours.
pub type FirstHours = [u32; 3];

/// How long each kind of data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Series, every summary of them (default 30 days).
    pub series: Duration,
    /// Series rolled up to five minutes (default 90 days).
    pub series_5m: Duration,
    /// Series rolled up to an hour (default 400 days).
    pub series_1h: Duration,
    /// Findings and incidents that have cleared (default 180 days).
    pub findings: Duration,
    /// Decisions and ledger records (default 400 days).
    pub decisions: Duration,
    /// Changes of hosts and marks of deployments (default 180 days).
    pub changes: Duration,
    /// What operators ordered (default 400 days).
    pub commands: Duration,
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
            commands: days(400),
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

    /// The same with each age of series taken with that of another.
    #[must_use]
    pub fn with(self, other: &Self, take: impl Fn(Duration, Duration) -> Duration) -> Self {
        Self {
            series: take(self.series, other.series),
            series_5m: take(self.series_5m, other.series_5m),
            series_1h: take(self.series_1h, other.series_1h),
            ..self
        }
    }

    /// The first hour of which a tier is kept.
    #[must_use]
    pub fn first_hour(&self, tier: Option<Tier>, now_ms: i64) -> u32 {
        hour_of(before(now_ms, self.of(tier)))
    }

    /// The same of each tier: of every summary, by five minutes, and by hours.
    #[must_use]
    pub fn first_hours(&self, now_ms: i64) -> FirstHours {
        [None, Some(Tier::Minutes5), Some(Tier::Hour)].map(|tier| self.first_hour(tier, now_ms))
    }
}

/// The later of each tier.
#[must_use]
pub fn later(a: FirstHours, b: FirstHours) -> FirstHours {
    std::array::from_fn(|tier| a[tier].max(b[tier]))
}

fn before(now_ms: i64, age: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).max(0)
}

impl Store {
    /// Removes what is too old. Says how many keys went one by one. Of series what no host keeps; [`Self::thin`] removes
    /// what others keep.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn retain(&self, hosts: &[HostId], ages: impl Into<Ages>, now_ms: i64) -> Result<usize, StoreError> {
        let ages = ages.into();
        let retention = ages.longest();
        self.drop_series(&retention, now_ms).await?;
        let mut batch = Batch::default();
        let mut gone = self.old_rows(&mut batch, &ages, now_ms)?;
        gone += self.old_findings(&mut batch, before(now_ms, retention.findings))?;
        gone += self.old_incidents(&mut batch, before(now_ms, retention.findings))?;
        gone += self.old_commands(&mut batch, before(now_ms, retention.commands))?;
        let decisions_ms = before(now_ms, retention.decisions);
        gone += self.old_decisions(&mut batch, decisions_ms)?;
        gone += self.old_changes(&mut batch, before(now_ms, retention.changes))?;
        for host in hosts {
            gone += match self.old_records(&mut batch, *host, decisions_ms) {
                // One ledger that cannot be read keeps no other.
                Err(StoreError::Damaged(_)) => 0,
                gone => gone?,
            };
        }
        let schemas = self.old_schemas(&mut batch, &retention, now_ms)?;
        gone += schemas.len();
        self.commit(batch).await?;
        self.schemas.gone(&schemas);
        Ok(gone)
    }

    /// Removes blocks and rollups that no host keeps, and then the files that have nothing else. Were the files gone first,
    /// and what follows failed, questions would go on being answered from memory with what was in them.
    async fn drop_series(&self, retention: &Retention, now_ms: i64) -> Result<(), StoreError> {
        let hour = retention.first_hour(None, now_ms);
        let rows = [
            (vec![BlockKey::ORDINAL], BlockKey::from_hour(hour)),
            (vec![PieceKey::ORDINAL], PieceKey::from_hour(hour)),
        ];
        let rolled = Tier::ALL.map(|tier| {
            let first = stretch_of(tier, retention.first_hour(Some(tier), now_ms));
            (RollupKey::from_stretch(number(tier), 0), RollupKey::from_stretch(number(tier), first))
        });
        self.presence.forget_before(hour);
        let ranges: Vec<_> = rows.into_iter().chain(rolled).collect();
        let mut batch = Batch::default();
        for (begin, first_kept) in &ranges {
            batch.delete_range(Column::Series, begin.clone(), first_kept.clone());
        }
        self.commit(batch).await?;
        for (begin, first_kept) in &ranges {
            self.db().delete_file_in_range_cf(family(self.db(), Column::Series), begin, first_kept)?;
        }
        Ok(())
    }

    fn old_rows(&self, batch: &mut Batch, ages: &Ages, now_ms: i64) -> Result<usize, StoreError> {
        let prefix = OpenRowKey::all();
        let mut gone = 0;
        for item in self.scan::<OpenRowKey>(&prefix, &prefix) {
            let (key, _) = item?;
            if key.at_ms < before(now_ms, ages.of(key.host).series) && gone < PASS_MAX {
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
            let (key, ended) = item?;
            if key.opened_ms >= before_ms {
                break;
            }
            let full = FindingKey { host: key.host, finding: key.finding };
            let has_ended = keys::ended_ms(&ended).is_some();
            let is_open =
                !has_ended && self.get::<_, v1::Finding>(&full)?.is_some_and(|finding| finding.state == "open");
            if !is_open {
                batch.delete(&key);
                batch.delete(&full);
                batch.delete(&RecordingKey { host: key.host, finding: key.finding });
                batch.delete(&IncidentOfKey { host: key.host, finding: key.finding });
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Incidents that have cleared by then, by the time of their opening. One that is open stays, however old it is.
    fn old_incidents(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let prefix = IncidentByTimeKey::all();
        let mut gone = 0;
        for item in self.scan::<IncidentByTimeKey>(&prefix, &prefix).take(PASS_MAX) {
            let (key, _) = item?;
            if key.opened_ms >= before_ms {
                break;
            }
            let full = IncidentKey { incident: key.incident };
            let row: IncidentRow = self.get(&full)?.unwrap_or_default();
            let is_listed_elsewhere = row.opened_ms != 0 && row.opened_ms != key.opened_ms;
            let is_over = row.merged_into != 0 || (row.cleared_ms != 0 && row.cleared_ms < before_ms);
            // Its opening moves back when an earlier member joins, and leaves an entry behind.
            if is_listed_elsewhere || is_over || row == IncidentRow::default() {
                batch.delete(&key);
                gone += 1;
            }
            if is_listed_elsewhere || !is_over {
                continue;
            }
            batch.delete(&full);
            for member in row.members.iter().filter_map(symptom_id) {
                let of = IncidentOfKey { host: member.host, finding: member.finding };
                // The finding may have come to be of another since.
                if self.get_raw(&of)?.is_some_and(|incident| incident == key.incident.0.to_be_bytes()) {
                    batch.delete(&of);
                }
            }
        }
        Ok(gone)
    }

    /// What was ordered before, and the oldest of what is more than [`COMMANDS_MAX`].
    fn old_commands(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let old = self.oldest(|key: &CommandKey| key.at_ms, before_ms, self.surplus::<CommandKey>(COMMANDS_MAX))?;
        old.iter().for_each(|key| batch.delete(key));
        Ok(old.len())
    }

    fn old_decisions(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let old = self.oldest(|key: &DecisionByTimeKey| key.at_ms, before_ms, 0)?;
        for key in &old {
            let DecisionByTimeKey { decision, host, at_ms } = *key;
            batch.delete(&DecisionKey { decision, host });
            let scenes = SceneKey::of(decision, host);
            for scene in self.scan::<SceneKey>(&scenes, &scenes) {
                batch.delete(&scene?.0);
            }
            batch.delete(&DecisionByHostKey { host, at_ms, decision });
            batch.delete(key);
        }
        Ok(old.len())
    }

    /// What is too old, and the oldest of what is more than [`CHANGES_MAX`] and [`EVENTS_MAX`].
    fn old_changes(&self, batch: &mut Batch, before_ms: i64) -> Result<usize, StoreError> {
        let surplus = self.surplus::<ChangeByTimeKey>(CHANGES_MAX);
        let changes = self.oldest(|key: &ChangeByTimeKey| key.at_ms, before_ms, surplus)?;
        for key in &changes {
            batch.delete(&ChangeKey { host: key.host, at_ms: key.at_ms, id: key.id });
            batch.delete(key);
        }
        let events = self.oldest(|key: &EventKey| key.at_ms, before_ms, self.surplus::<EventKey>(EVENTS_MAX))?;
        events.iter().for_each(|key| batch.delete(key));
        Ok(changes.len() + events.len())
    }

    /// How many keys of a kind there are beyond the most.
    fn surplus<K: Key>(&self, most: usize) -> usize {
        let all = [K::ORDINAL];
        self.scan::<K>(&all, &all).count().saturating_sub(most)
    }

    /// The first keys of a kind that is in the order of time: all of before a moment, and the surplus at least.
    fn oldest<K: Key>(&self, at_ms: impl Fn(&K) -> i64, before_ms: i64, surplus: usize) -> Result<Vec<K>, StoreError> {
        let all = [K::ORDINAL];
        let mut old = Vec::new();
        for item in self.scan::<K>(&all, &all).take(PASS_MAX) {
            let (key, _) = item?;
            if at_ms(&key) >= before_ms && old.len() >= surplus {
                break;
            }
            old.push(key);
        }
        Ok(old)
    }

    fn old_records(&self, batch: &mut Batch, host: HostId, before_ms: i64) -> Result<usize, StoreError> {
        let prefix = LedgerKey::of(host);
        let mut gone = 0;
        for item in self.scan::<LedgerKey>(&prefix, &prefix).take(PASS_MAX) {
            let (key, value) = item?;
            let entry: v1::LedgerEntry = decode(&key.encode(), &value)?;
            let listed =
                v1::Record::decode(&entry.record[..]).ok().map(|record| RecordByTimeKey::listing(&key, &record));
            if listed.as_ref().map_or(0, |listed| listed.at_ms) >= before_ms {
                break;
            }
            batch.delete(&key);
            listed.iter().for_each(|listed| batch.delete(listed));
            gone += 1;
        }
        Ok(gone)
    }
}
