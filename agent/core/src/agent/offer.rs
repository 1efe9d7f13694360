//! Policies: what is offered, what is in force, what is on trial.

use super::{Agent, PolicyState, Restored, Settings, Signed, SourceFile};
use crate::policy::Policy;
use crate::time::Now;

/// The policies of a host.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// What decisions are made under: the policy in force, narrowed by root's own files.
    pub(super) effective: Policy,
    /// What is said about it.
    pub(super) state: PolicyState,
}

impl Policies {
    pub(super) fn restored(_settings: &Settings, _restored: &Restored, _now: Now) -> Self {
        Self::default()
    }

    pub(super) fn wakeup(&self) -> Option<u64> {
        None
    }
}

impl Agent {
    pub(super) fn policy_restored(&mut self, _now: Now) {}
    pub(super) fn policy_offered(&mut self, _signed: &Signed, _now: Now) {}
    pub(super) fn local_policy_changed(&mut self, _files: &[SourceFile], _now: Now) {}
    pub(super) fn try_policy(&mut self, _now: Now) {}
}
