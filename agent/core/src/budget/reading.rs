//! What is read of the host on a step.

use std::time::Duration;

use super::Depth;
use crate::decision::Mode;
use crate::finding::FindingKind;
use crate::policy::{Glob, Policy, RungAction};
use crate::subject::UnitName;

/// On the slower steps a sample is taken at every so many ticks ...
const SLOWER: u32 = 5;

/// ... as long as samples are not further apart than this: detectors take two samples with more between them for two
/// stretches of time, and ten seconds is what agent.toml may ask for.
const APART_MAX: Duration = Duration::from_secs(10);

/// What is found by what a unit's cgroup and its processes show.
const BY_CGROUP: [FindingKind; 7] = [
    FindingKind::MemoryLeak,
    FindingKind::FdLeak,
    FindingKind::TaskLeak,
    FindingKind::ProcessRunaway,
    FindingKind::ProcessForkStorm,
    FindingKind::FdExhausted,
    FindingKind::TaskExhausted,
];

/// What is to be read of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// How much.
    pub depth: Depth,
    /// The units that a rule heals by what their cgroups and processes show: they are read whole on every step.
    pub healed: Vec<Glob>,
}

/// What is to be read of one unit, besides its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OfUnit {
    /// Its cgroup and its processes.
    Whole,
    /// Its cgroup.
    WithoutProcesses,
    /// Nothing.
    Nothing,
}

impl Reading {
    /// What is read on a step under a policy. On the highest it does not matter what the policy says.
    #[must_use]
    pub fn on(depth: Depth, policy: &Policy) -> Self {
        if depth == Depth::Whole {
            return Self::default();
        }
        let acts = |action: &RungAction| !matches!(action, RungAction::Notify { .. } | RungAction::DiskReclaim { .. });
        let heals = policy.rules().filter(|rule| {
            rule.mode >= Mode::Approve
                && rule.on.iter().any(|kind| BY_CGROUP.contains(kind))
                && rule.ladder.iter().any(|rung| acts(&rung.action))
        });
        let mut healed: Vec<Glob> = heals.flat_map(|rule| rule.units.iter().cloned()).collect();
        healed.sort();
        healed.dedup();
        Self { depth, healed }
    }

    /// Whether all processes are counted.
    #[must_use]
    pub fn counts_processes(&self) -> bool {
        self.depth == Depth::Whole
    }

    /// Whether the log is followed.
    #[must_use]
    pub fn follows_log(&self) -> bool {
        self.depth < Depth::CoreOnly
    }

    /// Whether it is looked who talks to whom, what was changed, and which containers run: what explains, and heals
    /// nothing.
    #[must_use]
    pub fn looks_around(&self) -> bool {
        self.depth < Depth::CoreOnly
    }

    /// At every how many ticks a sample is taken, where there is a tick every so often.
    #[must_use]
    pub fn ticks(&self, every: Duration) -> u32 {
        if self.depth < Depth::Slower {
            return 1;
        }
        let fit = APART_MAX.as_millis() / every.as_millis().max(1);
        u32::try_from(fit).unwrap_or(SLOWER).clamp(1, SLOWER)
    }

    /// What is read of a container: no rule heals one.
    #[must_use]
    pub fn of_container(&self) -> OfUnit {
        match self.depth {
            Depth::Whole => OfUnit::Whole,
            Depth::WithoutProcesses | Depth::Slower => OfUnit::WithoutProcesses,
            Depth::CoreOnly => OfUnit::Nothing,
        }
    }

    /// What is read of a unit.
    #[must_use]
    pub fn of_unit(&self, unit: &UnitName) -> OfUnit {
        let is_healed = self.healed.iter().any(|glob| glob.matches(unit.as_str().as_bytes()));
        if is_healed { OfUnit::Whole } else { self.of_container() }
    }
}
