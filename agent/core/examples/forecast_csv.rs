//! Replays the used bytes of a disk through the forecaster of `disk.filling` with its defaults.
//!
//! In, on standard input: `timestamp,used,ask`, unix seconds and bytes; `ask` is empty or holds
//! capacities joined by `;`. Out: `timestamp,capacity,eta_s,low_s,high_s` for every capacity
//! asked: seconds until it is reached, `inf` for never, and the interval.
//!
//!     cargo run -p mainstay-core --release --example forecast_csv < disk.csv
#![allow(clippy::cast_possible_truncation)]

use std::io::{self, BufRead, BufWriter, Write};

use mainstay_core::detect::forecast::Forecaster;

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "timestamp,capacity,eta_s,low_s,high_s")?;
    let mut forecaster = Forecaster::new();
    for line in io::stdin().lock().lines().skip(1) {
        let line = line?;
        let mut fields = line.split(',');
        let stamp = fields.next().unwrap_or_default();
        let used = fields.next().and_then(|field| field.parse().ok());
        if let (Ok(at), Some(used)) = (stamp.parse::<f64>(), used) {
            forecaster.observe((at * 1_000.0) as i64, used);
        }
        for capacity in fields.next().unwrap_or_default().split(';').filter(|ask| !ask.is_empty()) {
            let forecast = forecaster.forecast(capacity.parse().unwrap_or(f64::INFINITY));
            let (eta, low, high) = (forecast.expected, forecast.low, forecast.high);
            writeln!(out, "{stamp},{capacity},{eta:.0},{low:.0},{high:.0}")?;
        }
    }
    out.flush()
}
