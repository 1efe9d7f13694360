//! Admission: a fleet that reconnects at once is let in at a rate.
//!
//! A bucket that fills by the settings' rate and holds two seconds of it. Who finds it empty waits where it is, for its
//! handshake is paid already; those for whom that would take too long are told when to come back. Pure: the time comes in.

use std::time::Duration;

use mainstay_core::time::Now;

/// Seconds of the rate that may come at once.
const BURST_SECONDS: f64 = 2.0;
/// Longest that anybody waits where it is: agents give up after fifteen.
const HOLD_SECONDS: f64 = 8.0;
/// Longest that anybody is told to stay away.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The bucket.
#[derive(Debug, Clone)]
pub struct Admission {
    rate: f64,
    /// Below zero when some wait for theirs.
    tokens: f64,
    /// Who was turned away and has not had the time to be let in: the next is told to come after them.
    waiting: f64,
    at: Now,
}

impl Admission {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: u32, now: Now) -> Self {
        let rate = f64::from(per_second.max(1));
        Self { rate, tokens: rate * BURST_SECONDS, waiting: 0.0, at: now }
    }

    /// Changes the rate.
    pub fn set_rate(&mut self, per_second: u32) {
        self.rate = f64::from(per_second.max(1));
    }

    /// Lets one in, after a while if others come first.
    ///
    /// # Errors
    /// When to come back, if too many come first: each later than the one before, at the rate.
    pub fn admit(&mut self, now: Now) -> Result<Duration, Duration> {
        let gained = now.since(self.at).as_secs_f64() * self.rate;
        self.at = now;
        self.tokens = (self.tokens + gained).min(self.rate * BURST_SECONDS);
        self.waiting = (self.waiting - gained).max(0.0);
        let wait = (1.0 - self.tokens).max(0.0) / self.rate;
        if wait <= HOLD_SECONDS {
            self.tokens -= 1.0;
            return Ok(Duration::from_secs_f64(wait));
        }
        let away = Duration::from_secs_f64(1.0 + (self.waiting + 1.0) / self.rate);
        if away >= WAIT_MAX {
            // Too many to have a moment for each: these come again and are told then.
            return Err(WAIT_MAX);
        }
        self.waiting += 1.0;
        Err(away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_let_in_at_the_rate_and_nobody_is_turned_away_for_good() {
        let mut now = Now::default();
        let mut admission = Admission::new(100, now);
        let mut pending: Vec<Duration> = vec![Duration::ZERO; 10_000];
        let mut let_in = vec![0; 300];
        let mut attempts = 0;
        for second in 0..200u64 {
            let due = Duration::from_secs(second);
            pending.retain_mut(|at| {
                if *at > due {
                    return true;
                }
                attempts += 1;
                match admission.admit(now) {
                    Ok(held) => {
                        assert!(held.as_secs() <= 8, "{held:?}");
                        let_in[usize::try_from((due + held).as_secs()).unwrap()] += 1;
                        false
                    }
                    Err(wait) => {
                        *at = due + wait;
                        true
                    }
                }
            });
            now = now.plus(Duration::from_secs(1));
        }
        assert_eq!(let_in.iter().sum::<u32>(), 10_000, "{} wait", pending.len());
        // What waits in a bucket of two seconds and comes at its rate in the same second.
        assert!(let_in[0] <= 301 && let_in[1..].iter().all(|second| *second <= 101), "{let_in:?}");
        assert!(let_in[..105].iter().sum::<u32>() > 9_900, "no time is lost: {let_in:?}");
        assert!(attempts < 25_000, "{attempts} attempts");
    }

    #[test]
    fn later_ones_wait_longer_and_the_last_are_told_to_come_later() {
        let mut admission = Admission::new(1, Now::default());
        let held: Vec<_> =
            std::iter::from_fn(|| admission.admit(Now::default()).ok()).map(|wait| wait.as_secs()).collect();
        assert_eq!(held, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let first = admission.admit(Now::default()).unwrap_err();
        let second = admission.admit(Now::default()).unwrap_err();
        assert!(second > first);
    }
}
