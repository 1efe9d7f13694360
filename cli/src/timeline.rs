//! What happened on a host, on one line of time: what others tell of is merged here, and what is missing is found.
//!
//! In: entries from whatever source, in any order. Out: those of a span of time, oldest first, bounded from the old
//! end. Of equal times the cause comes before what came of it: found, then decided, done, verified.

use serde::Serialize;

/// What an entry tells of, in the order in which such things follow each other within one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// The host booted.
    Booted,
    /// The agent started.
    Started,
    /// Something on the host was changed, or deployed.
    Changed,
    /// Something is missing: lost on its way, or never taken.
    Missing,
    /// A finding opened.
    Found,
    /// Nothing is known of a finding any more.
    Unknown,
    /// It was decided to act.
    Decided,
    /// It was decided not to act.
    Held,
    /// An operator answered, stopped acting, or ordered something.
    Ordered,
    /// A step was carried out.
    Did,
    /// It is known whether that helped.
    Verified,
    /// A finding is over.
    Cleared,
}

impl What {
    /// As it is shown.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Booted => "booted",
            Self::Started => "started",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Found => "found",
            Self::Unknown => "unknown",
            Self::Decided => "decided",
            Self::Held => "held",
            Self::Ordered => "ordered",
            Self::Did => "did",
            Self::Verified => "verified",
            Self::Cleared => "cleared",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at_ms: i64,
    /// Until when, of what has a length.
    pub(crate) until_ms: Option<i64>,
    pub(crate) what: What,
    pub(crate) subject: String,
    pub(crate) text: String,
    /// What `mainstay explain`, `findings show` and `undo` take.
    pub(crate) id: Option<String>,
}

impl Entry {
    /// An entry without a length.
    pub(crate) fn new(at_ms: i64, what: What, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { at_ms, until_ms: None, what, subject: subject.into(), text: text.into(), id: None }
    }

    /// The same with its id.
    pub(crate) fn under(self, id: impl ToString) -> Self {
        Self { id: Some(id.to_string()), ..self }
    }

    /// The same until a later moment.
    pub(crate) fn until(self, until_ms: i64) -> Self {
        Self { until_ms: Some(until_ms), ..self }
    }

    /// What has a length counts where any of it lies within.
    fn is_within(&self, (from_ms, to_ms): (i64, i64)) -> bool {
        self.until_ms.unwrap_or(self.at_ms) >= from_ms && self.at_ms <= to_ms
    }
}

/// Entries of a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
    /// Earlier ones within the span that are left out.
    pub(crate) left_out: usize,
}

/// Merges entries: those within the span, oldest first, the latest `max` of them. Those of one moment come in the
/// order of [`What`], and otherwise as they were given.
pub(crate) fn merge(all: impl IntoIterator<Item = Entry>, span: (i64, i64), max: usize) -> Timeline {
    let mut entries: Vec<Entry> = all.into_iter().filter(|entry| entry.is_within(span)).collect();
    entries.sort_by_key(|entry| (entry.at_ms, entry.what));
    let left_out = entries.len().saturating_sub(max);
    entries.drain(..left_out);
    Timeline { entries, left_out }
}

/// Between two stored points nothing is missing for so long, whatever their usual distance.
const SILENCE_MS_MIN: i64 = 60_000;
/// And not for so many of their usual distances.
const SILENCE_STEPS: i64 = 3;
/// Distances before and after one that say what is usual there: older points may be stored further apart.
const NEIGHBOURS: usize = 5;

/// Where a series that always comes has no points, within a span: from when to when. `at_ms` is sorted.
pub(crate) fn silences(at_ms: &[i64], (from_ms, to_ms): (i64, i64)) -> Vec<(i64, i64)> {
    let within: Vec<i64> = at_ms.iter().copied().filter(|at| (from_ms..=to_ms).contains(at)).collect();
    let (Some(first), Some(last)) = (within.first().copied(), within.last().copied()) else {
        return if to_ms - from_ms > SILENCE_MS_MIN { vec![(from_ms, to_ms)] } else { Vec::new() };
    };
    let distances: Vec<i64> = within.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let is_silence = |at: usize, distance: i64| distance > SILENCE_MS_MIN.max(SILENCE_STEPS * usual(&distances, at));
    let mut found = Vec::new();
    if is_silence(0, first - from_ms) {
        found.push((from_ms, first));
    }
    for (n, pair) in within.windows(2).enumerate() {
        if is_silence(n, pair[1] - pair[0]) {
            found.push((pair[0], pair[1]));
        }
    }
    if is_silence(distances.len(), to_ms - last) {
        found.push((last, to_ms));
    }
    found
}

/// The upper median of the distances around one, that one left out.
fn usual(distances: &[i64], at: usize) -> i64 {
    let before = distances.iter().take(at).rev().take(NEIGHBOURS);
    let after = distances.iter().skip(at + 1).take(NEIGHBOURS);
    let mut around: Vec<i64> = before.chain(after).copied().collect();
    around.sort_unstable();
    around.get(around.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(at_ms: i64, what: What, text: &str) -> Entry {
        Entry::new(at_ms, what, "host", text)
    }

    #[test]
    fn within_one_moment_the_cause_comes_before_what_came_of_it() {
        use What::{Cleared, Decided, Did, Found, Held, Verified};
        let all = [
            entry(7, Cleared, "e"),
            entry(7, Did, "c"),
            entry(5, Held, "first"),
            entry(7, Verified, "d"),
            entry(7, Decided, "b"),
            entry(7, Found, "a1"),
            entry(7, Found, "a2"),
            entry(9, Found, "last"),
        ];
        let texts: Vec<_> = merge(all, (0, 10), 100).entries.into_iter().map(|entry| entry.text).collect();
        assert_eq!(texts, ["first", "a1", "a2", "b", "c", "d", "e", "last"]);
    }

    #[test]
    fn what_has_a_length_counts_where_any_of_it_lies_within() {
        let gap = |from, until| entry(from, What::Missing, "").until(until);
        let all =
            [gap(0, 4), gap(0, 5), gap(8, 30), gap(11, 12), entry(4, What::Found, ""), entry(10, What::Found, "")];
        let at: Vec<_> = merge(all, (5, 10), 100).entries.iter().map(|entry| entry.at_ms).collect();
        assert_eq!(at, [0, 8, 10]);
    }

    #[test]
    fn a_hole_is_found_at_either_end_and_between() {
        let every_10_s = |from: i64, to: i64| (from..=to).map(|n| n * 10_000);
        let whole: Vec<_> = every_10_s(0, 360).collect();
        assert_eq!(silences(&whole, (0, 3_600_000)), []);
        assert_eq!(silences(&whole, (-3_600_000, 3_640_000)), [(-3_600_000, 0)]);
        assert_eq!(silences(&whole, (0, 4_000_000)), [(3_600_000, 4_000_000)]);
        let holed: Vec<_> = every_10_s(0, 10).chain([400_000]).chain(every_10_s(100, 110)).collect();
        assert_eq!(silences(&holed, (0, 1_100_000)), [(100_000, 400_000), (400_000, 1_000_000)]);
        assert_eq!(silences(&[], (0, 100_000)), [(0, 100_000)]);
        assert_eq!(silences(&[], (0, 50_000)), []);
    }

    #[test]
    fn points_that_are_stored_further_apart_are_no_holes() {
        let coarse = (0..100).map(|n| n * 300_000);
        let fine = (0..100).map(|n| 30_000_000 + n * 10_000);
        let all: Vec<_> = coarse.chain(fine).collect();
        assert_eq!(silences(&all, (0, 31_000_000)), []);
        let holed: Vec<_> = all.into_iter().filter(|at| !(3_000_000..6_000_000).contains(at)).collect();
        assert_eq!(silences(&holed, (0, 31_000_000)), [(2_700_000, 6_000_000)]);
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let what = prop::sample::select(vec![What::Changed, What::Found, What::Held, What::Did, What::Cleared]);
        let one = (0i64..50, what, prop::option::of(0i64..20));
        prop::collection::vec(one, 0..60).prop_map(|all| {
            let entry = |(n, (at, what, length)): (usize, (i64, What, Option<i64>))| {
                let entry = Entry::new(at, what, "host", n.to_string());
                match length {
                    Some(length) => entry.until(at + length),
                    None => entry,
                }
            };
            all.into_iter().enumerate().map(entry).collect()
        })
    }

    proptest! {
        #[test]
        fn nothing_within_is_lost_or_doubled_and_what_is_left_out_is_the_earliest(
            all in entries(),
            from in 0i64..40,
            length in 0i64..40,
            max in 0usize..40,
        ) {
            let span = (from, from + length);
            let within = all.iter().filter(|entry| entry.is_within(span)).count();
            let whole = merge(all.clone(), span, usize::MAX);
            prop_assert_eq!((whole.entries.len(), whole.left_out), (within, 0));
            // In order; and of those that are alike, as they were given.
            let key = |entry: &Entry| (entry.at_ms, entry.what, entry.text.parse::<usize>().unwrap());
            prop_assert!(whole.entries.is_sorted_by_key(key));
            let cut = merge(all, span, max);
            prop_assert_eq!(cut.left_out, within.saturating_sub(max));
            prop_assert_eq!(&cut.entries[..], &whole.entries[cut.left_out..]);
        }

        #[test]
        fn silences_lie_apart_within_the_span_and_hold_no_point(
            steps in prop::collection::vec(1i64..400_000, 0..80),
            from in -1_000_000i64..1_000_000,
            length in 0i64..10_000_000,
        ) {
            let at: Vec<i64> = steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
            let span = (from, from + length);
            let found = silences(&at, span);
            for (begin, end) in &found {
                prop_assert!(span.0 <= *begin && end - begin > SILENCE_MS_MIN && *end <= span.1);
                prop_assert!(!at.iter().any(|at| begin < at && at < end), "{found:?}");
            }
            prop_assert!(found.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{found:?}");
        }
    }
}
