//! What goes wrong: with the hosts, which the agents are to heal, and with the machinery, which
//! they are to survive.

use mainstay_core::id::ActionId;
use mainstay_core::plan::Step;
use mainstay_core::record::{Ended, Outcome};
use mainstay_core::sample::ActiveState;
use mainstay_core::subject::UnitName;

use super::check::Seen;
use super::machine::Nature;
use super::node::done;
use super::world::{Event, MILLI, SECOND, World};

/// Something goes wrong with a host.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// A service is killed.
    Kill(UnitName),
    /// A service stops answering.
    Freeze(UnitName),
    /// The disk fills, to this many per mille.
    Fill(u64),
}

/// Something goes wrong with the machinery.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The agent of a host crashes.
    Agent(usize),
    /// The actuator of a host crashes.
    Actuator(usize),
    /// A host goes down and comes up again.
    Reboot(usize),
    /// The wall clock of a host jumps by so many milliseconds.
    Clock(usize, i64),
    /// The ledger of a host refuses writes for so long.
    DiskFull(usize, u64),
    /// The ledger of a host takes writes again.
    DiskFree(usize),
    /// Nothing reaches these hosts for so long: from the first to before the second.
    Partition(usize, usize, u64),
    /// The collector crashes, and is back after so long.
    Collector(u64),
    /// The collector is back.
    CollectorBack,
}

impl World {
    /// Something goes wrong with a host, and systemd tells the agent.
    pub(super) fn trouble(&mut self, node: usize, trouble: Trouble) {
        self.seen(node, &Seen::Struck(format!("{trouble:?}")));
        match trouble {
            Trouble::Fill(permille) => self.nodes[node].machine.used_permille = permille,
            Trouble::Freeze(unit) => {
                if let Some(service) = self.nodes[node].machine.services.get_mut(&unit) {
                    service.frozen = service.unit.active == ActiveState::Active;
                }
            }
            Trouble::Kill(unit) => {
                if let Some(service) = self.nodes[node].machine.services.get_mut(&unit) {
                    service.died(true);
                }
                self.unit_changed(node, &unit);
            }
        }
    }

    /// A service dies of itself, if it is still that start of it.
    pub(super) fn dies(&mut self, node: usize, unit: &str, start: u64) {
        let Ok(unit) = unit.parse::<UnitName>() else { return };
        let Some(service) = self.nodes[node].machine.services.get_mut(&unit) else { return };
        if service.starts == start && service.unit.active == ActiveState::Active {
            service.died(false);
            self.unit_changed(node, &unit);
        }
    }

    /// systemd signals a change.
    fn unit_changed(&mut self, node: usize, unit: &UnitName) {
        let it = &self.nodes[node];
        let Some(service) = it.machine.services.get(unit) else { return };
        let input =
            mainstay_core::agent::Input::UnitChanged { name: unit.clone(), unit: Some(Box::new(service.unit.clone())) };
        let life = it.life;
        self.after(2 * MILLI, Event::Tell(node, life, Box::new(input)));
    }

    /// A step begins to change the host.
    pub(super) fn act(&mut self, node: usize, action: ActionId) {
        let Some(entry) = self.nodes[node].actuator.journal.get(&action) else { return };
        if !entry.alive {
            return; // the actuator died between taking it and beginning
        }
        let step = entry.step.clone();
        let (rule, kind) = self
            .decided(node, action)
            .unwrap_or_else(|| ("?".to_owned(), mainstay_core::finding::FindingKind::AgentDegraded));
        let connected = self.is_connected(node);
        self.seen(node, &Seen::Acted { action, rule, kind, connected });
        if let Some(unit) = unit_of(&step) {
            if let Some(service) = self.nodes[node].machine.services.get_mut(&unit) {
                service.starting();
            }
            self.unit_changed(node, &unit);
        }
        let took = self.rng.between(50 * MILLI, SECOND);
        self.after(took, Event::End(node, action, took));
    }

    /// A step ends.
    pub(super) fn end(&mut self, node: usize, action: ActionId, took: u64) {
        let Some(entry) = self.nodes[node].actuator.journal.get(&action).cloned() else { return };
        let mut outcome = done("done");
        if let Some(unit) = unit_of(&entry.step) {
            // systemd finishes the job, whether or not the actuator lives to see it.
            outcome = self.unit_started(node, &unit);
        } else if let (Step::DiskReclaim(reclaim), true) = (&entry.step, entry.alive) {
            let machine = &mut self.nodes[node].machine;
            let target = permille(reclaim.until_used_ratio);
            machine.used_permille = machine.used_permille.min(target.saturating_sub(10));
        }
        outcome.elapsed_ms = took / MILLI;
        if entry.alive {
            self.nodes[node].actuator.ended(action, outcome.clone());
            let life = self.nodes[node].life;
            if self.crashes_here(node, "before the answer of a step arrives") {
                return;
            }
            let input = mainstay_core::agent::Input::StepDone { action, outcome };
            self.after(MILLI, Event::Tell(node, life, Box::new(input)));
        }
    }

    fn unit_started(&mut self, node: usize, unit: &UnitName) -> Outcome {
        let mut outcome = done("job done");
        if let Some(service) = self.nodes[node].machine.services.get_mut(unit) {
            service.started();
            let start = service.starts;
            match service.nature {
                Nature::Sound => {}
                Nature::DiesAfter(time) => {
                    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    self.after(nanos, Event::Dies(node, unit.to_string(), start));
                }
                Nature::Broken => {
                    service.died(false);
                    outcome.ended = Ended::Failed;
                    outcome.text = "job failed: exit code 1".to_owned();
                }
            }
        }
        self.unit_changed(node, unit);
        outcome
    }

    /// Something goes wrong with the machinery.
    pub(super) fn fault(&mut self, fault: &Fault) {
        if self.is_calm() && !matches!(fault, Fault::DiskFree(_) | Fault::CollectorBack) {
            return;
        }
        let host = match fault {
            Fault::Agent(n) | Fault::Actuator(n) | Fault::Reboot(n) | Fault::Clock(n, _) => *n,
            Fault::DiskFull(n, _) | Fault::DiskFree(n) | Fault::Partition(n, ..) => *n,
            Fault::Collector(_) | Fault::CollectorBack => 0,
        };
        self.seen(host, &Seen::Struck(format!("{fault:?}")));
        match fault {
            Fault::Agent(node) => self.crash_agent(*node, "at any moment"),
            Fault::Actuator(node) => self.actuator_crashes(*node),
            Fault::Reboot(node) => self.reboots(*node),
            Fault::Clock(node, by_ms) => self.nodes[*node].machine.wall_off_ms += by_ms,
            Fault::DiskFull(node, nanos) => {
                self.nodes[*node].disk_full = true;
                self.after(*nanos, Event::Fault(Fault::DiskFree(*node)));
            }
            Fault::DiskFree(node) => self.nodes[*node].disk_full = false,
            Fault::Partition(first, last, nanos) => {
                let until = self.at + nanos;
                self.cut.extend((*first..(*last).min(self.nodes.len())).map(|node| (node, until)));
            }
            Fault::Collector(nanos) => {
                self.collector.up = false;
                self.collector.life += 1;
                for node in 0..self.nodes.len() {
                    self.disconnect(node);
                }
                self.after(*nanos, Event::Fault(Fault::CollectorBack));
            }
            Fault::CollectorBack => {
                self.collector.up = true;
                self.collector_since = self.at;
            }
        }
    }

    /// How long the collector has been up.
    pub(super) fn collector_up_for(&self) -> u64 {
        if self.collector_since == 0 { u64::MAX } else { self.at.saturating_sub(self.collector_since) }
    }

    fn actuator_crashes(&mut self, node: usize) {
        self.nodes[node].actuator.crash();
        let life = self.nodes[node].life;
        let tell = |up| Box::new(mainstay_core::agent::Input::ActuatorAvailable(up));
        self.after(MILLI, Event::Tell(node, life, tell(false)));
        self.after(SECOND, Event::Tell(node, life, tell(true)));
    }

    fn reboots(&mut self, node: usize) {
        self.crash_agent(node, "in a reboot");
        self.nodes[node].actuator.crash();
        let at = self.at + SECOND / 2; // the agent comes back later than this
        self.nodes[node].machine.reboot(at);
        let starts: Vec<_> = self.nodes[node]
            .machine
            .services
            .iter()
            .filter_map(|(name, service)| match service.nature {
                Nature::DiesAfter(time) => Some((name.to_string(), service.starts, time)),
                Nature::Sound | Nature::Broken => None,
            })
            .collect();
        for (unit, start, time) in starts {
            let nanos = SECOND + u64::try_from(time.as_nanos()).unwrap_or(0);
            self.after(nanos, Event::Dies(node, unit, start));
        }
    }
}

fn permille(ratio: f64) -> u64 {
    (0..=1_000u32).rev().find(|n| f64::from(*n) <= ratio * 1_000.0).map_or(0, u64::from)
}

pub(super) fn unit_of(step: &Step) -> Option<UnitName> {
    match step {
        Step::UnitRestart { unit, .. } | Step::UnitStart { unit, .. } => Some(unit.clone()),
        Step::UnitStop { .. } | Step::UnitReload { .. } | Step::DiskReclaim(_) | Step::Notify { .. } => None,
    }
}
