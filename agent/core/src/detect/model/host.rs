//! All metrics of a host together.
//!
//! One metric among hundreds is always somewhere rare, so alarms per metric cannot be kept few.
//! The joint surprise is the sum of the largest few, smoothed over a minute; its own past says
//! how rare it is, and the alarm is set where so rare a value is expected as often as the
//! operator accepts. That is one alarm rate for the host, however many metrics it has.

use super::{Metric, Tail};
use crate::detect::codec::{Reader, Writer};

/// How many of the most surprising metrics are added up. Trouble shows in a few metrics at once;
/// with more, the noise of the others drowns it.
const TOP: usize = 5;

/// Memory of the smoothing, in seconds.
const SMOOTH_SECONDS: f64 = 60.0;

/// Nothing is said before it has been learned for this share of the time in which one false alarm
/// is accepted: the tail is believed one decade beyond what was seen. At the default of half an
/// alarm a week that is 1.4 days.
const LEARNING_SHARE: f64 = 0.1;

/// Where steps are long it takes this many at least, and the first third of them, which know
/// nothing of the metrics, do not count as usual.
const LEARNING_STEPS_MIN: f64 = 150.0;

/// What is seen during an alarm counts this much towards what is usual: little, so that trouble
/// does not hide the next trouble.
const ALARM_WEIGHT: f64 = 0.1;

/// A week in seconds.
const WEEK: f64 = 7.0 * 86_400.0;

/// All metrics of one host, by index.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostModel {
    metrics: Vec<Metric>,
    joint: f64,
    tail: Tail,
    steps: f64,
}

/// What is said of a host at one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostScore {
    /// Minus the logarithm of the probability of so much joint surprise. 0 while learning.
    pub surprise: f64,
    /// The surprise from which on there is an alarm.
    pub limit: f64,
    /// The most surprising metrics, most surprising first.
    pub blame: Vec<Blame>,
}

/// One metric that is to blame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blame {
    /// Which, by index.
    pub metric: usize,
    /// Minus the logarithm of its probability.
    pub surprise: f64,
    /// What was seen.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// The usual distance from it.
    pub scale: f64,
}

impl HostScore {
    /// Whether it is rare enough for an alarm.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        self.surprise > 0.0 && self.surprise >= self.limit
    }
}

impl HostModel {
    /// Judges one step and learns it. `values` are the metrics by index (`None` where one is
    /// missing), each standing for `dt` seconds, `hour` is the hour of the day, and
    /// `alarms_per_week` how many false alarms are accepted.
    pub fn observe(&mut self, values: &[Option<f64>], dt: f64, hour: usize, alarms_per_week: f64) -> HostScore {
        if self.metrics.len() < values.len() {
            self.metrics.resize_with(values.len(), Metric::default);
        }
        let mut blame = Vec::with_capacity(TOP + 1);
        for (metric, (model, value)) in self.metrics.iter_mut().zip(values).enumerate() {
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let judged = model.observe(value, dt, hour);
            keep_largest(
                &mut blame,
                Blame { metric, surprise: judged.surprise, value, expected: judged.expected, scale: judged.scale },
            );
        }
        let sum: f64 = blame.iter().map(|blame| blame.surprise).sum();
        self.joint += (sum - self.joint) * (dt / SMOOTH_SECONDS).min(1.0);
        let limit = steps_per_alarm(dt, alarms_per_week).ln();
        let surprise =
            if self.learning_seconds(dt, alarms_per_week) > 0.0 { 0.0 } else { self.tail.surprise(self.joint) };
        let score = HostScore { surprise, limit, blame };
        // The first few steps know nothing of the metrics and would spoil what is usual.
        if self.steps >= LEARNING_STEPS_MIN / 3.0 {
            self.tail.add(self.joint, if score.is_alarm() { ALARM_WEIGHT } else { 1.0 });
        }
        self.steps += 1.0;
        score
    }

    /// For how many more seconds it learns before it says anything, in steps of `dt` seconds.
    #[must_use]
    pub fn learning_seconds(&self, dt: f64, alarms_per_week: f64) -> f64 {
        let steps = (LEARNING_SHARE * steps_per_alarm(dt, alarms_per_week)).max(LEARNING_STEPS_MIN);
        ((steps - self.tail.weight()) * dt).max(0.0)
    }

    /// Forgets the metrics that `keep` does not accept and moves the others up.
    pub(crate) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let metrics = std::mem::take(&mut self.metrics);
        self.metrics = (0..).zip(metrics).filter(|(at, _)| keep(*at)).map(|(_, metric)| metric).collect();
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        [self.joint, self.steps].into_iter().for_each(|value| writer.f64(value));
        self.tail.save(writer);
        writer.len(self.metrics.len());
        self.metrics.iter().for_each(|metric| metric.save(writer));
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut finite = || reader.f64().filter(|value| value.is_finite());
        let (joint, steps) = (finite()?, finite()?);
        let tail = Tail::load(reader)?;
        let metrics = (0..reader.len()?).map(|_| Metric::load(reader)).collect::<Option<_>>()?;
        Some(Self { metrics, joint, tail, steps })
    }
}

/// How many steps of `dt` seconds there are to one accepted false alarm.
fn steps_per_alarm(dt: f64, alarms_per_week: f64) -> f64 {
    WEEK / (dt * alarms_per_week.max(f64::MIN_POSITIVE))
}

/// Keeps the [`TOP`] most surprising, most surprising first.
fn keep_largest(largest: &mut Vec<Blame>, blame: Blame) {
    let at = largest.partition_point(|other| other.surprise >= blame.surprise);
    if at < TOP {
        largest.insert(at, blame);
        largest.truncate(TOP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IdSource;

    /// Of a minute each.
    const STEPS_PER_DAY: usize = 1_440;

    /// A host with twelve noisy metrics for so many days, in steps of a minute; `disturb`
    /// changes the values of a step. Gives the steps with an alarm and whom they blame.
    #[allow(clippy::cast_precision_loss)]
    fn alarms(days: usize, seed: u64, disturb: impl Fn(usize, &mut [f64])) -> Vec<(usize, usize)> {
        let mut source = IdSource::new(seed);
        let mut uniform = move || ((source.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let mut model = HostModel::default();
        let mut alarms = Vec::new();
        for step in 0..days * STEPS_PER_DAY {
            let daily = (step as f64 / STEPS_PER_DAY as f64 * std::f64::consts::TAU).sin();
            let mut values: Vec<f64> = (0..12)
                .map(|n| {
                    // Heavy-tailed, with a daily swing on the even ones.
                    let noise = -uniform().ln() * if n % 3 == 0 { -uniform().ln() } else { 1.0 };
                    100.0 + 10.0 * noise + if n % 2 == 0 { 30.0 * daily } else { 0.0 }
                })
                .collect();
            disturb(step, &mut values);
            let values: Vec<_> = values.into_iter().map(Some).collect();
            let score = model.observe(&values, 60.0, step / 60 % 24, 0.5);
            if score.is_alarm() {
                alarms.push((step, score.blame[0].metric));
            }
        }
        alarms
    }

    #[test]
    fn a_quiet_host_alarms_hardly_ever() {
        // Four hosts for a week each after learning, at half an alarm a week.
        let episodes: usize = (0..4)
            .map(|seed| {
                let mut steps: Vec<_> = alarms(9, seed, |_, _| {}).into_iter().map(|(step, _)| step).collect();
                steps.dedup_by(|later, earlier| *later - *earlier < 60);
                steps.len()
            })
            .sum();
        assert!(episodes <= 4, "{episodes} in four weeks, twice the knob is 4");
    }

    #[test]
    fn trouble_in_two_metrics_is_found_within_two_minutes_and_blamed() {
        let from = 3 * STEPS_PER_DAY + 200;
        let alarms = alarms(4, 1, |step, values| {
            if (from..from + 10).contains(&step) {
                values[4] += 400.0;
                values[7] += 400.0;
            }
        });
        let first = alarms.iter().find(|(step, _)| *step >= from).unwrap();
        assert!(first.0 <= from + 2, "{first:?}");
        assert!([4, 7].contains(&first.1), "{first:?}");
    }

    #[test]
    fn nothing_is_said_while_learning() {
        let alarms = alarms(1, 1, |step, values| {
            if step % 50 == 0 {
                values.fill(1e6);
            }
        });
        assert_eq!(alarms, []);
    }
}
