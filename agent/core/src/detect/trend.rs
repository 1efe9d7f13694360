//! Trends: a bounded history of one value, and the slope through it.
//!
//! The slope is Theil and Sen's: the median of the slopes between all pairs of points, so that up
//! to a quarter of the points may be anything (a temporary file, a collection of garbage) without
//! moving it. Its quartiles say how steady the growth is. Cost: n²/2 slopes of at most
//! [`POINTS_MAX`] points.

use super::clock::Millis;
use super::codec::{Reader, Writer};

/// Most points of a history: 96 × 95 / 2 = 4 560 slopes, some 50 µs.
pub(crate) const POINTS_MAX: usize = 96;

/// Points of one value, one per step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History {
    step: Millis,
    len_max: usize,
    /// Oldest first.
    points: Vec<(Millis, f64)>,
}

impl History {
    /// One point every `step`, at most `len_max` of them.
    pub(crate) fn new(step: Millis, len_max: usize) -> Self {
        Self { step, len_max: len_max.min(POINTS_MAX), points: Vec::new() }
    }

    /// Takes a value; says whether it became a new point. Within a step, `merge` makes one of the
    /// point that stands and the new value. Points older than the whole history are forgotten, so
    /// a gap leaves only what is still recent.
    pub(crate) fn push(&mut self, t: Millis, value: f64, merge: impl Fn(f64, f64) -> f64) -> bool {
        let slot = t.div_euclid(self.step);
        if let Some(last) = self.points.last_mut()
            && last.0.div_euclid(self.step) == slot
        {
            last.1 = merge(last.1, value);
            return false;
        }
        let oldest = t.saturating_sub(self.step.saturating_mul(Millis::try_from(self.len_max).unwrap_or(Millis::MAX)));
        self.points.retain(|point| point.0 > oldest);
        if self.points.len() >= self.len_max {
            self.points.remove(0);
        }
        self.points.push((t, value));
        true
    }

    pub(crate) fn points(&self) -> &[(Millis, f64)] {
        &self.points
    }

    /// The points whose step is over: all but the last.
    pub(crate) fn settled(&self) -> &[(Millis, f64)] {
        self.points.split_last().map_or(&[], |(_, settled)| settled)
    }

    pub(crate) fn clear(&mut self) {
        self.points.clear();
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.points.len());
        for (t, value) in &self.points {
            writer.i64(*t);
            writer.f64(*value);
        }
    }

    /// Fills an empty history.
    pub(crate) fn load(mut self, reader: &mut Reader<'_>) -> Option<Self> {
        for _ in 0..reader.len()?.min(self.len_max) {
            self.points.push((reader.i64()?, reader.f64()?));
        }
        Some(self)
    }
}

/// A slope per second with its quartiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slope {
    pub(crate) low: f64,
    pub(crate) mid: f64,
    pub(crate) high: f64,
}

/// The time that `points` span, in milliseconds.
pub(crate) fn span(points: &[(Millis, f64)]) -> Millis {
    match points {
        [first, .., last] => last.0.saturating_sub(first.0),
        _ => 0,
    }
}

/// The slope through `points`; `None` through fewer than three.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn slope(points: &[(Millis, f64)]) -> Option<Slope> {
    if points.len() < 3 {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (at, a) in points.iter().enumerate() {
        for b in &points[at + 1..] {
            if b.0 > a.0 {
                slopes.push((b.1 - a.1) * 1_000.0 / (b.0 - a.0) as f64);
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    let mut quantile = |quarter: usize| {
        let at = (slopes.len() - 1) * quarter / 4;
        *slopes.select_nth_unstable_by(at, f64::total_cmp).1
    };
    Some(Slope { low: quantile(1), mid: quantile(2), high: quantile(3) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: impl IntoIterator<Item = f64>) -> Vec<(Millis, f64)> {
        (0..).map(|n: Millis| n * 1_000).zip(values).collect()
    }

    #[test]
    fn finds_the_slope_under_a_quarter_of_wild_points() {
        let points = line((0..40).map(|n| if n % 5 == 0 { 1e9 } else { f64::from(n) * 2.0 }));
        let slope = slope(&points).unwrap();
        assert!((slope.mid - 2.0).abs() < 0.5, "{slope:?}");
    }

    #[test]
    fn a_step_is_no_steady_growth() {
        let points = line((0..40).map(|n| if n < 20 { 0.0 } else { 100.0 }));
        assert_eq!(slope(&points).unwrap().low, 0.0);
        assert_eq!(slope(&points[..2]), None);
    }

    #[test]
    fn a_history_keeps_one_point_a_step_and_forgets_what_is_old() {
        let mut history = History::new(10_000, 5);
        for t in 0..100i32 {
            history.push(Millis::from(t) * 1_000, f64::from(t), f64::min);
        }
        assert_eq!(history.points().len(), 5);
        assert_eq!(history.points()[0], (50_000, 50.0), "the least of its step");
        history.push(500_000, 1.0, f64::min);
        assert_eq!(history.points(), [(500_000, 1.0)], "nothing recent is left after a gap");
    }
}
