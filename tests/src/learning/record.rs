//! Reads a host as its agent does, for a while: with the agent's own readers, once a second, on the host itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use mainstay_agent::actuate::{Actuator, SOCKET};
use mainstay_agent::host::filesystems::FilesystemSettings;
use mainstay_agent::host::probes::Probes;
use mainstay_agent::host::{Host, clock, systemd};
use mainstay_core::policy::ProbeSpec;
use mainstay_core::sample::Sample;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// Events that wait to be taken.
const QUEUED_MAX: usize = 1_024;

/// Seconds that systemd may take to tell its units, and every probe to answer.
const READY_MAX: u64 = 30;

/// Takes `count` samples, a second apart, from when systemd's units are known and every probe has answered well. `filesystems` are the agent's own settings.
///
/// # Errors
/// When units or answers do not come.
pub async fn record(count: usize, probes: Vec<ProbeSpec>, filesystems: FilesystemSettings) -> Result<Vec<Sample>> {
    let (unit_events, mut units) = mpsc::channel(QUEUED_MAX);
    let (results, mut probed) = mpsc::channel(QUEUED_MAX);
    tokio::spawn(systemd::follow(unit_events));
    let names: Vec<String> = probes.iter().map(|probe| probe.name.clone()).collect();
    let mut running = Probes::new(results, Actuator::at(SOCKET));
    running.set(probes);
    let mut host = Host::at(Path::new("/"), filesystems);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut samples, mut waited) = (Vec::new(), 0);
    loop {
        tokio::select! {
            biased;
            Some(event) = units.recv() => {
                host.units_changed(event);
            }
            Some((name, probe)) = probed.recv() => host.probed(name, probe),
            _ = ticks.tick() => {
                let sample = host.sample(clock::now());
                let answers = |name: &String| sample.probes.get(name).is_some_and(|probe| probe.fails == 0);
                let missing: Vec<&String> = names.iter().filter(|name| !answers(name)).collect();
                if sample.units.is_some() && missing.is_empty() {
                    samples.push(sample);
                } else if waited < READY_MAX {
                    waited += 1;
                } else {
                    let units = if sample.units.is_some() { "known" } else { "unknown" };
                    bail!("units {units} after {READY_MAX} s, probes that do not answer: {missing:?}");
                }
                if samples.len() >= count {
                    return Ok(samples);
                }
            }
        }
    }
}
