//! Which series of a host are stored: no more than it may bring.
//!
//! In: the points of its summaries. Out: the set of series that have a place. Whoever has one keeps it, so that the set,
//! and with it the schema that is stored, changes rarely: a series that is gone leaves when there is no room for others,
//! and only when it is asked to, and of those that come at once the first by name are taken.

use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey};

/// The series of one host that have a place, sorted, and which of them are gauges.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeriesSet {
    keys: Vec<Arc<SeriesKey>>,
    gauge: Vec<bool>,
}

impl SeriesSet {
    /// Series that are sorted, and of each whether it is a gauge.
    #[must_use]
    pub fn of(keys: Vec<Arc<SeriesKey>>, gauge: Vec<bool>) -> Self {
        Self { keys, gauge }
    }

    /// The series, sorted.
    #[must_use]
    pub fn keys(&self) -> &[Arc<SeriesKey>] {
        &self.keys
    }

    /// The series, sorted, and of each whether it is a gauge.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Arc<SeriesKey>>, Vec<bool>) {
        (self.keys, self.gauge)
    }

    /// Takes those points, which are sorted, that are not known, as long as there are fewer than `max`. Says whether the set
    /// is another now.
    pub fn take(&mut self, points: &[(Arc<SeriesKey>, Point)], max: usize) -> bool {
        let (mut is_another, mut new, mut at) = (false, Self::default(), 0);
        for (key, point) in points {
            let is_gauge = matches!(point, Point::Gauge { .. });
            while self.keys.get(at).is_some_and(|known| known < key) {
                at += 1;
            }
            let known = if self.keys.get(at) == Some(key) {
                self.gauge.get_mut(at)
            } else {
                new.gauge.last_mut().filter(|_| new.keys.last() == Some(key))
            };
            if let Some(was) = known {
                is_another |= *was != is_gauge;
                *was = is_gauge;
            } else if self.keys.len() + new.keys.len() < max {
                new.push(Arc::clone(key), is_gauge);
            }
        }
        let are_new = !new.keys.is_empty();
        if are_new {
            self.merge(new);
        }
        is_another || are_new
    }

    /// Takes all of another, if none is of another kind here and there are then no more than `max`. Says whether it could.
    pub fn unite(&mut self, (keys, gauge): (&[Arc<SeriesKey>], &[bool]), max: usize) -> bool {
        let (mut new, mut at) = (Self::default(), 0);
        for (key, is_gauge) in keys.iter().zip(gauge) {
            while self.keys.get(at).is_some_and(|known| known < key) {
                at += 1;
            }
            if self.keys.get(at) != Some(key) {
                new.push(Arc::clone(key), *is_gauge);
            } else if self.gauge.get(at) != Some(is_gauge) {
                return false;
            }
        }
        let fits = self.keys.len() + new.keys.len() <= max;
        if fits && !new.keys.is_empty() {
            self.merge(new);
        }
        fits
    }

    fn push(&mut self, key: Arc<SeriesKey>, is_gauge: bool) {
        self.keys.push(key);
        self.gauge.push(is_gauge);
    }

    /// Takes all of another, which has none of these.
    fn merge(&mut self, other: Self) {
        let count = self.keys.len() + other.keys.len();
        let mut all = Self { keys: Vec::with_capacity(count), gauge: Vec::with_capacity(count) };
        let mut others = other.keys.into_iter().zip(other.gauge).peekable();
        for (key, is_gauge) in self.keys.drain(..).zip(self.gauge.drain(..)) {
            while let Some((other, is_gauge)) = others.next_if(|(other, _)| *other < key) {
                all.push(other, is_gauge);
            }
            all.push(key, is_gauge);
        }
        others.for_each(|(key, is_gauge)| all.push(key, is_gauge));
        *self = all;
    }

    /// Forgets the series that are not among these points, which are sorted, if there is no room for all of the points, and
    /// the last by name if there are more than `max` even so. Says whether any was forgotten.
    pub fn make_room(&mut self, points: &[(Arc<SeriesKey>, Point)], max: usize) -> bool {
        let is_unknown = |key: &Arc<SeriesKey>| self.keys.binary_search(key).is_err();
        let unknown = points.iter().filter(|(key, _)| is_unknown(key)).count();
        let before = self.keys.len();
        if before + unknown <= max {
            return false;
        }
        let mut now = points.iter().map(|(key, _)| key).peekable();
        let mut kept = Self::default();
        for (key, is_gauge) in self.keys.drain(..).zip(self.gauge.drain(..)) {
            while now.next_if(|of| *of < &key).is_some() {}
            if kept.keys.len() < max && now.peek() == Some(&&key) {
                kept.push(key, is_gauge);
            }
        }
        *self = kept;
        self.keys.len() != before
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn points(names: impl IntoIterator<Item = u8>) -> Vec<(Arc<SeriesKey>, Point)> {
        let names: BTreeSet<u8> = names.into_iter().collect();
        let point = |n: u8| (Arc::new(SeriesKey::new(&format!("m{n:03}"), &[])), Point::Counter(1.0));
        names.into_iter().map(point).collect()
    }

    fn names(set: &SeriesSet) -> Vec<u8> {
        set.keys().iter().map(|key| key.name[1..].parse().unwrap()).collect()
    }

    #[test]
    fn who_has_a_place_keeps_it_and_who_is_gone_makes_room_when_asked() {
        let mut set = SeriesSet::default();
        assert!(set.take(&points([5, 6, 7]), 4));
        assert!(set.take(&points([1, 2, 5]), 4), "one place is left");
        assert_eq!(names(&set), [1, 5, 6, 7]);
        assert!(!set.take(&points([1, 2, 3]), 4), "nobody is driven out by a summary");
        assert!(set.make_room(&points([1, 2, 3]), 4));
        assert_eq!(names(&set), [1]);
        assert!(set.take(&points([1, 2, 3]), 4));
        assert!(!set.make_room(&points([2, 3]), 4), "there is room");
        assert_eq!(names(&set), [1, 2, 3]);
        assert!(!set.make_room(&points([1, 2, 3, 4, 5]), 3), "all of them are here");
        assert!(set.make_room(&points([1, 2, 3]), 2), "fewer are allowed now");
        assert_eq!(names(&set), [1, 2]);
    }

    #[test]
    fn a_counter_that_turns_gauge_is_another_set() {
        let mut set = SeriesSet::default();
        set.take(&points([1]), 4);
        let gauge = vec![(points([1])[0].0.clone(), Point::Gauge { last: 1.0, min: 1.0, max: 1.0, mean: 1.0 })];
        assert!(set.take(&gauge, 4));
        assert!(!set.take(&gauge, 4));
        assert_eq!(set.into_parts().1, [true]);
    }

    #[test]
    fn what_is_of_two_kinds_or_too_much_is_not_united() {
        let mut set = SeriesSet::default();
        set.take(&points([1, 2]), 4);
        let before = set.clone();
        let other = |names: &[u8], is_gauge| {
            let keys: Vec<_> = points(names.iter().copied()).into_iter().map(|(key, _)| key).collect();
            let gauge = vec![is_gauge; keys.len()];
            (keys, gauge)
        };
        for (keys, gauge) in [other(&[2, 3], true), other(&[3, 4, 5], false)] {
            assert!(!set.unite((&keys, &gauge), 4));
            assert_eq!(set, before);
        }
        let (keys, gauge) = other(&[0, 2, 3], false);
        assert!(set.unite((&keys, &gauge), 4));
        assert_eq!(names(&set), [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn united_are_all_of_both_once_and_sorted(one in prop::collection::vec(0u8..60, 0..40), two in prop::collection::vec(0u8..60, 0..40)) {
            let mut set = SeriesSet::default();
            set.take(&points(one.iter().copied()), 100);
            let mut other = SeriesSet::default();
            other.take(&points(two.iter().copied()), 100);
            let (keys, gauge) = other.into_parts();
            prop_assert!(set.unite((&keys, &gauge), 100));
            let all: BTreeSet<u8> = one.into_iter().chain(two).collect();
            prop_assert_eq!(names(&set), all.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(set.clone().into_parts().1.len(), set.keys().len());
        }

        #[test]
        fn there_are_never_more_than_allowed_and_all_are_here_that_fit(
            summaries in prop::collection::vec(prop::collection::vec(0u8..40, 0..30), 1..20), max in 1usize..20,
        ) {
            let mut set = SeriesSet::default();
            for summary in summaries {
                let points = points(summary);
                let before = names(&set);
                let is_room_made = set.make_room(&points, max);
                let is_taken = set.take(&points, max);
                let after = names(&set);
                prop_assert!(after.len() <= max);
                prop_assert_eq!(is_room_made || is_taken, before != after);
                let here: Vec<u8> = points.iter().map(|(key, _)| key.name[1..].parse().unwrap()).collect();
                let stored = here.iter().filter(|name| after.contains(name)).count();
                prop_assert_eq!(stored, here.len().min(max));
                // Who was stored and is still here is stored still.
                prop_assert!(before.iter().filter(|name| here.contains(name)).all(|name| after.contains(name)));
            }
        }
    }
}
