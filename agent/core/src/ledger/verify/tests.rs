use proptest::prelude::*;

use super::*;
use crate::ledger::Entry;
use crate::ledger::shard::{HEADER_BYTES, push_entry};

const HOST: HostId = HostId([7; 16]);
/// The tests' shards are short, so that every byte of them can be tried.
const SHARD: usize = 4096;

/// Shards with these many records each, and where each record begins: (shard, offset).
fn ledger(records: &[Vec<Vec<u8>>]) -> (Vec<Vec<u8>>, Vec<Place>, Vec<Head>) {
    let mut head = Head::genesis(HOST);
    let (mut shards, mut places, mut heads) = (Vec::new(), Vec::new(), vec![head]);
    for (at, records) in records.iter().enumerate() {
        let mut shard = Header { host: HOST, after: head }.encode();
        for record in records {
            places.push(Place { shard: at, offset: shard.len() });
            head = head.after(record);
            heads.push(head);
            push_entry(&mut shard, &Entry { index: head.index, hash: head.hash, record });
        }
        shard.resize(SHARD.max(shard.len()), 0);
        shards.push(shard);
    }
    (shards, places, heads)
}

fn some_ledger() -> (Vec<Vec<u8>>, Vec<Place>, Vec<Head>) {
    ledger(&[vec![b"one".to_vec(), b"two".to_vec()], vec![b"three".to_vec(), vec![4; 60], b"five".to_vec()]])
}

/// The number of the record that holds a byte, by the places where records begin.
fn record_at(places: &[Place], shard: usize, offset: usize) -> u64 {
    let before = places.iter().filter(|place| (place.shard, place.offset) <= (shard, offset)).count();
    if offset < HEADER_BYTES { before as u64 + 1 } else { before as u64 }
}

#[test]
fn an_untouched_ledger_is_intact() {
    let (shards, _, heads) = some_ledger();
    let report = verify(HOST, &shards, &heads);
    assert!(report.is_intact());
    assert_eq!((report.records, report.head, report.torn), (5, heads[5], None));
}

#[test]
fn every_flipped_byte_is_named() {
    let (shards, places, heads) = some_ledger();
    let ends = [places[1].offset + 8 + 40 + 3, places[4].offset + 8 + 40 + 4];
    for shard in 0..shards.len() {
        for offset in 0..ends[shard] {
            let mut spoiled = shards.clone();
            spoiled[shard][offset] ^= 0x40;
            let report = verify(HOST, &spoiled, &heads);
            let expected = record_at(&places, shard, offset);
            match (report.bad, report.torn) {
                (Some(bad), None) => assert_eq!((bad.index, bad.place.shard), (expected, shard), "{offset}: {bad:?}"),
                // A length that went up in the last record looks like a write that was cut short.
                (None, Some(place)) => {
                    assert_eq!((place, expected), (places[4], 5), "{offset}");
                    assert!(offset < place.offset + 4, "{offset}");
                    assert_eq!(report.doubts, [Doubt::Cut { local: 4, countersigned: 5 }]);
                }
                other => panic!("byte {offset} of shard {shard}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_cut_is_found_against_the_countersigned_head() {
    let (shards, places, heads) = some_ledger();
    for keep in 0..places.len() {
        let mut cut = shards.clone();
        cut.truncate(places[keep].shard + 1);
        let last = cut.last_mut().unwrap();
        last[places[keep].offset..].fill(0);
        assert!(verify(HOST, &cut, &[]).is_intact(), "alone it cannot be seen");
        let report = verify(HOST, &cut, &heads[5..]);
        assert_eq!(report.doubts, [Doubt::Cut { local: keep as u64, countersigned: 5 }]);
    }
}

#[test]
fn a_history_written_anew_is_found_against_a_countersigned_head() {
    let (_, _, heads) = some_ledger();
    let (other, ..) = ledger(&[vec![b"one".to_vec(), b"TWO".to_vec(), b"three".to_vec()]]);
    assert!(verify(HOST, &other, &heads[..2]).is_intact(), "up to there it is the same");
    let report = verify(HOST, &other, &heads[2..3]);
    assert_eq!(report.doubts, [Doubt::Rewritten { index: 2 }]);
}

#[test]
fn the_rest_verifies_after_the_oldest_shard_was_dropped() {
    let (shards, _, heads) = some_ledger();
    let report = verify(HOST, &shards[1..], &heads[2..]);
    assert!(report.is_intact());
    assert_eq!((report.begins_after, report.records), (heads[2], 3));
    let gone = verify(HOST, [&shards[0], &shards[0]], &[]);
    assert!(matches!(gone.bad.unwrap().fault, Fault::Begins { expected: 2, found: 0 }));
}

#[test]
fn a_ledger_of_another_host_is_refused() {
    let (shards, ..) = some_ledger();
    assert_eq!(verify(HostId([8; 16]), &shards, &[]).bad.unwrap().fault, Fault::Host);
}

#[test]
fn a_record_taken_out_of_the_middle_is_named() {
    let (mut shards, places, _) = some_ledger();
    let taken = places[3].offset..places[4].offset;
    shards[1].drain(taken.clone());
    shards[1].resize(SHARD, 0);
    let bad = verify(HOST, &shards, &[]).bad.unwrap();
    assert_eq!((bad.index, bad.place), (4, Place { shard: 1, offset: taken.start }));
}

#[test]
fn a_write_cut_short_is_no_bad_record() {
    let (mut shards, places, heads) = ledger(&[vec![b"one".to_vec(), vec![9; 2000]]]);
    shards[0][1024..].fill(0);
    let report = verify(HOST, &shards, &heads[..2]);
    assert!(report.is_intact());
    assert_eq!((report.records, report.torn), (1, Some(places[1])));
}

proptest! {
    #[test]
    fn any_flipped_bit_in_any_ledger_is_named(
        records in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..5), 1..4),
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let (mut shards, places, heads) = ledger(&records);
        let last = *heads.last().unwrap();
        let shard = place.index(shards.len());
        let offset = place.index(shards[shard].len());
        shards[shard][offset] ^= 1 << bit;
        let report = verify(HOST, &shards, &[last]);
        prop_assert!(report.bad.is_some() || report.torn.is_some());
        if let Some(bad) = report.bad {
            prop_assert!(bad.index <= record_at(&places, shard, offset).max(1) + 1);
            prop_assert!(report.head.index < bad.index);
        }
    }

    #[test]
    fn verification_never_panics(shards in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..3)) {
        let report = verify(HOST, &shards, &[]);
        prop_assert!(shards.is_empty() || report.bad.is_some());
    }
}
