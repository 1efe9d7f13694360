//! Watches one resource for leaks: which units or filesystems use more and more of it, and when it
//! will be used up.
//!
//! In: for every subject what is used of the resource and what is left until its limit. Out: a
//! verdict for every subject whose [`LeakModel`] shows a leak that reaches the limit before long.
//! What the resources differ in stands in a [`Resource`]. A restart of the subject begins anew.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::leak::{Leak, LeakModel};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::words::{duration, measured, seconds};
use crate::finding::{FindingKind, Severity};
use crate::subject::UnitName;

/// Most subjects that are followed for one resource. Each takes some 1.6 KiB.
const SUBJECTS_MAX: usize = 1_024;

/// Nothing is known of a subject before it was watched for this long.
const WATCHED_MIN: Millis = 3_600_000;
/// What grows within its first day may be warming up.
const WARM_AFTER: Millis = 24 * 3_600_000;

/// The limit within this time is critical.
const CRITICAL: Duration = Duration::from_secs(3_600);

/// What can leak.
#[derive(Debug)]
pub(crate) struct Resource {
    /// What a leak of it is.
    pub(crate) kind: FindingKind,
    /// What grows, as evidence words it.
    pub(crate) noun: &'static str,
    /// An amount in words.
    pub(crate) show: fn(f64) -> String,
    /// Growth that matters: small programs may do as they like.
    pub(crate) growth_min: f64,
    /// What reaches its limit within this time leaks.
    pub(crate) within: fn(&Settings) -> Duration,
}

/// What is used by one subject, and what is left.
#[derive(Debug)]
pub(crate) struct Reading<L> {
    pub(crate) used: f64,
    /// Until the limit.
    pub(crate) left: f64,
    /// The limit, as evidence words it.
    pub(crate) limit: L,
}

/// What a subject is known by.
pub(crate) trait Key: Ord + Clone {
    fn subject(&self) -> SubjectRef<'_>;
    fn save(&self, writer: &mut Writer);
    fn load(reader: &mut Reader<'_>) -> Option<Self>;
}

impl Key for UnitName {
    fn subject(&self) -> SubjectRef<'_> {
        SubjectRef::Unit(self)
    }

    fn save(&self, writer: &mut Writer) {
        writer.str(self.as_str());
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        reader.unit()
    }
}

/// Histories of one resource, by subject.
#[derive(Debug)]
pub(crate) struct LeakWatch<K> {
    resource: &'static Resource,
    subjects: BTreeMap<K, Growth>,
}

/// What is remembered of a subject.
#[derive(Debug, Clone)]
struct Growth {
    invocation: Option<[u8; 16]>,
    model: LeakModel,
    /// Nothing is known after a start of the agent; after a restart of the unit it is over until
    /// shown otherwise.
    is_restarted: bool,
}

impl<K: Key> LeakWatch<K> {
    pub(crate) fn new(resource: &'static Resource) -> Self {
        Self { resource, subjects: BTreeMap::new() }
    }

    /// Forgets the subjects that are no more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&K) -> bool) {
        self.subjects.retain(|key, _| is_there(key));
    }

    /// Takes what one subject uses; `None` where it is not known.
    pub(crate) fn observe<L: Display>(
        &mut self,
        key: &K,
        invocation: Option<[u8; 16]>,
        reading: Option<Reading<L>>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(reading) = reading else {
            round.judge(self.resource.kind, key.subject(), Verdict::Unknown);
            return;
        };
        if !self.subjects.contains_key(key) {
            if self.subjects.len() >= SUBJECTS_MAX {
                return;
            }
            self.subjects.insert(key.clone(), Growth::new());
        }
        let Some(growth) = self.subjects.get_mut(key) else { return };
        if growth.invocation != invocation {
            *growth = Growth { invocation, is_restarted: true, ..Growth::new() };
        }
        let verdict = growth.judge(round.t, &reading, self.resource, settings);
        round.judge(self.resource.kind, key.subject(), verdict);
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.subjects.len());
        for (key, growth) in &self.subjects {
            key.save(writer);
            writer.option(growth.invocation, |w, invocation| w.bytes(&invocation));
            growth.model.save(writer);
        }
    }

    pub(crate) fn load(resource: &'static Resource, reader: &mut Reader<'_>) -> Option<Self> {
        let mut subjects = BTreeMap::new();
        for _ in 0..reader.len()?.min(SUBJECTS_MAX) {
            let key = K::load(reader)?;
            let invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            let model = LeakModel::load(reader)?;
            subjects.insert(key, Growth { invocation, model, is_restarted: false });
        }
        Some(Self { resource, subjects })
    }
}

impl Growth {
    fn new() -> Self {
        Self { invocation: None, model: LeakModel::new(), is_restarted: false }
    }

    fn judge<L: Display>(
        &mut self,
        t: Millis,
        reading: &Reading<L>,
        resource: &Resource,
        settings: &Settings,
    ) -> Verdict {
        let is_learned = self.model.watched() > WATCHED_MIN;
        let leak = self.model.observe(t, reading.used, reading.left);
        let Some(leak) = leak.filter(|leak| leak.grown >= resource.growth_min) else {
            return if is_learned || self.is_restarted { Verdict::Over } else { Verdict::Between };
        };
        let to_limit = reading.left / leak.slope;
        let within = (resource.within)(settings).as_secs_f64();
        if to_limit < within {
            self.holds(&leak, reading, resource)
        } else if to_limit < within * 2.0 {
            Verdict::Between
        } else {
            Verdict::Over
        }
    }

    fn holds<L: Display>(&self, leak: &Leak, reading: &Reading<L>, resource: &Resource) -> Verdict {
        let Reading { left, limit, .. } = reading;
        let to_limit = left / leak.slope;
        let by = |slope: f64| if slope > 0.0 { duration(seconds(left / slope)) } else { "never".into() };
        let text = format!(
            "{} grew by {} in {} ({} an hour): {limit} in about {} ({} to {})",
            resource.noun,
            (resource.show)(leak.grown),
            duration(seconds(leak.seconds)),
            (resource.show)(leak.slope * 3_600.0),
            by(leak.slope),
            by(leak.slope_high),
            by(leak.slope_low),
        );
        Verdict::Holds(Case {
            severity: if to_limit < CRITICAL.as_secs_f64() { Severity::Critical } else { Severity::Warning },
            confidence: if self.model.watched() < WARM_AFTER { 0.7 } else { 0.9 },
            evidence: vec![measured(text, "time_to_limit_seconds", to_limit, None)],
            raise_after: Duration::ZERO,
        })
    }
}
