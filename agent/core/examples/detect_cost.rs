//! What the detectors cost, one kind of model at a time: `detect_cost MODEL STEPS` shows it so many samples of noise, ten
//! seconds apart, and prints `METRICS STATE_BYTES CPU_NANOSECONDS`: how many metrics it followed, the bytes of state of
//! them all, and the time on a CPU that the process has used, as the kernel counts it.
//!
//! Cost is the difference between two numbers of steps: `bench/detect_cost.rs` takes it, a part of `make bench`, and asks
//! valgrind for instructions and allocations. `MODEL` is one of
//!
//! - `host`: the learned model of a host with 300 metrics, as `metric.anomalous` runs it;
//! - `single`: the model of a series on its own, without what a host has once;
//! - `disk`: the forecast of a filesystem, asked every two minutes as in the agent;
//! - `leak`: the leak detector of one unit;
//! - `none`: the noise alone, for 300 metrics, to be subtracted.

// A program around the core, not a part of it: it has arguments, and looks how long it ran.
#![allow(clippy::disallowed_methods)]

use std::io::{self, Write};

use mainstay_core::detect::forecast::Forecaster;
use mainstay_core::detect::leak::LeakModel;
use mainstay_core::detect::model::HostModel;
use mainstay_core::id::IdSource;

/// Ten seconds, as in the agent.
const STEP_MS: i64 = 10_000;
/// Metrics of a host.
const METRICS: usize = 300;
/// Samples from one question for a forecast to the next.
const ASKED_EVERY: u32 = 12;
/// The knob's default.
const ALARMS_PER_WEEK: f64 = 0.5;

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (model, steps) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()));
    let Some(steps) = steps else {
        return Err(io::Error::other("usage: detect_cost host|single|disk|leak|none STEPS"));
    };
    let mut noise = Noise(IdSource::new(1));
    let (metrics, bytes) = match model.as_str() {
        "host" => (METRICS, host(METRICS, steps, &mut noise)),
        "single" => (1, host(1, steps, &mut noise) - HostModel::default().state_bytes()),
        "disk" => (1, disk(steps, &mut noise)),
        "leak" => (1, leak(steps, &mut noise)),
        "none" => {
            let mut values = vec![None; METRICS];
            (0..steps).for_each(|_| values.iter_mut().for_each(|value| *value = Some(noise.next())));
            (METRICS, usize::from(values.contains(&Some(-1.0))))
        }
        other => return Err(io::Error::other(format!("no such model: {other}; host, single, disk, leak or none"))),
    };
    // Run time in nanoseconds comes first.
    let scheduled = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = scheduled.split_whitespace().next().unwrap_or("0");
    writeln!(io::stdout(), "{metrics} {bytes} {nanoseconds}")
}

/// Numbers around 1, nearly normal, each the sum of two: the least that a model does not find odd.
struct Noise(IdSource);

impl Noise {
    fn next(&mut self) -> f64 {
        let [a, b, c, d, e, f, g, h] = self.0.next_u64().to_le_bytes();
        let halves = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])];
        halves.into_iter().map(|half| f64::from(half) / f64::from(u32::MAX)).sum()
    }
}

fn host(metrics: usize, steps: u32, noise: &mut Noise) -> usize {
    let mut model = HostModel::default();
    let mut values = vec![None; metrics];
    for step in 0..steps {
        values.iter_mut().for_each(|value| *value = Some(noise.next()));
        let seconds = f64::from(step) * 10.0;
        model.observe(&values, seconds, 10.0, ALARMS_PER_WEEK);
    }
    model.state_bytes()
}

/// A disk of 100 that is half full and fills by a hundredth a day.
fn disk(steps: u32, noise: &mut Noise) -> usize {
    let (mut model, mut asked) = (Forecaster::new(), 0);
    for step in 0..steps {
        let used = 50.0 + f64::from(step) / 8_640.0 + noise.next() / 100.0;
        model.observe(i64::from(step) * STEP_MS, used);
        if step % ASKED_EVERY == 0 {
            asked += u32::from(model.forecast(100.0).expected.is_finite());
        }
    }
    // What is asked for must not be left out by the compiler.
    model.state_bytes() + usize::from(asked > steps)
}

fn leak(steps: u32, noise: &mut Noise) -> usize {
    let mut model = LeakModel::new();
    for step in 0..steps {
        let used = 300e6 + noise.next() * 1e6;
        model.observe(i64::from(step) * STEP_MS, used, 1e9 - used);
    }
    model.state_bytes()
}
