//! What a metric is expected to be now: by the quarter-hour of the day, by the hour of the week,
//! or by what it has been lately, whichever has been wrong by less during the last week.
//!
//! Choosing the expert with the least recent error follows a metric that gains or loses its daily
//! rhythm or begins to grow (prediction with expert advice; Cesa-Bianchi & Lugosi 2006). Updates
//! are clipped at a few times the usual error (Huber 1964), so that neither an incident nor one
//! wild value is expected again at the same time tomorrow.

use crate::detect::codec::{Reader, Writer};

const DAY: f64 = 86_400.0;
const WEEK: f64 = 7.0 * DAY;

/// A quarter-hour of the day remembers two weeks, an hour of the week four.
const DAY_BINS: usize = 96;
const DAY_VISITS: f64 = 14.0;
const WEEK_BINS: usize = 168;
const WEEK_VISITS: f64 = 4.0;

/// Memory of what has been lately, in samples: a day of five-minute samples.
const RECENT_SAMPLES: f32 = 288.0;

/// The recent level is believed where it has been wrong by less than this share of what the bins
/// were: on a metric that grows. Elsewhere going over to it and back would look like a change.
const RECENT_MARGIN: f32 = 0.5;

/// No update counts for more than this many times the usual error, once there are so many errors
/// that it is known.
const CLIP: f32 = 3.0;
const CLIP_FROM: f32 = 50.0;

/// What is expected by the bins of one period.
#[derive(Debug, Clone, PartialEq)]
struct Bins<const N: usize> {
    /// By bin; NaN where nothing has been seen.
    level: [f32; N],
    /// The mean absolute error, and of how many.
    error: f32,
    errors: f32,
    /// The bin in hand and how many samples it has had in this visit.
    slot: u8,
    samples: f32,
}

/// Where in a period a moment is.
#[derive(Debug, Clone, Copy)]
struct Place {
    slot: usize,
    /// How often the period has been seen whole.
    visits: f64,
    samples_per_visit: f64,
    visits_max: f64,
}

impl Place {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn new(at: f64, age: f64, dt: f64, period: f64, bins: usize, visits_max: f64) -> Self {
        let bins_f = bins as f64;
        let slot = ((at / period).rem_euclid(1.0) * bins_f) as usize % bins;
        let samples_per_visit = (period / bins_f / dt).max(1.0);
        Self { slot, visits: (age / period).floor(), samples_per_visit, visits_max }
    }
}

impl<const N: usize> Bins<N> {
    const NEW: Self = Self { level: [f32::NAN; N], error: 0.0, errors: 0.0, slot: u8::MAX, samples: 0.0 };

    /// `None` before the period has been seen whole.
    fn expected(&self, place: Place) -> Option<f32> {
        Some(self.level[place.slot]).filter(|level| place.visits >= 1.0 && !level.is_nan())
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn learn(&mut self, x: f32, place: Place) {
        if usize::from(self.slot) != place.slot {
            (self.slot, self.samples) = (place.slot as u8, 0.0);
        }
        self.samples += 1.0;
        let level = &mut self.level[place.slot];
        if level.is_nan() {
            *level = x;
            return;
        }
        let mut miss = x - *level;
        let most = place.visits_max * place.samples_per_visit;
        if place.visits >= 1.0 {
            if self.errors >= CLIP_FROM {
                miss = miss.clamp(-CLIP * self.error, CLIP * self.error);
            }
            self.errors = (self.errors + 1.0).min((most * N as f64) as f32);
            self.error += (miss.abs() - self.error) / self.errors;
        }
        let seen = (place.visits * place.samples_per_visit + f64::from(self.samples)).min(most);
        *level += miss / (seen as f32).max(1.0);
    }

    fn save(&self, writer: &mut Writer) {
        self.level.iter().for_each(|level| writer.f32(*level));
        [self.error, self.errors, self.samples].into_iter().for_each(|value| writer.f32(value));
        writer.u8(self.slot);
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut bins = Self::NEW;
        for level in &mut bins.level {
            *level = reader.f32().filter(|level| !level.is_infinite())?;
        }
        for value in [&mut bins.error, &mut bins.errors, &mut bins.samples] {
            *value = reader.f32().filter(|value| value.is_finite())?;
        }
        bins.slot = reader.u8()?;
        Some(bins)
    }
}

/// The three experts and how wrong they have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Season {
    day: Bins<DAY_BINS>,
    week: Bins<WEEK_BINS>,
    recent: f32,
    samples: f32,
    /// The mean absolute error of day, week and recent, and of how many samples.
    errors: [f32; 3],
    compared: f32,
    began: f64,
}

impl Default for Season {
    fn default() -> Self {
        let (day, week) = (Bins::NEW, Bins::NEW);
        Self { day, week, recent: 0.0, samples: 0.0, errors: [0.0; 3], compared: 0.0, began: 0.0 }
    }
}

impl Season {
    /// What was expected of `x` at `at` (seconds of which days and weeks are made), then learns
    /// it. Samples are `dt` seconds apart. `None` during the first day, which is all there is.
    pub(crate) fn observe(&mut self, x: f32, at: f64, dt: f64) -> Option<f32> {
        if self.samples <= 0.0 {
            (self.began, self.recent) = (at, x);
        }
        let age = (at - self.began).max(0.0);
        let day = Place::new(at, age, dt, DAY, DAY_BINS, DAY_VISITS);
        let week = Place::new(at, age, dt, WEEK, WEEK_BINS, WEEK_VISITS);
        let expected = self.expected(x, dt, day, week);
        self.day.learn(x, day);
        self.week.learn(x, week);
        self.samples = (self.samples + 1.0).min(RECENT_SAMPLES);
        self.recent += (x - self.recent) / self.samples;
        expected
    }

    #[allow(clippy::cast_possible_truncation)]
    fn expected(&mut self, x: f32, dt: f64, day: Place, week: Place) -> Option<f32> {
        if day.visits < 1.0 {
            return None;
        }
        let Some(of_day) = self.day.expected(day) else { return Some(self.recent) };
        let of_week = self.week.expected(week).unwrap_or(of_day);
        let [day_error, week_error, recent_error] = self.errors;
        let expected = if recent_error < RECENT_MARGIN * day_error.min(week_error) {
            self.recent
        } else if week_error < day_error {
            of_week
        } else {
            of_day
        };
        self.compared = (self.compared + 1.0).min((WEEK / dt).max(1.0) as f32);
        for (error, expected) in self.errors.iter_mut().zip([of_day, of_week, self.recent]) {
            *error += ((x - expected).abs() - *error) / self.compared;
        }
        Some(expected)
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        self.day.save(writer);
        self.week.save(writer);
        [self.recent, self.samples, self.compared].into_iter().for_each(|value| writer.f32(value));
        self.errors.iter().for_each(|error| writer.f32(*error));
        writer.f64(self.began);
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let (day, week) = (Bins::load(reader)?, Bins::load(reader)?);
        let mut season = Self { day, week, ..Self::default() };
        let [day_error, week_error, recent_error] = &mut season.errors;
        let values =
            [&mut season.recent, &mut season.samples, &mut season.compared, day_error, week_error, recent_error];
        for value in values {
            *value = reader.f32().filter(|value| value.is_finite())?;
        }
        season.began = reader.f64().filter(|began| began.is_finite())?;
        Some(season)
    }
}
