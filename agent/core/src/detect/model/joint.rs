//! The joint evidence of a host's metrics, and what it is worth on this host.
//!
//! Every metric that is unusual adds the square of the logarithm of its distance. The logarithm
//! keeps one gross metric from deciding alone; the square lets two far ones count for more than a
//! crowd at the edge; and since what is not unusual adds nothing, the sum means the same on a host
//! of five metrics and of three hundred. It is then held against the host's own usual worst hour
//! (the median of the greatest sum of every hour of two weeks), so that the score means the same
//! on a calm host and on a busy one: 1 is an ordinary worst hour.
//!
//! A score fades over some steps instead of vanishing: an incident is not over at its first
//! ordinary sample.

use super::residual::{UNUSUAL, WARM};
use crate::detect::Learning;
use crate::detect::codec::{Reader, Writer};

const HOUR: f64 = 3_600.0;

/// Hours whose worst must be known before anything is said.
const HOURS_MIN: f64 = 12.0;

/// Hours that are remembered: two weeks, as for the metrics' scales.
const HOURS_MEMORY: f64 = 14.0 * 24.0;

/// Added to the usual worst hour: one metric at fifteen times its scale. On a host where nothing ever
/// happens it takes this much times the limit before anything is said.
const AT_LEAST: f64 = 2.5;

/// The share of hours that the tail is read from, besides their median: high enough to know the
/// tail, low enough that trouble in one hour of ten does not raise it.
const SELDOM: f64 = 0.9;

/// Minus the logarithm of minus the logarithm of 0.5 and of [`SELDOM`]: where the median and that
/// share lie on the scale of a Gumbel distribution, which the worst of an hour follows (Gumbel 1958).
const AT_MEDIAN: f64 = 0.3665;
const AT_SELDOM: f64 = 2.2504;

/// Hours until the tail is believed. Until then only what is gross counts.
const TAIL_HOURS_MIN: f64 = 96.0;

/// Hours in a week.
const WEEK_HOURS: f64 = 168.0;

/// The limit is never below this score...
const LIMIT_MIN: f64 = 1.5;

/// ... and a score of three usual worst hours is gross: on a host that has such hours every few
/// days they are said all the same, since nobody would want to hear of nothing less. This is where
/// the knob gives way: without it a host with a nightly storm would never alarm again.
const GROSS: f64 = 3.0;

/// The knob at which the score of [`GROSS`] is enough. An alarm less in e takes one more.
const GROSS_KNOB: f64 = 0.5;

/// Steps after which a score has faded to a third.
const FADE_STEPS: f64 = 15.0;

/// Buckets of `ln(1 + sum)`: up to a sum of 27 000, which 800 metrics at their worst reach.
const BUCKETS: usize = 128;
const BUCKET: f64 = 0.08;

/// What one metric adds.
pub(super) fn evidence(distance: f64) -> f64 {
    if distance > UNUSUAL { (distance / UNUSUAL).ln().powi(2) } else { 0.0 }
}

/// The worst hours of a host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Joint {
    worst_hours: [f32; BUCKETS],
    hours: f64,
    /// Their median, and what one in ten exceeds.
    usual: f64,
    seldom: f64,
    /// The hour in hand: its worst sum, and how much of it has passed.
    worst: f64,
    passed: f64,
    /// Seconds seen, as far as they matter.
    seen: f64,
    /// What has not faded of how bad it was beyond habit, and of all.
    faded: f64,
    score: f64,
}

impl Default for Joint {
    fn default() -> Self {
        Self {
            worst_hours: [0.0; BUCKETS],
            hours: 0.0,
            usual: 0.0,
            seldom: 0.0,
            worst: 0.0,
            passed: 0.0,
            seen: 0.0,
            faded: 0.0,
            score: 0.0,
        }
    }
}

/// The evidence of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Evidence {
    /// Of everything that is unusual: what is learned, and told as the score.
    pub(super) all: f64,
    /// Without what is usual trouble at this time of the day: what an alarm is made of.
    pub(super) beyond_habit: f64,
}

/// What the evidence of one step is worth.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Worth {
    /// How unusual it is, with what has not yet faded of the steps before.
    pub(super) score: f64,
    /// What is beyond habit, of this step alone.
    pub(super) now: f64,
    /// The same, with what has not yet faded of the steps before.
    pub(super) faded: f64,
}

impl Joint {
    /// Judges the evidence of a step of `dt` seconds by the hours before, then learns it if it may.
    pub(super) fn observe(&mut self, evidence: Evidence, dt: f64, learning: Learning) -> Worth {
        let is_known = self.hours >= HOURS_MIN;
        let worth = |evidence: f64| if is_known { evidence / (self.usual + AT_LEAST) } else { 0.0 };
        let (all, now) = (worth(evidence.all), worth(evidence.beyond_habit));
        let fade = (-1.0 / FADE_STEPS).exp();
        self.score = (self.score * fade).max(all);
        self.faded = (self.faded * fade).max(now);
        let worth = Worth { score: self.score, now, faded: self.faded };
        if learning == Learning::Frozen {
            return worth;
        }
        if self.seen < WARM {
            self.seen += dt;
        } else {
            self.learn(evidence.all, dt);
        }
        worth
    }

    /// The score that this host's own hours reach as often as `alarms_per_week` accepts.
    pub(super) fn limit(&self, alarms_per_week: f64) -> f64 {
        let alarms_per_week = alarms_per_week.max(f64::MIN_POSITIVE);
        let at_limit = (WEEK_HOURS / alarms_per_week).ln();
        let spread = (self.seldom - self.usual) / (AT_SELDOM - AT_MEDIAN);
        let level = self.usual + spread * (at_limit - AT_MEDIAN);
        let gross = (GROSS + (GROSS_KNOB / alarms_per_week).ln()).max(LIMIT_MIN);
        if self.hours < TAIL_HOURS_MIN {
            return gross;
        }
        let hour = self.usual + AT_LEAST;
        // What one hour in ten reaches is how this host is, however gross, unless as many alarms are wanted.
        let least = if alarms_per_week < WEEK_HOURS * (1.0 - SELDOM) { self.seldom / hour } else { 0.0 };
        (level / hour).clamp(LIMIT_MIN, gross).max(least)
    }

    /// For how many more seconds it learns before it says anything.
    pub(super) fn learning_seconds(&self) -> f64 {
        let hours = if self.hours >= HOURS_MIN { 0.0 } else { (HOURS_MIN - self.hours) * HOUR - self.passed };
        (WARM - self.seen).max(0.0) + hours.max(0.0)
    }

    fn learn(&mut self, evidence: f64, dt: f64) {
        self.worst = self.worst.max(evidence);
        self.passed += dt;
        if self.passed < HOUR {
            return;
        }
        self.worst_hours[bucket(self.worst)] += 1.0;
        self.hours += 1.0;
        if self.hours > 1.4 * HOURS_MEMORY {
            self.worst_hours.iter_mut().for_each(|hours| *hours /= 2.0);
            self.hours /= 2.0;
        }
        self.usual = self.quantile(0.5);
        self.seldom = self.quantile(SELDOM);
        (self.worst, self.passed) = (0.0, 0.0);
    }

    #[allow(clippy::cast_precision_loss)]
    fn quantile(&self, share: f64) -> f64 {
        let wanted = self.hours * share;
        let mut below = 0.0;
        for (at, hours) in self.worst_hours.iter().map(|hours| f64::from(*hours)).enumerate() {
            if below + hours >= wanted {
                let within = (wanted - below) / hours.max(f64::MIN_POSITIVE);
                return ((at as f64 + within) * BUCKET).exp_m1();
            }
            below += hours;
        }
        0.0
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        self.worst_hours.iter().for_each(|hours| writer.f32(*hours));
        let Self { hours, usual, seldom, worst, passed, seen, faded, score, .. } = *self;
        for value in [hours, usual, seldom, worst, passed, seen, faded, score] {
            writer.f64(value);
        }
    }

    pub(super) fn load(reader: &mut Reader<'_>, has_habits: bool) -> Option<Self> {
        let mut loaded = Self::default();
        for hours in &mut loaded.worst_hours {
            *hours = reader.f32().filter(|hours| hours.is_finite() && *hours >= 0.0)?;
        }
        let Self { hours, usual, seldom, worst, passed, seen, faded, score, .. } = &mut loaded;
        let mut number = || reader.f64().filter(|value| value.is_finite() && *value >= 0.0);
        for value in [hours, usual, seldom, worst, passed, seen, &mut *faded] {
            *value = number()?;
        }
        *score = if has_habits { number()? } else { *faded };
        Some(loaded)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bucket(evidence: f64) -> usize {
    ((evidence.ln_1p() / BUCKET) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose hours are calm but for every fifth, which is as bad as `worst`.
    fn joint(worst: f64) -> Joint {
        let mut joint = Joint::default();
        for hour in 0..400 {
            let all = if hour % 5 == 0 { worst } else { 0.5 };
            joint.observe(Evidence { all, beyond_habit: all }, HOUR, Learning::On);
        }
        joint
    }

    #[test]
    fn what_one_hour_in_ten_reaches_is_no_alarm_unless_as_many_are_wanted() {
        let joint = joint(40.0);
        let at_worst = 40.0 / (joint.usual + AT_LEAST);
        assert!(at_worst > 2.0 * GROSS, "{at_worst}");
        assert!(joint.limit(0.5) > 0.9 * at_worst, "{} {at_worst}", joint.limit(0.5));
        assert!(joint.limit(20.0) < 0.5 * at_worst, "{} {at_worst}", joint.limit(20.0));
    }
}
