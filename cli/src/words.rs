//! Numbers and times as people say them, and durations as people write them.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Reads `30s`, `5m`, `2h`, `7d`, `500ms`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// How long ago, in one unit: `2s`, `4m`, `3h`, `12d`.
pub(crate) fn ago(then_ms: i64, now_ms: i64) -> String {
    if then_ms == 0 {
        return "never".to_owned();
    }
    short(u64::try_from(now_ms - then_ms).unwrap_or(0))
}

/// A length of time in one unit.
pub(crate) fn short(ms: u64) -> String {
    match ms {
        0..10_000 if !ms.is_multiple_of(1_000) => {
            format!("{:.2}s", f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1e3)
        }
        0..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// Bytes with a binary unit: `12.1 GiB`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A number with three digits that matter, large ones with a prefix: `0.0123`, `4.20`, `1.23M`.
pub(crate) fn number(value: f64) -> String {
    const PREFIXES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")];
    for (from, prefix) in PREFIXES {
        if value.abs() >= from {
            let by = if prefix == "k" { 1e3 } else { from };
            return format!("{:.1}{prefix}", value / by);
        }
    }
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The moment in the operator's time zone.
fn local(wall_ms: i64) -> Option<Zoned> {
    Timestamp::from_millisecond(wall_ms).ok().map(|at| at.to_zoned(TimeZone::system()))
}

/// `12:04:31.210`
pub(crate) fn clock_ms(wall_ms: i64) -> String {
    local(wall_ms).map_or_else(|| wall_ms.to_string(), |at| at.strftime("%H:%M:%S%.3f").to_string())
}

/// `12:04:31`
pub(crate) fn clock(wall_ms: i64) -> String {
    local(wall_ms).map_or_else(|| wall_ms.to_string(), |at| at.strftime("%H:%M:%S").to_string())
}

/// `2026-11-20 03:14:07`
pub(crate) fn date_time(wall_ms: i64) -> String {
    local(wall_ms).map_or_else(|| wall_ms.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// `2026-11-20 03:00`
pub(crate) fn date_hour(wall_ms: i64) -> String {
    local(wall_ms).map_or_else(|| wall_ms.to_string(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}

/// The same without breaks and control characters: texts come from hosts.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The first eight hex digits, as hashes and keys are shown.
pub(crate) fn hex8(bytes: &[u8]) -> String {
    hex(bytes.get(..4).unwrap_or(bytes))
}

/// A count and its noun: `1 host`, `4 hosts`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What has to be known of values that are not those of single summaries; `None` where they are.
pub(crate) fn rolled_up(resolution: &str) -> Option<&'static str> {
    match resolution {
        "5m" => Some("rolled up to 5 minutes: the range begins before every summary is kept"),
        "1h" => Some("rolled up to 1 hour: the range begins before 5 minutes are kept"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_only() {
        assert_eq!(parse_duration("2h"), Some(Duration::from_secs(7_200)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        for bad in ["", "2", "h", "2 h", "-1s", "1.5h", "99999999999999999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_and_lengths_are_said_shortly() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(short(410), "0.41s");
        assert_eq!(short(90_000), "90s");
        assert_eq!(short(240_000), "4m");
        assert_eq!(ago(0, 5), "never");
        assert_eq!([0.0, 0.01234, 4.2, 250.4].map(number), ["0", "0.0123", "4.20", "250"]);
        assert_eq!([12_340.0, 1.5e6, -2e9].map(number), ["12.3k", "1.5M", "-2.0G"]);
        assert_eq!(count(1, "host"), "1 host");
        assert_eq!(count(3, "host"), "3 hosts");
    }
}
