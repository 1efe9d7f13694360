//! Falls: what is cut from a disk at one go, and whether it comes again.
//!
//! Rotated logs are compressed every night, old backups are removed every week. From the last
//! falls, those are found that follow one another at one distance; how much the next one will cut
//! is learned as a share of what was written some cycles before: none for compression of what was
//! written since the last time, seven for what is kept for a week. Other falls are single.

use super::ring::Ring;
use crate::detect::clock::Millis;
use crate::detect::codec::{Reader, Writer};

/// Falls that are remembered: three weeks of nights.
const FALLS: usize = 21;

/// Falls this near to one another are one: removing a large tree takes a while.
const MERGE: Millis = 10 * 60_000;

/// How far from one distance cycles may come.
const TOLERANCE_RATIO: f64 = 0.04;

/// A distance that is this long on its own account is believed at its first repetition.
const DAY: Millis = 86_400_000;

/// Cycles back that are tried for what a fall is made of.
const LAGS: usize = 10;
/// A fall that is always the same has to fit by so much better than a share of what was written.
const SAME_WORSE: f64 = 1.5;
/// Cycles that are looked at: two weeks of days.
const CYCLES: usize = 14;

/// A fall.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Fall {
    t: Millis,
    cut: f64,
    /// What was written since the fall before.
    grown: f64,
}

/// The last falls, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Falls {
    falls: Vec<Fall>,
    /// Written since the last one.
    grown: f64,
}

/// Falls that come again.
#[derive(Debug, Clone)]
pub(super) struct Cycle {
    period: Millis,
    last: Millis,
    /// What was written in each of the last cycles, oldest first; not a number where not known.
    written: [f64; CYCLES],
    rule: Rule,
}

/// What a fall is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    /// Always the same.
    Same(f64),
    /// A share of what was written so many cycles before.
    Share { lag: usize, ratio: f64 },
}

impl Falls {
    /// Bytes that they take beside the struct itself.
    pub(super) const BYTES: usize = FALLS * size_of::<Fall>();

    pub(super) fn new() -> Self {
        Self { falls: Vec::with_capacity(FALLS), grown: 0.0 }
    }

    pub(super) fn grew(&mut self, amount: f64) {
        self.grown += amount;
    }

    pub(super) fn grown(&self) -> f64 {
        self.grown
    }

    pub(super) fn fell(&mut self, t: Millis, cut: f64) {
        if let Some(last) = self.falls.last_mut()
            && t - last.t < MERGE
        {
            last.cut += cut;
            return;
        }
        if self.falls.len() >= FALLS {
            self.falls.remove(0);
        }
        self.falls.push(Fall { t, cut, grown: self.grown });
        self.grown = 0.0;
    }

    /// The cycle in which the last falls came; `None` where they follow none or it has ended.
    pub(super) fn cycle(&self, hours: &Ring, now: Millis) -> Option<Cycle> {
        let mut gaps = [0; FALLS];
        let count = self.falls.len().checked_sub(1)?;
        for (gap, pair) in gaps.iter_mut().zip(self.falls.windows(2)) {
            *gap = pair[1].t - pair[0].t;
        }
        let gaps = &mut gaps[..count];
        gaps.sort_unstable();
        let usual = *gaps.get(count / 2)?;
        let mut best: Option<(usize, Cycle)> = None;
        for period in [usual, DAY] {
            if let Some((len, found)) = self.chain(hours, period, now)
                && best.as_ref().is_none_or(|best| len > best.0)
            {
                best = Some((len, found));
            }
        }
        Some(best?.1)
    }

    /// The falls that follow one another at `period`, back from the last that does.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn chain(&self, hours: &Ring, period: Millis, now: Millis) -> Option<(usize, Cycle)> {
        let tolerance = ((period as f64 * TOLERANCE_RATIO) as Millis).max(MERGE / 2);
        let follows = |later: &Fall, earlier: &Fall| (later.t - earlier.t - period).abs() <= tolerance;
        let end = (1..self.falls.len())
            .rev()
            .find(|&at| self.falls[..at].iter().any(|earlier| follows(&self.falls[at], earlier)))?;
        let mut members = [0usize; FALLS];
        let mut len = 0;
        let mut at = end;
        loop {
            members[len] = at;
            len += 1;
            let Some(before) = (0..at).rev().find(|&b| follows(&self.falls[at], &self.falls[b])) else { break };
            at = before;
        }
        let needed = if (period - DAY).abs() <= tolerance { 2 } else { 3 };
        // Two that did not come end it.
        let is_over = now - self.falls[end].t > 2 * period + tolerance;
        if len < needed || is_over {
            return None;
        }
        members[..len].reverse();
        let last = self.falls[end].t;
        let mut cut = [0.0; FALLS];
        let mut written = [f64::NAN; CYCLES];
        for n in 0..len {
            cut[n] = self.falls[members[n]].cut;
        }
        for back in 0..CYCLES {
            let own = if back + 1 < len {
                let (from, to) = (members[len - back - 2] + 1, members[len - back - 1]);
                self.falls[from..=to].iter().map(|fall| fall.grown).sum()
            } else {
                f64::NAN
            };
            let to = last - back as Millis * period;
            let ring =
                if period >= 6 * hours.step() { hours.between(to - period, to).unwrap_or(f64::NAN) } else { f64::NAN };
            written[CYCLES - 1 - back] = if own.is_nan() { ring } else { own };
        }
        let rule = rule(&written, &cut[..len]);
        Some((len, Cycle { period, last, written, rule }))
    }

    /// What single falls have cut since `from`, and how many they are.
    pub(super) fn single(&self, cycle: Option<&Cycle>, from: Millis) -> f64 {
        let is_single = |fall: &&Fall| {
            cycle.is_none_or(|cycle| {
                let off = (cycle.last - fall.t).rem_euclid(cycle.period);
                off.min(cycle.period - off) > cycle.period / 16
            })
        };
        self.falls.iter().filter(|fall| fall.t >= from).filter(is_single).map(|fall| fall.cut).sum()
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.f64(self.grown);
        writer.len(self.falls.len());
        for fall in &self.falls {
            writer.i64(fall.t);
            writer.f64(fall.cut);
            writer.f64(fall.grown);
        }
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut loaded = Self::new();
        loaded.grown = reader.f64()?;
        for _ in 0..reader.len()?.min(FALLS) {
            loaded.falls.push(Fall { t: reader.i64()?, cut: reader.f64()?, grown: reader.f64()? });
        }
        Some(loaded)
    }
}

/// The rule that would have foretold the falls best.
#[allow(clippy::cast_precision_loss)]
fn rule(written: &[f64; CYCLES], cut: &[f64]) -> Rule {
    let n = cut.len();
    // Cycles before the last fall.
    let pairs = |lag: usize| {
        (0..n.min(CYCLES - lag))
            .map(move |back| (written[CYCLES - 1 - back - lag], cut[n - 1 - back]))
            .filter(|(w, _)| *w > 0.0)
    };
    let usual = median(cut.iter().copied());
    let mut best = Rule::Same(usual);
    // What is always the same cuts too little where more is written; it has to fit clearly better.
    let mut least = median(cut.iter().map(|cut| (cut - usual).abs())) * spare(n) * SAME_WORSE + f64::MIN_POSITIVE;
    for lag in 0..LAGS {
        let count = pairs(lag).count();
        let ratios = if lag <= 1 { [median(pairs(lag).map(|(w, c)| c / w)), 1.0] } else { [1.0; 2] };
        for (ratio, spare) in ratios.into_iter().zip([if lag <= 1 { spare(count) } else { 1.0 }, 1.0]) {
            let miss = median(pairs(lag).map(|(w, c)| (c - ratio * w).abs())) * spare;
            if count >= n.min(2) && ratio < 1.2 && miss < least {
                best = Rule::Share { lag, ratio };
                least = miss;
            }
        }
    }
    best
}

/// By how much a fit to so few looks better than it is.
#[allow(clippy::cast_precision_loss)]
fn spare(count: usize) -> f64 {
    if count < 2 { f64::INFINITY } else { count as f64 / (count - 1) as f64 }
}

fn predict(rule: Rule, written: &[f64; CYCLES]) -> f64 {
    match rule {
        Rule::Same(cut) => cut,
        Rule::Share { lag, ratio } => {
            Some(written[CYCLES - 1 - lag] * ratio).filter(|cut| !cut.is_nan()).unwrap_or(0.0)
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted = [f64::NAN; FALLS];
    let mut len = 0;
    for value in values.take(FALLS) {
        sorted[len] = value;
        len += 1;
    }
    if len == 0 {
        return f64::INFINITY;
    }
    sorted[..len].sort_unstable_by(f64::total_cmp);
    (sorted[(len - 1) / 2] + sorted[len / 2]) / 2.0
}

impl Cycle {
    pub(super) fn period(&self) -> Millis {
        self.period
    }

    /// Ends the cycle under way, in which `grown` was written; gives what is cut.
    pub(super) fn turn(&mut self, grown: f64) -> f64 {
        self.written.rotate_left(1);
        self.written[CYCLES - 1] = grown;
        self.last += self.period;
        predict(self.rule, &self.written)
    }

    /// When the next fall is due; one that is overdue is left out.
    pub(super) fn next(&self, now: Millis) -> Millis {
        let next = self.last + self.period;
        if now > next + self.period / 16 { next + self.period } else { next.max(now) }
    }
}
