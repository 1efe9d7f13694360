//! Points brought down to the hour: gauges as their mean, counters as their rate.

use super::Hourly;

const HOUR_MS: i64 = 3_600_000;
/// Between two points of a counter that are further apart nobody knows when it rose.
const STEP_MAX_MS: i64 = HOUR_MS + 600_000;
/// An hour of a counter is known if so much of it was seen.
const SEEN_MIN_MS: f64 = 600_000.0;

/// The hours of one series, filled point by point, in the order of their times.
#[derive(Debug, Clone)]
pub struct Hours {
    first: i64,
    /// Sum and weight: of a gauge values and their number, of a counter its growth and milliseconds.
    sums: Vec<(f64, f64)>,
    last: Option<(i64, f64)>,
    points: u64,
    is_counter: bool,
}

/// The hour that a moment ends, counted since 1970: a point at the full hour belongs to the one before.
fn hour_of(at_ms: i64) -> i64 {
    (at_ms - 1).div_euclid(HOUR_MS)
}

impl Hours {
    /// So many hours of nothing yet.
    #[must_use]
    pub fn new(first: i64, hours: usize, is_counter: bool) -> Self {
        Self { first, sums: vec![(0.0, 0.0); hours], last: None, points: 0, is_counter }
    }

    /// Takes a point. Points at the same time or before the last are left out.
    pub fn add(&mut self, at_ms: i64, value: f64) {
        if !value.is_finite() || self.last.is_some_and(|(before, _)| at_ms <= before) {
            return;
        }
        self.points += 1;
        let last = self.last.replace((at_ms, value));
        if !self.is_counter {
            return self.put(hour_of(at_ms), value, 1.0);
        }
        let Some((before, from)) = last else { return };
        let step = at_ms - before;
        // A counter that was set back tells nothing of the step in which it was.
        if step > STEP_MAX_MS || value < from {
            return;
        }
        #[allow(clippy::cast_precision_loss)]
        for hour in hour_of(before + 1)..=hour_of(at_ms) {
            let within = (at_ms.min((hour + 1) * HOUR_MS) - before.max(hour * HOUR_MS)) as f64;
            self.put(hour, (value - from) * within / step as f64, within);
        }
    }

    fn put(&mut self, hour: i64, amount: f64, weight: f64) {
        if let Some(sum) = usize::try_from(hour - self.first).ok().and_then(|at| self.sums.get_mut(at)) {
            sum.0 += amount;
            sum.1 += weight;
        }
    }

    /// The newest point.
    #[must_use]
    pub fn last(&self) -> Option<(i64, f64)> {
        self.last
    }

    /// Milliseconds between two points, on average of the hours that were seen.
    #[must_use]
    pub fn step_ms(&self) -> u64 {
        let seen = self.sums.iter().filter(|(_, weight)| *weight > 0.0).count() as u64;
        (seen * HOUR_MS.unsigned_abs()).div_ceil(self.points.max(1))
    }

    /// The mean of each hour; of a counter what it grew by a second.
    #[must_use]
    pub fn hourly(&self) -> Hourly {
        let value = |(sum, weight): &(f64, f64)| {
            if self.is_counter {
                (*weight >= SEEN_MIN_MS).then(|| sum / weight * 1_000.0)
            } else {
                (*weight > 0.0).then(|| sum / weight)
            }
        };
        Hourly { first: self.first, values: self.sums.iter().map(value).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_the_mean_of_its_hour() {
        let mut hours = Hours::new(10, 3, false);
        for (at, value) in [(10 * HOUR_MS + 1, 2.0), (11 * HOUR_MS, 4.0), (11 * HOUR_MS + 1, 9.0), (99 * HOUR_MS, 1.0)]
        {
            hours.add(at, value);
        }
        hours.add(11 * HOUR_MS + 5, 1e9);
        assert_eq!(hours.hourly(), Hourly { first: 10, values: vec![Some(3.0), Some(9.0), None] });
        assert_eq!(hours.last(), Some((99 * HOUR_MS, 1.0)));
    }

    #[test]
    fn a_counter_is_its_rate_over_steps_of_any_length() {
        for step in [10_000, 300_000, HOUR_MS] {
            let mut hours = Hours::new(0, 4, true);
            for n in 0..=4 * HOUR_MS / step {
                // Two a second, five in the third hour.
                let fast = (n * step - 2 * HOUR_MS).clamp(0, HOUR_MS);
                #[allow(clippy::cast_precision_loss)]
                hours.add(n * step, (n * step * 2 + fast * 3) as f64 / 1e3);
            }
            let rates: Vec<f64> = hours.hourly().values.into_iter().map(Option::unwrap).collect();
            assert!((step * 4 / 5..=step).contains(&hours.step_ms().cast_signed()), "{}", hours.step_ms());
            assert!(
                rates.iter().zip([2.0, 2.0, 5.0, 2.0]).all(|(rate, truth)| (rate - truth).abs() < 1e-9),
                "{rates:?}"
            );
        }
    }

    #[test]
    fn what_a_counter_did_in_a_gap_or_a_reset_is_unknown() {
        let mut hours = Hours::new(0, 8, true);
        for n in 0..90 {
            hours.add(n * 60_000, n as f64);
        }
        hours.add(5 * HOUR_MS, 1e6);
        hours.add(5 * HOUR_MS + 60_000, 3.0);
        for n in 2..60 {
            hours.add(5 * HOUR_MS + n * 60_000, 3.0 + 60.0 * (n - 1) as f64);
        }
        let values = hours.hourly().values;
        assert!((values[0].unwrap() - 1.0 / 60.0).abs() < 1e-9);
        assert_eq!(values[2..5], [None; 3]);
        assert!((values[5].unwrap() - 1.0).abs() < 1e-9, "{values:?}");
        assert_eq!(values[6], None);
    }
}
