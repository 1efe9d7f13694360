//! The way ahead: what is expected to be added step by step, followed until it reaches a capacity.
//!
//! It is followed once for each of several speeds. Where they cross the capacity is a distribution
//! of the time to full; a rotated disk has several likely times in it, one before each rotation.
//! The answer is the time that most of it is near to, late answers counted against it.

use std::sync::LazyLock;

use super::cycle::Cycle;
use super::demand::{Demand, Lead};
use super::track::Place;
use super::{Forecast, Forecaster, HOUR, HOURS, Millis};

/// Points of the path: quarter hours for two days, then hours until two weeks.
const FINE: usize = 192;
const POINTS: usize = FINE + 288;

/// Steps come at random. The number that will have come by some time is put a quarter below its
/// mean, which is near its median.
const STEPS_FEWER: f64 = 0.25;

/// Speeds that are followed, in deviations, and how likely each is: the normal distribution.
const SPEEDS: [(f64, f64); 13] = [
    (-2.4, 0.009),
    (-2.0, 0.0216),
    (-1.6, 0.0444),
    (-1.2, 0.0777),
    (-0.8, 0.1159),
    (-0.4, 0.1473),
    (0.0, 0.1602),
    (0.4, 0.1473),
    (0.8, 0.1159),
    (1.2, 0.0777),
    (1.6, 0.0444),
    (2.0, 0.0216),
    (2.4, 0.009),
];

/// Deviations between two speeds.
const SPEED_STEP: f64 = 0.4;

/// How likely it has to be that it fills at all for an answer other than never.
const LIKELY: f64 = 0.25;
/// How near a time has to be to count for an answer, as a logarithm: a quarter of the time away
/// counts half.
const NEAR: f64 = 0.2;
/// Answers that are tried beside each crossing, so that one may lie between two.
const BESIDE: [f64; 7] = [0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15];
/// An answer of more than this many times the truth costs as much as one that is near gains.
const LATE: f64 = 2.0;

/// What is expected to be added.
#[derive(Debug)]
pub(super) struct Path {
    now: Millis,
    /// Per point, in bytes an hour: what is written, what comes in steps, and by how much, as a
    /// logarithm, writing may differ from that.
    flow: [f64; POINTS],
    steps: [f64; POINTS],
    spread: [f64; POINTS],
    /// What has been written in the cycle under way.
    written: f64,
    cycle: Option<Cycle>,
}

/// Where a point begins, in hours from now.
#[allow(clippy::cast_precision_loss)]
fn begins(at: usize) -> f64 {
    if at <= FINE { at as f64 / 4.0 } else { FINE as f64 / 4.0 + (at - FINE) as f64 }
}

/// What is the same of a point for every disk and at every time: worked out once, because it is made of logarithms.
struct Point {
    start: f64,
    end: f64,
    /// Its middle, as what is written is foretold there.
    lead: Lead,
    /// Its end, as what was foretold is believed there.
    place: Place,
}

static POINT: LazyLock<[Point; POINTS]> = LazyLock::new(|| {
    std::array::from_fn(|at| {
        let (start, end) = (begins(at), begins(at + 1));
        Point { start, end, lead: Lead::new(f64::midpoint(start, end)), place: Place::new(end) }
    })
});

impl Path {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(learned: &Forecaster, now: Millis) -> Self {
        let demand = Demand::new(&learned.slots, &learned.hours, learned.usual, now);
        let cycle = learned.falls.cycle(&learned.hours, now);
        let memory = HOURS.0 * HOURS.1 as Millis;
        let seen = ((now - learned.since).clamp(24 * HOUR, memory)) as f64 / HOUR as f64;
        let count = learned.steps.count;
        // Clean-ups that follow no cycle belong to steps: old releases go when new ones come.
        let net =
            if count < 0.5 { 0.0 } else { learned.steps.sum - learned.falls.single(cycle.as_ref(), now - memory) };
        let mut path = Self {
            now,
            flow: [0.0; POINTS],
            steps: [0.0; POINTS],
            spread: [0.0; POINTS],
            written: learned.falls.grown(),
            cycle,
        };
        let spreads = learned.track.spreads();
        let each = net.max(0.0) / count.max(0.5);
        let mut come = 0.0;
        for (at, Point { start, end, lead, place }) in POINT.iter().enumerate() {
            path.flow[at] = demand.rate(lead);
            let by_then = (count / seen * end - STEPS_FEWER).max(0.0) * each;
            path.steps[at] = (by_then - come) / (end - start);
            come = by_then;
            path.spread[at] = spreads.at(*place);
        }
        path
    }

    /// What is expected to be added until each of the leads, in hours.
    pub(super) fn growth_until<const N: usize>(&self, leads: [i64; N]) -> [f64; N] {
        let mut growth = [0.0; N];
        for (at, Point { start, end, .. }) in POINT.iter().enumerate() {
            for (growth, lead) in growth.iter_mut().zip(leads) {
                #[allow(clippy::cast_precision_loss)]
                if *end <= lead as f64 {
                    *growth += (self.flow[at] + self.steps[at]) * (end - start);
                }
            }
        }
        growth
    }

    /// When a disk of which so much is used reaches a capacity.
    pub(super) fn reaches(&self, used: f64, capacity: f64) -> Forecast {
        // Speeds are one step apart: each factor is the one before times the same. The fastest is followed first: where it
        // does not get there no slower one does, and most disks are not filling.
        let (fastest, _) = SPEEDS[SPEEDS.len() - 1];
        if used + self.most(fastest) < capacity {
            return Forecast::NEVER;
        }
        let mut step = None;
        let mut factor = self.factors(fastest);
        let mut times = [f64::INFINITY; SPEEDS.len()];
        for time in times.iter_mut().rev() {
            *time = self.follow(used, capacity, &factor);
            if time.is_infinite() {
                break;
            }
            let step = step.get_or_insert_with(|| self.factors(-SPEED_STEP));
            factor.iter_mut().zip(&*step).for_each(|(factor, step)| *factor *= step);
        }
        Forecast { low: quantile(&times, 0.1), expected: most_likely(&times), high: quantile(&times, 0.9) }
    }

    /// No less than what can be added at a speed if nothing is ever cut.
    fn most(&self, speed: f64) -> f64 {
        let factor = (speed * self.spread.iter().copied().fold(0.0, f64::max)).exp();
        let added = self.flow.iter().zip(&self.steps).zip(POINT.iter());
        added.map(|((flow, steps), Point { start, end, .. })| (flow * factor + steps).max(0.0) * (end - start)).sum()
    }

    /// By how much writing differs at each point at a speed.
    fn factors(&self, speed: f64) -> [f64; POINTS] {
        let mut last = (f64::NAN, f64::NAN);
        self.spread.map(|spread| {
            // Beyond a week it stays the same.
            if spread.to_bits() != last.0.to_bits() {
                last = (spread, (speed * spread).exp());
            }
            last.1
        })
    }

    /// Follows the path with one factor on what is written at each point; gives the seconds until the capacity.
    #[allow(clippy::cast_precision_loss)]
    fn follow(&self, used: f64, capacity: f64, factor: &[f64; POINTS]) -> f64 {
        let hours = |t: Millis| t as f64 / HOUR as f64;
        let mut cycle = self.cycle.clone();
        let mut due = cycle.as_ref().map_or(f64::INFINITY, |cycle| hours(cycle.next(self.now) - self.now));
        let mut level = used;
        let mut written = self.written;
        for (at, (factor, Point { start, end, .. })) in factor.iter().zip(POINT.iter()).enumerate() {
            let (mut start, end) = (*start, *end);
            let rate = self.flow[at] * factor + self.steps[at];
            while start < end {
                let stop = due.clamp(start, end);
                let add = rate * (stop - start);
                if add > 0.0 && level + add >= capacity {
                    return (start + (capacity - level) / rate) * 3_600.0;
                }
                level += add;
                written += add;
                start = stop;
                if let Some(cycle) = cycle.as_mut().filter(|_| due <= stop) {
                    level -= cycle.turn(written).min(level);
                    written = 0.0;
                    due += hours(cycle.period());
                }
            }
        }
        f64::INFINITY
    }
}

/// The time before which so large a share of the speeds, the fastest first, has crossed.
fn quantile(times: &[f64; SPEEDS.len()], share: f64) -> f64 {
    let mut sum = 0.0;
    for (time, (_, weight)) in times.iter().zip(SPEEDS).rev() {
        sum += weight;
        if sum >= share {
            return *time;
        }
    }
    f64::INFINITY
}

/// The time that most are near to; never where most never cross.
fn most_likely(times: &[f64; SPEEDS.len()]) -> f64 {
    let finite = || times.iter().zip(SPEEDS).rev().filter(|(time, _)| time.is_finite()).map(|(t, (_, w))| (*t, w));
    if finite().map(|(_, weight)| weight).sum::<f64>() < LIKELY {
        return f64::INFINITY;
    }
    let worth = |answer: f64| -> f64 {
        let one = |(time, weight): (f64, f64)| {
            let off = (answer / time).ln() / NEAR;
            weight * ((-0.5 * off * off).exp() - if answer > LATE * time { 1.0 } else { 0.0 })
        };
        finite().map(one).sum()
    };
    let answers = finite().flat_map(|(time, _)| BESIDE.map(|beside| time * beside));
    let best = |best: (f64, f64), answer: f64| {
        let worth = worth(answer);
        if worth > best.1 { (answer, worth) } else { best }
    };
    answers.fold((f64::INFINITY, f64::NEG_INFINITY), best).0
}
