//! Rollups in the store: written in the batch that joins an hour, so that an hour is never joined without.
//!
//! Five minutes lie in a block for every hour, hours in a block for every day, to which each hour is added. An hour that
//! is joined again is rolled up again, unless less of it is there than had been when it was rolled up before: rows that
//! are damaged since, or too old to be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainstay_fleet::block::{self, Row};
use mainstay_fleet::rollup::{Tier, cells, roll, split};

use super::columns::Column;
use super::keys::{PieceKey, RollupKey};
use super::schema::Schema;
use super::seal::{Written, siblings};
use super::series::hour_of;
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

/// Rolled up rows by schema and time.
type Rolled = BTreeMap<[u8; 16], (Arc<Schema>, BTreeMap<i64, Row>)>;

/// What a tier has of a block's stretch.
#[derive(Default)]
struct Stored {
    rolled: Rolled,
    /// The removal of what was read.
    gone: Batch,
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
            for (_, rows) in stored.rolled.values_mut() {
                rows.retain(|at_ms, _| hour_of(*at_ms) != hour);
            }
            for Written { schema, rows } in written {
                let of = stored.rolled.entry(schema.id).or_insert_with(|| (schema.clone(), BTreeMap::new()));
                of.1.extend(roll(rows, tier).into_iter().map(|row| (row.at_ms, row)));
            }
            stored.write(batch, RollupKey { tier: number(tier), stretch, piece: PieceKey::HEAD, host, sibling: 0 });
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
                Ok(source) => {
                    let rolled = &mut stored.rolled;
                    let of = rolled.entry(source.schema.id).or_insert_with(|| (source.schema.clone(), BTreeMap::new()));
                    of.1.extend(source.rows.into_iter().map(|row| (row.at_ms, row)));
                    stored.gone.append(source.gone);
                }
                Err(why) => {
                    tracing::warn!(?key, why, "rolled up series cannot be read and are left as they are");
                    stored.kept.insert(key.sibling);
                }
            }
        }
        Ok(stored)
    }
}

impl Stored {
    fn rows_of(&self, hour: u32) -> impl Iterator<Item = &Row> {
        let rows = self.rolled.values().flat_map(|(_, rows)| rows.values());
        rows.filter(move |row| hour_of(row.at_ms) == hour)
    }

    /// Writes a block of each schema in place of what was there; `first` is the key of the first's head.
    fn write(self, batch: &mut Batch, first: RollupKey) {
        let mut siblings = siblings(self.is_in_part).filter(|sibling| !self.kept.contains(sibling));
        let mut written = Batch::default();
        for (schema, rows) in self.rolled.into_values().filter(|(_, rows)| !rows.is_empty()) {
            let rows: Vec<Row> = rows.into_values().collect();
            let split = split(schema.gauge.len());
            let packed = block::pack_split(schema.id, &cells(&schema.gauge), &rows, block::LEVEL_SEALED, split);
            let (Ok(packed), Some(sibling)) = (packed, siblings.next()) else {
                tracing::warn!(key = ?first, rows = rows.len(), "series cannot be rolled up: what was there stays");
                return;
            };
            let key = RollupKey { sibling, ..first.clone() };
            (0..).zip(packed.parts).for_each(|(no, part)| written.put_raw(&key.part(no), part));
            written.put_raw(&key, packed.head);
        }
        // After all removals: a block may stand where another stood.
        batch.append(self.gone);
        batch.append(written);
    }
}

fn samples<'r>(rows: impl IntoIterator<Item = &'r Row>) -> u64 {
    rows.into_iter().map(|row| u64::from(row.samples)).sum()
}
