//! Columns that are kept: of the open rows of a host, and of the blocks of one of its hours.

use std::sync::Arc;

use mainstay_fleet::block::{Head, Loose, Which};

use super::packed::{Ints, Packed};
use super::schema::Schema;

/// Most columns that are kept of an hour of a host, or of its open rows: who asks for more is not helped by it.
pub(super) const COLUMNS_MAX: usize = 64;
/// What a kept thing takes besides its columns, about.
const ENTRY_BYTES: usize = 200;

/// A series by its place in the schema, and which of its values.
pub(super) type Asked = (usize, Which);

/// Few things by what is asked for, in its order. What is compared lies close together: a question goes through those of all
/// hosts, and mostly waits for the memory.
#[derive(Debug, Clone)]
pub(super) struct Few<V> {
    keys: Vec<u32>,
    values: Vec<V>,
}

impl<V> Default for Few<V> {
    fn default() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }
}

/// The key of what is asked for: its place, and in the last two bits which of its values. `None` for a place beyond a thousand
/// million, of which nothing is kept.
fn key((at, which): Asked) -> Option<u32> {
    let which = match which {
        Which::Last => 0,
        Which::Min => 1,
        Which::Max => 2,
        Which::Mean => 3,
    };
    u32::try_from(at).ok()?.checked_mul(4)?.checked_add(which)
}

fn asked(key: u32) -> Asked {
    ((key / 4) as usize, [Which::Last, Which::Min, Which::Max, Which::Mean][(key % 4) as usize])
}

impl<V> Few<V> {
    pub(super) fn get(&self, asked: Asked) -> Option<&V> {
        let place = self.keys.binary_search(&key(asked)?).ok()?;
        Some(&self.values[place])
    }

    pub(super) fn get_mut(&mut self, asked: Asked) -> Option<&mut V> {
        let place = self.keys.binary_search(&key(asked)?).ok()?;
        Some(&mut self.values[place])
    }

    /// Adds one if there is none.
    pub(super) fn add_with(&mut self, asked: Asked, value: impl FnOnce() -> V) {
        let Some(key) = key(asked) else { return };
        if let Err(place) = self.keys.binary_search(&key) {
            // Mostly there is one.
            self.keys.reserve_exact(1);
            self.keys.insert(place, key);
            self.values.reserve_exact(1);
            self.values.insert(place, value());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Asked, &V)> {
        self.keys.iter().map(|key| asked(*key)).zip(&self.values)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (Asked, &mut V)> {
        self.keys.iter().map(|key| asked(*key)).zip(&mut self.values)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Columns of the open rows of a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// The names of their series; `None` where there are no rows.
    pub(super) schema: Option<Arc<Schema>>,
    pub(super) times: Vec<i64>,
    pub(super) windows: Vec<i64>,
    pub(super) columns: Few<Values>,
    /// The last group that was written before this was read.
    pub(super) since: u64,
}

/// A value of each row, and the rows that have none.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    values: Vec<f64>,
    absent: Vec<usize>,
}

impl Values {
    fn push(&mut self, value: Option<f64>) {
        if value.is_none() {
            self.absent.push(self.values.len());
        }
        self.values.push(value.unwrap_or_default());
    }

    pub(super) fn bytes(&self) -> usize {
        (self.values.len() + self.absent.len() + 8) * 8
    }
}

impl Rows {
    /// Whether all that is asked for is here.
    pub(super) fn have(&self, asked: &[Asked]) -> bool {
        asked.iter().all(|asked| self.columns.get(*asked).is_some())
    }

    /// Hands a value of every row that has one to `take`, with the number of the row.
    pub(super) fn each_value(&self, asked: Asked, take: &mut dyn FnMut(usize, f64)) {
        let Some(column) = self.columns.get(asked) else { return };
        let mut absent = column.absent.iter().peekable();
        for (row, value) in column.values.iter().enumerate() {
            if absent.next_if(|absent| **absent == row).is_none() {
                take(row, *value);
            }
        }
    }

    /// A value of every row, if every row has one.
    pub(super) fn whole_column(&self, asked: Asked) -> Option<&[f64]> {
        self.columns.get(asked).filter(|column| column.absent.is_empty()).map(|column| &column.values[..])
    }

    /// Adds the newest row; says whether it fits to those that are here.
    pub(super) fn push(&mut self, row: &Loose<'_>) -> bool {
        let is_next = self.times.last().is_some_and(|newest| *newest < row.at_ms);
        if !is_next || self.schema.as_ref().is_none_or(|schema| schema.id != row.schema) {
            return false;
        }
        for ((at, which), column) in self.columns.iter_mut() {
            let Ok(value) = row.value(at, which) else { return false };
            column.push(value);
        }
        self.times.push(row.at_ms);
        self.windows.push(i64::from(row.window_ms));
        true
    }

    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES + self.times.len() * 16 + self.columns.iter().map(|(_, column)| column.bytes()).sum::<usize>()
    }
}

/// Gathers the open rows of a host as they are read, one after the other.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    rows: Rows,
    /// Whether they are not to be kept: rows of several schemas, or of which not the same was asked.
    is_mixed: bool,
}

impl Gathered {
    /// A row whose values follow.
    pub(super) fn begin(&mut self, schema: &Arc<Schema>, row: &Loose<'_>) {
        let known = self.rows.schema.get_or_insert_with(|| schema.clone());
        self.is_mixed |= known.id != schema.id;
        self.rows.times.push(row.at_ms);
        self.rows.windows.push(i64::from(row.window_ms));
    }

    /// A value of the row that was begun last.
    pub(super) fn add(&mut self, asked: Asked, value: Option<f64>) {
        let before = self.rows.times.len() - 1;
        let columns = &mut self.rows.columns;
        if before == 0 && columns.len() < COLUMNS_MAX {
            columns.add_with(asked, Values::default);
        }
        match columns.get_mut(asked) {
            Some(column) if column.values.len() == before => column.push(value),
            // Asked twice of one row.
            Some(_) => {}
            None => self.is_mixed = true,
        }
    }

    /// What cannot be read has to be told whenever it is asked for.
    pub(super) fn spoil(&mut self) {
        self.is_mixed = true;
    }

    pub(super) fn done(self) -> Option<Rows> {
        let count = self.rows.times.len();
        let is_whole = self.rows.columns.iter().all(|(_, column)| column.values.len() == count);
        (is_whole && !self.is_mixed).then_some(self.rows)
    }
}

/// Gathers the blocks of an hour of a host as they are read.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) blocks: Vec<Kept>,
    /// Whether one cannot be read.
    pub(super) is_spoiled: bool,
}

/// The blocks of an hour of a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Hour {
    pub(super) blocks: Vec<Kept>,
    pub(super) since: u64,
}

/// A block: what its head says, and the columns that were asked for.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) slot: u8,
    pub(super) sibling: u8,
    pub(super) schema: Arc<Schema>,
    pub(super) times: Ints,
    pub(super) windows: Ints,
    pub(super) columns: Few<Arc<Packed>>,
}

impl Kept {
    pub(super) fn new((slot, sibling): (u8, u8), schema: Arc<Schema>, head: &Head) -> Self {
        let (times, windows) = (Ints::of(&head.times), Ints::of(&head.windows));
        Self { slot, sibling, schema, times, windows, columns: Few::default() }
    }

    /// Keeps a column; one more than may be shows that there were too many.
    pub(super) fn add(&mut self, asked: Asked, column: Packed) {
        if self.columns.len() <= COLUMNS_MAX {
            self.columns.add_with(asked, || Arc::new(column));
        }
    }
}

impl Hour {
    /// Takes over what was kept of the same blocks.
    pub(super) fn add(&mut self, other: &Self) {
        for block in &mut self.blocks {
            let place = (block.slot, block.sibling);
            let Some(known) = other.blocks.iter().find(|known| (known.slot, known.sibling) == place) else { continue };
            for (asked, column) in known.columns.iter() {
                if block.columns.len() < COLUMNS_MAX {
                    block.columns.add_with(asked, || column.clone());
                }
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |block: &Kept| {
            let columns = block.columns.iter().map(|(_, column)| column.bytes() + 40).sum::<usize>();
            ENTRY_BYTES + block.times.bytes() + block.windows.bytes() + columns
        };
        ENTRY_BYTES + self.blocks.iter().map(of).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_in_its_order_and_nothing_beyond_what_can_be_told() {
        let mut few = Few::default();
        let all = [(7, Which::Mean), (0, Which::Last), (7, Which::Min), (300, Which::Max), (1 << 29, Which::Max)];
        all.iter().for_each(|asked| few.add_with(*asked, || *asked));
        few.add_with((7, Which::Min), || unreachable!("there is one"));
        few.add_with((1 << 30, Which::Last), || unreachable!("there is no key for it"));
        let mut ordered = all.to_vec();
        ordered.sort_unstable();
        assert_eq!(
            few.iter().map(|(asked, value)| (asked, *value)).collect::<Vec<_>>(),
            ordered.iter().map(|of| (*of, *of)).collect::<Vec<_>>()
        );
        assert!(all.iter().all(|asked| few.get(*asked) == Some(asked) && few.get_mut(*asked).is_some()));
        assert_eq!((few.get((7, Which::Max)), few.get((1 << 30, Which::Last)), few.len()), (None, None, all.len()));
    }
}
