//! Exactly once: what of a host's stream has been stored, what is missing, what was lost.
//!
//! Items are known by (host, epoch, seq). [`Marks::admit`] says of each whether to store it. The
//! store changes a clone of the marks, writes them in the same durable batch as the items and
//! only then takes the clone for the truth and acknowledges [`Marks::acknowledged`]. So a crash or
//! a failed write at any point leaves marks and items in step. Shared by the store and the
//! simulator; no I/O and no clock.

use std::collections::BTreeMap;

use mainstay_core::id::{Epoch, Seq};

/// Most spools of one host that are remembered. Numbering starts anew with a new spool, which is
/// rare (a reinstalled host); a late message of a spool older than these would be stored twice.
pub const EPOCHS_MAX: usize = 8;

/// Most separate ranges beyond the first hole. An agent sends in order, so there are one or two;
/// what comes in beyond this is refused until the holes are filled.
pub const AHEAD_MAX: usize = 256;

/// Most ranges of lost items that are told apart. Beyond this the shorter of the two oldest is
/// kept only as a count: still known to be missing, no longer where.
pub const LOST_MAX: usize = 1024;

/// Items that will never come, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first.
    pub first: Seq,
    /// The last.
    pub last: Seq,
}

impl Gap {
    /// How many items are missing.
    #[must_use]
    pub fn len(self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }

    /// Whether it is none, which a declared gap never is.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.last < self.first
    }
}

/// Whether an item is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Store it.
    New,
    /// It is stored already.
    Duplicate,
    /// Neither: too many holes, or no valid number. The agent is to send from `expected` on.
    Refused {
        /// The first item that is missing.
        expected: Seq,
    },
}

/// What is known of one spool. Plain data, so that the store can write it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpoolMarks {
    /// Everything up to and with this is stored or declared lost.
    pub upto: u64,
    /// Ranges (first to last) beyond the first hole that are stored or declared lost.
    pub ahead: BTreeMap<u64, u64>,
    /// Ranges (first to last) that the agent declared lost.
    pub lost: BTreeMap<u64, u64>,
    /// Items that were declared lost, in ranges that are no longer told apart.
    pub lost_elsewhere: u64,
    /// When this spool was last heard of, in the order of [`Marks`]; the least goes first.
    pub heard: u64,
}

/// What is known of one host's stream, over the spools that it has had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// By epoch.
    pub spools: BTreeMap<Epoch, SpoolMarks>,
}

impl Marks {
    /// Whether to store the item; counts it as stored if so.
    pub fn admit(&mut self, epoch: Epoch, seq: Seq) -> Admit {
        self.spool(epoch).admit(seq.0)
    }

    /// The agent says that it dropped these before they could be sent (oldest samples first,
    /// never records). What of them is stored already stays stored. Returns how many are lost.
    pub fn declare_lost(&mut self, epoch: Epoch, gap: Gap) -> u64 {
        self.spool(epoch).declare_lost(gap)
    }

    /// What may be acknowledged: everything up to this is stored or declared lost.
    #[must_use]
    pub fn acknowledged(&self, epoch: Epoch) -> Seq {
        Seq(self.spools.get(&epoch).map_or(0, |spool| spool.upto))
    }

    /// What is known never to come, for the completeness of an answer.
    #[must_use]
    pub fn gaps(&self, epoch: Epoch) -> Vec<Gap> {
        let Some(spool) = self.spools.get(&epoch) else { return Vec::new() };
        spool.lost.iter().map(|(first, last)| Gap { first: Seq(*first), last: Seq(*last) }).collect()
    }

    /// The marks of one spool, as the one that was heard of last; forgets the spool that has been
    /// silent for longest when there are too many.
    fn spool(&mut self, epoch: Epoch) -> &mut SpoolMarks {
        let heard = self.spools.values().map(|spool| spool.heard).max().unwrap_or(0);
        let known = self.spools.contains_key(&epoch);
        if !known && self.spools.len() >= EPOCHS_MAX {
            let oldest = self.spools.iter().min_by_key(|(_, spool)| spool.heard).map(|(epoch, _)| *epoch);
            if let Some(oldest) = oldest {
                self.spools.remove(&oldest);
            }
        }
        let spool = self.spools.entry(epoch).or_default();
        if !known || spool.heard < heard {
            spool.heard = heard.saturating_add(1);
        }
        spool
    }
}

impl SpoolMarks {
    fn admit(&mut self, seq: u64) -> Admit {
        if seq == 0 || seq == u64::MAX {
            return Admit::Refused { expected: Seq(self.upto.saturating_add(1)) };
        }
        if take(&mut self.lost, seq) {
            return Admit::New; // declared lost, but here it is: it was accounted for already
        }
        if seq <= self.upto || covers(&self.ahead, seq) {
            return Admit::Duplicate;
        }
        let joins = seq == self.upto + 1 || covers(&self.ahead, seq - 1) || covers(&self.ahead, seq + 1);
        if !joins && self.ahead.len() >= AHEAD_MAX {
            return Admit::Refused { expected: Seq(self.upto + 1) };
        }
        self.account(seq, seq);
        Admit::New
    }

    fn declare_lost(&mut self, gap: Gap) -> u64 {
        let (first, last) = (gap.first.0.max(1), gap.last.0.min(u64::MAX - 1));
        let holes = self.holes(first, last);
        for (first, last) in &holes {
            self.account(*first, *last);
            insert(&mut self.lost, *first, *last);
        }
        while self.lost.len() > LOST_MAX {
            self.lost_elsewhere += forget_oldest(&mut self.lost);
        }
        holes.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// What of a range is neither stored nor declared lost.
    fn holes(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut next = first.max(self.upto + 1);
        for (from, to) in &self.ahead {
            if *from > last {
                break;
            }
            if *from > next {
                holes.push((next, from - 1));
            }
            next = next.max(to + 1);
        }
        if next <= last {
            holes.push((next, last));
        }
        holes
    }

    /// Counts a range as stored or lost, and moves `upto` over all that is now without a hole.
    fn account(&mut self, first: u64, last: u64) {
        insert(&mut self.ahead, first, last);
        while let Some((from, to)) = self.ahead.first_key_value().map(|(from, to)| (*from, *to)) {
            if from > self.upto + 1 {
                break;
            }
            self.ahead.remove(&from);
            self.upto = self.upto.max(to);
        }
    }
}

/// Whether one of the ranges holds `at`.
fn covers(ranges: &BTreeMap<u64, u64>, at: u64) -> bool {
    ranges.range(..=at).next_back().is_some_and(|(_, last)| *last >= at)
}

/// Adds a range that overlaps none of them, and joins it with its neighbours.
fn insert(ranges: &mut BTreeMap<u64, u64>, mut first: u64, mut last: u64) {
    if let Some((from, to)) = ranges.range(..first).next_back().map(|(from, to)| (*from, *to))
        && to + 1 == first
    {
        ranges.remove(&from);
        first = from;
    }
    if let Some(to) = ranges.remove(&(last + 1)) {
        last = to;
    }
    ranges.insert(first, last);
}

/// Takes one number out of the ranges; says whether it was there.
fn take(ranges: &mut BTreeMap<u64, u64>, at: u64) -> bool {
    let Some((first, last)) = ranges.range(..=at).next_back().map(|(first, last)| (*first, *last)) else {
        return false;
    };
    if last < at {
        return false;
    }
    ranges.remove(&first);
    if first < at {
        ranges.insert(first, at - 1);
    }
    if at < last {
        ranges.insert(at + 1, last);
    }
    true
}

/// Forgets the shorter of the two oldest ranges; says how many numbers it held.
fn forget_oldest(ranges: &mut BTreeMap<u64, u64>) -> u64 {
    let shortest = ranges.iter().take(2).map(|(first, last)| (last - first + 1, *first)).min();
    let Some((len, first)) = shortest else { return 0 };
    ranges.remove(&first);
    len
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SPOOL: Epoch = Epoch(7);

    fn gap(first: u64, last: u64) -> Gap {
        Gap { first: Seq(first), last: Seq(last) }
    }

    #[test]
    fn stores_each_item_once_and_acknowledges_up_to_the_first_hole() {
        let mut marks = Marks::default();
        assert_eq!(marks.admit(SPOOL, Seq(1)), Admit::New);
        assert_eq!(marks.admit(SPOOL, Seq(1)), Admit::Duplicate);
        assert_eq!(marks.admit(SPOOL, Seq(3)), Admit::New);
        assert_eq!(marks.acknowledged(SPOOL), Seq(1));
        assert_eq!(marks.admit(SPOOL, Seq(2)), Admit::New);
        assert_eq!(marks.acknowledged(SPOOL), Seq(3));
        assert_eq!(marks.admit(SPOOL, Seq(0)), Admit::Refused { expected: Seq(4) });
    }

    #[test]
    fn a_declared_gap_is_known_and_lets_the_acknowledgement_pass() {
        let mut marks = Marks::default();
        marks.admit(SPOOL, Seq(1));
        marks.admit(SPOOL, Seq(4));
        assert_eq!(marks.declare_lost(SPOOL, gap(1, 4)), 2, "1 and 4 are stored");
        assert_eq!(marks.declare_lost(SPOOL, gap(2, 3)), 0, "known already");
        assert_eq!(marks.acknowledged(SPOOL), Seq(4));
        assert_eq!(marks.gaps(SPOOL), [gap(2, 3)]);
        assert_eq!(marks.admit(SPOOL, Seq(3)), Admit::New, "it came after all");
        assert_eq!(marks.admit(SPOOL, Seq(3)), Admit::Duplicate);
        assert_eq!(marks.gaps(SPOOL), [gap(2, 2)]);
    }

    #[test]
    fn a_new_spool_starts_anew_and_the_old_one_is_still_known() {
        let mut marks = Marks::default();
        marks.admit(SPOOL, Seq(1));
        for epoch in 100..100 + EPOCHS_MAX as u64 - 1 {
            assert_eq!(marks.admit(Epoch(epoch), Seq(1)), Admit::New);
        }
        assert_eq!(marks.admit(SPOOL, Seq(1)), Admit::Duplicate);
        assert_eq!(marks.admit(Epoch(200), Seq(1)), Admit::New, "epoch 100 is forgotten for it");
        assert_eq!(marks.spools.len(), EPOCHS_MAX);
        assert_eq!(marks.admit(SPOOL, Seq(1)), Admit::Duplicate, "it was heard of lately");
    }

    #[test]
    fn too_many_holes_are_refused_until_they_are_filled() {
        let mut marks = Marks::default();
        for at in 0..AHEAD_MAX as u64 {
            assert_eq!(marks.admit(SPOOL, Seq(10 + 2 * at)), Admit::New);
        }
        let far = Seq(10_000);
        assert_eq!(marks.admit(SPOOL, far), Admit::Refused { expected: Seq(1) });
        assert_eq!(marks.admit(SPOOL, Seq(11)), Admit::New, "it closes a hole");
        assert_eq!(marks.admit(SPOOL, far), Admit::New);
    }

    #[test]
    fn lost_ranges_beyond_the_bound_stay_counted() {
        let mut marks = Marks::default();
        let ranges = LOST_MAX as u64 + 10;
        for at in 0..ranges {
            marks.declare_lost(SPOOL, gap(1 + 2 * at, 1 + 2 * at));
            marks.admit(SPOOL, Seq(2 + 2 * at));
        }
        let spool = &marks.spools[&SPOOL];
        assert_eq!((spool.lost.len(), spool.lost_elsewhere), (LOST_MAX, 10));
        assert_eq!(marks.acknowledged(SPOOL), Seq(2 * ranges));
    }

    proptest! {
        /// Against a set of numbers, which is what the ranges stand for.
        #[test]
        fn agrees_with_a_plain_set(steps in prop::collection::vec((any::<bool>(), 1u64..40, 0u64..6), 0..120)) {
            let mut marks = Marks::default();
            let (mut stored, mut lost) = (BTreeSet::new(), BTreeSet::new());
            for (is_item, first, more) in steps {
                if is_item {
                    let expected = if stored.insert(first) { Admit::New } else { Admit::Duplicate };
                    lost.remove(&first);
                    prop_assert_eq!(marks.admit(SPOOL, Seq(first)), expected);
                } else {
                    let fresh: Vec<u64> =
                        (first..=first + more).filter(|n| !stored.contains(n) && lost.insert(*n)).collect();
                    prop_assert_eq!(marks.declare_lost(SPOOL, gap(first, first + more)), fresh.len() as u64);
                }
                let acknowledged = (1..).take_while(|n| stored.contains(n) || lost.contains(n)).count() as u64;
                prop_assert_eq!(marks.acknowledged(SPOOL), Seq(acknowledged));
                prop_assert_eq!(marks.gaps(SPOOL).iter().map(|gap| gap.len()).sum::<u64>(), lost.len() as u64);
            }
        }
    }
}
