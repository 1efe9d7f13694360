//! What is written all the time: a habit by the hour of the day or week, and how strong it is now.
//!
//! The level is taken over many windows. What is to come in an hour is judged by the last hours,
//! what is to come in a week by weeks: a burst passes. Only what was never seen before, many times
//! the usual, is believed to go on for some times as long as it has lasted.

use super::ring::Ring;
use super::{HOUR, Millis, SLOTS_PER_HOUR, STEP_RATIO};

/// Hours of a day and of a week.
const DAY: usize = 24;
const WEEK: usize = 168;

/// How much a day weighs beside the one after it.
const DAY_WEIGHT: f64 = 0.8;
/// An hour's share of its own place in the habit; its neighbours have the rest.
const OWN_SHARE: f64 = 0.5;
/// No hour's habit is less than this share of the mean.
const SHAPE_MIN: f64 = 0.05;

/// Windows of half an hour, and twice as much each time, up to two weeks.
const LEVELS: usize = 11;
/// The first so many are seen in slots, the others in hours.
const IN_SLOTS: usize = 4;
/// Parts into which a window is cut; the median of their means is weighed with the mean of all, so
/// that a burst counts, but not for more than it is.
const PARTS: usize = 5;

/// What comes so many hours ahead is judged by a window of so many times that...
const WINDOW_PER_LEAD: f64 = 3.0;
/// ... and of this much at least, in hours.
const WINDOW_MIN: f64 = 0.75;

/// So many times the usual is a storm...
const STORM_RATIO: f64 = 10.0;
/// ... that goes on for so many times as long as it has lasted.
const STORM_LASTS: f64 = 4.0;

/// The rate of writing to come.
#[derive(Debug)]
pub(super) struct Demand {
    /// How far the hour under way is.
    into_hour: f64,
    /// How an hour compares with the mean; the first is the hour under way.
    shape: [f64; WEEK],
    period: usize,
    /// Bytes an hour without the shape, over each window.
    levels: [f64; LEVELS],
    /// Bytes an hour that the shape was learned at.
    base: f64,
    /// The same as a median, which a storm of some days does not move.
    calm: f64,
}

impl Demand {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(slots: &Ring, hours: &Ring, usual: f64, now: Millis) -> Self {
        let hour = hours.slot_of(now);
        let newest = hours.current().saturating_sub(1);
        let period = if is_weekly(hours, newest) { WEEK } else { DAY };
        let mut shape = [1.0; WEEK];
        learn_shape(hours, newest, hour, &mut shape[..period]);
        let usual_hour = usual * SLOTS_PER_HOUR;
        let week = WEEK as i64;
        let (mean, calm) =
            means_of(newest - week + 1, newest + 1, |h| hours.get(h)).unwrap_or((usual_hour, usual_hour));
        let base = f64::midpoint(mean, calm);
        let mut demand = Self {
            into_hour: (now - hour * HOUR) as f64 / HOUR as f64,
            shape,
            period,
            levels: [usual_hour; LEVELS],
            base,
            calm,
        };
        let shape_at = |h: i64| shape[usize::try_from((h - hour).rem_euclid(period as i64)).unwrap_or(0)];
        let current = slots.current();
        let in_slot = |slot: i64| {
            let amount = quiet_amount(slots, slot, usual)?;
            Some(demand.plain(amount * SLOTS_PER_HOUR, shape_at((slot * slots.step()).div_euclid(HOUR))))
        };
        let in_hour = |h: i64| Some(demand.plain(hours.get(h)?, shape_at(h)));
        let mut levels = demand.levels;
        for n in 0..LEVELS {
            let level = if n < IN_SLOTS {
                level_of(current - (6 << n), current, in_slot)
            } else {
                level_of(newest + 1 - (1 << (n - 1)), newest + 1, in_hour)
            };
            levels[n] = level.unwrap_or(if n > 0 { levels[n - 1] } else { usual_hour });
        }
        demand.levels = levels;
        demand
    }

    /// Bytes an hour, so many hours ahead.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn rate(&self, lead: f64) -> f64 {
        let mut level = self.level(WINDOW_PER_LEAD * lead + WINDOW_MIN);
        let lasts = lead / STORM_LASTS;
        let is_within = |n: usize| window(n) <= lasts.max(1.0);
        if (0..LEVELS).filter(|n| is_within(*n)).all(|n| self.levels[n] > STORM_RATIO * self.calm) {
            level = level.max(self.level(lasts));
        }
        let shape = self.shape[(self.into_hour + lead) as usize % self.period];
        if level <= self.base { level * shape } else { level + (shape - 1.0) * self.base }
    }

    /// How much is usually written in the hour under way, beside the mean.
    pub(super) fn shape_now(&self) -> f64 {
        self.shape[0]
    }

    /// Whether the habit is one of the week.
    pub(super) fn is_weekly(&self) -> bool {
        self.period == WEEK
    }

    /// A rate without the shape. What is above the level of the habit has no habit of its own.
    fn plain(&self, rate: f64, shape: f64) -> f64 {
        let level = rate / shape;
        if level <= self.base { level } else { rate - (shape - 1.0) * self.base }
    }

    /// The level over so many hours.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn level(&self, hours: f64) -> f64 {
        let place = (hours / window(0)).log2().clamp(0.0, (LEVELS - 1) as f64);
        let low = (place as usize).min(LEVELS - 2);
        let part = place - low as f64;
        self.levels[low] * (1.0 - part) + self.levels[low + 1] * part
    }
}

/// Length of a window in hours.
fn window(n: usize) -> f64 {
    0.5 * f64::from(1u32 << n)
}

/// The amount of a slot; where it is new and alone holds an hour's worth, it may yet turn out to be
/// a step, and counts as usual.
fn quiet_amount(slots: &Ring, slot: i64, usual: f64) -> Option<f64> {
    let amount = slots.get(slot)?;
    let current = slots.current();
    let limit = STEP_RATIO * usual;
    let is_alone =
        || (current - 6..current).all(|other| other == slot || slots.get(other).is_none_or(|o| o <= limit / 4.0));
    Some(if slot >= current - super::OPEN && amount > limit && is_alone() { usual } else { amount })
}

/// The mean and the median of means from slot `from` to before slot `to`; `None` where too little was seen.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)]
fn means_of(from: i64, to: i64, rate: impl Fn(i64) -> Option<f64>) -> Option<(f64, f64)> {
    let mut means = [0.0; PARTS];
    let parts = PARTS as i64;
    let mut len = 0;
    for part in 0..parts {
        let (mut sum, mut count) = (0.0, 0.0);
        for rate in (from + (to - from) * part / parts..from + (to - from) * (part + 1) / parts).filter_map(&rate) {
            sum += rate;
            count += 1.0;
        }
        if count > 0.0 {
            means[len] = sum / count;
            len += 1;
        }
    }
    if (len as i64) < parts.min(to - from) {
        return None;
    }
    let means = &mut means[..len];
    means.sort_unstable_by(f64::total_cmp);
    let mean = means.iter().sum::<f64>() / len as f64;
    let median = f64::midpoint(means[(len - 1) / 2], means[len / 2]);
    Some((mean, median))
}

/// The level from slot `from` to before slot `to`.
fn level_of(from: i64, to: i64, rate: impl Fn(i64) -> Option<f64>) -> Option<f64> {
    means_of(from, to, rate).map(|(mean, median)| f64::midpoint(mean, median))
}

/// Learns the habit of one period; `first` is the hour that stands first in it. Every period is
/// compared with its own mean, so that a disk that is used less and less keeps its habit.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)]
fn learn_shape(hours: &Ring, newest: i64, first: i64, shape: &mut [f64]) {
    let period = shape.len() as i64;
    let mut sums = [(0.0, 0.0); WEEK];
    let mut weight = 1.0;
    let mut to = newest;
    while let Some(sum) = whole(hours, to - period + 1, period) {
        let mean = sum / period as f64;
        for h in to - period + 1..=to {
            if let Some(amount) = hours.get(h).filter(|_| mean > 0.0) {
                let place = &mut sums[usize::try_from((h - first).rem_euclid(period)).unwrap_or(0)];
                place.0 += weight * amount / mean;
                place.1 += weight;
            }
        }
        weight *= DAY_WEIGHT.powf(period as f64 / DAY as f64);
        to -= period;
    }
    let n = shape.len();
    for (at, value) in shape.iter_mut().enumerate() {
        let beside = (1.0 - OWN_SHARE) / 2.0;
        let (mut sum, mut weight) = (0.0, 0.0);
        for (place, share) in [(at + n - 1, beside), (at, OWN_SHARE), (at + 1, beside)] {
            sum += share * sums[place % n].0;
            weight += share * sums[place % n].1;
        }
        *value = if weight > 0.0 { (sum / weight).max(SHAPE_MIN) } else { 1.0 };
    }
}

/// The sum of so many hours from `from` on, all of them seen.
fn whole(hours: &Ring, from: i64, count: i64) -> Option<f64> {
    let (sum, seen) = hours.sum(from, from + count);
    (i64::try_from(seen).ok()? == count).then_some(sum)
}

/// Whether the week before foretold this one better than the day before did, quarter day by
/// quarter day, two days of them at least.
#[allow(clippy::cast_possible_wrap)]
fn is_weekly(hours: &Ring, newest: i64) -> bool {
    const QUARTER: i64 = 6;
    let (mut by_week, mut by_day, mut count) = (0.0, 0.0, 0);
    let mut at = newest - QUARTER + 1;
    let quarter = |from: i64| whole(hours, from, QUARTER);
    while let (Some(now), Some(day), Some(week)) = (quarter(at), quarter(at - DAY as i64), quarter(at - WEEK as i64)) {
        by_day += (now - day).abs();
        by_week += (now - week).abs();
        count += 1;
        at -= QUARTER;
    }
    count >= 8 && by_week < by_day
}
