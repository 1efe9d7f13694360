//! What a session has learned of its numbers: how long they mostly are, by their kind and by their series.
//!
//! A number is written as whether it is nothing, its sign, its length in bits (how far from the one that was expected) and
//! its bits below the first, of which only the next is worth learning about.

use super::chance::{Bits, Chance};
use super::entry::Entry;

/// Expected lengths from here on are taken for alike.
const LENGTHS: usize = 20;
/// Steps from an expected length that have chances of their own.
const STEPS: usize = 4;
/// A series' expected length is kept in quarters of a bit.
const QUARTERS: i32 = 4;
/// Twins are trusted from this score on, which is kept within these.
const TRUSTED: i8 = 3;
const SCORES: std::ops::RangeInclusive<i32> = -20..=60;
/// As often as this in a row is often enough to count.
pub(super) const EXACT_MAX: u8 = 15;
/// Smaller steps are alike by chance.
pub(super) const TELLING_STEP: u64 = 4;

/// Kinds of numbers, each with chances of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// How a counter's step differs from the one before.
    Counter,
    /// A gauge's step.
    Gauge,
    /// How a step differs from the twin's.
    Twin,
    /// How far an extreme lies beyond both ends of the window.
    Side,
    /// How what else a gauge did differs from the twin's.
    TwinWay,
    /// What clocks say.
    Clock,
    /// Whatever comes rarely.
    Rare,
}

/// How many kinds there are.
const KINDS: usize = 7;

/// Chances of one kind of numbers.
#[derive(Debug, Clone)]
struct Lengths {
    nothing: [Chance; LENGTHS],
    negative: [Chance; 3],
    as_long: [Chance; LENGTHS],
    longer: [[Chance; STEPS]; 2],
    shorter: [[Chance; STEPS]; 2],
    /// The bit below the first.
    second: [Chance; LENGTHS],
}

impl Lengths {
    const EVEN: Self = Self {
        nothing: [Chance::EVEN; LENGTHS],
        negative: [Chance::EVEN; 3],
        as_long: [Chance::EVEN; LENGTHS],
        longer: [[Chance::EVEN; STEPS]; 2],
        shorter: [[Chance::EVEN; STEPS]; 2],
        second: [Chance::EVEN; LENGTHS],
    };

    /// A number's size, if it is not nothing.
    fn size<B: Bits>(&mut self, bits: &mut B, expected: usize, size: u64) -> u64 {
        let length = usize::from(length(size));
        let (row, far) = (expected.min(LENGTHS - 1), usize::from(expected > 6));
        let mut at = expected.clamp(1, 64);
        let mut steps = (0..STEPS).chain(std::iter::repeat(STEPS - 1));
        let mut step = || steps.next().unwrap_or(0);
        if bits.bit(&mut self.as_long[row], length >= at) {
            while at < 64 && bits.bit(&mut self.longer[far][step()], length > at) {
                at += 1;
            }
        } else {
            at -= 1;
            while at > 1 && bits.bit(&mut self.shorter[far][step()], length < at) {
                at -= 1;
            }
        }
        if at <= 1 {
            return 1;
        }
        let below = at - 2;
        let second = bits.bit(&mut self.second[at.min(LENGTHS - 1)], size >> below & 1 == 1);
        (2 | u64::from(second)) << below | bits.even(1 << below, size & ((1 << below) - 1))
    }
}

/// What is known of all series of a session together.
#[derive(Debug, Clone)]
pub(super) struct Odds {
    kinds: [Lengths; KINDS],
    /// Whether a series changes: by how often it did, its last two times, and whether the one before it did just now.
    changed: [[[Chance; 2]; 4]; 8],
    /// Whether the form of a series is another.
    pub(super) reformed: Chance,
    /// Whether a gauge did just as its twin, by how often that was so; and whether its step was the twin's.
    pub(super) alike: [[Chance; EXACT_MAX as usize + 1]; 2],
    /// Whether a gauge's numbers could not have come from samples.
    pub(super) odd: Chance,
    /// Whether a mean is not its sum's.
    pub(super) off: Chance,
    /// Whether the least (the greatest) lies within what the ends of the window span.
    pub(super) inside: [Chance; 2],
    /// Whether there were only two values: by how often that was so, and whether the window began at an extreme.
    pub(super) two: [[Chance; 3]; 2],
    /// How often the greater of two values was there, and in which part of its bounds a sum lies: by where the last is.
    pub(super) shares: [[Chance; 16]; 3],
    pub(super) parts: [[Chance; 16]; 3],
}

impl Default for Odds {
    fn default() -> Self {
        Self {
            kinds: [Lengths::EVEN; KINDS],
            changed: [[[Chance::EVEN; 2]; 4]; 8],
            reformed: Chance::EVEN,
            alike: [[Chance::EVEN; EXACT_MAX as usize + 1]; 2],
            odd: Chance::EVEN,
            off: Chance::EVEN,
            inside: [Chance::EVEN; 2],
            two: [[Chance::EVEN; 3]; 2],
            shares: [[Chance::EVEN; 16]; 3],
            parts: [[Chance::EVEN; 16]; 3],
        }
    }
}

impl Odds {
    /// Whether a series changed, beside one before it that did or did not.
    pub(super) fn changed<B: Bits>(&mut self, bits: &mut B, entry: &mut Entry, beside: bool, yes: bool) -> bool {
        let often = usize::from(entry.often >> 5);
        let chance = &mut self.changed[often][usize::from(entry.lately & 3)][usize::from(beside)];
        let yes = bits.bit(chance, yes);
        entry.lately = entry.lately << 1 | u8::from(yes);
        let away = if yes { u8::MAX - entry.often } else { entry.often };
        let by = away.div_ceil(8);
        entry.often = if yes { entry.often + by } else { entry.often - by };
        yes
    }

    /// A number of either sign, by its expected length in quarters of a bit. What its sign depends on is below three.
    pub(super) fn number<B: Bits>(&mut self, bits: &mut B, kind: Kind, expected: u8, sign: usize, value: i64) -> i64 {
        let (lengths, expected) = (&mut self.kinds[kind as usize], usize::from(expected / 4));
        if bits.bit(&mut lengths.nothing[expected.min(LENGTHS - 1)], value == 0) {
            return 0;
        }
        let negative = bits.bit(&mut lengths.negative[sign], value < 0);
        let size = lengths.size(bits, expected, value.unsigned_abs());
        if negative { 0i64.wrapping_sub_unsigned(size) } else { 0i64.wrapping_add_unsigned(size) }
    }

    /// A number that is not negative.
    pub(super) fn size<B: Bits>(&mut self, bits: &mut B, kind: Kind, expected: u8, value: u64) -> u64 {
        let (lengths, expected) = (&mut self.kinds[kind as usize], usize::from(expected / 4));
        if bits.bit(&mut lengths.nothing[expected.min(LENGTHS - 1)], value == 0) {
            return 0;
        }
        lengths.size(bits, expected, value)
    }

    /// By how much a series moved, beside what its twin did, if it has one that moved.
    pub(super) fn step<B: Bits>(&mut self, bits: &mut B, entry: &mut Entry, twin: Option<i64>, step: i64) -> i64 {
        let is_gauge = entry.is_gauge();
        let alone = if is_gauge { 0 } else { entry.step };
        let step = match twin.filter(|_| entry.trusts_twin()) {
            Some(twin) => {
                let left =
                    self.number(bits, Kind::Twin, entry.twin_length, usize::from(is_gauge), step.wrapping_sub(twin));
                left.wrapping_add(twin)
            }
            None => {
                let kind = if is_gauge { Kind::Gauge } else { Kind::Counter };
                let sign = if is_gauge { usize::from(entry.step > 0) + 2 * usize::from(entry.step < 0) } else { 0 };
                self.number(bits, kind, entry.length, sign, step.wrapping_sub(alone)).wrapping_add(alone)
            }
        };
        entry.stepped(alone, twin, step);
        step
    }
}

impl Entry {
    /// Whether the series that moves as this one does is to be believed.
    pub(super) fn trusts_twin(&self) -> bool {
        self.score >= TRUSTED
    }

    /// Learns from a step: what would have been left of it, and of it beside the twin's.
    fn stepped(&mut self, alone: i64, twin: Option<i64>, step: i64) {
        let left = step.wrapping_sub(alone).unsigned_abs();
        learn(&mut self.length, left);
        if let Some(twin) = twin {
            let beside = step.wrapping_sub(twin).unsigned_abs();
            learn(&mut self.twin_length, beside);
            self.exact = if beside == 0 { (self.exact + 1).min(EXACT_MAX) } else { self.exact / 2 };
            let gained = (i32::from(length(left)) - i32::from(length(beside))) * 2 - 1;
            let score = (i32::from(self.score) + gained).clamp(*SCORES.start(), *SCORES.end());
            self.score = i8::try_from(score).unwrap_or(0);
        }
        self.step = step;
    }

    /// Tries another series as the one that moves as this one does, unless the present one does.
    pub(super) fn try_twin(&mut self, at: u16) {
        if self.score <= 0 {
            (self.twin, self.score, self.twin_length, self.exact) = (at, 0, 8, 0);
        }
    }

    /// Learns how far an extreme lay from what was to be expected.
    pub(super) fn strayed(&mut self, by: u64) {
        learn(&mut self.side_length, by);
    }
}

/// Bits of a number; none of nothing.
fn length(value: u64) -> u8 {
    u8::try_from(64 - value.leading_zeros()).unwrap_or(64)
}

/// Moves an expected length towards that of a number that came, by a quarter of the way.
pub(super) fn learn(expected: &mut u8, number: u64) {
    let away = i32::from(length(number)) * QUARTERS - i32::from(*expected);
    let by = (away.abs() + 2) / 4;
    *expected = u8::try_from(i32::from(*expected) + by * away.signum()).unwrap_or(u8::MAX);
}
