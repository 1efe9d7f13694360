//! The store as it is at one moment: what hours and stretches it has, and the finest of them that covers a range.

use std::sync::{Mutex, PoisonError};

use mainstay_fleet::block::Head;
use mainstay_fleet::rollup::Tier;
use rocksdb::{DB, SnapshotWithThreadMode};

use super::columns::Column;
use super::keys::{BlockKey, Key as _, PieceKey, RollupKey};
use super::retention::{FirstHours, Retention};
use super::rollup::{HOURS_PER_DAY, number};
use super::series::hour_of;
use super::{Store, damage, family, gap};

/// How long it is believed when the first day of hours begins: late rows may come before it.
const BEGINNING_MS: u64 = 600_000;

/// When the first day that is kept in hours begins, as it was last looked for.
#[derive(Debug, Default)]
pub struct Beginning {
    /// The day, the hour, and when that was.
    known: Mutex<Option<(u32, u32, i64)>>,
}

/// The store as it is at one moment.
pub struct View<'s> {
    pub(super) store: &'s Store,
    pub(super) snapshot: SnapshotWithThreadMode<'s, DB>,
    /// Hours that have blocks at all.
    hours: (u32, u32),
    /// The stretches that each tier has.
    pub(super) rolled: [Option<(u32, u32)>; 2],
    /// Whether there are blocks of version 1.
    pub(super) has_old: bool,
    /// Groups that were surely written when the snapshot was taken.
    pub(super) written: u64,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("hours", &self.hours).field("has_old", &self.has_old).finish_non_exhaustive()
    }
}

impl Store {
    /// The store as it is now.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        let written = self.warm.written();
        let snapshot = self.db().snapshot();
        let stretches = |prefix: &[u8]| stretches_of(self, &snapshot, prefix);
        let (old, new) = (stretches(&[BlockKey::ORDINAL]), stretches(&[PieceKey::ORDINAL]));
        let rolled = Tier::ALL.map(|tier| stretches(&[RollupKey::ORDINAL, number(tier)]));
        let hours = match (old, new) {
            (Some(old), Some(new)) => (old.0.min(new.0), old.1.max(new.1)),
            (one, other) => one.or(other).unwrap_or((1, 0)),
        };
        View { store: self, snapshot, hours, rolled, has_old: old.is_some(), written }
    }
}

/// The first and the last stretch that keys are of, which begin with `prefix` and then one, as far as they can be read.
fn stretches_of(store: &Store, snapshot: &SnapshotWithThreadMode<'_, DB>, prefix: &[u8]) -> Option<(u32, u32)> {
    let mut ends = snapshot.raw_iterator_cf(family(store.db(), Column::Series));
    let stretch = |key: &[u8]| Some(u32::from_be_bytes(*key.strip_prefix(prefix)?.first_chunk()?));
    ends.seek(prefix);
    if let Err(error) = ends.status() {
        store.failed(error);
        ends = snapshot.raw_iterator_cf(family(store.db(), Column::Series));
        ends.seek(gap::after_in(store.db(), Column::Series, prefix)?);
    }
    let first = ends.key().and_then(stretch)?;
    let end = [prefix, &[0xff; 16]].concat();
    ends.seek_for_prev(&end);
    let last = match ends.status() {
        Ok(()) => ends.key().and_then(stretch),
        Err(error) => {
            store.failed(error);
            damage::last_before(store.db(), Column::Series, &end).ok()?.as_deref().and_then(stretch)
        }
    };
    Some((first, last?))
}

impl View<'_> {
    /// The finest that covers a range from a moment on, or all of it that is stored at all; `None` is every summary. Of each
    /// tier what is before its `kept` is not counted on.
    #[must_use]
    pub fn finest(&self, from_ms: i64, kept: FirstHours, now_ms: i64) -> Option<Tier> {
        let [five, hour] = self.rolled.map(|stretches| stretches.map(|(first, _)| first));
        let rows = (self.hours.0 <= self.hours.1).then_some(self.hours.0);
        let hour = hour.map(|day| {
            let first = day * HOURS_PER_DAY;
            let is_within = |hour: &u32| *hour > first && hour / HOURS_PER_DAY == day;
            // Hours are in blocks of days: it matters when the first of them began where finer ones begin on that day.
            let finer = [rows, five].into_iter().flatten().filter(is_within).min();
            finer.map_or(first, |finer| self.beginning(day, now_ms).map_or(finer, |hour| hour.min(finer)))
        });
        let [rows, five, hour] =
            [(rows, kept[0]), (five, kept[1]), (hour, kept[2])].map(|(first, kept)| first.map(|first| first.max(kept)));
        let begin = [(None, rows), (Some(Tier::Minutes5), five), (Some(Tier::Hour), hour)];
        let earliest = begin.iter().filter_map(|(_, begin)| *begin).min();
        let asked = earliest.map(|earliest| earliest.max(hour_of(from_ms.max(0))));
        let covers = |(_, begin): &&(Option<Tier>, Option<u32>)| begin.is_some_and(|begin| Some(begin) <= asked);
        begin.iter().find(covers).and_then(|(tier, _)| *tier)
    }

    /// The first hours that a host has of what is kept for so long: what was removed while it was kept for a shorter time
    /// does not come back.
    #[must_use]
    pub fn first_hours(&self, host: u32, retention: &Retention, now_ms: i64) -> FirstHours {
        self.store.thinned.of(host, retention.first_hours(now_ms))
    }

    /// The first hours that every host has if each is kept for so long at least.
    #[must_use]
    pub fn first_hours_of_every(&self, retention: &Retention, now_ms: i64) -> FirstHours {
        self.store.thinned.of_every(retention.first_hours(now_ms))
    }

    /// The first hour that any host has of a day that is kept in hours.
    fn beginning(&self, day: u32, now_ms: i64) -> Option<u32> {
        let mut known = self.store.beginning.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hour, _)) = known.filter(|(of, _, at_ms)| *of == day && now_ms.abs_diff(*at_ms) < BEGINNING_MS)
        {
            return Some(hour);
        }
        let prefix = RollupKey::heads(number(Tier::Hour), day);
        let mut heads = self.snapshot.raw_iterator_cf(family(self.store.db(), Column::Series));
        heads.seek(&prefix);
        let mut first: Option<u32> = None;
        while let Some((_, head)) = heads.item().filter(|(key, _)| key.starts_with(&prefix)) {
            let begin = Head::open(head).ok().and_then(|head| head.times.first().map(|at_ms| hour_of(*at_ms)));
            first = first.into_iter().chain(begin).min();
            heads.next();
        }
        *known = first.map(|hour| (day, hour, now_ms));
        first
    }

    /// The first and the last stretch that a tier has; `None` is every summary.
    pub(super) fn stretches(&self, tier: Option<Tier>) -> Option<(u32, u32)> {
        match tier {
            None => Some(self.hours).filter(|(first, last)| first <= last),
            Some(tier) => self.rolled[usize::from(number(tier) - 1)],
        }
    }

    pub(super) fn hours(&self, from_ms: i64, to_ms: i64) -> std::ops::RangeInclusive<u32> {
        hour_of(from_ms).max(self.hours.0)..=hour_of(to_ms).min(self.hours.1)
    }
}
