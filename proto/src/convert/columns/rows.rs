//! Rows of numbers, each of one kind, as varints.

use mainstay_core::series::Point;
use prost::encoding::encode_varint;

use super::super::ConvertError;
use super::entry::{Entry, Mean, whole};
use super::reader::{Reader, zigzag};
use super::{SECOND, ULPS};

/// Rows of numbers, one for each series that changed and is of the row's kind, in the order of the series.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// First differences of counters.
    steps: Vec<i64>,
    /// Second differences of counters.
    turns: Vec<i64>,
    last: Vec<i64>,
    below: Vec<i64>,
    above: Vec<i64>,
    sums: Vec<i64>,
    ulps: Vec<i64>,
    raw: Vec<u64>,
}

impl Rows {
    pub(super) fn add(&mut self, entry: &mut Entry, point: &Point, samples: u32) {
        let written = entry.places().and_then(|places| self.add_decimal(entry, point, places, samples));
        let (Point::Counter(last) | Point::Gauge { last, .. }) = point;
        if written.is_none() {
            self.raw.push(last.to_bits() ^ entry.bits);
            if let Point::Gauge { min, max, mean, .. } = point {
                self.raw.extend([min, max, mean].map(|value| value.to_bits() ^ last.to_bits()));
            }
        }
        entry.bits = last.to_bits();
    }

    /// `None` where the form does not fit, which it does whenever [`Entry::form_for`] chose it.
    fn add_decimal(&mut self, entry: &mut Entry, point: &Point, places: f64, samples: u32) -> Option<()> {
        match point {
            Point::Counter(value) => {
                let step = whole(*value, places)?.wrapping_sub(entry.whole());
                self.steps.push(step);
                self.turns.push(step.wrapping_sub(entry.step));
                entry.step = step;
            }
            Point::Gauge { last, min, max, mean } => {
                let (last, min, max) = (whole(*last, places)?, whole(*min, places)?, whole(*max, places)?);
                let mean = Mean::of(*mean, places, samples)?;
                entry.step = last.wrapping_sub(entry.whole());
                self.last.push(entry.step);
                self.below.push(last.wrapping_sub(min));
                self.above.push(max.wrapping_sub(last));
                self.sums.push(mean.sum.wrapping_sub(last.wrapping_mul(samples.into())));
                self.ulps.push(mean.ulps);
            }
        }
        Some(())
    }

    /// Writes all rows. Out comes what the flags have to say of them.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> u8 {
        let cost = |row: &[i64]| row.iter().map(|value| 64 - zigzag(*value).leading_zeros()).sum::<u32>();
        let (mut flags, mut counters, mut ulps) = (0, &self.steps, &[][..]);
        if cost(&self.turns) < cost(&self.steps) {
            flags |= SECOND;
            counters = &self.turns;
        }
        if self.ulps.iter().any(|ulps| *ulps != 0) {
            flags |= ULPS;
            ulps = &self.ulps;
        }
        for row in [counters, &self.last, &self.below, &self.above, &self.sums, ulps] {
            row.iter().for_each(|value| encode_varint(zigzag(*value), out));
        }
        for byte in 0..8 {
            out.extend(self.raw.iter().map(|bits| bits.to_be_bytes()[byte]));
        }
        flags
    }

    /// Reads the rows of the series that changed, their ends first: so they are taken by popping.
    pub(super) fn read(reader: &mut Reader<'_>, flags: u8, entries: &[Entry]) -> Result<Self, ConvertError> {
        let changed = || entries.iter().filter(|entry| entry.changed);
        let decimal = |gauge| changed().filter(|e| e.places().is_some() && e.is_gauge() == gauge).count();
        let (counters, gauges) = (decimal(false), decimal(true));
        let raw = changed().filter(|e| e.places().is_none()).map(|e| if e.is_gauge() { 4 } else { 1 }).sum();
        let counters = reader.row("counters", counters)?;
        let (steps, turns) = if flags & SECOND == 0 { (counters, Vec::new()) } else { (Vec::new(), counters) };
        Ok(Self {
            steps,
            turns,
            last: reader.row("last", gauges)?,
            below: reader.row("min", gauges)?,
            above: reader.row("max", gauges)?,
            sums: reader.row("mean", gauges)?,
            ulps: reader.row("ulps", if flags & ULPS == 0 { 0 } else { gauges })?,
            raw: reader.planes("raw", raw)?,
        })
    }

    /// The point of the next series that changed.
    pub(super) fn take(&mut self, entry: &mut Entry, samples: u32) -> Point {
        let next = |row: &mut Vec<i64>| row.pop().unwrap_or(0);
        let point = match entry.places() {
            None => self.take_raw(entry),
            Some(places) if entry.is_gauge() => {
                entry.step = next(&mut self.last);
                let last = entry.whole().wrapping_add(entry.step);
                let value = |whole: i64| whole as f64 / places;
                let sum = next(&mut self.sums).wrapping_add(last.wrapping_mul(samples.into()));
                Point::Gauge {
                    last: value(last),
                    min: value(last.wrapping_sub(next(&mut self.below))),
                    max: value(last.wrapping_add(next(&mut self.above))),
                    mean: Mean { sum, ulps: next(&mut self.ulps) }.value(places, samples),
                }
            }
            Some(places) => {
                let step = self.steps.pop().unwrap_or_else(|| entry.step.wrapping_add(next(&mut self.turns)));
                entry.step = step;
                Point::Counter(entry.whole().wrapping_add(step) as f64 / places)
            }
        };
        let (Point::Counter(last) | Point::Gauge { last, .. }) = point;
        entry.bits = last.to_bits();
        point
    }

    fn take_raw(&mut self, entry: &Entry) -> Point {
        let last = self.raw.pop().unwrap_or(0) ^ entry.bits;
        if !entry.is_gauge() {
            return Point::Counter(f64::from_bits(last));
        }
        let mut next = || f64::from_bits(self.raw.pop().unwrap_or(0) ^ last);
        Point::Gauge { min: next(), max: next(), mean: next(), last: f64::from_bits(last) }
    }
}
