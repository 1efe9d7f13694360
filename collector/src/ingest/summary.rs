//! Summaries: from a session's numbers to rows of the host's open block.
//!
//! In: definitions and summaries in the order in which they were sent. Out: rows of a schema that is
//! the sorted set of the series this session has named with a value, so that it changes rarely and
//! hosts that are alike share it. Series beyond what a host may bring are left out and counted.

use std::sync::Arc;

use mainstay_core::series::{self, Point, SeriesKey, Summary};
use mainstay_fleet::block::Row;
use mainstay_proto::convert::{ConvertError, SummaryReader};
use mainstay_proto::v1;

use crate::store::intern::Interner;
use crate::store::schema::Schema;
use crate::store::series::{SLOT_MS, slot_of};
use crate::store::{Batch, Store, StoreError};

/// Most series that one session may name: as many as an agent ever has at once, and as many that came and went.
pub const SERIES_MAX: usize = 2 * series::SERIES_MAX;
/// Most bytes of a series' name and labels together.
pub const KEY_BYTES_MAX: usize = 4_096;
/// A summary from further ahead of our clock than this is stored under the time it came.
pub const AHEAD_MS_MAX: i64 = 3_600_000;
/// A slot is sealed so long after its end at the latest, if its host goes on sending.
pub const SEAL_MS_MAX: i64 = 240_000;

/// Series that are gone keep their places while they are no more than this part of those that are there, and this many: what comes
/// and goes now and then makes no other set.
const GONE_PART: usize = 4;
const GONE_MIN: usize = 16;

/// Why a definition or a summary is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadSummary {
    /// It does not say what it should.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Too many series.
    #[error("a session may name {SERIES_MAX} series, not more")]
    Series,
    /// A name that is too long.
    #[error("a series' name and labels may have {KEY_BYTES_MAX} bytes, not {0}")]
    Key(usize),
}

/// Whether what lies before a slot is to be sealed by now. All hosts' slots end at the same moment, so each host has its own
/// in the minutes after it; and so do those that all come to it later together, as after a network is back. What comes to a slot that
/// is over goes on to the next at once.
fn is_sealed_by(host: u32, (slot, since_ms): (u32, i64), now_ms: i64) -> bool {
    // Neighbours lie far apart, and many evenly.
    let place = i64::from(host.wrapping_mul(0x9e37_79b9));
    let begun_ms = i64::from(slot) * SLOT_MS;
    let from_ms = if since_ms < begun_ms + SLOT_MS { since_ms.max(begun_ms) } else { begun_ms };
    now_ms >= from_ms + ((place * SEAL_MS_MAX) >> 32)
}

/// What of a summary was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Points that were.
    pub points: u64,
    /// Points that were not, because their series are more than the host may bring.
    pub dropped: u64,
}

/// The series of one session.
#[derive(Debug, Default)]
pub struct SeriesBook {
    reader: SummaryReader,
    /// Those that have a place in the store; alike sessions hold one together.
    schema: Option<Arc<Schema>>,
    /// The slot of the last row, and when the first of them came.
    slot: Option<(u32, i64)>,
    /// Whether rows of other slots may lie unsealed.
    unsealed: bool,
}

impl SeriesBook {
    /// Takes the definition of a series.
    ///
    /// # Errors
    /// If it is none, or one too many.
    pub fn define(&mut self, def: v1::SeriesDef, keys: &Interner) -> Result<(), BadSummary> {
        let bytes = def
            .key
            .as_ref()
            .map_or(0, |key| key.name.len() + key.labels.iter().map(|l| l.name.len() + l.value.len()).sum::<usize>());
        if bytes > KEY_BYTES_MAX {
            return Err(BadSummary::Key(bytes));
        }
        let defined = &mut self.reader.definitions;
        if defined.len() >= SERIES_MAX && defined.key(def.id).is_none() {
            return Err(BadSummary::Series);
        }
        Ok(defined.define(def, |key| keys.one(key))?)
    }

    /// Reads the next summary of the session. Each has to be read, also one that is known already: the next one may say
    /// only what changed since.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(&mut self, summary: v1::Summary) -> Result<Summary, BadSummary> {
        Ok(self.reader.read(summary)?)
    }

    /// Goes on where an earlier session of the host has come to.
    pub fn begin(&mut self, slot: Option<(u32, i64)>) {
        if self.slot.is_none() && slot.is_some() {
            (self.slot, self.unsealed) = (slot, true);
        }
    }

    /// The slot of the last row, and when the first of them came.
    #[must_use]
    pub fn slot(&self) -> Option<(u32, i64)> {
        self.slot
    }

    /// Adds a summary to the batch, of as many series as the host may bring.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn store(
        &mut self,
        store: &Store,
        batch: &mut Batch,
        host: u32,
        summary: Summary,
        (received_ms, series_max): (i64, usize),
    ) -> Result<Stored, StoreError> {
        let at_ms = summary.at.wall_ms;
        let at_ms = if at_ms > received_ms + AHEAD_MS_MAX || at_ms < 0 { received_ms } else { at_ms };
        let slot = slot_of(at_ms);
        if self.slot.is_none_or(|(of, _)| of != slot) {
            self.unsealed = true;
            self.slot = Some((slot, received_ms));
            // Once in a slot, so that series that come and go make no schema of every summary.
            self.make_room(store, &summary.points, series_max);
        }
        let schema = self.schema_for(store, &summary.points, series_max);
        store.put_schema(batch, &schema, received_ms)?;
        let mut points = summary.points.into_iter().peekable();
        let mut stored = Stored::default();
        let cells: Vec<Option<Point>> = schema
            .keys
            .iter()
            .map(|key| {
                while points.next_if(|(of, _)| of < key).is_some() {
                    stored.dropped += 1;
                }
                let point = points.next_if(|(of, _)| of == key)?.1;
                // A series named twice in one summary: the later one is dropped, as Prometheus does.
                while points.next_if(|(of, _)| of == key).is_some() {}
                stored.points += 1;
                Some(point)
            })
            .collect();
        stored.dropped += points.count() as u64;
        let row = Row { at_ms, window_ms: summary.window_ms, samples: summary.samples, cells };
        store.put_row(batch, host, &schema, &row);
        Ok(stored)
    }

    /// Seals what lies before the slot of the last row, if there may be any and its time has come: rows of this session
    /// that are durable, or what an earlier one left.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn seal(&mut self, store: &Store, batch: &mut Batch, host: u32, now_ms: i64) -> Result<(), StoreError> {
        if let Some(slot) = self.slot.filter(|slot| self.unsealed && is_sealed_by(host, *slot, now_ms)) {
            store.seal_except(batch, host, slot.0)?;
            self.unsealed = false;
        }
        Ok(())
    }

    /// Lets go what is not in this summary, where there may be no room for all of it, or where it is much: of containers that come
    /// and go the names would become ever more.
    fn make_room(&mut self, store: &Store, points: &[(Arc<SeriesKey>, Point)], series_max: usize) {
        let Some(schema) = &self.schema else { return };
        let is_much = schema.keys.len() > points.len() + points.len() / GONE_PART + GONE_MIN;
        if !is_much && schema.keys.len() + points.len() <= series_max {
            return;
        }
        let mut used = schema.series();
        if used.make_room(points, if is_much { points.len().min(series_max) } else { series_max }) {
            self.schema = Some(store.schema_of(used));
        }
    }

    fn schema_for(&mut self, store: &Store, points: &[(Arc<SeriesKey>, Point)], series_max: usize) -> Arc<Schema> {
        if let Some(schema) = self.schema.as_ref().filter(|schema| schema.covers(points)) {
            return schema.clone();
        }
        let mut used = self.schema.as_ref().map(|schema| schema.series()).unwrap_or_default();
        let is_another = used.take(points, series_max);
        match &self.schema {
            Some(schema) if !is_another => schema.clone(),
            _ => {
                let schema = store.schema_of(used);
                self.schema = Some(schema.clone());
                schema
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::time::Now;

    use super::*;

    #[tokio::test]
    async fn names_of_containers_that_are_gone_are_let_go_with_the_next_slot() {
        const WALL: i64 = 1_800_000_000_000;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 32 << 20, 0).unwrap();
        let series = |name: &str, n: i64| {
            let key = SeriesKey::new("tasks", &[(name, &format!("{n:04}"))]);
            (Arc::new(key), Point::Gauge { last: 1.0, min: 1.0, max: 1.0, mean: 1.0 })
        };
        let mut book = SeriesBook::default();
        let mut take = |n: i64, containers: std::ops::Range<i64>| {
            let at = Now { wall_ms: WALL + n * 10_000, boot_ns: 0 };
            let points = containers.map(|n| series("container", n)).chain((0..40).map(|n| series("unit", n))).collect();
            let summary = Summary { at, window_ms: 10_000, samples: 10, points };
            let stored = book.store(&store, &mut Batch::default(), 1, summary, (at.wall_ms, 10_000)).unwrap();
            assert_eq!(stored.dropped, 0);
            book.schema.as_ref().unwrap().keys.len()
        };
        // Another container in each summary: within a slot each is one more.
        assert_eq!((0..60).map(|n| take(n, n..n + 3)).last(), Some(102));
        assert_eq!(take(60, 60..63), 43, "only what is there");
        // What is gone and is little keeps its place.
        assert_eq!((61..70).map(|n| take(n, n..n + 3)).last(), Some(52));
        assert_eq!(take(120, 70..73), 53);
    }

    #[test]
    fn hosts_seal_one_after_the_other_and_all_in_time() {
        let slot = 2_900_000;
        let begun_ms = i64::from(slot) * SLOT_MS;
        let sealed = |since_ms, now_ms| {
            (1..=10_000).filter(|host| is_sealed_by(*host, (slot, begun_ms + since_ms), begun_ms + now_ms)).count()
        };
        // Those that were there when it began, and those that all came at once when half of it was over.
        for since_ms in [0, 300_000] {
            for tenth in 1..10 {
                let share = sealed(since_ms, since_ms + SEAL_MS_MAX * tenth / 10);
                assert!(share.abs_diff(1_000 * usize::try_from(tenth).unwrap()) < 50, "{share} after {tenth} tenths");
            }
            assert_eq!((sealed(since_ms, since_ms - 1), sealed(since_ms, since_ms + SEAL_MS_MAX)), (0, 10_000));
        }
        assert_eq!(sealed(-5_000, SEAL_MS_MAX), 10_000, "a clock that is ahead");
        assert_eq!(sealed(SLOT_MS, SLOT_MS), 10_000, "what comes late is sealed at once");
    }
}
