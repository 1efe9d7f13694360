//! Rows of several schemas as rows of one: a host where containers come and go has other series in every summary, and
//! one block of all its rows is what questions, disks and the next join want.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_core::series::Point;
use mainstay_fleet::block::Row;
use mainstay_fleet::cardinality::SeriesSet;

use super::schema::Schema;
use super::{Batch, Store, StoreError};
use crate::clock;

/// Most series of rows that are put together: what a block of rollups can have, two cells each.
const SERIES_MAX: usize = 20_000;

/// Rows of one schema, and the removal of the keys that they are under now.
pub(super) struct Source {
    pub(super) schema: Arc<Schema>,
    pub(super) rows: Vec<Row>,
    pub(super) gone: Batch,
}

/// Sources whose series are no more than fit, none of two kinds.
struct Together {
    first: Arc<Schema>,
    /// All of them, where they are more than those of the first.
    series: Option<SeriesSet>,
    ids: BTreeSet<[u8; 16]>,
    sources: Vec<Source>,
}

impl Together {
    fn takes(&mut self, schema: &Schema) -> bool {
        if self.ids.contains(&schema.id) {
            return true;
        }
        let mut series = self.series.take().unwrap_or_else(|| self.first.series());
        let is_taken = series.unite((&schema.keys, &schema.gauge), SERIES_MAX);
        if is_taken {
            self.ids.insert(schema.id);
        }
        self.series = (self.ids.len() > 1).then_some(series);
        is_taken
    }
}

impl Store {
    /// The same rows under as few schemas as can be, which the batch stores. A row has so many cells for `each` series.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn unite(
        &self,
        batch: &mut Batch,
        sources: impl IntoIterator<Item = Source>,
        each: usize,
    ) -> Result<Vec<Source>, StoreError> {
        let mut all: Vec<Together> = Vec::new();
        for source in sources {
            let place = all.iter_mut().position(|together| together.takes(&source.schema));
            let place = place.unwrap_or_else(|| {
                let ids = BTreeSet::from([source.schema.id]);
                all.push(Together { first: source.schema.clone(), series: None, ids, sources: Vec::new() });
                all.len() - 1
            });
            all[place].sources.push(source);
        }
        all.into_iter().map(|together| self.as_one(batch, together, each)).collect()
    }

    fn as_one(&self, batch: &mut Batch, together: Together, each: usize) -> Result<Source, StoreError> {
        let schema = match together.series {
            Some(series) => {
                let schema = self.schema_of(series);
                self.put_schema(batch, &schema, clock::wall_ms())?;
                schema
            }
            None => together.first,
        };
        let mut one = Source { schema, rows: Vec::new(), gone: Batch::default() };
        for source in together.sources {
            one.gone.append(source.gone);
            if source.schema.id == one.schema.id {
                one.rows.extend(source.rows);
                continue;
            }
            let places = places(&source.schema, &one.schema);
            let width = one.schema.keys.len() * each;
            one.rows.extend(source.rows.into_iter().map(|row| {
                let cells = spread(&row.cells, &places, (each, width));
                Row { cells, ..row }
            }));
        }
        Ok(one)
    }
}

/// Where the series of one schema stand in another that has all of them.
fn places(of: &Schema, within: &Schema) -> Vec<usize> {
    let mut at = 0;
    let place = |key| {
        while within.keys.get(at).is_some_and(|other| other != key) {
            at += 1;
        }
        at
    };
    of.keys.iter().map(place).collect()
}

fn spread(cells: &[Option<Point>], places: &[usize], (each, width): (usize, usize)) -> Vec<Option<Point>> {
    let mut spread = vec![None; width];
    for (place, cells) in places.iter().zip(cells.chunks(each)) {
        spread[place * each..][..cells.len()].copy_from_slice(cells);
    }
    spread
}
