//! The season: how the hours of a day and of a week differ from the level of their days.
//!
//! Levels and season are found in turn, each as medians of what the other leaves. Which kind of
//! season there is, is decided by days (weeks, where there are three) that it was not learned from.

use super::stats::median;
use super::{DAY, Demand, WEEK, from_noon, phase};

/// Least seen hours for the level of a day.
const LEVEL_HOURS_MIN: usize = 6;
/// Newest weeks that a season is learned from.
const WEEKS_MAX: usize = 8;
/// Days before a season by the week is tried: one week to try it on and two to learn it from.
const WEEKLY_DAYS: usize = 21;
/// A season with more parts has to err by so much less than one with fewer.
const BETTER: f64 = 0.97;
/// An hour of the week was seen a few times only: its own departure counts like so many times more, with none.
const SHRINK: f64 = 1.0;
/// Days on each side that the slow level of a day is the median of: with its own, one week.
const BESIDE: usize = 3;

/// What repeats itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    None,
    /// Hours of the day.
    Day,
    /// Hours of the day, and days of the week as a whole.
    Weekday,
    /// Hours of the week.
    Week,
}

impl Kind {
    /// As it is said: `none`, `day`, `day and weekday`, `week`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Day => "day",
            Self::Weekday => "day and weekday",
            Self::Week => "week",
        }
    }
}

/// A history taken apart.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) kind: Kind,
    season: Shape,
    /// The level of each day without the season, at its noon; NaN where too little was seen.
    pub(super) levels: Vec<f64>,
    /// What level and season do not explain, hour by hour; the season as it is known without that hour's day or week.
    pub(super) rest: Vec<f64>,
}

impl Parts {
    /// What the season adds in an hour.
    pub(super) fn season(&self, hour: i64) -> f64 {
        self.season[phase(hour, WEEK)]
    }
}

/// By hour of the week.
type Shape = [f64; WEEK];
/// By kind.
type Shapes = [Shape; 4];

/// Takes a history apart.
pub(super) fn learn(demand: &Demand) -> Parts {
    let mut season: Shape = [0.0; WEEK];
    let window = demand.values.len().saturating_sub(WEEKS_MAX * WEEK);
    let detrended = |season: &Shape| {
        let levels = levels(demand, |at| season[phase(demand.hour(at), WEEK)]);
        let slope = slope_of(&levels);
        let slow: Vec<f64> = (0..levels.len()).map(|day| slow_level(&levels, day, slope)).collect();
        let plain = |at: usize| demand.values[at] - slow[at / DAY] - slope * from_noon(at);
        (0..demand.values.len()).map(|at| if at < window { f64::NAN } else { plain(at) }).collect::<Vec<_>>()
    };
    // The first levels are those of days with whatever season they have; the second are without it.
    let first = Fit { demand, plain: &detrended(&season), fold: usize::MAX };
    season = first.shapes(Kind::Day, None)[Kind::Day as usize];
    let plain = detrended(&season);
    let is_weekly = demand.days() >= WEEKLY_DAYS;
    let fit = Fit { demand, plain: &plain, fold: if is_weekly { WEEK } else { DAY } };
    let kinds: &[Kind] =
        if is_weekly { &[Kind::None, Kind::Day, Kind::Weekday, Kind::Week] } else { &[Kind::None, Kind::Day] };
    let (kind, without) = fit.choose(kinds);
    let season = fit.shapes(kind, None)[kind as usize];
    let levels = levels(demand, |at| season[phase(demand.hour(at), WEEK)]);
    let slope = slope_of(&levels);
    let rest = (0..demand.values.len())
        .map(|at| match without.get(fit.fold_of(at)) {
            Some(shape) => {
                let season = shape[phase(demand.hour(at), WEEK)];
                demand.values[at] - season - levels[at / DAY] - slope * from_noon(at)
            }
            None => f64::NAN,
        })
        .collect();
    Parts { kind, season, levels, rest }
}

/// The level of each day: the median of its hours without the season.
fn levels(demand: &Demand, season: impl Fn(usize) -> f64) -> Vec<f64> {
    let day = |day: usize| {
        let hours = day * DAY..(day + 1) * DAY;
        let mut seen: Vec<f64> =
            hours.map(|at| demand.values[at] - season(at)).filter(|value| !value.is_nan()).collect();
        if seen.len() < LEVEL_HOURS_MIN { f64::NAN } else { median(&mut seen).unwrap_or(f64::NAN) }
    };
    (0..demand.days()).map(day).collect()
}

/// What a day is more than the day before: the median over differences of a week, which one jump does not move; where
/// there are few, over all pairs of days (Theil and Sen).
#[allow(clippy::cast_precision_loss)]
pub(super) fn slope_of(levels: &[f64]) -> f64 {
    let week = WEEK / DAY;
    let mut slopes: Vec<f64> = if levels.len() >= 3 * week {
        levels.windows(week + 1).map(|days| (days[week] - days[0]) / week as f64).collect()
    } else {
        let later = |from: usize| (from + 1..levels.len()).map(move |to| (from, to));
        (0..levels.len()).flat_map(later).map(|(from, to)| (levels[to] - levels[from]) / (to - from) as f64).collect()
    };
    slopes.retain(|slope| !slope.is_nan());
    median(&mut slopes).unwrap_or(0.0)
}

/// The level about a day: the median over a week, moved along the slope. It keeps the edge of a jump.
#[allow(clippy::cast_precision_loss)]
fn slow_level(levels: &[f64], day: usize, slope: f64) -> f64 {
    let from = day.saturating_sub(BESIDE).min(levels.len().saturating_sub(2 * BESIDE + 1));
    let to = (from + 2 * BESIDE + 1).min(levels.len());
    let moved = |at: usize| levels[at] + slope * (day as f64 - at as f64);
    let mut near: Vec<f64> = (from..to).map(moved).filter(|level| !level.is_nan()).collect();
    median(&mut near).unwrap_or(f64::NAN)
}

/// Seasons of one history without its slow level.
struct Fit<'d> {
    demand: &'d Demand,
    /// NaN where nothing was seen or it is too old.
    plain: &'d [f64],
    /// Hours of one fold.
    fold: usize,
}

impl Fit<'_> {
    /// Folds are counted back from the end, so that the newest is whole.
    fn fold_of(&self, at: usize) -> usize {
        (self.plain.len() - 1 - at) / self.fold
    }

    /// The kind that errs least on folds it was not learned from, and its shapes without each fold.
    fn choose(&self, kinds: &[Kind]) -> (Kind, Vec<Shape>) {
        let folds = self.plain.len().min(WEEKS_MAX * WEEK).div_ceil(self.fold);
        let deepest = kinds.last().copied().unwrap_or(Kind::None);
        let shapes: Vec<Shapes> = (0..folds).map(|fold| self.shapes(deepest, Some(fold))).collect();
        let mut best: Option<(f64, Kind)> = None;
        for kind in kinds {
            let mut error = 0.0;
            for (at, plain) in self.plain.iter().enumerate().filter(|(_, plain)| !plain.is_nan()) {
                error += (plain - shapes[self.fold_of(at)][*kind as usize][phase(self.demand.hour(at), WEEK)]).abs();
            }
            if best.is_none_or(|(least, _)| error < BETTER * least) {
                best = Some((error, *kind));
            }
        }
        let kind = best.map_or(Kind::None, |(_, kind)| kind);
        (kind, shapes.into_iter().map(|shapes| shapes[kind as usize]).collect())
    }

    /// The shapes of all kinds up to one, learned without one fold; each has the parts of the one before.
    fn shapes(&self, deepest: Kind, without: Option<usize>) -> Shapes {
        let mut shapes = [[0.0; WEEK]; 4];
        let mut shape = [0.0; WEEK];
        for kind in [Kind::Day, Kind::Weekday, Kind::Week].into_iter().filter(|kind| *kind as usize <= deepest as usize)
        {
            let (bins, hours) = match kind {
                Kind::None | Kind::Day => (DAY, 1),
                Kind::Weekday => (WEEK / DAY, DAY),
                Kind::Week => (WEEK, 1),
            };
            let left = self.medians(bins, without, &shape, |of_week| of_week / hours % bins);
            for (of_week, part) in shape.iter_mut().enumerate() {
                let (median, count) = left[of_week / hours % bins];
                *part += if kind == Kind::Week { median * count / (count + SHRINK) } else { median };
            }
            shapes[kind as usize] = shape;
        }
        shapes
    }

    /// The median of what a shape leaves in each of so many bins, and how many hours it is of.
    #[allow(clippy::cast_precision_loss)]
    fn medians(
        &self,
        bins: usize,
        without: Option<usize>,
        shape: &Shape,
        bin: impl Fn(usize) -> usize,
    ) -> Vec<(f64, f64)> {
        let mut left: Vec<Vec<f64>> = vec![Vec::new(); bins];
        for (at, plain) in self.plain.iter().enumerate().filter(|(_, plain)| !plain.is_nan()) {
            if without != Some(self.fold_of(at)) {
                let of_week = phase(self.demand.hour(at), WEEK);
                left[bin(of_week)].push(plain - shape[of_week]);
            }
        }
        left.iter_mut().map(|left| (median(left).unwrap_or(0.0), left.len() as f64)).collect()
    }
}
