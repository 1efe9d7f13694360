//! What the agent may take of its host, and what it gives up when it takes more.
//!
//! In: the CPU time and the memory that the agent has used, once a second. Out: the [`Depth`] that it is on, and with it
//! what is read of the host ([`Reading`]). Above a limit it goes down step by step; where there is room again it comes
//! up step by step, and waits the longer the sooner it had to go down again. *Invariant:* what a rule of the policy needs
//! to heal is read on every step.

mod reading;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Now;

pub use reading::{OfUnit, Reading};
pub(crate) use words::evidence;

/// The time over which CPU is counted.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Least time between two moves: what a step saves shows only after it.
pub const HOLD: Duration = Duration::from_secs(10);

/// The same where memory is what is over: it is given back slowly.
pub const HOLD_MEMORY: Duration = MINUTE;

/// Least and longest time with room before the agent goes up. It doubles whenever a step up was followed by one down
/// sooner than that, and begins anew when one lasts.
pub const WAIT_MIN: Duration = Duration::from_secs(300);
/// See [`WAIT_MIN`].
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Share of the limits under which there is room: of CPU much less, since the step above takes more.
const ROOM_CPU: f64 = 0.6;
const ROOM_MEMORY: f64 = 0.9;

/// Usage is taken this often at most; what comes sooner replaces the last. Bounds what is remembered of a minute.
const EVERY: Duration = Duration::from_millis(500);

/// A longer time without usage was not seen (the machine slept, the agent was stopped): the minute begins anew.
const GAP_MAX: Duration = Duration::from_secs(30);

/// What the agent may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// CPU over a minute, as a share of one core (default 0.1). What reading a host of two hundred processes takes is a
    /// fiftieth of that; who has tens of thousands may want more.
    pub cpu_ratio: f64,
    /// Resident memory in bytes, pages of its own file included (default 128 MiB).
    pub rss_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu_ratio: 0.1, rss_bytes: 128 << 20 }
    }
}

/// What the agent has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads since it began.
    pub cpu: Duration,
    /// Its resident memory; `None` where it cannot be read, which counts as room.
    pub rss_bytes: Option<u64>,
}

/// How much is read of the host, from everything down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// Everything.
    #[default]
    Whole,
    /// No process is looked at, but those of units that a rule heals by what they show.
    WithoutProcesses,
    /// And samples are further apart.
    Slower,
    /// And neither the log, connections and changes nor units that no rule heals by what they show: thresholds of the host,
    /// disks, states of units.
    CoreOnly,
}

impl Depth {
    /// Every step, from everything down.
    pub const ALL: [Self; 4] = [Self::Whole, Self::WithoutProcesses, Self::Slower, Self::CoreOnly];

    /// How many steps down it is; 0 is [`Depth::Whole`].
    #[must_use]
    pub fn steps(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::WithoutProcesses => 1,
            Self::Slower => 2,
            Self::CoreOnly => 3,
        }
    }

    fn down(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::WithoutProcesses),
            Self::WithoutProcesses => Some(Self::Slower),
            Self::Slower => Some(Self::CoreOnly),
            Self::CoreOnly => None,
        }
    }

    fn up(self) -> Option<Self> {
        match self {
            Self::Whole => None,
            Self::WithoutProcesses => Some(Self::Whole),
            Self::Slower => Some(Self::WithoutProcesses),
            Self::CoreOnly => Some(Self::Slower),
        }
    }
}

/// What is over its limit, with the limit that it was held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Over {
    /// CPU over a minute, as shares of a core.
    Cpu {
        /// What was used.
        ratio: f64,
        /// What may be.
        limit: f64,
    },
    /// Resident memory in bytes.
    Memory {
        /// What is held.
        bytes: u64,
        /// What may be.
        limit: u64,
    },
}

/// CPU time at a moment of the boot clock.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Now,
    cpu: Duration,
}

/// Where the agent stands.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    depth: Depth,
    /// When it moved last, or began.
    moved: Option<Now>,
    /// The last minute on this step, oldest first; one point may be older.
    points: VecDeque<Point>,
    rss_bytes: Option<u64>,
    /// What was over when it last went down, or still is on the lowest step.
    over: Option<Over>,
    /// Whether even the lowest step takes too much.
    is_beyond: bool,
    room_since: Option<Now>,
    wait: Duration,
    raised: Option<Now>,
    moves: u64,
}

impl Budget {
    /// Begins by reading everything.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            depth: Depth::Whole,
            moved: None,
            points: VecDeque::new(),
            rss_bytes: None,
            over: None,
            is_beyond: false,
            room_since: None,
            wait: WAIT_MIN,
            raised: None,
            moves: 0,
        }
    }

    /// Other limits count from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        if self.limits != limits {
            (self.limits, self.wait, self.room_since) = (limits, WAIT_MIN, None);
        }
    }

    /// Takes what was used until now. Whether anything is to be said anew: another step, or that the lowest is not enough.
    pub fn observe(&mut self, usage: Usage, now: Now) -> bool {
        let moved = *self.moved.get_or_insert(now);
        self.rss_bytes = usage.rss_bytes;
        self.add(Point { at: now, cpu: usage.cpu });
        let held = now.since(moved);
        match self.over_now() {
            Some(over) => {
                self.room_since = None;
                let hold = if matches!(over, Over::Cpu { .. }) { HOLD } else { HOLD_MEMORY };
                held >= hold && self.go_down(over, now)
            }
            None => self.has_room() && self.go_up(now),
        }
    }

    /// The step that it is on.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// What may be taken.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// CPU over the last minute on this step, as a share of a core. What has not passed of it counts as idle, so that
    /// who has used a minute's share within seconds is over at once.
    #[must_use]
    pub fn cpu_ratio(&self) -> f64 {
        let (Some(first), Some(last)) = (self.points.front(), self.points.back()) else { return 0.0 };
        let used = last.cpu.saturating_sub(first.cpu);
        used.as_secs_f64() / last.at.since(first.at).max(MINUTE).as_secs_f64()
    }

    /// The resident memory; `None` where it is not known.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        self.rss_bytes
    }

    /// What was over when it last went down; `None` where it never did.
    #[must_use]
    pub fn over(&self) -> Option<Over> {
        self.over
    }

    /// Whether even the lowest step takes more than it may.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        self.is_beyond
    }

    /// How often it has moved since it began.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.moves
    }

    fn add(&mut self, point: Point) {
        if let Some(last) = self.points.back() {
            if point.at.since(last.at) > GAP_MAX || point.at.boot_ns < last.at.boot_ns || point.cpu < last.cpu {
                self.points.clear();
                self.room_since = None;
            } else if point.at.since(last.at) < EVERY && self.points.len() > 1 {
                self.points.pop_back();
            }
        }
        self.points.push_back(point);
        // The first point is the youngest that is a minute old, or the oldest.
        while self.points.get(1).is_some_and(|second| point.at.since(second.at) >= MINUTE) {
            self.points.pop_front();
        }
    }

    fn over_now(&self) -> Option<Over> {
        let (ratio, limit) = (self.cpu_ratio(), self.limits.cpu_ratio);
        let cpu = (ratio > limit).then_some(Over::Cpu { ratio, limit });
        let held = self.rss_bytes.filter(|bytes| *bytes > self.limits.rss_bytes);
        cpu.or_else(|| held.map(|bytes| Over::Memory { bytes, limit: self.limits.rss_bytes }))
    }

    /// Whether a whole minute is known and far enough below the limits.
    fn has_room(&mut self) -> bool {
        let is_whole = match (self.points.front(), self.points.back()) {
            (Some(first), Some(last)) => last.at.since(first.at) >= MINUTE,
            _ => false,
        };
        #[allow(clippy::cast_precision_loss, reason = "memory in bytes stays below 2^53")]
        let fits = |bytes: u64| bytes as f64 <= self.limits.rss_bytes as f64 * ROOM_MEMORY;
        let has_room =
            is_whole && self.cpu_ratio() <= self.limits.cpu_ratio * ROOM_CPU && self.rss_bytes.is_none_or(fits);
        if !has_room {
            self.room_since = None;
        }
        has_room
    }

    fn go_down(&mut self, over: Over, now: Now) -> bool {
        let Some(depth) = self.depth.down() else {
            // Said once, until there is room for a step up.
            let is_whole = self.moved.is_some_and(|moved| now.since(moved) >= MINUTE);
            if !is_whole || self.is_beyond {
                return false;
            }
            (self.over, self.is_beyond) = (Some(over), true);
            return true;
        };
        self.wait = match self.raised.take() {
            Some(raised) if now.since(raised) < self.wait => (self.wait * 2).min(WAIT_MAX),
            _ => WAIT_MIN,
        };
        self.over = Some(over);
        self.move_to(depth, now);
        true
    }

    fn go_up(&mut self, now: Now) -> bool {
        let Some(depth) = self.depth.up() else { return false };
        if now.since(*self.room_since.get_or_insert(now)) < self.wait {
            return false;
        }
        self.raised = Some(now);
        self.is_beyond = false;
        self.move_to(depth, now);
        true
    }

    /// Only what is used on a step is held against it.
    fn move_to(&mut self, depth: Depth, now: Now) {
        (self.depth, self.moved, self.room_since) = (depth, Some(now), None);
        self.moves += 1;
        let last = self.points.pop_back();
        self.points.clear();
        self.points.extend(last);
    }
}
