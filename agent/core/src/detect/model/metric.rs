//! What is usual for one metric, and how rare it is what it does now.
//!
//! Six experts look at it. *Extreme*: one value further out than values have been, unless its
//! season explains it. *Sustained*, four times: the deviation from what is expected at this time
//! of day and week, as a mean over 3, 12, 48 and 192 samples, so that a little too much for hours
//! is seen as well as far too much for minutes. *Rough*: it goes up and down more, or less, than
//! it has. Each says how improbable the present is by its own past ([`Sketch`]), so all speak the
//! same language, and the most surprised one is believed.

use super::season::Season;
use super::sketch::Sketch;
use crate::detect::codec::{Reader, Writer};

/// Samples over which a deviation is watched: a factor of four between them, so that none is far
/// from what an incident lasts.
const SUSTAINED_SPANS: [u16; 4] = [3, 12, 48, 192];

/// Samples over which going up and down is watched.
const ROUGH_SPAN: u16 = 6;

/// What was seen four weeks, or so many samples, ago counts little.
const MEMORY_SECONDS: f64 = 28.0 * 86_400.0;
const MEMORY_SAMPLES: f32 = 1_000.0;

/// A mean speaks when its span has been seen so many times; before that it does not know what
/// means are usual.
const SPANS_MIN: f32 = 30.0;

/// A single value is judged after so many.
pub(super) const SAMPLES_MIN: f32 = 100.0;

/// Changes below this share of the level do not matter, however steady the metric is. The same
/// for what is measured in the metric's own scale.
const RELATIVE_FLOOR: f32 = 0.01;
const ABSOLUTE_FLOOR: f32 = 1e-9;
const MEAN_FLOOR: f32 = 0.001;

/// An extreme value is at most this much (as logarithm) more surprising than its distance from
/// what was expected: on a metric that grows every value is the largest ever.
const BEYOND_SEASON: f32 = 2.0;

/// A probability per sample is worth this much (as logarithm) less than one per span of samples:
/// there are more occasions for it to be small.
const PER_SAMPLE: f32 = 1.0;

/// What distances are measured by changes slowly; once in so many samples is often enough.
const MEASURE_SAMPLES: u8 = 16;

/// Values further out than this are taken as this, so that sums of them stay finite.
const MOST: f32 = 1e30;

/// From the 10th to the 90th percentile it is this many standard deviations of the normal
/// distribution.
const DECILES: f32 = 2.563;

/// A mean over the last samples, with the means that it has had.
#[derive(Debug, Clone, PartialEq, Default)]
struct Sustained {
    mean: f32,
    samples: u16,
    seen: Sketch,
}

impl Sustained {
    /// Takes `x` and says how rare the mean over `span` samples is now. Neighbouring means are
    /// hardly different, so together those of one span count as one.
    fn observe(&mut self, x: f32, span: u16, memory: f32) -> f32 {
        self.samples = (self.samples + 1).min(span);
        self.mean += (x - self.mean) / f32::from(self.samples);
        let is_known = self.seen.total() >= SPANS_MIN;
        let surprise = if is_known { self.seen.surprise(self.mean, MEAN_FLOOR) } else { 0.0 };
        self.seen.add(self.mean, 1.0 / f32::from(span), memory / f32::from(span));
        surprise
    }

    fn save(&self, writer: &mut Writer) {
        writer.f32(self.mean);
        writer.u32(u32::from(self.samples));
        self.seen.save(writer);
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mean = reader.f32().filter(|mean| mean.is_finite())?;
        let samples = u16::try_from(reader.u32()?).ok()?;
        Some(Self { mean, samples, seen: Sketch::load(reader)? })
    }
}

/// What distances are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Measure {
    middle: f32,
    scale: f32,
    floor: f32,
    /// Samples until it is taken anew.
    left: u8,
}

/// One metric: some 3 KiB.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Metric {
    season: Season,
    values: Sketch,
    misses: Sketch,
    measure: Measure,
    sustained: [Sustained; SUSTAINED_SPANS.len()],
    rough: Sustained,
    last_score: f32,
}

/// What is said of one value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Judged {
    /// Minus the logarithm of the probability of what is seen.
    pub(crate) surprise: f64,
    /// What was expected.
    pub(crate) expected: f64,
    /// The usual distance from it.
    pub(crate) scale: f64,
    /// For how many seconds, about: how long the expert looks back.
    pub(crate) seconds: f64,
}

impl Metric {
    /// Judges a value by what was learned before, then learns it. `at` is the time in seconds
    /// (of which days and weeks are made), `dt` the usual time between samples.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn observe(&mut self, value: f64, at: f64, dt: f64) -> Judged {
        let x = (value as f32).clamp(-MOST, MOST);
        let memory = ((MEMORY_SECONDS / dt) as f32).max(MEMORY_SAMPLES);
        let expected = self.season.observe(x, at, dt);
        // During the first day everything is as expected: the distances begin around nothing.
        let miss = expected.map_or(0.0, |expected| x - expected);
        let Measure { middle, scale, floor, .. } = self.measure();
        let is_known = self.values.total() >= SAMPLES_MIN;
        let mut judged =
            Judged { expected: f64::from(x - miss + middle), scale: f64::from(scale), ..Judged::default() };
        let mut say = |surprise: f32, span: u16| {
            if f64::from(surprise) > judged.surprise {
                (judged.surprise, judged.seconds) = (f64::from(surprise), f64::from(span) * dt);
            }
        };
        if is_known {
            let explained = self.misses.surprise(miss, floor) + BEYOND_SEASON;
            say(self.values.surprise(x, floor).min(explained) - PER_SAMPLE, 1);
        }
        // The logarithm of far distances: one wild value must not stand for hours.
        let matters = is_known && (miss - middle).abs() > floor;
        let distance = if matters { ((miss - middle) / scale).clamp(-MOST, MOST).asinh() } else { 0.0 };
        for (sustained, span) in self.sustained.iter_mut().zip(SUSTAINED_SPANS) {
            say(sustained.observe(distance, span, memory), span);
        }
        let score = if is_known { normal_score(self.values.share_below(x, floor)) } else { 0.0 };
        let step = (score - self.last_score).abs();
        say(self.rough.observe(step, ROUGH_SPAN, memory) - PER_SAMPLE, ROUGH_SPAN);
        self.last_score = score;
        self.values.add(x, 1.0, memory);
        self.misses.add(miss, 1.0, memory);
        judged
    }

    fn measure(&mut self) -> Measure {
        if self.measure.left == 0 {
            let matters = RELATIVE_FLOOR * self.values.quantile(0.5).abs();
            let [low, middle, high] = [0.1, 0.5, 0.9].map(|share| self.misses.quantile(share));
            let usual = (high - low) / DECILES;
            let floor = (matters - usual).max(ABSOLUTE_FLOOR);
            self.measure =
                Measure { middle, scale: usual.max(matters).max(ABSOLUTE_FLOOR), floor, left: MEASURE_SAMPLES };
        }
        self.measure.left -= 1;
        self.measure
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        self.season.save(writer);
        self.values.save(writer);
        self.misses.save(writer);
        self.sustained.iter().for_each(|sustained| sustained.save(writer));
        self.rough.save(writer);
        let Measure { middle, scale, floor, left } = self.measure;
        [self.last_score, middle, scale, floor].into_iter().for_each(|value| writer.f32(value));
        writer.u8(left);
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let season = Season::load(reader)?;
        let (values, misses) = (Sketch::load(reader)?, Sketch::load(reader)?);
        let mut metric = Self { season, values, misses, ..Self::default() };
        for sustained in &mut metric.sustained {
            *sustained = Sustained::load(reader)?;
        }
        metric.rough = Sustained::load(reader)?;
        let Measure { middle, scale, floor, left } = &mut metric.measure;
        for value in [&mut metric.last_score, middle, scale, floor] {
            *value = reader.f32().filter(|value| value.is_finite())?;
        }
        *left = reader.u8()?;
        Some(metric)
    }
}

/// The value of the normal distribution below which a share of it is (Abramowitz & Stegun
/// 26.2.23, within 0.0005).
fn normal_score(share: f32) -> f32 {
    let tail = share.min(1.0 - share).max(f32::MIN_POSITIVE);
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + 0.802_853 * t + 0.010_328 * t * t;
    let below = 1.0 + 1.432_788 * t + 0.189_269 * t * t + 0.001_308 * t * t * t;
    let z = t - above / below;
    if share < 0.5 { -z } else { z }
}
