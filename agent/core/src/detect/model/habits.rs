//! Trouble that comes every day at the same time: a backup, a report, the builds of a working day.
//!
//! A quarter-hour of the day remembers on which of its last eight visits the metric was in trouble there, and how far off it
//! was. Where that was so on four of them, here or in a quarter-hour beside, trouble of that size is how the metric is at this
//! time: it is told four times, and then no more, unless it is greater than it was. What is over within ten steps is no trouble
//! in this sense, and what comes at another time of the day is none of these.

use super::residual::{BINS, UNUSUAL};
use crate::detect::codec::{Reader, Writer};

/// On half of the last eight days it is a habit. Less than that is what people call incidents, several days in a row.
const DAYS_MIN: u32 = 4;

/// What is left of a size after a visit with trouble: it follows what comes within some weeks.
const SIZE_KEEP: f32 = 0.9;

/// Nothing is farther off than that.
const FARTHEST: f64 = 1e9;

/// When a metric is in trouble every day, by quarter-hours: half a KiB.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Habits {
    /// On which of its last visits there was trouble: the lowest bit is the last one.
    days: [u8; BINS],
    /// How far off it was then, in scales.
    sizes: [f32; BINS],
    /// The visit under way: where, and the farthest trouble of it.
    bin: u8,
    farthest: f32,
}

impl Default for Habits {
    fn default() -> Self {
        Self { days: [0; BINS], sizes: [0.0; BINS], bin: 0, farthest: 0.0 }
    }
}

impl Habits {
    /// Holds a distance in scales against what is usual trouble in this quarter-hour; `None` where none is.
    pub(super) fn held(&self, raw: f64, bin: usize) -> Option<f64> {
        let (before, after) = ((bin + BINS - 1) % BINS, (bin + 1) % BINS);
        // The quarter-hour before has been visited today already, and was left, which made that its last visit.
        let days = self.days[before] >> 1 | self.days[bin] | self.days[after];
        let size = self.sizes[before].max(self.sizes[bin]).max(self.sizes[after]);
        (days.count_ones() >= DAYS_MIN && size > 0.0).then(|| raw * UNUSUAL / f64::from(size).max(UNUSUAL))
    }

    /// Notes how far off it is in this quarter-hour: not at all where it is in no trouble.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn note(&mut self, trouble: Option<f64>, bin: usize) {
        if usize::from(self.bin) != bin {
            self.leave();
            self.bin = bin as u8;
        }
        if let Some(raw) = trouble {
            self.farthest = self.farthest.max(raw.min(FARTHEST) as f32);
        }
    }

    /// Ends the visit of a quarter-hour.
    fn leave(&mut self) {
        let bin = usize::from(self.bin);
        let was_trouble = self.farthest > 0.0;
        self.days[bin] = self.days[bin] << 1 | u8::from(was_trouble);
        if was_trouble {
            self.sizes[bin] = self.farthest.max(self.sizes[bin] * SIZE_KEEP);
        } else if self.days[bin] == 0 {
            self.sizes[bin] = 0.0;
        }
        self.farthest = 0.0;
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        self.days.iter().for_each(|days| writer.u8(*days));
        self.sizes.iter().for_each(|size| writer.f32(*size));
        writer.u8(self.bin);
        writer.f32(self.farthest);
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::default();
        let is_size = |size: &f32| size.is_finite() && *size >= 0.0;
        for days in &mut loaded.days {
            *days = reader.u8()?;
        }
        for size in &mut loaded.sizes {
            *size = reader.f32().filter(is_size)?;
        }
        loaded.bin = reader.u8().filter(|bin| usize::from(*bin) < BINS)?;
        loaded.farthest = reader.f32().filter(is_size)?;
        Some(loaded)
    }
}
