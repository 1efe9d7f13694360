//! Series in a real store: sealed, joined, read by parts, damaged, and as version 1 left them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey};
use mainstay_fleet::block::{Row, Which};

use super::keys::{BlockKey, OpenRowKey, PieceKey, RollupKey};
use super::read::Read;
use super::schema::Schema;
use super::series::{SLOT_MS, slot_of};
use super::*;

#[path = "tests/damage.rs"]
mod damage;
#[path = "tests/rollups.rs"]
mod rollups;
#[path = "../../../bench/shapes.rs"]
mod shapes;
#[path = "tests/thin.rs"]
mod thin;
#[path = "tests/warm.rs"]
mod warm;
#[path = "tests/warm_gone.rs"]
mod warm_gone;

/// The beginning of an hour.
const WALL: i64 = 1_800_000_000_000;
const HOUR: u32 = 500_000;
const SERIES: usize = 300;
const HOST: u32 = 7;

struct World {
    store: Store,
    schema: Arc<Schema>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 32 << 20, 0).unwrap();
        let described = shapes::describe(SERIES);
        let all: BTreeMap<_, _> = described.keys.into_iter().zip(described.gauge).collect();
        Self { store, schema: Arc::new(Schema::of(&all)), folder }
    }

    /// An hour of rows every ten seconds.
    fn rows(&self) -> Vec<Row> {
        let mut shapes = shapes::Shapes::of(1, SERIES);
        let row = |n: i64| Row {
            at_ms: WALL + n * 10_000,
            window_ms: 10_000,
            samples: 10,
            cells: shapes.summary(10, &self.schema.gauge).into_iter().map(Some).collect(),
        };
        (0..360).map(row).collect()
    }

    async fn put(&self, host: u32, rows: &[Row]) {
        let mut batch = Batch::default();
        self.store.put_schema(&mut batch, &self.schema, 0).unwrap();
        rows.iter().for_each(|row| self.store.put_row(&mut batch, host, &self.schema, row));
        self.store.commit(batch).await.unwrap();
    }

    async fn seal(&self, host: u32, open: u32) {
        let mut batch = Batch::default();
        self.store.seal_except(&mut batch, host, open).unwrap();
        self.store.commit(batch).await.unwrap();
    }

    async fn join(&self, host: u32) -> bool {
        self.join_hour(host, HOUR).await
    }

    async fn join_hour(&self, host: u32, hour: u32) -> bool {
        let mut batch = Batch::default();
        let joined = self.store.join_hour(&mut batch, host, hour).unwrap();
        self.store.commit(batch).await.unwrap();
        joined
    }

    /// All values of a series in a range, with what was read and what was damaged.
    fn values(&self, host: u32, at: usize, which: Which, span: (i64, i64)) -> (BTreeMap<i64, u64>, Read, Vec<String>) {
        let view = self.store.view();
        let mut reader = view.reader();
        let mut values = BTreeMap::new();
        let read = reader.host(host, None, span, &mut |piece| {
            piece.each_value(at, which, &mut |at, value| {
                values.insert(at, value.to_bits());
            })
        });
        read.unwrap();
        let damaged = reader.damaged();
        (values, reader.read(), damaged)
    }

    fn pieces(&self) -> Vec<PieceKey> {
        self.store.scan::<PieceKey>(&[PieceKey::ORDINAL], &[PieceKey::ORDINAL]).map(|item| item.unwrap().0).collect()
    }

    fn open_rows(&self) -> usize {
        self.store.scan::<OpenRowKey>(&OpenRowKey::all(), &OpenRowKey::all()).count()
    }
}

fn of(rows: &[Row], at: usize, which: Which) -> BTreeMap<i64, u64> {
    let value = |point: Point| match (point, which) {
        (Point::Counter(value), _) | (Point::Gauge { last: value, .. }, Which::Last) => value,
        (Point::Gauge { min, .. }, Which::Min) => min,
        (Point::Gauge { max, .. }, Which::Max) => max,
        (Point::Gauge { mean, .. }, Which::Mean) => mean,
    };
    rows.iter().filter_map(|row| Some((row.at_ms, value(row.cells[at]?).to_bits()))).collect()
}

const ALL: (i64, i64) = (0, i64::MAX);

#[tokio::test]
async fn what_is_open_sealed_or_joined_reads_the_same() {
    let world = World::new();
    let rows = world.rows();
    let check = |stage: &str, rows: &[Row]| {
        for (at, which) in [(0, Which::Mean), (0, Which::Min), (73, Which::Last), (299, Which::Last), (160, Which::Max)]
        {
            let which = if world.schema.gauge[at] { which } else { Which::Last };
            let (values, _, damaged) = world.values(HOST, at, which, ALL);
            assert!(values == of(rows, at, which) && damaged.is_empty(), "{stage}: series {at}: {damaged:?}");
        }
    };
    world.put(HOST, &rows[..180]).await;
    check("open", &rows[..180]);
    world.seal(HOST, slot_of(rows[179].at_ms)).await;
    assert_eq!(world.open_rows(), 60, "the slot of the last row stays open");
    check("two slots of three are sealed", &rows[..180]);
    // A row that is late, and one that comes again.
    world.put(HOST, &rows[180..]).await;
    world.put(HOST, &rows[3..4]).await;
    world.seal(HOST, u32::MAX).await;
    assert_eq!(world.open_rows(), 0);
    check("sealed", &rows);
    let slots: BTreeSet<u8> = world.pieces().iter().map(|key| key.slot).collect();
    assert_eq!(slots, (0..6).collect());
    assert!(world.join(HOST).await);
    check("joined", &rows);
    assert!(world.pieces().iter().all(|key| key.slot == PieceKey::WHOLE && key.sibling == 0), "{:?}", world.pieces());
    assert!(!world.join(HOST).await, "there is nothing left to join");
    world.put(HOST, &rows[9..10]).await;
    world.seal(HOST, u32::MAX).await;
    check("a late row beside the joined hour", &rows);
    assert!(world.join(HOST).await);
    check("joined again", &rows);
    assert!(world.pieces().iter().all(|key| key.slot == PieceKey::WHOLE && key.sibling == 0), "{:?}", world.pieces());
}

#[tokio::test]
async fn one_series_of_many_hosts_reads_one_part_of_each_and_nothing_of_what_is_not_asked() {
    let world = World::new();
    let rows = world.rows();
    for host in [3, 4, 5, 900] {
        world.put(host, &rows).await;
        world.seal(host, u32::MAX).await;
        world.join(host).await;
    }
    let view = world.store.view();
    let mut reader = view.reader();
    let mut values = 0;
    for host in [3, 4, 5, 6, 900] {
        let count = &mut |_: i64, _: f64| values += 1;
        let read = reader.host(host, None, ALL, &mut |piece| piece.each_value(100, Which::Last, count));
        read.unwrap();
    }
    assert_eq!(values, 4 * 360);
    let read = reader.read();
    assert_eq!((read.blocks, read.parts, read.rows), (4, 4, 0), "{read:?}");
    let all: u64 = {
        let mut reader = view.reader();
        let all = reader.host(3, None, ALL, &mut |piece| {
            (0..SERIES).try_for_each(|at| piece.each_value(at, Which::Last, &mut |_, _| {}))
        });
        all.unwrap();
        assert_eq!(reader.read().parts, 13, "each part is unpacked once");
        reader.read().unpacked_bytes
    };
    let one = read.unpacked_bytes / 4;
    assert!(one * 4 < all, "{one} bytes for one series, {all} for all");
    let (_, none, _) = world.values(3, 100, Which::Last, (WALL + 3_600_000, i64::MAX));
    assert_eq!(none, Read::default(), "another hour");
}

#[tokio::test]
async fn more_hours_and_parts_than_there_are_cursors_are_each_read_once() {
    let world = World::new();
    let rows = world.rows();
    let hours = 400;
    for hour in 0..hours {
        let row = Row { at_ms: WALL + hour * 3_600_000, ..rows[0].clone() };
        world.put(HOST, &[row]).await;
    }
    world.seal(HOST, u32::MAX).await;
    let view = world.store.view();
    let mut reader = view.reader();
    for _ in 0..2 {
        let mut times = Vec::new();
        let read = reader.host(HOST, None, ALL, &mut |piece| {
            piece.each_value(290, Which::Last, &mut |_, _| {})?;
            piece.each_value(0, Which::Last, &mut |at, _| times.push(at))
        });
        read.unwrap();
        assert_eq!(times, (0..hours).map(|hour| WALL + hour * 3_600_000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_damaged_part_is_named_the_rest_is_served_and_joining_leaves_it_alone() {
    let world = World::new();
    let rows = world.rows();
    world.put(HOST, &rows).await;
    world.seal(HOST, u32::MAX).await;
    let key = PieceKey { hour: HOUR, piece: 1, host: HOST, slot: 2, sibling: 0 };
    let mut bytes = world.store.get_raw(&key).unwrap().unwrap();
    bytes[9] ^= 1;
    let mut batch = Batch::default();
    batch.put_raw(&key, bytes);
    world.store.commit(batch).await.unwrap();
    let slot = |row: &&Row| (WALL + 2 * SLOT_MS..WALL + 3 * SLOT_MS).contains(&row.at_ms);
    let rest: Vec<Row> = rows.iter().filter(|row| !slot(row)).cloned().collect();
    for joined in [false, true] {
        let (values, _, damaged) = world.values(HOST, 0, Which::Last, ALL);
        assert_eq!(values, of(&rest, 0, Which::Last));
        assert!(damaged.len() == 1 && damaged[0].contains("slot 2") && damaged[0].contains("checksum"), "{damaged:?}");
        assert_eq!(world.values(HOST, 200, Which::Last, ALL).0, of(&rows, 200, Which::Last), "another part");
        assert!(joined || world.join(HOST).await);
    }
    assert!(world.pieces().contains(&key), "it is there for whoever can mend it");
}

#[tokio::test]
async fn hosts_whose_series_change_within_an_hour_keep_both() {
    let world = World::new();
    let rows = world.rows();
    let few: BTreeMap<_, _> = world.schema.keys.iter().cloned().zip(world.schema.gauge.clone()).take(20).collect();
    let few = Schema::of(&few);
    world.put(HOST, &rows[..90]).await;
    let mut batch = Batch::default();
    world.store.put_schema(&mut batch, &few, 0).unwrap();
    for row in &rows[90..] {
        let row = Row { cells: row.cells[..20].to_vec(), ..row.clone() };
        world.store.put_row(&mut batch, HOST, &few, &row);
    }
    world.store.commit(batch).await.unwrap();
    world.seal(HOST, u32::MAX).await;
    for _ in 0..2 {
        let view = world.store.view();
        let (mut seen, mut last) = (BTreeMap::new(), 0);
        let read = view.reader().host(HOST, None, ALL, &mut |piece| {
            if piece.schema.keys.len() == SERIES {
                piece.each_value(250, Which::Last, &mut |_, _| last += 1)?;
            }
            piece.each_value(5, Which::Last, &mut |at, value| {
                seen.insert(at, value.to_bits());
            })
        });
        read.unwrap();
        assert_eq!((seen, last), (of(&rows, 5, Which::Last), 90));
        world.join(HOST).await;
    }
    let heads = world.pieces().iter().filter(|key| key.piece == PieceKey::HEAD).count();
    assert_eq!(heads, 1, "{:?}", world.pieces());
}

/// A host where containers come and go, and one series is a counter at first and then a gauge.
#[tokio::test]
async fn an_hour_of_other_series_in_every_summary_is_one_block_of_each_kind() {
    let world = World::new();
    let container = |n: i64| Arc::new(SeriesKey::new("tasks", &[("container", &format!("c{n:03}"))]));
    let name = |name: &str| Arc::new(SeriesKey::new(name, &[]));
    let gauge = |value: f64| Point::Gauge { last: value, min: value, max: value, mean: value };
    let mut expected: BTreeMap<(Arc<SeriesKey>, i64), u64> = BTreeMap::new();
    let count = 355; // more than a block may have siblings
    for n in 0..count {
        let at_ms = WALL + n * 10_000;
        let turned = if n < 200 { Point::Counter(n as f64) } else { gauge(n as f64) };
        // Three at a time: the one that is new, and two that were there.
        let mut series: BTreeMap<Arc<SeriesKey>, Point> =
            (n..n + 3).map(|one| (container(one), gauge((n * 1_000 + one) as f64))).collect();
        series.insert(name("load1"), gauge(n as f64 / 8.0));
        series.insert(name("turned"), turned);
        let schema = series.iter().map(|(key, point)| (key.clone(), matches!(point, Point::Gauge { .. }))).collect();
        let schema = Schema::of(&schema);
        for (key, point) in &series {
            let (Point::Counter(value) | Point::Gauge { last: value, .. }) = point;
            expected.insert((key.clone(), at_ms), value.to_bits());
        }
        let mut batch = Batch::default();
        world.store.put_schema(&mut batch, &schema, 0).unwrap();
        let row = Row { at_ms, window_ms: 10_000, samples: 10, cells: series.into_values().map(Some).collect() };
        world.store.put_row(&mut batch, HOST, &schema, &row);
        world.store.commit(batch).await.unwrap();
    }
    let stored = || {
        let view = world.store.view();
        let (mut seen, mut pieces) = (BTreeMap::new(), 0);
        view.reader()
            .host(HOST, None, ALL, &mut |piece| {
                pieces += 1;
                for (at, key) in piece.schema.clone().keys.iter().enumerate() {
                    piece.each_value(at, Which::Last, &mut |at_ms, value| {
                        seen.insert((key.clone(), at_ms), value.to_bits());
                    })?;
                }
                Ok(())
            })
            .unwrap();
        (seen, pieces)
    };
    assert_eq!(stored().0, expected);
    world.seal(HOST, u32::MAX).await;
    assert_eq!(world.open_rows(), 0);
    assert_eq!(stored(), (expected.clone(), 7), "six slots, one of which has two kinds");
    assert!(world.join(HOST).await);
    assert_eq!(stored(), (expected, 2));
    let heads = |key: &RollupKey| key.piece == PieceKey::HEAD;
    let rolled = world.store.scan::<RollupKey>(&[RollupKey::ORDINAL], &[RollupKey::ORDINAL]);
    assert_eq!(rolled.filter(|item| heads(&item.as_ref().unwrap().0)).count(), 4, "two kinds in two tiers");
}

#[tokio::test]
async fn blocks_and_rows_of_version_1_are_read_and_joined() {
    let world = World::new();
    let rows = world.rows();
    world.put(HOST, &rows[120..180]).await;
    world.seal(HOST, u32::MAX).await;
    let mut batch = Batch::default();
    let old = |rows: &[Row]| block1::tests::encode(world.schema.id, &world.schema.gauge, rows);
    for slot in 0..2u8 {
        let from = usize::from(slot) * 60;
        let key = BlockKey { hour: HOUR, host: HOST, slot, part: 0 };
        batch.put_raw(&key, old(&rows[from..from + 60]));
    }
    for row in &rows[180..200] {
        let key = OpenRowKey { host: HOST, slot: slot_of(row.at_ms), at_ms: row.at_ms };
        batch.put_raw(&key, old(std::slice::from_ref(row)));
    }
    world.store.commit(batch).await.unwrap();
    let (schema, last) = world.store.last_row(HOST).unwrap().unwrap();
    assert_eq!((schema.id, last.at_ms), (world.schema.id, rows[199].at_ms));
    for stage in 0..3 {
        for (at, which) in [(0, Which::Mean), (100, Which::Last)] {
            assert_eq!(world.values(HOST, at, which, ALL).0, of(&rows[..200], at, which), "stage {stage}");
        }
        if stage == 0 {
            world.seal(HOST, u32::MAX).await;
        } else {
            assert_eq!(world.join(HOST).await, stage == 1);
        }
    }
    assert_eq!(world.store.scan::<BlockKey>(&[BlockKey::ORDINAL], &[BlockKey::ORDINAL]).count(), 0, "all are joined");
}

#[tokio::test]
async fn what_an_earlier_run_has_not_joined_is_found() {
    let world = World::new();
    world.put(HOST, &world.rows()).await;
    world.seal(HOST, u32::MAX).await;
    assert_eq!(world.store.unjoined.take(HOUR, 10), [], "the hour is not over");
    assert_eq!(world.store.unjoined.take(HOUR + 1, 10), [(HOUR, HOST)]);
    assert_eq!(world.store.unjoined.before(u32::MAX), 0);
    world.store.find_unjoined(HOUR - 5..HOUR + 1).unwrap();
    assert_eq!(world.store.unjoined.take(HOUR + 1, 10), [(HOUR, HOST)]);
    world.join(HOST).await;
    world.store.find_unjoined(HOUR - 5..HOUR + 1).unwrap();
    assert_eq!(world.store.unjoined.before(u32::MAX), 0);
}
