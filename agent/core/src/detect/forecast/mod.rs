//! Forecasts of what fills up: when will a disk be full?
//!
//! In: used bytes, sample by sample. Out: the time until a capacity is reached, with an interval.
//! What a disk holds is taken apart into what is written all the time ([`demand`]), what comes at
//! one go (steps: a deployment, an image) and what is cut ([`cycle`]: rotation, retention,
//! clean-ups). Each part is foretold by its own habits, and the sum is followed forward until it
//! reaches the capacity ([`path`]), once for each of several speeds spread as widely as forecasts
//! of this very disk have been off ([`track`]). Where it is not reached within two weeks, the
//! answer is never.
//!
//! Bounded ([`Forecaster::state_bytes`]), without allocation after the start, and it knows only
//! what it was shown.

mod cycle;
mod demand;
mod path;
mod ring;
mod track;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use cycle::Falls;
use demand::Demand;
use path::Path;
use ring::Ring;
use track::Track;

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

/// Recent slots: four hours of five minutes.
const SLOTS: (Millis, usize) = (5 * MINUTE, 48);
/// Slots of an hour.
const SLOTS_PER_HOUR: f64 = 12.0;
/// Long memory: two weeks of hours, so that every hour of the week was seen twice.
const HOURS: (Millis, usize) = (HOUR, 336);

/// The usual amount of a slot is a mean over a day of slots.
const USUAL_SLOTS: f64 = 288.0;
/// A step is a slot or two that hold an hour's usual growth while those beside them do not hold a
/// quarter of that: a file was copied, a release was laid out. What goes on for longer is a burst,
/// and counted as writing.
const STEP_RATIO: f64 = SLOTS_PER_HOUR;
/// For how many slots it is left open whether they hold a step.
const OPEN: i64 = 3;
/// A fall cuts more than is usually written in two slots; less than that is a file that was
/// removed in passing, and counted against what is written.
const FALL_RATIO: f64 = 2.0;

/// Samples further apart than this tell nothing of what happened between them.
const GAP_MAX: Millis = 6 * HOUR;

/// When something will be full, in seconds from the last sample; infinite for never.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Hardly sooner than this (one in ten).
    pub low: f64,
    /// The most probable.
    pub expected: f64,
    /// Hardly later than this (one in ten).
    pub high: f64,
}

impl Forecast {
    /// It is not filling.
    pub const NEVER: Self = Self { low: f64::INFINITY, expected: f64::INFINITY, high: f64::INFINITY };
    /// It is full.
    pub const NOW: Self = Self { low: 0.0, expected: 0.0, high: 0.0 };
}

/// What a forecast takes for usual besides how much is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Habits {
    /// How much is usually written at this hour, beside the mean of all hours.
    pub hour: f64,
    /// Whether hours are held against those of the week, rather than those of the day.
    pub is_weekly: bool,
    /// What is cut again and again: every so many milliseconds, next in so many.
    pub cut: Option<(Millis, Millis)>,
}

/// What was learned of one disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecaster {
    /// The sample before.
    last: Option<(Millis, f64)>,
    /// The first sample.
    since: Millis,
    slots: Ring,
    hours: Ring,
    /// What a slot usually adds, steps and falls left out.
    usual: f64,
    steps: Steps,
    falls: Falls,
    /// All growth since the start.
    total: f64,
    track: Track,
}

/// What came at one go: sum and number, forgotten as slowly as the hours are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Steps {
    sum: f64,
    count: f64,
}

impl Default for Forecaster {
    fn default() -> Self {
        Self::new()
    }
}

impl Forecaster {
    /// Nothing learned.
    #[must_use]
    pub fn new() -> Self {
        Self {
            last: None,
            since: 0,
            slots: Ring::new(SLOTS.0, SLOTS.1),
            hours: Ring::new(HOURS.0, HOURS.1),
            usual: 0.0,
            steps: Steps::default(),
            falls: Falls::new(),
            total: 0.0,
            track: Track::new(),
        }
    }

    /// Takes what is used at `t`, in milliseconds of a clock that never goes back.
    pub fn observe(&mut self, t: Millis, used: f64) {
        let Some((before, level)) = self.last.replace((t, used)) else {
            self.since = t;
            self.skip(t);
            return;
        };
        if t <= before {
            self.last = Some((before, used));
            return;
        }
        if t - before > GAP_MAX {
            self.skip(t);
            return;
        }
        let change = used - level;
        let slot = self.slots.current();
        if change < 0.0 && change < -FALL_RATIO * self.usual {
            // What was written meanwhile cannot be seen.
            self.falls.fell(t, -change);
            self.slots.add(before, t, 0.0);
        } else {
            self.slots.add(before, t, change);
            self.falls.grew(change);
            self.total += change;
        }
        for closed in slot..self.slots.current() {
            self.close(closed - OPEN);
        }
        let hour = t.div_euclid(HOUR);
        if self.track.is_due(hour) {
            let growth = Path::new(self, t).growth_until(track::LEADS);
            self.track.turn(hour, self.total, self.usual * SLOTS_PER_HOUR, growth);
        }
    }

    /// When `capacity` is reached.
    #[must_use]
    pub fn forecast(&self, capacity: f64) -> Forecast {
        let Some((now, used)) = self.last else { return Forecast::NEVER };
        if used >= capacity {
            return Forecast::NOW;
        }
        Path::new(self, now).reaches(used, capacity)
    }

    /// What is usual now; `None` before the first sample.
    #[must_use]
    pub fn habits(&self) -> Option<Habits> {
        let (now, _) = self.last?;
        let demand = Demand::new(&self.slots, &self.hours, self.usual, now);
        let cycle = self.falls.cycle(&self.hours, now);
        Some(Habits {
            hour: demand.shape_now(),
            is_weekly: demand.is_weekly(),
            cut: cycle.map(|cycle| (cycle.period(), cycle.next(now) - now)),
        })
    }

    /// Bytes that it takes, whatever it is shown.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        size_of::<Self>() + self.slots.bytes() + self.hours.bytes() + Falls::BYTES
    }

    fn skip(&mut self, t: Millis) {
        self.slots.skip(t);
        self.hours.skip(t);
    }

    /// Takes a slot whose neighbours are known into the long memory, without the step in it.
    #[allow(clippy::cast_precision_loss)]
    fn close(&mut self, slot: i64) {
        let Some(amount) = self.slots.get(slot) else { return };
        let start = slot * self.slots.step();
        let keep = 1.0 - self.slots.step() as f64 / (HOURS.0 * HOURS.1 as Millis) as f64;
        self.steps.sum *= keep;
        self.steps.count *= keep;
        let flow = if self.is_step(slot, amount) {
            self.steps.sum += amount - self.usual;
            self.steps.count += 1.0;
            self.slots.set(slot, self.usual);
            self.usual
        } else {
            amount
        };
        let seen = ((start - self.since) / self.slots.step()).max(1) as f64;
        let bounded = if self.usual > 0.0 { flow.clamp(0.0, STEP_RATIO * self.usual) } else { flow.max(0.0) };
        self.usual += (bounded - self.usual) / seen.min(USUAL_SLOTS);
        self.hours.add(start, start + self.slots.step(), flow);
    }

    /// Whether a slot stands out alone or with one beside it.
    fn is_step(&self, slot: i64, amount: f64) -> bool {
        let limit = STEP_RATIO * self.usual;
        let is_quiet = |at: i64| self.slots.get(at).is_none_or(|amount| amount <= limit / 4.0);
        let alone = is_quiet(slot - 1) && (is_quiet(slot + 1) || is_quiet(slot + 2));
        self.usual > 0.0 && amount > limit && (alone || is_quiet(slot + 1) && is_quiet(slot - 2))
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.option(self.last, |w, (t, used)| {
            w.i64(t);
            w.f64(used);
        });
        writer.i64(self.since);
        self.slots.save(writer);
        self.hours.save(writer);
        for value in [self.usual, self.steps.sum, self.steps.count, self.total] {
            writer.f64(value);
        }
        self.falls.save(writer);
        self.track.save(writer);
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let empty = Self::new();
        Some(Self {
            last: reader.option(|r| Some((r.i64()?, r.f64()?)))?,
            since: reader.i64()?,
            slots: empty.slots.load(reader)?,
            hours: empty.hours.load(reader)?,
            usual: reader.f64()?,
            steps: Steps { sum: reader.f64()?, count: reader.f64()? },
            total: reader.f64()?,
            falls: Falls::load(reader)?,
            track: Track::load(reader)?,
        })
    }
}

#[cfg(test)]
mod tests;
