//! Functions of each value by itself, and dates.

use super::column::{ABSENT, Clash, each};
use super::number::{greater, lesser, seconds};
use super::{Evaluation, Grid, Out};
use crate::EvalError;
use crate::plan::{MapFn, Scalar, Vector};

impl Evaluation<'_> {
    pub(super) fn map(
        &self,
        function: MapFn,
        parameters: &[Scalar],
        of: &Vector,
        grid: Grid,
        out: Out<'_>,
    ) -> Result<(), EvalError> {
        let parameters: Vec<Vec<f64>> =
            parameters.iter().map(|parameter| self.scalar(parameter, grid)).collect::<Result<_, _>>()?;
        let parameter = |p: usize, n: usize| parameters.get(p).map_or(0.0, |values| values[n]);
        self.renamed(Clash::PerStep.or_none(of.may_clash_without_name()), out, &mut |out| {
            self.vector(of, grid, &mut |mut series| {
                self.budget.work(grid.count)?;
                let values = &mut series.values;
                match function {
                    MapFn::Timestamp => each(values, |n, _| seconds(grid.at(n))),
                    MapFn::Round => each(values, |n, value| {
                        let inverse = 1.0 / parameter(0, n);
                        (value * inverse + 0.5).floor() / inverse
                    }),
                    MapFn::ClampMin => each(values, |n, value| greater(parameter(0, n), value)),
                    MapFn::ClampMax => each(values, |n, value| lesser(parameter(0, n), value)),
                    MapFn::Clamp => each(values, |n, value| {
                        let (least, most) = (parameter(0, n), parameter(1, n));
                        if least > most { ABSENT } else { greater(least, lesser(most, value)) }
                    }),
                    _ => each(values, |_, value| one(function, value)),
                }
                out(series.without_name())
            })
        })
    }
}

fn one(function: MapFn, v: f64) -> f64 {
    match function {
        MapFn::Abs => v.abs(),
        MapFn::Ceil => v.ceil(),
        MapFn::Floor => v.floor(),
        MapFn::Exp => v.exp(),
        MapFn::Ln => v.ln(),
        MapFn::Log2 => v.log2(),
        MapFn::Log10 => v.log10(),
        MapFn::Sqrt => v.sqrt(),
        MapFn::Sgn if v > 0.0 => 1.0,
        MapFn::Sgn if v < 0.0 => -1.0,
        MapFn::Acos => v.acos(),
        MapFn::Acosh => v.acosh(),
        MapFn::Asin => v.asin(),
        MapFn::Asinh => v.asinh(),
        MapFn::Atan => v.atan(),
        MapFn::Atanh => v.atanh(),
        MapFn::Cos => v.cos(),
        MapFn::Cosh => v.cosh(),
        MapFn::Sin => v.sin(),
        MapFn::Sinh => v.sinh(),
        MapFn::Tan => v.tan(),
        MapFn::Tanh => v.tanh(),
        MapFn::Deg => v * 180.0 / std::f64::consts::PI,
        MapFn::Rad => v * std::f64::consts::PI / 180.0,
        MapFn::DayOfMonth => Date::of(v).day,
        MapFn::DayOfWeek => Date::of(v).day_of_week,
        MapFn::DayOfYear => Date::of(v).day_of_year,
        MapFn::DaysInMonth => Date::of(v).days_in_month,
        MapFn::Hour => Date::of(v).hour,
        MapFn::Minute => Date::of(v).minute,
        MapFn::Month => Date::of(v).month,
        MapFn::Year => Date::of(v).year,
        // What is left keeps the value: the sign of zero and of NaN.
        MapFn::Sgn | MapFn::Timestamp | MapFn::Round | MapFn::Clamp | MapFn::ClampMin | MapFn::ClampMax => v,
    }
}

/// Seconds since 1970 as a date in UTC, in numbers as they are asked for.
struct Date {
    year: f64,
    month: f64,
    day: f64,
    day_of_week: f64,
    day_of_year: f64,
    days_in_month: f64,
    hour: f64,
    minute: f64,
}

const DAY_SECONDS: i64 = 86_400;

impl Date {
    #[allow(clippy::cast_possible_truncation, reason = "a part of a second changes no date")]
    #[allow(clippy::cast_precision_loss, reason = "years and smaller numbers")]
    fn of(seconds: f64) -> Self {
        let seconds = seconds as i64;
        let (days, in_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        // Years begin in March here, so that the leap day is the last; 146 097 days are 400 years.
        let since = days + 719_468;
        let (era, in_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
        let year_in_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
        let in_year = in_era - (365 * year_in_era + year_in_era / 4 - year_in_era / 100);
        let from_march = (5 * in_year + 2) / 153;
        let day = in_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_in_era + i64::from(month <= 2);
        let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let february = 28 + i64::from(is_leap);
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let before: i64 = lengths.iter().zip(1..month).map(|(days, _)| days).sum();
        let length = lengths.iter().zip(1..).find(|(_, m)| *m == month).map_or(0, |(days, _)| *days);
        Self {
            year: year as f64,
            month: month as f64,
            day: day as f64,
            day_of_week: (days + 4).rem_euclid(7) as f64,
            day_of_year: (before + day) as f64,
            days_in_month: length as f64,
            hour: (in_day / 3600) as f64,
            minute: (in_day / 60 % 60) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0.0, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]),
            (951_782_399.9, [2000.0, 2.0, 28.0, 1.0, 59.0, 29.0, 23.0, 59.0]),
            (951_868_800.0, [2000.0, 3.0, 1.0, 3.0, 61.0, 31.0, 0.0, 0.0]),
            (1_767_225_599.0, [2025.0, 12.0, 31.0, 3.0, 365.0, 31.0, 23.0, 59.0]),
            (-86_401.0, [1969.0, 12.0, 30.0, 2.0, 364.0, 31.0, 23.0, 59.0]),
            (4_107_542_400.0, [2100.0, 3.0, 1.0, 1.0, 60.0, 31.0, 0.0, 0.0]),
        ] {
            let d = Date::of(seconds);
            let found = [d.year, d.month, d.day, d.day_of_week, d.day_of_year, d.days_in_month, d.hour, d.minute];
            assert_eq!(found, expected, "{seconds}");
        }
    }
}
