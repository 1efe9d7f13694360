//! Replays a series, or a table with one column per metric, through the learned model of
//! `metric.anomalous` with its defaults.
//!
//! In, on standard input: `timestamp,value` or `timestamp,NAME,NAME,...`, unix seconds; an empty
//! field is a missing sample. Out: `timestamp,score,alert,blame`, one line per line read. What is
//! written for a line depends on the lines before it only.
//!
//! A lone series within 0..1 that comes every two minutes or oftener is what is used of a limit, as
//! memory is: the leak detector alone judges it, as in the agent.
//!
//!     cargo run -p mainstay-core --release --example detect_csv < series.csv

use std::io::{self, BufRead, BufWriter, Write};

use mainstay_core::detect::Settings;
use mainstay_core::detect::leak::LeakModel;
use mainstay_core::detect::model::{AlarmState, HostModel, HostScore};

/// Steps of which the usual distance is taken as the period.
const STEPS: usize = 15;

/// A lone series with steps of this much at most may be the used share of a limit.
const SHARE_STEP_MAX: f64 = 120.0;

fn main() -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    let names: Vec<String> = header.trim_end().split(',').skip(1).map(str::to_owned).collect();
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "timestamp,score,alert,blame")?;
    let mut replay = Replay::default();
    let mut share = (names.len() == 1).then(Share::default);
    for line in lines {
        let line = line?;
        let mut fields = line.trim_end().split(',');
        let stamp = fields.next().unwrap_or_default();
        let values: Vec<Option<f64>> =
            names.iter().map(|_| fields.next().and_then(|field| field.parse().ok())).collect();
        let at = stamp.parse().unwrap_or(0.0);
        let score = replay.row(at, &values);
        let is_leak = share.as_mut().is_some_and(|share| share.row(at, values[0]));
        let is_share = share.as_ref().is_some_and(|share| share.is_share && replay.period() <= SHARE_STEP_MAX);
        let is_alert = if is_share { is_leak } else { score.alarm == AlarmState::Opened };
        let alert = u8::from(is_alert);
        let blame: Vec<&str> = score.blame.iter().map(|blame| names[blame.metric].as_str()).collect();
        writeln!(out, "{stamp},{:.4},{alert},{}", score.score, blame.join(";"))?;
    }
    out.flush()
}

/// A series that may be the used share of a limit.
struct Share {
    model: LeakModel,
    is_share: bool,
}

impl Default for Share {
    fn default() -> Self {
        Self { model: LeakModel::new(), is_share: true }
    }
}

impl Share {
    /// Says whether a leak was found in this row.
    #[allow(clippy::cast_possible_truncation)]
    fn row(&mut self, at: f64, value: Option<f64>) -> bool {
        let Some(value) = value else { return false };
        self.is_share &= (0.0..=1.0).contains(&value);
        let was = self.model.leak().is_some();
        self.model.observe((at * 1_000.0) as i64, value, 1.0 - value).is_some() && !was
    }
}

#[derive(Default)]
struct Replay {
    model: HostModel,
    last: Option<f64>,
    steps: Vec<f64>,
}

impl Replay {
    fn row(&mut self, at: f64, values: &[Option<f64>]) -> HostScore {
        if let Some(step) = self.last.map(|last| at - last).filter(|step| *step > 0.0) {
            if self.steps.len() >= STEPS {
                self.steps.remove(0);
            }
            self.steps.push(step);
        }
        self.last = Some(at);
        self.model.observe(values, at, self.period(), Settings::default().anomaly_false_alarms_per_week)
    }

    fn period(&self) -> f64 {
        let mut sorted = self.steps.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(60.0)
    }
}
