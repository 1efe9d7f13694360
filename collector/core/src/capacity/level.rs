//! The course of the daily level: from where and how steeply it goes on, and how far off that will be.
//!
//! A few courses are tried on the history itself: from every day of it, with what was known by
//! then, up to as far ahead as it allows. The one that was off least is taken, the plainer where
//! two are near, and how far it was off by days ahead is how wide the answer will be.

use super::stats::{median, quantile};
use super::{DAY, WEEK};

/// Days before the first trial.
const TRAIN_MIN: usize = WEEK / DAY;
/// Trials that the error at a distance needs at least.
const TRIALS_MIN: usize = 3;
/// A level is the median of so many newest days.
const LEVEL_DAYS: [usize; 3] = [7, 3, 1];
/// A trend is that of so many newest days.
const TREND_DAYS: [usize; 2] = [28, 56];
/// A course that is less plain has to be off by so much less.
const BETTER: f64 = 0.9;
/// Of a normal distribution four of five lie within so many deviations.
const FOUR_OF_FIVE: f64 = 1.2816;
/// Of how few trials apart from each other a deviation is, makes it wider: near the quantiles of Student's t, by so much
/// over their number.
const FEW: f64 = 0.9;
/// Beyond what could be tried errors grow with this power of time at least (a random walk) ...
const GROWTH_MIN: f64 = 0.5;
/// ... and at most (a wrong slope).
const GROWTH_MAX: f64 = 1.0;

/// How a level goes on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Course {
    /// The level at noon of the last day.
    pub(super) level: f64,
    /// What a day adds.
    pub(super) slope: f64,
    /// By days ahead, the first being one: a deviation of the level.
    spread: Vec<f64>,
    growth: f64,
}

impl Course {
    /// A deviation of the level so many days ahead.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn spread(&self, days: f64) -> f64 {
        let Some(last) = self.spread.last() else { return 0.0 };
        let tried = self.spread.len() as f64;
        if days >= tried {
            return last * (days / tried).powf(self.growth);
        }
        let place = (days - 1.0).max(0.0);
        let low = place as usize;
        let part = place - low as f64;
        self.spread[low] * (1.0 - part) + self.spread[(low + 1).min(self.spread.len() - 1)] * part
    }
}

/// What a day adds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trend {
    None,
    /// The robust slope of so many days.
    Robust(usize),
    /// From the first week to the last: what falls seldom, such as a clean-up, counts too.
    Mean,
}

/// From where and how steeply.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Way {
    days: usize,
    trend: Trend,
}

/// The course that would have foretold the levels best, for so many days.
pub(super) fn choose(levels: &[f64], horizon: usize) -> Course {
    let longest = levels.len().saturating_sub(TRAIN_MIN) * 2 / 3;
    let leads = horizon.min(longest).max(1);
    let ways = || {
        let trends = [Trend::None].into_iter().chain(TREND_DAYS.map(Trend::Robust)).chain([Trend::Mean]);
        trends.flat_map(|trend| LEVEL_DAYS.map(|days| Way { days, trend }))
    };
    let mut best: Option<(f64, Way, Vec<Vec<f64>>)> = None;
    for way in ways() {
        let errors = trials(levels, way, leads);
        let total: f64 = errors.iter().flatten().sum();
        if best.as_ref().is_none_or(|(least, ..)| total < BETTER * least) {
            best = Some((total, way, errors));
        }
    }
    let (_, way, errors) = best.unwrap_or((0.0, Way { days: LEVEL_DAYS[0], trend: Trend::None }, Vec::new()));
    let (level, slope) = start(levels, way).unwrap_or((0.0, 0.0));
    let spread = spread(errors);
    let growth = growth(&spread);
    Course { level, slope, spread, growth }
}

/// How far off a way would have been, by days ahead.
#[allow(clippy::cast_precision_loss)]
fn trials(levels: &[f64], way: Way, leads: usize) -> Vec<Vec<f64>> {
    let mut errors = vec![Vec::new(); leads];
    for end in TRAIN_MIN..levels.len() {
        let Some((level, slope)) = start(&levels[..end], way) else { continue };
        for (lead, actual) in levels[end..].iter().take(leads).enumerate().filter(|(_, actual)| !actual.is_nan()) {
            errors[lead].push((actual - level - slope * (lead + 1) as f64).abs());
        }
    }
    errors
}

/// The level at the last day and the slope, by one way; `None` where no day was seen of late.
#[allow(clippy::cast_precision_loss)]
fn start(levels: &[f64], way: Way) -> Option<(f64, f64)> {
    let newest = |days: usize| &levels[levels.len().saturating_sub(days)..];
    let slope = match way.trend {
        Trend::None => 0.0,
        Trend::Robust(days) => super::season::slope_of(newest(days)),
        Trend::Mean => mean_slope(levels),
    };
    let last = levels.len() as f64 - 1.0;
    let seen = levels.iter().enumerate().rev().filter(|(_, level)| !level.is_nan());
    let mut moved: Vec<f64> = seen.take(way.days).map(|(day, level)| level + slope * (last - day as f64)).collect();
    Some((median(&mut moved)?, slope))
}

/// From the mean of the first week to that of the last.
#[allow(clippy::cast_precision_loss)]
fn mean_slope(levels: &[f64]) -> f64 {
    let week = (WEEK / DAY).min(levels.len() / 2).max(1);
    let mean = |days: &[f64]| {
        let seen = days.iter().filter(|level| !level.is_nan());
        let (sum, count) = seen.fold((0.0, 0.0), |(sum, count), level| (sum + level, count + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    let between = levels.len() - week;
    match (mean(&levels[..week]), mean(&levels[between..])) {
        (Some(first), Some(last)) if between > 0 => (last - first) / between as f64,
        _ => 0.0,
    }
}

/// A deviation by days ahead; never less than at fewer days.
#[allow(clippy::cast_precision_loss)]
fn spread(errors: Vec<Vec<f64>>) -> Vec<f64> {
    let mut widest = 0.0f64;
    let mut spread = Vec::with_capacity(errors.len());
    for (lead, mut errors) in errors.into_iter().enumerate() {
        if errors.len() < TRIALS_MIN && lead > 0 {
            break;
        }
        errors.sort_unstable_by(f64::total_cmp);
        // Trials of so many days ahead overlap unless they are so many days apart.
        let apart = (errors.len() as f64 / (lead + 1) as f64).max(1.0);
        let deviation = quantile(&errors, 0.8).unwrap_or(0.0) / FOUR_OF_FIVE;
        widest = widest.max(deviation * (1.0 + FEW / apart));
        spread.push(widest);
    }
    spread
}

/// By which power of time errors grow, seen over the longer half of what was tried.
#[allow(clippy::cast_precision_loss)]
fn growth(spread: &[f64]) -> f64 {
    let (Some(last), Some(half)) = (spread.last(), spread.get((spread.len() / 2).saturating_sub(1))) else {
        return GROWTH_MIN;
    };
    if *half <= 0.0 || spread.len() < 4 {
        return GROWTH_MIN;
    }
    let times = spread.len() as f64 / (spread.len() / 2) as f64;
    ((last / half).ln() / times.ln()).clamp(GROWTH_MIN, GROWTH_MAX)
}
