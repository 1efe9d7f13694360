//! Whether a plan helped: the finding has cleared and stays so.
//!
//! What cannot be seen proves nothing: while the finding is unknown, time stands still for the
//! proof and only the deadline goes on.

use std::time::Duration;

use crate::plan::Verify;
use crate::record::Verification;
use crate::time::Now;

/// The proof of one plan under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proof {
    /// When the last step was done.
    pub(super) began: Now,
    /// Not proved by then: it did not help.
    pub(super) deadline: Now,
    /// When the first sample after that came. Before it nothing is known.
    seen: Option<Now>,
    /// When the trouble opened anew after the last step.
    came_back: Option<Now>,
}

impl Proof {
    /// Begins now.
    pub(super) fn new(verify: Verify, now: Now) -> Self {
        Self { began: now, deadline: now.plus(verify.within), seen: None, came_back: None }
    }

    /// The host was sampled.
    pub(super) fn sampled(&mut self, now: Now) {
        self.seen.get_or_insert(now);
    }

    /// The trouble has opened anew: to wait for the deadline would only keep the next step from being taken.
    pub(super) fn reopened(&mut self, now: Now) {
        self.came_back.get_or_insert(now);
    }

    /// Since when it is proved to be well, as things stand.
    fn well_since(&self, cleared: Option<Now>) -> Option<Now> {
        self.seen?;
        cleared.map(|cleared| if cleared.boot_ns > self.began.boot_ns { cleared } else { self.began })
    }

    /// The verdict, once there is one. `opened` and `cleared` are the finding's.
    pub(super) fn verdict(
        &self,
        verify: Verify,
        opened: Now,
        cleared: Option<Now>,
        is_known: bool,
        now: Now,
    ) -> Option<Verification> {
        if let Some(back) = self.came_back {
            let text = format!("came back {} after the step", seconds(back.since(self.began)));
            return Some(Verification { recovered: false, text, down_ms: None });
        }
        if let Some(since) = self.well_since(cleared)
            && now.since(since) >= verify.stable_for
        {
            let down_ms = cleared.map(|cleared| between_ms(opened, cleared));
            let text = format!("clear for {}", seconds(now.since(since)));
            return Some(Verification { recovered: true, text, down_ms });
        }
        if now.boot_ns < self.deadline.boot_ns {
            return None;
        }
        let within = seconds(verify.within);
        let text = match cleared {
            _ if !is_known => format!("cannot be seen whether it cleared within {within}"),
            Some(_) => format!("cleared, but not for {} within {within}", seconds(verify.stable_for)),
            None => format!("not cleared within {within}"),
        };
        Some(Verification { recovered: false, text, down_ms: None })
    }
}

/// Milliseconds from one moment to a later one; on the wall clock where a reboot lies between.
fn between_ms(from: Now, to: Now) -> u64 {
    if to.boot_ns >= from.boot_ns {
        u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
    } else {
        u64::try_from(to.wall_ms.saturating_sub(from.wall_ms)).unwrap_or(0)
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFY: Verify = Verify { stable_for: Duration::from_secs(10), within: Duration::from_secs(60) };

    fn at(seconds: u64) -> Now {
        Now::default().plus(Duration::from_secs(seconds))
    }

    fn proof() -> Proof {
        let mut proof = Proof::new(VERIFY, at(100));
        proof.sampled(at(101));
        proof
    }

    fn verdict(proof: &Proof, cleared: Option<u64>, is_known: bool, now: u64) -> Option<(bool, String)> {
        let verdict = proof.verdict(VERIFY, at(90), cleared.map(at), is_known, at(now));
        verdict.map(|verdict| (verdict.recovered, verdict.text))
    }

    #[test]
    fn recovered_once_it_is_clear_for_long_enough() {
        assert_eq!(verdict(&proof(), Some(103), true, 112), None);
        assert_eq!(verdict(&proof(), Some(103), true, 113), Some((true, "clear for 10 s".into())));
        let down = proof().verdict(VERIFY, at(90), Some(at(103)), true, at(113)).and_then(|v| v.down_ms);
        assert_eq!(down, Some(13_000));
    }

    #[test]
    fn what_cleared_before_the_step_ended_counts_from_its_end() {
        assert_eq!(verdict(&proof(), Some(99), true, 109), None);
        assert_eq!(verdict(&proof(), Some(99), true, 110), Some((true, "clear for 10 s".into())));
    }

    #[test]
    fn trouble_that_comes_back_ends_the_proof_at_once() {
        let mut proof = proof();
        proof.reopened(at(104));
        assert_eq!(verdict(&proof, None, true, 104), Some((false, "came back 4 s after the step".into())));
    }

    #[test]
    fn nothing_is_proved_without_a_sample() {
        assert_eq!(verdict(&Proof::new(VERIFY, at(100)), Some(103), true, 150), None);
    }

    #[test]
    fn says_why_it_did_not_help() {
        let says = |cleared, is_known| verdict(&proof(), cleared, is_known, 160).map(|(_, text)| text);
        assert_eq!(says(None, true).as_deref(), Some("not cleared within 60 s"));
        assert_eq!(says(Some(155), true).as_deref(), Some("cleared, but not for 10 s within 60 s"));
        assert_eq!(says(None, false).as_deref(), Some("cannot be seen whether it cleared within 60 s"));
    }
}
