//! How far off forecasts of growth have been: every one is held against what came.
//!
//! Every hour a forecast is made for the next hour and for a day ahead, and every day one for a
//! week ahead. When it is due, its error says how widely the next ones have to be spread. So a
//! disk that fills like a clock gets a narrow interval, and one that fills in bursts a wide one.

use crate::detect::codec::{Reader, Writer};

/// Leads that are tried, in hours.
pub(super) const LEADS: [i64; 3] = [1, 24, 168];
/// Forecasts of each lead that are under way at one time.
const UNDER_WAY: [i64; 3] = [1, 24, 7];
const ALL: usize = 32;
/// Hours that have to be known before a lead is tried: nothing is learned from a guess.
const KNOWN: [f64; 3] = [1.0, 24.0, 48.0];
/// Forecasts over which errors are averaged: two days of the hourly ones, eight of the daily.
const MEMORY: [f64; 3] = [48.0, 48.0, 8.0];

/// The error that is assumed before any was seen, as a logarithm: a fifth.
const FIRST: f64 = 0.2;
/// How many forecasts that is worth.
const FIRST_WEIGHT: f64 = 4.0;
/// Errors by more than a factor of five say no more than that.
const ERROR_MAX: f64 = 1.6;
/// Mean absolute errors are this share of the deviation of a normal distribution.
const MEAN_OF_NORMAL: f64 = 0.8;
/// Growth of less than this share of the usual is as good as none.
const FLOOR_RATIO: f64 = 0.04;

/// Forecasts under way and how those before were off.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    /// Hour of the last turn.
    hour: i64,
    /// Hours seen.
    seen: f64,
    /// All growth when each forecast was made, and what it should be when it is due.
    made: [(f64, f64); ALL],
    /// Sum and weight of absolute errors, by lead.
    errors: [(f64, f64); 3],
}

impl Track {
    pub(super) fn new() -> Self {
        Self { hour: i64::MIN, seen: 0.0, made: [(0.0, f64::NAN); ALL], errors: [(0.0, 0.0); 3] }
    }

    pub(super) fn is_due(&self, hour: i64) -> bool {
        hour > self.hour
    }

    /// At the turn of an hour: `total` is all growth until now, `usual` that of an hour, and
    /// `growth` what is expected until each lead.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn turn(&mut self, hour: i64, total: f64, usual: f64, growth: [f64; 3]) {
        if self.hour.checked_add(1) != Some(hour) {
            // Nothing is known of the time between.
            self.made.fill((0.0, f64::NAN));
        }
        self.hour = hour;
        self.seen += 1.0;
        let mut first = 0;
        for lead in 0..LEADS.len() {
            let every = LEADS[lead] / UNDER_WAY[lead];
            if hour.rem_euclid(every) == 0 {
                let place = first + hour.div_euclid(every).rem_euclid(UNDER_WAY[lead]);
                let made = &mut self.made[usize::try_from(place).unwrap_or(0)];
                if !made.1.is_nan() {
                    let floor = FLOOR_RATIO * usual * LEADS[lead] as f64 + 1.0;
                    let error = ((total - made.0).max(0.0) + floor) / ((made.1 - made.0).max(0.0) + floor);
                    let (sum, weight) = &mut self.errors[lead];
                    let keep = 1.0 - 1.0 / MEMORY[lead];
                    *sum = *sum * keep + error.ln().abs().min(ERROR_MAX);
                    *weight = *weight * keep + 1.0;
                }
                let is_known = self.seen >= KNOWN[lead];
                *made = (total, if is_known { total + growth[lead] } else { f64::NAN });
            }
            first += UNDER_WAY[lead];
        }
    }

    /// The deviations of growth until each lead, as logarithms.
    pub(super) fn spreads(&self) -> Spreads {
        let of = |lead: usize, first: f64| {
            let (sum, weight) = self.errors[lead];
            (sum / MEAN_OF_NORMAL + first * FIRST_WEIGHT) / (weight + FIRST_WEIGHT)
        };
        let day = of(1, FIRST);
        // A week is off as a day is, until it is known better.
        Spreads([of(0, FIRST), day, of(2, day)])
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.i64(self.hour);
        writer.f64(self.seen);
        for (a, b) in self.made.iter().chain(&self.errors) {
            writer.f64(*a);
            writer.f64(*b);
        }
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self { hour: reader.i64()?, seen: reader.f64()?, ..Self::new() };
        for pair in loaded.made.iter_mut().chain(&mut loaded.errors) {
            *pair = (reader.f64()?, reader.f64()?);
        }
        Some(loaded)
    }
}

/// How far off growth will be until each of the leads, as logarithms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spreads([f64; 3]);

impl Spreads {
    pub(super) fn at(self, place: Place) -> f64 {
        let (from, to) = (self.0[place.lead], self.0[place.lead + 1]);
        from + (to - from) * place.share
    }
}

/// Where a moment lies between two leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The lead before it, unless it is nearer than all.
    lead: usize,
    /// How much of the way to the next one it is, in logarithms.
    share: f64,
}

impl Place {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(hours: f64) -> Self {
        let lead = usize::from(hours > LEADS[1] as f64);
        let (from, to) = (LEADS[lead] as f64, LEADS[lead + 1] as f64);
        Self { lead, share: ((hours / from).ln() / (to / from).ln()).clamp(0.0, 1.0) }
    }
}
