//! One series as both sides of a session remember it, and the form in which its values are whole numbers.

use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey};

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

/// The place of no series.
pub(super) const NOWHERE: u16 = u16::MAX;

/// A form that was read, if it is one.
pub(super) fn form_of(byte: u8) -> Option<u8> {
    let is_form = byte & !(GAUGE | RAW) == 0 && (byte & RAW == RAW || usize::from(byte & RAW) < PLACES.len());
    is_form.then_some(byte)
}

/// What both sides remember of one series.
#[derive(Debug, Clone)]
pub(in crate::convert) struct Entry {
    pub(super) key: Arc<SeriesKey>,
    /// Its kind and decimal places, as in the head of this file.
    pub(super) form: u8,
    /// Whether it was written before, by a writer.
    pub(super) settled: bool,
    pub(super) changed: bool,
    /// The bits of its value at the end of the summary before.
    pub(super) bits: u64,
    /// By how much that changed, as a whole number: then, or where summaries are coded, when it last changed.
    pub(super) step: i64,
    /// Its place among the series, and that of the one that moves as it does, of which `odds.rs` learns.
    pub(super) at: u16,
    pub(super) twin: u16,
    /// How much better the twin foretells it than its own last step, and how often it did exactly, lately.
    pub(super) score: i8,
    pub(super) exact: u8,
    /// Expected lengths, in quarters of a bit: of what is left of its steps, of that beside the twin, and of how far extremes
    /// lie from where they were expected.
    pub(super) length: u8,
    pub(super) twin_length: u8,
    pub(super) side_length: u8,
    /// How often its windows had two values only.
    pub(super) twos: u8,
    /// How often it changes, in parts of 256, and whether it did, the last eight times.
    pub(super) often: u8,
    pub(super) lately: u8,
}

impl Entry {
    pub(super) fn new(key: Arc<SeriesKey>) -> Self {
        Self {
            key,
            form: 0,
            settled: false,
            changed: false,
            bits: 0,
            step: 0,
            at: NOWHERE,
            twin: NOWHERE,
            score: 0,
            exact: 0,
            length: 0,
            twin_length: 0,
            side_length: 0,
            twos: 0,
            often: 0,
            lately: 0,
        }
    }

    /// The series.
    pub(in crate::convert) fn key(&self) -> &SeriesKey {
        &self.key
    }

    pub(super) fn is_gauge(&self) -> bool {
        self.form & GAUGE != 0
    }

    pub(super) fn places(&self) -> Option<f64> {
        PLACES.get(usize::from(self.form & !GAUGE)).copied()
    }

    pub(super) fn reform(&mut self, form: u8) {
        self.form = form;
        self.step = 0;
    }

    /// The value before as a whole number, if it is one in the form.
    pub(super) fn whole(&self) -> i64 {
        self.places().and_then(|places| whole(f64::from_bits(self.bits), places)).unwrap_or(0)
    }

    /// The point of a series that did not change.
    pub(super) fn same(&self) -> Point {
        let value = f64::from_bits(self.bits);
        if self.is_gauge() {
            Point::Gauge { last: value, min: value, max: value, mean: value }
        } else {
            Point::Counter(value)
        }
    }

    pub(super) fn is_same(&self, point: &Point) -> bool {
        match point {
            Point::Counter(value) => !self.is_gauge() && value.to_bits() == self.bits,
            Point::Gauge { last, min, max, mean } => {
                self.is_gauge() && [last, min, max, mean].iter().all(|value| value.to_bits() == self.bits)
            }
        }
    }

    /// The form for a point: with the places that it had if they do, else the largest unit if units are known, else the
    /// fewest places.
    pub(super) fn form_for(&self, point: &Point, samples: u32, units: bool) -> u8 {
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
pub(super) struct Mean {
    pub(super) sum: i64,
    pub(super) ulps: i64,
}

impl Mean {
    #[allow(clippy::cast_possible_truncation)] // within WHOLE_MAX by the comparison before it
    pub(super) fn of(mean: f64, places: f64, samples: u32) -> Option<Self> {
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

    pub(super) fn value(&self, places: f64, samples: u32) -> f64 {
        f64::from_bits(Self::rounded(self.sum, places, samples).to_bits().wrapping_add_signed(self.ulps))
    }
}

/// A value times `places`, if it is a whole number from which the value comes back with the same bits.
#[allow(clippy::cast_possible_truncation)] // within WHOLE_MAX by the comparison before it
pub(super) fn whole(value: f64, places: f64) -> Option<i64> {
    let whole = (value * places).round();
    let fits = whole.abs() < WHOLE_MAX && (whole as i64 as f64 / places).to_bits() == value.to_bits();
    fits.then_some(whole as i64)
}
