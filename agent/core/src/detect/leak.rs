//! Leaks: what is used grows, nearly in a straight line, to where it never was, towards its limit.
//!
//! In: what is used of a limit, sample by sample. Only floors count: the least of every five
//! minutes, which a garbage collector reaches and a leak raises. Windows from forty minutes to
//! sixteen hours are cut into eight parts each. A window shows a leak when its parts rise nearly
//! every time, not in one jump and without slackening (a cache that fills slackens), when its growth
//! five times over would reach the limit, and when the floor is higher than in the whole week before
//! by a part of what is left. What was never seen grow before has to grow straight as a ruler. As a
//! last resort, a floor that has taken half of what the week before had left is a leak, whatever
//! its shape.
//!
//! Bounded ([`LeakModel::state_bytes`]), without allocation after the start.

use super::clock::Millis;
use super::codec::{Reader, Writer};

const MINUTE: Millis = 60_000;
const HOUR: i64 = 12;

/// Floors of five minutes, sixteen hours of them.
const STEP: Millis = 5 * MINUTE;
const BLOCKS: usize = 192;
/// Floors of an hour, a week of them.
const HOURS: usize = 168;

/// Parts of a window.
const PARTS: usize = 8;
/// Blocks in a part, by window: forty minutes to sixteen hours.
const PART_BLOCKS: [i64; 9] = [1, 2, 3, 4, 6, 8, 12, 16, 24];

/// The growth of a window has to reach the limit within this many windows: no forecast reaches
/// further than this many times what was seen.
const REACH: f64 = 6.0;
/// Of the seven steps from part to part so many have to rise.
const RISES_MIN: usize = 6;
/// No step holds nearly half of the growth: jumps are deployments and restarts.
const STEP_SHARE_MAX: f64 = 0.45;
/// The last two steps hold this share of what two steps hold on average.
const SLACKENING_MIN: f64 = 0.6;
/// The floor is above the highest of the week before by this share of what is left.
const ABOVE_RATIO: f64 = 0.12;
/// It has to hold for this many floors, a quarter of an hour: a peak is no leak.
const CONFIRM: u8 = 3;

/// Hours before the window that have to be known for a week to say what is high.
const KNOWN_MIN: usize = 36;
/// While they are not, steps are held to this, nearly a straight line...
const YOUNG_STEP_SHARE_MAX: f64 = 0.22;
/// ... over windows of three hours and more: every program grows when it has started.
const YOUNG_PART_BLOCKS_MIN: i64 = 4;

/// A leak that is not shown any more stands for another twelve hours, since leaks pause by night,
/// or until half of its growth is gone.
const STANDS: i64 = 12 * HOUR;

/// A floor of so many hours that has taken this share of what was left is a leak.
const TAKEN_HOURS: i64 = 6;
const TAKEN_RATIO: f64 = 0.5;
/// What is high is taken from the hours before the last three days then.
const TAKEN_PAST: i64 = 72;

/// What is remembered of one thing that may leak.
#[derive(Debug, Clone, PartialEq)]
pub struct LeakModel {
    /// Of a count that follows the load, the growth that matters.
    count_growth_min: Option<f64>,
    /// The first slot.
    since: Option<i64>,
    blocks: Floors,
    hours: Floors,
    /// For how many floors a window has shown a leak.
    held: u8,
    leak: Option<Leak>,
    /// The slot that showed it last, and the level at which it is as good as gone.
    shown: i64,
    gone_at: f64,
}

/// A leak that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leak {
    /// What it has grown in the window that shows it.
    pub grown: f64,
    /// Length of that window in seconds.
    pub seconds: f64,
    /// Growth per second: the median of the steps, and their quartiles.
    pub slope: f64,
    /// A quarter of the steps were slower.
    pub slope_low: f64,
    /// A quarter of the steps were faster.
    pub slope_high: f64,
}

impl Default for LeakModel {
    fn default() -> Self {
        Self::new()
    }
}

impl LeakModel {
    /// Nothing learned.
    #[must_use]
    pub fn new() -> Self {
        Self {
            count_growth_min: None,
            since: None,
            blocks: Floors::new(BLOCKS),
            hours: Floors::new(HOURS),
            held: 0,
            leak: None,
            shown: 0,
            gone_at: 0.0,
        }
    }

    /// Nothing learned of a count that follows the load, such as open files, of which growth from
    /// `growth_min` on matters.
    #[must_use]
    pub fn of_count(growth_min: f64) -> Self {
        Self { count_growth_min: Some(growth_min), ..Self::new() }
    }

    /// What is known after a restart: how high it ever was, unless that was a leak.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let new = Self { count_growth_min: self.count_growth_min, ..Self::new() };
        if self.leak.is_some() {
            return new;
        }
        let mut hours = self.hours.clone();
        // The floor of an hour does not show how high it was at its end.
        if let Some(last) = self.blocks.current
            && let Some(level) = self.blocks.least(last, last + 1)
        {
            hours.raise(last.div_euclid(HOUR) - 1, level);
        }
        Self { since: self.since, hours, ..new }
    }

    /// Begins at `t` with a count that is known to have been at `level` since `since`.
    #[must_use]
    pub fn after(since: Millis, t: Millis, level: f64, growth_min: f64) -> Self {
        let mut model = Self::of_count(growth_min);
        let (first, last) = (since.div_euclid(STEP), t.div_euclid(STEP));
        model.since = Some(first);
        // Only what is remembered has to be filled in.
        let kept = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        for slot in first.max(last - kept(BLOCKS))..last {
            model.blocks.add(slot, level);
        }
        let (first, last) = (first.div_euclid(HOUR), last.div_euclid(HOUR));
        for hour in first.max(last - kept(HOURS))..last {
            model.hours.add(hour, level);
        }
        model
    }

    /// Takes what is used at `t` and what is left until the limit. Gives the leak that stands.
    pub fn observe(&mut self, t: Millis, used: f64, left: f64) -> Option<Leak> {
        let slot = t.div_euclid(STEP);
        self.since.get_or_insert(slot);
        let is_new = self.blocks.current.is_some_and(|current| slot > current);
        if is_new {
            self.judge(used + left);
        }
        self.blocks.add(slot, used);
        self.hours.add(slot.div_euclid(HOUR), used);
        self.leak
    }

    /// The leak that stands.
    #[must_use]
    pub fn leak(&self) -> Option<Leak> {
        self.leak
    }

    /// What it grew by on average at the hours of a leak on the days of the week before, and how many days those are:
    /// what of the growth the time of day explains. `None` where none is known, and of what has grown for more than a day.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    pub fn at_other_days(&self, leak: &Leak) -> Option<(f64, u32)> {
        const DAY: i64 = 24;
        let now = self.hours.current?;
        let span = (leak.seconds / 3_600.0).ceil() as i64;
        let floor = |hour: i64| self.hours.least(hour, hour + 1);
        let of_day = |day: i64| Some(floor(now - DAY * day)? - floor(now - span - DAY * day)?);
        let days = || (1..=HOURS as i64 / DAY).filter_map(of_day);
        let (sum, count) = days().fold((0.0, 0), |(sum, count), grown| (sum + grown, count + 1));
        // Whole hours are known, of which the leak's window is a part.
        let part = leak.seconds / (span as f64 * 3_600.0);
        (span <= DAY && count > 0).then(|| (part * sum / f64::from(count), count))
    }

    /// For how long it has been watched, in milliseconds.
    #[must_use]
    pub fn watched(&self) -> Millis {
        let last = self.blocks.current.unwrap_or_default();
        self.since.map_or(0, |since| (last - since) * STEP)
    }

    /// Bytes that it takes, whatever it is shown.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.blocks.floors) + size_of_val(&*self.hours.floors)
    }

    /// Judges the floors that are complete.
    fn judge(&mut self, limit: f64) {
        let Some(end) = self.blocks.current else { return };
        let found = PART_BLOCKS.into_iter().find_map(|blocks| self.window(end, blocks, limit));
        self.held = if found.is_some() { self.held.saturating_add(1) } else { 0 };
        if let Some(leak) = found.filter(|_| self.held >= CONFIRM).or_else(|| self.taken(end, limit)) {
            self.leak = Some(leak);
            self.shown = end;
            self.gone_at = self.blocks.least(end, end + 1).unwrap_or(0.0) - leak.grown / 2.0;
        } else if self.leak.is_some() {
            let is_gone = self.blocks.least(end, end + 1).is_some_and(|floor| floor < self.gone_at);
            if is_gone || end - self.shown > STANDS {
                self.leak = None;
            }
        }
    }

    /// The leak that a window of eight parts up to `end` shows.
    #[allow(clippy::cast_precision_loss)]
    fn window(&self, end: i64, blocks: i64, limit: f64) -> Option<Leak> {
        let begin = end + 1 - PARTS as i64 * blocks;
        let mut parts = [0.0; PARTS];
        for (at, part) in (0..).zip(&mut parts) {
            *part = self.blocks.least(begin + at * blocks, begin + (at + 1) * blocks)?;
        }
        let (first, last) = (parts[0], parts[PARTS - 1]);
        let (grown, left) = (last - first, limit - last);
        // Near the limit a window that is too short to matter reaches it as well.
        if grown <= 0.0 || grown * REACH < left || self.count_growth_min.is_some_and(|least| grown < least) {
            return None;
        }
        let mut steps = [0.0; PARTS - 1];
        for (step, pair) in steps.iter_mut().zip(parts.windows(2)) {
            *step = pair[1] - pair[0];
        }
        let lately = steps[PARTS - 3] + steps[PARTS - 2];
        steps.sort_unstable_by(f64::total_cmp);
        let rises = steps.iter().filter(|step| **step > 0.0).count();
        let jump = steps[PARTS - 2] / grown;
        let slackens = lately < SLACKENING_MIN * grown * 2.0 / (PARTS - 1) as f64;
        if rises < RISES_MIN || jump > STEP_SHARE_MAX || slackens {
            return None;
        }
        let (high, known) = self.hours.highest_before(begin.div_euclid(HOUR));
        let is_above = known == 0 || last - high >= ABOVE_RATIO * left;
        // Counts of files and tasks follow the load as memory does not, several times as many by day as
        // by night: before a day and a half is known their first morning looks like a leak.
        let is_straight = self.count_growth_min.is_none()
            && blocks >= YOUNG_PART_BLOCKS_MIN
            && rises == PARTS - 1
            && jump <= YOUNG_STEP_SHARE_MAX;
        let is_leak = is_above && (known >= KNOWN_MIN || is_straight);
        let step_seconds = (blocks * STEP) as f64 / 1_000.0;
        is_leak.then(|| Leak {
            grown,
            seconds: step_seconds * (PARTS - 1) as f64,
            slope: grown / (step_seconds * (PARTS - 1) as f64),
            slope_low: steps[1].max(0.0) / step_seconds,
            slope_high: steps[PARTS - 3] / step_seconds,
        })
    }

    /// The leak that has taken half of what was left.
    #[allow(clippy::cast_precision_loss)]
    fn taken(&self, end: i64, limit: f64) -> Option<Leak> {
        let hour = end.div_euclid(HOUR);
        let (high, known) = self.hours.highest_before(hour - TAKEN_PAST);
        let floor = self.hours.least(hour - TAKEN_HOURS, hour)?;
        let is_leak = known >= KNOWN_MIN && floor - high >= TAKEN_RATIO * (limit - high);
        let seconds = (TAKEN_PAST * HOUR * STEP) as f64 / 1_000.0;
        let grown = floor - high;
        let slope = grown / seconds;
        is_leak.then_some(Leak { grown, seconds, slope, slope_low: slope / 2.0, slope_high: slope * 2.0 })
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.option(self.since, Writer::i64);
        self.blocks.save(writer);
        self.hours.save(writer);
        writer.u8(self.held);
        writer.option(self.leak, |w, leak| {
            for value in [leak.grown, leak.seconds, leak.slope, leak.slope_low, leak.slope_high] {
                w.f64(value);
            }
        });
        writer.i64(self.shown);
        writer.f64(self.gone_at);
    }

    pub(super) fn load(reader: &mut Reader<'_>, count_growth_min: Option<f64>) -> Option<Self> {
        Some(Self {
            count_growth_min,
            since: reader.option(Reader::i64)?,
            blocks: Floors::new(BLOCKS).load(reader)?,
            hours: Floors::new(HOURS).load(reader)?,
            held: reader.u8()?,
            leak: reader.option(|r| {
                let (grown, seconds, slope) = (r.f64()?, r.f64()?, r.f64()?);
                Some(Leak { grown, seconds, slope, slope_low: r.f64()?, slope_high: r.f64()? })
            })?,
            shown: reader.i64()?,
            gone_at: reader.f64()?,
        })
    }
}

/// The least of every slot, the last so many; not a number where nothing was seen.
#[derive(Debug, Clone, PartialEq)]
struct Floors {
    current: Option<i64>,
    floors: Box<[f32]>,
}

impl Floors {
    fn new(len: usize) -> Self {
        Self { current: None, floors: vec![f32::NAN; len].into_boxed_slice() }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn add(&mut self, slot: i64, value: f64) {
        let len = i64::try_from(self.floors.len()).unwrap_or(i64::MAX);
        let current = *self.current.get_or_insert(slot - 1);
        for begun in (current + 1).max(slot - len + 1)..=slot {
            let place = self.place(begun);
            self.floors[place] = f32::NAN;
        }
        self.current = Some(current.max(slot));
        let place = self.place(slot.max(current));
        // Of a value and no number, the value.
        self.floors[place] = self.floors[place].min(value as f32);
    }

    /// Notes that a slot that is still remembered was this high.
    #[allow(clippy::cast_possible_truncation)]
    fn raise(&mut self, slot: i64, value: f64) {
        if self.current.is_some_and(|current| slot <= current) {
            let place = self.place(slot);
            // Of a value and no number, the value.
            self.floors[place] = self.floors[place].max(value as f32);
        }
    }

    /// The least of the slots `from..to`; `None` where one was not seen.
    fn least(&self, from: i64, to: i64) -> Option<f64> {
        let current = self.current?;
        if to > current + 1 || current - from >= i64::try_from(self.floors.len()).ok()? {
            return None;
        }
        let mut least = f64::INFINITY;
        for slot in from..to {
            let floor = f64::from(self.floors[self.place(slot)]);
            if floor.is_nan() {
                return None;
            }
            least = least.min(floor);
        }
        Some(least)
    }

    /// The highest of the slots before `to`, and how many were seen.
    fn highest_before(&self, to: i64) -> (f64, usize) {
        let Some(current) = self.current else { return (0.0, 0) };
        let oldest = current - i64::try_from(self.floors.len()).unwrap_or(i64::MAX) + 1;
        let floors = (oldest..to.min(current + 1)).map(|slot| f64::from(self.floors[self.place(slot)]));
        floors.filter(|floor| !floor.is_nan()).fold((0.0, 0), |(high, seen), floor| (floor.max(high), seen + 1))
    }

    fn save(&self, writer: &mut Writer) {
        writer.option(self.current, Writer::i64);
        writer.len(self.floors.len());
        self.floors.iter().for_each(|floor| writer.f32(*floor));
    }

    /// Fills empty floors; `None` where another number of them was saved.
    fn load(mut self, reader: &mut Reader<'_>) -> Option<Self> {
        self.current = reader.option(Reader::i64)?;
        if reader.len()? != self.floors.len() {
            return None;
        }
        for floor in &mut self.floors {
            *floor = reader.f32()?;
        }
        Some(self)
    }

    fn place(&self, slot: i64) -> usize {
        usize::try_from(slot.rem_euclid(i64::try_from(self.floors.len()).unwrap_or(1))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows shares of a limit by the minute; gives the hours at which a leak began to stand.
    #[allow(clippy::cast_possible_truncation)]
    fn found(hours: u32, used: impl Fn(f64) -> f64) -> Vec<u32> {
        let mut model = LeakModel::new();
        let mut found = Vec::new();
        for minute in 0..hours * 60 {
            let used = used(f64::from(minute) / 60.0);
            let was = model.leak().is_some();
            let is = model.observe(Millis::from(minute) * MINUTE, used, 1.0 - used).is_some();
            if is && !was {
                found.push(minute / 60);
            }
        }
        found
    }

    /// A third of a share up and down each day, and a collector's sawtooth on it.
    fn daily(hour: f64) -> f64 {
        0.4 + 0.05 * (hour / 24.0 * std::f64::consts::TAU).sin() + 0.02 * (hour * 3.0).fract()
    }

    #[test]
    fn a_leak_under_daily_load_is_found_in_its_first_quarter() {
        // 0.6 in 24 hours, from hour 72 on.
        let found = found(90, |h| daily(h) + (h - 72.0).max(0.0) / 40.0);
        assert!(found.first().is_some_and(|hour| (73..=78).contains(hour)), "{found:?}");
    }

    #[test]
    fn a_fast_leak_is_found_within_an_hour_and_a_half() {
        let found = found(76, |h| daily(h) + (h - 72.0).max(0.0) / 10.0);
        assert!(found.first().is_some_and(|hour| (72..=73).contains(hour)), "{found:?}");
    }

    #[test]
    fn what_the_time_of_day_explains_of_a_leak_is_told_apart() {
        let mut model = LeakModel::new();
        let slope = 1.0 / 20.0;
        for minute in 0..78 * 60 {
            let hour = f64::from(minute) / 60.0;
            let used = daily(hour) + (hour - 72.0).max(0.0) * slope;
            model.observe(Millis::from(minute) * MINUTE, used, 1.0 - used);
        }
        let leak = model.leak().unwrap();
        let (usual, days) = model.at_other_days(&leak).unwrap();
        assert_eq!(days, 3);
        // What is left is the leak's own, but for the sawtooth, and for hours that are not cut as the window is.
        let own = leak.grown - usual;
        let expected = slope * leak.seconds / 3_600.0;
        assert!((own / expected - 1.0).abs() < 0.1, "{own} {expected} {leak:?} {usual}");
        assert!(usual.abs() > 0.1 * leak.grown, "{usual} {leak:?}");
    }

    #[test]
    fn nothing_is_told_of_other_days_where_there_are_none() {
        let mut model = LeakModel::new();
        for minute in 0..20 * 60 {
            let used = f64::from(minute) / 2_400.0;
            model.observe(Millis::from(minute) * MINUTE, used, 1.0 - used);
        }
        let leak = model.leak().unwrap();
        assert_eq!(model.at_other_days(&leak), None);
    }

    #[test]
    fn daily_load_is_no_leak() {
        assert_eq!(found(400, daily), []);
    }

    #[test]
    fn a_deployment_that_takes_more_is_no_leak() {
        assert_eq!(found(200, |h| daily(h) + if h > 100.0 { 0.15 } else { 0.0 }), []);
    }

    #[test]
    fn a_cache_that_fills_slackens_and_is_no_leak() {
        let cache = |h: f64| 0.1 * (1.0 - (-(h - 80.0).max(0.0) / 8.0).exp());
        assert_eq!(found(200, |h| 0.4 + 0.02 * (h * 3.0).fract() + cache(h)), []);
    }

    #[test]
    fn what_has_taken_half_of_what_was_left_is_one_whatever_its_shape() {
        // Jumps of a tenth, twelve hours apart: too few in a window to be growth.
        let found = found(165, |h| 0.3 + 0.1 * ((h - 100.0).max(0.0) / 12.0).floor());
        assert!(found.first().is_some_and(|hour| (148..=156).contains(hour)), "{found:?}");
    }

    #[test]
    fn the_slope_is_told_with_an_interval() {
        let mut model = LeakModel::new();
        let mut leak = None;
        for minute in 0..75 * 60 {
            let hour = f64::from(minute) / 60.0;
            let used = daily(hour) + (hour - 72.0).max(0.0) / 10.0;
            leak = model.observe(Millis::from(minute) * MINUTE, used, 1.0 - used).or(leak);
        }
        let leak = leak.unwrap();
        assert!((leak.slope * 3_600.0 - 0.1).abs() < 0.02, "{leak:?}");
        assert!(leak.slope_low <= leak.slope && leak.slope <= leak.slope_high, "{leak:?}");
    }

    #[test]
    fn what_was_saved_goes_on_as_if_nothing_had_been() {
        let mut before = LeakModel::new();
        let show = |model: &mut LeakModel, hours: std::ops::Range<i64>| {
            for minute in hours.start * 60..hours.end * 60 {
                #[allow(clippy::cast_precision_loss)]
                let used = daily(minute as f64 / 60.0) + (minute as f64 / 60.0 - 72.0).max(0.0) / 20.0;
                model.observe(minute * MINUTE, used, 1.0 - used);
            }
        };
        show(&mut before, 0..75);
        let mut writer = Writer::default();
        writer.section(1, 1, |w| before.save(w));
        let bytes = writer.finish();
        let mut after = LeakModel::load(&mut Reader::open(&bytes).unwrap().section().unwrap().body, None).unwrap();
        show(&mut before, 75..78);
        show(&mut after, 75..78);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        assert!(after.leak().is_some());
        assert!(after.state_bytes() <= 2_048, "{}", after.state_bytes());
    }
}
