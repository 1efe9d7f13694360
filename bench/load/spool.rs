//! What a host has not been thanked for yet. Summaries of the past are let go once they are sent, and made anew if they have to be
//! sent again: a few dozen of them of each of ten thousand hosts are gigabytes, which no host has to hold for the others.

use std::collections::VecDeque;

use mainstay_core::series::Summary;
use mainstay_core::time::Now;

use super::super::values::Values;

/// A summary in its place.
struct Item {
    seq: u64,
    at: Now,
    window_ms: u32,
    points: u64,
    is_past: bool,
    /// Of the past until it is sent.
    summary: Option<Summary>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Spool {
    items: VecDeque<Item>,
    /// How many of them this session has sent.
    sent: usize,
    /// What the host's values were before summaries of the past were made, from which number on.
    before: VecDeque<(u64, Values)>,
}

impl Spool {
    /// How many are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// How many of them this session has not sent.
    pub(crate) fn unsent(&self) -> usize {
        self.items.len() - self.sent
    }

    /// Notes what summaries of the past are made from, from a number on.
    pub(crate) fn past_from(&mut self, seq: u64, values: Values) {
        self.before.push_back((seq, values));
    }

    pub(crate) fn add(&mut self, seq: u64, summary: Summary, is_past: bool) {
        let (at, window_ms, points) = (summary.at, summary.window_ms, summary.points.len() as u64);
        self.items.push_back(Item { seq, at, window_ms, points, is_past, summary: Some(summary) });
    }

    /// Hands the next over, so many at most, and takes them as sent.
    pub(crate) fn send(&mut self, count: usize, mut each: impl FnMut(u64, &Summary)) {
        let upto = self.items.len().min(self.sent + count);
        if self.items.range(self.sent..upto).any(|item| item.summary.is_none()) {
            self.make_again();
        }
        for item in self.items.range_mut(self.sent..upto) {
            item.summary.iter().for_each(|summary| each(item.seq, summary));
            if item.is_past {
                item.summary = None;
            }
        }
        self.sent = upto;
    }

    /// Everything is to be sent again.
    pub(crate) fn begin_again(&mut self) {
        self.sent = 0;
    }

    /// Lets go what is durable, and says how many points each had.
    pub(crate) fn acknowledged(&mut self, durable: u64, mut each: impl FnMut(u64)) {
        while let Some(item) = self.items.front().filter(|item| item.seq <= durable) {
            each(item.points);
            self.items.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        let first = self.items.front().map_or(u64::MAX, |item| item.seq);
        while self.before.get(1).is_some_and(|(seq, _)| *seq <= first) || first == u64::MAX && !self.before.is_empty() {
            self.before.pop_front();
        }
    }

    fn make_again(&mut self) {
        let ends = self.before.iter().skip(1).map(|(seq, _)| *seq).chain([u64::MAX]);
        for ((first, values), end) in self.before.iter().zip(ends) {
            let (mut values, mut next) = (values.clone(), *first);
            for item in self.items.iter_mut().filter(|item| item.is_past && (*first..end).contains(&item.seq)) {
                while next <= item.seq {
                    let made = values.next(item.at, item.window_ms).0;
                    item.summary = Some(made);
                    next += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::values::Series;
    use super::*;

    #[test]
    fn what_is_sent_again_is_what_was_sent_before() {
        let mut values = Values::of(&Arc::new(Series::made(40)), 3);
        let mut spool = Spool::default();
        let at = |seq: u64| Now { boot_ns: seq, wall_ms: 1_700_000_000_000 + i64::try_from(seq).unwrap() };
        for seq in 1..=9 {
            if [1, 4].contains(&seq) {
                spool.past_from(seq, values.clone());
            }
            spool.add(seq, values.next(at(seq), 10_000).0, seq < 8);
        }
        let send = |spool: &mut Spool, count| {
            let mut sent = Vec::new();
            spool.send(count, |seq, summary| sent.push((seq, summary.clone())));
            sent
        };
        let first = send(&mut spool, 100);
        assert_eq!(first.len(), 9);
        assert_eq!(spool.items.iter().filter(|item| item.summary.is_some()).count(), 2, "what came about is kept");
        assert_eq!(send(&mut spool, 100), []);
        spool.begin_again();
        assert_eq!(send(&mut spool, 100), first);
        let mut points = 0;
        spool.acknowledged(5, |of| points += of);
        assert_eq!((points, spool.len(), spool.unsent()), (5 * 40, 4, 0));
        spool.begin_again();
        assert_eq!(send(&mut spool, 2), first[5..7]);
        assert_eq!(send(&mut spool, 2), first[7..]);
        spool.acknowledged(9, |_| {});
        assert_eq!((spool.len(), spool.before.len()), (0, 0));
    }
}
