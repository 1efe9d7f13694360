//! Replays a series, or a table with one column per metric, through the learned model of
//! `metric.anomalous` with its defaults.
//!
//! In, on standard input: `timestamp,value` or `timestamp,NAME,NAME,...`, unix seconds; an empty
//! field is a missing sample. Out: `timestamp,score,alert,blame`, one line per line read. What is
//! written for a line depends on the lines before it only.
//!
//!     cargo run -p mainstay-core --release --example detect_csv < series.csv

use std::io::{self, BufRead, BufWriter, Write};

use mainstay_core::detect::Settings;
use mainstay_core::detect::model::{AlarmState, HostModel, HostScore};

/// Steps of which the usual distance is taken as the period.
const STEPS: usize = 15;

fn main() -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    let names: Vec<String> = header.trim_end().split(',').skip(1).map(str::to_owned).collect();
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "timestamp,score,alert,blame")?;
    let mut replay = Replay::default();
    for line in lines {
        let line = line?;
        let mut fields = line.trim_end().split(',');
        let stamp = fields.next().unwrap_or_default();
        let values: Vec<Option<f64>> =
            names.iter().map(|_| fields.next().and_then(|field| field.parse().ok())).collect();
        let score = replay.row(stamp.parse().unwrap_or(0.0), &values);
        let alert = u8::from(score.alarm == AlarmState::Opened);
        let blame: Vec<&str> = score.blame.iter().map(|blame| names[blame.metric].as_str()).collect();
        writeln!(out, "{stamp},{:.4},{alert},{}", score.score, blame.join(";"))?;
    }
    out.flush()
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
