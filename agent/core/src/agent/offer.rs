//! Policies: what is offered, what is in force, what is on trial.
//!
//! The last good policy stays in force whatever is offered, and a new one is on trial until
//! [`confirm`] says that it did no harm. What is kept over a restart is one value
//! ([`Kept`]), stored before anything is decided under a new policy.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::{Agent, Effect, InForce, PolicyState, Restored, Settings, SourceFile};
use crate::canonical::{Reader, Truncated, Writer};
use crate::config::Problem;
use crate::decision::PolicyRef;
use crate::id::BootId;
use crate::policy::bundle::{self, Bundle, Offer};
use crate::policy::confirm::{Before, LastRun, TRIAL, Trial, Verdict};
use crate::policy::signed::{KeyId, Signed};
use crate::policy::{self, Policy};
use crate::record::Body;
use crate::subject::Subject;
use crate::time::Now;

/// What the stored bytes begin with.
const TAG: &str = "mainstay-agent-policy-2";

/// Most failures of actions that are remembered for judging the next policy.
const FAILURES_MAX: usize = 256;

/// What is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq)]
struct Kept {
    /// What the host has seen of its fleet's policies.
    seen: bundle::PolicyState,
    /// The bundle in force.
    in_force: Option<Signed>,
    /// The bundle to fall back to, while the one in force is on trial.
    previous: Option<Signed>,
    /// How the host stood before the trial, and in which boot it runs, if one runs.
    trial: Option<(Before, BootId)>,
}

/// The policies of a host.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// What decisions are made under: the policy in force, narrowed by root's own files.
    pub(super) effective: Policy,
    /// What is said about it.
    pub(super) state: PolicyState,
    /// Whose it is.
    pub(super) in_force: InForce,
    kept: Kept,
    /// The policy in force, as operators signed it.
    signed: Option<Policy>,
    /// Root's own files, as last understood.
    local: Option<Policy>,
    /// Why root's files as they were found at the start are not in force: until they are, nothing
    /// is done, since what they take away is not known.
    pub(super) local_error: Option<String>,
    trial: Option<Trial>,
    /// When actions failed, oldest first.
    failures: VecDeque<Now>,
}

impl Policies {
    /// Puts in force again what was in force before the restart.
    pub(super) fn restored(settings: &Settings, restored: &Restored, now: Now) -> Self {
        let mut policies = Self::default();
        policies.kept.seen.fleet_id = settings.fleet;
        if let Some(bytes) = &restored.policy {
            match Kept::decode(bytes) {
                Ok(kept) if kept.seen.fleet_id == settings.fleet => policies.kept = kept,
                Ok(_) => {} // enrolled in another fleet since: nothing of the old one counts
                Err(error) => policies.state.refused = Some(format!("the policy kept on this host: {error}")),
            }
        }
        match parse(&restored.local_policy) {
            Ok(local) => policies.local = local,
            Err(text) => policies.local_error = Some(text),
        }
        policies.take_up(settings);
        if let Some((before, boot)) = policies.kept.trial.clone() {
            let crashed = !restored.stopped_cleanly && boot == settings.facts.boot;
            let last = if crashed { LastRun::Crashed } else { LastRun::Stopped };
            let previous = policies.kept.previous.as_ref().map(reference).unwrap_or_default();
            policies.trial = Some(Trial::resumed(policies.kept.seen.effective, previous, before, last, now));
            policies.state.confirmed = false;
        }
        policies
    }

    /// When the trial ends.
    pub(super) fn wakeup(&self) -> Option<u64> {
        self.trial.as_ref().map(|trial| trial.since.plus(TRIAL).boot_ns)
    }

    /// Reads the bundle in force. It was signed when it was taken; that it still is keeps whoever
    /// writes the agent's files from making policy.
    fn take_up(&mut self, settings: &Settings) {
        self.state.confirmed = true;
        self.signed = self.kept.in_force.as_ref().and_then(|signed| {
            let checked = signed.check(&settings.operator_keys).map_err(|error| error.to_string());
            let read = checked.and_then(|_| Bundle::decode(&signed.bytes).map_err(|error| error.to_string()));
            match read.and_then(|bundle| bundle.policy().map_err(|problems| lines(&problems))) {
                Ok(policy) => Some(policy),
                Err(text) => {
                    self.state.refused = Some(format!("the policy kept on this host: {text}"));
                    None
                }
            }
        });
        self.put_together(settings);
    }

    /// Makes the effective policy of what is signed and what is root's.
    fn put_together(&mut self, settings: &Settings) {
        let effective = match (&self.signed, settings.host, self.local.clone()) {
            (Some(signed), _, Some(local)) => signed.clone().narrowed_by(local.files),
            (Some(signed), _, None) => signed.clone(),
            (None, None, Some(local)) => local,
            (None, Some(_), Some(local)) => policy::builtin().narrowed_by(local.files),
            (None, _, None) => policy::builtin(),
        };
        self.in_force = match (&self.signed, settings.host, &self.local) {
            (Some(_), ..) => InForce::Signed(effective.reference.generation),
            (None, None, Some(_)) => InForce::Roots,
            (None, ..) => InForce::BuiltIn,
        };
        self.state.effective = effective.reference;
        self.effective = effective.for_host(&settings.facts.labels);
    }

    /// An action over this subject failed or did not help.
    pub(super) fn action_failed(&mut self, subject: &Subject, now: Now) {
        if self.failures.len() >= FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        if let Some(trial) = &mut self.trial {
            trial.action_failed(subject);
        }
    }

    /// A rule has used up its budget, which a finding on this subject was to spend.
    pub(super) fn budget_exhausted(&mut self, rule: &str, subject: &Subject) {
        if let Some(trial) = &mut self.trial {
            trial.budget_exhausted(rule, subject);
        }
    }

    fn failing(&self, now: Now) -> u32 {
        let recent = self.failures.iter().filter(|at| now.since(**at) < TRIAL).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }
}

/// Reads root's files. `None` if there are none.
fn parse(files: &[SourceFile]) -> Result<Option<Policy>, String> {
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        let text = std::str::from_utf8(&file.bytes).map_err(|error| format!("{}: not UTF-8: {error}", file.name))?;
        texts.push((file.name.as_str(), text));
    }
    if texts.is_empty() {
        return Ok(None);
    }
    Policy::parse(&texts).map(Some).map_err(|problems| lines(&problems))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a bundle is known by; nothing for bytes that are none.
fn reference(signed: &Signed) -> PolicyRef {
    let generation = Bundle::decode(&signed.bytes).map_or(0, |bundle| bundle.generation);
    PolicyRef { generation, hash: bundle::bundle_hash(&signed.bytes) }
}

impl Agent {
    /// Says that the effective policy is this one: probes and thresholds follow it, and it is kept.
    pub(super) fn policy_changed(&mut self) {
        let thresholds = self.policy.effective.detect().applied_to(self.settings.detect.clone());
        self.detectors.set_settings(thresholds);
        let probes = self.policy.effective.probes().cloned().collect();
        self.effects.push_back(Effect::SetProbes(probes));
        self.tell_reading();
        self.tell_policy();
    }

    fn tell_policy(&mut self) {
        self.effects.push_back(Effect::PolicyState(self.policy.state.clone()));
    }

    fn store_policy(&mut self) {
        self.effects.push_back(Effect::StorePolicy(self.policy.kept.encode()));
    }

    /// Root's files changed. Those that cannot be understood leave the last good ones in force.
    pub(super) fn local_policy_changed(&mut self, files: &[SourceFile], now: Now) {
        match parse(files) {
            Ok(local) => {
                if self.policy.local == local && self.policy.local_error.is_none() {
                    return;
                }
                (self.policy.local, self.policy.local_error) = (local, None);
                self.policy.put_together(&self.settings);
                self.policy_changed();
            }
            Err(text) => self.refuse(PolicyRef::default(), text, now),
        }
    }

    /// The collector offers a policy. What is refused leaves the one in force as it is.
    pub(super) fn policy_offered(&mut self, signed: &Signed, now: Now) {
        let offered = reference(signed);
        self.policy.state.offered = offered;
        match bundle::accept(signed, &self.settings.operator_keys, &self.policy.kept.seen, now.wall_ms) {
            Ok(Offer::InForce) => self.tell_policy(),
            Ok(Offer::Accepted(_)) => self.take(signed, offered, now),
            Err(refusal) => self.refuse(offered, refusal.to_string(), now),
        }
    }

    fn take(&mut self, signed: &Signed, offered: PolicyRef, now: Now) {
        let troubled = self.detectors.open_findings().map(|finding| finding.subject.to_string()).collect();
        let before = Before { failing: self.policy.failing(now), troubled };
        let kept = &mut self.policy.kept;
        // One that is still on trial is not what to fall back to; the last confirmed one is.
        if self.policy.trial.is_none() {
            kept.previous = kept.in_force.take();
        }
        let previous = kept.previous.as_ref().map(reference).unwrap_or_default();
        kept.in_force = Some(signed.clone());
        kept.trial = Some((before.clone(), self.settings.facts.boot));
        kept.seen.took(offered);
        self.policy.trial = Some(Trial::begin(offered, previous, before, now));
        self.policy.state.refused = None;
        self.policy.take_up(&self.settings);
        self.policy.state.confirmed = false;
        self.record(Body::Policy { policy: offered, refused: None }, now);
        self.store_policy();
        self.policy_changed();
    }

    fn refuse(&mut self, policy: PolicyRef, text: String, now: Now) {
        // The same offer comes with every session; that it was refused is recorded once.
        if self.policy.state.refused.as_ref() != Some(&text) {
            self.record(Body::Policy { policy, refused: Some(text.clone()) }, now);
            self.policy.state.refused = Some(text);
        }
        self.tell_policy();
    }

    /// Confirms the policy on trial, or falls back to the one before it.
    pub(super) fn try_policy(&mut self, now: Now) {
        let Some(verdict) = self.policy.trial.as_ref().map(|trial| trial.verdict(now)) else { return };
        match verdict {
            Verdict::OnTrial { .. } => return,
            Verdict::Confirmed => self.policy.state.confirmed = true,
            Verdict::FallBack { why } => self.fall_back(&why, now),
        }
        self.policy.trial = None;
        (self.policy.kept.trial, self.policy.kept.previous) = (None, None);
        self.store_policy();
        self.policy_changed();
    }

    fn fall_back(&mut self, why: &str, now: Now) {
        let given_up = self.policy.kept.seen.effective;
        self.policy.kept.in_force = self.policy.kept.previous.take();
        let back_to = self.policy.kept.in_force.as_ref().map(reference).unwrap_or_default();
        self.policy.kept.seen.gave_up(back_to, why);
        self.policy.take_up(&self.settings);
        let text = format!("generation {} given up: {why}", given_up.generation);
        self.record(Body::Policy { policy: given_up, refused: Some(text.clone()) }, now);
        self.record(Body::Policy { policy: back_to, refused: None }, now);
        self.policy.state.refused = Some(text);
    }
}

impl Kept {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG);
        let seen = &self.seen;
        writer.fixed(&seen.fleet_id).u64(seen.effective.generation).fixed(&seen.effective.hash).u64(seen.highest);
        writer.u8(u8::from(seen.given_up.is_some()));
        if let Some((generation, why)) = &seen.given_up {
            writer.u64(*generation).text(why);
        }
        for bundle in [&self.in_force, &self.previous] {
            writer.u8(u8::from(bundle.is_some()));
            if let Some(signed) = bundle {
                writer.bytes(&signed.bytes).fixed(&signed.key_id.0).fixed(&signed.signature);
            }
        }
        writer.u8(u8::from(self.trial.is_some()));
        if let Some((before, boot)) = &self.trial {
            writer.u32(before.failing).fixed(&boot.0).count(before.troubled.len());
            for subject in &before.troubled {
                writer.text(subject);
            }
        }
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(bytes, TAG)?;
        let fleet_id = reader.fixed()?;
        let effective = PolicyRef { generation: reader.u64()?, hash: reader.fixed()? };
        let highest = reader.u64()?;
        let given_up = if reader.u8()? == 1 { Some((reader.u64()?, reader.text()?)) } else { None };
        let seen = bundle::PolicyState { fleet_id, effective, highest, given_up };
        let (in_force, previous) = (read_signed(&mut reader)?, read_signed(&mut reader)?);
        let trial = if reader.u8()? == 1 { Some(read_trial(&mut reader)?) } else { None };
        reader.finish()?;
        Ok(Self { seen, in_force, previous, trial })
    }
}

fn read_trial(reader: &mut Reader<'_>) -> Result<(Before, BootId), Truncated> {
    let (failing, boot) = (reader.u32()?, BootId(reader.fixed()?));
    let troubled = (0..reader.count()?).map(|_| reader.text()).collect::<Result<_, _>>()?;
    Ok((Before { failing, troubled }, boot))
}

fn read_signed(reader: &mut Reader<'_>) -> Result<Option<Signed>, Truncated> {
    if reader.u8()? != 1 {
        return Ok(None);
    }
    let bytes = reader.bytes()?.to_vec();
    Ok(Some(Signed { bytes, key_id: KeyId(reader.fixed()?), signature: reader.fixed()? }))
}
