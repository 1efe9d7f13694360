//! Slow burn: what never saturates for two minutes, but takes its toll hour after hour.
//!
//! A short window with a high limit finds what is bad now; a long one with a low limit finds what
//! adds up; a short look back at the low limit says that it still goes on, so that it clears soon
//! after its end (the multiwindow, multi-burn-rate alerts of Google's SRE Workbook, chapter 5, with
//! its ratio of 12 between the windows). The fast window is each detector's own.

use super::clock::Millis;
use super::lifecycle::{Case, Verdict};

const MINUTE: Millis = 60_000;

/// The long window and the look back, in minutes.
const LONG: usize = 60;
const SHORT: usize = 5;

/// Of so many minutes one in five may be missing.
const KNOWN: (usize, usize) = (4, 5);

/// Means of minutes, an hour of them.
#[derive(Debug, Clone)]
pub(crate) struct Burn {
    minute: Option<Millis>,
    sum: f64,
    count: u32,
    means: [f32; LONG],
}

impl Default for Burn {
    fn default() -> Self {
        Self { minute: None, sum: 0.0, count: 0, means: [f32::NAN; LONG] }
    }
}

/// What a long window shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slow {
    /// The mean of the last hour.
    pub(crate) hour: f64,
    /// The mean of the last five minutes.
    pub(crate) lately: f64,
}

impl Burn {
    pub(crate) fn add(&mut self, t: Millis, value: f64) {
        let minute = t.div_euclid(MINUTE);
        let current = *self.minute.get_or_insert(minute);
        if minute > current {
            #[allow(clippy::cast_possible_truncation)]
            let mean = (self.sum / f64::from(self.count)) as f32;
            self.means[Self::place(current)] = mean;
            for missed in (current + 1).max(minute - LONG as Millis)..minute {
                self.means[Self::place(missed)] = f32::NAN;
            }
            (self.sum, self.count, self.minute) = (0.0, 0, Some(minute));
        }
        self.sum += value;
        self.count += 1;
    }

    /// The means if both windows reach `limit`.
    pub(crate) fn slow(&self, limit: f64) -> Option<Slow> {
        let slow = Slow { hour: self.mean(LONG)?, lately: self.mean(SHORT)? };
        (slow.hour >= limit && slow.lately >= limit).then_some(slow)
    }

    /// The mean of the last whole minutes, where enough of them were seen.
    fn mean(&self, minutes: usize) -> Option<f64> {
        let current = self.minute?;
        let last = (1..=minutes).map(|ago| self.means[Self::place(current - ago as Millis)]);
        let (sum, known) =
            last.filter(|mean| !mean.is_nan()).fold((0.0, 0), |(sum, n), mean| (sum + f64::from(mean), n + 1));
        #[allow(clippy::cast_precision_loss)]
        (known * KNOWN.1 >= minutes * KNOWN.0).then(|| sum / known as f64)
    }

    fn place(minute: Millis) -> usize {
        usize::try_from(minute.rem_euclid(LONG as Millis)).unwrap_or(0)
    }
}

/// The verdict of both windows: the fast one where it holds, else the slow one where it does.
pub(crate) fn either(fast: Verdict, slow: Option<Case>) -> Verdict {
    match (fast, slow) {
        (Verdict::Holds(case), _) | (_, Some(case)) => Verdict::Holds(case),
        (fast, None) => fast,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a value every ten seconds; gives the minutes in which the slow burn of 0.3 began and ended.
    fn run(minutes: Millis, value: impl Fn(Millis) -> Option<f64>) -> Vec<Millis> {
        let (mut burn, mut was, mut turns) = (Burn::default(), false, Vec::new());
        for tick in 0..minutes * 6 {
            if let Some(value) = value(tick / 6) {
                burn.add(tick * 10_000, value);
            }
            let is = burn.slow(0.3).is_some();
            if is != was {
                turns.push(tick / 6);
            }
            was = is;
        }
        turns
    }

    #[test]
    fn an_hour_at_half_strength_is_a_slow_burn_that_ends_soon() {
        assert_eq!(run(200, |minute| Some(if minute < 100 { 0.4 } else { 0.0 })), [48, 102]);
    }

    #[test]
    fn a_burst_and_a_weak_hour_are_none() {
        assert_eq!(run(200, |minute| Some(if (70..85).contains(&minute) { 1.0 } else { 0.0 })), []);
        assert_eq!(run(200, |_| Some(0.25)), []);
    }

    #[test]
    fn what_was_not_seen_says_nothing() {
        assert_eq!(run(200, |minute| (minute % 2 == 0).then_some(0.9)), []);
    }
}
