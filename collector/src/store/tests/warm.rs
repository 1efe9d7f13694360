//! What is kept from one question to the next: the same as what is stored, whatever was written in between.

use mainstay_fleet::block::{Loose, write_loose};
use proptest::prelude::*;

use super::super::kept::Gathered;
use super::super::warm::{Change, Warm};
use super::*;
use crate::store::view::View;

/// What is asked for in these tests.
pub(super) const ASKED: [(usize, Which); 3] = [(73, Which::Last), (0, Which::Mean), (291, Which::Last)];
const OTHER: u32 = 8;

pub(super) type Found = BTreeMap<(usize, i64), u64>;

/// What a host has in a span, read as a question does that may be asked again.
fn again(view: &View<'_>, host: u32, asked: &[(usize, Which)], span: (i64, i64)) -> (Found, Read) {
    let (found, read, damaged) = again_with_damage(view, host, asked, span);
    assert_eq!(damaged, Vec::<String>::new());
    (found, read)
}

/// The same, with what cannot be read.
pub(super) fn again_with_damage(
    view: &View<'_>,
    host: u32,
    asked: &[(usize, Which)],
    span: (i64, i64),
) -> (Found, Read, Vec<String>) {
    let mut reader = view.reader();
    let mut found = BTreeMap::new();
    let mut ask = |_: &Arc<Schema>, cells: &mut Vec<(usize, Which)>| cells.extend(asked);
    let read = reader.host_again(host, span, &mut ask, &mut |piece| {
        asked.iter().try_for_each(|(at, which)| {
            piece.each_value(*at, *which, &mut |at_ms, value| {
                if (span.0..=span.1).contains(&at_ms) {
                    found.insert((*at, at_ms), value.to_bits());
                }
            })
        })
    });
    read.unwrap();
    let damaged = reader.damaged();
    (found, reader.read(), damaged)
}

/// The same, read as it is stored.
fn stored(view: &View<'_>, host: u32, asked: &[(usize, Which)], span: (i64, i64)) -> Found {
    stored_with_damage(view, host, asked, span).0
}

/// The same, with what cannot be read.
pub(super) fn stored_with_damage(
    view: &View<'_>,
    host: u32,
    asked: &[(usize, Which)],
    span: (i64, i64),
) -> (Found, Vec<String>) {
    let mut reader = view.reader();
    let mut found = BTreeMap::new();
    let read = reader.host(host, None, span, &mut |piece| {
        asked.iter().try_for_each(|(at, which)| {
            piece.each_value(*at, *which, &mut |at_ms, value| {
                if (span.0..=span.1).contains(&at_ms) {
                    found.insert((*at, at_ms), value.to_bits());
                }
            })
        })
    });
    read.unwrap();
    let damaged = reader.damaged();
    (found, damaged)
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn of(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 11) % u64::from(sides)).unwrap()
    }
}

#[tokio::test]
async fn what_is_kept_is_what_is_stored_whatever_is_written_in_between() {
    let mut kept = 0;
    for seed in 1..=12 {
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let world = World::new();
        let rows = world.rows();
        let fewer: BTreeMap<_, _> = world.schema.keys[..299].iter().cloned().zip(world.schema.gauge.clone()).collect();
        let schemas = [world.schema.clone(), Arc::new(Schema::of(&fewer))];
        let mut next = [0; 2];
        for _ in 0..40 {
            // A question goes on, as the store was then.
            let old = world.store.view();
            let newest = next.map(|next: usize| if next == 0 { 0 } else { rows[next - 1].at_ms });
            for _ in 0..=dice.of(3) {
                let which = dice.of(2) as usize;
                let host = [HOST, OTHER][which];
                match dice.of(20) {
                    0 => world.seal(host, slot_of(rows[next[which]].at_ms)).await,
                    1 => drop(world.join(host).await),
                    2 if next[which] > 0 => {
                        let late = dice.of(u32::try_from(next[which]).unwrap()) as usize;
                        let row = Row { at_ms: rows[late].at_ms + 5 * i64::from(dice.of(2)), ..rows[late].clone() };
                        world.put(host, &[row]).await;
                    }
                    3 => {
                        let schema = schemas[dice.of(2) as usize].clone();
                        let mut row = rows[next[which]].clone();
                        row.cells.truncate(schema.keys.len());
                        let mut batch = Batch::default();
                        world.store.put_schema(&mut batch, &schema, 0).unwrap();
                        world.store.put_row(&mut batch, host, &schema, &row);
                        world.store.commit(batch).await.unwrap();
                        next[which] = (next[which] + 1).min(350);
                    }
                    _ => {
                        let some = 1 + dice.of(4) as usize;
                        world.put(host, &rows[next[which]..next[which] + some]).await;
                        next[which] = (next[which] + some).min(350);
                    }
                }
            }
            for (which, host) in [HOST, OTHER].into_iter().enumerate() {
                let asked = &ASKED[..1 + dice.of(3) as usize];
                let from = WALL + i64::from(dice.of(400)) * 10_000;
                let span = if dice.of(3) == 0 { ALL } else { (from, from + i64::from(dice.of(3_000_000))) };
                let view = world.store.view();
                for _ in 0..2 {
                    let (found, read) = again(&view, host, asked, span);
                    assert!(found == stored(&view, host, asked, span), "seed {seed}, host {host}, {span:?}, {asked:?}");
                    kept += read.kept;
                }
                let (mut before, then) = (again(&old, host, asked, span).0, stored(&old, host, asked, span));
                before.retain(|key, _| then.contains_key(key) || key.1 <= newest[which]);
                assert!(before == then, "seed {seed}, host {host}: the store as it was before");
            }
            drop(old);
        }
    }
    assert!(kept > 200, "next to nothing was ever kept ({kept})");
}

#[tokio::test]
async fn what_is_asked_again_is_not_read_again_and_what_comes_is_added() {
    let world = World::new();
    let rows = world.rows();
    world.put(HOST, &rows[..90]).await;
    world.seal(HOST, slot_of(rows[89].at_ms)).await;
    let ask = |of: &[(usize, Which)]| {
        let view = world.store.view();
        let (found, read) = again(&view, HOST, of, ALL);
        assert_eq!(found, stored(&view, HOST, of, ALL));
        Read { unpacked_bytes: 0, ..read }
    };
    let one = &ASKED[..1];
    assert_eq!(ask(one), Read { blocks: 1, parts: 1, rows: 30, ..Read::default() });
    assert_eq!(ask(one), Read { kept: 2, ..Read::default() });
    world.put(HOST, &rows[90..92]).await;
    assert_eq!(ask(one), Read { kept: 2, ..Read::default() }, "rows that come are added");
    assert_eq!(ask(&ASKED), Read { blocks: 1, parts: 3, rows: 32, ..Read::default() }, "another question is read");
    assert_eq!((ask(&ASKED).kept, ask(one).kept), (2, 2), "and the first is kept besides");
    world.put(HOST, &rows[80..81]).await;
    assert_eq!(ask(one), Read { rows: 32, kept: 1, ..Read::default() }, "rows that are late are not");
    world.put(HOST, &rows[92..130]).await;
    world.seal(HOST, slot_of(rows[129].at_ms)).await;
    assert_eq!(ask(one), Read { blocks: 2, parts: 2, rows: 10, ..Read::default() }, "what was sealed is read anew");
    assert!(world.join(HOST).await);
    assert_eq!(ask(one), Read { blocks: 1, parts: 1, kept: 1, ..Read::default() }, "and what was joined");
    assert_eq!(ask(one), Read { kept: 2, ..Read::default() });
    assert_eq!(again(&world.store.view(), OTHER, one, ALL).1, Read::default());
    assert!(world.store.warm.bytes() > 0);
}

/// Keeps one value of one open row of a host.
fn keep_row(warm: &Warm, world: &World, row: &Loose<'_>, host: u32) {
    let mut gathered = Gathered::default();
    gathered.begin(&world.schema, row);
    gathered.add(ASKED[0], Some(1.0));
    warm.keep_rows(host, gathered, 0);
}

#[tokio::test]
async fn what_is_kept_takes_no_more_than_it_may() {
    let world = World::new();
    let bytes = write_loose(world.schema.id, &world.rows()[0]);
    let loose = Loose::open(&bytes).unwrap();
    let warm = Warm::new(640_000);
    let keep = |host: u32| {
        keep_row(&warm, &world, &loose, host);
        // One of each shard may be beyond it.
        assert!(warm.bytes() <= 640_000 + 64 * 400);
    };
    let mut read = 0;
    for host in 0..10_000 {
        keep(host);
        // Somebody goes on asking for the first, and reads it where it has gone.
        if warm.rows(1, 0).is_none() {
            read += 1;
            keep(1);
        }
        warm.pass_time();
    }
    assert!(read < 20, "read {read} times");
    assert!(warm.bytes() > 200_000 && warm.rows(1, 0).is_some() && warm.rows(2, 0).is_none(), "{}", warm.bytes());
}

#[tokio::test]
async fn who_asks_about_more_than_fits_finds_most_of_it_again() {
    let world = World::new();
    let bytes = write_loose(world.schema.id, &world.rows()[0]);
    let loose = Loose::open(&bytes).unwrap();
    let warm = Warm::new(640_000);
    let ask_all = |hosts: u32| {
        let mut found = 0;
        for host in 0..hosts {
            if warm.rows(host, 0).is_some() {
                found += 1;
                continue;
            }
            keep_row(&warm, &world, &loose, host);
        }
        found
    };
    assert_eq!(ask_all(1_000), 0);
    assert_eq!(ask_all(1_000), 1_000, "all of it fits");
    // Half as much again as fits.
    let fits = 1_000 * 640_000 / warm.bytes();
    let hosts = u32::try_from(fits + fits / 2).unwrap();
    ask_all(hosts);
    for round in 0..12 {
        // As who asks each minute: room is made in each of its rounds. And as who asks each second.
        if round < 6 {
            warm.pass_time();
        }
        let found = ask_all(hosts);
        assert!(found > fits / 2, "round {round}: {found} of {hosts}, where {fits} fit");
    }
}

/// The beginnings of keys of pieces and of their neighbours, few of each, so that they often are alike.
fn some_key() -> impl Strategy<Value = Vec<u8>> {
    let numbers = (PieceKey::ORDINAL - 1..=PieceKey::ORDINAL + 1, 0..3u32, 0..3u8, 0..3u32);
    (numbers, 0..3u8, any::<prop::sample::Index>()).prop_map(|((kind, hour, piece, host), slot, length)| {
        let mut key = PieceKey { hour, piece, host, slot, sibling: 0 }.encode();
        key[0] = kind;
        key.truncate(1 + length.index(key.len()));
        key
    })
}

proptest! {
    #[test]
    fn a_range_that_is_removed_is_told_with_all_hours_and_hosts_in_it(from in some_key(), to in some_key()) {
        let told = match Change::of_range(Column::Series, &from, &to) {
            None => None,
            Some(Change::Blocks(hours, hosts)) => Some((hours, hosts)),
            Some(other) => panic!("{other:?}"),
        };
        for (hour, piece, host) in (0..4).flat_map(|hour| (0..4).flat_map(move |p| (0..4).map(move |h| (hour, p, h)))) {
            let is_of = told.as_ref().is_some_and(|(hours, hosts)| hours.contains(&hour) && hosts.contains(&host));
            for slot in 0..4 {
                let key = PieceKey { hour, piece, host, slot, sibling: 0 }.encode();
                prop_assert!(is_of || !(from <= key && key < to), "{hour} {piece} {host} {slot}: {told:?}");
            }
        }
    }

    #[test]
    fn of_hosts_in_an_hour_and_of_hours_nothing_else_is_told(hour in 1..u32::MAX, piece: u8, host in 1..u32::MAX, more in 1..9u32) {
        let of = |from: Vec<u8>, to: Vec<u8>| Change::of_range(Column::Series, &from, &to);
        let hosts = of(PieceKey::of(hour, piece, host), PieceKey::of(hour, piece, host.saturating_add(more)));
        prop_assert_eq!(hosts, Some(Change::Blocks(hour..=hour, host..=host.saturating_add(more) - 1)));
        let hours = of(vec![PieceKey::ORDINAL], PieceKey::from_hour(hour));
        prop_assert_eq!(hours, Some(Change::Blocks(0..=hour - 1, 0..=u32::MAX)));
        prop_assert_eq!(of(vec![0], vec![PieceKey::ORDINAL]), None);
        prop_assert_eq!(of(vec![PieceKey::ORDINAL + 1], vec![u8::MAX]), None);
    }
}
