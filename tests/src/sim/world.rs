//! The world: hosts, a collector, one queue of events, one seed.
//!
//! Every agent is the real one ([`Agent`]); around it stands what the shell would be, with the
//! moments in between made explicit: a record is durable before the agent hears of it, a step is
//! carried out before its answer arrives, a batch is stored before it is acknowledged. At each of
//! these boundaries something may crash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;

use mainstay_core::agent::{Agent, Input};
use mainstay_core::id::{ActionId, HostId, Seq};
use mainstay_core::plan::Step;
use mainstay_core::policy::signed::Signed;
use mainstay_core::record::Record;
use mainstay_core::time::Now;
use sha2::{Digest, Sha256};

use super::check::{Checker, Seen};
use super::collector::{Batch, Collector};
use super::fault::{Fault, Trouble};
use super::node::Node;
use super::rng::Rng;
use super::{Bug, Config};

/// One second, in the nanoseconds of the simulation.
pub const SECOND: u64 = 1_000_000_000;

/// One millisecond.
pub const MILLI: u64 = 1_000_000;

/// Something that will happen.
#[derive(Debug, Clone)]
pub enum Event {
    /// The host is sampled.
    Sample(usize),
    /// The agent asked to be woken.
    Wake(usize, u64),
    /// The agent of this life hears something.
    Tell(usize, u64, Box<Input>),
    /// A record reaches the disk.
    Write(usize, u64, mainstay_core::agent::Token, Box<Record>),
    /// The detectors' state is kept.
    Keep(usize, u64),
    /// A request reaches the actuator; the life of the agent that asks.
    Request(usize, u64, ActionId, Box<Step>, Option<[u8; 16]>),
    /// A step begins to change the host.
    Act(usize, ActionId),
    /// A step ends.
    End(usize, ActionId, u64),
    /// The agent is started.
    Start(usize),
    /// The agent tries to reach the collector.
    Connect(usize, u64),
    /// The host sends what it has, if it may.
    Send(usize, u64),
    /// A batch arrives at the collector.
    Arrive(usize, u64, Box<Batch>),
    /// A batch reaches the collector's disk.
    Commit(usize, u64, u64, Box<Batch>),
    /// An acknowledgement arrives at the host.
    Ack(usize, u64, Seq),
    /// A service dies of itself: the host, the unit, which start of it.
    Dies(usize, String, u64),
    /// Something goes wrong with a host.
    Trouble(usize, Trouble),
    /// Something goes wrong with the machinery.
    Fault(Fault),
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// What this world is.
    pub config: Config,
    /// True time, in nanoseconds.
    pub at: u64,
    /// The source of chance.
    pub rng: Rng,
    /// The hosts.
    pub nodes: Vec<Node>,
    /// The collector.
    pub collector: Collector,
    /// Since when the collector has been up; 0 if it never was down.
    pub collector_since: u64,
    /// Hosts that nothing reaches until then.
    pub cut: BTreeMap<usize, u64>,
    /// What watches.
    pub checker: Checker,
    /// What was seen, where it is kept: when, on which host, what.
    pub history: Option<Vec<(u64, usize, Seen)>>,
    /// The policy that the collector offers.
    pub policy: Signed,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    serial: u64,
    trace: Sha256,
    calm: bool,
}

impl World {
    /// A world at its beginning: every host's agent is about to start.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let nodes: Vec<Node> = (0..config.hosts).map(|index| Node::new(index, &config, &mut rng)).collect();
        let mut world = Self {
            at: 0,
            nodes,
            collector: Collector { up: true, ..Collector::default() },
            collector_since: 0,
            cut: BTreeMap::new(),
            checker: Checker::new(config.bounds()),
            history: None,
            policy: config.signed_policy(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            serial: 0,
            trace: Sha256::new(),
            calm: true,
            rng,
            config,
        };
        for node in 0..world.nodes.len() {
            let offset = world.rng.between(0, 5 * SECOND);
            world.after(offset, Event::Start(node));
            world.after(offset + MILLI, Event::Sample(node));
        }
        world
    }

    /// Lets an event happen `delay` nanoseconds from now.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((self.at + delay, self.serial)));
        self.events.insert(self.serial, event);
    }

    /// Lets everything happen that happens within the next `nanos`.
    pub fn run_for(&mut self, nanos: u64) {
        let until = self.at + nanos;
        while let Some(Reverse((at, serial))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.at = at;
            if let Some(event) = self.events.remove(&serial) {
                self.happen(event);
            }
        }
        self.at = until;
    }

    /// From now on nothing new goes wrong, and everything that is down comes up again.
    pub fn heal(&mut self) {
        self.calm = true;
        self.cut.clear();
        for node in &mut self.nodes {
            node.disk_full = false;
        }
        if !self.collector.up {
            self.collector.up = true;
        }
    }

    /// From now on things go wrong at the boundaries, as the configuration says.
    pub fn turn_rough(&mut self) {
        self.calm = false;
    }

    /// Whether nothing is to go wrong: before and after the rough time.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.calm
    }

    /// Whether every agent has told everything and has nothing under way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| node.disk.is_drained() && node.agent.as_ref().is_some_and(Agent::is_settled))
    }

    /// Compares, host by host, what was written with what was stored.
    pub fn check_delivery(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let stored = self.collector.stored.get(&node.id).map_or(&[][..], |stored| &stored.records);
            self.checker.delivered(index, &node.disk.ledger, stored);
        }
    }

    /// The hash over everything that was seen.
    #[must_use]
    pub fn trace_hash(&self) -> String {
        self.trace.clone().finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Notes what was seen on a host: in the trace, and for the checkers.
    pub fn seen(&mut self, host: usize, seen: &Seen) {
        let line = format!("{:>12} {host:>3} {seen:?}", self.at / 1_000);
        self.trace.update(line.as_bytes());
        if let Some(history) = &mut self.history {
            history.push((self.at, host, seen.clone()));
        }
        self.checker.see(self.at, host, seen);
    }

    /// The moment on the clocks of a host.
    #[must_use]
    pub fn now(&self, node: usize) -> Now {
        self.nodes[node].machine.now(self.at)
    }

    /// The collector's clocks: a machine of its own, always right.
    #[must_use]
    pub fn collector_now(&self) -> Now {
        Now { boot_ns: self.at + 1_000 * SECOND, wall_ms: i64::try_from(self.at / MILLI).unwrap_or(i64::MAX) }
    }

    /// Whether a host and the collector reach each other.
    #[must_use]
    pub fn reaches(&self, node: usize) -> bool {
        self.collector.up && self.cut.get(&node).is_none_or(|until| *until <= self.at)
    }

    /// Whether a bug was planted.
    #[must_use]
    pub fn has(&self, bug: Bug) -> bool {
        self.config.bug == Some(bug)
    }

    /// The hosts by their ids.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<HostId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// Draws whether the agent crashes at a boundary, and lets it.
    pub fn crashes_here(&mut self, node: usize, boundary: &str) -> bool {
        if self.calm || !self.rng.once_in(self.config.crash_once_in) {
            return false;
        }
        self.crash_agent(node, boundary);
        true
    }

    /// What happens.
    fn happen(&mut self, event: Event) {
        match event {
            Event::Sample(node) => self.sample(node),
            Event::Wake(node, life) => self.tell(node, life, Input::Tick),
            Event::Tell(node, life, input) => self.tell(node, life, *input),
            Event::Write(node, life, token, record) => self.write(node, life, token, *record),
            Event::Keep(node, life) => self.keep(node, life),
            Event::Request(node, life, action, step, meant) => self.request(node, life, action, &step, meant),
            Event::Act(node, action) => self.act(node, action),
            Event::End(node, action, took) => self.end(node, action, took),
            Event::Start(node) => self.start(node),
            Event::Connect(node, life) => self.connect(node, life),
            Event::Send(node, session) => self.send(node, session),
            Event::Arrive(node, session, batch) => self.arrive(node, session, batch),
            Event::Commit(node, session, life, batch) => self.commit(node, session, life, &batch),
            Event::Ack(node, session, upto) => self.ack(node, session, upto),
            Event::Dies(node, unit, start) => self.dies(node, &unit, start),
            Event::Trouble(node, trouble) => self.trouble(node, trouble),
            Event::Fault(fault) => self.fault(&fault),
        }
    }
}
