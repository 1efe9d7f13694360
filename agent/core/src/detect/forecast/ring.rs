//! Amounts by slot of time: how many bytes were written in each of the last so many slots.
//!
//! A ring is filled by spreading an amount evenly over the time in which it came, so uneven steps
//! and short gaps need no special care. Slots that nobody saw are not a number. It allocates once.

use crate::detect::clock::Millis;
use crate::detect::codec::{Reader, Writer};

/// The last so many slots of a fixed length.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ring {
    step: Millis,
    /// The slot that is being filled; slots are counted from the epoch of the clock.
    current: i64,
    slots: Box<[f32]>,
}

impl Ring {
    pub(super) fn new(step: Millis, len: usize) -> Self {
        Self { step, current: i64::MIN, slots: vec![f32::NAN; len].into_boxed_slice() }
    }

    pub(super) fn step(&self) -> Millis {
        self.step
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// The slot that is being filled.
    pub(super) fn current(&self) -> i64 {
        self.current
    }

    pub(super) fn slot_of(&self, t: Millis) -> i64 {
        t.div_euclid(self.step)
    }

    /// The amount of a slot; `None` where it is out of reach or was not seen.
    pub(super) fn get(&self, slot: i64) -> Option<f64> {
        self.at(slot, self.place(slot))
    }

    /// The amounts of the slots `from..to`, one after the other.
    pub(super) fn range(&self, from: i64, to: i64) -> impl Iterator<Item = Option<f64>> {
        let mut place = self.place(from);
        (from..to).map(move |slot| {
            let amount = self.at(slot, place);
            place = if place + 1 < self.slots.len() { place + 1 } else { 0 };
            amount
        })
    }

    /// The amount of a slot, whose place is known.
    fn at(&self, slot: i64, place: usize) -> Option<f64> {
        let back = self.current.checked_sub(slot).and_then(|back| usize::try_from(back).ok())?;
        if back >= self.slots.len() {
            return None;
        }
        Some(f64::from(self.slots[place])).filter(|amount| !amount.is_nan())
    }

    /// Puts another amount in a slot that stands.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn set(&mut self, slot: i64, amount: f64) {
        if self.get(slot).is_some() {
            let place = self.place(slot);
            self.slots[place] = amount as f32;
        }
    }

    /// Spreads `amount` over the time from `from` to `to`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    pub(super) fn add(&mut self, from: Millis, to: Millis, amount: f64) {
        if to <= from {
            return;
        }
        let per_milli = amount / (to - from) as f64;
        let oldest = self.slot_of(to).saturating_sub(self.slots.len() as i64 - 1);
        for slot in self.slot_of(from).max(oldest)..=self.slot_of(to - 1) {
            self.advance(slot, 0.0);
            let (start, end) = ((slot * self.step).max(from), ((slot + 1) * self.step).min(to));
            let place = self.place(slot);
            self.slots[place] += (per_milli * (end - start) as f64) as f32;
        }
    }

    /// Moves on to `t` without having seen what happened until then.
    pub(super) fn skip(&mut self, t: Millis) {
        self.advance(self.slot_of(t), f32::NAN);
    }

    /// The sum of the slots `from..to` that were seen, and how many those are.
    pub(super) fn sum(&self, from: i64, to: i64) -> (f64, usize) {
        let mut sum = 0.0;
        let mut count = 0;
        for amount in self.range(from, to).flatten() {
            sum += amount;
            count += 1;
        }
        (sum, count)
    }

    /// The amount between two moments; `None` where a part was not seen.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn between(&self, from: Millis, to: Millis) -> Option<f64> {
        let mut sum = 0.0;
        for slot in self.slot_of(from)..=self.slot_of(to - 1) {
            let (start, end) = ((slot * self.step).max(from), ((slot + 1) * self.step).min(to));
            sum += self.get(slot)? * (end - start) as f64 / self.step as f64;
        }
        Some(sum)
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.i64(self.current);
        writer.len(self.slots.len());
        self.slots.iter().for_each(|slot| writer.f32(*slot));
    }

    /// Fills an empty ring; `None` where another length was saved.
    pub(super) fn load(mut self, reader: &mut Reader<'_>) -> Option<Self> {
        self.current = reader.i64()?;
        if reader.len()? != self.slots.len() {
            return None;
        }
        for slot in &mut self.slots {
            *slot = reader.f32()?;
        }
        Some(self)
    }

    /// Begins slots up to `slot`. `with` is what those in between hold.
    fn advance(&mut self, slot: i64, with: f32) {
        let len = i64::try_from(self.slots.len()).unwrap_or(i64::MAX);
        let first = self.current.saturating_add(1).max(slot.saturating_sub(len - 1));
        for begun in first..=slot {
            let place = self.place(begun);
            self.slots[place] = with;
        }
        self.current = self.current.max(slot);
    }

    fn place(&self, slot: i64) -> usize {
        usize::try_from(slot.rem_euclid(i64::try_from(self.slots.len()).unwrap_or(1))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_spread_over_the_time_it_took() {
        let mut ring = Ring::new(10, 4);
        ring.add(5, 25, 20.0);
        assert_eq!([ring.get(0), ring.get(1), ring.get(2)], [Some(5.0), Some(10.0), Some(5.0)]);
        assert_eq!(ring.sum(0, 3), (20.0, 3));
    }

    #[test]
    fn forgets_what_is_old_and_knows_what_it_has_not_seen() {
        let mut ring = Ring::new(10, 4);
        ring.add(0, 20, 2.0);
        ring.skip(35);
        ring.add(35, 40, 1.0);
        assert_eq!([ring.get(0), ring.get(1), ring.get(2), ring.get(3)], [Some(1.0), Some(1.0), None, None]);
        ring.add(40, 50, 7.0);
        assert_eq!([ring.get(0), ring.get(4), ring.get(5)], [None, Some(7.0), None]);
        assert_eq!(ring.sum(0, 5), (8.0, 2));
        let one_by_one: Vec<_> = (-3..9).map(|slot| ring.get(slot)).collect();
        assert_eq!(ring.range(-3, 9).collect::<Vec<_>>(), one_by_one);
    }

    #[test]
    fn a_ring_is_read_as_it_was_saved() {
        let mut ring = Ring::new(10, 4);
        ring.add(0, 60, 6.0);
        let mut writer = Writer::default();
        writer.section(1, 1, |w| ring.save(w));
        let bytes = writer.finish();
        let body = &mut Reader::open(&bytes).unwrap().section().unwrap().body;
        assert_eq!(Ring::new(10, 4).load(body), Some(ring));
    }
}
