//! What is recorded comes back, the right part of it, and never more than its bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::finding::{Evidence, Finding, FindingKind, FindingState, Measure, Severity};
use crate::id::FindingId;
use crate::readings::{readings, readings_after};
use crate::sample::{ActiveState, Cgroup, CpuTimes, Memory, Sample, Unit};
use crate::subject::Subject;
use crate::summary::SummaryBuilder;

const BOOT: BootId = BootId([7; 16]);

fn at(second: u64) -> Now {
    Now { boot_ns: second * 1_000_000_000, wall_ms: 1_000_000 + i64::try_from(second).unwrap() * 1_000 }
}

fn unit(cpu_us: u64, memory: u64) -> Unit {
    let cgroup =
        Cgroup { cpu_usage_us: Some(cpu_us), memory_current_bytes: Some(memory), tasks: Some(3), ..Cgroup::default() };
    Unit { active: ActiveState::Active, cgroup: Some(cgroup), ..Unit::default() }
}

/// A host with one unit, whose memory is a mebibyte a second.
fn sample(second: u64) -> Sample {
    let units = BTreeMap::from([("app.service".parse().unwrap(), unit(second * 250_123, second << 20))]);
    Sample {
        at: at(second),
        cpu: Some(CpuTimes { user: second * 30, idle: second * 70, ..CpuTimes::default() }),
        memory: Some(Memory { total_bytes: 1 << 40, available_bytes: (1 << 40) - (second << 20), ..Memory::default() }),
        units: Some(units),
        ..Sample::default()
    }
}

fn record(recorder: &mut Recorder, sample: &Sample) -> Option<Vec<u8>> {
    let chunk = recorder.begin(sample, 0);
    readings(sample, &mut |reading| recorder.reading(None, &reading));
    chunk
}

/// The same with the numbers that a summary gives, and with what is as it was before, as the agent does it.
fn take_down(
    recorder: &mut Recorder,
    summary: &mut SummaryBuilder,
    before: Option<&Sample>,
    sample: &Sample,
) -> Option<Vec<u8>> {
    summary.begin(sample.at);
    let chunk = recorder.begin(sample, summary.layout());
    readings_after(before, sample, &mut TakenDown { summary, recorder });
    chunk
}

#[test]
fn what_is_known_by_number_or_as_before_is_taken_down_as_what_is_looked_up() {
    let (mut by_number, mut looked_up) = (Recorder::new(BOOT), Recorder::new(BOOT));
    let (mut summary, mut plain) = (SummaryBuilder::default(), SummaryBuilder::default());
    let (mut chunks, mut summaries) = (0, 0);
    let mut before = None;
    for second in 0..400 {
        let mut sample = sample(second);
        let units = sample.units.get_or_insert_default();
        // Some come and go, some are gone for longer than a summary; some have other readings every second, most every five.
        for n in (0..90).filter(|n| (second / (5 + n)) % 3 != 0) {
            let read = if n % 4 == 0 { second } else { (second + n) / 5 * 5 };
            let mut unit = unit(read * (n + 1) * 1_000, (n + 1) << 20);
            if let Some(cgroup) = unit.cgroup.as_mut().filter(|_| (second / 40 + n) % 5 == 0) {
                cgroup.memory_events_oom_kill = Some(n);
            }
            units.insert(format!("u{n:02}.service").parse().unwrap(), unit);
        }
        if second % 70 == 33 {
            let unit = format!("u{:02}.service", second % 90).parse().unwrap();
            by_number.follow(&unit);
            looked_up.follow(&unit);
        }
        let chunk = take_down(&mut by_number, &mut summary, before.as_ref(), &sample);
        assert_eq!(chunk, record(&mut looked_up, &sample), "second {second}");
        chunks += usize::from(chunk.is_some());
        plain.add(&sample);
        if summary.is_due(sample.at) {
            assert_eq!(summary.take(sample.at), plain.take(sample.at), "second {second}");
            summaries += 1;
        }
        before = Some(sample);
    }
    assert_eq!((by_number.tail(), chunks, summaries), (looked_up.tail(), 6, 39));
    assert!(summary.layout() > 3);
}

/// The chunks of so many seconds, the last one being the tail.
fn chunks(recorder: &mut Recorder, seconds: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let mut chunks: Vec<_> = seconds.filter_map(|second| record(recorder, &sample(second))).collect();
    chunks.extend(recorder.tail());
    chunks
}

fn cut(chunks: &[Vec<u8>], span: Span, rank: &dyn Fn(&SeriesKey) -> Option<u16>, limit: usize) -> Recording {
    let mut cut = Cut::new(span);
    for chunk in chunks {
        let _ = cut.look(chunk, rank);
    }
    let mut filling = cut.choose(0, limit);
    for chunk in chunks {
        let _ = filling.fill(chunk);
    }
    filling.finish()
}

fn series<'r>(recording: &'r Recording, name: &str) -> &'r Recorded {
    recording.series.iter().find(|one| one.key.to_string() == name).unwrap_or_else(|| panic!("no {name}"))
}

fn finding(kind: FindingKind, subject: Subject, second: u64) -> Finding {
    Finding {
        id: FindingId(second),
        kind,
        subject,
        severity: Severity::Warning,
        confidence: 1.0,
        state: FindingState::Open,
        opened: at(second),
        changed: at(second),
        evidence: Vec::new(),
        effect_of: None,
    }
}

fn app() -> Subject {
    Subject::Unit("app.service".parse().unwrap())
}

const MEMORY: &str = r#"mainstay_unit_memory_bytes{unit="app.service"}"#;
const CPU: &str = r#"mainstay_unit_cpu_seconds_total{unit="app.service"}"#;

#[test]
fn the_seconds_around_a_finding_come_back_from_several_chunks() {
    let mut recorder = Recorder::new(BOOT);
    let chunks = chunks(&mut recorder, 0..400);
    assert_eq!(chunks.len(), 7, "six minutes and what came after");
    let mut windows = Windows::new(BOOT);
    assert_eq!(windows.opened(&finding(FindingKind::MemoryLeak, app(), 330), at(330)).unwrap().as_str(), "app.service");
    assert_eq!(windows.due(at(389)), None, "what came after is not recorded yet");
    let window = windows.due(at(390)).unwrap();
    let recording = cut(&chunks, window.span, &|key| Some(window.about.rank(key)), WINDOW_SERIES_MAX);
    assert_eq!((recording.at.first(), recording.at.last()), (Some(&at(30)), Some(&at(390))));
    assert_eq!(recording.at.len(), 361);
    assert_eq!(recording.series[0].key.to_string(), MEMORY, "what it is about stands first");
    let expected: Vec<f64> = (30..=390u32).map(|second| f64::from(second) * f64::from(1 << 20)).collect();
    assert_eq!(recording.series[0].values, expected);
    assert_eq!(recording.left_out, 0);
    assert_eq!(recording.boot, BOOT);
}

#[test]
fn counters_are_shown_as_rates_and_gauges_as_they_are() {
    let mut recorder = Recorder::new(BOOT);
    let chunks = chunks(&mut recorder, 0..10);
    let span = Span { boot: BOOT, from: at(0), to: at(9) };
    let recording = cut(&chunks, span, &|_| Some(0), 100);
    let cpu = series(&recording, CPU).shown(&recording.at);
    assert!(cpu[0].is_nan());
    assert!(cpu[1..].iter().all(|rate| (rate - 0.250_123).abs() < 1e-9), "{cpu:?}");
    assert_eq!(series(&recording, MEMORY).shown(&recording.at)[3], f64::from(3 << 20));
    let user = series(&recording, r#"node_cpu_seconds_total{mode="user"}"#).shown(&recording.at);
    assert!((user[5] - 0.3).abs() < 1e-9, "of all CPUs together: {user:?}");
    let again = Recorded { values: vec![5.0, 7.0, 1.0, 2.0], ..series(&recording, CPU).clone() };
    let rates = again.shown(&recording.at[..4]);
    assert!(rates[2].is_nan(), "a counter that began anew did not fall: {rates:?}");
    assert_eq!(rates[3], 1.0);
}

#[test]
fn what_comes_and_goes_within_a_minute_has_its_seconds_and_no_others() {
    let mut recorder = Recorder::new(BOOT);
    let mut all = Vec::new();
    for second in 0..180 {
        let mut sample = sample(second);
        if !(20..70).contains(&second) {
            sample.units = Some(BTreeMap::new());
        }
        // A unit that appears is chosen at the next minute, or when a finding is about it.
        if second == 30 {
            recorder.follow(&"app.service".parse().unwrap());
        }
        all.extend(record(&mut recorder, &sample));
    }
    all.extend(recorder.tail());
    let span = Span { boot: BOOT, from: at(0), to: at(180) };
    let recording = cut(&all, span, &|_| Some(0), 100);
    let memory = &series(&recording, MEMORY).values;
    let seen: Vec<usize> = (0..180).filter(|row| memory[*row].is_finite()).collect();
    assert_eq!(seen, (30..70).collect::<Vec<_>>());
    assert_eq!(memory[42], f64::from(42 << 20));
}

#[test]
fn the_busiest_units_are_recorded_and_the_rest_is_left_alone() {
    let mut recorder = Recorder::new(BOOT);
    let name = |n: u64| format!("u{n:03}.service").parse().unwrap();
    let units = |second: u64| (0..300).map(|n| (name(n), unit(n * second * 1_000, 1 << 20))).collect();
    for second in 0..=60 {
        let sample = Sample { at: at(second), units: Some(units(second)), ..Sample::default() };
        record(&mut recorder, &sample);
    }
    let chunk = recorder.tail().unwrap();
    let has = |name: &str| {
        let mut cut = Cut::new(Span { boot: BOOT, from: at(0), to: at(60) });
        cut.look(&chunk, &|key| key.labels.iter().any(|(_, value)| value == name).then_some(0)).unwrap();
        cut.found() > 0
    };
    for n in 260..300 {
        assert!(has(&format!("u{n}.service")), "u{n} is among the busiest");
    }
    assert!(!has("u150.service"));
    let recorded = (0..300).filter(|n| has(&format!("u{n:03}.service"))).count();
    assert_eq!(recorded, super::chosen::UNITS_MAX);
    assert_eq!(recorder.dropped(), 0);
    // In the next minute others are busy: those before make room.
    let others = |second: u64| (0..300).map(|n| (name(n), unit((300 - n) * second * 1_000_000, 1 << 20))).collect();
    for second in 61..=180 {
        let sample = Sample { at: at(second), units: Some(others(second)), ..Sample::default() };
        record(&mut recorder, &sample);
    }
    let chunk = recorder.tail().unwrap();
    let recording = Recording::decode(&chunk).unwrap();
    let of = |unit: &str| recording.series.iter().filter(|one| one.key.labels.iter().any(|(_, v)| v == unit)).count();
    assert!(of("u001.service") > 0 && of("u299.service") == 0, "{:?}", recording.series.len());
    assert_eq!(recording.series.len() % super::chosen::UNITS_MAX, 0, "and nobody else takes it");
}

#[test]
fn series_beyond_the_bound_are_counted() {
    let mut recorder = Recorder::new(BOOT);
    let disk = |n: usize| crate::sample::Disk { name: format!("sd{n}"), ..Default::default() };
    let mut sample = sample(0);
    sample.disks = (0..120).map(disk).collect();
    record(&mut recorder, &sample);
    let recording = Recording::decode(&recorder.tail().unwrap()).unwrap();
    assert_eq!(recording.series.len(), SERIES_MAX);
    assert!(recording.left_out > 100, "{}", recording.left_out);
    assert_eq!(recorder.dropped(), u64::from(recording.left_out));
}

#[test]
fn the_steady_state_makes_no_room_anew() {
    let mut recorder = Recorder::new(BOOT);
    (0..130).for_each(|second| drop(record(&mut recorder, &sample(second))));
    let before = recorder.buffers();
    (130..600).for_each(|second| drop(record(&mut recorder, &sample(second))));
    assert_eq!(recorder.buffers(), before);
}

#[test]
fn a_wall_clock_that_jumps_loses_no_second_of_this_boot_and_another_boot_goes_by_the_wall() {
    let mut recorder = Recorder::new(BootId([1; 16]));
    let before = chunks(&mut recorder, 900..960);
    let mut recorder = Recorder::new(BOOT);
    let mut after = Vec::new();
    for second in 0..120 {
        let mut sample = sample(second);
        // The clock of this boot is another, and jumps back by an hour.
        sample.at.wall_ms = 1_965_000 + i64::try_from(second).unwrap() * 1_000;
        if second >= 60 {
            sample.at.wall_ms -= 3_600_000;
        }
        after.extend(record(&mut recorder, &sample));
    }
    after.extend(recorder.tail());
    let all = [before, after].concat();
    let span = Span {
        boot: BOOT,
        from: Now { boot_ns: 0, wall_ms: 1_950_000 },
        to: Now { boot_ns: at(119).boot_ns, wall_ms: 0 },
    };
    assert_eq!(cut(&all, span, &|_| Some(0), 100).at.len(), 120);
    let span = Span { to: Now { wall_ms: 2_000_000, ..span.to }, ..span };
    let recording = cut(&all, span, &|_| Some(0), 100);
    assert_eq!(recording.at.len(), 10 + 120, "ten seconds of the boot before");
    assert_eq!(recording.boot, BOOT);
}

#[test]
fn a_chunk_that_is_damaged_is_passed_over() {
    let mut recorder = Recorder::new(BOOT);
    let mut all = chunks(&mut recorder, 0..180);
    all[1].truncate(100);
    let recording = cut(&all, Span { boot: BOOT, from: at(0), to: at(180) }, &|_| Some(0), 100);
    assert_eq!(recording.at.len(), 120);
    assert_eq!(series(&recording, MEMORY).values[60], f64::from(120 << 20));
}

#[test]
fn times_that_cannot_be_are_refused() {
    let bytes = Recording { at: vec![Now::default()], ..Recording::default() }.encode();
    // Version, boot, one row, the column's mode, and 0 ms as a zigzag number.
    let place = 1 + 16 + 1 + 1;
    assert_eq!(Recording::decode(&bytes).unwrap().at, [Now::default()]);
    let before_boot = [&bytes[..place], &[1], &bytes[place + 1..]].concat();
    let too_late = [&bytes[..place], &[0xfe; 9], &[1], &bytes[place + 1..]].concat();
    for wrong in [before_boot, too_late] {
        assert_eq!(Recording::decode(&wrong).unwrap_err().to_string(), "a recording cannot be read at its times");
    }
}

#[test]
fn pages_hold_every_series_once_and_a_recording_no_more_than_its_bound() {
    let mut recorder = Recorder::new(BOOT);
    let chunks = chunks(&mut recorder, 0..100);
    let span = Span { boot: BOOT, from: at(0), to: at(100) };
    let look = || {
        let mut cut = Cut::new(span);
        chunks.iter().for_each(|chunk| cut.look(chunk, &|_| Some(0)).unwrap());
        cut
    };
    let all = look().choose(0, usize::MAX).finish().series.len();
    let mut seen = 0;
    for from in (0..all).step_by(7) {
        let page = look().choose(from, 7).finish();
        assert_eq!(usize::try_from(page.left_out).unwrap(), all - from - page.series.len());
        seen += page.series.len();
    }
    assert_eq!((seen, look().found()), (all, all));
    assert_eq!(look().series_max(), JOINED_VALUES_MAX / 100);
}

#[test]
fn so_many_windows_an_hour_and_the_rest_is_counted() {
    let mut windows = Windows::new(BOOT);
    for second in 0..90 {
        windows.opened(&finding(FindingKind::MetricAnomalous, app(), second), at(second));
    }
    assert_eq!(windows.counts(), (15, 75), "what is critical has its own");
    for second in 90..100 {
        let critical = Finding { severity: Severity::Critical, ..finding(FindingKind::ServiceFailed, app(), second) };
        windows.opened(&critical, at(second));
    }
    let cut = std::iter::from_fn(|| windows.due(at(200))).count();
    assert_eq!(cut, WINDOWS_PER_HOUR_MAX);
    assert_eq!(windows.counts(), (20, 80));
    windows.opened(&finding(FindingKind::ServiceFailed, app(), 3_650), at(3_650));
    assert!(windows.due(at(3_710)).is_some(), "an hour later there is room again");
}

#[test]
fn a_window_that_a_stop_prevented_is_cut_after_the_start() {
    let mut windows = Windows::new(BOOT);
    windows.standing(&finding(FindingKind::ServiceFailed, app(), 1_000), at(1_030));
    windows.standing(&finding(FindingKind::ServiceFailed, app(), 100), at(1_030));
    let window = windows.due(at(1_090)).unwrap();
    assert_eq!(window.finding, FindingId(1_000));
    assert_eq!(window.span.from, at(700));
    assert_eq!(windows.due(at(2_000)), None, "one that is old had its own");
    let of_another_boot = finding(FindingKind::ServiceFailed, app(), 90_000);
    windows.standing(&of_another_boot, Now { boot_ns: 0, wall_ms: at(90_001).wall_ms });
    assert_eq!(windows.counts().0, 1);
}

#[test]
fn what_a_finding_is_about_stands_first() {
    let key = |text: &str| {
        let (name, rest) = text.split_once('{').unwrap_or((text, ""));
        let labels: Vec<(&str, &str)> = rest
            .trim_end_matches('}')
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        SeriesKey::new(name, &labels)
    };
    let order = |finding: &Finding, series: &[&str]| {
        let about = About::of(finding);
        let ranks: Vec<u16> = series.iter().map(|text| about.rank(&key(text))).collect();
        assert!(ranks.is_sorted(), "{series:?} have the ranks {ranks:?}");
        assert!(ranks[0] < ranks[ranks.len() - 1]);
    };
    order(
        &finding(FindingKind::ProcessRunaway, app(), 1),
        &[CPU, MEMORY, "node_load1", r#"node_disk_io_now{device="vda"}"#, r#"mainstay_unit_tasks{unit="b.service"}"#],
    );
    order(
        &finding(FindingKind::DiskFull, Subject::Mount("/var".into()), 1),
        &[
            r#"node_filesystem_avail_bytes{device="x",mountpoint="/var"}"#,
            "node_load1",
            r#"node_filesystem_avail_bytes{device="x",mountpoint="/"}"#,
        ],
    );
    let measure = Measure { name: r#"disk_busy_ratio{device="vdb"}"#.into(), value: 1.0, limit: None, expected: None };
    let mut learned = finding(FindingKind::MetricAnomalous, Subject::Host, 1);
    learned.evidence = vec![Evidence { text: String::new(), measure: Some(measure) }];
    order(
        &learned,
        &[
            r#"node_disk_io_time_seconds_total{device="vdb"}"#,
            "node_load1",
            r#"node_disk_io_time_seconds_total{device="vda"}"#,
        ],
    );
}

#[test]
fn a_chunk_can_be_made_smaller_from_its_end() {
    let mut recorder = Recorder::new(BOOT);
    let chunk = chunks(&mut recorder, 0..30).remove(0);
    let whole = Recording::decode(&chunk).unwrap();
    let short = Recording::decode(&shortened(&chunk, 5).unwrap()).unwrap();
    assert_eq!(short.series[..], whole.series[..5]);
    assert_eq!(usize::try_from(short.left_out).unwrap(), whole.series.len() - 5);
    assert_eq!(short.at, whole.at);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        (0i64..1_000_000_000).prop_map(|n| n as f64),
        (0i64..1_000_000_000).prop_map(|n| n as f64 / 1e6),
        any::<f64>().prop_filter("a reading is finite", |value| value.is_finite()),
    ]
}

fn recordings() -> impl Strategy<Value = Recording> {
    (0usize..70).prop_flat_map(|rows| {
        let times = prop::collection::vec((0u64..1 << 50, any::<i64>()), rows);
        let one = (any::<bool>(), "[a-z_]{1,12}", "[ -~]{0,9}", prop::collection::vec(value(), rows));
        (times, prop::collection::vec(one, 0..12), any::<u32>()).prop_map(|(times, series, left_out)| {
            let moment = |(boot_ms, wall_ms)| Now { boot_ns: boot_ms * 1_000, wall_ms };
            let recorded = |(is_gauge, name, label, values): (bool, String, String, Vec<f64>)| Recorded {
                key: SeriesKey::new(&name, &[("unit", &label)]),
                kind: if is_gauge { SeriesKind::Gauge } else { SeriesKind::Counter },
                values,
            };
            Recording {
                boot: BOOT,
                at: times.into_iter().map(moment).collect(),
                series: series.into_iter().map(recorded).collect(),
                left_out,
            }
        })
    })
}

proptest! {
    #[test]
    fn every_bit_comes_back(recording in recordings()) {
        let back = Recording::decode(&recording.encode()).unwrap();
        let ms = |at: &[Now]| at.iter().map(|at| (at.boot_ns / 1_000_000, at.wall_ms)).collect::<Vec<_>>();
        prop_assert_eq!(ms(&back.at), ms(&recording.at));
        prop_assert_eq!((back.left_out, back.boot), (recording.left_out, recording.boot));
        prop_assert_eq!(back.series.len(), recording.series.len());
        for (back, one) in back.series.iter().zip(&recording.series) {
            let bits = |values: &[f64]| values.iter().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect::<Vec<_>>();
            prop_assert_eq!((&back.key, back.kind), (&one.key, one.kind));
            prop_assert_eq!(bits(&back.values), bits(&one.values));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, place in 0usize..2_000, flip: u8) {
        let _ = Recording::decode(&bytes);
        let mut recorder = Recorder::new(BOOT);
        let mut chunk = chunks(&mut recorder, 0..20).remove(0);
        let place = place % chunk.len();
        chunk[place] ^= flip;
        let _ = Recording::decode(&chunk);
        let _ = shortened(&chunk, 3);
        let recording = cut(&[chunk, bytes], Span { boot: BOOT, from: at(0), to: at(20) }, &|_| Some(0), 100);
        prop_assert!(recording.at.len() <= JOINED_ROWS_MAX);
    }
}

#[test]
fn an_hour_of_seconds_is_held_against_its_bound() {
    let mut recorder = Recorder::new(BOOT);
    let chunks = chunks(&mut recorder, 0..5_000);
    let span = Span { boot: BOOT, from: at(0), to: at(5_000) };
    let recording = cut(&chunks, span, &|key| (key.to_string() == MEMORY).then_some(0), usize::MAX);
    assert_eq!(recording.at.len(), JOINED_ROWS_MAX);
    assert_eq!(recording.at.last(), Some(&at(4_999)));
    assert_eq!(recording.series[0].values.last(), Some(&(4_999.0 * f64::from(1 << 20))));
    let passed = recording.at[JOINED_ROWS_MAX - 1].since(recording.at[0]);
    assert_eq!(passed, Duration::from_secs(JOINED_ROWS_MAX as u64 - 1));
}
