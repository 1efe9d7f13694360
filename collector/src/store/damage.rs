//! Damage: tables that cannot be read as they were written, what is lost with them, and how the rest goes on.
//!
//! In: what RocksDB says of a table. Out: [`Damage`], with the stretches of keys that are lost once they are looked for.
//! From then on the table's column is compacted no more: a compaction that meets the damage stops all writes, after each
//! start again. The names of damaged tables stand in [`FILE`] beside the tables, because RocksDB compacts as soon as it is
//! open. Tables that retention has dropped are forgotten, and their column is compacted again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::{DB, ReadOptions};

use super::columns::Column;
use super::warm::Warm;
use super::{Store, StoreError, family, gap};

/// Names the damaged tables, a line each: column and table.
pub const FILE: &str = "DAMAGED";
/// Stands for a table that RocksDB does not name.
const UNNAMED: &str = "unnamed";
/// Most damaged tables that are told of one by one.
pub const TABLES_MAX: usize = 1_000;
/// Most lost stretches that are told of one table.
pub const LOST_MAX: usize = 100;

/// Keys that cannot be read: from the first on, up to but without the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The first.
    pub from: Vec<u8>,
    /// Where it can be read again.
    pub to: Vec<u8>,
}

/// A damaged table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Whose.
    pub column: Column,
    /// Its file.
    pub table: String,
    /// What RocksDB says of it.
    pub said: String,
    /// What is lost, once it was looked for.
    pub lost: Option<Vec<Lost>>,
}

/// What is known to be damaged.
#[derive(Debug)]
pub struct Damages {
    file: PathBuf,
    known: Mutex<BTreeMap<(Column, String), Damage>>,
    /// What was read of a table before it was damaged.
    warm: Arc<Warm>,
}

impl Damages {
    /// What an earlier run has found in a store's folder.
    pub(super) fn of(folder: &Path, warm: Arc<Warm>) -> Self {
        let file = folder.join(FILE);
        let text = fs::read_to_string(&file).unwrap_or_default();
        let known = text.lines().take(TABLES_MAX).filter_map(|line| {
            let (column, table) = line.split_once(' ')?;
            let column = Column::ALL.into_iter().find(|known| known.name() == column)?;
            let said = "found by an earlier run".to_owned();
            Some(((column, table.to_owned()), Damage { column, table: table.to_owned(), said, lost: None }))
        });
        Self { file, known: Mutex::new(known.collect()), warm }
    }

    /// Columns that must not be compacted.
    pub(super) fn columns(&self) -> BTreeSet<Column> {
        self.lock().keys().map(|(column, _)| *column).collect()
    }

    /// All of it.
    #[must_use]
    pub fn all(&self) -> Vec<Damage> {
        self.lock().values().cloned().collect()
    }

    /// Takes down what RocksDB says, once for each table, and has the table's column compacted no more. What questions read
    /// before goes, so that all are told alike what is missing.
    pub(super) fn note(&self, db: &DB, said: &str) {
        let table = table_in(said).unwrap_or(UNNAMED);
        let is_known = |known: &BTreeMap<(Column, String), Damage>| {
            known.len() >= TABLES_MAX || known.keys().any(|(_, known)| known == table)
        };
        if is_known(&self.lock()) {
            return;
        }
        for column in columns_of(db, table) {
            tracing::error!(
                column = column.name(),
                table,
                said,
                "a table of the store is damaged: its column is compacted no more; `mainstay status` shows what is lost"
            );
            let damage = Damage { column, table: table.to_owned(), said: said.to_owned(), lost: None };
            self.lock().insert((column, table.to_owned()), damage);
            compact(db, column, false);
        }
        self.write();
        self.warm.forget_all();
    }

    /// Forgets tables that are no longer there, and has columns that have no other compacted again.
    fn forget_gone(&self, db: &DB) {
        let there: BTreeSet<String> =
            db.live_files().into_iter().flatten().map(|file| file.name.trim_start_matches('/').to_owned()).collect();
        let before = self.columns();
        let gone: Vec<_> =
            self.lock().extract_if(.., |(_, table), _| table != UNNAMED && !there.contains(table)).collect();
        if gone.is_empty() {
            return;
        }
        for (column, table) in gone.into_iter().map(|(key, _)| key) {
            tracing::info!(column = column.name(), table, "a damaged table is gone");
        }
        self.write();
        before.difference(&self.columns()).for_each(|column| compact(db, *column, true));
    }

    fn write(&self) {
        let text: String = self.lock().keys().map(|(column, table)| format!("{} {table}\n", column.name())).collect();
        if let Err(error) = replace(&self.file, &text) {
            tracing::error!(%error, file = %self.file.display(), "the damage cannot be written down");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Column, String), Damage>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    if text.is_empty() {
        return fs::remove_file(file);
    }
    let new = file.with_extension("new");
    let mut written = fs::File::create(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    fs::File::open(file.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// The table that RocksDB names in what it says.
fn table_in(said: &str) -> Option<&str> {
    let end = said.rfind(".sst")? + ".sst".len();
    let named = said.get(..end)?;
    Some(named.rsplit('/').next().unwrap_or(named))
        .filter(|table| table.bytes().next().is_some_and(|b| b.is_ascii_digit()))
}

/// The column of a table; all of them where none is named.
fn columns_of(db: &DB, table: &str) -> Vec<Column> {
    if table == UNNAMED {
        return Column::ALL.to_vec();
    }
    let files = db.live_files().unwrap_or_default();
    let file = files.into_iter().find(|file| file.name.trim_start_matches('/') == table);
    let column = |file: rocksdb::LiveFile| Column::ALL.into_iter().find(|c| c.name() == file.column_family_name);
    file.and_then(column).into_iter().collect()
}

fn compact(db: &DB, column: Column, is_on: bool) {
    let value = if is_on { "false" } else { "true" };
    if let Err(error) = db.set_options_cf(family(db, column), &[("disable_auto_compactions", value)]) {
        tracing::warn!(column = column.name(), %error, "compaction cannot be turned on or off before the next start");
    }
}

impl Store {
    /// What is damaged.
    #[must_use]
    pub fn damages(&self) -> &Damages {
        &self.damages
    }

    /// What an error of RocksDB's means here. Damage is taken down.
    pub(super) fn failed(&self, error: rocksdb::Error) -> StoreError {
        let error = StoreError::from(error);
        if let StoreError::Damaged(said) = &error {
            self.damages.note(&self.db, said);
        }
        error
    }

    /// Looks for what is lost with the damaged tables that were found since this was asked last, which reads them whole, and
    /// forgets those that are gone. Gives what it has found.
    ///
    /// # Errors
    /// If the store cannot be read otherwise.
    pub fn survey(&self) -> Result<Vec<Damage>, StoreError> {
        self.damages.forget_gone(&self.db);
        let waiting: Vec<Damage> = self.damages.all().into_iter().filter(|damage| damage.lost.is_none()).collect();
        let mut found = Vec::new();
        for mut damage in waiting {
            let lost = self.lost_in(&damage)?;
            damage.lost = Some(lost);
            if let Some(known) = self.damages.lock().get_mut(&(damage.column, damage.table.clone())) {
                known.lost.clone_from(&damage.lost);
            }
            found.push(damage);
        }
        Ok(found)
    }

    fn lost_in(&self, damage: &Damage) -> Result<Vec<Lost>, StoreError> {
        let files = self.db.live_files()?;
        let Some(file) = files.into_iter().find(|file| file.name.trim_start_matches('/') == damage.table) else {
            return Ok(Vec::new());
        };
        let (from, to) = (file.start_key.unwrap_or_default(), file.end_key.map(|key| [key.as_slice(), &[0]].concat()));
        let mut lost = Vec::new();
        let each = |gap: Lost| {
            if lost.len() < LOST_MAX {
                lost.push(gap);
            }
        };
        walk(&self.db, damage.column, (&from, to.as_deref()), &mut |_, _| Ok(()), &mut { each })?;
        Ok(lost)
    }
}

/// Takes an entry.
pub(super) type Take<'t> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 't;

/// Hands every entry that can be read, of keys from the first up to the second, to `take`, and the stretches between them
/// that cannot to `lost`.
///
/// # Errors
/// What `take` returned, or that the store cannot be read for another reason.
pub(super) fn walk(
    db: &DB,
    column: Column,
    (from, to): (&[u8], Option<&[u8]>),
    take: &mut Take<'_>,
    lost: &mut dyn FnMut(Lost),
) -> Result<(), StoreError> {
    let mut at = from.to_vec();
    loop {
        let mut reading = ReadOptions::default();
        reading.fill_cache(false);
        let mut iter = db.raw_iterator_cf_opt(family(db, column), reading);
        iter.seek(&at);
        while let Some((key, value)) = iter.item() {
            if to.is_some_and(|to| key >= to) {
                return Ok(());
            }
            take(key, value)?;
            at.clear();
            at.extend(key);
            at.push(0);
            iter.next();
        }
        match iter.status().map_err(StoreError::from) {
            Ok(()) => return Ok(()),
            Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let end = gap::after_in(db, column, &at).filter(|end| to.is_none_or(|to| end.as_slice() < to));
        let until = end.as_deref().or(to).unwrap_or(&[u8::MAX]).to_vec();
        lost(Lost { from: std::mem::take(&mut at), to: until });
        match end {
            Some(end) => at = end,
            None => return Ok(()),
        }
    }
}

/// The last key before `end` that can be read, where going backwards from `end` fails. That is not always one before the
/// gap: RocksDB looks at the entry before each, so that the first behind a gap cannot be reached from behind.
///
/// # Errors
/// If the store cannot be read for another reason.
pub(super) fn last_before(db: &DB, column: Column, end: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(found) = gap::before_in(db, column, end) else { return Ok(None) };
    let mut last = None;
    let mut take = |key: &[u8], _: &[u8]| {
        last = Some(key.to_vec());
        Ok(())
    };
    walk(db, column, (&[found.as_slice(), &[0]].concat(), Some(end)), &mut take, &mut |_| {})?;
    if last.is_none() {
        let mut iter = db.raw_iterator_cf(family(db, column));
        iter.seek_for_prev(&found);
        last = iter.key().map(<[u8]>::to_vec);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_is_meant_is_found_in_what_rocksdb_says() {
        let said = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /a/b.sst/db/000012.sst offset 0 size 4081";
        assert_eq!(table_in(said), Some("000012.sst"));
        assert_eq!(
            table_in("Corruption: Bad table magic number: expected 1, found 2 in db/000007.sst"),
            Some("000007.sst")
        );
        assert_eq!(table_in("Corruption: bad entry in block"), None);
    }
}
