//! Admission: a fleet that reconnects at once is let in at a rate, and told when to come back.
//!
//! A bucket that fills by the settings' rate and holds two seconds of it. Pure: the time comes in.

use std::time::Duration;

use mainstay_core::time::Now;

/// Seconds of the rate that may come at once.
const BURST_SECONDS: f64 = 2.0;
/// Longest that anybody is told to wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The bucket.
#[derive(Debug, Clone)]
pub struct Admission {
    rate: f64,
    tokens: f64,
    /// Who was turned away since the bucket was last not empty: the next is told to come after them.
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

    /// Lets one in.
    ///
    /// # Errors
    /// When to come back, if there is no room: each later than the one before, at the rate.
    pub fn admit(&mut self, now: Now) -> Result<(), Duration> {
        let gained = now.since(self.at).as_secs_f64() * self.rate;
        self.at = now;
        self.tokens = (self.tokens + gained).min(self.rate * BURST_SECONDS);
        self.waiting = (self.waiting - gained).max(0.0);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        self.waiting += 1.0;
        Err(Duration::from_secs_f64(1.0 + self.waiting / self.rate).min(WAIT_MAX))
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
        let mut let_in = 0;
        for second in 0..200u64 {
            let due = Duration::from_secs(second);
            let mut allowed = 0;
            pending.retain_mut(|at| {
                if *at > due {
                    return true;
                }
                match admission.admit(now) {
                    Ok(()) => {
                        allowed += 1;
                        false
                    }
                    Err(wait) => {
                        *at = due + wait;
                        true
                    }
                }
            });
            assert!(allowed <= 200, "{allowed} in second {second}");
            let_in += allowed;
            now = now.plus(Duration::from_secs(1));
        }
        assert_eq!(let_in, 10_000, "{} wait", pending.len());
    }

    #[test]
    fn later_ones_are_told_to_come_later() {
        let mut admission = Admission::new(1, Now::default());
        assert!(admission.admit(Now::default()).is_ok() && admission.admit(Now::default()).is_ok());
        let first = admission.admit(Now::default()).unwrap_err();
        let second = admission.admit(Now::default()).unwrap_err();
        assert!(second > first);
    }
}
