//! What a real host did, second by second, and what the detectors of crash loops, flapping and saturation said of it.
//!
//! `fixtures/units-cpu.trace` is seven minutes of a booted Debian 12, in lines of `MILLISECONDS unit …`, what `systemctl show`
//! said of a unit, whenever that was another, and `MILLISECONDS cpu …`, the first line of `/proc/stat` and the averages of
//! `/proc/pressure/cpu`, every five seconds. On it
//! - `crash.service` was started at 20 s, ended with code 3 after two seconds each time, had `Restart=on-failure`, and was
//!   stopped at 200 s;
//! - `flap.service` was restarted by hand every 40 s from 60 s on;
//! - `steady.service` did nothing;
//! - four busy loops ran on its two processors from some moment on until the sixth minute, beside a compiler.

use std::collections::BTreeMap;

use mainstay_core::detect::{Change, Detectors, Settings};
use mainstay_core::finding::FindingKind;
use mainstay_core::sample::{ActiveState, CpuTimes, Pressure, Sample, Stall, Unit};
use mainstay_core::subject::UnitName;
use mainstay_core::time::Now;

const TRACE: &str = include_str!("../fixtures/units-cpu.trace");

/// One second of the trace after the other.
fn samples() -> Vec<Sample> {
    let mut lines = TRACE.lines().map(line).peekable();
    let mut units: BTreeMap<UnitName, Unit> = BTreeMap::new();
    let (mut cpu, mut pressure) = (None, None);
    let mut samples = Vec::new();
    while lines.peek().is_some() {
        let ends_ms = u64::try_from(samples.len()).unwrap() * 1_000 + 999;
        while let Some((_, said)) = lines.next_if(|(at_ms, _)| *at_ms <= ends_ms) {
            match said {
                Said::Unit(name, unit) => drop(units.insert(name, *unit)),
                Said::Cpu(times, stall) => {
                    (cpu, pressure) = (Some(times), Some(Pressure { some: stall, full: None }));
                }
            }
        }
        let at = Now { boot_ns: ends_ms * 1_000_000, wall_ms: i64::try_from(ends_ms).unwrap() };
        let mut sample = Sample { at, cpu, units: Some(units.clone()), ..Sample::default() };
        sample.pressure.cpu = pressure;
        samples.push(sample);
    }
    samples
}

enum Said {
    Unit(UnitName, Box<Unit>),
    Cpu(CpuTimes, Stall),
}

fn line(line: &str) -> (u64, Said) {
    let fields: Vec<&str> = line.trim_end().split(' ').collect();
    let number = |at: usize| fields[at].parse::<u64>().unwrap_or_else(|_| panic!("field {at} of {line:?}"));
    let ratio = |at: usize| fields[at].parse::<f64>().unwrap_or_else(|_| panic!("field {at} of {line:?}")) / 100.0;
    let said = if fields[1] == "cpu" {
        let times = CpuTimes {
            user: number(2),
            nice: number(3),
            system: number(4),
            idle: number(5),
            iowait: number(6),
            irq: number(7),
            softirq: number(8),
            steal: number(9),
        };
        let (avg10_ratio, avg60_ratio, avg300_ratio) = (ratio(10), ratio(11), ratio(12));
        Said::Cpu(times, Stall { avg10_ratio, avg60_ratio, avg300_ratio, total_us: number(13) })
    } else {
        let active = match fields[2] {
            "active" => ActiveState::Active,
            "inactive" => ActiveState::Inactive,
            "failed" => ActiveState::Failed,
            "activating" => ActiveState::Activating,
            "deactivating" => ActiveState::Deactivating,
            other => panic!("a unit that is {other}"),
        };
        let digits = fields[6].as_bytes();
        let invocation: Option<Vec<u8>> =
            digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).ok()).collect();
        let unit = Unit {
            active,
            exec_main_code: i32::try_from(number(3)).unwrap(),
            exec_main_status: i32::try_from(number(4)).unwrap(),
            invocation: invocation.and_then(|bytes| bytes.try_into().ok()),
            n_restarts: u32::try_from(number(7)).unwrap(),
            result: fields[8].to_owned(),
            sub: fields[9].to_owned(),
            service_type: fields[10].to_owned(),
            enabled: fields[11] == "enabled",
            restart: if fields[5] == "crash.service" { "on-failure" } else { "no" }.to_owned(),
            // The only one that was stopped was stopped by hand.
            stopped_on_request: active == ActiveState::Inactive && fields[5] == "crash.service",
            ..Unit::default()
        };
        Said::Unit(fields[5].parse().unwrap(), Box::new(unit))
    };
    (number(0), said)
}

/// What opened and cleared on the subject, with the second.
fn changes(kind: FindingKind, subject: &str) -> Vec<(usize, Change)> {
    changes_every(1, kind, subject)
}

/// The same for an agent that samples every so many seconds.
fn changes_every(seconds: usize, kind: FindingKind, subject: &str) -> Vec<(usize, Change)> {
    let mut detectors = Detectors::new(Settings::default(), 1);
    let mut seen = Vec::new();
    for (second, sample) in samples().iter().enumerate().step_by(seconds) {
        for event in detectors.observe_sample(sample, sample.at) {
            if event.finding.kind == kind
                && event.finding.subject.to_string() == subject
                && event.change != Change::Changed
            {
                seen.push((second, event.change));
            }
        }
    }
    seen
}

#[test]
fn a_service_that_dies_every_three_seconds_is_in_a_crash_loop_after_four_restarts() {
    let seen = changes(FindingKind::ServiceCrashLoop, "crash.service");
    assert!(matches!(seen[..], [(30..=40, Change::Opened)]), "{seen:?}");
    assert_eq!(changes(FindingKind::ServiceFlapping, "crash.service"), [], "a crash is not counted twice");
}

#[test]
fn a_service_that_is_restarted_every_forty_seconds_flaps_at_the_sixth_start() {
    let seen = changes(FindingKind::ServiceFlapping, "flap.service");
    assert!(matches!(seen[..], [(259..=263, Change::Opened)]), "{seen:?}");
    assert_eq!(changes(FindingKind::ServiceCrashLoop, "flap.service"), [], "nothing crashed");
    assert_eq!(changes(FindingKind::ServiceFailed, "flap.service"), []);
}

#[test]
fn nothing_is_said_of_a_service_that_runs() {
    for kind in [FindingKind::ServiceCrashLoop, FindingKind::ServiceFlapping, FindingKind::ServiceFailed] {
        assert_eq!(changes(kind, "steady.service"), [], "{kind}");
    }
}

#[test]
fn processors_that_are_waited_for_are_saturated_after_two_minutes_and_no_longer_when_they_are_idle() {
    let seen = changes_every(5, FindingKind::CpuSaturated, "host");
    assert!(matches!(seen[..], [(195..=215, Change::Opened), (250..=300, Change::Cleared)]), "{seen:?}");
}
