//! From verdicts to findings: for-durations, hysteresis, quiet periods, ids.
//!
//! A detector says at every round what it sees of a subject. A finding opens when the verdict has
//! held without a break for as long as the case asks, clears when it has been over for the kind's
//! clearing time, and becomes unknown when nothing could be read for a while. `Unknown` and
//! `Between` never open and never clear.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::{Millis, millis};
use super::codec::{Reader, Writer};
use crate::finding::{Evidence, Finding, FindingKind, FindingState, Measure, Severity};
use crate::id::{ActionId, FindingId, IdSource};
use crate::subject::{PathBytes, Subject, UnitName};
use crate::time::Now;

/// Most pairs of kind and subject that are followed at once. One more is left out and counted; a
/// host with this many things wrong needs a person, not a longer list.
pub const ENTRIES_MAX: usize = 1_024;

/// Most marks of own effects that are remembered; the oldest goes first.
const EFFECTS_MAX: usize = 64;

/// Two rounds further apart than this are not one stretch: what held before and after may not
/// have held in between (the agent was stopped, the machine asleep).
const GAP_MAX: Millis = 15_000;

/// A confidence that moves by less than this is the same: no event for noise.
const CONFIDENCE_STEP: f64 = 0.05;

/// What a detector says of one subject.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is so.
    Holds(Case),
    /// In the band between opening and clearing: what is open stays open, nothing opens.
    Between,
    /// It is over, or was never so.
    Over,
    /// It cannot be known.
    Unknown,
}

/// What a finding will say.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// How bad.
    pub severity: Severity,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// What was seen, most important first.
    pub evidence: Vec<Evidence>,
    /// For how long it must hold without a break before the finding opens.
    pub raise_after: Duration,
}

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It is new.
    Opened,
    /// It is worse, its confidence is clearly another, or it is no longer unknown.
    Changed,
    /// It is over.
    Cleared,
    /// It can no longer be seen whether it holds.
    Unknown,
}

/// A finding that has changed, as it now stands.
#[derive(Debug, Clone, PartialEq)]
pub struct FindingEvent {
    /// What happened.
    pub change: Change,
    /// The finding after it.
    pub finding: Finding,
}

/// A subject that is only looked at: made into a [`Subject`] when something is to be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum SubjectRef<'a> {
    Host,
    Unit(&'a UnitName),
    Mount(&'a PathBytes),
    Disk(&'a str),
}

impl SubjectRef<'_> {
    fn owned(self) -> Subject {
        match self {
            Self::Host => Subject::Host,
            Self::Unit(unit) => Subject::Unit(unit.clone()),
            Self::Mount(mount) => Subject::Mount(mount.clone()),
            Self::Disk(name) => Subject::Disk(name.to_owned()),
        }
    }
}

/// How long it takes to be sure that trouble of a kind is over.
fn clear_after(kind: FindingKind) -> Duration {
    Duration::from_secs(match kind {
        // A unit that is up again is up; whether it stays is what verification waits for.
        FindingKind::ServiceFailed | FindingKind::HostSilent => 0,
        FindingKind::ServiceHung => 2,
        FindingKind::DiskFull | FindingKind::DiskInodes | FindingKind::DiskReadonly => 3,
        // It waits by itself until none has happened for long.
        FindingKind::MemoryOomKill | FindingKind::KernelError | FindingKind::LogPattern => 0,
        FindingKind::CpuSaturated
        | FindingKind::MemoryPressure
        | FindingKind::IoStalled
        | FindingKind::ProcessForkStorm
        | FindingKind::ProcessZombies
        | FindingKind::FdExhausted
        | FindingKind::TaskExhausted
        | FindingKind::ConntrackExhausted
        | FindingKind::NetRetransmits
        | FindingKind::ClockUnsynced => 30,
        FindingKind::AgentDegraded => 10,
        // These look back over windows of minutes themselves.
        FindingKind::ServiceCrashLoop
        | FindingKind::ServiceSlow
        | FindingKind::ServiceFlapping
        | FindingKind::FindingFlapping
        | FindingKind::DiskFilling
        | FindingKind::DiskFailing
        | FindingKind::LogBurst
        | FindingKind::ProcessRunaway => 60,
        FindingKind::MemoryLeak
        | FindingKind::FdLeak
        | FindingKind::TaskLeak
        | FindingKind::InodeLeak
        | FindingKind::MetricAnomalous => 300,
    })
}

/// How long after clearing the same kind stays closed for the same subject, so that trouble on the
/// edge is one finding and not fifty. None where every single time counts.
fn quiet_after_clear(kind: FindingKind) -> Duration {
    Duration::from_secs(match kind {
        FindingKind::DiskFilling
        | FindingKind::ServiceSlow
        | FindingKind::ProcessRunaway
        | FindingKind::MemoryPressure
        | FindingKind::CpuSaturated
        | FindingKind::IoStalled
        | FindingKind::NetRetransmits
        | FindingKind::LogBurst => 300,
        FindingKind::MemoryLeak
        | FindingKind::FdLeak
        | FindingKind::TaskLeak
        | FindingKind::InodeLeak
        | FindingKind::MetricAnomalous => 3_600,
        _ => 0,
    })
}

/// Whether more evidence is told by itself: what the log adds, and who holds deleted files, comes a moment after what
/// was measured.
fn may_say_more(kind: FindingKind) -> bool {
    matches!(
        kind,
        FindingKind::MemoryOomKill
            | FindingKind::DiskReadonly
            | FindingKind::LogPattern
            | FindingKind::DiskFull
            | FindingKind::DiskFilling
    )
}

/// Whether every other word of the evidence is told by itself: what the agent no longer sees of the host is nothing
/// that can be asked of the host.
fn tells_every_word(kind: FindingKind) -> bool {
    kind == FindingKind::AgentDegraded
}

/// Where one pair of kind and subject stands.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// When it was last judged.
    seen: Millis,
    /// Since when it has been so that it would open (while closed) or clear (while open).
    since: Option<Millis>,
    /// When something was last known of it.
    known: Millis,
    /// Not to open before this.
    quiet_until: Millis,
    /// The finding, while it is open or unknown.
    finding: Option<Finding>,
}

/// A note that an action of ours changes a subject.
#[derive(Debug, Clone, PartialEq)]
struct Effect {
    subject: Subject,
    action: ActionId,
    until: Millis,
}

/// The findings of a host and what may become one.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    ids: IdSource,
    /// By kind, in the order of [`FindingKind::ALL`].
    entries: Vec<BTreeMap<Subject, Entry>>,
    effects: Vec<Effect>,
    dropped: u64,
}

impl Lifecycle {
    pub(crate) fn new(seed: u64) -> Self {
        let entries = FindingKind::ALL.iter().map(|_| BTreeMap::new()).collect();
        Self { ids: IdSource::new(seed), entries, effects: Vec::new(), dropped: 0 }
    }

    /// Begins a round of verdicts at one moment.
    pub(crate) fn round(&mut self, t: Millis, now: Now, unknown_after: Duration) -> Round<'_> {
        Round { lifecycle: self, t, now, unknown_after: millis(unknown_after), events: Vec::new() }
    }

    pub(crate) fn mark_effect(&mut self, subject: &Subject, action: ActionId, until: Millis) {
        if self.effects.len() >= EFFECTS_MAX {
            self.effects.remove(0);
        }
        self.effects.push(Effect { subject: subject.clone(), action, until });
    }

    pub(crate) fn effect_over(&mut self, action: ActionId) {
        self.effects.retain(|effect| effect.action != action);
    }

    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.entries.iter().flat_map(BTreeMap::values).filter_map(|entry| entry.finding.as_ref())
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether there is a finding of this kind, or what may become one.
    #[inline]
    fn follows(&self, kind: FindingKind) -> bool {
        !self.entries[kind as usize].is_empty()
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.len());
        for (kind, of_kind) in FindingKind::ALL.iter().zip(&self.entries) {
            for (subject, entry) in of_kind {
                writer.str(kind.as_str());
                writer.subject(subject);
                writer.i64(entry.seen);
                writer.option(entry.since, Writer::i64);
                writer.i64(entry.known);
                writer.i64(entry.quiet_until);
                writer.option(entry.finding.as_ref(), save_finding);
            }
        }
        writer.len(self.effects.len());
        for effect in &self.effects {
            writer.subject(&effect.subject);
            writer.u64(effect.action.0);
            writer.i64(effect.until);
        }
    }

    pub(crate) fn load(reader: &mut Reader<'_>, seed: u64) -> Option<Self> {
        let mut loaded = Self::new(seed);
        for _ in 0..reader.len()?.min(ENTRIES_MAX) {
            let kind: FindingKind = reader.str()?.parse().ok()?;
            let subject = reader.subject()?;
            let entry = Entry {
                seen: reader.i64()?,
                since: reader.option(Reader::i64)?,
                known: reader.i64()?,
                quiet_until: reader.i64()?,
                finding: reader.option(|r| load_finding(r, kind, &subject))?,
            };
            loaded.entries[kind as usize].insert(subject, entry);
        }
        for _ in 0..reader.len()?.min(EFFECTS_MAX) {
            let subject = reader.subject()?;
            let (action, until) = (ActionId(reader.u64()?), reader.i64()?);
            loaded.effects.push(Effect { subject, action, until });
        }
        Some(loaded)
    }

    fn effect_on(&self, subject: &Subject, t: Millis) -> Option<ActionId> {
        self.effects.iter().rev().find(|e| e.until > t && e.subject == *subject).map(|e| e.action)
    }

    fn len(&self) -> usize {
        self.entries.iter().map(BTreeMap::len).sum()
    }
}

fn save_finding(writer: &mut Writer, finding: &Finding) {
    writer.u64(finding.id.0);
    writer.u8(match finding.severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    });
    writer.f64(finding.confidence);
    writer.u8(u8::from(finding.state == FindingState::Unknown));
    for moment in [finding.opened, finding.changed] {
        writer.u64(moment.boot_ns);
        writer.i64(moment.wall_ms);
    }
    writer.len(finding.evidence.len());
    for evidence in &finding.evidence {
        writer.str(&evidence.text);
        writer.option(evidence.measure.as_ref(), |w, measure| {
            w.str(&measure.name);
            w.f64(measure.value);
            w.option(measure.limit, Writer::f64);
        });
    }
    writer.option(finding.effect_of, |w, action| w.u64(action.0));
}

fn load_finding(reader: &mut Reader<'_>, kind: FindingKind, subject: &Subject) -> Option<Finding> {
    let id = FindingId(reader.u64()?);
    let severity = match reader.u8()? {
        0 => Severity::Info,
        1 => Severity::Warning,
        2 => Severity::Critical,
        _ => return None,
    };
    let confidence = reader.f64()?;
    let state = if reader.u8()? == 0 { FindingState::Open } else { FindingState::Unknown };
    let opened = Now { boot_ns: reader.u64()?, wall_ms: reader.i64()? };
    let changed = Now { boot_ns: reader.u64()?, wall_ms: reader.i64()? };
    let mut evidence = Vec::new();
    for _ in 0..reader.len()? {
        let text = reader.str()?.to_owned();
        let measure = reader.option(|r| {
            let (name, value, limit) = (r.str()?.to_owned(), r.f64()?, r.option(Reader::f64)?);
            // What was expected is not kept over a restart: the next step says it anew.
            Some(Measure { name, value, limit, expected: None })
        })?;
        evidence.push(Evidence { text, measure });
    }
    let effect_of = reader.option(|r| r.u64().map(ActionId))?;
    let subject = subject.clone();
    Some(Finding { id, kind, subject, severity, confidence, state, opened, changed, evidence, effect_of })
}

/// One round of verdicts. [`Round::finish`] gives what came of it.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    lifecycle: &'a mut Lifecycle,
    /// Detector time of the round.
    pub(crate) t: Millis,
    /// The moment of the round.
    pub(crate) now: Now,
    unknown_after: Millis,
    events: Vec<FindingEvent>,
}

impl Round<'_> {
    /// Takes the verdict on one subject. Most say that all is well where nothing is followed: these are done with at once.
    #[inline]
    pub(crate) fn judge(&mut self, kind: FindingKind, subject: SubjectRef<'_>, verdict: Verdict) {
        if matches!(verdict, Verdict::Holds(_)) || self.lifecycle.follows(kind) {
            self.judge_owned(kind, subject.owned(), verdict);
        }
    }

    /// Takes the verdict on a subject that is there already.
    pub(crate) fn judge_subject(&mut self, kind: FindingKind, subject: &Subject, verdict: Verdict) {
        self.judge_owned(kind, subject.clone(), verdict);
    }

    /// Takes one verdict for every followed subject of a kind that was not judged in this round:
    /// `Over` where they are known to be gone, `Unknown` where nothing could be read.
    pub(crate) fn judge_rest(&mut self, kind: FindingKind, verdict: &Verdict) {
        let t = self.t;
        let of_kind = &self.lifecycle.entries[kind as usize];
        let rest: Vec<Subject> = of_kind.iter().filter(|(_, e)| e.seen != t).map(|(s, _)| s.clone()).collect();
        for subject in rest {
            self.judge_owned(kind, subject, verdict.clone());
        }
    }

    /// What happened in this round.
    pub(crate) fn finish(self) -> Vec<FindingEvent> {
        let t = self.t;
        self.lifecycle.effects.retain(|effect| effect.until > t);
        self.events
    }

    fn judge_owned(&mut self, kind: FindingKind, subject: Subject, verdict: Verdict) {
        let t = self.t;
        if !self.lifecycle.entries[kind as usize].contains_key(&subject) {
            if !matches!(verdict, Verdict::Holds(_)) {
                return;
            }
            if self.lifecycle.len() >= ENTRIES_MAX {
                self.lifecycle.dropped += 1;
                return;
            }
        }
        let effect = self.lifecycle.effect_on(&subject, t);
        let of_kind = &mut self.lifecycle.entries[kind as usize];
        let entry = of_kind.entry(subject.clone()).or_insert(Entry {
            seen: t,
            since: None,
            known: t,
            quiet_until: Millis::MIN,
            finding: None,
        });
        if t.saturating_sub(entry.seen) > GAP_MAX {
            entry.since = None;
            entry.known = t;
        }
        entry.seen = t;
        if !matches!(verdict, Verdict::Unknown) {
            entry.known = t;
        }
        let event = match &mut entry.finding {
            None => {
                let ids = &mut self.lifecycle.ids;
                let opened = entry.opens(verdict, t).map(|case| Finding {
                    id: FindingId(ids.next_u64()),
                    kind,
                    subject: subject.clone(),
                    severity: case.severity,
                    confidence: case.confidence,
                    state: FindingState::Open,
                    opened: self.now,
                    changed: self.now,
                    evidence: case.evidence,
                    effect_of: effect,
                });
                entry.finding.clone_from(&opened);
                opened.map(|finding| FindingEvent { change: Change::Opened, finding })
            }
            Some(_) => entry.moves(verdict, kind, t, self.now, self.unknown_after),
        };
        if entry.finding.is_none() && entry.since.is_none() && entry.quiet_until <= t {
            of_kind.remove(&subject);
        }
        self.events.extend(event);
    }
}

impl Entry {
    /// Whether a closed entry opens on this verdict.
    fn opens(&mut self, verdict: Verdict, t: Millis) -> Option<Case> {
        match verdict {
            Verdict::Holds(case) => {
                let since = *self.since.get_or_insert(t);
                let held = t.saturating_sub(since) >= millis(case.raise_after);
                if held && t >= self.quiet_until {
                    self.since = None;
                    return Some(case);
                }
                None
            }
            Verdict::Unknown => None,
            Verdict::Between | Verdict::Over => {
                self.since = None;
                None
            }
        }
    }

    /// What becomes of an open entry on this verdict.
    fn moves(
        &mut self,
        verdict: Verdict,
        kind: FindingKind,
        t: Millis,
        now: Now,
        unknown_after: Millis,
    ) -> Option<FindingEvent> {
        let finding = self.finding.as_mut()?;
        let was = (finding.state, finding.severity, finding.confidence);
        let mut says_more = false;
        match verdict {
            Verdict::Holds(case) => {
                self.since = None;
                says_more = may_say_more(kind) && case.evidence.len() > finding.evidence.len()
                    || tells_every_word(kind) && case.evidence != finding.evidence;
                finding.state = FindingState::Open;
                // Worse is said at once; that it is a little better is said by clearing.
                finding.severity = finding.severity.max(case.severity);
                if (finding.confidence - case.confidence).abs() >= CONFIDENCE_STEP {
                    finding.confidence = case.confidence;
                }
                finding.evidence = case.evidence;
            }
            Verdict::Between => {
                self.since = None;
                finding.state = FindingState::Open;
            }
            Verdict::Over => {
                let since = *self.since.get_or_insert(t);
                if t.saturating_sub(since) >= millis(clear_after(kind)) {
                    self.since = None;
                    self.quiet_until = t.saturating_add(millis(quiet_after_clear(kind)));
                    let mut finding = self.finding.take()?;
                    finding.state = FindingState::Cleared;
                    finding.changed = now;
                    return Some(FindingEvent { change: Change::Cleared, finding });
                }
            }
            Verdict::Unknown => {
                self.since = None;
                if t.saturating_sub(self.known) >= unknown_after {
                    finding.state = FindingState::Unknown;
                }
            }
        }
        if was == (finding.state, finding.severity, finding.confidence) && !says_more {
            return None;
        }
        finding.changed = now;
        let change = if finding.state == FindingState::Unknown { Change::Unknown } else { Change::Changed };
        Some(FindingEvent { change, finding: finding.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds one verdict a second, from second 1 on, about the host, and notes what happened when.
    fn run(kind: FindingKind, verdicts: &[Verdict]) -> Vec<(usize, Change)> {
        let mut lifecycle = Lifecycle::new(7);
        let mut seen = Vec::new();
        for (at, verdict) in (1..).zip(verdicts) {
            let now = Now { boot_ns: at as u64 * 1_000_000_000, wall_ms: 0 };
            let mut round = lifecycle.round(Millis::from(at) * 1_000, now, Duration::from_secs(3));
            round.judge(kind, SubjectRef::Host, verdict.clone());
            seen.extend(round.finish().into_iter().map(|event| (at as usize, event.change)));
        }
        seen
    }

    fn holds(raise_after_s: u64) -> Verdict {
        Verdict::Holds(Case {
            severity: Severity::Warning,
            confidence: 0.9,
            evidence: Vec::new(),
            raise_after: Duration::from_secs(raise_after_s),
        })
    }

    fn repeat(times: usize, verdict: &Verdict) -> Vec<Verdict> {
        vec![verdict.clone(); times]
    }

    #[test]
    fn opens_once_when_it_has_held_for_long_enough_and_clears_once() {
        let verdicts = [repeat(6, &holds(3)), repeat(6, &Verdict::Over)].concat();
        assert_eq!(run(FindingKind::DiskFull, &verdicts), [(4, Change::Opened), (10, Change::Cleared)]);
    }

    #[test]
    fn opens_at_once_where_the_case_asks_for_no_wait() {
        assert_eq!(run(FindingKind::ServiceFailed, &[holds(0)]), [(1, Change::Opened)]);
    }

    #[test]
    fn other_words_are_told_of_the_agent_itself_and_of_nothing_else() {
        let says = |text: &str| {
            let evidence = vec![Evidence { text: text.to_owned(), measure: None }];
            let case = Case { severity: Severity::Warning, confidence: 0.9, evidence, raise_after: Duration::ZERO };
            Verdict::Holds(case)
        };
        let verdicts = [says("step 1"), says("step 1"), says("step 2"), says("step 2"), says("step 1")];
        let want = [(1, Change::Opened), (3, Change::Changed), (5, Change::Changed)];
        assert_eq!(run(FindingKind::AgentDegraded, &verdicts), want);
        assert_eq!(run(FindingKind::DiskFull, &verdicts), want[..1]);
    }

    #[test]
    fn a_break_starts_the_wait_anew() {
        let verdicts = [repeat(3, &holds(3)), vec![Verdict::Between], repeat(3, &holds(3))].concat();
        assert_eq!(run(FindingKind::DiskFull, &verdicts), []);
    }

    #[test]
    fn keeps_a_finding_open_between_the_levels() {
        let verdicts = [vec![holds(0)], repeat(60, &Verdict::Between)].concat();
        assert_eq!(run(FindingKind::DiskFull, &verdicts), [(1, Change::Opened)]);
    }

    #[test]
    fn unknown_neither_opens_nor_clears_and_is_said_after_a_while() {
        assert_eq!(run(FindingKind::DiskFull, &repeat(20, &Verdict::Unknown)), []);
        let verdicts = [vec![holds(0)], repeat(20, &Verdict::Unknown), vec![holds(0)]].concat();
        let want = [(1, Change::Opened), (4, Change::Unknown), (22, Change::Changed)];
        assert_eq!(run(FindingKind::DiskFull, &verdicts), want);
    }

    #[test]
    fn unknown_time_does_not_count_towards_clearing() {
        let verdicts =
            [vec![holds(0)], repeat(3, &Verdict::Over), repeat(2, &Verdict::Unknown), repeat(3, &Verdict::Over)]
                .concat();
        assert_eq!(run(FindingKind::DiskFull, &verdicts), [(1, Change::Opened)]);
    }

    #[test]
    fn stays_quiet_for_a_while_after_clearing() {
        let verdicts = [vec![holds(0)], repeat(31, &Verdict::Over), repeat(400, &holds(0))].concat();
        let want = [(1, Change::Opened), (32, Change::Cleared), (332, Change::Opened)];
        assert_eq!(run(FindingKind::CpuSaturated, &verdicts), want);
    }

    #[test]
    fn what_opens_on_a_subject_under_our_hands_says_so() {
        let mut lifecycle = Lifecycle::new(7);
        lifecycle.mark_effect(&Subject::Host, ActionId(5), 10_000);
        for (t, want) in [(9_000, Some(ActionId(5))), (10_000, None)] {
            let mut round = lifecycle.round(t, Now::default(), Duration::from_secs(3));
            round.judge(FindingKind::ServiceFailed, SubjectRef::Host, Verdict::Over);
            round.judge(FindingKind::ServiceFailed, SubjectRef::Host, holds(0));
            let opened = round.finish().pop().map(|event| event.finding.effect_of);
            assert_eq!(opened, Some(want), "at {t}");
        }
    }

    #[test]
    fn follows_no_more_subjects_than_the_bound_and_counts_the_rest() {
        let mut lifecycle = Lifecycle::new(7);
        let mut round = lifecycle.round(0, Now::default(), Duration::from_secs(3));
        for n in 0..ENTRIES_MAX + 2 {
            let unit = format!("u{n}.service").parse().unwrap();
            round.judge(FindingKind::ServiceFailed, SubjectRef::Unit(&unit), holds(0));
        }
        assert_eq!(round.finish().len(), ENTRIES_MAX);
        assert_eq!(lifecycle.dropped(), 2);
    }
}
