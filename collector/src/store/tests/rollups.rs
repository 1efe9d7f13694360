//! Rollups in a real store: written with the hour, again with it, never made of less, and kept as long as they should be.

use std::time::Duration;

use mainstay_fleet::rollup::{Tally, Tier, roll, values_at};

use super::super::keys::RollupKey;
use super::super::retention::Retention;
use super::super::rollup::{number, stretch_of};
use super::*;

const HOUR_MS: i64 = 3_600_000;

impl World {
    /// What a tier has of one cell of its rows.
    fn rolled(&self, tier: Tier, cell: usize, which: Which) -> BTreeMap<i64, u64> {
        let view = self.store.view();
        let mut values = BTreeMap::new();
        let read = view.reader().host(HOST, Some(tier), ALL, &mut |piece| {
            if piece.tier != Some(tier) {
                return Ok(());
            }
            piece.each_value(cell, which, &mut |at, value| {
                assert_eq!(values.insert(at, value.to_bits()), None, "each stretch is there once");
            })
        });
        read.unwrap();
        values
    }

    /// Both tiers have what rows come to, and nothing else.
    fn is_rolled_up_from(&self, rows: &[Row]) {
        for tier in Tier::ALL {
            // Hours are rolled up one by one.
            let hours = rows.chunk_by(|a, b| a.at_ms / HOUR_MS == b.at_ms / HOUR_MS);
            let expected: Vec<Row> = hours.flat_map(|rows| roll(rows, tier)).collect();
            for series in [0, 73, 100, 299] {
                for cell in [values_at(series), Tally::at(series)] {
                    let is_counter = cell == values_at(series) && !self.schema.gauge[series];
                    let whiches = [Which::Last, Which::Min, Which::Max, Which::Mean];
                    for which in whiches.into_iter().take(if is_counter { 1 } else { 4 }) {
                        assert_eq!(
                            self.rolled(tier, cell, which),
                            of(&expected, cell, which),
                            "{tier:?} {series} {which:?}"
                        );
                    }
                }
            }
        }
    }

    /// Everything that is stored of series.
    fn all(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let series = family(self.store.db(), Column::Series);
        let all = self.store.db().iterator_cf(series, rocksdb::IteratorMode::Start);
        all.map(|item| item.map(|(key, value)| (key.into_vec(), value.into_vec())).unwrap()).collect()
    }

    /// The same folder, as a collector that starts finds it.
    fn again(self) -> Self {
        let Self { store, schema, folder } = self;
        drop(store);
        Self { store: Store::open(folder.path(), 32 << 20, 0).unwrap(), schema, folder }
    }
}

fn later(rows: &[Row], hours: i64) -> Vec<Row> {
    rows.iter().map(|row| Row { at_ms: row.at_ms + hours * HOUR_MS, ..row.clone() }).collect()
}

#[tokio::test]
async fn an_hour_is_rolled_up_when_it_is_joined_and_again_when_it_is_joined_again() {
    let world = World::new();
    let mut rows = world.rows();
    let next = later(&rows, 1);
    // The first rows are late.
    world.put(HOST, &rows[40..]).await;
    world.seal(HOST, u32::MAX).await;
    world.is_rolled_up_from(&[]);
    world.join(HOST).await;
    world.is_rolled_up_from(&rows[40..]);
    world.put(HOST, &next).await;
    world.seal(HOST, u32::MAX).await;
    assert!(world.join_hour(HOST, HOUR + 1).await);
    world.is_rolled_up_from(&[&rows[40..], &next[..]].concat());
    world.put(HOST, &rows[..40]).await;
    world.seal(HOST, u32::MAX).await;
    assert!(world.join(HOST).await);
    rows.extend(next);
    world.is_rolled_up_from(&rows);
    assert!(!world.join(HOST).await, "there is nothing left to do");
}

#[tokio::test]
async fn what_is_there_no_more_does_not_undo_what_was_rolled_up() {
    let world = World::new();
    let rows = world.rows();
    world.put(HOST, &rows).await;
    world.seal(HOST, u32::MAX).await;
    world.join(HOST).await;
    // A part is damaged, and then a row comes again.
    let key = PieceKey { hour: HOUR, piece: 4, host: HOST, slot: PieceKey::WHOLE, sibling: 0 };
    let mut bytes = world.store.get_raw(&key).unwrap().unwrap();
    bytes[9] ^= 1;
    let mut batch = Batch::default();
    batch.put_raw(&key, bytes);
    world.store.commit(batch).await.unwrap();
    for _ in 0..2 {
        world.put(HOST, &rows[9..10]).await;
        world.seal(HOST, u32::MAX).await;
        assert!(world.join(HOST).await);
        world.is_rolled_up_from(&rows);
        // The second time the hour itself is too old.
        let retention = Retention { series: Duration::from_secs(3_600), ..Retention::default() };
        world.store.retain(&[], retention, WALL + 3 * HOUR_MS).await.unwrap();
        assert_eq!(world.pieces(), []);
    }
}

#[tokio::test]
async fn hours_that_were_stored_without_are_found_and_rolled_up() {
    let world = World::new();
    let rows = world.rows();
    world.put(HOST, &rows).await;
    world.seal(HOST, u32::MAX).await;
    world.join(HOST).await;
    let with = world.all();
    let mut batch = Batch::default();
    batch.delete_range(Column::Series, vec![RollupKey::ORDINAL], vec![RollupKey::ORDINAL + 1]);
    world.store.commit(batch).await.unwrap();
    world.is_rolled_up_from(&[]);
    world.store.find_unjoined(HOUR - 5..HOUR + 1).unwrap();
    assert_eq!(world.store.unjoined.take(HOUR + 1, 10), [(HOUR, HOST)]);
    assert!(world.join(HOST).await);
    assert_eq!(world.all(), with);
    world.store.find_unjoined(HOUR - 5..HOUR + 1).unwrap();
    assert_eq!(world.store.unjoined.before(u32::MAX), 0);
}

/// Seals and joins three hours as a collector does. Before batch `lost` is committed the collector dies, and starts anew;
/// says whether it did.
async fn three_hours(world: World, lost: usize) -> (World, bool) {
    let rows = world.rows();
    for hour in 0..3 {
        world.put(HOST, &later(&rows, hour)).await;
    }
    let (mut world, mut batches, mut has_died) = (world, 0, false);
    loop {
        let mut batch = Batch::default();
        world.store.seal_except(&mut batch, HOST, u32::MAX).unwrap();
        if batches != lost {
            world.store.commit(batch).await.unwrap();
        }
        batches += 1;
        while batches != lost + 1 || has_died {
            let Some((hour, host)) = world.store.unjoined.take(u32::MAX, 1).pop() else { return (world, has_died) };
            let mut batch = Batch::default();
            world.store.join_hour(&mut batch, host, hour).unwrap();
            if batches != lost {
                world.store.commit(batch).await.unwrap();
            }
            batches += 1;
        }
        world = world.again();
        world.store.find_unjoined(HOUR..HOUR + 3).unwrap();
        has_died = true;
    }
}

#[tokio::test]
async fn a_collector_that_dies_while_it_seals_or_rolls_up_ends_where_another_does() {
    let (world, has_died) = three_hours(World::new(), usize::MAX - 1).await;
    assert!(!has_died);
    let rows = world.rows();
    world.is_rolled_up_from(&[rows.clone(), later(&rows, 1), later(&rows, 2)].concat());
    let all = world.all();
    for lost in 0..4 {
        let (world, has_died) = three_hours(World::new(), lost).await;
        assert!(has_died, "batch {lost}");
        assert!(world.all() == all, "batch {lost} was lost");
        assert_eq!(world.open_rows(), 0);
    }
}

#[tokio::test]
async fn each_tier_is_kept_as_long_as_it_should_be_and_the_disk_has_its_room_back() {
    const HOURS: u32 = 72;
    let world = World::new();
    let rows = world.rows();
    let series = family(world.store.db(), Column::Series);
    // Small files, so that a few megabytes are many of them.
    world.store.db().set_options_cf(series, &[("target_file_size_base", "65536")]).unwrap();
    for hour in 0..HOURS {
        world.put(HOST, &later(&rows, i64::from(hour))).await;
        world.seal(HOST, u32::MAX).await;
        world.join_hour(HOST, HOUR + hour).await;
    }
    world.store.db().flush_cf(series).unwrap();
    world.store.db().compact_range_cf(series, None::<&[u8]>, None::<&[u8]>);
    let bytes = || world.store.db().property_int_value_cf(series, "rocksdb.total-sst-files-size").unwrap().unwrap();
    let hours = |n: u32| Duration::from_secs(u64::from(n) * 3_600);
    let keep = |series, five, hour| Retention {
        series: hours(series),
        series_5m: hours(five),
        series_1h: hours(hour),
        ..Retention::default()
    };
    let now = WALL + i64::from(HOURS) * HOUR_MS;
    let first = |tier: Tier| {
        let prefix = [RollupKey::ORDINAL, number(tier)];
        world.store.scan::<RollupKey>(&prefix, &prefix).next().map(|item| item.unwrap().0.stretch)
    };
    let mut before = bytes();
    let full = before;
    let [five, day] = Tier::ALL.map(|tier| stretch_of(tier, HOUR));
    // (kept, where rows, five minutes and hours begin, the share of all bytes that it gives back at least)
    for (retention, rows, tiers, share) in [
        (keep(24, 1_000, 1_000), Some(HOUR + 48), [Some(five), Some(day)], 0.45),
        (keep(24, 24, 1_000), Some(HOUR + 48), [Some(five + 48), Some(day)], 0.02),
        (keep(24, 24, 24), Some(HOUR + 48), [Some(five + 48), Some(stretch_of(Tier::Hour, HOUR + 48))], 0.0),
    ] {
        world.store.retain(&[], retention, now).await.unwrap();
        assert_eq!(world.pieces().first().map(|key| key.hour), rows, "{retention:?}");
        assert_eq!(Tier::ALL.map(first), tiers, "{retention:?}");
        // No compaction: files that lie wholly before the limit are gone.
        let gone = before - bytes();
        assert!(gone as f64 >= full as f64 * share, "{gone} bytes of {full} came back: {retention:?}");
        before = bytes();
    }
    world.store.retain(&[], keep(1, 1, 1), now + 30 * 24 * HOUR_MS).await.unwrap();
    assert_eq!((world.pieces().len(), Tier::ALL.map(first)), (0, [None, None]));
    world.store.db().flush_cf(series).unwrap();
    world.store.db().compact_range_cf(series, None::<&[u8]>, None::<&[u8]>);
    assert!(bytes() < full / 50, "{} bytes are left of {full}: the names", bytes());
}

#[tokio::test]
async fn the_finest_that_covers_a_range_is_taken() {
    let world = World::new();
    let row = world.rows()[0].clone();
    let now = WALL + 100 * HOUR_MS;
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let keep = |series, five| Retention { series: hours(series), series_5m: hours(five), ..Retention::default() };
    let finest = |hour: i64, retention: &Retention| {
        world.store.view().finest(WALL + hour * HOUR_MS, retention.first_hours(now), now)
    };
    let long = keep(1_000, 1_000);
    assert_eq!(finest(0, &long), None, "there is nothing");
    for hour in 2..100 {
        world.put(HOST, &later(std::slice::from_ref(&row), hour)).await;
    }
    world.seal(HOST, u32::MAX).await;
    assert_eq!(finest(0, &long), None, "nothing is rolled up");
    for hour in 0..99 {
        world.join_hour(HOST, HOUR + hour).await;
    }
    for hour in [-9_000, 0, 2, 50, 100] {
        assert_eq!(finest(hour, &long), None, "rows are all there ever were");
    }
    for (retention, expected) in [
        (keep(40, 1_000), [Some(Tier::Minutes5), Some(Tier::Minutes5), None]),
        (keep(20, 40), [Some(Tier::Hour), Some(Tier::Hour), Some(Tier::Minutes5)]),
    ] {
        assert_eq!([-9_000, 50, 65].map(|hour| finest(hour, &retention)), expected, "what will go is not counted on");
        world.store.retain(&[], retention, now).await.unwrap();
        assert_eq!([-9_000, 50, 65].map(|hour| finest(hour, &retention)), expected);
        assert_eq!([-9_000, 50, 65].map(|hour| finest(hour, &long)), expected, "a longer age brings nothing back");
    }
}

#[tokio::test]
async fn on_the_day_on_which_all_begins_finer_tiers_hide_nothing_of_coarser_ones() {
    let world = World::new();
    let row = world.rows()[0].clone();
    let now = WALL + 100 * HOUR_MS;
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    for hour in 2..100 {
        world.put(HOST, &later(std::slice::from_ref(&row), hour)).await;
    }
    world.seal(HOST, u32::MAX).await;
    for hour in 0..99 {
        world.join_hour(HOST, HOUR + hour).await;
    }
    // Four hours after the beginning, on the same day.
    let retention = Retention { series: hours(20), series_5m: hours(94), ..Retention::default() };
    let finest = |hour: i64| world.store.view().finest(WALL + hour * HOUR_MS, retention.first_hours(now), now);
    let expected = [Some(Tier::Hour), Some(Tier::Hour), Some(Tier::Hour), Some(Tier::Minutes5), None];
    assert_eq!([-9_000, 2, 5, 6, 85].map(finest), expected, "what will go is not counted on");
    world.store.retain(&[], retention, now).await.unwrap();
    assert_eq!([-9_000, 2, 5, 6, 85].map(finest), expected);
}
