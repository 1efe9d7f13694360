//! One host of the world: the machine, its actuator, its disk and the agent that runs on it, with
//! what the shell does around it.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::agent::{Agent, Effect, Input, Restored, Settings, StepStatus, Token};
use mainstay_core::id::{ActionId, HostId, IdSource, Seq};
use mainstay_core::plan::Step;
use mainstay_core::record::{Body, Ended, Outcome, Record};
use mainstay_core::sample::HostFacts;

use super::actuator::{Actuator, Taken};
use super::check::Seen;
use super::machine::Machine;
use super::rng::Rng;
use super::spool::{Disk, Spooled};
use super::world::{Event, MILLI, SECOND, World};
use super::{Bug, Config};

/// Between two samples. The detectors take anything up to 15 s for one stretch.
const SAMPLE_EVERY: u64 = 5 * SECOND;

/// Between two keepings of the detectors' state.
const KEEP_EVERY: u64 = 60 * SECOND;

/// One host.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub id: HostId,
    /// The machine.
    pub machine: Machine,
    /// Its actuator.
    pub actuator: Actuator,
    /// Its ledger and spool.
    pub disk: Disk,
    /// Whether the ledger refuses writes.
    pub disk_full: bool,
    /// Messages in the outbox, by action.
    pub outbox: BTreeMap<ActionId, String>,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    /// Changes with every start: what was on its way to an earlier agent is lost.
    pub life: u64,
    /// The session with the collector, if there is one, and since when.
    pub session: Option<(u64, u64)>,
    /// What was sent in this session.
    pub sent: Seq,
    /// When the last wake-up is due.
    wake_at: Option<u64>,
    kept: Option<Vec<u8>>,
    policy: Option<Vec<u8>>,
    ids: IdSource,
    disk_busy_until: u64,
    /// When the last batch of the session arrives: one connection keeps the order.
    pub arrives_at: u64,
}

impl Node {
    /// A host with nothing on its disk.
    #[must_use]
    pub fn new(index: usize, config: &Config, rng: &mut Rng) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        Self {
            id: HostId(id),
            machine: Machine::booted(index as u64 + 1, 0, config.services()),
            actuator: Actuator::default(),
            disk: Disk::new(rng.next_u64()),
            disk_full: false,
            outbox: BTreeMap::new(),
            agent: None,
            life: 0,
            session: None,
            sent: Seq(0),
            wake_at: None,
            kept: None,
            policy: None,
            ids: IdSource::new(rng.next_u64()),
            disk_busy_until: 0,
            arrives_at: 0,
        }
    }

    fn settings(&mut self, config: &Config) -> Settings {
        let facts = HostFacts {
            hostname: format!("host-{}", u64::from_be_bytes(self.id.0[..8].try_into().unwrap_or_default())),
            boot: self.machine.boot,
            agent_version: "sim".to_owned(),
            ..HostFacts::default()
        };
        Settings { ids_seed: self.ids.next_u64(), host: Some(self.id), facts, ..config.settings() }
    }
}

impl World {
    /// The agent is started, with what its disk holds.
    pub(super) fn start(&mut self, node: usize) {
        let now = self.now(node);
        let forgets = self.has(Bug::ForgetsTheBook);
        let repeats = self.has(Bug::RepeatsIntents);
        let it = &mut self.nodes[node];
        if it.agent.is_some() {
            return;
        }
        it.life += 1;
        it.wake_at = None;
        let settings = it.settings(&self.config);
        it.disk.spool_records();
        let records = if forgets { Vec::new() } else { it.disk.ledger.clone() };
        let open = if repeats { without_outcome(&it.disk.ledger) } else { Vec::new() };
        let restored = Restored {
            detectors: it.kept.clone(),
            begins_ledger: it.disk.ledger.is_empty(),
            records,
            policy: it.policy.clone(),
            local_policy: Vec::new(),
            hold_file: false,
            stopped_cleanly: false,
        };
        it.agent = Some(Agent::new(settings, restored, now));
        let life = it.life;
        self.seen(node, &Seen::Started);
        for (action, step) in open {
            self.after(MILLI, Event::Request(node, life, action, Box::new(step), None));
        }
        self.after(KEEP_EVERY, Event::Keep(node, life));
        self.tell(node, life, Input::ActuatorAvailable(true));
        let wait = self.rng.between(0, 2 * SECOND);
        self.after(wait, Event::Connect(node, life));
    }

    /// The agent is gone, with everything that was on its way to it or to its disk.
    pub fn crash_agent(&mut self, node: usize, where_: &str) {
        if self.nodes[node].agent.take().is_none() {
            return;
        }
        self.seen(node, &Seen::Struck(format!("agent crashes {where_}")));
        self.nodes[node].life += 1;
        self.nodes[node].session = None;
        let down = self.rng.between(SECOND, 15 * SECOND);
        self.after(down, Event::Start(node));
    }

    /// The agent of this life hears something, and what it wants is set going.
    pub(super) fn tell(&mut self, node: usize, life: u64, input: Input) {
        let now = self.now(node);
        let it = &mut self.nodes[node];
        if it.life != life {
            return;
        }
        let Some(agent) = it.agent.as_mut() else { return };
        agent.handle(input, now);
        self.drain(node, life);
    }

    fn drain(&mut self, node: usize, life: u64) {
        while let Some(effect) = self.nodes[node].agent.as_mut().and_then(Agent::poll_effect) {
            self.carry_out(node, life, effect);
        }
        let wake = self.nodes[node].agent.as_ref().and_then(Agent::next_wakeup);
        let Some(wake) = wake.map(|boot_ns| boot_ns.saturating_sub(self.now(node).boot_ns)) else { return };
        let at = self.at + wake.max(MILLI);
        // Samples come anyway; only what is earlier needs a call of its own.
        if self.nodes[node].wake_at.is_none_or(|planned| at < planned || planned <= self.at) {
            self.nodes[node].wake_at = Some(at);
            self.after(wake.max(MILLI), Event::Wake(node, life));
        }
    }

    /// What the shell does.
    fn carry_out(&mut self, node: usize, life: u64, effect: Effect) {
        match effect {
            Effect::Persist { token, record } => {
                // One file, written in order.
                let latency = self.rng.between(MILLI, 6 * MILLI);
                let free = self.nodes[node].disk_busy_until.max(self.at) + latency;
                self.nodes[node].disk_busy_until = free;
                self.after(free - self.at, Event::Write(node, life, token, Box::new(record)));
            }
            Effect::Run { action, step, invocation, .. } => {
                self.seen(node, &Seen::HandedOver(action));
                let latency = self.rng.between(MILLI / 2, 3 * MILLI);
                self.after(latency, Event::Request(node, life, action, Box::new(step), invocation));
            }
            Effect::Notify { action, to, text, .. } => {
                let subject = text.lines().next().unwrap_or_default().to_owned();
                self.seen(node, &Seen::Told(to, subject));
                self.nodes[node].outbox.entry(action).or_insert(text);
                let outcome = done("in the outbox");
                self.after(2 * MILLI, Event::Tell(node, life, Box::new(Input::StepDone { action, outcome })));
            }
            Effect::AskStatus { action, step } => {
                let status = match step {
                    Step::Notify { .. } => match self.nodes[node].outbox.contains_key(&action) {
                        true => StepStatus::Ended(done("in the outbox")),
                        false => StepStatus::NeverSeen,
                    },
                    _ => self.nodes[node].actuator.status(action),
                };
                self.after(2 * MILLI, Event::Tell(node, life, Box::new(Input::StepStatus { action, status })));
            }
            Effect::Undo { action, .. } => {
                let outcome = done("brought back");
                self.after(2 * MILLI, Event::Tell(node, life, Box::new(Input::UndoDone { action, outcome })));
            }
            Effect::RequestLease { decision, kind, share, .. } => self.ask_lease(node, life, decision, kind, share),
            Effect::Emit(_) => {
                self.nodes[node].disk.put(Spooled::Sample);
                self.send_soon(node);
            }
            Effect::StorePolicy(bytes) => self.nodes[node].policy = Some(bytes),
            Effect::OrderDone { done, text, .. } => self.seen(node, &Seen::Answered(done, text)),
            Effect::StoreLearned(bytes) => self.nodes[node].kept = Some(bytes),
            Effect::ReadSnapshot { id, .. } => {
                let read = Err("simulated hosts keep no snapshots".to_owned());
                self.after(MILLI, Event::Tell(node, life, Box::new(Input::SnapshotRead { id, read })));
            }
            // What the flight recorder keeps changes nothing that is done.
            Effect::StoreChunk(_) | Effect::CutRecording { .. } => {}
            // Simulated agents use nothing.
            Effect::Read(_) => {}
            Effect::PolicyState(_) | Effect::SetProbes(_) | Effect::Status(_) | Effect::KeepSnapshot { .. } => {}
        }
    }

    /// A record reaches the disk, or does not. The agent may die just before or just after.
    pub(super) fn write(&mut self, node: usize, life: u64, token: Token, record: Record) {
        if self.nodes[node].life != life || self.crashes_here(node, "before a record is durable") {
            return;
        }
        if self.nodes[node].disk_full {
            let text = "no space left on device".to_owned();
            return self.tell(node, life, Input::PersistFailed { token, text });
        }
        self.nodes[node].disk.ledger.push(record.clone());
        self.seen(node, &Seen::Durable(record));
        if self.crashes_here(node, "after a record is durable") {
            return;
        }
        self.nodes[node].disk.spool_records();
        self.send_soon(node);
        self.tell(node, life, Input::Persisted { token });
    }

    /// The detectors' state is kept.
    pub(super) fn keep(&mut self, node: usize, life: u64) {
        if self.nodes[node].life == life {
            self.nodes[node].kept = self.nodes[node].agent.as_ref().map(Agent::snapshot);
            self.after(KEEP_EVERY, Event::Keep(node, life));
        }
    }

    /// The host is sampled.
    pub(super) fn sample(&mut self, node: usize) {
        self.after(SAMPLE_EVERY, Event::Sample(node));
        let at = self.at;
        let life = self.nodes[node].life;
        if self.nodes[node].agent.is_some() {
            let sample = self.nodes[node].machine.sample(at);
            self.tell(node, life, Input::Sample(Box::new(sample)));
        }
    }

    /// A request reaches the actuator.
    pub(super) fn request(&mut self, node: usize, life: u64, action: ActionId, step: &Step, meant: Option<[u8; 16]>) {
        if self.crashes_here(node, "after handing a step over") {
            // The request was sent: the actuator has it all the same.
        }
        if self.has(Bug::RepeatsIntents) {
            self.nodes[node].actuator.journal.remove(&action);
        }
        let it = &mut self.nodes[node];
        let runs = super::fault::unit_of(step).and_then(|unit| it.machine.services.get(&unit)?.unit.invocation);
        let another_runs = meant.is_some_and(|meant| runs.is_some_and(|runs| runs != meant));
        match it.actuator.take(action, step, another_runs) {
            Taken::Begun => {
                let wait = self.rng.between(MILLI, 20 * MILLI);
                self.after(wait, Event::Act(node, action));
            }
            Taken::Again => {}
            Taken::Known(outcome) => self.tell(node, life, Input::StepDone { action, outcome }),
        }
    }

    /// The rule and the kind behind an action, as the ledger has them.
    pub(super) fn decided(
        &self,
        node: usize,
        action: ActionId,
    ) -> Option<(String, mainstay_core::finding::FindingKind)> {
        let ledger = &self.nodes[node].disk.ledger;
        let decision = ledger.iter().rev().find_map(|record| match &record.body {
            Body::Intent { decision, action: id, .. } if *id == action => Some(*decision),
            _ => None,
        })?;
        ledger.iter().rev().find_map(|record| match &record.body {
            Body::Decided(decided) if decided.id == decision => Some((decided.rule.clone()?, decided.kind)),
            _ => None,
        })
    }
}

/// Intents of a ledger that have no outcome, for the bug that hands them over again.
fn without_outcome(ledger: &[Record]) -> Vec<(ActionId, Step)> {
    let ended: BTreeSet<ActionId> = ledger
        .iter()
        .filter_map(|record| match &record.body {
            Body::Outcome { action, .. } => Some(*action),
            _ => None,
        })
        .collect();
    let intent = |record: &Record| match &record.body {
        Body::Intent { action, step, .. } if !ended.contains(action) => Some((*action, step.clone())),
        _ => None,
    };
    ledger.iter().filter_map(intent).collect()
}

/// An outcome of a step that was carried out.
pub(super) fn done(text: &str) -> Outcome {
    Outcome { ended: Ended::Done, text: text.to_owned(), elapsed_ms: 2, freed_bytes: None }
}
