//! Arithmetic as Prometheus does it, so that answers agree to the last digits.

/// Milliseconds in a second.
pub(super) const SECOND: f64 = 1000.0;

/// Milliseconds as a value.
#[allow(clippy::cast_precision_loss, reason = "exact within 285 000 years")]
pub(super) fn milliseconds(ms: i64) -> f64 {
    ms as f64
}

/// Milliseconds as seconds.
pub(super) fn seconds(ms: i64) -> f64 {
    milliseconds(ms) / SECOND
}

/// How many, as a value.
#[allow(clippy::cast_precision_loss, reason = "nobody counts beyond 2^53")]
pub(super) fn count(n: usize) -> f64 {
    n as f64
}

/// A sum that does not lose small numbers beside large ones (Neumaier's, after Kahan).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) sum: f64,
    pub(super) lost: f64,
}

impl Sum {
    pub(super) fn add(self, value: f64) -> Self {
        let sum = self.sum + value;
        let lost = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.lost + ((self.sum - sum) + value)
        } else {
            self.lost + ((value - sum) + self.sum)
        };
        Self { sum, lost }
    }

    pub(super) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// A mean that survives sums beyond the greatest number: once the sum would be infinite, it goes on
/// from mean to mean.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    count: f64,
    sum: Sum,
    is_running: bool,
}

impl Mean {
    pub(super) fn add(mut self, value: f64) -> Self {
        self.count += 1.0;
        if !self.is_running {
            let sum = if self.count == 1.0 { Sum { sum: value, lost: 0.0 } } else { self.sum.add(value) };
            if !sum.sum.is_infinite() || self.count == 1.0 {
                self.sum = sum;
                return self;
            }
            self.is_running = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.lost /= self.count - 1.0;
        }
        let mean = self.sum.sum;
        if mean.is_infinite() {
            // An infinite mean stays, unless the opposite infinity or NaN comes.
            let same = value.is_infinite() && (mean > 0.0) == (value > 0.0);
            if same || value.is_finite() {
                return self;
            }
        }
        let share = (self.count - 1.0) / self.count;
        self.sum = Sum { sum: share * mean, lost: share * self.sum.lost }.add(value / self.count);
        self
    }

    pub(super) fn mean(self) -> f64 {
        if self.is_running { self.sum.total() } else { self.sum.total() / self.count }
    }
}

/// The spread of values around their mean (Welford's, with compensated sums).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Spread {
    pub(super) fn add(mut self, value: f64) -> Self {
        self.count += 1.0;
        let delta = value - (self.mean.sum + self.mean.lost);
        self.mean = self.mean.add(delta / self.count);
        self.squares = self.squares.add(delta * (value - (self.mean.sum + self.mean.lost)));
        self
    }

    pub(super) fn variance(self) -> f64 {
        (self.squares.sum + self.squares.lost) / self.count
    }
}

/// The value below which a share of the values lies; they are sorted here, NaN first.
pub(super) fn quantile(share: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || share.is_nan() {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if share > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    });
    let last = values.len() - 1;
    let rank = share * count(last);
    let weight = rank - rank.floor();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the last index")]
    let lower = (rank.floor() as usize).min(last);
    values[lower] * (1.0 - weight) + values[(lower + 1).min(last)] * weight
}

/// The greater of two as Go has it: infinity wins over NaN, and NaN over the rest.
pub(super) fn greater(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The lesser of two as Go has it.
pub(super) fn lesser(a: f64, b: f64) -> f64 {
    -greater(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_is_small() {
        let sum = [1e100, 1.0, -1e100, 1.0].into_iter().fold(Sum::default(), Sum::add);
        assert_eq!(sum.total(), 2.0);
        assert_eq!([f64::INFINITY, 1.0].into_iter().fold(Sum::default(), Sum::add).total(), f64::INFINITY);
    }

    #[test]
    fn means_survive_sums_that_do_not() {
        let mean = |values: &[f64]| values.iter().fold(Mean::default(), |mean, value| mean.add(*value)).mean();
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(mean(&[1.0, f64::INFINITY, 5.0]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(mean(&[1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        for (share, value) in [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0), (-0.1, f64::NEG_INFINITY), (1.1, f64::INFINITY)] {
            assert_eq!(quantile(share, &mut [4.0, 1.0, 3.0, 2.0]), value, "{share}");
        }
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
    }
}
