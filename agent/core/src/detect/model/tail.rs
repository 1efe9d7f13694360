//! The tail of what was seen: how probable is a value at least this large?
//!
//! A histogram with equal steps in `ln(1 + x)`, which forgets slowly. Within what was seen the
//! probability is counted (conformal: one is added above and below, so it is never zero); beyond
//! its upper percentiles it is extrapolated as a power law, which does not underrate heavy tails
//! (peaks over threshold; Pickands 1975).

use crate::detect::codec::{Reader, Writer};

/// Buckets, each a factor of `e^STEP` wide: up to 1 + x = e^6.4 = 600.
const BUCKETS: usize = 64;
const STEP: f64 = 0.1;

/// The share of the largest values that the power law is fitted to.
const TAIL_SHARE: f64 = 0.02;

/// Weight at which all buckets are halved, so that what was seen 60 000 steps ago (a week of ten
/// seconds each) counts half.
const WEIGHT_MAX: f64 = 120_000.0;

/// How far the probability is believed beyond what can be counted: one decade.
const BEYOND: f64 = std::f64::consts::LN_10;

/// A distribution of values from 0 up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tail {
    buckets: [f32; BUCKETS],
    weight: f64,
}

impl Default for Tail {
    fn default() -> Self {
        Self { buckets: [0.0; BUCKETS], weight: 0.0 }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bucket(x: f64) -> usize {
    // A float that is out of range saturates; NaN becomes 0.
    ((x.max(0.0).ln_1p() / STEP) as usize).min(BUCKETS - 1)
}

impl Tail {
    /// Takes a value with a weight of 1 or less.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn add(&mut self, x: f64, weight: f64) {
        self.buckets[bucket(x)] += weight as f32;
        self.weight += weight;
        if self.weight > WEIGHT_MAX {
            self.buckets.iter_mut().for_each(|bucket| *bucket /= 2.0);
            self.weight /= 2.0;
        }
    }

    /// How much has been seen.
    pub(crate) fn weight(&self) -> f64 {
        self.weight
    }

    /// Minus the logarithm of the probability of a value at least as large as `x`.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn surprise(&self, x: f64) -> f64 {
        let own = bucket(x);
        // Half of its own bucket, as if values were spread over it.
        let above: f64 = self.buckets[own + 1..].iter().map(|weight| f64::from(*weight)).sum();
        let counted = above + f64::from(self.buckets[own]) / 2.0;
        let empirical = ((self.weight + 1.0) / (counted + 1.0)).ln();
        let most = (self.weight + 1.0).ln() + BEYOND;
        empirical.max(self.extrapolated(x).unwrap_or(0.0)).min(most)
    }

    /// The same by the power law through the largest values; `None` below its threshold.
    #[allow(clippy::cast_precision_loss)]
    fn extrapolated(&self, x: f64) -> Option<f64> {
        let mut share = 0.0;
        let mut excess = 0.0;
        let mut threshold = BUCKETS;
        while threshold > 0 && share < TAIL_SHARE * self.weight {
            threshold -= 1;
            let weight = f64::from(self.buckets[threshold]);
            // Everything above has moved one step further from the threshold.
            excess += share * STEP + weight * STEP / 2.0;
            share += weight;
        }
        let beyond = x.max(0.0).ln_1p() - threshold as f64 * STEP;
        if share <= 0.0 || beyond <= 0.0 {
            return None;
        }
        Some((self.weight / share).ln() + beyond / (excess / share))
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.f64(self.weight);
        self.buckets.iter().for_each(|bucket| writer.f32(*bucket));
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let weight = reader.f64().filter(|weight| weight.is_finite() && *weight >= 0.0)?;
        let mut tail = Self { weight, ..Self::default() };
        for bucket in &mut tail.buckets {
            *bucket = reader.f32().filter(|weight| weight.is_finite() && *weight >= 0.0)?;
        }
        Some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IdSource;

    /// Numbers in (0, 1), the same every time.
    #[allow(clippy::cast_precision_loss)]
    fn uniform(seed: u64) -> impl FnMut() -> f64 {
        let mut source = IdSource::new(seed);
        move || ((source.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    #[test]
    fn probabilities_are_those_of_the_distribution() {
        let mut next = uniform(1);
        let mut tail = Tail::default();
        (0..50_000).for_each(|_| tail.add(-next().ln(), 1.0));
        // Of an exponential distribution, x is exceeded with probability e^-x.
        for x in [0.5, 2.0, 4.0, 6.0] {
            assert!((tail.surprise(x) - x).abs() < 0.35, "{x}: {}", tail.surprise(x));
        }
    }

    #[test]
    fn heavy_tails_are_not_underrated() {
        let mut next = uniform(2);
        let mut tail = Tail::default();
        // Exceeded with probability 1/x: ten times as far is ten times as rare.
        (0..20_000).for_each(|_| tail.add(1.0 / next(), 1.0));
        let surprise = tail.surprise(500.0);
        assert!((4.0..8.0).contains(&surprise), "{surprise}");
    }

    #[test]
    fn nothing_is_believed_far_beyond_what_was_seen() {
        let mut tail = Tail::default();
        (0..100).for_each(|_| tail.add(0.0, 1.0));
        assert!(tail.surprise(1e30) < 101f64.ln() + 2.4);
        assert_eq!(Tail::default().surprise(5.0), 0.0, "without a past nothing is surprising");
    }

    #[test]
    fn what_is_not_a_number_does_no_harm() {
        let mut tail = Tail::default();
        for x in [f64::NAN, f64::INFINITY, -1.0] {
            tail.add(x, 1.0);
            assert!(tail.surprise(x).is_finite());
        }
    }
}
