//! A host, or a series, of which only one metric is known.
//!
//! Nothing can be said of several metrics together, so the metric's own surprise is all there is:
//! smoothed over a minute and held against its own past, with an alarm where so rare a value is
//! expected as often as the operator accepts.

use super::blame::Blame;
use super::host::HostScore;
use super::residual::Expert;
use super::{AlarmState, Metric, Tail};
use crate::detect::codec::{Reader, Writer};

/// Memory of the smoothing, in seconds.
const SMOOTH_SECONDS: f64 = 60.0;

/// Nothing is said before it has been learned for this share of the time in which one false alarm
/// is accepted: the tail is believed one decade beyond what was seen. At the default of half an
/// alarm a week that is 1.4 days.
const LEARNING_SHARE: f64 = 0.1;

/// Where steps are long it takes this many at least, and the first third of them, which know
/// nothing of the metric, do not count as usual.
const LEARNING_STEPS_MIN: f64 = 150.0;

/// What is seen during an alarm counts this much towards what is usual: little, so that trouble
/// does not hide the next trouble.
const ALARM_WEIGHT: f64 = 0.1;

/// An open alarm stays open while the surprise is above this share of the limit.
const CLEAR_FACTOR: f64 = 0.5;

/// Nothing opens for this long after an alarm was over, in seconds.
const QUIET: f64 = 3_600.0;

/// A week in seconds.
const WEEK: f64 = 7.0 * 86_400.0;

/// The model of one metric with its alarm.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Single {
    metric: Metric,
    smooth: f64,
    tail: Tail,
    steps: f64,
    is_open: bool,
    quiet: f64,
}

impl Single {
    /// Judges one step and learns it; see [`super::HostModel::observe`].
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn observe(&mut self, value: Option<f64>, at: f64, dt: f64, alarms_per_week: f64) -> HostScore {
        let limit = steps_per_alarm(dt, alarms_per_week).ln();
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return HostScore { limit, alarm: self.stands(), ..HostScore::default() };
        };
        let judged = self.metric.observe(value, dt, (at / 3_600.0) as usize);
        self.smooth += (judged.surprise - self.smooth) * (dt / SMOOTH_SECONDS).min(1.0);
        let is_learning = self.learning_seconds(dt, alarms_per_week) > 0.0;
        let score = if is_learning { 0.0 } else { self.tail.surprise(self.smooth) };
        let is_rare = score > 0.0 && score >= limit;
        // The first few steps know nothing of the metric and would spoil what is usual.
        if self.steps >= LEARNING_STEPS_MIN / 3.0 {
            self.tail.add(self.smooth, if is_rare { ALARM_WEIGHT } else { 1.0 });
        }
        self.steps += 1.0;
        let alarm = self.alarm(is_rare, score < limit * CLEAR_FACTOR, dt);
        let scale = judged.scale.max(f64::MIN_POSITIVE);
        let blame = Blame {
            metric: 0,
            distance: (value - judged.expected).abs() / scale,
            value,
            expected: judged.expected,
            scale: judged.scale,
            expert: Expert::default(),
            share: (-judged.surprise).exp(),
            seconds: dt,
        };
        HostScore { score, limit, alarm, blame: vec![blame] }
    }

    /// For how many more seconds it learns before it says anything, in steps of `dt` seconds.
    pub(super) fn learning_seconds(&self, dt: f64, alarms_per_week: f64) -> f64 {
        let steps = (LEARNING_SHARE * steps_per_alarm(dt, alarms_per_week)).max(LEARNING_STEPS_MIN);
        ((steps - self.tail.weight()) * dt).max(0.0)
    }

    fn alarm(&mut self, is_rare: bool, is_over: bool, dt: f64) -> AlarmState {
        if !self.is_open && is_rare && self.quiet <= 0.0 {
            self.is_open = true;
            return AlarmState::Opened;
        }
        if self.is_open && is_over {
            self.is_open = false;
            self.quiet = QUIET;
        }
        self.quiet = (self.quiet - dt).max(0.0);
        self.stands()
    }

    fn stands(&self) -> AlarmState {
        if self.is_open { AlarmState::Open } else { AlarmState::Quiet }
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        self.metric.save(writer);
        self.tail.save(writer);
        for value in [self.smooth, self.steps, self.quiet] {
            writer.f64(value);
        }
        writer.u8(u8::from(self.is_open));
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let (metric, tail) = (Metric::load(reader)?, Tail::load(reader)?);
        let mut finite = || reader.f64().filter(|value| value.is_finite());
        let (smooth, steps, quiet) = (finite()?, finite()?, finite()?);
        Some(Self { metric, tail, smooth, steps, quiet, is_open: reader.u8()? != 0 })
    }
}

/// How many steps of `dt` seconds there are to one accepted false alarm.
fn steps_per_alarm(dt: f64, alarms_per_week: f64) -> f64 {
    WEEK / (dt * alarms_per_week.max(f64::MIN_POSITIVE))
}
