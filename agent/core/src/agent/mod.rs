//! The agent as a state machine: what happened goes in, what is to be done comes out.
//!
//! The shell is a loop: [`Agent::handle`] for everything that happens, then every
//! [`Agent::poll_effect`], then sleep until [`Agent::next_wakeup`]. Nothing here waits, reads or
//! writes. The one invariant that everything else serves: [`Effect::Run`] comes only after the
//! ledger answered [`Input::Persisted`] for the intent of that very action, and never twice for
//! one action id.
//!
//! Files in the order in which a finding passes through them: `evaluate` asks `decide` and records
//! what it says, `journal` keeps what is on its way into the ledger, `flow` is a plan on its way,
//! `act` moves flows, `proof` says whether a plan helped, `recover` rebuilds all this from the
//! ledger after a crash. `offer` takes policies, `orders` what operators sign, `learning` what they
//! order about what was learned. `budget` reads less of the host while the agent takes too much of it.

mod act;
mod budget;
mod effect;
mod evaluate;
mod flow;
mod input;
mod journal;
mod learning;
mod message;
mod offer;
mod orders;
mod proof;
mod recover;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::budget::{Budget, Limits, Reading};
use crate::decide::Book;
use crate::decision::Decision;
use crate::detect::learned::Learned;
use crate::detect::{self, Change, Detectors, FindingEvent};
use crate::finding::FindingKind;
use crate::id::{ActionId, DecisionId, HostId, IdSource};
use crate::policy::signed::TrustedKeys;
use crate::readings::readings_after;
use crate::record::{Author, Body, Record};
use crate::recording::{Recorder, TakenDown, Windows};
use crate::sample::{HostFacts, Sample};
use crate::subject::Subject;
use crate::summary::SummaryBuilder;
use crate::time::Now;

pub use effect::{Effect, InForce, Item, PolicyState, Status};
pub use input::{Input, OrderId, SourceFile, StepStatus, Token};

use evaluate::Asking;
use flow::Flow;
use journal::{Journal, Waiting};
use learning::Learning;
use offer::Policies;

/// The series that says how much longer the host is learned before anything unusual is told.
pub const LEARNING_SECONDS: &str = "mainstay_agent_learning_seconds";

/// Root's hold file, as it is named to people.
const HOLD_FILE: &str = "/etc/mainstay/hold";

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed of every identifier: drawn by the shell from the kernel at every start.
    pub ids_seed: u64,
    /// Who this host is; `None` before it is enrolled.
    pub host: Option<HostId>,
    /// The boot, the version, and the labels that signed rules select hosts by.
    pub facts: HostFacts,
    /// Thresholds of the detectors, as agent.toml sets them.
    pub detect: detect::Settings,
    /// What the agent may take of its host.
    pub budget: Limits,
    /// The operators' public keys that this host was enrolled with.
    pub operator_keys: TrustedKeys,
    /// The fleet that this host was enrolled in; a bundle for another is refused.
    pub fleet: [u8; 16],
    /// Why the agent starts observing only, if so: it crashed again and again, its ledger is
    /// damaged.
    pub observe_only: Option<String>,
}

/// What was kept over a restart. All of it may be missing.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// [`Agent::snapshot`] of the agent before.
    pub detectors: Option<Vec<u8>>,
    /// The ledger, oldest first: as far back as budgets look (30 days), or all of it.
    pub records: Vec<Record>,
    /// The bytes of the last [`Effect::StorePolicy`].
    pub policy: Option<Vec<u8>>,
    /// Root's files in `/etc/mainstay/policy.d`.
    pub local_policy: Vec<SourceFile>,
    /// Whether root's hold file exists.
    pub hold_file: bool,
    /// Whether the agent before was stopped on request, and did not crash.
    pub stopped_cleanly: bool,
    /// Whether the ledger begins with this start: the host has been enrolled since. What was decided before stands in
    /// another ledger, so what stands now is decided anew, for those who read this one.
    pub begins_ledger: bool,
}

/// The state machine of one host.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    ids: IdSource,
    detectors: Detectors,
    summary: SummaryBuilder,
    recorder: Recorder,
    windows: Windows,
    policy: Policies,
    book: Book,
    journal: Journal,
    flows: BTreeMap<DecisionId, Flow>,
    /// The last decision about each finding that stands.
    said: BTreeMap<(FindingKind, Subject), Decision>,
    /// Leases that were asked for.
    asking: BTreeMap<FindingKind, Asking>,
    /// Undos that were handed over.
    undoing: BTreeMap<ActionId, Undoing>,
    learning: Learning,
    budget: Budget,
    /// What the shell was last told to read.
    reading: Reading,
    effects: VecDeque<Effect>,
    /// A sample that nobody needs any more.
    spare: Option<Box<Sample>>,
    hold_file: bool,
    actuator: bool,
    uplink: bool,
    status: Status,
}

/// An undo on its way.
#[derive(Debug)]
struct Undoing {
    of: ActionId,
    order: Option<OrderId>,
    by: Author,
}

impl Agent {
    /// Starts, with what the agent before left behind. Its intents without an outcome are asked
    /// after before anything else is done about their subjects.
    #[must_use]
    pub fn new(settings: Settings, restored: Restored, now: Now) -> Self {
        let mut ids = IdSource::new(settings.ids_seed);
        let seed = ids.next_u64();
        let saved = restored.detectors.as_deref();
        let detectors = Detectors::restore_or_new(saved, settings.detect.clone(), seed, now);
        let mut book = Book::default();
        for record in &restored.records {
            book.apply(record);
        }
        let mut agent = Self {
            ids,
            detectors,
            summary: SummaryBuilder::default(),
            recorder: Recorder::new(settings.facts.boot),
            windows: Windows::new(settings.facts.boot),
            policy: Policies::restored(&settings, &restored, now),
            book,
            journal: Journal::default(),
            flows: BTreeMap::new(),
            said: if restored.begins_ledger { BTreeMap::new() } else { last_said(&restored.records) },
            asking: BTreeMap::new(),
            undoing: BTreeMap::new(),
            learning: Learning::restored(&restored.records, now),
            budget: Budget::new(settings.budget),
            reading: Reading::default(),
            effects: VecDeque::new(),
            spare: None,
            hold_file: restored.hold_file,
            actuator: false,
            uplink: false,
            status: Status::default(),
            settings,
        };
        let facts = &agent.settings.facts;
        agent.book.started(facts.boot, now);
        let started = Body::Started { boot: facts.boot, version: facts.agent_version.clone() };
        agent.record(started, now);
        agent.recover(&restored.records, now);
        agent.policy_changed();
        agent.tell_standing(now);
        agent.advance(now);
        agent
    }

    /// Tells what is still wrong from before the start: nobody who listens from now on has heard of it.
    fn tell_standing(&mut self, now: Now) {
        let standing: Vec<_> = self.detectors.open_findings().cloned().collect();
        for finding in &standing {
            if let Some(unit) = self.windows.standing(finding, now) {
                self.recorder.follow(unit);
            }
        }
        self.effects.extend(standing.into_iter().map(|finding| Effect::Emit(Item::Finding(finding))));
    }

    /// Takes one thing that happened. `now` is when the shell saw it.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            // Nothing else follows from it, and it comes every second.
            Input::Used(usage) => return self.used(usage, now),
            Input::Sample(sample) => self.sampled(sample, now),
            Input::UnitChanged { name, unit } => {
                let events = self.detectors.observe_unit(&name, unit.as_deref(), now);
                self.found(events, now);
            }
            Input::Persisted { token } => self.persisted(token, now),
            Input::PersistFailed { token, text } => self.persist_failed(token, text, now),
            Input::StepDone { action, outcome } => self.step_done(action, outcome, now),
            Input::StepStatus { action, status } => self.step_status(action, status, now),
            Input::UndoDone { action, outcome } => self.undo_done(action, outcome, now),
            Input::PolicyOffered(signed) => self.policy_offered(&signed, now),
            Input::BudgetChanged(limits) => self.budget.set_limits(limits),
            Input::LocalPolicyChanged(files) => self.local_policy_changed(&files, now),
            Input::Order { id, signed } => self.ordered(id, &signed, now),
            Input::SnapshotRead { id, read } => self.snapshot_read(id, read, now),
            Input::UndoRequested { action, by } => self.undo(None, action, by),
            Input::HoldFile(present) => self.hold_file_seen(present, now),
            Input::ActuatorAvailable(available) => self.actuator_available(available, now),
            Input::LeaseGranted { decision, expires_in } => self.lease_answered(decision, Ok(expires_in), now),
            Input::LeaseDenied { decision, text } => self.lease_answered(decision, Err(text), now),
            Input::UplinkUp => self.uplink_changed(true),
            Input::UplinkDown => self.uplink_changed(false),
            Input::Tick => {}
        }
        self.advance(now);
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Agent::handle`] with [`Input::Tick`] at the latest, on the boot clock in
    /// nanoseconds. `None` while there is nothing to wait for but inputs.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<u64> {
        let flows = self.flows.values().filter_map(Flow::wakeup);
        flows.chain(self.journal.wakeup()).chain(self.leases_wakeup()).chain(self.policy.wakeup()).min()
    }

    /// A sample that nobody needs any more, whose room the next one can have: most of it is the same.
    pub fn spare(&mut self) -> Option<Box<Sample>> {
        self.spare.take()
    }

    /// Where the agent stands, in short.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What of [`Restored::detectors`] could not be used, in words: the shell says so and sets those
    /// bytes aside before it writes new ones.
    #[must_use]
    pub fn relearning(&self) -> &[String] {
        self.detectors.relearning()
    }

    /// What was learned, for people.
    #[must_use]
    pub fn learned(&self) -> Learned {
        self.detectors.learned()
    }

    /// How much longer the host is learned before anything unusual is told; `None`: it is known.
    #[must_use]
    pub fn learning(&self) -> Option<Duration> {
        self.detectors.learning()
    }

    /// What was learned, to be given back as [`Restored::detectors`]. The shell keeps it now and
    /// then and when it stops.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.detectors.snapshot()
    }

    /// What was recorded, and what is still to be cut out of it.
    #[must_use]
    pub fn recorder(&self) -> (&Recorder, &Windows) {
        (&self.recorder, &self.windows)
    }

    /// What the agent takes of its host, and how much of it it reads.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether everything that happened is durable and nothing is under way: the shell may stop
    /// without leaving work to recovery.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.journal.is_settled() && self.flows.values().all(|flow| flow.running().is_none())
    }

    /// What follows from whatever happened, and from the time that has passed.
    fn advance(&mut self, now: Now) {
        for record in self.journal.due(now) {
            self.offer(record, Waiting::Nobody);
        }
        self.ask_overdue(now);
        self.prove(now);
        self.give_up_leases(now);
        self.try_policy(now);
        self.evaluate(now);
        self.cut_windows(now);
        self.tell_status();
    }

    fn sampled(&mut self, sample: Box<Sample>, now: Now) {
        // First, so that the sample in which a finding opens is recorded when it does.
        self.record_sample(&sample);
        let is_due = self.summary.is_due(now);
        if let Some(background) = sample.background.as_ref().filter(|_| is_due) {
            self.summary.add_background(background, now);
        }
        let events = self.detectors.judge(&sample, now);
        self.spare = self.detectors.keep(sample);
        self.found(events, now);
        self.flows_sampled(now);
        self.book.saw(now);
        self.summary.add_own(LEARNING_SECONDS, self.detectors.learning().map_or(0.0, |left| left.as_secs_f64()));
        if is_due {
            let summary = self.summary.take(now);
            self.effects.push_back(Effect::Emit(Item::Summary(summary)));
        }
    }

    /// Takes down what is sent and what is recorded of a sample.
    fn record_sample(&mut self, sample: &Sample) {
        let Self { summary, recorder, effects, .. } = self;
        summary.begin(sample.at);
        if let Some(chunk) = recorder.begin(sample, summary.layout()) {
            effects.push_back(Effect::StoreChunk(chunk));
        }
        readings_after(self.detectors.previous(), sample, &mut TakenDown { summary, recorder });
    }

    /// Hands out the windows whose seconds are all recorded.
    fn cut_windows(&mut self, now: Now) {
        while let Some(window) = self.windows.due(now) {
            let (window, tail) = (Box::new(window), self.recorder.tail());
            self.effects.push_back(Effect::CutRecording { window, tail });
        }
    }

    /// Findings changed: they are told, and flows learn whether their trouble is over.
    fn found(&mut self, events: Vec<FindingEvent>, now: Now) {
        for event in events {
            if event.change == Change::Opened
                && let Some(unit) = self.windows.opened(&event.finding, now)
            {
                self.recorder.follow(unit);
            }
            let cleared = (event.change == Change::Cleared).then_some(now);
            for flow in self.flows.values_mut() {
                if flow.kind == event.finding.kind && flow.subject == event.finding.subject {
                    flow.found(cleared, event.change == Change::Opened, now);
                }
            }
            self.effects.push_back(Effect::Emit(Item::Finding(event.finding)));
        }
    }

    /// Records something that has happened: it is offered until the ledger takes it.
    fn record(&mut self, body: Body, now: Now) {
        self.offer(Record { at: now, body }, Waiting::Nobody);
    }

    fn offer(&mut self, record: Record, waiting: Waiting) -> Token {
        let token = self.journal.offer(record.clone(), waiting);
        self.effects.push_back(Effect::Persist { token, record });
        token
    }

    fn tell_status(&mut self) {
        let held = if self.hold_file {
            Some(HOLD_FILE.to_owned())
        } else {
            self.journal.error().map(|error| format!("ledger cannot be written: {error}"))
        };
        let status = Status {
            in_force: self.policy.in_force,
            findings_open: self.detectors.open_findings().count(),
            acting: self.flows.len(),
            held,
            uplink: self.uplink,
            learning_hours: self.detectors.learning().map(|left| left.as_secs().div_ceil(3_600)),
            steps_down: self.budget.depth().steps(),
        };
        if status != self.status {
            self.status = status.clone();
            self.effects.push_back(Effect::Status(status));
        }
    }
}

/// The last decision about each kind of trouble with each subject, so that a restart repeats none.
fn last_said(records: &[Record]) -> BTreeMap<(FindingKind, Subject), Decision> {
    let mut said = BTreeMap::new();
    for record in records {
        if let Body::Decided(decision) = &record.body {
            said.insert((decision.kind, decision.subject.clone()), (**decision).clone());
        }
    }
    said
}

#[cfg(test)]
mod learning_tests;
#[cfg(test)]
mod tests;
