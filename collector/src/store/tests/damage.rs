//! Tables with flipped bits: what is lost is named, the rest is served, and nothing stops.

use std::fs;
use std::path::PathBuf;

use rocksdb::IteratorMode;

use super::super::damage::{FILE, Lost};
use super::super::lost::{Whose, told};
use super::super::scrub::{Place, Scrubbed};
use super::*;

pub(super) const HOSTS: u32 = 40;

/// The largest table of a column.
pub(super) fn table(store: &Store, column: Column) -> PathBuf {
    let files = store.db().live_files().unwrap();
    let of_column = files.into_iter().filter(|file| file.column_family_name == column.name());
    let largest = of_column.max_by_key(|file| file.size).unwrap();
    store.path().join(largest.name.trim_start_matches('/'))
}

/// Turns bits over, as a failing disk does.
fn flip(file: &std::path::Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = at(bytes.len());
    bytes[at..at + 3].iter_mut().for_each(|byte| *byte ^= 0x10);
    fs::write(file, bytes).unwrap();
}

impl World {
    fn flush(&self, column: Column) {
        self.store.db().flush_cf(family(self.store.db(), column)).unwrap();
    }

    /// Closes the store, does something to its files, and opens it again.
    fn reopened(self, meanwhile: impl FnOnce()) -> Self {
        let Self { store, schema, folder } = self;
        let path = store.path().to_owned();
        drop(store);
        meanwhile();
        Self { store: Store::open(&path, 32 << 20, 0).unwrap(), schema, folder }
    }

    /// An hour of every host, joined and in one table.
    pub(super) async fn with_hours() -> (Self, Vec<Row>) {
        let world = Self::new();
        let rows = world.rows();
        for host in 1..=HOSTS {
            world.put(host, &rows).await;
            world.seal(host, 0).await;
            assert!(world.join(host).await);
        }
        Column::ALL.iter().for_each(|column| world.flush(*column));
        // Else tables might go between being looked for and being damaged.
        world.store.give_back();
        (world, rows)
    }

    /// Hosts whose series cannot be read whole, with how many of their values are wrong.
    fn lost_hosts(&self, rows: &[Row], at: usize) -> BTreeMap<u32, usize> {
        let which = Which::Last;
        let expected = of(rows, at, which);
        let mut lost = BTreeMap::new();
        for host in 1..=HOSTS {
            let (values, _, damaged) = self.values(host, at, which, ALL);
            let wrong = values.iter().filter(|(at, value)| expected.get(at) != Some(value)).count();
            assert_eq!(wrong, 0, "what is served is what was written");
            if values.len() < expected.len() {
                assert!(
                    !damaged.is_empty(),
                    "host {host} has {} of {} values and nobody says so",
                    values.len(),
                    expected.len()
                );
                lost.insert(host, expected.len() - values.len());
            }
        }
        lost
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_a_stretch_that_is_named_and_the_rest_is_served() {
    let (world, rows) = World::with_hours().await;
    let file = table(&world.store, Column::Series);
    let world = world.reopened(|| flip(&file, |length| length / 2));
    let lost: BTreeSet<u32> = (0..SERIES).step_by(12).flat_map(|at| world.lost_hosts(&rows, at).into_keys()).collect();
    assert!(!lost.is_empty() && lost.len() <= HOSTS as usize / 2, "{lost:?}");
    // It is known, and what is lost is found when it is looked for.
    let found = world.store.survey().unwrap();
    let [damage] = &found[..] else { panic!("{found:?}") };
    assert_eq!(damage.column, Column::Series);
    assert!(file.ends_with(&damage.table) && damage.said.contains("checksum"), "{damage:?}");
    let stretches = damage.lost.as_deref().unwrap();
    let [stretch] = stretches else { panic!("{stretches:?}") };
    let [told] = &told(Column::Series, stretch)[..] else { panic!("{stretch:?}") };
    let hour_ms = 3_600_000;
    assert_eq!(told.span_ms, Some((i64::from(HOUR) * hour_ms, i64::from(HOUR + 1) * hour_ms)));
    if let Whose::Numbers(first, last) = told.whose {
        assert!(lost.iter().all(|host| (first..=last).contains(host)), "{lost:?} of {first} to {last}");
        assert!(last - first <= HOSTS / 2, "{first} to {last}");
    }
    // Reading backwards and forwards passes it.
    let keys = world.pieces();
    let back = world.store.scan_back::<PieceKey>(&[PieceKey::ORDINAL]).map(|item| item.unwrap().0);
    assert!(back.eq(keys.iter().rev().cloned()), "backwards it is the same");
    let is_lost = |key: &PieceKey| {
        let key = key.encode();
        stretches.iter().any(|Lost { from, to }| *from <= key && key < *to)
    };
    assert!(keys.iter().all(|key| !is_lost(key)), "nothing that is told to be lost can be read");
    // Hosts bring more, slots are sealed, hours are joined again.
    let late = Row { at_ms: WALL + 5_000, ..rows[0].clone() };
    for host in 1..=HOSTS {
        world.put(host, std::slice::from_ref(&late)).await;
        world.seal(host, 0).await;
        world.join(host).await;
    }
    assert!(world.values(*lost.first().unwrap(), 0, Which::Last, ALL).0.contains_key(&late.at_ms));
}

#[tokio::test]
async fn a_compaction_that_meets_damage_stops_the_store_once_and_not_after_each_start() {
    let (world, rows) = World::with_hours().await;
    let file = table(&world.store, Column::Series);
    let world = world.reopened(|| flip(&file, |length| length / 2));
    // Over what is there, so that it has to be read.
    world.put(1, &rows).await;
    world.seal(1, 0).await;
    world.flush(Column::Series);
    world.store.db().compact_range_cf(family(world.store.db(), Column::Series), None::<&[u8]>, None::<&[u8]>);
    let mut batch = Batch::default();
    batch.put_raw(&OpenRowKey { host: 1, slot: 1, at_ms: 1 }, vec![1]);
    let refused = world.store.commit(batch).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Damaged(said) if said.contains(".sst")), "{refused}");
    assert!(world.store.is_stuck(), "the program ends, to open it anew");
    let noted = fs::read_to_string(world.store.path().join(FILE)).unwrap();
    assert_eq!(noted, format!("series {}\n", file.file_name().unwrap().to_str().unwrap()));

    let world = world.reopened(|| {});
    // More tables than it takes to begin a compaction.
    for n in 0..8 {
        world.put(1, &rows[n..=n]).await;
        world.seal(1, 0).await;
        world.flush(Column::Series);
    }
    world.store.give_back();
    world.put(2, &rows).await;
    assert!(!world.store.is_stuck());
    assert!(world.store.survey().unwrap()[0].lost.as_ref().is_some_and(|lost| !lost.is_empty()));

    // When the table is dropped, as retention drops those of old hours, all is well again.
    let series = family(world.store.db(), Column::Series);
    world.store.db().delete_file_in_range_cf(series, &[0][..], &[0xff][..]).unwrap();
    world.store.survey().unwrap();
    assert_eq!(world.store.damages().all(), [], "the table is gone");
    assert!(!world.store.path().join(FILE).exists());
    world.store.give_back();
    world.put(3, &rows).await;
}

#[tokio::test]
async fn reading_it_through_finds_what_nobody_has_asked_for() {
    let through = |store: &Store, step: u64| {
        let (mut place, mut all, mut steps) = (Some(Place::first()), Scrubbed::default(), 0);
        while let Some(from) = place {
            let (read, next) = store.scrub(from, step).unwrap();
            assert!(read.bytes < step + (64 << 10), "{read:?}");
            (all.entries, all.bytes, place) = (all.entries + read.entries, all.bytes + read.bytes, next);
            steps += 1;
        }
        (all, steps)
    };
    let (world, _) = World::with_hours().await;
    let file = table(&world.store, Column::Series);
    let (whole, steps) = through(&world.store, 100_000);
    let of =
        |column: Column| world.store.db().iterator_cf(family(world.store.db(), column), IteratorMode::Start).count();
    assert_eq!(whole.entries, Column::ALL.into_iter().map(of).sum::<usize>() as u64, "all of it, and nothing twice");
    assert!(steps > 10, "{steps} steps");
    assert_eq!(through(&world.store, u64::MAX >> 1), (whole, 1));
    assert_eq!(world.store.damages().all(), []);

    let world = world.reopened(|| flip(&file, |length| length / 2));
    assert_eq!(world.store.damages().all(), [], "nobody has read it");
    let (left, _) = through(&world.store, 100_000);
    let found = world.store.damages().all();
    let [damage] = &found[..] else { panic!("{found:?}") };
    assert!(damage.column == Column::Series && file.ends_with(&damage.table), "{damage:?}");
    assert!(left.bytes < whole.bytes && left.bytes > whole.bytes / 4 * 3, "{left:?} of {whole:?}");
    assert_eq!(through(&world.store, u64::MAX >> 1), (left, 1), "and passes it");
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_names_the_file() {
    for (name, at) in [("the footer", 20), ("the index", 300)] {
        let (world, _) = World::with_hours().await;
        let file = table(&world.store, Column::Series);
        let World { store, folder, .. } = world;
        drop(store);
        flip(&file, |length| length - at);
        let refused = Store::open(folder.path(), 32 << 20, 0).unwrap_err();
        let table = file.file_name().unwrap().to_str().unwrap();
        assert!(matches!(&refused, StoreError::Damaged(said) if said.contains(table)), "{name}: {refused}");
    }
}
