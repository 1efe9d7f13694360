//! What else a gauge did in its window: how far it went below and above its last value, and its sum.
//!
//! The least and the greatest mostly are the last value, the one before the window, or a little beyond both. The sum lies
//! between bounds that follow from them, and where there were only two values it is a count.

use super::chance::Bits;
use super::entry::Entry;
use super::odds::{EXACT_MAX, Kind, Odds};

/// The expected lengths, in quarters, of what could not have come from samples.
const ODD_LENGTH: u8 = 80;
/// A sum of some samples is so many quarters longer than one of them.
const SUM_LONGER: u8 = 12;
/// Counts of two values have chances of their own up to so many samples.
const COUNTED_MAX: u32 = 16;

/// How a gauge went through its window, as whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Way {
    /// From the last value before.
    pub(super) step: i64,
    /// The last less the least, and the greatest less the last.
    pub(super) below: i64,
    pub(super) above: i64,
    /// Sum of the samples, each less the least.
    pub(super) sum: i64,
}

impl Odds {
    /// The rest of a way, whose step is known, beside what the twin did if it is to be believed.
    pub(super) fn way<B: Bits>(
        &mut self,
        bits: &mut B,
        entry: &mut Entry,
        twin: Option<Way>,
        samples: u32,
        way: Way,
    ) -> Way {
        if let Some(twin) = twin {
            let is_exact = twin.step == way.step;
            let chance = &mut self.alike[usize::from(is_exact)][usize::from(entry.exact.min(EXACT_MAX))];
            if bits.bit(chance, Way { step: way.step, ..twin } == way) {
                return Way { step: way.step, ..twin };
            }
            if !is_exact {
                return self.beside(bits, entry.twin_length, twin, way);
            }
        }
        if bits.bit(&mut self.odd, !way.is_regular(samples)) {
            let mut number = |value| self.number(bits, Kind::Rare, ODD_LENGTH, 0, value);
            return Way { step: way.step, below: number(way.below), above: number(way.above), sum: number(way.sum) };
        }
        if samples < 2 {
            // One value is the least, the greatest and the mean.
            return Way { step: way.step, ..Way::default() };
        }
        // Where the window began, as seen from its end.
        let (down, up) = (way.step.max(0).unsigned_abs(), way.step.min(0).unsigned_abs());
        let expected = entry.side_length;
        let below = self.side(bits, entry, 0, down, way.below.cast_unsigned());
        let above = self.side(bits, entry, 1, up, way.above.cast_unsigned());
        if (below, above) == (down, up) {
            entry.side_length = expected - expected / 4;
        }
        let way = Way { below: below.cast_signed(), above: above.cast_signed(), ..way };
        Way { sum: self.sum(bits, entry, samples, way), ..way }
    }

    /// As a difference from what the twin did.
    fn beside<B: Bits>(&mut self, bits: &mut B, expected: u8, twin: Way, way: Way) -> Way {
        let mut number = |longer, sign, value: i64, twin: i64| {
            self.number(bits, Kind::TwinWay, expected.saturating_add(longer), sign, value.wrapping_sub(twin))
                .wrapping_add(twin)
        };
        Way {
            step: way.step,
            below: number(0, 0, way.below, twin.below),
            above: number(0, 1, way.above, twin.above),
            sum: number(SUM_LONGER, 2, way.sum, twin.sum),
        }
    }

    /// How far an extreme is from the last value, which is at least as far as where the window began unless that was left
    /// at once.
    fn side<B: Bits>(&mut self, bits: &mut B, entry: &mut Entry, which: usize, known: u64, value: u64) -> u64 {
        let value = if known > 0 && bits.bit(&mut self.inside[which], value < known) {
            bits.even(known, value)
        } else {
            known.wrapping_add(self.size(bits, Kind::Side, entry.side_length, value.wrapping_sub(known)))
        };
        if value != known {
            entry.strayed(value.abs_diff(known));
        }
        value
    }

    /// The sum, within the bounds that the extremes give it.
    fn sum<B: Bits>(&mut self, bits: &mut B, entry: &mut Entry, samples: u32, way: Way) -> i64 {
        let Some(bounds) = way.bounds(samples) else { return 0 };
        let range = bounds.range;
        let place = if way.above == 0 { 1 } else { 2 * usize::from(way.below != 0) };
        let began_at_extreme = way.step == way.below || way.step == way.above.wrapping_neg();
        let two = range == 1 || {
            let chance = &mut self.two[usize::from(began_at_extreme)][usize::from(entry.twos.div_ceil(4).min(2))];
            let two = bits.bit(chance, way.sum.cast_unsigned().is_multiple_of(range));
            entry.twos = if two { (entry.twos + 1).min(8) } else { entry.twos.saturating_sub(1) };
            two
        };
        let sum = way.sum.cast_unsigned();
        let sum = if !two {
            let from = tree(&mut self.parts[place], bits, bounds.count, sum.wrapping_sub(bounds.from));
            bounds.from.wrapping_add(from)
        } else if samples <= COUNTED_MAX {
            tree(&mut self.shares[place], bits, COUNTED_MAX.into(), sum / range).wrapping_mul(range)
        } else {
            bits.even(u64::from(samples) + 1, sum / range).wrapping_mul(range)
        };
        sum.cast_signed()
    }
}

/// A number below `count`, whose first four halvings are learned about.
fn tree<B: Bits>(chances: &mut [super::chance::Chance; 16], bits: &mut B, count: u64, value: u64) -> u64 {
    let (mut from, mut left, mut node) = (0u64, count, 1);
    while left > 1 && node < 16 {
        let (lower, upper) = (left - left / 2, left / 2);
        let is_upper = bits.bit(&mut chances[node], value.wrapping_sub(from) >= lower);
        if is_upper {
            from += lower;
        }
        left = if is_upper { upper } else { lower };
        node = 2 * node + usize::from(is_upper);
    }
    from + bits.even(left, value.wrapping_sub(from))
}

/// Which sums there can be: so many from one on, for a range that is not nothing.
struct Bounds {
    range: u64,
    from: u64,
    count: u64,
}

impl Way {
    /// `None` where all samples were alike, or there are no such samples.
    fn bounds(self, samples: u32) -> Option<Bounds> {
        let (below, above) = (u64::try_from(self.below).ok()?, u64::try_from(self.above).ok()?);
        let range = below.checked_add(above).filter(|range| *range > 0)?;
        // The least, the greatest and the last are there once at least.
        let is_extreme = below == 0 || above == 0;
        let (from, others) = if is_extreme {
            (range, samples.checked_sub(2)?)
        } else {
            (range.checked_add(below)?, samples.checked_sub(3)?)
        };
        let span = range.checked_mul(others.into())?;
        from.checked_add(span).filter(|most| i64::try_from(*most).is_ok())?;
        Some(Bounds { range, from, count: span + 1 })
    }

    fn is_regular(self, samples: u32) -> bool {
        if self.below == 0 && self.above == 0 {
            return self.sum == 0;
        }
        let within =
            |bounds: Bounds| self.sum >= 0 && self.sum.cast_unsigned().wrapping_sub(bounds.from) < bounds.count;
        self.bounds(samples).is_some_and(within)
    }
}
