//! Commit-confirm: a new policy is on trial before it is confirmed, and given up by itself if it does harm.
//!
//! On trial, a policy is confirmed after [`TRIAL`] without a crash of the agent, an exhausted budget or more failing
//! actions than in the same time before it. That the collector is away is none of these. Neither is trouble that the
//! policy found: what fails or runs dry over a subject that had an open finding when the policy came into force
//! ([`Before::troubled`]) is not held against it, or nobody could push a cure while something is broken. What has to
//! outlive the agent is [`Before`]: the shell keeps it durably from before the policy comes into force until the verdict
//! is.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::show_duration;
use crate::decision::PolicyRef;
use crate::subject::Subject;
use crate::time::Now;

/// How long a policy is on trial, on the boot clock.
pub const TRIAL: Duration = Duration::from_secs(300);

/// How the host stood when a policy came into force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// How many actions failed within [`TRIAL`] before it.
    pub failing: u32,
    /// The subjects, as they are shown, that had an open finding.
    pub troubled: BTreeSet<String>,
}

impl Before {
    fn explains(&self, subject: &Subject) -> bool {
        self.troubled.contains(&subject.to_string())
    }
}

/// A policy on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The policy on trial.
    pub policy: PolicyRef,
    /// The one to fall back to.
    pub previous: PolicyRef,
    /// How the host stood when it came into force.
    pub before: Before,
    /// Since when it has been tried without a break.
    pub since: Now,
    /// How many actions have failed since then, over what was in order before.
    pub failing: u32,
    /// Why it is given up, once that is clear.
    harm: Option<String>,
}

/// How an agent's last run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRun {
    /// It was stopped on request: an upgrade, a restart, a shutdown.
    Stopped,
    /// It ended without saying so.
    Crashed,
}

/// Where a trial stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not over yet.
    OnTrial {
        /// How much longer.
        left: Duration,
    },
    /// It stays.
    Confirmed,
    /// The previous one comes back.
    FallBack {
        /// Why, for the operator.
        why: String,
    },
}

impl Trial {
    /// A policy comes into force.
    #[must_use]
    pub fn begin(policy: PolicyRef, previous: PolicyRef, before: Before, now: Now) -> Self {
        Self { policy, previous, before, since: now, failing: 0, harm: None }
    }

    /// The agent starts while a trial is under way. After a stop on request the time begins anew: what was seen before
    /// is forgotten, but nothing is held against the policy.
    #[must_use]
    pub fn resumed(policy: PolicyRef, previous: PolicyRef, before: Before, last: LastRun, now: Now) -> Self {
        let harm = (last == LastRun::Crashed).then(|| "the agent crashed while the policy was on trial".to_owned());
        Self { harm, ..Self::begin(policy, previous, before, now) }
    }

    /// A rule of the policy has used up its budget, which a finding on this subject was to spend.
    pub fn budget_exhausted(&mut self, rule: &str, subject: &Subject) {
        if self.before.explains(subject) {
            return;
        }
        self.harm.get_or_insert_with(|| format!("rule {rule} used up its budget while the policy was on trial"));
    }

    /// An action over this subject failed, or did not help.
    pub fn action_failed(&mut self, subject: &Subject) {
        if self.before.explains(subject) {
            return;
        }
        self.failing = self.failing.saturating_add(1);
        if self.failing > self.before.failing {
            let (failing, before, time) = (self.failing, self.before.failing, show_duration(TRIAL));
            self.harm
                .get_or_insert_with(|| format!("{failing} actions failed under it, {before} in the {time} before"));
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn verdict(&self, now: Now) -> Verdict {
        if let Some(why) = &self.harm {
            return Verdict::FallBack { why: why.clone() };
        }
        match TRIAL.checked_sub(now.since(self.since)) {
            Some(left) if !left.is_zero() => Verdict::OnTrial { left },
            _ => Verdict::Confirmed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: PolicyRef = PolicyRef { generation: 7, hash: [7; 32] };
    const NEW: PolicyRef = PolicyRef { generation: 8, hash: [8; 32] };

    fn at(seconds: u64) -> Now {
        Now { boot_ns: seconds * 1_000_000_000, wall_ms: 0 }
    }

    #[test]
    fn is_confirmed_after_five_quiet_minutes() {
        let trial = Trial::begin(NEW, OLD, Before::default(), at(100));
        assert_eq!(trial.verdict(at(399)), Verdict::OnTrial { left: Duration::from_secs(1) });
        assert_eq!(trial.verdict(at(400)), Verdict::Confirmed);
    }

    #[test]
    fn falls_back_after_a_crash_and_not_after_a_stop() {
        let crashed = Trial::resumed(NEW, OLD, Before::default(), LastRun::Crashed, at(5));
        assert!(matches!(crashed.verdict(at(5)), Verdict::FallBack { .. }));
        let stopped = Trial::resumed(NEW, OLD, Before::default(), LastRun::Stopped, at(5));
        assert_eq!(stopped.verdict(at(304)), Verdict::OnTrial { left: Duration::from_secs(1) });
        assert_eq!(stopped.verdict(at(305)), Verdict::Confirmed);
    }

    #[test]
    fn falls_back_when_a_budget_is_used_up() {
        let mut trial = Trial::begin(NEW, OLD, Before::default(), at(0));
        trial.budget_exhausted("web", &Subject::Host);
        let why = "rule web used up its budget while the policy was on trial".to_owned();
        assert_eq!(trial.verdict(at(1)), Verdict::FallBack { why: why.clone() });
        assert_eq!(trial.verdict(at(1000)), Verdict::FallBack { why }, "time heals nothing");
    }

    #[test]
    fn falls_back_when_more_actions_fail_than_before() {
        let mut trial = Trial::begin(NEW, OLD, Before { failing: 1, ..Before::default() }, at(0));
        trial.action_failed(&Subject::Host);
        assert!(matches!(trial.verdict(at(1)), Verdict::OnTrial { .. }), "as many as before");
        trial.action_failed(&Subject::Host);
        let why = "2 actions failed under it, 1 in the 5m before".to_owned();
        assert_eq!(trial.verdict(at(1)), Verdict::FallBack { why });
    }

    #[test]
    fn trouble_that_stood_before_it_is_not_held_against_it() {
        let broken = Subject::Unit("db.service".parse().unwrap());
        let before = Before { failing: 0, troubled: BTreeSet::from([broken.to_string()]) };
        let mut trial = Trial::begin(NEW, OLD, before, at(0));
        trial.action_failed(&broken);
        trial.budget_exhausted("web", &broken);
        assert!(matches!(trial.verdict(at(1)), Verdict::OnTrial { .. }));
        trial.action_failed(&Subject::Unit("web.service".parse().unwrap()));
        let why = "1 actions failed under it, 0 in the 5m before".to_owned();
        assert_eq!(trial.verdict(at(1)), Verdict::FallBack { why });
    }
}
