//! `io.stalled`: nothing goes on because everything waits for a disk.
//!
//! In: pressure of I/O and processes that cannot be woken. Reading and writing a lot is no trouble;
//! a minute most of which no task could run for want of I/O is, and so is half as much of an hour
//! ([`super::burn`]).

use std::time::Duration;

use super::burn::{Burn, either};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{measured, percent, said};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::Signals;

/// Share of a minute in which all tasks waited, from which it is trouble and under which it is over.
const OPEN_RATIO: f64 = 0.5;
const CLEAR_RATIO: f64 = 0.3;

/// A large write-back takes a minute or two.
const RAISE_AFTER: Duration = Duration::from_secs(120);

/// Disks named in the evidence, from this share of the time on.
const DISK_BUSY_RATIO: f64 = 0.9;

/// Share of an hour that is trouble too.
const SLOW_RATIO: f64 = 0.25;

/// Judges the host.
pub(crate) fn observe(sample: &Sample, signals: &Signals<'_>, burn: &mut Burn, round: &mut Round<'_>) {
    if let Some(stall) = sample.pressure.io.and_then(|io| io.full) {
        burn.add(round.t, stall.avg60_ratio);
    }
    let slow = burn.slow(SLOW_RATIO).map(|slow| {
        let text = format!(
            "all tasks waited for I/O {} of the last hour, {} of the last five minutes",
            percent(slow.hour),
            percent(slow.lately)
        );
        let evidence = vec![measured(text, "io_stalled_ratio", slow.hour, Some(SLOW_RATIO))];
        Case { severity: Severity::Warning, confidence: 0.9, evidence, raise_after: Duration::ZERO }
    });
    round.judge(FindingKind::IoStalled, SubjectRef::Host, either(verdict(sample, signals), slow));
}

fn verdict(sample: &Sample, signals: &Signals<'_>) -> Verdict {
    let Some(stall) = sample.pressure.io.and_then(|io| io.full) else { return Verdict::Unknown };
    let stalled = stall.avg60_ratio;
    if stalled < CLEAR_RATIO {
        return Verdict::Over;
    }
    if stalled < OPEN_RATIO {
        return Verdict::Between;
    }
    let text = format!("all tasks waited for I/O {} of a minute", percent(stalled));
    let mut evidence = vec![measured(text, "io_stalled_ratio", stalled, Some(OPEN_RATIO))];
    if let Some(processes) = sample.processes.filter(|processes| processes.uninterruptible > 0) {
        evidence.push(said(format!("{} processes cannot be woken", processes.uninterruptible)));
    }
    let busy: Vec<&str> =
        signals.disks.iter().filter(|disk| disk.busy_ratio >= DISK_BUSY_RATIO).map(|disk| disk.name).collect();
    if !busy.is_empty() {
        evidence.push(said(format!("busy all the time: {}", busy.join(", "))));
    }
    Verdict::Holds(Case { severity: Severity::Warning, confidence: 0.9, evidence, raise_after: RAISE_AFTER })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::{Pressure, Stall};
    use crate::time::Now;

    #[test]
    fn minutes_in_which_everything_waits_are_found_and_reading_a_lot_is_not() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..900u64 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            // All of it some task waits; for a while all tasks do.
            let full = if (200..500).contains(&second) { 0.8 } else { 0.2 };
            let mut sample = Sample { at: now, ..Sample::default() };
            let stall = |avg60_ratio| Stall { avg60_ratio, ..Stall::default() };
            sample.pressure.io = Some(Pressure { some: stall(0.99), full: Some(stall(full)) });
            let events = detectors.observe_sample(&sample, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::IoStalled);
            seen.extend(own.map(|event| (second, event.change)));
        }
        assert_eq!(seen, [(320, Change::Opened), (530, Change::Cleared)]);
    }
}
