//! What befalls a fleet over a stretch of time, drawn from the seed of its world.

use super::fault::{Fault, Trouble};
use super::world::{Event, SECOND, World};

/// How often things go wrong, each on the average once in so many seconds over the whole fleet; 0
/// is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Season {
    /// A service is killed.
    pub kill_every: u64,
    /// A service freezes.
    pub freeze_every: u64,
    /// A disk fills.
    pub fill_every: u64,
    /// An agent, an actuator or a host goes down.
    pub crash_every: u64,
    /// A wall clock jumps.
    pub jump_every: u64,
    /// A ledger cannot be written for a while.
    pub disk_full_every: u64,
    /// Some hosts are cut off for a while.
    pub partition_every: u64,
    /// The collector crashes.
    pub collector_every: u64,
}

impl Season {
    /// All of it.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            kill_every: 5,
            freeze_every: 30,
            fill_every: 40,
            crash_every: 15,
            jump_every: 30,
            disk_full_every: 45,
            partition_every: 90,
            collector_every: 240,
        }
    }
}

impl World {
    /// Draws what will go wrong from now on within `seconds`.
    pub fn befall(&mut self, season: &Season, seconds: u64) {
        self.turn_rough();
        self.strew(season.kill_every, seconds, |world, node| {
            let unit = world.any_unit(node);
            Event::Trouble(node, Trouble::Kill(unit))
        });
        self.strew(season.freeze_every, seconds, |world, node| {
            let unit = world.any_unit(node);
            Event::Trouble(node, Trouble::Freeze(unit))
        });
        self.strew(season.fill_every, seconds, |world, node| {
            Event::Trouble(node, Trouble::Fill(world.rng.between(960, 1_000)))
        });
        self.strew(season.crash_every, seconds, |world, node| {
            Event::Fault(match world.rng.between(0, 4) {
                0 | 1 => Fault::Agent(node),
                2 => Fault::Actuator(node),
                _ => Fault::Reboot(node),
            })
        });
        self.strew(season.jump_every, seconds, |world, node| {
            let hours = i64::try_from(world.rng.between(0, 96)).unwrap_or(0) - 48;
            Event::Fault(Fault::Clock(node, hours * 3_600_000))
        });
        self.strew(season.disk_full_every, seconds, |world, node| {
            Event::Fault(Fault::DiskFull(node, world.rng.between(5, 120) * SECOND))
        });
        self.strew(season.partition_every, seconds, |world, node| {
            let many = usize::try_from(world.rng.between(1, 40)).unwrap_or(1);
            Event::Fault(Fault::Partition(node, node + many, world.rng.between(20, 240) * SECOND))
        });
        self.strew(season.collector_every, seconds, |world, _| {
            Event::Fault(Fault::Collector(world.rng.between(2, 40) * SECOND))
        });
    }

    fn strew(&mut self, every: u64, seconds: u64, mut event: impl FnMut(&mut Self, usize) -> Event) {
        let Some(times) = seconds.checked_div(every) else { return };
        for _ in 0..times {
            let delay = self.rng.between(0, seconds * SECOND);
            let node = usize::try_from(self.rng.between(0, self.nodes.len() as u64)).unwrap_or(0);
            let event = event(self, node);
            self.after(delay, event);
        }
    }

    fn any_unit(&mut self, node: usize) -> mainstay_core::subject::UnitName {
        let names: Vec<_> = self.nodes[node].machine.services.keys().cloned().collect();
        let at = usize::try_from(self.rng.between(0, names.len() as u64)).unwrap_or(0);
        names[at].clone()
    }
}
