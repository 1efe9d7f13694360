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
//! ledger after a crash. `offer` takes policies, `orders` what operators sign.

mod effect;
mod input;

use std::collections::VecDeque;

use crate::detect::{self, Detectors};
use crate::id::{HostId, IdSource};
use crate::record::Record;
use crate::sample::HostFacts;
use crate::time::Now;

pub use effect::{Effect, Item, PolicyState, Status};
pub use input::{Input, OrderId, Signed, SourceFile, StepStatus, Token};

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
    /// The operators' public keys that this host was enrolled with (Ed25519, 32 bytes each).
    pub operator_keys: Vec<[u8; 32]>,
    /// The fleet that this host was enrolled in; a bundle for another is refused.
    pub fleet: [u8; 16],
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
}

/// The state machine of one host.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    ids: IdSource,
    detectors: Detectors,
    effects: VecDeque<Effect>,
    hold_file: bool,
    actuator: bool,
    uplink: bool,
    status: Status,
}

impl Agent {
    /// Starts, with what the agent before left behind. Its intents without an outcome are asked
    /// after before anything else is done about their subjects.
    #[must_use]
    pub fn new(settings: Settings, restored: Restored, now: Now) -> Self {
        let mut ids = IdSource::new(settings.ids_seed);
        let seed = ids.next_u64();
        let detectors = match restored.detectors.as_deref() {
            Some(bytes) => Detectors::restore(bytes, settings.detect.clone(), seed, now)
                .unwrap_or_else(|_| Detectors::new(settings.detect.clone(), seed)),
            None => Detectors::new(settings.detect.clone(), seed),
        };
        Self {
            ids,
            detectors,
            effects: VecDeque::new(),
            hold_file: restored.hold_file,
            actuator: false,
            uplink: false,
            status: Status::default(),
            settings,
        }
    }

    /// Takes one thing that happened. `now` is when the shell saw it.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Sample(sample) => {
                for event in self.detectors.observe_sample(&sample, now) {
                    self.effects.push_back(Effect::Emit(Item::Finding(event.finding)));
                }
            }
            Input::UnitChanged { name, unit } => {
                for event in self.detectors.observe_unit(&name, unit.as_deref(), now) {
                    self.effects.push_back(Effect::Emit(Item::Finding(event.finding)));
                }
            }
            Input::HoldFile(present) => self.hold_file = present,
            Input::ActuatorAvailable(available) => self.actuator = available,
            Input::UplinkUp => self.uplink = true,
            Input::UplinkDown => self.uplink = false,
            _ => {}
        }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Agent::handle`] with [`Input::Tick`] at the latest, on the boot clock in
    /// nanoseconds. `None` while there is nothing to wait for but inputs.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<u64> {
        None
    }

    /// Where the agent stands, in short.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What was learned, to be given back as [`Restored::detectors`]. The shell keeps it now and
    /// then and when it stops.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.detectors.snapshot()
    }

    /// Whether everything that happened is durable and nothing is under way: the shell may stop
    /// without leaving work to recovery.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.effects.is_empty()
    }
}
