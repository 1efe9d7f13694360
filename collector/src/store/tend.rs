//! Reading which series there are, and who had which when, so that questions need not: a few hours at a time, the newest first.
//!
//! In: a turn every few seconds. Out: [`AllNames`](super::names::AllNames) knows all names, and
//! [`Presence`](super::presence::Presence) some hours more. An hour is the heads of
//! its blocks, which lie behind one another, and of each host the open rows of it.

use std::collections::BTreeMap;

use mainstay_fleet::block::{Head, Loose};
use mainstay_fleet::presence::{HOUR_MS, Run};
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use super::columns::Column;
use super::keys::{Key, OpenRowKey, PieceKey};
use super::presence::{Hosts, run_of};
use super::series::{hour_of, slot_of};
use super::view::View;
use super::{Store, StoreError, family};

/// Hours of one turn.
const HOURS: usize = 24;

/// Of a host: the schema of some of its rows, unless they cannot be followed, and their times.
type Found = (u32, Option<[u8; 16]>, Run);

impl Store {
    /// Who had series in a span, where that is known without a look into the store.
    #[must_use]
    pub fn hosts_within(&self, view: &View<'_>, (from_ms, to_ms): (i64, i64)) -> Option<Hosts> {
        (!view.has_old && self.is_whole()).then(|| self.presence.within(from_ms, to_ms)).flatten()
    }

    /// Reads who had which series in some hours more. Says whether there was anything to read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn tend(&self) -> Result<bool, StoreError> {
        if !self.is_whole() {
            // What was known of rows that are lost is not to be told when their tables are gone.
            self.presence.forget();
            return Ok(false);
        }
        self.all_names(|_| ())?;
        if self.presence.wants_range() {
            self.presence.begin_range();
            self.presence.set_range(self.range()?);
        }
        let hours = self.presence.to_read(HOURS);
        let (Some(first), Some(last)) = (hours.iter().min(), hours.iter().max()) else { return Ok(false) };
        let forgot = self.presence.follow(&hours);
        let mut found: BTreeMap<u32, Vec<Found>> = hours.iter().map(|hour| (*hour, Vec::new())).collect();
        self.open_rows_of(*first, *last, &mut found)?;
        for (hour, mut found) in found.into_iter().rev() {
            let heads = PieceKey::heads(hour);
            let mut blocks = self.unkept(Column::Series);
            blocks.seek(&heads);
            while let Some((key, bytes)) = blocks.item().filter(|(key, _)| key.starts_with(&heads)) {
                let key = PieceKey::decode(key)?;
                let head = Head::open(bytes).ok().and_then(|head| Some((Some(head.schema), run_of(&head)?)));
                let (schema, run) = head.unwrap_or_else(|| (None, Run::at(0)));
                found.push((key.host, schema, run));
                blocks.next();
            }
            blocks.status().map_err(|error| self.failed(error))?;
            self.presence.take(hour, found, forgot);
        }
        Ok(true)
    }

    /// Whether nothing of the series is damaged: what is, is told only by those who read it.
    fn is_whole(&self) -> bool {
        let damaged = self.damages().columns();
        !damaged.contains(&Column::Series) && !damaged.contains(&Column::Head)
    }

    /// Moves through a column without keeping what is read: questions have other use for the room.
    fn unkept(&self, column: Column) -> DBRawIteratorWithThreadMode<'_, DB> {
        let mut reading = ReadOptions::default();
        reading.fill_cache(false);
        self.db().raw_iterator_cf_opt(family(self.db(), column), reading)
    }

    /// The first and the last hour that has anything.
    fn range(&self) -> Result<Option<(u32, u32)>, StoreError> {
        let mut range = self.view().stretches(None);
        let mut rows = self.unkept(Column::Head);
        rows.seek(OpenRowKey::all());
        while let Some(first) = rows.key().and_then(|key| OpenRowKey::decode(key).ok()) {
            rows.seek_for_prev([OpenRowKey::of(first.host).as_slice(), &[u8::MAX; 16]].concat());
            let last = rows.key().and_then(|key| OpenRowKey::decode(key).ok());
            for at_ms in [Some(first.at_ms), last.map(|last| last.at_ms)].into_iter().flatten() {
                let hour = hour_of(at_ms);
                let (from, to) = range.unwrap_or((hour, hour));
                range = Some((from.min(hour), to.max(hour)));
            }
            let Some(next) = first.host.checked_add(1) else { break };
            rows.seek(OpenRowKey::of(next));
        }
        rows.status().map_err(|error| self.failed(error))?;
        Ok(range)
    }

    /// The open rows of all hosts from one hour to another, of those hours that are asked for.
    fn open_rows_of(&self, first: u32, last: u32, found: &mut BTreeMap<u32, Vec<Found>>) -> Result<(), StoreError> {
        let from_slot = slot_of(i64::from(first) * i64::from(HOUR_MS));
        let mut rows = self.unkept(Column::Head);
        rows.seek(OpenRowKey::all());
        while let Some(host) = rows.key().and_then(|key| OpenRowKey::decode(key).ok()).map(|key| key.host) {
            rows.seek(OpenRowKey::in_slot(host, from_slot));
            let mut runs: BTreeMap<(u32, Option<[u8; 16]>), Run> = BTreeMap::new();
            while let Some((key, bytes)) = rows.item() {
                let key = OpenRowKey::decode(key)?;
                let hour = hour_of(key.at_ms);
                if key.host != host || hour > last {
                    break;
                }
                if found.contains_key(&hour) {
                    let begin_ms = i64::from(hour) * i64::from(HOUR_MS);
                    let run = Run::at(u32::try_from(key.at_ms - begin_ms).unwrap_or(0));
                    let schema = Loose::open(bytes).ok().map(|row| row.schema);
                    runs.entry((hour, schema)).and_modify(|known| known.add(run)).or_insert(run);
                }
                rows.next();
            }
            for ((hour, schema), run) in runs {
                found.entry(hour).or_default().push((host, schema, run));
            }
            let Some(next) = host.checked_add(1) else { break };
            rows.seek(OpenRowKey::of(next));
        }
        rows.status().map_err(|error| self.failed(error))
    }
}
