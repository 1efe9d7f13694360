//! Times and durations as Prometheus' HTTP API takes them.

/// Seconds beyond this are no time that anybody means: 285,000 years.
const SECONDS_MAX: f64 = 9e12;

/// A duration in milliseconds: seconds as a number, or such as `1h30m`.
#[must_use]
pub fn duration_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return of_seconds(seconds);
    }
    let duration = promql_parser::util::parse_duration(text).ok()?;
    i64::try_from(duration.as_millis()).ok()
}

/// A moment in milliseconds since 1970: seconds as a number, or such as `2026-11-23T06:30:00.5+01:00`.
#[must_use]
pub fn moment_ms(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => of_seconds(seconds),
        Err(_) => of_date(text),
    }
}

fn of_seconds(seconds: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "within the bounds")]
    (seconds.abs() <= SECONDS_MAX).then(|| (seconds * 1000.0).round() as i64)
}

/// RFC 3339.
fn of_date(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let mut time = time.splitn(3, ':').map(digits);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("0", rest),
    };
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
            let minutes = digits(hours)? * 60 + digits(minutes)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let is_sane = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let ms = digits(&format!("{fraction:0<3}")[..3])?;
    is_sane
        .then(|| (days(year, month, day) * 86_400 + hour * 3600 + (minute - offset_minutes) * 60 + second) * 1000 + ms)
}

fn digits(text: &str) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Days from 1970 to a date. Years begin in March here, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let in_era = year.rem_euclid(400);
    year.div_euclid(400) * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_seconds_or_dates() {
        for (text, ms) in [
            ("0", 0),
            ("1.5", 1_500),
            ("1700000000.123", 1_700_000_000_123),
            ("-1", -1_000),
            ("1e3", 1_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.25Z", 951_825_600_250),
            ("2026-11-23T07:30:00.123456789+01:00", 1_795_415_400_123),
            ("1969-12-31T23:59:59-00:30", 1_799_000),
        ] {
            assert_eq!(moment_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "now",
            "NaN",
            "Inf",
            "1e300",
            "2026-13-01T00:00:00Z",
            "2026-11-23",
            "2026-11-23T07:30:00",
            "é",
            "2026-11-23T07:30:00é1:00",
        ] {
            assert_eq!(moment_ms(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, ms) in [
            ("15", Some(15_000)),
            ("0.5", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("10ms", Some(10)),
            ("x", None),
            ("NaN", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }
}
