//! What an answer to an export means, as the OTLP specification has it.

use std::time::Duration;

/// What becomes of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Taken,
    /// It may be sent again, not before this long.
    Again(Duration),
    /// It would be refused again.
    Refused,
}

/// Reads the status of an answer and its `Retry-After`, which is a number of seconds or a date.
#[must_use]
pub fn verdict(status: u16, retry_after: Option<&str>, wall_ms: i64) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        429 | 502 | 503 | 504 => Verdict::Again(retry_after.map_or(Duration::ZERO, |text| wait(text.trim(), wall_ms))),
        _ => Verdict::Refused,
    }
}

/// What is neither is no wish.
fn wait(text: &str, wall_ms: i64) -> Duration {
    if let Ok(seconds) = text.parse() {
        return Duration::from_secs(seconds);
    }
    let Ok(date) = jiff::fmt::rfc2822::parse(text) else { return Duration::ZERO };
    let left_ms = date.timestamp().as_millisecond().saturating_sub(wall_ms);
    Duration::from_millis(u64::try_from(left_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_go_well_the_next_time_is_sent_again() {
        for status in [200, 202, 204] {
            assert_eq!(verdict(status, Some("9"), 0), Verdict::Taken);
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(verdict(status, None, 0), Verdict::Again(Duration::ZERO));
        }
        for status in [301, 400, 401, 403, 404, 413, 500, 501] {
            assert_eq!(verdict(status, Some("9"), 0), Verdict::Refused, "{status}");
        }
    }

    #[test]
    fn the_wish_of_the_receiver_is_seconds_or_a_date() {
        // 2026-11-28 13:00:00 UTC.
        let now = 1_795_870_800_000;
        for (text, want) in [
            (" 30 ", 30_000),
            ("Sat, 28 Nov 2026 13:00:07 GMT", 7_000),
            ("Sat, 28 Nov 2026 12:00:00 GMT", 0),
            ("-1", 0),
            ("soon", 0),
            ("", 0),
        ] {
            assert_eq!(verdict(503, Some(text), now), Verdict::Again(Duration::from_millis(want)), "{text}");
        }
    }
}
