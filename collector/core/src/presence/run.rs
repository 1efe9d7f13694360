//! The times of some rows of an hour, as far as they have to be known to say whether a span has any of them.

/// First and last, and no two neighbours further apart than so much; in milliseconds since the hour began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    first: u32,
    last: u32,
    gap: u32,
}

/// Whether a span has a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// It has none.
    No,
    /// It has one.
    Yes,
    /// It lies between rows that are further apart than it is long.
    Perhaps,
}

impl Run {
    /// One row.
    #[must_use]
    pub fn at(at: u32) -> Self {
        Self { first: at, last: at, gap: 0 }
    }

    /// The rows of these times, in whatever order.
    #[must_use]
    pub fn of(times: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut times: Vec<u32> = times.into_iter().collect();
        times.sort_unstable();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Some(Self { first: *times.first()?, last: *times.last()?, gap })
    }

    /// These and others. Neighbours may come to be nearer than what is then known of them.
    pub fn add(&mut self, other: Self) {
        let between =
            if other.first > self.last { other.first - self.last } else { self.first.saturating_sub(other.last) };
        self.gap = self.gap.max(other.gap).max(between);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// The time of the first row.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// The time of the last row.
    #[must_use]
    pub fn last(self) -> u32 {
        self.last
    }

    /// Whether rows lie no further apart than so much, from the beginning of the hour to its end.
    #[must_use]
    pub fn is_whole(self, hour: u32, gap: u32) -> bool {
        self.first <= gap && self.last.saturating_add(gap) >= hour && self.gap <= gap
    }

    /// Whether a span, both ends included, has a row.
    #[must_use]
    pub fn within(self, from: u32, to: u32) -> Is {
        let has = |at: u32| (from..=to).contains(&at);
        if to < self.first || from > self.last || from > to {
            Is::No
        } else if has(self.first) || has(self.last) || to - from >= self.gap {
            Is::Yes
        } else {
            Is::Perhaps
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_it_says_is_so(
            times in prop::collection::vec(0u32..1000, 1..30), cut in any::<prop::sample::Index>(), span in (0u32..1000, 0u32..1000),
        ) {
            let (a, b) = times.split_at(cut.index(times.len()));
            let whole = Run::of(times.iter().copied()).unwrap();
            let mut runs = vec![whole];
            if let (Some(mut a), Some(b)) = (Run::of(a.iter().copied()), Run::of(b.iter().copied())) {
                a.add(b);
                runs.push(a);
            }
            runs.extend(times.iter().map(|at| Run::at(*at)).reduce(|mut run, at| {
                run.add(at);
                run
            }));
            let (from, to) = span;
            let is_so = times.iter().any(|at| (from..=to).contains(at));
            for run in runs {
                match run.within(from, to) {
                    Is::Yes => prop_assert!(is_so, "{:?}", run),
                    Is::No => prop_assert!(!is_so, "{:?}", run),
                    Is::Perhaps => {}
                }
                prop_assert_eq!((run.first, run.last), (whole.first, whole.last));
            }
            if to.saturating_sub(from) >= whole.gap {
                prop_assert!(whole.within(from, to) != Is::Perhaps);
            }
        }
    }

    #[test]
    fn a_span_between_two_rows_is_not_known() {
        let run = Run::of([10, 500, 20]).unwrap();
        for (from, to, is) in [(0, 9, Is::No), (501, 900, Is::No), (0, 10, Is::Yes), (30, 500, Is::Yes)] {
            assert_eq!(run.within(from, to), is, "{from} to {to}");
        }
        assert_eq!(run.within(30, 499), Is::Perhaps);
        assert_eq!(Run::of([10, 400, 700]).unwrap().within(20, 450), Is::Yes, "as long as the longest gap");
        assert_eq!(run.within(30, 20), Is::No);
        assert!(Run::of((0..60).map(|n| n * 10)).unwrap().is_whole(600, 10));
        assert!(!Run::of((0..50).map(|n| n * 10)).unwrap().is_whole(600, 10));
    }
}
