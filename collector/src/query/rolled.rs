//! Coarse series: what of them a question is answered with.

use mainstay_fleet::block::Which;
use mainstay_fleet::rollup::{STALE, Tally, Tier, is_stale, values_at};
use mainstay_promql::Fold;

/// What of a rolled up series is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// One of its values.
    Value(Which),
    /// What its points came to.
    Tally(Tally),
    /// One of its values as often as there were points.
    Times(Which),
}

impl Asked {
    /// What is meant by the value that a name stands for, and by what will be made of it. What a plain name stands for is
    /// tallied; of the extremes and the mean of a gauge only those of the stretch are known.
    pub(super) fn of(suffix: &str, which: Which, fold: Fold) -> Self {
        match (fold, suffix) {
            (Fold::Count, _) => Self::Tally(Tally::Count),
            (Fold::Min, "") => Self::Tally(Tally::Min),
            (Fold::Max, "") => Self::Tally(Tally::Max),
            (Fold::Sum, "") => Self::Tally(Tally::Sum),
            (Fold::Sum, _) => Self::Times(which),
            (Fold::Last | Fold::Min | Fold::Max, _) => Self::Value(which),
        }
    }

    /// The cell of a series in a schema, and which of its values.
    pub(super) fn cell(self, series: usize) -> (usize, Which) {
        match self {
            Self::Value(which) | Self::Times(which) => (values_at(series), which),
            Self::Tally(tally) => (Tally::at(series), tally.which()),
        }
    }
}

/// Makes of points in the order of their times one for each stretch: what is not rolled up yet.
pub(super) fn together(
    points: &[(i64, f64)],
    tier: Tier,
    suffix: &str,
    fold: Fold,
) -> impl Iterator<Item = (i64, f64)> {
    let of_points = of_points(suffix, fold);
    let of = move |stretch: &[(i64, f64)]| {
        let ends = stretch.last().is_some_and(|(_, value)| is_stale(*value));
        if (fold, suffix) == (Fold::Last, "") || !stretch.iter().any(|(_, value)| is_stale(*value)) {
            return of_points(stretch);
        }
        let points: Vec<(i64, f64)> = stretch.iter().copied().filter(|(_, value)| !is_stale(*value)).collect();
        if points.is_empty() && ends { f64::from_bits(STALE) } else { of_points(&points) }
    };
    points
        .chunk_by(move |(a, _), (b, _)| tier.stretch_of(*a) == tier.stretch_of(*b))
        .filter_map(move |stretch| Some((stretch.last()?.0, of(stretch))))
}

/// How the points of a stretch become one.
fn of_points(suffix: &str, fold: Fold) -> fn(&[(i64, f64)]) -> f64 {
    fn sum(points: &[(i64, f64)]) -> f64 {
        points.iter().map(|(_, value)| value).sum()
    }
    #[allow(clippy::cast_precision_loss, reason = "a stretch has some thousand points")]
    fn count(points: &[(i64, f64)]) -> f64 {
        points.len() as f64
    }
    match (fold, suffix) {
        (Fold::Count, _) => count,
        (Fold::Sum, _) => sum,
        (Fold::Min, _) | (Fold::Last, "min") => {
            |points| points.iter().fold(f64::NAN, |min, (_, value)| min.min(*value))
        }
        (Fold::Max, _) | (Fold::Last, "max") => {
            |points| points.iter().fold(f64::NAN, |max, (_, value)| max.max(*value))
        }
        (Fold::Last, "mean") => |points| sum(points) / count(points),
        (Fold::Last, _) => |points| points.last().map_or(f64::NAN, |(_, value)| *value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_series_ended_is_no_point_and_ends_its_stretch() {
        let stale = f64::from_bits(STALE);
        let points = [(1, 4.0), (2, stale), (300_001, stale)];
        let of =
            |suffix, fold| together(&points, Tier::Minutes5, suffix, fold).map(|(_, value)| value).collect::<Vec<_>>();
        for (suffix, fold, first) in
            [("", Fold::Count, 1.0), ("", Fold::Sum, 4.0), ("", Fold::Max, 4.0), ("min", Fold::Last, 4.0)]
        {
            let values = of(suffix, fold);
            assert!(values[0] == first && is_stale(values[1]), "{suffix} {fold:?}: {values:?}");
        }
        assert!(of("", Fold::Last).into_iter().all(is_stale));
    }

    #[test]
    fn points_of_a_stretch_come_to_what_is_made_of_them() {
        let points = [(1, 4.0), (2, f64::NAN), (3, 1.0), (300_000, 3.0), (300_001, 9.0)];
        let of = |suffix, fold| together(&points, Tier::Minutes5, suffix, fold).collect::<Vec<_>>();
        for (suffix, fold, first) in [
            ("", Fold::Last, 3.0),
            ("min", Fold::Last, 1.0),
            ("max", Fold::Last, 4.0),
            ("", Fold::Min, 1.0),
            ("", Fold::Max, 4.0),
            ("", Fold::Count, 4.0),
        ] {
            let last = if fold == Fold::Count { 1.0 } else { 9.0 };
            assert_eq!(of(suffix, fold), [(300_000, first), (300_001, last)], "{suffix} {fold:?}");
        }
        assert!(of("", Fold::Sum)[0].1.is_nan() && of("mean", Fold::Last)[0].1.is_nan());
        let numbers = [(1, 4.0), (2, 2.0)];
        let one = |suffix, fold| together(&numbers, Tier::Hour, suffix, fold).next();
        assert_eq!((one("", Fold::Sum), one("mean", Fold::Last)), (Some((2, 6.0)), Some((2, 3.0))));
    }
}
