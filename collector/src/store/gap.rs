//! Gaps: stretches of keys that cannot be read, and where the readable begins again.
//!
//! RocksDB says that a block of a table is damaged, not which keys were in it. A seek to a key that lies in it fails, one to
//! a key behind it does not; so the end of the gap is found by trying, ever further away, and then by halving. In: what a
//! seek comes to. Out: a key from which on it can be read. Where two gaps lie close together, what is between them may be
//! taken for a part of one.

use rocksdb::{DB, ReadOptions};

use super::columns::Column;
use super::family;

/// Keys are halved as numbers of so many bytes: no key of ours has more before its text.
const WIDTH: usize = 48;

type Number = [u8; WIDTH];

/// Whether a seek to a key succeeds.
type Reads<'r> = dyn FnMut(&[u8]) -> bool + 'r;

/// The first key after a gap of a column, where a seek to `at` fails.
pub(super) fn after_in(db: &DB, column: Column, at: &[u8]) -> Option<Vec<u8>> {
    after(at, &mut |key| is_read(db, column, |iter| iter.seek(key))).filter(|found| found.as_slice() > at)
}

/// The last key before a gap of a column, where a seek backwards from `at` fails.
pub(super) fn before_in(db: &DB, column: Column, at: &[u8]) -> Option<Vec<u8>> {
    before(at, &mut |key| is_read(db, column, |iter| iter.seek_for_prev(key))).filter(|found| found.as_slice() < at)
}

/// Tries a seek with an iterator of its own: one that has failed does not always fail again.
fn is_read(db: &DB, column: Column, seek: impl FnOnce(&mut rocksdb::DBRawIterator<'_>)) -> bool {
    let mut reading = ReadOptions::default();
    reading.fill_cache(false);
    let mut iter = db.raw_iterator_cf_opt(family(db, column), reading);
    seek(&mut iter);
    iter.status().is_ok()
}

/// The first key after a gap, where a seek to `at` fails; `None` if nothing behind it can be read.
fn after(at: &[u8], reads: &mut Reads<'_>) -> Option<Vec<u8>> {
    let mut fails = at.to_vec();
    let longer = (1..=at.len()).rev().filter_map(|length| successor(&at[..length]));
    // What does not begin as this key does is of another kind.
    let other = at.first().and_then(|kind| kind.checked_add(2));
    let others = other.into_iter().flat_map(|kind| kind..=u8::MAX).map(|kind| vec![kind]);
    for next in longer.chain(others) {
        if reads(&next) {
            return Some(halve(&fails, &next, reads));
        }
        fails = next;
    }
    None
}

/// The last key before a gap, where a seek backwards from `at` fails; a seek from there finds the last entry that can be
/// read.
fn before(at: &[u8], reads: &mut Reads<'_>) -> Option<Vec<u8>> {
    let mut fails = at.to_vec();
    for length in (0..at.len()).rev() {
        let shorter = &at[..length];
        if reads(shorter) {
            return Some(halve(&fails, shorter, reads));
        }
        fails = shorter.to_vec();
    }
    None
}

/// The next text that does not begin with this one, if it is as long.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let (last, rest) = prefix.split_last()?;
    let next = last.checked_add(1)?;
    Some([rest, &[next]].concat())
}

/// The key that reads and lies next to one that fails. As a number a key that ends with zeros is what it begins with, so that
/// only such a key is given back as was tried.
fn halve(fails: &[u8], reads_at: &[u8], reads: &mut Reads<'_>) -> Vec<u8> {
    let (mut bad, mut good) = (number(fails), number(reads_at));
    let mut found = reads_at.to_vec();
    loop {
        let middle = middle(&bad, &good);
        if middle == bad || middle == good {
            return found;
        }
        if reads(&middle) {
            good = middle;
            found = middle.to_vec();
        } else {
            bad = middle;
        }
    }
}

fn number(key: &[u8]) -> Number {
    let mut number = [0; WIDTH];
    number.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    number
}

/// The number half way between two.
fn middle(a: &Number, b: &Number) -> Number {
    let mut sum = [0_u16; WIDTH];
    let mut carry = 0;
    for (at, sum) in sum.iter_mut().enumerate().rev() {
        let digit = u16::from(a[at]) + u16::from(b[at]) + carry;
        (*sum, carry) = (digit & 0xff, digit >> 8);
    }
    let mut half = [0; WIDTH];
    for (half, digit) in half.iter_mut().zip(sum) {
        let whole = (carry << 8) | digit;
        *half = u8::try_from(whole >> 1).unwrap_or(u8::MAX);
        carry = whole & 1;
    }
    half
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_that_ends_with_zeros_is_told_from_what_it_begins_with() {
        // The last is in the gap, of whose key the one before is the beginning.
        let keys = [&[1][..], &[186], &[186, 0]];
        let mut backwards = |key: &[u8]| keys.partition_point(|known| *known <= key) < 3;
        assert_eq!(before(keys[2], &mut backwards), Some(vec![186]));
    }

    proptest! {
        /// As RocksDB does it: a seek fails if the block fails that the first key from there on is in.
        #[test]
        fn what_lies_around_a_gap_is_found(
            keys in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..30), 3..60),
            (from, length) in (any::<prop::sample::Index>(), 1_usize..20),
        ) {
            let keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let from = from.index(keys.len());
            let gap = from..(from + length).min(keys.len());
            let mut forwards = |key: &[u8]| {
                !gap.contains(&keys.partition_point(|known| known.as_slice() < key))
            };
            prop_assert!(!forwards(&keys[from]));
            match after(&keys[from], &mut forwards) {
                Some(found) => {
                    let next = keys.partition_point(|known| *known < found);
                    prop_assert_eq!(next, gap.end, "nothing that can be read is left out");
                }
                // All that could be tried begins with the last possible byte.
                None => prop_assert!(keys[gap.end - 1][0] >= 0xfe),
            }
            let mut backwards = |key: &[u8]| {
                let behind = keys.partition_point(|known| known.as_slice() <= key);
                behind == 0 || !gap.contains(&(behind - 1))
            };
            let found = before(&keys[gap.end - 1], &mut backwards).unwrap();
            prop_assert_eq!(keys.partition_point(|known| *known <= found), gap.start);
        }
    }
}
