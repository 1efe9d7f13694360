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
/// Slots of the longest of these, and hours of the longest of all.
const LONGEST_IN_SLOTS: usize = 6 << (IN_SLOTS - 1);
const LONGEST: usize = 1 << (LEVELS - 2);
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
    /// Windows, the shortest first, that are all many times what is calm: a median, which a storm of some days does not move.
    stormy: usize,
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
        let to = newest + 1;
        let week = to - WEEK as i64;
        let (mean, calm) =
            Sums::<{ WEEK + 1 }>::new(week, hours.range(week, to)).means(week, to).unwrap_or((usual_hour, usual_hour));
        let base = f64::midpoint(mean, calm);
        let mut demand = Self {
            into_hour: (now - hour * HOUR) as f64 / HOUR as f64,
            shape,
            period,
            levels: [usual_hour; LEVELS],
            base,
            stormy: 0,
        };
        let shape_at = |h: i64| shape[usize::try_from((h - hour).rem_euclid(period as i64)).unwrap_or(0)];
        let current = slots.current();
        let in_slot = |(slot, amount): (i64, Option<f64>)| {
            let amount = quiet_amount(slots, slot, amount?, usual);
            Some(demand.plain(amount * SLOTS_PER_HOUR, shape_at((slot * slots.step()).div_euclid(HOUR))))
        };
        let from = current - LONGEST_IN_SLOTS as i64;
        let in_slots =
            Sums::<{ LONGEST_IN_SLOTS + 1 }>::new(from, (from..current).zip(slots.range(from, current)).map(in_slot));
        let from = to - LONGEST as i64;
        let mut place = usize::try_from((from - hour).rem_euclid(period as i64)).unwrap_or(0);
        let in_hours = hours.range(from, to).map(|amount| {
            let shape = shape[place];
            place = if place + 1 < period { place + 1 } else { 0 };
            Some(demand.plain(amount?, shape))
        });
        let in_hours = Sums::<{ LONGEST + 1 }>::new(from, in_hours);
        let mut levels = demand.levels;
        for n in 0..LEVELS {
            let means = if n < IN_SLOTS {
                in_slots.means(current - (6 << n), current)
            } else {
                in_hours.means(to - (1 << (n - 1)), to)
            };
            let before = if n > 0 { levels[n - 1] } else { usual_hour };
            levels[n] = means.map_or(before, |(mean, median)| f64::midpoint(mean, median));
        }
        demand.levels = levels;
        demand.stormy = levels.iter().take_while(|level| **level > STORM_RATIO * calm).count();
        demand
    }

    /// Bytes an hour at a lead.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn rate(&self, lead: &Lead) -> f64 {
        let mut level = self.level(lead.window);
        // Every window up to the one that it must have lasted for is of the storm.
        if lead.storms < self.stormy {
            level = level.max(self.level(lead.storm));
        }
        let shape = self.shape[(self.into_hour + lead.hours) as usize % self.period];
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

    fn level(&self, (low, part): (usize, f64)) -> f64 {
        self.levels[low] * (1.0 - part) + self.levels[low + 1] * part
    }
}

/// What is the same for a moment so far ahead, whatever the disk: where its windows lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lead {
    hours: f64,
    /// The window that foretells it: the one that is not longer, and how much of the way to the next one it is.
    window: (usize, f64),
    /// The same of the window that a storm must have lasted for, and the last that is not longer.
    storm: (usize, f64),
    storms: usize,
}

impl Lead {
    pub(super) fn new(hours: f64) -> Self {
        let lasts = hours / STORM_LASTS;
        Self {
            hours,
            window: place(WINDOW_PER_LEAD * hours + WINDOW_MIN),
            storm: place(lasts),
            storms: (0..LEVELS).filter(|n| window(*n) <= lasts.max(1.0)).count().saturating_sub(1),
        }
    }
}

/// Where a window of so many hours lies among those that are kept: between two, mostly.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn place(hours: f64) -> (usize, f64) {
    let place = (hours / window(0)).log2().clamp(0.0, (LEVELS - 1) as f64);
    let low = (place as usize).min(LEVELS - 2);
    (low, place - low as f64)
}

/// Length of a window in hours.
fn window(n: usize) -> f64 {
    0.5 * f64::from(1u32 << n)
}

/// The amount of a slot; where it is new and alone holds an hour's worth, it may yet turn out to be
/// a step, and counts as usual.
fn quiet_amount(slots: &Ring, slot: i64, amount: f64, usual: f64) -> f64 {
    let current = slots.current();
    let limit = STEP_RATIO * usual;
    let is_alone =
        || (current - 6..current).all(|other| other == slot || slots.get(other).is_none_or(|o| o <= limit / 4.0));
    if slot >= current - super::OPEN && amount > limit && is_alone() { usual } else { amount }
}

/// Sums of rates up to each slot, so that the windows, which all end at the same one, need one pass.
struct Sums<const N: usize> {
    first: i64,
    /// Of the slots before each, and before what comes after them: their sum, and how many of them were seen.
    before: [(f64, u32); N],
}

impl<const N: usize> Sums<N> {
    /// Of the rates from slot `first` on, one less than there are sums.
    fn new(first: i64, rates: impl Iterator<Item = Option<f64>>) -> Self {
        let mut before = [(0.0, 0); N];
        let (mut sum, mut count) = (0.0, 0);
        for (place, rate) in before[1..].iter_mut().zip(rates) {
            if let Some(rate) = rate {
                sum += rate;
                count += 1;
            }
            *place = (sum, count);
        }
        Self { first, before }
    }

    fn until(&self, slot: i64) -> (f64, u32) {
        usize::try_from(slot - self.first).ok().and_then(|at| self.before.get(at)).copied().unwrap_or((0.0, 0))
    }

    /// The mean and the median of means from slot `from` to before slot `to`; `None` where too little was seen.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)]
    fn means(&self, from: i64, to: i64) -> Option<(f64, f64)> {
        let mut means = [0.0; PARTS];
        let parts = PARTS as i64;
        let mut len = 0;
        let mut last = self.until(from);
        for part in 1..=parts {
            let next = self.until(from + (to - from) * part / parts);
            if next.1 > last.1 {
                means[len] = (next.0 - last.0) / f64::from(next.1 - last.1);
                len += 1;
            }
            last = next;
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
