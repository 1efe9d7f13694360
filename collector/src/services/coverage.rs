//! How much of a range is there: the windows of a host's rows, of what it should have sent by now.

/// What an agent gathers before it sends it, and some for the way.
const ON_ITS_WAY_MS: i64 = 25_000;
/// A window at each end of a range is cut by it; that is not a gap.
const EDGE: f64 = 0.02;

/// Windows of rows, in any order: where each ends, and how long it is.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    ends: Vec<i64>,
    lengths: Vec<i64>,
}

impl Windows {
    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.lengths.truncate(len);
    }

    /// Adds windows that have as many ends as lengths.
    pub(crate) fn add(&mut self, ends: &[i64], lengths: &[i64]) {
        self.ends.extend_from_slice(ends);
        self.lengths.extend_from_slice(lengths);
    }

    /// The end of the last one.
    pub(crate) fn last_ms(&self) -> Option<i64> {
        self.ends.iter().copied().max()
    }

    /// The share of a range that they cover, of what the host should have sent by now: not from before it was enrolled,
    /// and not what it is still gathering.
    pub(crate) fn share(&mut self, (from_ms, to_ms): (i64, i64), enrolled_ms: i64, heard_ms: i64) -> f64 {
        // Mostly they are in order: looked at without stopping, many go in one step.
        if !self.ends.windows(2).fold(true, |all, pair| all & (pair[0] < pair[1])) {
            let mut all: Vec<(i64, i64)> = self.ends.drain(..).zip(self.lengths.drain(..)).collect();
            all.sort_unstable();
            all.dedup_by_key(|(end, _)| *end);
            (self.ends, self.lengths) = all.into_iter().unzip();
        }
        let last = self.ends.last().copied().unwrap_or(heard_ms);
        let until = to_ms.min(if heard_ms - last < ON_ITS_WAY_MS { last } else { heard_ms });
        let expected = (until - from_ms.max(enrolled_ms)).max(1);
        let share = (self.lengths.iter().sum::<i64>() as f64 / expected as f64).clamp(0.0, 1.0);
        if 1.0 - share < EDGE { 1.0 } else { share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_covered_by_what_should_have_come_by_now() {
        let every_10_s =
            |from: i64, to: i64| (from + 1..=to).map(|n| (n * 10_000, 10_000)).collect::<Vec<(i64, i64)>>();
        let cases = [
            ("all of it", every_10_s(0, 60), (0, 600_000), 0, 600_000, 1.0),
            ("the latest is on its way", every_10_s(0, 59), (0, 600_000), 0, 605_000, 1.0),
            ("half of it never came", every_10_s(0, 30), (0, 600_000), 0, 600_000, 0.5),
            ("it was enrolled on the way", every_10_s(30, 60), (0, 600_000), 300_000, 600_000, 1.0),
            ("it went silent, and what it sent is here", every_10_s(0, 30), (0, 600_000), 0, 301_000, 1.0),
            (
                "a hole in the middle",
                every_10_s(0, 20).into_iter().chain(every_10_s(40, 60)).collect(),
                (0, 600_000),
                0,
                600_000,
                2.0 / 3.0,
            ),
            (
                "late ones, and some that came twice",
                every_10_s(30, 60).into_iter().chain(every_10_s(0, 31)).collect(),
                (0, 600_000),
                0,
                600_000,
                1.0,
            ),
        ];
        for (name, windows, range, enrolled, heard, expected) in cases {
            let mut covered = Windows::default();
            windows.iter().for_each(|(end, length)| covered.add(&[*end], &[*length]));
            let share = covered.share(range, enrolled, heard);
            assert!((share - expected).abs() < 1e-9, "{name}: {share}");
        }
    }
}
