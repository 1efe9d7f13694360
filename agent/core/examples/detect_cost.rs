//! What the host model costs: runs 300 metrics for ten days in steps of ten seconds and prints the
//! bytes of state per metric. The time is taken from outside, the core having no clock:
//!
//!     cargo build -p mainstay-core --release --example detect_cost
//!     time target/release/examples/detect_cost
//!
//! User time divided by metrics times steps is the price of a metric and sample.

use std::io::{self, Write};

use mainstay_core::detect::model::{AlarmState, HostModel};
use mainstay_core::id::IdSource;

/// Ten seconds, as in the agent.
const STEP: f64 = 10.0;
const STEPS: u32 = 10 * 8_640;
const METRICS: u16 = 300;

fn main() -> io::Result<()> {
    let mut source = IdSource::new(1);
    let mut model = HostModel::default();
    let mut values = vec![None; usize::from(METRICS)];
    let mut alarms = 0;
    for step in 0..STEPS {
        for value in &mut values {
            // The sum of two is enough of a noise, and costs little beside the model.
            let [a, b, c, d, e, f, g, h] = source.next_u64().to_le_bytes();
            let halves = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])];
            *value = Some(halves.into_iter().map(f64::from).sum());
        }
        let score = model.observe(&values, f64::from(step) * STEP, STEP, 0.5);
        alarms += u32::from(score.alarm == AlarmState::Opened);
    }
    let bytes = model.state_bytes();
    let per_metric = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / f64::from(METRICS);
    writeln!(
        io::stdout(),
        "{METRICS} metrics, {STEPS} steps, {alarms} alarms; {bytes} bytes of state, {per_metric:.0} per metric"
    )
}
