//! Root's local rules on an enrolled host: they can only take away.
//!
//! `/etc/mainstay/policy.d` of an enrolled host holds files in the same format. A local rule that is about a finding
//! makes the signed rule which the finding falls under stricter, value by value; it never makes a rule of its own. Local
//! probes, dependencies and thresholds are not taken: they could widen what is found. Local `protected` units are added,
//! and a smaller share of hosts counts.

use super::{Budget, Policy, PolicyFile, Rule};

impl Policy {
    /// This policy, narrowed by root's files. Without a signed policy root's files are the policy themselves, and this
    /// is not called.
    #[must_use]
    pub fn narrowed_by(mut self, local: Vec<PolicyFile>) -> Self {
        self.local = local;
        self
    }
}

impl Rule {
    /// Takes the stricter of both in everything that limits; what is done stays.
    pub(super) fn narrow(&mut self, local: &Self) {
        self.mode = self.mode.min(local.mode);
        self.confidence = self.confidence.max(local.confidence);
        self.held_for = self.held_for.max(local.held_for);
        self.cooldown = self.cooldown.max(local.cooldown);
        self.cooldown_max = self.cooldown_max.max(local.cooldown_max);
        self.backoff = self.backoff.max(local.backoff);
        // Fewer in a longer time is stricter than either.
        self.budget =
            Budget { count: self.budget.count.min(local.budget.count), per: self.budget.per.max(local.budget.per) };
        self.windows.extend(local.windows.iter().cloned());
        self.risk = self.risk.min(local.risk);
        self.tries = [self.tries, local.tries].into_iter().flatten().min();
        // No start over at all is stricter than any.
        self.start_over = self.start_over.zip(local.start_over).map(|(signed, local)| signed.max(local));
        self.verify.stable_for = self.verify.stable_for.max(local.verify.stable_for);
    }
}
