//! Replays a series, or a table with one column per metric, through the learned model of
//! `metric.anomalous` with its defaults.
//!
//! In, on standard input: `timestamp,value` or `timestamp,NAME,NAME,...`, unix seconds; an empty
//! field is a missing sample. Out: `timestamp,score,alert,blame`, one line per line read. What is
//! written for a line depends on the lines before it only.
//!
//!     cargo run -p mainstay-core --release --example detect_csv < series.csv
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::io::{self, BufRead, BufWriter, Write};

use mainstay_core::detect::Settings;
use mainstay_core::detect::model::{HostModel, HostScore};

/// Steps of which the usual distance is taken as the period.
const STEPS: usize = 15;

/// After an alarm nothing is said for this long, in seconds, as in the agent.
const QUIET_SECONDS: f64 = 3_600.0;

fn main() -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    let names: Vec<String> = header.split(',').skip(1).map(str::to_owned).collect();
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "timestamp,score,alert,blame")?;
    let mut replay = Replay::default();
    for line in lines {
        let line = line?;
        let mut fields = line.split(',');
        let stamp = fields.next().unwrap_or_default();
        let values: Vec<Option<f64>> =
            names.iter().map(|_| fields.next().and_then(|field| field.parse().ok())).collect();
        let (score, is_alert) = replay.row(stamp.parse().unwrap_or(0.0), &values);
        let blame: Vec<&str> = score.blame.iter().map(|blame| names[blame.metric].as_str()).collect();
        writeln!(out, "{stamp},{:.4},{},{}", score.surprise, u8::from(is_alert), blame.join(";"))?;
    }
    out.flush()
}

#[derive(Default)]
struct Replay {
    model: HostModel,
    last: Option<f64>,
    steps: Vec<f64>,
    is_open: bool,
    quiet_until: f64,
}

impl Replay {
    fn row(&mut self, at: f64, values: &[Option<f64>]) -> (HostScore, bool) {
        if let Some(step) = self.last.map(|last| at - last).filter(|step| *step > 0.0) {
            if self.steps.len() >= STEPS {
                self.steps.remove(0);
            }
            self.steps.push(step);
        }
        self.last = Some(at);
        let knob = Settings::default().anomaly_false_alarms_per_week;
        let score = self.model.observe(values, self.period(), (at / 3_600.0) as usize, knob);
        let opens = score.is_alarm() && !self.is_open && at >= self.quiet_until;
        if opens {
            self.is_open = true;
        } else if self.is_open && score.surprise < score.limit / 2.0 {
            self.is_open = false;
            self.quiet_until = at + QUIET_SECONDS;
        }
        (score, opens)
    }

    fn period(&self) -> f64 {
        let mut sorted = self.steps.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(60.0)
    }
}
