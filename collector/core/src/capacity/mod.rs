//! Capacity: how much of something will be asked for, and when that reaches what there is.
//!
//! In: demand by the hour, some weeks of it. Out: for every hour of a horizon what is expected and
//! what is exceeded in one of twenty such hours only, and when a limit is met, with an interval.
//!
//! Demand is taken apart at two scales. By the day there is a level with a trend ([`level`]), both
//! robust; how it is best continued is what would have foretold this very history best, and how far
//! that was off, by days ahead, is how wide the answer is. Within the day and week there is a
//! season ([`season`]), learned without the days it is tried on. What neither explains is replayed
//! as it was ([`ahead`]): bursts come again as high and as often. [`shared`] adds hosts up hour by
//! hour, so that a group has the peak that its hosts share and not the sum of their own.
//!
//! Too little history is no forecast, and says what is missing.

mod ahead;
mod hours;
mod level;
mod season;
mod shared;
mod stats;
#[cfg(test)]
mod tests;

pub use ahead::{HIGH, Met, Outlook};
pub use hours::Hours;
pub use season::Kind as Season;
pub use shared::shared;

/// Hours of a day.
pub const DAY: usize = 24;
/// Hours of a week.
pub const WEEK: usize = 7 * DAY;

/// Least history: every hour of the day has been seen seven times, every day of the week once.
pub const HISTORY_MIN: usize = WEEK;
/// Most history that is looked at. What is older says little of a season, and levels by the day cost a square of it.
pub const HISTORY_MAX: usize = 120 * DAY;
/// A horizon is at most so many times the history: errors can be seen up to half of it, and are believed to grow as
/// they did for four times as long.
pub const REACH: usize = 2;
/// Longest horizon.
pub const HORIZON_MAX: usize = 366 * DAY;
/// So large a share of the hours has to be there.
pub const COMPLETE_MIN: f64 = 0.5;

/// Demand by the hour.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hourly {
    /// The hour of the first value, counted since 1970.
    pub first: i64,
    /// The mean demand of each hour; `None` where it was not seen.
    pub values: Vec<Option<f64>>,
}

impl Hourly {
    /// The hour after the last.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.first + i64::try_from(self.values.len()).unwrap_or(0)
    }

    /// The same without unseen hours at both ends.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        let seen = |value: &Option<f64>| value.is_some();
        let Some(from) = self.values.iter().position(seen) else { return Self::default() };
        let to = self.values.iter().rposition(seen).unwrap_or(from);
        Self { first: self.first + i64::try_from(from).unwrap_or(0), values: self.values[from..=to].to_vec() }
    }

    /// The share of its hours that were seen; 0 of none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn completeness(&self) -> f64 {
        let seen = self.values.iter().flatten().count();
        if seen == 0 { 0.0 } else { seen as f64 / self.values.len() as f64 }
    }

    /// The newest value.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        self.values.iter().rev().flatten().next().copied()
    }
}

/// Why there is no forecast.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// Nothing was ever seen.
    #[error("no history: no forecast")]
    Nothing,
    /// Less than a week was seen.
    #[error("{} of history: no forecast; a week is needed for a season by day", span(*hours))]
    Short {
        /// What there is.
        hours: usize,
    },
    /// Too much of it is missing.
    #[error("{:.0}% of the hours of {} are there: no forecast; half of them are needed", share * 100.0, span(*hours))]
    Sparse {
        /// What there is, from the first hour to the last.
        hours: usize,
        /// The share of the hours that were seen.
        share: f64,
    },
    /// The history does not reach so far.
    #[error("{} of history reach {} ahead: no forecast for {}", span(*hours), span(*reach), span(*asked))]
    Far {
        /// What there is.
        hours: usize,
        /// How far it reaches.
        reach: usize,
        /// How far was asked.
        asked: usize,
    },
}

/// A number of hours in words: `5 h`, `12 d`.
fn span(hours: usize) -> String {
    if hours < 2 * DAY { format!("{hours} h") } else { format!("{} d", hours / DAY) }
}

/// The outlook for so many hours after the last of the history.
///
/// # Errors
/// If the history is too short, too sparse, or does not reach so far.
pub fn outlook(history: &Hourly, horizon: usize) -> Result<Outlook, Unfit> {
    let whole = history.trimmed();
    let hours = whole.values.len();
    if hours == 0 {
        return Err(Unfit::Nothing);
    }
    if hours < HISTORY_MIN {
        return Err(Unfit::Short { hours });
    }
    let kept = &whole.values[hours.saturating_sub(HISTORY_MAX)..];
    // Whole days, counted back from the end.
    let kept = &kept[kept.len() % DAY..];
    let demand = Demand {
        first: whole.end() - i64::try_from(kept.len()).unwrap_or(0),
        values: kept.iter().map(|value| value.filter(|v| v.is_finite()).unwrap_or(f64::NAN)).collect(),
    };
    let share = whole.completeness().min(demand.share_seen());
    if share < COMPLETE_MIN {
        return Err(Unfit::Sparse { hours, share });
    }
    let horizon = horizon.clamp(1, HORIZON_MAX);
    let reach = REACH * hours;
    if horizon > reach {
        return Err(Unfit::Far { hours, reach, asked: horizon });
    }
    let parts = season::learn(&demand);
    let course = level::choose(&parts.levels, horizon.div_ceil(DAY) + 1);
    Ok(Outlook::new(&demand, &parts, &course, horizon))
}

/// What is looked at of a history: whole days, NaN where nothing was seen.
#[derive(Debug)]
struct Demand {
    first: i64,
    values: Vec<f64>,
}

impl Demand {
    fn days(&self) -> usize {
        self.values.len() / DAY
    }

    fn hour(&self, at: usize) -> i64 {
        self.first + i64::try_from(at).unwrap_or(0)
    }

    #[allow(clippy::cast_precision_loss)]
    fn share_seen(&self) -> f64 {
        self.values.iter().filter(|value| !value.is_nan()).count() as f64 / self.values.len().max(1) as f64
    }
}

/// How far into its day an hour of the history is, in days from the middle of the day.
#[allow(clippy::cast_precision_loss)]
fn from_noon(at: usize) -> f64 {
    ((at % DAY) as f64 + 0.5) / DAY as f64 - 0.5
}

/// The place of an hour in a cycle of `period` hours.
fn phase(hour: i64, period: usize) -> usize {
    usize::try_from(hour.rem_euclid(i64::try_from(period).unwrap_or(1))).unwrap_or(0)
}
