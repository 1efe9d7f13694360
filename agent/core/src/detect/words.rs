//! How evidence is worded: percentages, bytes and durations as people read them.

use std::time::Duration;

use crate::finding::{Evidence, Measure};

/// Evidence with a measure held against a limit.
pub(crate) fn measured(text: String, name: &str, value: f64, limit: Option<f64>) -> Evidence {
    Evidence { text, measure: Some(Measure { name: name.to_owned(), value, limit, expected: None }) }
}

/// Evidence in words only.
pub(crate) fn said(text: String) -> Evidence {
    Evidence { text, measure: None }
}

/// `0.9614` as `96.1 %`.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// Bytes with a binary unit: `40.0 GiB`.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count for arithmetic: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}

/// A count in words.
pub(crate) fn count(count: f64) -> String {
    format!("{count:.0}")
}

/// A duration in its two leading units: `2 h 5 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (large, small, large_unit, small_unit) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3_600 => (seconds / 60, seconds % 60, "min", "s"),
        3_600..86_400 => (seconds / 3_600, seconds % 3_600 / 60, "h", "min"),
        _ => (seconds / 86_400, seconds % 86_400 / 3_600, "d", "h"),
    };
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

/// Seconds as a duration; what is no duration is as long as can be.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(percent(0.9614), "96.1 %");
        assert_eq!((bytes(512).as_str(), bytes(40 << 30).as_str()), ("512 B", "40.0 GiB"));
        for (s, text) in [(5, "5 s"), (60, "1 min"), (7_500, "2 h 5 min"), (90_000, "1 d 1 h")] {
            assert_eq!(duration(Duration::from_secs(s)), text);
        }
    }
}
