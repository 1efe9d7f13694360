//! Rollups in the store: written in the batch that joins an hour, so that an hour is never joined without.
//!
//! Five minutes lie in a block for every hour, hours in a block for every day, to which each hour is added. An hour that
//! is joined again is rolled up again, unless less of it is there than had been when it was rolled up before: rows that
//! are damaged since, or too old to be kept.

use std::collections::BTreeSet;

use mainstay_fleet::block::{self, Row};
use mainstay_fleet::rollup::{Tier, cells, roll, split};

use super::columns::Column;
use super::keys::{PieceKey, RollupKey};
use super::seal::{Written, one_of_each_time, siblings};
use super::series::hour_of;
use super::unite::Source;
use super::{Batch, Store, StoreError};

/// Hours of a block of hours.
pub(super) const HOURS_PER_DAY: u32 = 24;

/// The number of a tier in keys.
#[must_use]
pub fn number(tier: Tier) -> u8 {
    match tier {
        Tier::Minutes5 => 1,
        Tier::Hour => 2,
    }
}

/// The stretch of a tier's block that an hour is in.
#[must_use]
pub fn stretch_of(tier: Tier, hour: u32) -> u32 {
    match tier {
        Tier::Minutes5 => hour,
        Tier::Hour => hour / HOURS_PER_DAY,
    }
}

/// What a tier has of a block's stretch.
#[derive(Default)]
struct Stored {
    rolled: Vec<Source>,
    /// Siblings of what cannot be read and stays.
    kept: BTreeSet<u8>,
    /// Whether there may be more, in tables that are damaged.
    is_in_part: bool,
}

impl Store {
    /// Whether an hour of a host is rolled up.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn is_rolled(&self, host: u32, hour: u32) -> Result<bool, StoreError> {
        let heads = RollupKey::of(number(Tier::Minutes5), hour, PieceKey::HEAD, host);
        self.scan::<RollupKey>(&heads, &heads).next().map_or(Ok(false), |head| head.map(|_| true))
    }

    /// The hosts of which an hour is rolled up.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn rolled_hosts(&self, hour: u32) -> Result<BTreeSet<u32>, StoreError> {
        let heads = RollupKey::heads(number(Tier::Minutes5), hour);
        self.scan::<RollupKey>(&heads, &heads).map(|head| Ok(head?.0.host)).collect()
    }

    /// Rolls an hour up, whose blocks are those that were written.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn roll_up(
        &self,
        batch: &mut Batch,
        host: u32,
        hour: u32,
        written: &[Written],
    ) -> Result<(), StoreError> {
        for tier in Tier::ALL {
            let stretch = stretch_of(tier, hour);
            let mut stored = self.stored_rollup(tier, stretch, host)?;
            if samples(stored.rows_of(hour)) > samples(written.iter().flat_map(|written| &written.rows)) {
                tracing::warn!(host, hour, tier = tier.name(), "less of an hour is there than was rolled up before");
                continue;
            }
            for source in &mut stored.rolled {
                source.rows.retain(|row| hour_of(row.at_ms) != hour);
            }
            stored.rolled.extend(written.iter().map(|Written { schema, rows }| Source {
                schema: schema.clone(),
                rows: roll(rows, tier),
                gone: Batch::default(),
            }));
            let first = RollupKey { tier: number(tier), stretch, piece: PieceKey::HEAD, host, sibling: 0 };
            self.put_rollup(batch, stored, first)?;
        }
        Ok(())
    }

    fn stored_rollup(&self, tier: Tier, stretch: u32, host: u32) -> Result<Stored, StoreError> {
        let is_in_part = self.damages().columns().contains(&Column::Series);
        let mut stored = Stored { is_in_part, ..Stored::default() };
        let heads = RollupKey::of(number(tier), stretch, PieceKey::HEAD, host);
        for item in self.scan::<RollupKey>(&heads, &heads) {
            let (key, bytes) = item?;
            match self.read_pieces(&key, &bytes, |no| key.part(no), |schema| cells(&schema.gauge))? {
                Ok(source) => stored.rolled.push(source),
                Err(why) => {
                    tracing::warn!(?key, why, "rolled up series cannot be read and are left as they are");
                    stored.kept.insert(key.sibling);
                }
            }
        }
        Ok(stored)
    }

    /// Writes a block, or several where a series is of two kinds, in place of what was there; `first` is the key of the first's head.
    fn put_rollup(&self, batch: &mut Batch, stored: Stored, first: RollupKey) -> Result<(), StoreError> {
        let mut siblings = siblings(stored.is_in_part).filter(|sibling| !stored.kept.contains(sibling));
        let (mut gone, mut written) = (Batch::default(), Batch::default());
        let (rolled, empty): (Vec<_>, Vec<_>) = stored.rolled.into_iter().partition(|source| !source.rows.is_empty());
        empty.into_iter().for_each(|source| gone.append(source.gone));
        for source in self.unite(batch, rolled, 2)? {
            gone.append(source.gone);
            let (schema, rows) = (source.schema, one_of_each_time(source.rows));
            let split = split(schema.gauge.len());
            let packed = block::pack_split(schema.id, &cells(&schema.gauge), &rows, block::LEVEL_SEALED, split);
            let (Ok(packed), Some(sibling)) = (packed, siblings.next()) else {
                tracing::warn!(key = ?first, rows = rows.len(), "series cannot be rolled up: what was there stays");
                return Ok(());
            };
            let key = RollupKey { sibling, ..first.clone() };
            (0..).zip(packed.parts).for_each(|(no, part)| written.put_raw(&key.part(no), part));
            written.put_raw(&key, packed.head);
        }
        // After all removals: a block may stand where another stood.
        batch.append(gone);
        batch.append(written);
        Ok(())
    }
}

impl Stored {
    fn rows_of(&self, hour: u32) -> impl Iterator<Item = &Row> {
        self.rolled.iter().flat_map(|source| &source.rows).filter(move |row| hour_of(row.at_ms) == hour)
    }
}

fn samples<'r>(rows: impl IntoIterator<Item = &'r Row>) -> u64 {
    rows.into_iter().map(|row| u64::from(row.samples)).sum()
}
