//! The body of a summary at the price that was to be expected: for each series whether it changed, and if it did, how.
//!
//! Written once for both directions. A series is foretold by its own last step, or, where that has been better, by what its
//! *twin* did just before: hosts show the same number under several names. What is left costs bits by how long it mostly is.

use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey, Summary};

use super::super::ConvertError;
use super::Columns;
use super::chance::Bits;
use super::entry::{Entry, Mean, form_of, whole};
use super::odds::{Kind, Odds, TELLING_STEP};
use super::reader::{bad, short};
use super::seen::Seen;
use super::way::Way;

/// The expected lengths, in quarters, of what differs between two numbers of no form, and of what rounding left of a mean.
const RAW_LENGTH: u8 = 208;
const ULPS_LENGTH: u8 = 16;

impl Columns {
    /// Writes a summary that is told, whose series are those of the entries; or reads one, giving its points.
    pub(super) fn code<B: Bits>(
        &mut self,
        bits: &mut B,
        told: Option<&Summary>,
        mut heard: impl FnMut(&Arc<SeriesKey>, Point),
    ) -> Result<(), ConvertError> {
        let Self { entries, clocks, odds } = self;
        clocks.code(bits, odds, told)?;
        let (mut ways, mut seen, mut beside) = (vec![None; entries.len()], Seen::new(), false);
        for at in 0..entries.len() {
            if bits.is_past_end() {
                return Err(short("values"));
            }
            let (entry, told) = (&mut entries[at], told.map(|summary| summary.points[at].1));
            entry.changed = odds.changed(bits, entry, beside, told.is_some_and(|point| !entry.is_same(&point)));
            beside = entry.changed;
            if !entry.changed {
                heard(&entry.key, entry.same());
                continue;
            }
            odds.form(bits, entry, told.as_ref(), clocks.samples)?;
            let twin = ways.get(usize::from(entry.twin)).copied().flatten();
            let (point, way) = match entry.places() {
                None => (odds.raw(bits, entry, told), None),
                Some(places) => {
                    let (point, way) = odds.point(bits, entry, (places, clocks.samples), twin, told);
                    (point, Some(way))
                }
            };
            if let Some(way) = way
                && way.step.unsigned_abs() >= TELLING_STEP
                && let Some(twin) = seen.note((way.step, entry.is_gauge()), entry.at)
            {
                entry.try_twin(twin);
            }
            ways[at] = way;
            let (Point::Counter(last) | Point::Gauge { last, .. }) = point;
            entry.bits = last.to_bits();
            heard(&entry.key, point);
        }
        Ok(())
    }
}

impl Odds {
    fn form<B: Bits>(
        &mut self,
        bits: &mut B,
        entry: &mut Entry,
        told: Option<&Point>,
        samples: u32,
    ) -> Result<(), ConvertError> {
        let form = told.map_or(entry.form, |point| entry.form_for(point, samples, true));
        entry.settled = true;
        if bits.bit(&mut self.reformed, form != entry.form) {
            let form = u8::try_from(bits.even(32, form.into())).ok().and_then(form_of);
            entry.reform(form.ok_or_else(|| bad("forms", "no form".to_owned()))?);
        }
        Ok(())
    }

    /// Numbers of no form: each in how its bits differ from the last one's.
    fn raw<B: Bits>(&mut self, bits: &mut B, entry: &Entry, told: Option<Point>) -> Point {
        let mut next = |before: u64, told: f64| {
            let differs = self.size(bits, Kind::Rare, RAW_LENGTH, told.to_bits() ^ before);
            f64::from_bits(differs ^ before)
        };
        let (last, others) = match told {
            None => (0.0, [0.0; 3]),
            Some(Point::Counter(last)) => (last, [0.0; 3]),
            Some(Point::Gauge { last, min, max, mean }) => (last, [min, max, mean]),
        };
        let last = next(entry.bits, last);
        if !entry.is_gauge() {
            return Point::Counter(last);
        }
        let [min, max, mean] = others.map(|other| next(last.to_bits(), other));
        Point::Gauge { last, min, max, mean }
    }

    /// Numbers of a form, and how the series went.
    fn point<B: Bits>(
        &mut self,
        bits: &mut B,
        entry: &mut Entry,
        (places, samples): (f64, u32),
        twin: Option<Way>,
        told: Option<Point>,
    ) -> (Point, Way) {
        let told = told.and_then(|point| Told::of(&point, entry.whole(), places, samples)).unwrap_or_default();
        let trusted = twin.filter(|_| entry.trusts_twin());
        let before = entry.whole();
        let step = self.step(bits, entry, twin.map(|twin| twin.step), told.way.step);
        let last = before.wrapping_add(step);
        let value = |whole: i64| whole as f64 / places;
        if !entry.is_gauge() {
            return (Point::Counter(value(last)), Way { step, ..Way::default() });
        }
        let way = self.way(bits, entry, trusted, samples, Way { step, ..told.way });
        let is_off = bits.bit(&mut self.off, told.ulps != 0);
        let ulps = if is_off { self.number(bits, Kind::Rare, ULPS_LENGTH, 1, told.ulps) } else { 0 };
        let min = last.wrapping_sub(way.below);
        let sum = way.sum.wrapping_add(min.wrapping_mul(samples.into()));
        let mean = Mean { sum, ulps }.value(places, samples);
        (Point::Gauge { last: value(last), min: value(min), max: value(last.wrapping_add(way.above)), mean }, way)
    }
}

/// What a writer has to tell of a point.
#[derive(Debug, Default)]
struct Told {
    way: Way,
    ulps: i64,
}

impl Told {
    /// `None` where the form does not fit, which it does whenever [`Entry::form_for`] chose it.
    fn of(point: &Point, before: i64, places: f64, samples: u32) -> Option<Self> {
        match point {
            Point::Counter(last) => {
                let step = whole(*last, places)?.wrapping_sub(before);
                Some(Self { way: Way { step, ..Way::default() }, ulps: 0 })
            }
            Point::Gauge { last, min, max, mean } => {
                let (last, min, max) = (whole(*last, places)?, whole(*min, places)?, whole(*max, places)?);
                let mean = Mean::of(*mean, places, samples)?;
                let way = Way {
                    step: last.wrapping_sub(before),
                    below: last.wrapping_sub(min),
                    above: max.wrapping_sub(last),
                    sum: mean.sum.wrapping_sub(min.wrapping_mul(samples.into())),
                };
                Some(Self { way, ulps: mean.ulps })
            }
        }
    }
}
