//! What is learned survives an upgrade: a snapshot as the version before wrote it is gone on from
//! without relearning, and a part of an unknown version is learned anew, alone, and said.
//!
//! The recorded snapshot was made by `examples/learned_snapshot.rs` as it stood in version 0.1.0,
//! before the state said since when a metric is learned. It is never made anew.

mod host;

use host::{DAY, Host, LEARNED_DAYS, at};
use mainstay_core::detect::{Change, Detectors, FindingEvent, Settings};
use mainstay_core::finding::FindingKind;

/// Three days of [`Host`], as version 0.1.0 kept them.
const V0_1_0: &[u8] = include_bytes!("../fixtures/learned-v0.1.0.bin");

/// Tag of the section of `metric.anomalous`.
const METRIC_ANOMALOUS: u8 = 7;

const LEARNED: u64 = LEARNED_DAYS * DAY;

/// Shows a quiet quarter of an hour, then a runaway process until half an hour has passed.
fn disturbed(detectors: &mut Detectors, from: u64) -> Vec<(u64, FindingEvent)> {
    let mut host = Host::default();
    let mut said =
        host.show(detectors, from..from + 1_800, |second, busy| if second < from + 900 { busy } else { 0.98 });
    said.retain(|(_, event)| event.finding.kind == FindingKind::MetricAnomalous && event.change == Change::Opened);
    said
}

fn opened(said: &[(u64, FindingEvent)]) -> Vec<u64> {
    said.iter().map(|(second, _)| *second).collect()
}

#[test]
fn a_snapshot_of_the_version_before_is_gone_on_from_without_relearning() {
    let mut upgraded = Detectors::restore(V0_1_0, Settings::default(), 2, at(LEARNED)).unwrap();
    assert_eq!(upgraded.relearning(), Vec::<String>::new());
    assert_eq!(upgraded.learning(), None, "nothing is learned anew");

    let learned = upgraded.learned();
    let models: Vec<_> = learned.models.iter().map(|m| (m.name.as_str(), m.subjects, m.learning)).collect();
    assert!(models.contains(&("disk.filling", 1, None)), "{models:?}");
    assert!(models.contains(&("memory.leak", 1, None)), "{models:?}");
    let busy = learned.subjects.iter().find(|subject| subject.name == "cpu_busy_ratio").unwrap();
    assert_eq!((busy.learning, busy.since_ms), (None, None), "that version did not say since when");
    assert!((0.25..0.45).contains(&busy.expected.unwrap()), "{busy:?}");

    let said = disturbed(&mut upgraded, LEARNED);
    assert_eq!(said.len(), 1, "{said:?}");
    let (second, event) = &said[0];
    assert!((900..1_080).contains(&(second - LEARNED)), "{second}");
    let blamed = |name: &str| event.finding.evidence.iter().any(|evidence| evidence.text.starts_with(name));
    assert!(blamed("cpu_busy_ratio is ") && blamed("disk_busy_ratio"), "{:?}", event.finding.evidence);

    // What this version learns by itself of the same three days says the same at the same second.
    let mut own = Detectors::new(Settings::default(), 1);
    Host::default().show(&mut own, 0..LEARNED, |_, busy| busy);
    let mut own = Detectors::restore(&own.snapshot(), Settings::default(), 2, at(LEARNED)).unwrap();
    assert_eq!(opened(&disturbed(&mut own, LEARNED)), opened(&said));
}

#[test]
fn what_was_taken_over_is_written_in_the_new_version_and_read_again() {
    let upgraded = Detectors::restore(V0_1_0, Settings::default(), 2, at(LEARNED)).unwrap();
    let again = Detectors::restore(&upgraded.snapshot(), Settings::default(), 2, at(LEARNED)).unwrap();
    assert_eq!(again.relearning(), Vec::<String>::new());
    let subjects = |detectors: &Detectors| detectors.learned().subjects;
    assert_eq!(subjects(&again), subjects(&upgraded));
}

/// The snapshot with one section said to be of a version that nobody knows.
fn from_the_future(tag: u8) -> Vec<u8> {
    let mut bytes = V0_1_0.to_vec();
    let header = 10;
    let mut place = header;
    while bytes[place] != tag {
        let length: [u8; 4] = bytes[place + 2..place + 6].try_into().unwrap();
        place += 6 + usize::try_from(u32::from_le_bytes(length)).unwrap();
    }
    bytes[place + 1] = 99;
    let checksum = crc32c::crc32c(&bytes[header..]);
    bytes[6..header].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_part_of_an_unknown_version_is_learned_anew_alone_and_said() {
    let bytes = from_the_future(METRIC_ANOMALOUS);
    let detectors = Detectors::restore(&bytes, Settings::default(), 2, at(LEARNED)).unwrap();
    assert_eq!(detectors.relearning(), ["metric.anomalous"]);
    assert!(detectors.learning().is_some());
    let models = detectors.learned().models;
    let followed = |name: &str| models.iter().find(|model| model.name == name).unwrap().subjects;
    assert_eq!(["disk.filling", "memory.leak", "metric.anomalous"].map(followed), [1, 1, 0], "the rest is kept");
}

#[test]
fn a_damaged_snapshot_is_refused_as_a_whole() {
    for at_byte in (0..V0_1_0.len()).step_by(997) {
        let mut bytes = V0_1_0.to_vec();
        bytes[at_byte] ^= 0x10;
        assert!(Detectors::check(&bytes).is_err(), "byte {at_byte}");
    }
    assert_eq!(Detectors::check(V0_1_0), Ok(()));
}
