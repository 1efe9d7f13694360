//! What is usual for one metric.
//!
//! Two experts: the last hour, and the same hours of the days before. A value is surprising only
//! if neither explains it, so that neither the daily peak nor a new level, once it has lasted, is
//! trouble. How far it is from what they expect is measured in the metric's own scale, and how
//! rare that is by its own past. Updates are clipped: one wild value moves what is usual no more
//! than an ordinary one at its edge.

use super::Tail;
use crate::detect::codec::{Reader, Writer};

/// Memory of the first expert: an hour, or this many steps where they are long.
const RECENT_SECONDS: f64 = 3_600.0;
const RECENT_STEPS: f64 = 48.0;

/// Memory of an hour of the day: a week of that hour.
const SEASON_SECONDS: f64 = 7.0 * 3_600.0;

/// An hour of the day speaks after it has been seen twice.
const SEASON_SECONDS_MIN: f64 = 1.5 * 3_600.0;

/// No update counts for more than this many times the scale.
const CLIP: f64 = 3.0;

/// Changes below this share of the level do not matter, however steady the metric is.
const RELATIVE_FLOOR: f64 = 0.01;

/// The scale of a metric that has always been zero.
const ABSOLUTE_FLOOR: f64 = 1e-6;

/// Level and scale (mean absolute deviation), with how many seconds they have seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Usual {
    level: f32,
    scale: f32,
    seconds: f32,
}

impl Usual {
    fn floor(self) -> f64 {
        f64::from(self.scale).max(f64::from(self.level).abs() * RELATIVE_FLOOR).max(ABSOLUTE_FLOOR)
    }

    fn distance(self, value: f64) -> f64 {
        (value - f64::from(self.level)).abs() / self.floor()
    }

    /// Learns `value`, which stands for `dt` seconds, with a memory of `memory` seconds. While
    /// little was seen every value counts alike.
    #[allow(clippy::cast_possible_truncation)]
    fn learn(&mut self, value: f64, dt: f64, memory: f64) {
        let seen = f64::from(self.seconds);
        if seen <= 0.0 {
            *self = Self { level: value as f32, scale: 0.0, seconds: dt as f32 };
            return;
        }
        let rate = dt / (seen + dt).min(memory);
        let level = f64::from(self.level);
        let floor = self.floor();
        // At first the scale is not known, so nothing can be clipped by it.
        let clip = if seen < memory * 0.1 { f64::INFINITY } else { CLIP * floor };
        let deviation = (value - level).clamp(-clip, clip);
        self.level = (level + rate * deviation) as f32;
        let scale = f64::from(self.scale);
        self.scale = (scale + rate * (deviation.abs() - scale)) as f32;
        self.seconds = (seen + dt).min(memory) as f32;
    }

    fn save(self, writer: &mut Writer) {
        [self.level, self.scale, self.seconds].into_iter().for_each(|value| writer.f32(value));
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut finite = || reader.f32().filter(|value| value.is_finite());
        Some(Self { level: finite()?, scale: finite()?, seconds: finite()? })
    }
}

/// One metric: some 600 bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Metric {
    recent: Usual,
    hours: [Usual; 24],
    tail: Tail,
}

/// What is said of one value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Judged {
    /// Minus the logarithm of the probability of being so far from what is usual.
    pub(crate) surprise: f64,
    /// What was expected, by the expert that came nearer.
    pub(crate) expected: f64,
    /// The usual distance from it.
    pub(crate) scale: f64,
}

impl Metric {
    /// Judges a value by what was learned before, then learns it. `dt` is the seconds that it
    /// stands for, `hour` the hour of the day.
    pub(crate) fn observe(&mut self, value: f64, dt: f64, hour: usize) -> Judged {
        let hour = hour % 24;
        // The hours next to it count too: jobs start a little early, and clocks change.
        let seasons = [(hour + 23) % 24, hour, (hour + 1) % 24].map(|hour| self.hours[hour]);
        let spoken = seasons.into_iter().filter(|usual| f64::from(usual.seconds) >= SEASON_SECONDS_MIN);
        let nearest = spoken.chain([self.recent]).min_by(|a, b| a.distance(value).total_cmp(&b.distance(value)));
        let usual = nearest.unwrap_or(self.recent);
        let judged = if self.recent.seconds > 0.0 {
            let distance = usual.distance(value);
            let surprise = self.tail.surprise(distance);
            self.tail.add(distance, 1.0);
            Judged { surprise, expected: f64::from(usual.level), scale: usual.floor() }
        } else {
            Judged { surprise: 0.0, expected: value, scale: 0.0 }
        };
        self.recent.learn(value, dt, RECENT_SECONDS.max(dt * RECENT_STEPS));
        self.hours[hour].learn(value, dt, SEASON_SECONDS);
        judged
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        self.recent.save(writer);
        self.hours.iter().for_each(|hour| hour.save(writer));
        self.tail.save(writer);
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let recent = Usual::load(reader)?;
        let mut hours = [Usual::default(); 24];
        for hour in &mut hours {
            *hour = Usual::load(reader)?;
        }
        Some(Self { recent, hours, tail: Tail::load(reader)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds ten-second values of so many hours, beginning at midnight; gives the greatest
    /// surprise of the last hour.
    fn last_hour(hours: u32, value: impl Fn(f64) -> f64) -> f64 {
        let mut metric = Metric::default();
        let mut most: f64 = 0.0;
        for step in 0..hours * 360 {
            let at = f64::from(step) / 360.0;
            let judged = metric.observe(value(at), 10.0, (step / 360) as usize);
            if step >= (hours - 1) * 360 {
                most = most.max(judged.surprise);
            }
        }
        most
    }

    /// A little deterministic noise.
    fn noise(at: f64) -> f64 {
        (at * 977.0).sin() + (at * 1_553.0).cos()
    }

    #[test]
    fn a_value_far_off_is_surprising_and_an_ordinary_one_is_not() {
        assert!(last_hour(30, |at| 100.0 + noise(at)) < 5.0);
        assert!(last_hour(30, |at| if at > 29.5 { 160.0 } else { 100.0 + noise(at) }) > 9.0);
    }

    #[test]
    fn a_daily_peak_is_no_surprise_after_some_days() {
        let peak = |at: f64| if (3.0..4.0).contains(&(at % 24.0)) { 500.0 } else { 100.0 } + noise(at);
        assert!(last_hour(24 * 4 + 4, peak) < 7.0);
        // The same peak at another hour.
        assert!(last_hour(24 * 4 + 12, |at| if at > 107.5 { 500.0 } else { peak(at) }) > 7.5);
    }

    #[test]
    fn a_new_level_is_usual_after_some_hours() {
        assert!(last_hour(36, |at| if at > 30.0 { 160.0 } else { 100.0 } + noise(at)) < 5.0);
    }

    #[test]
    fn a_tiny_change_of_a_constant_is_nothing() {
        assert!(last_hour(30, |at| if at > 29.5 { 1_000.5 } else { 1_000.0 }) < 9.2);
    }

    #[test]
    fn one_wild_value_does_not_poison_what_is_usual() {
        let mut metric = Metric::default();
        for step in 0..3_600 {
            metric.observe(100.0 + noise(f64::from(step)), 10.0, 0);
        }
        let before = metric.recent;
        metric.observe(1e12, 10.0, 0);
        assert!((metric.recent.level - before.level).abs() < 0.1);
    }
}
