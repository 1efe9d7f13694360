//! What is unusual on one host against its peers: how far its values lie from theirs, in units of their own spread.
//!
//! In: a value and the peers' values. Out: their median, their spread (the median of the distances from the
//! median), and how many spreads away the value is. Both are medians, so that a few odd peers change neither.
//! Values that lie closer together than what is worth a word count as that far apart ([`FLOOR_SHARE`] and the
//! signal's own floor): peers that are all alike make no trifle stand out.

use std::cmp::Ordering;

/// Fewer peers than this have no spread that says anything.
pub(crate) const PEERS_MIN: usize = 3;

/// The least that counts as spread, as a share of the median.
const FLOOR_SHARE: f64 = 0.05;

/// How a value stands among its peers'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    pub(crate) value: f64,
    pub(crate) median: f64,
    /// The median of the peers' distances from their median.
    pub(crate) deviation: f64,
    /// What counts as one spread: the deviation, but not less than the floors.
    pub(crate) spread: f64,
    /// How many spreads the value is above the median; below it where negative.
    pub(crate) away: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
    pub(crate) peers: usize,
}

/// How a value stands among its peers'; nothing if it is no number, or fewer than [`PEERS_MIN`] of theirs are.
/// `floor` is the least difference that matters; it is above 0.
pub(crate) fn standing(value: f64, peers: &[f64], floor: f64) -> Option<Standing> {
    let mut sorted: Vec<f64> = peers.iter().copied().filter(|peer| peer.is_finite()).collect();
    if sorted.len() < PEERS_MIN || !value.is_finite() {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    let (least, greatest) = (*sorted.first()?, *sorted.last()?);
    let median = median_of_sorted(&sorted);
    let mut distances: Vec<f64> = sorted.iter().map(|peer| (peer - median).abs()).collect();
    distances.sort_by(f64::total_cmp);
    let deviation = median_of_sorted(&distances);
    let spread = deviation.max(floor).max(FLOOR_SHARE * median.abs());
    let away = (value - median) / spread;
    Some(Standing { value, median, deviation, spread, away, least, greatest, peers: sorted.len() })
}

/// The middle of what is sorted, or the mean of the two in the middle; 0 of nothing.
fn median_of_sorted(sorted: &[f64]) -> f64 {
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => upper,
        even => {
            let lower = sorted.get(even / 2 - 1).copied().unwrap_or_default();
            lower + (upper - lower) / 2.0
        }
    }
}

/// What is further away comes first, on whichever side.
pub(crate) fn furthest_first(a: &Standing, b: &Standing) -> Ordering {
    b.away.abs().total_cmp(&a.away.abs())
}

/// At most `max` of these, spread evenly over all of them: a fair choice where they are sorted by name.
pub(crate) fn evenly<T>(all: Vec<T>, max: usize) -> Vec<T> {
    let count = all.len();
    if count <= max {
        return all;
    }
    // The n-th is taken where n × max / count passes a whole number.
    let is_taken = |n: usize| n * max / count != (n + 1) * max / count;
    all.into_iter().enumerate().filter(|(n, _)| is_taken(*n)).map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A floor that plays no part.
    const NONE: f64 = 1e-12;

    #[test]
    fn a_value_is_told_in_spreads_from_the_median_of_its_peers() {
        let peers = [10.0, 12.0, 14.0, 16.0, 90.0];
        let at = standing(24.0, &peers, NONE).unwrap();
        assert_eq!((at.median, at.deviation, at.spread, at.away), (14.0, 2.0, 2.0, 5.0));
        assert_eq!((at.least, at.greatest, at.peers), (10.0, 90.0, 5));
        assert_eq!(standing(10.0, &peers, NONE).unwrap().away, -2.0);
        let even = standing(4.0, &[1.0, 2.0, 3.0, 4.0], NONE).unwrap();
        assert_eq!((even.median, even.deviation, even.away), (2.5, 1.0, 1.5));
    }

    #[test]
    fn trifles_do_not_stand_out_among_peers_that_are_all_alike() {
        let alike = [0.10; 9];
        let cpu = |value| standing(value, &alike, 0.02).unwrap();
        assert_eq!((cpu(0.11).deviation, cpu(0.11).spread), (0.0, 0.02));
        assert!(cpu(0.11).away < 1.0 && cpu(0.9).away > 30.0);
        // A twentieth of what is usual is a trifle too, however little the floor.
        let large = standing(1_040.0, &[1_000.0; 5], 1.0).unwrap();
        assert!(large.away < 1.0, "{large:?}");
    }

    #[test]
    fn too_few_peers_say_nothing() {
        assert_eq!(standing(1.0, &[1.0, 2.0], 1.0), None);
        assert_eq!(standing(1.0, &[1.0, 2.0, f64::NAN, f64::INFINITY], 1.0), None);
        assert_eq!(standing(f64::NAN, &[1.0, 2.0, 3.0], 1.0), None);
        assert!(standing(1.0, &[1.0, 2.0, 3.0], 1.0).is_some());
    }

    #[test]
    fn what_is_further_comes_first_on_whichever_side() {
        let mut all: Vec<_> =
            [12.0, -30.0, 20.0].iter().map(|value| standing(*value, &[9.0, 10.0, 11.0], 1.0).unwrap()).collect();
        all.sort_by(furthest_first);
        assert_eq!(all.iter().map(|at| at.value).collect::<Vec<_>>(), [-30.0, 20.0, 12.0]);
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-1e6..1e6, PEERS_MIN..40)
    }

    proptest! {
        #[test]
        fn the_order_of_the_peers_does_not_matter(peers in values(), value in -1e6..1e6, by in 0usize..40) {
            let mut turned = peers.clone();
            turned.rotate_left(by % peers.len());
            turned.reverse();
            prop_assert_eq!(standing(value, &peers, 0.5), standing(value, &turned, 0.5));
        }

        #[test]
        fn half_of_the_peers_lie_within_one_deviation_and_half_on_each_side(peers in values(), value in -1e6..1e6) {
            let at = standing(value, &peers, 0.5).unwrap();
            let far = |peer: &f64| (peer - at.median).abs();
            // A hair of room: the mean of two in the middle is rounded.
            let within = peers.iter().filter(|peer| far(peer) <= at.deviation + 1e-6).count();
            let below = peers.iter().filter(|peer| **peer <= at.median + 1e-6).count();
            let above = peers.iter().filter(|peer| **peer >= at.median - 1e-6).count();
            prop_assert!(within * 2 >= peers.len() && below * 2 >= peers.len() && above * 2 >= peers.len());
            prop_assert!(at.least <= at.median && at.median <= at.greatest && at.deviation >= 0.0);
        }

        #[test]
        fn another_unit_of_measure_changes_nothing(peers in values(), value in -1e6..1e6, by in 1e-3..1e3) {
            let at = standing(value, &peers, 0.5).unwrap();
            let scaled: Vec<f64> = peers.iter().map(|peer| peer * by).collect();
            let other = standing(value * by, &scaled, 0.5 * by).unwrap();
            prop_assert!((at.away - other.away).abs() <= 1e-6 * at.away.abs().max(1.0), "{at:?} {other:?}");
        }

        #[test]
        fn what_lies_further_off_stands_out_more(peers in values(), near in 0.0..1e6, more in 1.0..1e6, floor in 0.1..1e3) {
            let median = standing(0.0, &peers, floor).unwrap().median;
            prop_assert_eq!(standing(median, &peers, floor).unwrap().away, 0.0);
            for side in [1.0, -1.0] {
                let away = |far: f64| standing(median + side * far, &peers, floor).unwrap().away * side;
                prop_assert!(away(near) >= 0.0 && away(near + more) > away(near));
            }
            // Nothing below the floor is a whole spread away.
            let trifle = standing(median + floor * 0.99, &peers, floor).unwrap();
            prop_assert!(trifle.away < 1.0, "{trifle:?}");
        }

        #[test]
        fn odd_peers_below_a_half_do_not_move_the_median_out_of_the_others(
            peers in values(),
            odd in prop::collection::vec(1e8..1e12, 0..20),
        ) {
            let odd = &odd[..odd.len().min(peers.len() - 1)];
            let all: Vec<f64> = peers.iter().chain(odd).copied().collect();
            let (clean, at) = (standing(0.0, &peers, 0.5).unwrap(), standing(0.0, &all, 0.5).unwrap());
            prop_assert!(at.median >= clean.least && at.median <= clean.greatest, "{at:?}");
            prop_assert!(at.deviation <= clean.greatest - clean.least, "{at:?} {clean:?}");
        }

        #[test]
        fn as_many_as_asked_for_are_chosen_and_none_twice(count in 0usize..500, max in 1usize..200) {
            let all: Vec<usize> = (0..count).collect();
            let chosen = evenly(all, max);
            prop_assert_eq!(chosen.len(), count.min(max));
            prop_assert!(chosen.is_sorted_by(|a, b| a < b));
            let widest = chosen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            prop_assert!(widest <= count.div_ceil(max), "{chosen:?}");
        }
    }
}
