//! Faults with a known answer on real hosts that have learned six days of themselves: how soon they are found, by what, and
//! whether the right unit is blamed; and what quiet hosts raise.
//!
//! Every host samples once a second and works all the time. Slow faults have a host each and run beside one another for as
//! long as they take; quick ones follow one another on one host, whose agent goes back to what it had learned before each.
//! One host is never disturbed. All of them share the machine with whatever else it does, which counts as usual
//! ([`crate::learning`]).

mod faults;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::hosts::{Fleet, Host, interrupt, on_all, packages, wait_until};
use crate::sim::rng::Rng;
use crate::site::learning::{self, Opened, learn, now_ms, opened, recall};
use crate::site::workload::{self, PROBES};
pub use faults::{Fault, QUICK_FAULTS, SLOW_FAULTS};
use faults::{LOSE_NO_MORE, PEER};
pub use table::{Row, table};

/// The host that nothing is done to, and the one of the quick faults.
const QUIET: &str = "quiet";
const QUICK: &str = "quick";

/// How long hosts are watched before the first fault, and between two.
const BEFORE: Duration = Duration::from_secs(180);
const BETWEEN: Duration = Duration::from_secs(45);

/// Between two looks at what was found.
const LOOK_EVERY: Duration = Duration::from_secs(5);

const START_MAX: Duration = Duration::from_secs(60);

/// Size of the disk that is filled.
const DISK_MIB: u64 = 1_024;

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Fault by fault.
    pub rows: Vec<Row>,
    /// What opened on hosts that nothing was done to, the machine's own trouble left out: false alarms.
    pub false_alarms: Vec<(String, Opened)>,
    /// What opened on the quiet host about the machine that all share.
    pub of_the_machine: Vec<Opened>,
    /// Quiet time of all hosts together.
    pub quiet: Duration,
}

/// Boots the hosts and runs all of it, with so many minutes for the slow faults, or only the faults that have some words in
/// their names.
///
/// # Errors
/// When no fault has these words, or something fails that has nothing to do with detection.
pub fn run(slow_minutes: u64, words: &str) -> Result<Report> {
    let is_meant = |fault: &Fault| fault.name.contains(words);
    let (slow_faults, quick_faults): (Vec<Fault>, Vec<Fault>) =
        (SLOW_FAULTS.into_iter().filter(is_meant).collect(), QUICK_FAULTS.into_iter().filter(is_meant).collect());
    let known = || SLOW_FAULTS.iter().chain(&QUICK_FAULTS).map(|fault| fault.name).collect::<Vec<_>>().join("\n  ");
    ensure!(slow_faults.len() + quick_faults.len() > 0, "no fault has `{words}` in its name:\n  {}", known());
    let names: Vec<String> = (1..=slow_faults.len()).map(|number| format!("slow-{number}")).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.extend([QUICK, QUIET, PEER]);
    let fleet = Fleet::boot_named(&all)?;
    interrupt::clean_up_on_signal(fleet.dir().to_owned())?;
    set_up(&fleet)?;

    let began = Instant::now();
    let began_ms = now_ms();
    say("quiet, before the first fault");
    pass(BEFORE)?;
    let mut false_alarms = Vec::new();
    let watched: Vec<&Host> = fleet.hosts().iter().filter(|host| host.name() != PEER).collect();
    for host in &watched {
        note_false(host, began_ms, &mut false_alarms)?;
    }
    let mut quiet = BEFORE * u32::try_from(watched.len() - 1)?;

    let mut slow = Vec::new();
    for (name, fault) in names.iter().zip(slow_faults) {
        slow.push((fleet.host(name), begin(&fleet, fleet.host(name), Fault { minutes: slow_minutes, ..fault })?));
    }
    let slow_began = Instant::now();
    let mut rows = quick(&fleet, &quick_faults)?;
    for (host, row) in slow {
        let left = Duration::from_secs(slow_minutes * 60).saturating_sub(slow_began.elapsed());
        rows.push(wait(host, row, left)?);
    }
    let quiet_host = fleet.host(QUIET);
    false_alarms.retain(|(name, _)| name != QUIET);
    note_false(quiet_host, began_ms, &mut false_alarms)?;
    quiet += began.elapsed();
    let of_the_machine = opened(quiet_host, began_ms)?.into_iter().filter(Opened::is_the_machines).collect();
    Ok(Report { rows, false_alarms, of_the_machine, quiet })
}

/// Services, packages, and days learned by every agent.
fn set_up(fleet: &Fleet) -> Result<()> {
    let peer = fleet.host(PEER);
    workload::start_sink(peer)?;
    on_all(fleet.hosts().iter().filter(|host| host.name() != PEER), |host| {
        host.disk(DISK_MIB, "/srv/data")?;
        learning::prepare(host, PROBES)?;
        workload::start(host)?;
        workload::start_traffic(host, &peer.address())?;
        host.must("mkdir -p /run/fault")?;
        host.install_deb(&packages::deb("mainstay-agent")?)?;
        host.wait_unit("mainstay-agent.service", "active", START_MAX)?;
        let said = learn(host, PROBES, Rng::seed_of(host.name()))?;
        say(&format!("{}: {said}", host.name()));
        Ok(())
    })
}

/// The quick faults, one after the other.
fn quick(fleet: &Fleet, faults: &[Fault]) -> Result<Vec<Row>> {
    let host = fleet.host(QUICK);
    let mut rows = Vec::new();
    for fault in faults {
        recall(host)?;
        pass(BETWEEN)?;
        let row = begin(fleet, host, *fault)?;
        rows.push(wait(host, row, Duration::from_secs(fault.minutes * 60))?);
        host.must(LOSE_NO_MORE)?;
        fleet.host(PEER).must(LOSE_NO_MORE)?;
        workload::mend(host)?;
        host.must("mkdir -p /run/fault")?;
    }
    Ok(rows)
}

fn begin(fleet: &Fleet, host: &Host, fault: Fault) -> Result<Row> {
    say(&format!("{}: {}", host.name(), fault.name));
    let began_ms = now_ms();
    fleet.host(PEER).must(&fault.begin_peer.replace("HOST", &host.address()))?;
    host.must(fault.begin)?;
    Ok(Row { fault, began_ms, opened: Vec::new() })
}

/// Waits until every detector that is there for the fault has spoken, or the time is over.
fn wait(host: &Host, mut row: Row, time: Duration) -> Result<Row> {
    let began = Instant::now();
    loop {
        row.opened = opened(host, row.began_ms)?;
        let spoke = |kind: &str| row.opened.iter().any(|found| found.kind == kind);
        let has_learned = |found: &Opened| found.kind == "metric.anomalous" && !found.is_the_machines();
        let all_spoke = row.opened.iter().any(has_learned) && row.fault.kinds.iter().all(|kind| spoke(kind));
        if all_spoke || began.elapsed() >= time {
            for found in &row.opened {
                say(&format!("  {:>7} ms: {found:?}", found.opened_ms - row.began_ms));
            }
            return Ok(row);
        }
        pass(LOOK_EVERY.min(time.saturating_sub(began.elapsed())))?;
    }
}

/// Notes what a host that nothing is done to raised of its own.
fn note_false(host: &Host, since_ms: i64, to: &mut Vec<(String, Opened)>) -> Result<()> {
    let own = opened(host, since_ms)?.into_iter().filter(|found| !found.is_the_machines());
    to.extend(own.map(|found| (host.name().to_owned(), found)));
    Ok(())
}

/// Lets time pass: what is measured is time.
fn pass(time: Duration) -> Result<()> {
    let until = Instant::now().checked_add(time).context("a time that far off")?;
    wait_until(time + START_MAX, "time to pass", || Ok((Instant::now() >= until).then_some(())))
}

fn say(text: &str) {
    eprintln!("eval-hosts: {text}");
}
