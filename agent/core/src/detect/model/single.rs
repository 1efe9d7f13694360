//! A host, or a series, of which only one metric is known.
//!
//! Nothing can be said of several metrics together, so the metric's own surprise is all there is.
//! It becomes a rate (how long it takes until something so rare comes by chance), which means the
//! same at every sampling period, and an alarm opens where that is as rare as the operator wants
//! false alarms to be.

use super::blame::Blame;
use super::host::HostScore;
use super::metric::SAMPLES_MIN;
use super::{AlarmState, Metric};
use crate::detect::codec::{Reader, Writer};

const DAY: f64 = 86_400.0;

/// Samples over the limit come in episodes, of about so many. One episode is one alarm.
const SAMPLES_PER_EPISODE: f64 = 1.1;

/// An open alarm stays open while the surprise is above this share of what opened it.
const CLEAR_FACTOR: f64 = 0.5;

/// After an alarm opened none opens for half a day, or for so many samples where they are far
/// apart: the end of an incident, and what follows from it, belong to it.
const QUIET_SECONDS: f64 = 12.0 * 3_600.0;
const QUIET_SAMPLES: f64 = 48.0;

/// During that time a score is news only where it is e times as rare as the one before.
const NEWS: f64 = 1.0;

/// The sampling period is the mean of so many steps, so that uneven ones do not move the limit.
const PERIOD_STEPS: f64 = 288.0;

/// The model of one metric with its alarm.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Single {
    metric: Metric,
    period: f64,
    seen_seconds: f64,
    seen_samples: f64,
    is_open: bool,
    /// Seconds until an alarm may open again.
    quiet: f64,
    /// The last score that was news, and the seconds until it is forgotten.
    told: f64,
    told_for: f64,
}

impl Single {
    /// Judges one step and learns it; see [`super::HostModel::observe`].
    pub(super) fn observe(&mut self, value: Option<f64>, at: f64, dt: f64, alarms_per_week: f64) -> HostScore {
        let limit = limit(alarms_per_week);
        self.quiet = (self.quiet - dt).max(0.0);
        self.told_for = (self.told_for - dt).max(0.0);
        let Some(value) = value.filter(|value| value.is_finite()) else {
            let alarm = if self.is_open { AlarmState::Open } else { AlarmState::Quiet };
            return HostScore { limit, alarm, ..HostScore::default() };
        };
        let is_learning = self.learning_seconds(dt) > 0.0;
        self.seen_seconds += dt;
        self.seen_samples += 1.0;
        self.period += (dt - self.period) / self.seen_samples.min(PERIOD_STEPS);
        let dt = self.period;
        let judged = self.metric.observe(value, at, dt);
        let rarity = if is_learning { 0.0 } else { (judged.surprise - (DAY / dt).ln()).max(0.0) };
        let alarm = self.alarm(rarity, judged.surprise, limit, dt);
        let score = self.news(rarity, dt);
        let blame = (rarity > 0.0 || alarm != AlarmState::Quiet).then(|| Blame {
            metric: 0,
            distance: ((value - judged.expected).abs() / judged.scale.max(f64::MIN_POSITIVE)).min(f64::MAX),
            value,
            expected: judged.expected,
            scale: judged.scale,
            share: (-judged.surprise).exp(),
            limit: judged.scale,
            parts: None,
            seconds: judged.seconds,
        });
        HostScore { score, limit, alarm, blame: blame.into_iter().collect() }
    }

    /// For how many more seconds it learns before it says anything, in steps of `dt` seconds: a
    /// day for what is usual at which time, a day for how far from it is usual, or until a single
    /// value can be judged.
    pub(super) fn learning_seconds(&self, dt: f64) -> f64 {
        (2.0 * DAY - self.seen_seconds).max((f64::from(SAMPLES_MIN) - self.seen_samples) * dt).max(0.0)
    }

    /// One alarm per incident.
    fn alarm(&mut self, rarity: f64, surprise: f64, limit: f64, dt: f64) -> AlarmState {
        let clear = CLEAR_FACTOR * (limit + (DAY / dt).ln());
        self.is_open &= surprise >= clear;
        if self.is_open {
            return AlarmState::Open;
        }
        if rarity < limit || self.quiet > 0.0 {
            return AlarmState::Quiet;
        }
        self.is_open = true;
        self.quiet = quiet_seconds(dt);
        AlarmState::Opened
    }

    /// The score, or 0 where it says nothing new.
    fn news(&mut self, rarity: f64, dt: f64) -> f64 {
        if rarity <= 0.0 || (self.told_for > 0.0 && rarity < self.told + NEWS) {
            return 0.0;
        }
        (self.told, self.told_for) = (rarity, quiet_seconds(dt));
        rarity
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        self.metric.save(writer);
        for value in [self.period, self.seen_seconds, self.seen_samples, self.quiet, self.told, self.told_for] {
            writer.f64(value);
        }
        writer.u8(u8::from(self.is_open));
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut single = Self { metric: Metric::load(reader)?, ..Self::default() };
        let Self { period, seen_seconds, seen_samples, quiet, told, told_for, .. } = &mut single;
        for value in [period, seen_seconds, seen_samples, quiet, told, told_for] {
            *value = reader.f64().filter(|value| value.is_finite())?;
        }
        single.is_open = reader.u8()? != 0;
        Some(single)
    }
}

fn quiet_seconds(dt: f64) -> f64 {
    QUIET_SECONDS.max(QUIET_SAMPLES * dt)
}

/// The score from which on there is an alarm: as the score, the logarithm of days between.
fn limit(alarms_per_week: f64) -> f64 {
    (7.0 / alarms_per_week.max(f64::MIN_POSITIVE) / SAMPLES_PER_EPISODE).ln()
}
