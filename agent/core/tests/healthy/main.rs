//! Healthy hosts under a policy that lets every kind act: what the agent would do and say needlessly.
//!
//! Simulated are hosts of eleven units at ten seconds a sample, each with its own seed (`host.rs` says what their life
//! holds). One host lives three weeks here, of which the first is for learning; a longer run by hand is
//! `HOST_WEEKS=104 HOSTS=4 cargo test --release -p mainstay-core --test healthy -- --nocapture`. Held to a bound are needless
//! actions, below one a host and year. Alarms are printed: one of the units works in bursts at no fixed time, and of
//! such hosts docs/detection.md says that the knob gives way.

mod host;

use std::collections::BTreeMap;
use std::time::Duration;

use host::{Host, STEP};
use mainstay_core::decide::{Book, Facts, Standing, decide};
use mainstay_core::decision::Choice;
use mainstay_core::detect::{Change, Detectors, Settings};
use mainstay_core::finding::{FindingKind, FindingState};
use mainstay_core::id::{FindingId, IdSource};
use mainstay_core::policy::Policy;
use mainstay_core::subject::Subject;

/// Everything may act at once: no confidence, no wait, no window, every risk.
const POLICY: &str = r#"
version = 1
[[rule]]
name = "units"
on = ["service.failed", "service.crash_loop", "service.hung", "memory.leak", "fd.leak", "task.leak", "process.runaway", "process.fork_storm", "fd.exhausted", "task.exhausted"]
all_units = true
mode = "auto"
confidence = 0.0
risk = "high"
ladder = [{ do = "unit.restart" }]
[[rule]]
name = "disks"
on = ["disk.full", "disk.filling", "disk.inodes", "inode.leak"]
mounts = ["/*"]
mode = "auto"
confidence = 0.0
risk = "high"
ladder = [{ do = "disk.reclaim", from = ["journal"], until = "used < 80%" }]
"#;

/// Quiet weeks at the start that are no part of the measure: the models learn.
const LEARNING_WEEKS: u64 = 1;

/// What was seen after the learning.
#[derive(Debug, Default)]
struct Tally {
    weeks: u64,
    alarms: BTreeMap<FindingKind, u64>,
    acts: BTreeMap<FindingKind, u64>,
    held: u64,
}

fn live(seed: u64, weeks: u64, tally: &mut Tally) {
    let mut host = Host::new(seed);
    let mut detectors = Detectors::new(Settings::default(), seed);
    let policy = Policy::parse(&[("all.toml", POLICY)]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let (book, mut ids) = (Book::default(), IdSource::new(seed));
    let mut acted: Vec<FindingId> = Vec::new();
    let per_week = Duration::from_secs(7 * 86_400).as_secs() / STEP;
    for step in 0..weeks * per_week {
        let sample = host.sample();
        let events = detectors.observe_sample(&sample, sample.at);
        if step < LEARNING_WEEKS * per_week {
            continue;
        }
        for event in events.iter().filter(|event| event.change == Change::Opened) {
            let finding = &event.finding;
            *tally.alarms.entry(finding.kind).or_default() += 1;
            let day = step * STEP / 86_400;
            println!(
                "seed {seed} day {day} {:.1} h: {} {}: {}",
                hour(step),
                finding.kind,
                finding.subject,
                finding.evidence.first().map_or("", |seen| &seen.text)
            );
        }
        let standing: Vec<Standing> = detectors
            .open_findings()
            .filter(|finding| finding.state == FindingState::Open)
            .map(|finding| Standing { kind: finding.kind, subject: finding.subject.clone() })
            .collect();
        let facts = Facts { standing, ..Facts::default() };
        for finding in detectors.open_findings() {
            if acted.contains(&finding.id) {
                continue;
            }
            let decision = decide(finding, &policy, &book, &facts, sample.at, &mut ids);
            if matches!(decision.choice, Choice::Act(_)) {
                *tally.acts.entry(finding.kind).or_default() += 1;
                acted.push(finding.id);
            }
        }
        tally.held += u64::from(!facts.standing.is_empty());
    }
    tally.weeks += weeks - LEARNING_WEEKS;
}

#[allow(clippy::cast_precision_loss)]
fn hour(step: u64) -> f64 {
    (step * STEP % 86_400) as f64 / 3_600.0
}

#[allow(clippy::disallowed_methods, reason = "how long a run by hand is")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn healthy_hosts_are_left_alone() {
    let mut tally = Tally::default();
    for host in 0..number("HOSTS", 1) {
        live(host + 1, number("HOST_WEEKS", 3), &mut tally);
    }
    let weeks = tally.weeks as f64;
    let (alarms, acts): (u64, u64) = (tally.alarms.values().sum(), tally.acts.values().sum());
    println!(
        "{tally:?}: {:.2} alarms a host and week, {:.2} acts a host and year",
        alarms as f64 / weeks,
        acts as f64 / weeks * 52.0
    );
    assert!(acts as f64 <= weeks / 52.0, "{tally:?}");
}

/// The measure can fail: the same host with a leak that nobody mends is acted on once its limit is near.
#[test]
fn a_host_that_leaks_is_acted_on() {
    let mut host = Host::new(7);
    let mut detectors = Detectors::new(Settings::default(), 7);
    let policy = Policy::parse(&[("all.toml", POLICY)]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let (book, mut ids) = (Book::default(), IdSource::new(7));
    let name = "logs.service".parse().unwrap();
    let (mut found, mut acted) = (None, None);
    for step in 0..4 * 8_640 {
        let mut sample = host.sample();
        // From the third day on 25 descriptors an hour are never closed: 1024 after 39 hours.
        let leaked = (step * STEP).saturating_sub(2 * 86_400) * 25 / 3_600;
        let cgroup = sample.units.as_mut().unwrap().get_mut(&name).unwrap().cgroup.as_mut().unwrap();
        cgroup.fds = Some((50 + leaked).min(1_024));
        detectors.observe_sample(&sample, sample.at);
        for finding in detectors.open_findings().filter(|finding| finding.kind == FindingKind::FdLeak) {
            assert_eq!(finding.subject, Subject::Unit("logs.service".parse().unwrap()));
            found = found.or(Some(leaked));
            let decision = decide(finding, &policy, &book, &Facts::default(), sample.at, &mut ids);
            if matches!(decision.choice, Choice::Act(_)) {
                acted = acted.or(Some(leaked));
            }
        }
    }
    assert!(found.is_some_and(|leaked| leaked < 500), "{found:?}");
    // 85 % of 1024 are 870.
    assert!(acted.is_some_and(|leaked| (815..830).contains(&leaked)), "{acted:?}");
}
