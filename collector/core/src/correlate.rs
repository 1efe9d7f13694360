//! Correlation: findings close in time that belong together become one incident.
//!
//! In: findings as they open, change and clear, with the labels of their hosts, and the
//! dependencies that policy declares. Out: incidents with members, the reasons why these belong
//! together, and the likely cause. The same inputs in the same order with the same seed give the
//! same incidents with the same ids. A member never belongs to two incidents.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::finding::{FindingKind, FindingState, Severity};
use mainstay_core::id::{FindingId, HostId, IdSource, IncidentId};
use mainstay_core::subject::Subject;

use crate::cause::likely_cause;
use crate::depends::Depends;

/// Findings that open within this of one another may belong together (two minutes: the slowest
/// detector needs one to be sure).
pub const WINDOW_MS: i64 = 120_000;
/// The same along a declared dependency: what depends may take longer to suffer.
pub const DEPENDS_WINDOW_MS: i64 = 600_000;
/// Labels that tie findings of one kind together.
pub const TYING_LABELS: [&str; 2] = ["role", "zone"];
/// Most open findings that are held at once. Beyond this the oldest are no longer correlated; they
/// are stored and shown as ever, and the count of them is given by [`Correlator::dropped`].
pub const SYMPTOMS_MAX: usize = 100_000;
/// Most members of one incident that are listed. Those beyond are counted in its evidence.
pub const MEMBERS_MAX: usize = 5_000;
/// Most incidents that are held, open or lately cleared.
pub const INCIDENTS_MAX: usize = 10_000;
/// How long a cleared incident stays, so that what flares up again joins it.
pub const CLEARED_KEPT_MS: i64 = 300_000;
/// Most neighbours of a symptom that are compared with it. They are the latest ones.
const COMPARED_MAX: usize = 2_000;
/// Ties with members of one incident that are looked for: more of them make it no more one.
const TIES_OF_ONE_MAX: usize = 8;

/// Who a finding belongs to, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymptomId {
    /// The host that found it, or that it is about.
    pub host: HostId,
    /// The finding.
    pub finding: FindingId,
}

/// A finding as correlation sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Symptom {
    /// Its identity.
    pub id: SymptomId,
    /// Name of the host.
    pub hostname: String,
    /// Labels of the host.
    pub labels: BTreeMap<String, String>,
    /// What is wrong.
    pub kind: FindingKind,
    /// With what.
    pub subject: Subject,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: f64,
    /// Where it stands.
    pub state: FindingState,
    /// When it opened, on the collector's clock as far as it is known.
    pub opened_ms: i64,
}

impl Symptom {
    /// As it is said in one line: `disk.full /var on db-1`.
    #[must_use]
    pub fn said(&self) -> String {
        match &self.subject {
            Subject::Host => format!("{} on {}", self.kind, self.hostname),
            subject => format!("{} {subject} on {}", self.kind, self.hostname),
        }
    }
}

/// Findings that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Known by this.
    pub id: IncidentId,
    /// When the first member opened.
    pub opened_ms: i64,
    /// When it last changed.
    pub changed_ms: i64,
    /// When the last open member cleared; `None` while one is open.
    pub cleared_ms: Option<i64>,
    /// Its members, open ones and cleared ones.
    pub members: BTreeSet<SymptomId>,
    /// Members beyond [`MEMBERS_MAX`], which are only counted.
    pub beyond: BTreeSet<SymptomId>,
    /// Members that are still open, listed or not.
    pub open: BTreeSet<SymptomId>,
    /// The member that most likely caused the others, as of the last [`Correlator::settle`].
    pub cause: SymptomId,
    /// How sure that is, 0 to 1.
    pub cause_confidence: f64,
    /// Why these belong together and why this is the cause, in words. As of then, too.
    pub evidence: Vec<String>,
    /// The ties between members, each said once.
    pub ties: BTreeSet<String>,
}

/// What changed; what is named is read with [`Correlator::settle`] and [`Correlator::incident`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new incident.
    Opened(IncidentId),
    /// Members, cause or state of an incident changed.
    Changed(IncidentId),
    /// Its last open member cleared.
    Cleared(IncidentId),
    /// It was joined with another, which goes on.
    Merged {
        /// What is no more.
        gone: IncidentId,
        /// What it is part of now.
        into: IncidentId,
    },
}

/// Groups findings into incidents.
#[derive(Debug)]
pub struct Correlator {
    ids: IdSource,
    depends: Depends,
    symptoms: BTreeMap<SymptomId, Symptom>,
    /// When each opened, and what it is part of: gone through for every new one.
    by_time: BTreeMap<(i64, SymptomId), Option<IncidentId>>,
    of: BTreeMap<SymptomId, IncidentId>,
    incidents: BTreeMap<IncidentId, Incident>,
    /// Those whose members are others than when their cause was named.
    unsettled: BTreeSet<IncidentId>,
    /// Findings that have come into an incident, or into another, since somebody asked.
    joined: BTreeSet<SymptomId>,
    dropped: u64,
}

impl Correlator {
    /// An empty one. Ids of incidents are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64, depends: Depends) -> Self {
        Self {
            ids: IdSource::new(seed),
            depends,
            symptoms: BTreeMap::new(),
            by_time: BTreeMap::new(),
            of: BTreeMap::new(),
            incidents: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            joined: BTreeSet::new(),
            dropped: 0,
        }
    }

    /// Takes other dependencies. What is grouped already stays grouped.
    pub fn set_depends(&mut self, depends: Depends) {
        self.depends = depends;
    }

    /// Puts back an incident that was stored, with its members, after a start.
    pub fn restore(&mut self, incident: Incident, members: impl IntoIterator<Item = Symptom>) {
        for symptom in members {
            self.of.insert(symptom.id, incident.id);
            self.by_time.insert((symptom.opened_ms, symptom.id), Some(incident.id));
            self.symptoms.insert(symptom.id, symptom);
        }
        self.incidents.insert(incident.id, incident);
    }

    /// Takes a finding in whatever state it is, and says what that changed.
    pub fn observe(&mut self, symptom: Symptom, now_ms: i64) -> Vec<Change> {
        if symptom.state == FindingState::Open { self.opened(symptom, now_ms) } else { self.ended(&symptom, now_ms) }
    }

    /// Clears an incident none of whose members is open any more: as it is found after a start, where all that is open was
    /// observed again.
    pub fn clear_if_over(&mut self, id: IncidentId, now_ms: i64) -> Option<Change> {
        let incident = self.incidents.get_mut(&id).filter(|i| i.open.is_empty() && i.cleared_ms.is_none())?;
        (incident.cleared_ms, incident.changed_ms) = (Some(now_ms), now_ms);
        Some(Change::Cleared(id))
    }

    /// Names the likely cause of an incident anew, if it has other members since. It is not named with every finding, for
    /// a fleet that breaks brings thousands of them to one incident.
    pub fn settle(&mut self, id: IncidentId) {
        if !self.unsettled.remove(&id) {
            return;
        }
        let Some(incident) = self.incidents.get_mut(&id) else { return };
        let members: Vec<&Symptom> = incident.members.iter().filter_map(|id| self.symptoms.get(id)).collect();
        if let Some(cause) = likely_cause(&members, &self.depends) {
            incident.cause = cause.symptom;
            incident.cause_confidence = cause.confidence;
            incident.evidence = incident.ties.iter().take(TIES_SHOWN_MAX).cloned().collect();
            if incident.ties.len() > TIES_SHOWN_MAX {
                incident.evidence.push(format!("and {} more ties", incident.ties.len() - TIES_SHOWN_MAX));
            }
            incident.evidence.extend(cause.why);
        }
    }

    /// Which findings have come into an incident, or into another one, since this was asked last, and into which.
    pub fn take_joined(&mut self) -> Vec<(SymptomId, IncidentId)> {
        std::mem::take(&mut self.joined).into_iter().filter_map(|id| Some((id, *self.of.get(&id)?))).collect()
    }

    /// Takes back what [`Self::take_joined`] gave, so that it gives it again.
    pub fn give_joined_back(&mut self, joined: impl IntoIterator<Item = (SymptomId, IncidentId)>) {
        self.joined.extend(joined.into_iter().map(|(id, _)| id));
    }

    /// An incident by its id.
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// Every incident that is held, by id.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// The incident that a finding belongs to.
    #[must_use]
    pub fn incident_of(&self, symptom: SymptomId) -> Option<IncidentId> {
        self.of.get(&symptom).copied()
    }

    /// A finding as it was last observed.
    #[must_use]
    pub fn symptom(&self, id: SymptomId) -> Option<&Symptom> {
        self.symptoms.get(&id)
    }

    /// How many open findings are no longer correlated, for lack of room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets what cleared long ago. Call it now and then.
    pub fn forget_old(&mut self, now_ms: i64) {
        let old: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|i| i.cleared_ms.is_some_and(|at| now_ms.saturating_sub(at) > CLEARED_KEPT_MS))
            .map(|i| i.id)
            .collect();
        for id in old {
            self.forget_incident(id);
        }
        let lone: Vec<SymptomId> = self
            .by_time
            .range(
                ..(
                    now_ms.saturating_sub(DEPENDS_WINDOW_MS),
                    SymptomId { host: HostId([0; 16]), finding: FindingId(0) },
                ),
            )
            .filter(|(_, incident)| incident.is_none())
            .map(|((_, id), _)| *id)
            .filter(|id| self.symptoms.get(id).is_none_or(|s| s.state != FindingState::Open))
            .collect();
        for id in lone {
            self.forget_symptom(id);
        }
    }

    fn opened(&mut self, symptom: Symptom, now_ms: i64) -> Vec<Change> {
        let id = symptom.id;
        if let Some(known) = self.symptoms.get_mut(&id) {
            let reopened = known.state != FindingState::Open;
            known.severity = symptom.severity;
            known.confidence = symptom.confidence;
            known.state = FindingState::Open;
            return if reopened { self.flared_up(id, now_ms) } else { Vec::new() };
        }
        self.make_room();
        let ties = self.ties(&symptom);
        self.by_time.insert((symptom.opened_ms, id), None);
        let alone = symptom.kind == FindingKind::HostSilent;
        self.symptoms.insert(id, symptom);
        if ties.is_empty() && !alone {
            return Vec::new();
        }
        self.join(id, ties, now_ms)
    }

    /// Puts a symptom and all that it is tied to into one incident.
    fn join(&mut self, id: SymptomId, ties: Vec<(SymptomId, String)>, now_ms: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        let existing: BTreeSet<IncidentId> = ties.iter().filter_map(|(other, _)| self.of.get(other).copied()).collect();
        let oldest = existing.iter().copied().min_by_key(|i| self.incidents.get(i).map(|i| (i.opened_ms, i.id)));
        let target = match oldest {
            Some(target) => {
                changes.push(Change::Changed(target));
                target
            }
            None => {
                let target = IncidentId(self.ids.next_u64());
                self.incidents.insert(target, Incident::empty(target, id, now_ms));
                changes.push(Change::Opened(target));
                target
            }
        };
        for gone in existing.into_iter().filter(|i| *i != target) {
            self.merge(gone, target);
            changes.push(Change::Merged { gone, into: target });
        }
        for (other, _) in &ties {
            if !self.of.contains_key(other) {
                self.add_member(target, *other);
            }
        }
        self.add_member(target, id);
        if let Some(incident) = self.incidents.get_mut(&target) {
            incident.ties.extend(ties.into_iter().map(|(_, why)| why));
            incident.changed_ms = now_ms;
            incident.cleared_ms = None;
        }
        self.unsettled.insert(target);
        changes
    }

    fn add_member(&mut self, target: IncidentId, id: SymptomId) {
        let Some(incident) = self.incidents.get_mut(&target) else { return };
        let is_listed = incident.members.len() < MEMBERS_MAX;
        if is_listed { &mut incident.members } else { &mut incident.beyond }.insert(id);
        self.of.insert(id, target);
        self.joined.insert(id);
        let opened = self.symptoms.get(&id).map(|symptom| (symptom.opened_ms, id));
        if let Some(of) = opened.and_then(|opened| self.by_time.get_mut(&opened)) {
            *of = Some(target);
        }
        if let Some(symptom) = self.symptoms.get(&id) {
            incident.opened_ms = incident.opened_ms.min(symptom.opened_ms);
            if symptom.state == FindingState::Open {
                incident.open.insert(id);
            }
        }
    }

    fn merge(&mut self, gone: IncidentId, into: IncidentId) {
        let Some(old) = self.incidents.remove(&gone) else { return };
        self.unsettled.remove(&gone);
        for member in old.members.iter().chain(&old.beyond) {
            self.add_member(into, *member);
        }
        if let Some(incident) = self.incidents.get_mut(&into) {
            incident.ties.extend(old.ties);
        }
    }

    fn flared_up(&mut self, id: SymptomId, now_ms: i64) -> Vec<Change> {
        let Some(incident) = self.of.get(&id).and_then(|i| self.incidents.get_mut(i)) else { return Vec::new() };
        incident.open.insert(id);
        incident.cleared_ms = None;
        incident.changed_ms = now_ms;
        vec![Change::Changed(incident.id)]
    }

    fn ended(&mut self, symptom: &Symptom, now_ms: i64) -> Vec<Change> {
        let id = symptom.id;
        let Some(known) = self.symptoms.get_mut(&id) else { return Vec::new() };
        if known.state == symptom.state {
            return Vec::new();
        }
        known.state = symptom.state;
        let Some(incident) = self.of.get(&id).and_then(|i| self.incidents.get_mut(i)) else { return Vec::new() };
        incident.open.remove(&id);
        incident.changed_ms = now_ms;
        if incident.open.is_empty() {
            incident.cleared_ms = Some(now_ms);
            return vec![Change::Cleared(incident.id)];
        }
        vec![Change::Changed(incident.id)]
    }

    /// What a new symptom is tied to, with the reason for each.
    fn ties(&self, symptom: &Symptom) -> Vec<(SymptomId, String)> {
        let nobody = SymptomId { host: HostId([0; 16]), finding: FindingId(0) };
        let from = (symptom.opened_ms.saturating_sub(DEPENDS_WINDOW_MS), nobody);
        let to = (symptom.opened_ms.saturating_add(DEPENDS_WINDOW_MS), nobody);
        let mut found: BTreeMap<IncidentId, usize> = BTreeMap::new();
        let mut ties = Vec::new();
        for ((_, id), &incident) in self.by_time.range(from..to).rev().take(COMPARED_MAX) {
            if incident.and_then(|incident| found.get(&incident)).is_some_and(|ties| *ties >= TIES_OF_ONE_MAX) {
                continue;
            }
            let tie = self.symptoms.get(id).and_then(|other| tie(symptom, other, &self.depends));
            if let Some(why) = tie {
                ties.push((*id, why));
                incident.into_iter().for_each(|incident| *found.entry(incident).or_default() += 1);
            }
        }
        ties
    }

    fn make_room(&mut self) {
        while self.symptoms.len() >= SYMPTOMS_MAX {
            let Some((&(_, oldest), _)) = self.by_time.first_key_value() else { return };
            self.forget_symptom(oldest);
            self.dropped += 1;
        }
        while self.incidents.len() >= INCIDENTS_MAX {
            let cleared_first =
                self.incidents.values().min_by_key(|i| (i.cleared_ms.is_none(), i.changed_ms)).map(|i| i.id);
            let Some(id) = cleared_first else { return };
            self.forget_incident(id);
        }
    }

    fn forget_incident(&mut self, id: IncidentId) {
        let Some(incident) = self.incidents.remove(&id) else { return };
        self.unsettled.remove(&id);
        for member in incident.members.into_iter().chain(incident.beyond) {
            self.of.remove(&member);
            if incident.open.contains(&member) {
                // Open ones of an incident that had to make room stand alone from here on.
                let opened = self.symptoms.get(&member).map(|symptom| (symptom.opened_ms, member));
                opened.and_then(|opened| self.by_time.get_mut(&opened)).into_iter().for_each(|of| *of = None);
            } else {
                self.forget_symptom(member);
            }
        }
    }

    fn forget_symptom(&mut self, id: SymptomId) {
        if let Some(symptom) = self.symptoms.remove(&id) {
            self.by_time.remove(&(symptom.opened_ms, id));
        }
        if let Some(incident) = self.of.remove(&id).and_then(|i| self.incidents.get_mut(&i)) {
            incident.open.remove(&id);
        }
    }
}

/// Ties that are written out in the evidence of an incident.
const TIES_SHOWN_MAX: usize = 12;

impl Incident {
    fn empty(id: IncidentId, cause: SymptomId, now_ms: i64) -> Self {
        Self {
            id,
            opened_ms: now_ms,
            changed_ms: now_ms,
            cleared_ms: None,
            members: BTreeSet::new(),
            beyond: BTreeSet::new(),
            open: BTreeSet::new(),
            cause,
            cause_confidence: 0.0,
            evidence: Vec::new(),
            ties: BTreeSet::new(),
        }
    }
}

/// Why two findings belong together, if they do.
fn tie(a: &Symptom, b: &Symptom, depends: &Depends) -> Option<String> {
    let apart_ms = a.opened_ms.abs_diff(b.opened_ms).cast_signed();
    if let Some(text) = depends.between(a, b) {
        return Some(text);
    }
    if apart_ms > WINDOW_MS {
        return None;
    }
    if a.id.host == b.id.host {
        return Some(if a.subject == b.subject {
            format!("same subject: {} on {}", a.subject, a.hostname)
        } else {
            format!("same host: {}", a.hostname)
        });
    }
    if a.kind != b.kind || !alike(&a.subject, &b.subject) {
        return None;
    }
    TYING_LABELS.iter().find_map(|label| {
        let (mine, theirs) = (a.labels.get(*label)?, b.labels.get(*label)?);
        (mine == theirs).then(|| format!("{} on hosts with {label}={mine}", a.kind))
    })
}

/// Whether two subjects of different hosts are the same thing there: the same unit, or the same
/// mount. Findings of one kind about quite different things only happen at the same time.
fn alike(a: &Subject, b: &Subject) -> bool {
    a == b
}

#[cfg(test)]
#[path = "correlate_tests.rs"]
mod tests;
