//! When to try again, and what is not tried again.

use std::time::Duration;

use hyper::StatusCode;

/// The first pause, the longest, and the longest that a target may ask for.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const ASKED_MAX: Duration = Duration::from_secs(300);

/// What an answer means for what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken.
    Taken,
    /// It will never be.
    Refused,
    /// It may be later.
    Again,
}

/// What an answer means. Those that are about the door and not about what was brought are tried again: a password that has
/// changed costs no data.
pub(super) fn verdict(status: StatusCode) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Taken,
        401 | 403 | 404 | 407 | 408 | 429 => Verdict::Again,
        400..=499 => Verdict::Refused,
        _ => Verdict::Again,
    }
}

/// How long to wait before the next try, after so many that failed. `share` of one is how much of it: targets that failed
/// many senders do not see all of them again at once.
pub(super) fn pause(failed: u32, asked: Option<Duration>, share: f64) -> Duration {
    let grown = FIRST.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(LONGEST);
    let pause = grown.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0);
    pause.max(asked.unwrap_or_default().min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_data_is_skipped_and_all_else_tried_again() {
        for (status, expected) in [
            (204, Verdict::Taken),
            (400, Verdict::Refused),
            (413, Verdict::Refused),
            (422, Verdict::Refused),
            (401, Verdict::Again),
            (404, Verdict::Again),
            (429, Verdict::Again),
            (500, Verdict::Again),
            (503, Verdict::Again),
            (302, Verdict::Again),
        ] {
            assert_eq!(verdict(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }

    #[test]
    fn pauses_grow_to_a_minute_and_a_target_may_ask_for_more() {
        let seconds = |failed, asked, share| pause(failed, asked, share).as_secs_f64();
        assert_eq!((seconds(1, None, 1.0), seconds(1, None, 0.0)), (1.0, 0.5));
        assert_eq!((seconds(3, None, 1.0), seconds(40, None, 1.0)), (4.0, 60.0));
        assert_eq!(seconds(1, Some(Duration::from_secs(90)), 1.0), 90.0);
        assert_eq!(seconds(1, Some(Duration::from_secs(86_400)), 1.0), 300.0);
    }
}
