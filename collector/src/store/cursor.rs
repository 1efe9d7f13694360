//! Cursors: each moves through the keys of one tier, stretch and piece, and only ever moves on, so that what lies behind one
//! another is read in one go.

use std::collections::BTreeMap;

use mainstay_fleet::rollup::Tier;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use super::columns::Column;
use super::view::View;
use super::{StoreError, family, gap};

/// Most cursors of a reader: each holds a block of RocksDB's. Beyond it all are closed and opened anew.
const CURSORS_MAX: usize = 512;
/// Keys that a cursor passes one by one before it seeks.
const STEPS_MAX: usize = 8;
/// Which cursor: the tier, a stretch of it (an hour, where there is no tier), and the piece.
pub(super) type Where = (Option<Tier>, u32, u8);

/// Cursors by where they are.
#[derive(Default)]
pub(super) struct Pieces<'v> {
    cursors: BTreeMap<Where, Cursor<'v>>,
}

impl<'v> Pieces<'v> {
    pub(super) fn cursor(&mut self, view: &'v View<'v>, place: Where) -> &mut Cursor<'v> {
        if self.cursors.len() >= CURSORS_MAX && !self.cursors.contains_key(&place) {
            self.cursors.clear();
        }
        self.cursors.entry(place).or_insert_with(|| Cursor::new(view, Column::Series))
    }
}

/// Moves through the keys of a column family.
pub(super) struct Cursor<'v> {
    view: &'v View<'v>,
    column: Column,
    iter: DBRawIteratorWithThreadMode<'v, DB>,
    /// There is no key from here to where it stands.
    from: Vec<u8>,
    is_placed: bool,
    /// Keys that could not be read when they were asked for last: from the first up to the second.
    gap: Option<(Vec<u8>, Vec<u8>)>,
}

/// A key with its value.
pub(super) type Entry<'a> = (&'a [u8], &'a [u8]);

impl<'v> Cursor<'v> {
    pub(super) fn new(view: &'v View<'v>, column: Column) -> Self {
        let iter = view.snapshot.raw_iterator_cf_opt(family(view.store.db(), column), ReadOptions::default());
        Self { view, column, iter, from: Vec::new(), is_placed: false, gap: None }
    }

    /// Whether what lies from `from` on is lost in part, as far as that was met.
    pub(super) fn is_lost(&self, from: &[u8]) -> bool {
        self.gap.as_ref().is_some_and(|(begin, end)| begin.as_slice() <= from && from < end.as_slice())
    }

    /// Stands at the first key from `from` on that can be read.
    fn pass_gap(&mut self, from: &[u8], error: rocksdb::Error) -> Result<(), StoreError> {
        let mut failed = self.view.store.failed(error);
        let mut begin = match &self.gap {
            Some((_, end)) if self.is_lost(from) => end.clone(),
            _ => from.to_vec(),
        };
        loop {
            let StoreError::Damaged(_) = failed else { return Err(failed) };
            // The damage may lie before, where it was met on the way.
            *self = Self {
                gap: self.gap.take(),
                from: std::mem::take(&mut self.from),
                is_placed: true,
                ..Self::new(self.view, self.column)
            };
            self.iter.seek(&begin);
            let Err(error) = self.iter.status() else { return Ok(()) };
            failed = self.view.store.failed(error);
            let end = gap::after_in(self.view.store.db(), self.column, &begin).unwrap_or_else(|| vec![u8::MAX]);
            self.gap = Some((from.to_vec(), end.clone()));
            begin = end;
        }
    }

    /// The first key from `from` on, if it begins with `prefix`, with its value.
    pub(super) fn find(&mut self, from: &[u8], prefix: &[u8]) -> Result<Option<Entry<'_>>, StoreError> {
        let is_ahead = self.is_placed && self.from.as_slice() <= from;
        let mut steps = 0;
        while is_ahead && steps < STEPS_MAX && self.iter.key().is_some_and(|key| key < from) {
            self.iter.next();
            steps += 1;
        }
        if !is_ahead || self.iter.key().is_some_and(|key| key < from) {
            self.iter.seek(from);
        }
        self.is_placed = true;
        self.from.clear();
        self.from.extend(from);
        if let Err(error) = self.iter.status() {
            self.pass_gap(from, error)?;
        }
        Ok(self.iter.item().filter(|(key, _)| key.starts_with(prefix)))
    }

    /// Moves behind the key that was found; `from` is where it goes on.
    pub(super) fn pass(&mut self, from: &mut Vec<u8>) {
        if let Some(key) = self.iter.key() {
            self.from.clear();
            self.from.extend(key);
            self.from.push(0);
            self.iter.next();
        }
        from.clone_from(&self.from);
    }
}
