//! A summary as columns: what changed since the summary before, each kind of number in a row of its own.
//!
//! Both sides of a session remember the series of the summary before, in the order of their keys, and how each was
//! written last. In: summaries in the order in which they are sent. Out: bytes that give the same summaries again, bit by
//! bit, if they are read in that order. The reader believes nothing: any bytes give a summary or an error, and never more
//! series than the session has defined.
//!
//! ```text
//! summary = flags u8 | boot_ns, wall_ms: second differences | window_ms, samples: differences
//!         | [edits of the series: removed n, gaps … | inserted n, (gap, id) …]          where flag 1 is set
//!         | which series changed: a bitmap, xor the one before | forms n, (gap, form u8) …
//!         | counters … | gauges: last … | last - min … | max - last … | sum - samples × last … | [ulps of the mean …]
//!         | what is neither: bits xor the bits before, byte by byte over all
//! form    = gauge 16 | decimal places 0 to 9; units of 512, 1024, 4096: 10 to 12; or 15: neither
//! ```
//!
//! All numbers are zigzag varints, a value times ten to the power of its places or divided by its unit: memory comes in pages.
//! Units are written only to readers with the capability `units`. A series is written in the form it had
//! before unless `forms` says otherwise. Counters are second differences where flag 2 is set, else first ones. A mean is
//! the sum of the window over its samples; what rounding left of it are the ulps, none where flag 4 is not set. A series
//! that did not change has the value it had at the end of the summary before, a gauge throughout the window.

use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::time::Now;
use prost::encoding::{decode_varint, encode_varint};

use super::series::{Definitions, Dictionary};
use super::{ConvertError, Problem};
use crate::v1;

const EDITED: u8 = 1;
const SECOND: u8 = 2;
const ULPS: u8 = 4;
/// What a form says of its kind.
const GAUGE: u8 = 16;
/// The places of what is no whole number of anything.
const RAW: u8 = 15;
/// What a value is multiplied with, by form: decimal places, of which a clock's offset has most, and then units.
const PLACES: [f64; 13] =
    [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1.0 / 512.0, 1.0 / 1024.0, 1.0 / 4096.0];
/// The first form that is a unit.
const UNITS: usize = 10;
/// Whole numbers up to here are exact as `f64`.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// A mean that is further from its sum than this is no mean of so many samples.
const ULPS_MAX: u64 = 64;

/// What both sides remember of one series.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    key: Arc<SeriesKey>,
    /// Its kind and decimal places, as in the head of this file.
    form: u8,
    /// Whether it was written before, by a writer.
    settled: bool,
    changed: bool,
    /// The value at the end of the summary before: its bits, and times ten to the power of its places.
    bits: u64,
    whole: i64,
    /// By how much `whole` changed then.
    step: i64,
}

impl Entry {
    fn new(key: Arc<SeriesKey>) -> Self {
        Self { key, form: 0, settled: false, changed: false, bits: 0, whole: 0, step: 0 }
    }

    /// The series.
    pub(super) fn key(&self) -> &SeriesKey {
        &self.key
    }

    fn is_gauge(&self) -> bool {
        self.form & GAUGE != 0
    }

    fn places(&self) -> Option<f64> {
        PLACES.get(usize::from(self.form & !GAUGE)).copied()
    }

    fn reform(&mut self, form: u8) {
        self.form = form;
        self.whole = self.places().and_then(|places| whole(f64::from_bits(self.bits), places)).unwrap_or(0);
        self.step = 0;
    }

    fn moved_to(&mut self, whole: i64) {
        self.step = whole.wrapping_sub(self.whole);
        self.whole = whole;
    }

    /// The point of a series that did not change.
    fn same(&self) -> Point {
        let value = f64::from_bits(self.bits);
        if self.is_gauge() {
            Point::Gauge { last: value, min: value, max: value, mean: value }
        } else {
            Point::Counter(value)
        }
    }

    fn is_same(&self, point: &Point) -> bool {
        match point {
            Point::Counter(value) => !self.is_gauge() && value.to_bits() == self.bits,
            Point::Gauge { last, min, max, mean } => {
                self.is_gauge() && [last, min, max, mean].iter().all(|value| value.to_bits() == self.bits)
            }
        }
    }

    /// The form for a point: with the places that it had if they do, else the largest unit if units are known, else the
    /// fewest places.
    fn form_for(&self, point: &Point, samples: u32, units: bool) -> u8 {
        let kind = if matches!(point, Point::Gauge { .. }) { GAUGE } else { 0 };
        let fits = |places: f64| match point {
            Point::Counter(value) => whole(*value, places).is_some(),
            Point::Gauge { last, min, max, mean } => {
                [last, min, max].iter().all(|value| whole(**value, places).is_some())
                    && Mean::of(*mean, places, samples).is_some()
            }
        };
        let keeps = self.settled || !units;
        let places = if keeps && self.places().is_some_and(fits) {
            self.form & !GAUGE
        } else {
            let known = if units { PLACES.len() } else { UNITS };
            let form = (UNITS..known).rev().chain(0..UNITS).find(|form| fits(PLACES[*form]));
            form.and_then(|form| u8::try_from(form).ok()).unwrap_or(RAW)
        };
        kind | places
    }
}

/// A mean as the sum that it is made of, and what rounding left.
struct Mean {
    sum: i64,
    ulps: i64,
}

impl Mean {
    #[allow(clippy::cast_possible_truncation)] // within WHOLE_MAX by the comparison before it
    fn of(mean: f64, places: f64, samples: u32) -> Option<Self> {
        if samples == 0 {
            return None; // of nothing, which machines write in different ways
        }
        let sum = (mean * f64::from(samples) * places).round();
        let sum = (sum.abs() < WHOLE_MAX).then_some(sum as i64)?;
        let ulps = mean.to_bits().wrapping_sub(Self::rounded(sum, places, samples).to_bits()).cast_signed();
        (ulps.unsigned_abs() <= ULPS_MAX).then_some(Self { sum, ulps })
    }

    fn rounded(sum: i64, places: f64, samples: u32) -> f64 {
        sum as f64 / places / f64::from(samples)
    }

    fn value(&self, places: f64, samples: u32) -> f64 {
        f64::from_bits(Self::rounded(self.sum, places, samples).to_bits().wrapping_add_signed(self.ulps))
    }
}

/// When the summary before ended, and what it was like.
#[derive(Debug, Clone, Copy, Default)]
struct Clocks {
    at: Now,
    boot_step: i64,
    wall_step: i64,
    window_ms: u32,
    samples: u32,
}

/// Rows of numbers, one for each series that changed and is of the row's kind, in the order of the series.
#[derive(Debug, Default)]
struct Rows {
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

/// The state of one side. Both begin with an empty one.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    entries: Vec<Entry>,
    clocks: Clocks,
}

impl Columns {
    /// The series of the summary before, in the order of their keys.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes a summary, whose points are sorted by their series, with units if its reader knows them. Definitions that the
    /// reader needs first are added to `define`.
    pub(super) fn write(
        &mut self,
        summary: &Summary,
        units: bool,
        dictionary: &mut Dictionary,
        define: &mut Vec<v1::SeriesDef>,
    ) -> Vec<u8> {
        let mut flags = 0;
        let mut edits = Vec::new();
        if !self.is_of(summary) {
            flags |= EDITED;
            self.edit(summary, dictionary, define, &mut edits);
        }
        let mut body = Vec::new();
        let (mut bitmap, mut forms, mut rows) = (vec![0; self.entries.len().div_ceil(8)], Vec::new(), Rows::default());
        let mut gap = 0;
        for (at, (entry, (_, point))) in self.entries.iter_mut().zip(&summary.points).enumerate() {
            let changed = !entry.is_same(point);
            bitmap[at / 8] |= u8::from(changed != entry.changed) << (at % 8);
            entry.changed = changed;
            gap += 1;
            if !changed {
                entry.step = 0;
                continue;
            }
            let form = entry.form_for(point, summary.samples, units);
            if form != entry.form {
                forms.push((gap - 1, form));
                gap = 0;
                entry.reform(form);
            }
            entry.settled = true;
            rows.add(entry, point, summary.samples);
        }
        body.extend(&bitmap);
        encode_varint(forms.len() as u64, &mut body);
        for (gap, form) in forms {
            encode_varint(gap, &mut body);
            body.push(form);
        }
        flags |= rows.write(&mut body);
        let mut out = vec![flags];
        self.clocks.write(summary, &mut out);
        out.extend(edits);
        out.extend(body);
        out
    }

    /// Whether the series of a summary are those of the one before.
    fn is_of(&self, summary: &Summary) -> bool {
        self.entries.len() == summary.points.len()
            && self.entries.iter().zip(&summary.points).all(|(entry, (key, _))| entry.key == *key)
    }

    /// Makes the series those of a summary, and writes how.
    fn edit(
        &mut self,
        summary: &Summary,
        dictionary: &mut Dictionary,
        define: &mut Vec<v1::SeriesDef>,
        out: &mut Vec<u8>,
    ) {
        let (mut removed, mut inserted) = (Vec::new(), Vec::new());
        let mut before = std::mem::take(&mut self.entries).into_iter().peekable();
        let (mut kept, mut old) = (0, 0);
        for (key, _) in &summary.points {
            while before.next_if(|entry| entry.key < *key).is_some() {
                removed.push(old);
                old = 0;
            }
            if let Some(entry) = before.next_if(|entry| entry.key == *key) {
                old += 1;
                kept += 1;
                self.entries.push(entry);
            } else {
                inserted.push((kept, dictionary.id(key, define)));
                kept = 0;
                self.entries.push(Entry::new(Arc::clone(key)));
            }
        }
        for _ in before {
            removed.push(old);
            old = 0;
        }
        encode_varint(removed.len() as u64, out);
        removed.into_iter().for_each(|gap| encode_varint(gap, out));
        encode_varint(inserted.len() as u64, out);
        for (gap, id) in inserted {
            encode_varint(gap, out);
            encode_varint(id.into(), out);
        }
    }

    /// Reads a summary. After an error the state is of no use any more: the session has to end.
    ///
    /// # Errors
    /// If the bytes are none that [`Columns::write`] would have written.
    pub(super) fn read(&mut self, bytes: &[u8], definitions: &Definitions) -> Result<Summary, ConvertError> {
        let mut reader = Reader { rest: bytes };
        let flags = reader.byte("flags")?;
        if flags & !(EDITED | SECOND | ULPS) != 0 {
            return Err(bad("flags", format!("{flags:#x} has bits that this build does not know")));
        }
        self.clocks.read(&mut reader)?;
        if flags & EDITED != 0 {
            self.read_edits(&mut reader, definitions)?;
        }
        self.read_changes(&mut reader)?;
        let samples = self.clocks.samples;
        let mut rows = Rows::read(&mut reader, flags, &self.entries)?;
        if !reader.rest.is_empty() {
            return Err(bad("columns", format!("{} bytes follow the summary", reader.rest.len())));
        }
        let mut points = Vec::with_capacity(self.entries.len());
        for entry in &mut self.entries {
            let point = if entry.changed {
                rows.take(entry, samples)
            } else {
                entry.step = 0;
                entry.same()
            };
            points.push((Arc::clone(&entry.key), point));
        }
        Ok(Summary { at: self.clocks.at, window_ms: self.clocks.window_ms, samples, points })
    }

    fn read_edits(&mut self, reader: &mut Reader<'_>, definitions: &Definitions) -> Result<(), ConvertError> {
        let mut before = std::mem::take(&mut self.entries).into_iter();
        for _ in 0..reader.count("removed")? {
            let gap = reader.gap("removed", before.len())?;
            self.entries.extend(before.by_ref().take(gap));
            before.next();
        }
        self.entries.extend(before);
        let mut before = std::mem::take(&mut self.entries).into_iter();
        for _ in 0..reader.count("inserted")? {
            let gap = reader.gap("inserted", before.len() + 1)?;
            let id = u32::try_from(reader.varint("inserted")?).unwrap_or(u32::MAX);
            let unknown = || ConvertError::new("inserted", Problem::Unknown(format!("series {id}")));
            let key = definitions.key(id).ok_or_else(unknown)?;
            self.entries.extend(before.by_ref().take(gap));
            self.entries.push(Entry::new(Arc::clone(key)));
        }
        self.entries.extend(before);
        // Each key once, so that there are never more series than were defined.
        if let Some(pair) = self.entries.windows(2).find(|pair| pair[0].key >= pair[1].key) {
            return Err(bad("inserted", format!("{} does not come before {}", pair[0].key, pair[1].key)));
        }
        // They change rarely, and a collector has them of ten thousand sessions.
        self.entries.shrink_to_fit();
        Ok(())
    }

    fn read_changes(&mut self, reader: &mut Reader<'_>) -> Result<(), ConvertError> {
        let bitmap = reader.bytes("changed", self.entries.len().div_ceil(8))?;
        for (at, entry) in self.entries.iter_mut().enumerate() {
            entry.changed ^= bitmap[at / 8] >> (at % 8) & 1 == 1;
        }
        let mut entries = self.entries.iter_mut();
        for _ in 0..reader.count("forms")? {
            let gap = reader.gap("forms", entries.len())?;
            let form = reader.byte("forms")?;
            if form & !(GAUGE | RAW) != 0 || (form & RAW != RAW && usize::from(form & RAW) >= PLACES.len()) {
                return Err(bad("forms", format!("{form:#x} is no form")));
            }
            let entry = entries.nth(gap).filter(|entry| entry.changed);
            entry.ok_or_else(|| bad("forms", "the form of a series that did not change".to_owned()))?.reform(form);
        }
        Ok(())
    }
}

impl Rows {
    fn add(&mut self, entry: &mut Entry, point: &Point, samples: u32) {
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
                let before = entry.step;
                entry.moved_to(whole(*value, places)?);
                self.steps.push(entry.step);
                self.turns.push(entry.step.wrapping_sub(before));
            }
            Point::Gauge { last, min, max, mean } => {
                let (last, min, max) = (whole(*last, places)?, whole(*min, places)?, whole(*max, places)?);
                let mean = Mean::of(*mean, places, samples)?;
                entry.moved_to(last);
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
    fn write(&self, out: &mut Vec<u8>) -> u8 {
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
    fn read(reader: &mut Reader<'_>, flags: u8, entries: &[Entry]) -> Result<Self, ConvertError> {
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
    fn take(&mut self, entry: &mut Entry, samples: u32) -> Point {
        let next = |row: &mut Vec<i64>| row.pop().unwrap_or(0);
        let point = match entry.places() {
            None => self.take_raw(entry),
            Some(places) if entry.is_gauge() => {
                entry.moved_to(entry.whole.wrapping_add(next(&mut self.last)));
                let last = entry.whole;
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
                entry.moved_to(entry.whole.wrapping_add(step));
                Point::Counter(entry.whole as f64 / places)
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

impl Clocks {
    fn write(&mut self, summary: &Summary, out: &mut Vec<u8>) {
        let boot_step = summary.at.boot_ns.wrapping_sub(self.at.boot_ns).cast_signed();
        let wall_step = summary.at.wall_ms.wrapping_sub(self.at.wall_ms);
        let differences = [
            boot_step.wrapping_sub(self.boot_step),
            wall_step.wrapping_sub(self.wall_step),
            i64::from(summary.window_ms) - i64::from(self.window_ms),
            i64::from(summary.samples) - i64::from(self.samples),
        ];
        differences.into_iter().for_each(|value| encode_varint(zigzag(value), out));
        *self = Self { at: summary.at, boot_step, wall_step, window_ms: summary.window_ms, samples: summary.samples };
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), ConvertError> {
        self.boot_step = self.boot_step.wrapping_add(reader.int("at")?);
        self.wall_step = self.wall_step.wrapping_add(reader.int("at")?);
        self.at.boot_ns = self.at.boot_ns.wrapping_add_signed(self.boot_step);
        self.at.wall_ms = self.at.wall_ms.wrapping_add(self.wall_step);
        self.window_ms = moved("window_ms", self.window_ms, reader.int("window_ms")?)?;
        self.samples = moved("samples", self.samples, reader.int("samples")?)?;
        Ok(())
    }
}

fn moved(field: &'static str, before: u32, by: i64) -> Result<u32, ConvertError> {
    let now = i64::from(before).checked_add(by).and_then(|now| u32::try_from(now).ok());
    now.ok_or_else(|| bad(field, format!("{before} moved by {by}")))
}

/// Bytes that nobody vouches for.
struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn bytes(&mut self, field: &'static str, count: usize) -> Result<&'b [u8], ConvertError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| short(field))?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self, field: &'static str) -> Result<u8, ConvertError> {
        self.bytes(field, 1).map(|bytes| bytes[0])
    }

    fn varint(&mut self, field: &'static str) -> Result<u64, ConvertError> {
        decode_varint(&mut self.rest).map_err(|_| short(field))
    }

    fn int(&mut self, field: &'static str) -> Result<i64, ConvertError> {
        self.varint(field).map(unzigzag)
    }

    /// How many of something follow. Each takes a byte at least.
    fn count(&mut self, field: &'static str) -> Result<usize, ConvertError> {
        let count = usize::try_from(self.varint(field)?).unwrap_or(usize::MAX);
        if count > self.rest.len() { Err(short(field)) } else { Ok(count) }
    }

    /// A distance to a place, of which `within` are left.
    fn gap(&mut self, field: &'static str, within: usize) -> Result<usize, ConvertError> {
        let gap = usize::try_from(self.varint(field)?).unwrap_or(usize::MAX);
        if gap < within { Ok(gap) } else { Err(bad(field, format!("place {gap} of {within}"))) }
    }

    /// So many whole numbers, the last one first.
    fn row(&mut self, field: &'static str, count: usize) -> Result<Vec<i64>, ConvertError> {
        if count > self.rest.len() {
            return Err(short(field));
        }
        let mut row = (0..count).map(|_| self.int(field)).collect::<Result<Vec<_>, _>>()?;
        row.reverse();
        Ok(row)
    }

    /// So many words whose bytes lie in eight planes, the last one first.
    fn planes(&mut self, field: &'static str, count: usize) -> Result<Vec<u64>, ConvertError> {
        let bytes = self.bytes(field, count.saturating_mul(8))?;
        let word = |at: usize| (0..8).fold(0, |word, byte| word << 8 | u64::from(bytes[byte * count + at]));
        Ok((0..count).rev().map(word).collect())
    }
}

fn short(field: &'static str) -> ConvertError {
    bad(field, "the bytes end in it".to_owned())
}

fn bad(field: &'static str, why: String) -> ConvertError {
    ConvertError::new(field, Problem::Invalid(why)).inside("columns")
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// A value times `places`, if it is a whole number from which the value comes back with the same bits.
#[allow(clippy::cast_possible_truncation)] // within WHOLE_MAX by the comparison before it
fn whole(value: f64, places: f64) -> Option<i64> {
    let whole = (value * places).round();
    let fits = whole.abs() < WHOLE_MAX && (whole as i64 as f64 / places).to_bits() == value.to_bits();
    fits.then_some(whole as i64)
}

#[cfg(test)]
mod tests;
