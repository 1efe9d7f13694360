//! The way ahead, hour by hour, and when it reaches a limit.
//!
//! The level may go off its course slowly; what level and season did not explain comes on top, as
//! it came before. The high quantile is that of both together. A limit is met in the first hour
//! that asks for so much: the way is followed for thirteen courses of the level, each with what the
//! last weeks had on top in turn, and the times are a distribution.

use super::level::Course;
use super::season::{Kind, Parts};
use super::{DAY, Demand, WEEK, phase};

/// The high quantile: so large a share of hours asks for less.
pub const HIGH: f64 = 0.95;
/// The same quantile of a normal distribution, in deviations.
const NORMAL_HIGH: f64 = 1.645;
/// The interval of when a limit is met: one in ten sooner, one in ten later.
const SOONER: f64 = 0.1;
const LATER: f64 = 0.9;
/// It is met when that is as likely as not.
const LIKELY: f64 = 0.5;
/// Newest weeks whose rest is replayed.
const REPLAYS_MAX: usize = 8;
/// Spreads at which the high quantile is worked out; between them it is interpolated.
const KNOTS: usize = 8;
/// Halvings until a quantile is found.
const HALVINGS: usize = 24;

/// Courses that are followed, in deviations, and how likely each is: the normal distribution.
const COURSES: [(f64, f64); 13] = [
    (2.4, 0.009),
    (2.0, 0.0216),
    (1.6, 0.0444),
    (1.2, 0.0777),
    (0.8, 0.1159),
    (0.4, 0.1473),
    (0.0, 0.1602),
    (-0.4, 0.1473),
    (-0.8, 0.1159),
    (-1.2, 0.0777),
    (-1.6, 0.0444),
    (-2.0, 0.0216),
    (-2.4, 0.009),
];

/// When a limit is met. Hours are counted since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Met {
    /// How likely it is met within the horizon.
    pub chance: f64,
    /// The hour; `None` where it is more likely not met within the horizon.
    pub at: Option<i64>,
    /// Hardly sooner than this (one in ten); `None` where that is not within the horizon.
    pub earliest: Option<i64>,
    /// Hardly later than this (one in ten); `None` where that is not within the horizon.
    pub latest: Option<i64>,
}

/// What is to come.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The first hour, counted since 1970.
    pub first: i64,
    /// What is expected of each hour.
    pub expected: Vec<f64>,
    /// What each hour stays below in [`HIGH`] of all cases.
    pub high: Vec<f64>,
    /// The season that was found.
    pub season: Kind,
    /// What a day adds.
    pub slope: f64,
    /// A deviation of the level by hour.
    spread: Vec<f64>,
    /// What the last weeks had on top, by hour of the week; newest first.
    replays: Vec<Vec<f64>>,
}

impl Outlook {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(demand: &Demand, parts: &Parts, course: &Course, horizon: usize) -> Self {
        let first = demand.hour(demand.values.len());
        let hour = |at: usize| first + i64::try_from(at).unwrap_or(0);
        let days = |at: usize| 0.5 + (at as f64 + 0.5) / DAY as f64;
        let bare = |at: usize| course.level + course.slope * days(at) + parts.season(hour(at));
        let spread: Vec<f64> = (0..horizon).map(|at| course.spread(days(at))).collect();
        let expected: Vec<f64> = (0..horizon).map(|at| bare(at).max(0.0)).collect();
        let above = Above::new(demand, parts, &spread);
        let high = (0..horizon).map(|at| (bare(at) + above.at(hour(at), spread[at])).max(expected[at])).collect();
        let replays = replays(demand, parts);
        Self { first, expected, high, season: parts.kind, slope: course.slope, spread, replays }
    }

    /// The most that is expected of an hour, and the most of the high quantile.
    #[must_use]
    pub fn peaks(&self) -> (f64, f64) {
        let most = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
        (most(&self.expected), most(&self.high))
    }

    /// When an hour asks for so much.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn meets(&self, limit: f64) -> Met {
        let mut times: Vec<(usize, f64)> = Vec::new();
        let none = [Vec::new()];
        let replays = if self.replays.is_empty() { &none[..] } else { &self.replays[..] };
        for turn in 0..replays.len() {
            let asks = |at: usize, deviations: f64| {
                let week = &replays[(turn + at / WEEK) % replays.len()];
                let hour = self.first + i64::try_from(at).unwrap_or(0);
                let on_top = week.get(phase(hour, WEEK)).copied().unwrap_or(0.0);
                self.expected[at] + deviations * self.spread[at] + on_top
            };
            // Lower courses meet the limit no sooner: each goes on where the one above it did.
            let mut at = 0;
            for (deviations, weight) in COURSES {
                while at < self.expected.len() && asks(at, deviations) < limit {
                    at += 1;
                }
                times.push((at, weight / replays.len() as f64));
            }
        }
        times.sort_unstable_by_key(|(at, _)| *at);
        let within = |at: usize| (at < self.expected.len()).then(|| self.first + i64::try_from(at).unwrap_or(0));
        let total: f64 = times.iter().map(|(_, weight)| weight).sum();
        let by = |share: f64| {
            let mut sum = 0.0;
            let mut each = times.iter().skip_while(|(_, weight)| {
                sum += weight;
                sum < share * total
            });
            each.next().and_then(|(at, _)| within(*at))
        };
        let met = times.iter().filter(|(at, _)| within(*at).is_some()).map(|(_, weight)| weight);
        Met { chance: (met.sum::<f64>() / total).min(1.0), at: by(LIKELY), earliest: by(SOONER), latest: by(LATER) }
    }
}

/// What the last whole weeks had on top, by hour of the week; nothing where nothing was seen.
fn replays(demand: &Demand, parts: &Parts) -> Vec<Vec<f64>> {
    let week = |back: usize| {
        let to = demand.values.len() - back * WEEK;
        let mut week = vec![0.0; WEEK];
        for (at, rest) in (to - WEEK..to).map(|at| (at, parts.rest[at])).filter(|(_, rest)| !rest.is_nan()) {
            week[phase(demand.hour(at), WEEK)] = rest;
        }
        week
    };
    (0..(demand.values.len() / WEEK).min(REPLAYS_MAX)).map(week).collect()
}

/// How far above the expected the high quantile is, by hour of the day and spread of the level.
struct Above {
    least: f64,
    step: f64,
    /// By hour of the day, at each knot.
    at: Vec<[f64; KNOTS]>,
}

impl Above {
    #[allow(clippy::cast_precision_loss)]
    fn new(demand: &Demand, parts: &Parts, spread: &[f64]) -> Self {
        let mut pools: Vec<Vec<f64>> = vec![Vec::new(); DAY];
        for (at, rest) in parts.rest.iter().enumerate().filter(|(_, rest)| !rest.is_nan()) {
            // An hour and the two beside it: one alone was seen a few times only.
            for beside in -1..=1 {
                pools[phase(demand.hour(at) + beside, DAY)].push(*rest);
            }
        }
        let least = spread.iter().copied().fold(f64::INFINITY, f64::min);
        let most = spread.iter().copied().fold(least, f64::max);
        let step = (most - least) / (KNOTS - 1) as f64;
        let at = pools.iter_mut().map(|pool| {
            pool.sort_unstable_by(f64::total_cmp);
            std::array::from_fn(|knot| together(pool, least + step * knot as f64))
        });
        Self { least, step, at: at.collect() }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn at(&self, hour: i64, spread: f64) -> f64 {
        let knots = &self.at[phase(hour, DAY)];
        if self.step <= 0.0 {
            return knots[0];
        }
        let place = ((spread - self.least) / self.step).clamp(0.0, (KNOTS - 1) as f64);
        let low = (place as usize).min(KNOTS - 2);
        let part = place - low as f64;
        knots[low] * (1.0 - part) + knots[low + 1] * part
    }
}

/// The high quantile of a level's deviation and the rest together.
#[allow(clippy::cast_precision_loss)]
fn together(pool: &[f64], spread: f64) -> f64 {
    let (Some(least), Some(most)) = (pool.first(), pool.last()) else {
        return NORMAL_HIGH * spread; // nothing was seen at this time of day: the level alone
    };
    let widest = COURSES[0].0 * spread;
    let (mut low, mut high) = (least - widest, most + widest);
    // One more value than were seen, above all of them (conformal prediction).
    let share = |below: f64| -> f64 {
        let rank = |(deviations, weight): (f64, f64)| {
            weight * pool.partition_point(|rest| rest + deviations * spread <= below) as f64
        };
        COURSES.into_iter().map(rank).sum::<f64>() / (pool.len() + 1) as f64
    };
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if share(middle) < HIGH { low = middle } else { high = middle }
    }
    high
}
