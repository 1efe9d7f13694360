//! The memory of actions: what was done, how it went, what is being done, and what operators said.
//!
//! In: records, in their order ([`Book::apply`]), and answers of the collector about leases. Out: what the guards ask. The
//! ledger is the truth: a book made by applying a ledger's records from the first on is the same as the one that has
//! lived all along, except for leases, which are short and asked for again. Every map has a bound; where it is reached
//! the entry that was touched longest ago goes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::STEPS_TIME_MAX;
use super::budget::{Proven, ProvenClock, Times};
use super::ladder::is_new_trouble;
use crate::decision::{Choice, Decision, HoldReason};
use crate::finding::FindingKind;
use crate::id::{DecisionId, FindingId};
use crate::plan::{Plan, Verify};
use crate::policy::Budget;
use crate::record::{Author, Body, Ended, Record};
use crate::subject::{Subject, UnitName};
use crate::time::Now;

/// Most pairs of rule and subject that are remembered.
pub(super) const KEYS_MAX: usize = 4_096;

/// Most decisions that wait for an answer.
pub(super) const ASKED_MAX: usize = 256;

/// Most holds of operators.
pub(super) const HOLDS_MAX: usize = 256;

/// Most tries that are remembered of one trouble. A rule's `tries` is bounded by less.
pub(super) const TRIES_MAX: usize = 128;

/// What a rule did about a subject.
pub(super) type Key = (String, Subject);

/// The memory of actions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Book {
    pub(super) clock: ProvenClock,
    pub(super) acted: BTreeMap<Key, Acted>,
    pub(super) times: BTreeMap<String, Times>,
    pub(super) episodes: BTreeMap<Key, Episode>,
    pub(super) running: BTreeMap<Subject, Running>,
    pub(super) asked: BTreeMap<DecisionId, Asked>,
    pub(super) holds: BTreeMap<String, Held>,
    leases: BTreeMap<FindingKind, Lease>,
}

/// The last action of a rule on a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acted {
    pub(super) at: Proven,
    /// How many times in a row it has not helped.
    pub(super) failures: u32,
}

/// Trouble with a subject: the rungs that were tried about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) began: Proven,
    pub(super) finding: FindingId,
    /// Which rung, and when, oldest first. Bounded by [`TRIES_MAX`].
    pub(super) tries: Vec<(u32, Proven)>,
}

impl Episode {
    /// When a rung was last tried.
    pub(super) fn touched(&self) -> Proven {
        self.tries.last().map_or(self.began, |(_, at)| *at)
    }

    fn tried(&mut self, rung: u32, at: Proven) {
        self.tries.push((rung, at));
        if self.tries.len() > TRIES_MAX {
            // The oldest of those that were tried again: which rungs were tried at all is never forgotten.
            let again = |(index, (rung, _)): &(usize, &(u32, Proven))| {
                self.tries[index + 1..].iter().any(|(later, _)| later == rung)
            };
            let oldest = self.tries.iter().enumerate().find(again).map_or(0, |(index, _)| index);
            self.tries.remove(oldest);
        }
    }
}

/// A plan that is being carried out or proved.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// By which decision.
    pub decision: DecisionId,
    /// About which finding.
    pub finding: FindingId,
    /// Of which kind.
    pub kind: FindingKind,
    /// By which rule.
    pub rule: String,
    /// What is done.
    pub step: &'static str,
    /// How it is proved.
    pub verify: Verify,
    /// Whether its intent is durable. Without one nothing was handed over.
    pub begun: bool,
    pub(super) since: Proven,
}

/// A plan that waits for an operator's word, or has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// About which finding.
    pub finding: FindingId,
    /// What would be done.
    pub plan_hash: [u8; 32],
    /// The word, once it is there.
    pub answer: Option<Answer>,
    pub(super) at: Proven,
}

/// An operator's word about a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it may be carried out.
    pub approved: bool,
    /// Until when the word counts (wall clock).
    pub until_ms: i64,
    /// Whose word.
    pub by: Author,
}

/// An operator's hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) until_ms: Option<i64>,
    pub(super) by: Author,
}

/// What the collector said about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lease {
    Granted { until: Proven },
    Denied { until: Proven, text: String },
}

impl Book {
    /// Learns which boot this is. The record of the start does the same; call this where there is none yet.
    pub fn started(&mut self, boot: crate::id::BootId, now: Now) {
        if self.clock.boot != Some(boot) {
            self.leases.clear();
        }
        self.clock.started(boot, now);
    }

    /// Learns that the host is still up. Without it, time counts only up to the last record if the host goes down.
    pub fn saw(&mut self, now: Now) {
        self.clock.saw(now);
    }

    /// Takes what a record says. Records are to be applied once each, in their order, as soon as they are durable.
    pub fn apply(&mut self, record: &Record) {
        if let Body::Started { boot, .. } = &record.body {
            // The agent died between a decision and its intent: it was never begun, and occupies nothing.
            self.running.retain(|_, running| running.begun);
            return self.started(*boot, record.at);
        }
        self.clock.saw(record.at);
        match &record.body {
            Body::Decided(decision) => self.decided(decision, record.at),
            Body::Intent { decision, .. } => {
                if let Some(running) = self.running.values_mut().find(|running| running.decision == *decision) {
                    running.begun = true;
                }
            }
            Body::Outcome { decision, outcome, .. } if outcome.ended != Ended::Done => self.ended(*decision, false),
            Body::Verified { decision, verification } => self.ended(*decision, verification.recovered),
            Body::Answered { decision, approved, until_ms, by } => {
                if let Some(asked) = self.asked.get_mut(decision) {
                    asked.answer = Some(Answer { approved: *approved, until_ms: *until_ms, by: by.clone() });
                }
            }
            Body::Hold { scope, until_ms, held, by } => self.hold(scope, *until_ms, *held, by, record.at),
            Body::Started { .. } | Body::Outcome { .. } | Body::Policy { .. } => {}
            Body::Undone { .. } | Body::Learning { .. } => {}
        }
    }

    /// Takes the collector's grant: this host may act on findings of this kind for so long.
    pub fn lease_granted(&mut self, kind: FindingKind, ttl: Duration, now: Now) {
        let until = self.later(ttl, now);
        self.leases.insert(kind, Lease::Granted { until });
    }

    /// Takes the collector's refusal, and when it may be asked again.
    pub fn lease_denied(&mut self, kind: FindingKind, retry_after: Duration, text: &str, now: Now) {
        let until = self.later(retry_after, now);
        self.leases.insert(kind, Lease::Denied { until, text: text.to_owned() });
    }

    /// Plans that are being carried out or proved, by subject.
    pub fn running(&self) -> impl Iterator<Item = (&Subject, &Running)> {
        self.running.iter()
    }

    /// A decision that waits for an answer or has one.
    #[must_use]
    pub fn asked(&self, decision: DecisionId) -> Option<&Asked> {
        self.asked.get(&decision)
    }

    /// Every hold of an operator that stands: its scope, its end and who made it.
    pub fn holds(&self, now: Now) -> impl Iterator<Item = (&str, Option<i64>, &Author)> {
        let stands = move |held: &&Held| held.until_ms.is_none_or(|until| now.wall_ms < until);
        self.holds
            .iter()
            .map(|(scope, held)| (scope.as_str(), held))
            .filter(move |(_, held)| stands(held))
            .map(|(scope, held)| (scope, held.until_ms, &held.by))
    }

    /// How often a rule acted within the window of its budget.
    #[must_use]
    pub fn spent(&self, rule: &str, budget: Budget, now: Now) -> u32 {
        self.times.get(rule).map_or(0, |times| times.within(budget.per, &self.clock, now))
    }

    /// Proven time since a moment.
    pub(super) fn since(&self, moment: Proven, now: Now) -> Duration {
        self.clock.since(moment, now)
    }

    pub(super) fn acted(&self, rule: &str, subject: &Subject) -> Option<Acted> {
        self.acted.get(&key(rule, subject)).copied()
    }

    pub(super) fn episode(&self, rule: &str, subject: &Subject) -> Option<&Episode> {
        self.episodes.get(&key(rule, subject))
    }

    /// How long until a rule's budget has room again.
    pub(super) fn free_in(&self, rule: &str, budget: Budget, now: Now) -> Duration {
        self.times.get(rule).map_or(Duration::ZERO, |times| times.free_in(budget, &self.clock, now))
    }

    /// The plan that occupies a subject. One that should have ended long ago occupies nothing.
    pub(super) fn busy(&self, subject: &Subject, now: Now) -> Option<&Running> {
        self.running.get(subject).filter(|running| self.since(running.since, now) < time_max(running.verify))
    }

    /// The operator's word about this plan, if it still counts. A no outweighs a yes.
    pub(super) fn answer(&self, finding: FindingId, plan_hash: [u8; 32], now: Now) -> Option<&Answer> {
        let about = self.asked.values().filter(|asked| asked.finding == finding && asked.plan_hash == plan_hash);
        about
            .filter_map(|asked| asked.answer.as_ref())
            .filter(|answer| now.wall_ms < answer.until_ms)
            .min_by_key(|answer| answer.approved)
    }

    /// A hold over the fleet, this host or the subject.
    pub(super) fn held(&self, subject: &Subject, now: Now) -> Option<(&str, Option<i64>, &Author)> {
        self.holds(now).find(|(scope, ..)| match subject {
            Subject::Unit(unit) => is_wide(scope) || *scope == unit.as_str(),
            _ => is_wide(scope),
        })
    }

    /// What the collector said about acting on a kind, if it still counts.
    pub(super) fn lease(&self, kind: FindingKind, now: Now) -> Option<&Lease> {
        self.leases.get(&kind).filter(|lease| match lease {
            Lease::Granted { until } | Lease::Denied { until, .. } => self.clock.at(now) < *until,
        })
    }

    pub(super) fn left(&self, until: Proven, now: Now) -> Duration {
        Duration::from_nanos(until.saturating_sub(self.clock.at(now)))
    }

    fn later(&self, by: Duration, now: Now) -> Proven {
        self.clock.at(now).saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX))
    }

    fn decided(&mut self, decision: &Decision, at: Now) {
        let Some(rule) = &decision.rule else { return };
        match &decision.choice {
            Choice::Act(plan) => self.acted_on(decision, rule, plan, at),
            Choice::Hold { reason: HoldReason::NeedsApproval, would: Some(plan) } => {
                let at = self.clock.at(at);
                let asked = Asked { finding: decision.finding, plan_hash: plan.hash(), answer: None, at };
                insert_bounded(&mut self.asked, decision.id, asked, ASKED_MAX, |asked| asked.at);
            }
            Choice::Hold { .. } => {}
        }
    }

    fn acted_on(&mut self, decision: &Decision, rule: &str, plan: &Plan, now: Now) {
        let at = self.clock.at(now);
        let key = key(rule, &decision.subject);
        self.touch_episode(&key, decision, plan.rung, now);
        // An approval is for one time.
        self.asked.retain(|_, asked| asked.finding != decision.finding);
        let Some(step) = plan.steps.iter().map(|planned| &planned.step).find(|step| !step.is_message()) else { return };
        self.times.entry(rule.to_owned()).or_default().push(at);
        let failures = self.acted.get(&key).map_or(0, |acted| acted.failures);
        insert_bounded(&mut self.acted, key, Acted { at, failures }, KEYS_MAX, |acted| acted.at);
        let running = Running {
            decision: decision.id,
            finding: decision.finding,
            kind: decision.kind,
            rule: rule.to_owned(),
            step: step.kind(),
            verify: plan.verify,
            begun: false,
            since: at,
        };
        self.running.insert(decision.subject.clone(), running);
    }

    fn touch_episode(&mut self, key: &Key, decision: &Decision, rung: u32, now: Now) {
        let at = self.clock.at(now);
        let old = self.episodes.remove(key).filter(|old| {
            let quiet_for = self.clock.since(old.touched(), now);
            old.finding == decision.finding || !is_new_trouble(quiet_for, now.since(decision.opened))
        });
        let mut episode = old.unwrap_or(Episode { began: at, finding: decision.finding, tries: Vec::new() });
        episode.finding = decision.finding;
        episode.tried(rung, at);
        insert_bounded(&mut self.episodes, key.clone(), episode, KEYS_MAX, Episode::touched);
    }

    fn ended(&mut self, decision: DecisionId, recovered: bool) {
        let Some(subject) =
            self.running.iter().find(|(_, running)| running.decision == decision).map(|(s, _)| s.clone())
        else {
            return;
        };
        let Some(running) = self.running.remove(&subject) else { return };
        let key = (running.rule, subject);
        if recovered {
            self.episodes.remove(&key);
        }
        if let Some(acted) = self.acted.get_mut(&key) {
            acted.failures = if recovered { 0 } else { acted.failures.saturating_add(1) };
        }
    }

    fn hold(&mut self, scope: &str, until_ms: Option<i64>, held: bool, by: &Author, at: Now) {
        self.holds.retain(|_, held| held.until_ms.is_none_or(|until| at.wall_ms < until));
        if !held {
            self.holds.remove(scope);
        } else if is_wide(scope) || scope.parse::<UnitName>().is_ok() {
            // One with an end goes before one without.
            let end = |held: &Held| held.until_ms.map_or(u64::MAX, |until| until.max(0).unsigned_abs());
            insert_bounded(&mut self.holds, scope.to_owned(), Held { until_ms, by: by.clone() }, HOLDS_MAX, end);
        }
    }
}

fn key(rule: &str, subject: &Subject) -> Key {
    (rule.to_owned(), subject.clone())
}

/// Whether a hold of this scope is over everything on the host. Root's hold file is a fact, not a memory.
fn is_wide(scope: &str) -> bool {
    matches!(scope, "fleet" | "host")
}

/// How long a plan may be on its way before nothing waits for it any more.
fn time_max(verify: Verify) -> Duration {
    STEPS_TIME_MAX.saturating_add(verify.within).saturating_add(verify.stable_for)
}

fn insert_bounded<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: K, value: V, max: usize, age: impl Fn(&V) -> u64) {
    if map.len() >= max
        && !map.contains_key(&key)
        && let Some(oldest) = map.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| key.clone())
    {
        map.remove(&oldest);
    }
    map.insert(key, value);
}
