//! Rows of sources: made of what requests bring, durable before they are answered.
//!
//! A sender splits a scrape over requests as it likes, and tries again what was not answered. So a row takes in what came of
//! its moment before, and the same samples change nothing. One batch has all that a request brings.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use mainstay_core::series::{Point, SeriesKey};
use mainstay_fleet::block::Row;

use super::gather::{Dropped, Gathered, Points, Reason};
use super::sources::{SOURCES_MAX, Source};
use crate::clock;
use crate::hub::Hub;
use crate::store::schema::Schema;
use crate::store::series::slot_of;
use crate::store::{Batch, Store, StoreError};

/// Most cells of a source in ten minutes: a thousand series every second. A source whose series have a time each, such as
/// an exporter that names the times of what it exports, has many rows of few cells.
const CELLS_MAX: usize = 600_000;
/// Rows behind the open slot that are sealed before the next slot begins.
const LATE_MAX: usize = 600;
/// A row stands for the time since the one before, if that is not longer: Prometheus' lookback.
const WINDOW_MS_MAX: i64 = 300_000;

/// What is known of a source's open slot.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether the source itself is stored.
    pub(super) is_stored: bool,
    /// Whether it is known what an earlier run has left.
    is_restored: bool,
    /// The series that have a place in the store.
    schema: Option<Arc<Schema>>,
    newest_ms: Option<i64>,
    /// The newest slot, which is open.
    slot: Option<u32>,
    /// Whether rows of other slots are to be sealed.
    unsealed: bool,
    /// Rows since the slot began, those of earlier slots too.
    rows: usize,
    /// Those of earlier slots.
    late: usize,
}

/// What became of a request.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) stored: u64,
    pub(super) dropped: Dropped,
}

/// Makes what was gathered durable. It is finished even if nobody waits for it any more: what is known of a source and
/// what is stored of it stay in step.
///
/// # Errors
/// If it could not be stored; nothing of it is then there.
pub(super) async fn store(hub: &Arc<Hub>, gathered: Gathered) -> Result<Taken, StoreError> {
    let work = tokio::spawn(store_all(hub.clone(), gathered));
    work.await.map_err(|error| StoreError::Database(error.to_string()))?
}

async fn store_all(hub: Arc<Hub>, gathered: Gathered) -> Result<Taken, StoreError> {
    let mut taken = Taken { stored: 0, dropped: gathered.dropped };
    let mut all = Vec::with_capacity(gathered.sources.len());
    let mut guards = Vec::with_capacity(gathered.sources.len());
    // In the order of their keys, as every request has them: none waits for another in a circle.
    for (key, rows) in gathered.sources {
        let first_ms = rows.keys().next().copied().unwrap_or(0);
        let Some(source) = hub.sources.of(key.clone(), first_ms) else {
            let samples = rows.values().map(Vec::len).sum();
            taken.dropped.add(Reason::Series, samples, || format!("{key} is one source more than {SOURCES_MAX}"));
            continue;
        };
        guards.push(source.lock.clone().lock_owned().await);
        all.push((source, rows));
    }
    let sources: Vec<_> = all.iter().map(|(source, _)| source.clone()).collect();
    let of = hub.clone();
    let made = tokio::task::spawn_blocking(move || rows(&of, all, taken)).await;
    let made = made.map_err(|error| StoreError::Database(error.to_string())).and_then(|made| made);
    let done = match made {
        Ok((batch, taken)) => hub.store.commit(batch).await.map(|()| taken),
        Err(error) => Err(error),
    };
    if done.is_err() {
        sources.iter().for_each(|source| progress(source).failed());
    }
    drop(guards);
    done
}

fn progress(source: &Source) -> MutexGuard<'_, Progress> {
    source.progress.lock().unwrap_or_else(PoisonError::into_inner)
}

type Rows = BTreeMap<i64, Points>;

fn rows(hub: &Hub, all: Vec<(Arc<Source>, Rows)>, mut taken: Taken) -> Result<(Batch, Taken), StoreError> {
    let (series_max, now_ms) = (hub.settings().series_per_host, clock::wall_ms());
    let mut batch = Batch::default();
    for (source, rows) in all {
        let mut progress = progress(&source);
        progress.begin(&hub.store, &mut batch, source.short)?;
        for (at_ms, points) in rows {
            let place = (source.as_ref(), at_ms);
            let Some((schema, row)) = progress.row(&hub.store, place, points, series_max, &mut taken)? else {
                continue;
            };
            hub.store.put_schema(&mut batch, &schema, now_ms)?;
            hub.store.put_row(&mut batch, source.short, &schema, &row);
            progress.is_stored &= !source.reach(at_ms);
        }
        if !progress.is_stored {
            batch.put(&source.stored_under(), &source.row());
            progress.is_stored = true;
        }
    }
    Ok((batch, taken))
}

impl Progress {
    /// What was to be written is not: it is so again.
    fn failed(&mut self) {
        self.is_stored = false;
        self.unsealed = true;
    }

    /// Learns what an earlier run has left, and seals what lies before the open slot.
    fn begin(&mut self, store: &Store, batch: &mut Batch, short: u32) -> Result<(), StoreError> {
        if !self.is_restored {
            if let Some((schema, row)) = store.last_row(short)? {
                self.newest_ms = Some(row.at_ms);
                self.slot = Some(slot_of(row.at_ms));
                self.schema = Some(schema);
                self.unsealed = true;
            }
            self.is_restored = true;
        }
        if let Some(slot) = self.slot.filter(|_| self.unsealed) {
            store.seal_except(batch, short, slot)?;
            self.unsealed = false;
            self.rows = self.rows.saturating_sub(std::mem::take(&mut self.late));
        }
        Ok(())
    }

    /// The row of a moment with these points, which are sorted, and with what came of it before.
    fn row(
        &mut self,
        store: &Store,
        (source, at_ms): (&Source, i64),
        points: Points,
        series_max: usize,
        taken: &mut Taken,
    ) -> Result<Option<(Arc<Schema>, Row)>, StoreError> {
        let slot = slot_of(at_ms);
        if self.slot.is_none_or(|open| slot > open) {
            self.advance(store, source.short, slot, &points, series_max)?;
        }
        let may_be_there = self.newest_ms.is_some_and(|newest| at_ms <= newest);
        let there = if may_be_there { store.row_at(source.short, at_ms)? } else { None };
        if there.is_none() {
            let width = self.width().max(points.len());
            if (self.rows + 1).saturating_mul(width) > CELLS_MAX {
                let why =
                    || format!("{} has more than {CELLS_MAX} cells in ten minutes, by series and moments", source.key);
                taken.dropped.add(Reason::Moments, points.len(), why);
                return Ok(None);
            }
            self.rows += 1;
            if self.slot.is_some_and(|open| slot < open) {
                self.late += 1;
                self.unsealed |= self.late > LATE_MAX;
            }
        }
        let schema = self.schema_for(store, there.as_ref(), &points, series_max);
        let mut row = match there {
            Some((known, row)) if known.id == schema.id => row,
            Some((known, row)) => Row { cells: moved(&known, row.cells, &schema), ..row },
            None => Row { at_ms, window_ms: self.window_ms(at_ms), samples: 1, cells: vec![None; schema.keys.len()] },
        };
        let (stored, dropped) = fill(&mut row, &schema, points);
        let why =
            || format!("{} has more than {series_max} series, see `series_per_host` in collector.toml", source.key);
        taken.dropped.add(Reason::Series, dropped, why);
        taken.stored += stored as u64;
        self.newest_ms = self.newest_ms.max(Some(at_ms));
        Ok((stored > 0).then_some((schema, row)))
    }

    /// Begins another slot. Series that are gone make room for others now, if there is none.
    fn advance(
        &mut self,
        store: &Store,
        short: u32,
        slot: u32,
        points: &[(Arc<SeriesKey>, Point)],
        series_max: usize,
    ) -> Result<(), StoreError> {
        self.unsealed |= self.slot.is_some();
        self.slot = Some(slot);
        (self.rows, self.late) = (0, 0);
        if let Some(schema) = self.schema.as_ref().filter(|schema| schema.keys.len() + points.len() > series_max) {
            let mut used = schema.series();
            let mut here = points.to_vec();
            if let Some((schema, row)) = store.last_row(short)? {
                let present = schema.keys.iter().cloned().zip(row.cells);
                here.extend(present.filter_map(|(key, cell)| Some((key, cell?))));
            }
            here.sort_by(|(a, _), (b, _)| a.cmp(b));
            here.dedup_by(|(a, _), (b, _)| a == b);
            if used.make_room(&here, series_max) {
                self.schema = Some(store.schema_of(used));
            }
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.schema.as_ref().map_or(0, |schema| schema.keys.len())
    }

    fn schema_for(
        &mut self,
        store: &Store,
        there: Option<&(Arc<Schema>, Row)>,
        points: &[(Arc<SeriesKey>, Point)],
        series_max: usize,
    ) -> Arc<Schema> {
        if let Some(schema) = self.schema.as_ref().filter(|schema| {
            schema.covers(points) && there.is_none_or(|(known, _)| known.id == schema.id || is_within(known, schema))
        }) {
            return schema.clone();
        }
        let mut used = self.schema.as_ref().map(|schema| schema.series()).unwrap_or_default();
        let mut is_another = there.is_some_and(|(known, _)| used.take(&of_schema(known), usize::MAX));
        is_another |= used.take(points, series_max);
        match &self.schema {
            Some(schema) if !is_another => schema.clone(),
            _ => {
                let schema = store.schema_of(used);
                self.schema = Some(schema.clone());
                schema
            }
        }
    }

    fn window_ms(&self, at_ms: i64) -> u32 {
        let since = self.newest_ms.map_or(0, |newest| at_ms - newest);
        if (0..=WINDOW_MS_MAX).contains(&since) { u32::try_from(since).unwrap_or(0) } else { 0 }
    }
}

/// The series of a schema as points, for what asks only which there are.
fn of_schema(schema: &Schema) -> Points {
    let kind = |gauge: &bool| match gauge {
        true => Point::Gauge { last: 0.0, min: 0.0, max: 0.0, mean: 0.0 },
        false => Point::Counter(0.0),
    };
    schema.keys.iter().cloned().zip(schema.gauge.iter().map(kind)).collect()
}

/// Whether all series of a schema have their place in another.
fn is_within(known: &Schema, schema: &Schema) -> bool {
    let mut keys = schema.keys.iter();
    known.keys.iter().all(|key| keys.any(|other| other == key))
}

/// The cells of a row in their places in another schema, which has all of them.
fn moved(known: &Schema, cells: Vec<Option<Point>>, schema: &Schema) -> Vec<Option<Point>> {
    let mut of = known.keys.iter().zip(cells).peekable();
    let place = |key: &Arc<SeriesKey>| {
        while of.next_if(|(known, _)| *known < key).is_some() {}
        of.next_if(|(known, _)| *known == key).and_then(|(_, cell)| cell)
    };
    schema.keys.iter().map(place).collect()
}

/// Puts points, which are sorted, into their cells; of a series named twice the later. Says how many had a place, and how
/// many had none.
fn fill(row: &mut Row, schema: &Schema, points: Points) -> (usize, usize) {
    let mut points = points.into_iter().peekable();
    let (mut stored, mut dropped) = (0, 0);
    for (cell, key) in row.cells.iter_mut().zip(&schema.keys) {
        while points.next_if(|(of, _)| of < key).is_some() {
            dropped += 1;
        }
        while let Some((_, point)) = points.next_if(|(of, _)| of == key) {
            *cell = Some(point);
            stored += 1;
        }
    }
    (stored, dropped + points.count())
}
