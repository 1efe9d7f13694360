//! How far one metric is from what is usual for it, in its own scale: the host's view of a metric.
//!
//! Usual is the level at this time of day: quarter-hours, interpolated, with an offset that follows
//! in days. The distance from it is not brought to a probability: what happens to two samples of a
//! day for weeks is rare and stays so, and how gross it is tells it from what merely happens
//! seldom. Instead a distance is held against the metric's own usual extremes, so that a metric
//! which jumps twenty times a day cannot outshout one which never moves.
//!
//! Everything learned is clipped at a few scales: hours of trouble hardly move it. Only a shift
//! that lasts for a day without a break is taken for the new usual at once.

use super::habits::Habits;
use crate::detect::Learning;
use crate::detect::codec::{Reader, Writer};

/// Bins of a day: quarter-hours.
pub(super) const BINS: usize = 96;
const DAY: f64 = 86_400.0;
#[allow(clippy::cast_precision_loss)]
const BIN: f64 = DAY / BINS as f64;

/// A quarter-hour of the day remembers seven visits, a week: as long as people's habits.
const BIN_MEMORY: f64 = 7.0 * BIN;

/// Memory of scales and of the distances seen: two weeks, so that a weekend is part of it twice.
const MEMORY: f64 = 14.0 * DAY;

/// The recent level, which stands in for a quarter-hour that was never seen, forgets in an hour.
const HOUR: f64 = 3_600.0;

/// The offset on all quarter-hours follows in three days: slower than trouble, faster than a season.
const OFFSET_MEMORY: f64 = 3.0 * DAY;

/// Nothing is said before every quarter-hour has been seen once.
pub(super) const WARM: f64 = DAY;

/// Until two hours are seen the scale is unknown and nothing is clipped by it.
const YOUNG: f64 = 7_200.0;

/// No update counts for more than three scales: so far, an ordinary value may be off.
const CLIP: f64 = 3.0;

/// A shift beyond the clip that lasts this long without a break is the new usual. The longest
/// troubles that are not noticed and ended otherwise last most of a day.
const RELEARN_AFTER: f64 = DAY;

/// Changes below this share of the level do not matter, however steady the metric is.
const RELATIVE_FLOOR: f64 = 0.01;

/// The scale of a metric that has always been zero, where no floor of its own is known.
const ABSOLUTE_FLOOR: f64 = 1e-6;

/// The metric's own extremes: the distance that two samples in a thousand reach.
const EXTREME_SHARE: f64 = 0.002;

/// Bursts belong to a metric's extremes, and those that are over after so many steps are learned. What
/// lasts longer is trouble: it must not become its own measure.
const BURST_STEPS: f64 = 10.0;

/// What a metric at its own extremes counts at most, and no multiple of a scale counts beyond
/// [`DISTANCE_MAX`]: it is as gross as can be.
const AT_EXTREME: f64 = 25.0;
const DISTANCE_MAX: f64 = 500.0;

/// From this distance on a value is unusual. In mean absolute deviations: some 2.4 sigma.
pub(super) const UNUSUAL: f64 = 3.0;

/// What is said of one value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Deviation {
    /// In scales, held against the metric's own extremes; 0 while it learns.
    pub(super) distance: f64,
    /// The same, held against its usual trouble at this time of the day as well.
    pub(super) beyond_habit: f64,
    /// What was expected.
    pub(super) expected: f64,
    /// The usual distance from it.
    pub(super) scale: f64,
}

/// What is usual for a metric at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// The usual level at this time of day.
    pub expected: f64,
    /// The usual distance from it.
    pub scale: f64,
    /// From so far off on, above and below, a value is unusual.
    pub limit: f64,
    /// Seconds that were learned from, up to the memory of two weeks.
    pub seen_seconds: f64,
    /// For how many more seconds it is learned before anything is said of it.
    pub learning_seconds: f64,
    /// For how many seconds it has been unusual without a break.
    pub unusual_seconds: f64,
}

/// What a usual level is made of, besides the metric's mean over the day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// What the time of day adds to the mean.
    pub season: f64,
    /// What has been added in the last days, whatever the time of day.
    pub drift: f64,
}

/// One metric: some 1.3 KiB.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Residual {
    levels: [f32; BINS],
    /// Seconds that were seen of each, up to the memory.
    seconds: [f32; BINS],
    offset: f64,
    /// Mean absolute distance from what was expected.
    scale: f64,
    recent: f64,
    /// Seconds seen, up to the memory.
    seen: f64,
    /// Seconds beyond the clip: above where positive, below where negative.
    beyond: f64,
    /// Seconds for which it has been unusual without a break.
    unusual: f64,
    /// Its scale is never below this.
    floor: f64,
    extremes: Extremes,
    habits: Habits,
}

impl Default for Residual {
    fn default() -> Self {
        Self {
            levels: [0.0; BINS],
            seconds: [0.0; BINS],
            offset: 0.0,
            scale: 0.0,
            recent: 0.0,
            seen: 0.0,
            beyond: 0.0,
            unusual: 0.0,
            floor: ABSOLUTE_FLOOR,
            extremes: Extremes::default(),
            habits: Habits::default(),
        }
    }
}

impl Residual {
    /// Judges a finite value at `at` (unix seconds), which stands for `dt` seconds, by what was
    /// learned before; then learns it if it may.
    pub(super) fn observe(&mut self, value: f64, at: f64, dt: f64, learning: Learning) -> Deviation {
        if self.seen <= 0.0 && learning == Learning::On {
            self.recent = value;
        }
        let (bin, other, share) = bins(at);
        let expected = self.expected(bin, other, share);
        let off = value - expected;
        let scale = self.scale_at(expected);
        let raw = off.abs() / scale;
        let is_warm = self.is_warm();
        let distance = if is_warm { (raw * AT_EXTREME / self.extremes.edge()).min(raw).min(DISTANCE_MAX) } else { 0.0 };
        self.unusual = if distance >= UNUSUAL { self.unusual + dt } else { 0.0 };
        let beyond_habit = self.habits.held(raw, bin).map_or(distance, |held| held.min(distance));
        if learning == Learning::On {
            let is_burst = self.unusual <= BURST_STEPS * dt;
            if is_warm && is_burst {
                self.extremes.add(raw, dt);
            }
            self.habits.note((!is_burst).then_some(raw), bin);
            self.learn(value, off, (bin, dt), scale);
        }
        Deviation { distance, beyond_habit, expected, scale }
    }

    /// What is usual at `at` (unix seconds).
    pub(super) fn usual(&self, at: f64) -> Usual {
        let (bin, other, share) = bins(at);
        let expected = self.expected(bin, other, share);
        let scale = self.scale_at(expected);
        Usual {
            expected,
            scale,
            limit: self.limit(scale),
            seen_seconds: self.seen,
            learning_seconds: (WARM - self.seen).max(0.0),
            unusual_seconds: self.unusual,
        }
    }

    /// From so far off on, above and below, a value is unusual.
    pub(super) fn limit(&self, scale: f64) -> f64 {
        UNUSUAL * scale * (self.extremes.edge() / AT_EXTREME).max(1.0)
    }

    /// What of the usual level at `at` (unix seconds) comes from the time of day and what from drift.
    pub(super) fn parts(&self, at: f64) -> Parts {
        let (bin, other, share) = bins(at);
        let known = self.levels.iter().zip(&self.seconds).filter(|(_, seconds)| **seconds > 0.0);
        let (sum, count) = known.fold((0.0, 0.0), |(sum, count), (level, _)| (sum + f64::from(*level), count + 1.0));
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        Parts { season: self.expected(bin, other, share) - self.offset - mean, drift: self.offset }
    }

    /// The distance from what was expected that is held for usual: never below what matters.
    fn scale_at(&self, expected: f64) -> f64 {
        self.scale.max(expected.abs() * RELATIVE_FLOOR).max(self.floor)
    }

    /// Sets what the least change is that matters, where that is known of the metric.
    pub(super) fn set_floor(&mut self, floor: f64) {
        self.floor = floor.max(ABSOLUTE_FLOOR);
    }

    /// Seconds that were learned from, up to the memory.
    pub(super) fn seen_seconds(&self) -> f64 {
        self.seen
    }

    /// Whether every quarter-hour of a day may have been seen.
    pub(super) fn is_warm(&self) -> bool {
        self.seen >= WARM
    }

    /// Seconds for which it has been unusual without a break.
    pub(super) fn unusual_seconds(&self) -> f64 {
        self.unusual
    }

    /// The share of the samples seen that were at least as far off as `distance`.
    pub(super) fn share_beyond(&self, distance: f64) -> f64 {
        self.extremes.share_beyond(distance)
    }

    /// The level at a moment between the middles of two quarter-hours; the recent one where this
    /// time of day has not been seen.
    fn expected(&self, bin: usize, other: usize, share: f64) -> f64 {
        let (own, next) = (f64::from(self.levels[bin]), f64::from(self.levels[other]));
        match (self.seconds[bin] > 0.0, self.seconds[other] > 0.0) {
            (true, true) => own + (next - own) * share + self.offset,
            (true, false) => own + self.offset,
            _ => self.recent,
        }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn learn(&mut self, value: f64, off: f64, (bin, dt): (usize, f64), scale: f64) {
        let is_young = self.seen < YOUNG;
        let clip = if is_young { f64::INFINITY } else { CLIP * scale };
        let clipped = off.clamp(-clip, clip);
        let seen = f64::from(self.seconds[bin]);
        let level = f64::from(self.levels[bin]);
        self.levels[bin] = if seen > 0.0 {
            let rate = dt / (seen + dt).min(BIN_MEMORY.max(3.0 * dt));
            level + rate * (value - self.offset - level).clamp(-clip, clip)
        } else if is_young {
            value - self.offset
        } else {
            value - off + clipped - self.offset
        } as f32;
        self.seconds[bin] = (seen + dt).min(BIN_MEMORY.max(3.0 * dt)) as f32;

        self.offset += clipped * (dt / OFFSET_MEMORY).min(1.0);
        self.beyond = match off {
            off if off > clip => self.beyond.max(0.0) + dt,
            off if off < -clip => self.beyond.min(0.0) - dt,
            // A short return does not make the shift another one.
            _ => self.beyond.signum() * (self.beyond.abs() - 3.0 * dt).max(0.0),
        };
        if self.beyond.abs() > RELEARN_AFTER {
            self.offset += off;
            self.beyond = 0.0;
        }
        self.seen = (self.seen + dt).min(MEMORY);
        self.scale += dt / self.seen * (clipped.abs() - self.scale);
        self.recent += (value - self.recent) * (dt / HOUR).min(1.0);
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        self.levels.iter().chain(&self.seconds).for_each(|value| writer.f32(*value));
        let Self { offset, scale, recent, seen, beyond, unusual, floor, .. } = *self;
        for value in [offset, scale, recent, seen, beyond, unusual, floor] {
            writer.f64(value);
        }
        self.extremes.save(writer);
        self.habits.save(writer);
    }

    pub(super) fn load(reader: &mut Reader<'_>, has_habits: bool) -> Option<Self> {
        let mut loaded = Self::default();
        for value in loaded.levels.iter_mut().chain(&mut loaded.seconds) {
            *value = reader.f32().filter(|value| value.is_finite())?;
        }
        let Self { offset, scale, recent, seen, beyond, unusual, floor, .. } = &mut loaded;
        for value in [offset, scale, recent, seen, beyond, unusual, floor] {
            *value = reader.f64().filter(|value| value.is_finite())?;
        }
        loaded.extremes = Extremes::load(reader)?;
        if has_habits {
            loaded.habits = Habits::load(reader)?;
        }
        Some(loaded)
    }
}

/// The bin of a moment, the one whose middle is nearest on the other side, and how much of the way
/// to it the moment is.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bins(at: f64) -> (usize, usize, f64) {
    let place = at.rem_euclid(DAY) / BIN;
    let bin = (place as usize).min(BINS - 1);
    let within = place - place.floor();
    if within >= 0.5 { (bin, (bin + 1) % BINS, within - 0.5) } else { (bin, (bin + BINS - 1) % BINS, 0.5 - within) }
}

/// Buckets of distances, each a factor of `e^BUCKET` wide: up to `e^14`, beyond anything that a
/// metric that never moved can reach.
const BUCKETS: usize = 96;
const BUCKET: f64 = 0.15;

/// The edge moves slowly: it is looked up anew after so many steps only.
const EDGE_STEPS: u8 = 16;

/// Samples before the edge is believed.
const EDGE_WEIGHT_MIN: f64 = 100.0;

/// Distances seen, and the edge beyond which [`EXTREME_SHARE`] of them lie.
#[derive(Debug, Clone, PartialEq)]
struct Extremes {
    buckets: [f32; BUCKETS],
    weight: f64,
    edge: f64,
    steps: u8,
}

impl Default for Extremes {
    fn default() -> Self {
        Self { buckets: [0.0; BUCKETS], weight: 0.0, edge: 0.0, steps: 0 }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bucket(distance: f64) -> usize {
    ((distance.ln_1p() / BUCKET) as usize).min(BUCKETS - 1)
}

impl Extremes {
    /// Never below one half: a metric that always errs less than its scale is as steady as any.
    fn edge(&self) -> f64 {
        self.edge.max(0.5)
    }

    fn add(&mut self, distance: f64, dt: f64) {
        self.buckets[bucket(distance)] += 1.0;
        self.weight += 1.0;
        // Halving at 1.4 memories keeps their mean age at the memory.
        if self.weight > (1.4 * MEMORY / dt.max(1.0)).max(2.0 * EDGE_WEIGHT_MIN) {
            self.buckets.iter_mut().for_each(|bucket| *bucket /= 2.0);
            self.weight /= 2.0;
        }
        self.steps = (self.steps + 1) % EDGE_STEPS;
        if self.steps == 0 && self.weight >= EDGE_WEIGHT_MIN {
            self.edge = self.find_edge();
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn find_edge(&self) -> f64 {
        let wanted = EXTREME_SHARE * self.weight;
        let mut above = 0.0;
        for (at, weight) in self.buckets.iter().map(|weight| f64::from(*weight)).enumerate().rev() {
            if above + weight >= wanted {
                let within = 1.0 - (wanted - above) / weight.max(f64::MIN_POSITIVE);
                return ((at as f64 + within) * BUCKET).exp_m1();
            }
            above += weight;
        }
        0.0
    }

    fn share_beyond(&self, distance: f64) -> f64 {
        let own = bucket(distance);
        let above: f64 = self.buckets[own + 1..].iter().map(|weight| f64::from(*weight)).sum();
        (above + f64::from(self.buckets[own]) / 2.0 + 1.0) / (self.weight + 1.0)
    }

    fn save(&self, writer: &mut Writer) {
        self.buckets.iter().for_each(|bucket| writer.f32(*bucket));
        for value in [self.weight, self.edge] {
            writer.f64(value);
        }
        writer.u8(self.steps);
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::default();
        for bucket in &mut loaded.buckets {
            *bucket = reader.f32().filter(|weight| weight.is_finite() && *weight >= 0.0)?;
        }
        for value in [&mut loaded.weight, &mut loaded.edge] {
            *value = reader.f64().filter(|value| value.is_finite() && *value >= 0.0)?;
        }
        loaded.steps = reader.u8()? % EDGE_STEPS;
        Some(loaded)
    }
}
