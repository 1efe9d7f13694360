use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mainstay_core::change::{Change, ChangeKind};
use mainstay_core::finding::{Evidence, FindingKind, FindingState, Severity};
use mainstay_core::id::{ActionId, DecisionId, FindingId};
use mainstay_core::scene::UnitScene;
use mainstay_core::series::{Point, SeriesKey};
use mainstay_core::subject::Subject;
use proptest::prelude::*;

use super::*;

const HOST: HostId = HostId([7; 16]);
const EPOCH: Epoch = Epoch(0xe);

fn at(second: u64) -> Now {
    let ms = i64::try_from(second * 1000).unwrap();
    Now { boot_ns: second * 1_000_000_000, wall_ms: ms }
}

fn settings(root: &Path, bytes_max: u64) -> SpoolSettings {
    SpoolSettings { root: root.to_owned(), host: HOST, bytes_max, new_epoch: EPOCH, countersigned: 0 }
}

fn open(root: &Path) -> Spool {
    Spool::open(settings(root, 64 << 20), at(0)).unwrap()
}

fn finding(n: u64) -> Finding {
    Finding {
        id: FindingId(n),
        kind: FindingKind::ServiceFailed,
        subject: Subject::Host,
        severity: Severity::Critical,
        confidence: 1.0,
        state: FindingState::Open,
        opened: at(n),
        changed: at(n),
        evidence: Vec::new(),
        effect_of: None,
    }
}

fn summary(n: u64) -> Summary {
    let key = |name: &str| Arc::new(SeriesKey::new(name, &[("unit", "nginx.service")]));
    #[allow(clippy::cast_precision_loss)]
    let value = n as f64;
    let points = vec![
        (key("a_total"), Point::Counter(value)),
        (key("b"), Point::Gauge { last: value, min: 0.0, max: value, mean: 0.5 }),
    ];
    Summary { at: at(n), window_ms: 10_000, samples: 10, points }
}

/// A summary that does not compress: noise in its labels.
fn large_summary(n: u64) -> Summary {
    let mut ids = mainstay_core::id::IdSource::new(n);
    let noise: String = (0..2000).map(|_| format!("{:016x}", ids.next_u64())).collect();
    let key = SeriesKey::new("noise", &[("label", &noise)]);
    Summary { points: vec![(Arc::new(key), Point::Counter(1.0))], ..summary(n) }
}

/// What of an item a test looks at.
fn shown(item: &Stored) -> String {
    match &item.body {
        Body::Summary(bytes) => {
            let summary = item::read_summary(item.seq, bytes).unwrap();
            format!("{} summary {}", item.seq.0, summary.at.wall_ms / 1000)
        }
        Body::Finding(bytes) => format!("{} finding {}", item.seq.0, v1::Finding::decode(&**bytes).unwrap().id),
        Body::Change(bytes) => format!("{} change {}", item.seq.0, v1::Change::decode(&**bytes).unwrap().subject),
        Body::Record(index) => format!("{} record {index}", item.seq.0),
        Body::Gap(bytes) => {
            let gap = v1::Gap::decode(&**bytes).unwrap();
            format!("{} gap {}-{} {}", item.seq.0, gap.seq_from, gap.seq_to, gap.reason)
        }
        Body::Recording(bytes) => {
            let kept: v1::FindingRecording = item::read_packed(item.seq, bytes).unwrap();
            format!("{} seconds of {}", item.seq.0, kept.finding)
        }
        Body::Scene(bytes) => {
            let scene: v1::Scene = item::read_packed(item.seq, bytes).unwrap();
            format!("{} scene of {}", item.seq.0, scene.unit)
        }
    }
}

fn all(spool: &mut Spool) -> Vec<String> {
    spool.next_items(usize::MAX).unwrap().iter().map(shown).collect()
}

#[test]
fn the_seconds_around_findings_and_scenes_lie_among_the_samples_and_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    let kept = FindingRecording { finding: FindingId(7), ..FindingRecording::default() };
    let scene = Scene {
        action: ActionId(1),
        decision: DecisionId(2),
        unit: "app.service".parse().unwrap(),
        at: at(2),
        elapsed_ms: 80,
        lines: Vec::new(),
        processes: UnitScene::default(),
        notes: Vec::new(),
    };
    spool.push_summary(&summary(1), at(1)).unwrap();
    spool.push_recording(&kept, at(2)).unwrap();
    spool.push_finding(&finding(3), at(3)).unwrap();
    spool.push_scene(&scene, at(4)).unwrap();
    drop(spool);
    let order = ["1 summary 1", "2 seconds of 7", "3 finding 3", "4 scene of app.service"];
    assert_eq!(all(&mut open(dir.path())), order);
}

#[test]
fn items_come_out_in_the_order_in_which_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push_summary(&summary(1), at(1)).unwrap();
    spool.push_finding(&finding(2), at(2)).unwrap();
    spool.refer(2, at(3)).unwrap();
    spool.push_summary(&summary(4), at(4)).unwrap();
    let expected = ["1 summary 1", "2 finding 2", "3 record 1", "4 record 2", "5 summary 4"];
    assert_eq!(all(&mut spool), expected);
    assert_eq!(all(&mut spool), [""; 0], "each once");
    spool.push_finding(&finding(5), at(5)).unwrap();
    let change = Change::new(ChangeKind::FileChanged, "/etc/a", 6_000, 6_000);
    spool.push_change(&change, at(6)).unwrap();
    assert_eq!(all(&mut spool), ["6 finding 5", "7 change /etc/a"], "what comes later comes out without a new session");
    drop(spool);
    let mut spool = open(dir.path());
    assert_eq!(all(&mut spool).len(), 7, "nothing was acknowledged");
}

#[test]
fn what_is_put_in_once_all_was_read_is_at_hand_and_lies_on_the_disk_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push_summary(&summary(1), at(1)).unwrap();
    spool.push_summary(&summary(2), at(2)).unwrap();
    assert!(spool.items_at_hand(usize::MAX).is_none(), "the second is to be read from the disk");
    assert_eq!(all(&mut spool), ["1 summary 1", "2 summary 2"]);
    assert!(spool.items_at_hand(usize::MAX).is_none(), "there is nothing more");
    let at_hand = |spool: &mut Spool| {
        let items = spool.items_at_hand(usize::MAX);
        items.map(|items| items.iter().map(shown).collect::<Vec<_>>()).unwrap_or_default()
    };
    spool.push_summary(&summary(3), at(3)).unwrap();
    assert_eq!(at_hand(&mut spool), ["3 summary 3"]);
    spool.push_summary(&large_summary(4), at(4)).unwrap();
    assert_eq!(at_hand(&mut spool), ["4 summary 4"]);
    // A finding before it is to be read first.
    spool.push_finding(&finding(5), at(5)).unwrap();
    spool.push_summary(&summary(6), at(6)).unwrap();
    assert!(spool.items_at_hand(usize::MAX).is_none());
    assert_eq!(all(&mut spool), ["5 finding 5", "6 summary 6"]);
    spool.push_summary(&summary(7), at(7)).unwrap();
    spool.rewind();
    assert!(spool.items_at_hand(usize::MAX).is_none());
    assert_eq!(all(&mut spool).len(), 7);
    drop(spool);
    assert_eq!(all(&mut open(dir.path())).len(), 7, "nothing was acknowledged");
}

#[test]
fn what_is_acknowledged_is_known_at_once_and_written_down_with_what_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolHandle::open(settings(dir.path(), 64 << 20), at(0)).unwrap();
    for n in 1..=3 {
        spool.push_summary(summary(n), at(n)).unwrap();
    }
    spool.acknowledge(Seq(2));
    spool.acknowledge(Seq(1));
    assert_eq!(spool.status().acked, Seq(2));
    let written = || Spool::open(settings(dir.path(), 64 << 20), at(9)).unwrap().status().acked;
    assert_eq!(written(), Seq(0));
    spool.push_summary(summary(4), at(4)).unwrap();
    assert_eq!((spool.status().acked, written()), (Seq(2), Seq(2)));
    spool.acknowledge(Seq(3));
    spool.rewind(at(5));
    let items = spool.next_items(usize::MAX).unwrap();
    assert_eq!(items.iter().map(shown).collect::<Vec<_>>(), ["4 summary 4"], "sending goes on behind it");
}

#[test]
fn what_is_acknowledged_is_not_sent_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    for n in 1..=5 {
        spool.push_summary(&summary(n), at(n)).unwrap();
    }
    spool.acknowledge(Seq(3), at(6));
    drop(spool);
    let mut spool = open(dir.path());
    let status = spool.status();
    assert_eq!((status.epoch, status.first, status.next, status.acked), (EPOCH, Seq(1), Seq(6), Seq(3)));
    assert_eq!(all(&mut spool), ["4 summary 4", "5 summary 5"]);
}

#[test]
fn a_number_is_never_given_twice_when_all_was_acknowledged_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    for n in 1..=200 {
        spool.push_summary(&large_summary(n), at(n)).unwrap();
    }
    let segments = spool.samples.segments.len();
    assert!(segments > 2);
    spool.acknowledge(Seq(200), at(201));
    assert_eq!(spool.samples.segments.len(), segments, "a restored collector may ask for it");
    spool.push_finding(&finding(201), at(2000)).unwrap();
    spool.acknowledge(Seq(201), at(2001));
    assert_eq!(spool.samples.segments.len(), 1, "after a quarter of an hour it is gone");
    drop(spool);
    assert_eq!(open(dir.path()).status().next, Seq(202));
}

#[test]
fn records_are_referred_to_once_whatever_crash_comes_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.refer(2, at(1)).unwrap();
    spool.refer(2, at(1)).unwrap();
    drop(spool);
    // The ledger has a third one, which the spool did not come to know of.
    let mut spool = open(dir.path());
    spool.refer(3, at(2)).unwrap();
    assert_eq!(all(&mut spool), ["1 record 1", "2 record 2", "3 record 3"]);
    spool.acknowledge(Seq(3), at(3));
    drop(spool);
    let mut spool = open(dir.path());
    spool.refer(4, at(4)).unwrap();
    assert_eq!(all(&mut spool), ["4 record 4"]);
}

#[test]
fn a_new_spool_does_not_refer_to_what_the_collector_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(SpoolSettings { countersigned: 40, ..settings(dir.path(), 64 << 20) }, at(0)).unwrap();
    spool.refer(42, at(1)).unwrap();
    assert_eq!(all(&mut spool), ["1 record 41", "2 record 42"]);
}

#[test]
fn when_full_the_oldest_samples_go_and_are_a_gap_and_records_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(settings(dir.path(), 3 << 20), at(0)).unwrap();
    spool.refer(1, at(0)).unwrap();
    spool.push_finding(&finding(1), at(0)).unwrap();
    for n in 1..=600 {
        spool.push_summary(&large_summary(n), at(n)).unwrap();
        if n == 5 {
            spool.refer(2, at(n)).unwrap();
        }
    }
    let status = spool.status();
    assert!(status.bytes <= 3 << 20 && status.dropped > 0, "{status:?}");
    let items = spool.next_items(usize::MAX).unwrap();
    let text: Vec<_> = items.iter().map(shown).collect();
    assert_eq!(text[..2], ["1 record 1", "2 finding 1"]);
    assert!(text[2].ends_with(" gap 3-7 spool full, oldest samples dropped"), "{}", text[2]);
    assert_eq!(text[3], "8 record 2", "it lies between two parts of the gap");
    assert!(text[4].contains(" gap 9-"), "{}", text[4]);
    let accounted = accounted(&items);
    assert!((1..status.next.0).all(|seq| accounted.contains(&seq)), "no number is unaccounted for");
    drop(spool);
    let again = Spool::open(settings(dir.path(), 3 << 20), at(700)).unwrap().next_items(usize::MAX).unwrap();
    assert_eq!(again, items, "a restart changes nothing of it");
}

/// The numbers that are there or covered by a gap.
fn accounted(items: &[Stored]) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    for item in items {
        numbers.insert(item.seq.0);
        if let Body::Gap(bytes) = &item.body {
            let gap = v1::Gap::decode(&**bytes).unwrap();
            numbers.extend(gap.seq_from..=gap.seq_to);
        }
    }
    numbers
}

#[test]
fn when_full_of_findings_the_oldest_go_and_records_get_new_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(settings(dir.path(), 1 << 20), at(0)).unwrap();
    spool.refer(3, at(0)).unwrap();
    let mut n = 0;
    while spool.status().dropped == 0 {
        n += 1;
        let evidence = vec![Evidence { text: "x".repeat(5000), measure: None }];
        spool.push_finding(&Finding { evidence, ..finding(n) }, at(n)).unwrap();
    }
    let items = spool.next_items(usize::MAX).unwrap();
    let records: Vec<_> = items.iter().filter(|item| matches!(item.body, Body::Record(_))).map(shown).collect();
    assert_eq!(records.len(), 3);
    assert!(records[0].ends_with(" record 1") && !records[0].starts_with("1 "), "{records:?}");
    let accounted = accounted(&items);
    assert!((1..spool.status().next.0).all(|seq| accounted.contains(&seq)));
    assert!(spool.status().bytes <= 1 << 20);
}

#[test]
fn a_lost_acknowledgement_moves_on_and_a_restored_collector_gets_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    for n in 1..=5 {
        spool.push_summary(&summary(n), at(n)).unwrap();
    }
    assert_eq!(all(&mut spool).len(), 5);
    spool.resume(Seq(3), 0, at(6)).unwrap();
    assert_eq!(all(&mut spool), ["4 summary 4", "5 summary 5"], "it had more than we knew");
    spool.acknowledge(Seq(5), at(7));
    spool.resume(Seq(1), 0, at(8)).unwrap();
    let again = ["2 summary 2", "3 summary 3", "4 summary 4", "5 summary 5"];
    assert_eq!(all(&mut spool), again, "it was restored to an earlier state");
}

#[test]
fn what_a_restored_collector_lacks_and_is_gone_is_a_gap_and_its_records_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.refer(2, at(0)).unwrap();
    for n in 1..=200 {
        spool.push_summary(&large_summary(n), at(n)).unwrap();
    }
    spool.acknowledge(Seq(202), at(201));
    spool.acknowledge(Seq(202), at(700_000));
    // A new segment each, so that the old ones can go.
    spool.keep.rotate(203).unwrap();
    spool.push_finding(&finding(1), at(700_000)).unwrap();
    spool.acknowledge(Seq(203), at(700_001));
    assert_eq!((spool.keep.segments.len(), spool.samples.segments.len()), (1, 1));
    let kept = spool.samples.segments[0].first;
    spool.resume(Seq(0), 0, at(700_002)).unwrap();
    let text = all(&mut spool);
    assert!(
        text[0]
            .ends_with(&format!(" gap 1-{} acknowledged before the collector was restored, no longer kept", kept - 1))
    );
    assert!(text.iter().any(|item| item.ends_with(" record 1")) && text.iter().any(|item| item.ends_with(" record 2")));
}

#[test]
fn findings_that_were_acknowledged_days_ago_come_again_and_are_kept_within_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push_finding(&finding(1), at(0)).unwrap();
    spool.push_summary(&large_summary(2), at(0)).unwrap();
    spool.acknowledge(Seq(2), at(1));
    spool.keep.rotate(3).unwrap();
    spool.samples.rotate(3).unwrap();
    spool.push_finding(&finding(3), at(500_000)).unwrap();
    spool.acknowledge(Seq(3), at(500_001));
    spool.resume(Seq(0), 0, at(500_002)).unwrap();
    let again = all(&mut spool);
    assert!(again.iter().any(|item| item.starts_with("1 finding")), "{again:?}");
    assert!(again.iter().any(|item| item.contains("gap 2-2")), "the summary is gone: {again:?}");
    spool.acknowledge(Seq(4), at(500_003));
    let evidence = vec![Evidence { text: "x".repeat(8_000), measure: None }];
    for n in 5..605 {
        spool.push_finding(&Finding { evidence: evidence.clone(), ..finding(n) }, at(500_004)).unwrap();
        spool.acknowledge(Seq(n), at(500_004));
    }
    spool.push_finding(&finding(605), at(502_000)).unwrap();
    spool.acknowledge(Seq(605), at(502_000));
    let bytes = spool.keep.bytes();
    assert!((KEEP_ACKED_FINDINGS_BYTES_MAX / 2..=KEEP_ACKED_FINDINGS_BYTES_MAX).contains(&bytes), "{bytes} are kept");
}

#[test]
fn records_go_out_in_their_order_also_when_a_part_of_their_references_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.refer(3, at(0)).unwrap();
    spool.acknowledge(Seq(3), at(1));
    spool.keep.rotate(4).unwrap();
    spool.refer(5, at(700_000)).unwrap();
    spool.acknowledge(Seq(4), at(700_000));
    assert_eq!(spool.keep.segments.len(), 1, "the first three are gone");
    spool.resume(Seq(0), 1, at(700_001)).unwrap();
    spool.refer(6, at(700_002)).unwrap();
    let records = |spool: &mut Spool| -> Vec<String> {
        let items = spool.next_items(usize::MAX).unwrap();
        items.iter().filter(|item| matches!(item.body, Body::Record(_))).map(shown).collect()
    };
    spool.rewind();
    let sent = records(&mut spool);
    spool.rewind();
    assert_eq!(records(&mut spool), sent, "what was not taken goes out again as it did");
    let last: Vec<_> = sent.iter().map(|item| item.rsplit(' ').next().unwrap()).collect();
    assert_eq!(last, ["2", "3", "4", "5", "6"], "{sent:?}");
    // A spool that was begun since refers to what it needs to.
    let other = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(SpoolSettings { countersigned: 5, ..settings(other.path(), 64 << 20) }, at(0)).unwrap();
    spool.refer(6, at(1)).unwrap();
    spool.resume(Seq(0), 3, at(2)).unwrap();
    assert_eq!(records(&mut spool), ["1 record 4", "2 record 5", "3 record 6"]);
    spool.acknowledge(Seq(2), at(3));
    spool.resume(Seq(2), 5, at(4)).unwrap();
    assert_eq!(records(&mut spool), ["3 record 6"], "as before where nothing is lacking");
}

#[test]
fn a_machine_set_back_begins_a_new_numbering_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push_summary(&summary(1), at(1)).unwrap();
    spool.acknowledge(Seq(1), at(2));
    spool.push_summary(&summary(2), at(2)).unwrap();
    spool.refer(1, at(3)).unwrap();
    spool.resume(Seq(900), 0, at(4)).unwrap();
    let epoch = spool.status().epoch;
    assert_ne!(epoch, EPOCH);
    assert_eq!(all(&mut spool), ["1 summary 2", "2 record 1"]);
    spool.push_finding(&finding(5), at(5)).unwrap();
    spool.refer(2, at(5)).unwrap();
    drop(spool);
    let mut spool = open(dir.path());
    assert_eq!(spool.status().epoch, epoch);
    assert_eq!(all(&mut spool), ["1 summary 2", "2 record 1", "3 finding 5", "4 record 2"]);
}

/// Copies a spool, so that each change is made to the same state.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn folder(root: &Path) -> PathBuf {
    root.join(HOST.to_string()).join(format!("000001-{:016x}", EPOCH.0))
}

fn five_items(root: &Path) -> (PathBuf, PathBuf) {
    let mut spool = open(root);
    spool.push_finding(&finding(1), at(1)).unwrap();
    spool.push_summary(&summary(2), at(2)).unwrap();
    spool.refer(1, at(3)).unwrap();
    spool.push_summary(&summary(4), at(4)).unwrap();
    spool.push_finding(&finding(5), at(5)).unwrap();
    let name = |prefix: &str, first: u64| PathBuf::from(format!("{prefix}{first:020}.segment"));
    (name("keep-", 1), name("samples-", 2))
}

/// Opens a damaged copy; whatever is in it, no number is lost silently and it goes on.
fn survives(root: &Path, what: &str) -> Vec<String> {
    let mut spool = open(root);
    spool.refer(1, at(10)).unwrap();
    let items = spool.next_items(usize::MAX).unwrap();
    let accounted = accounted(&items);
    let next = spool.status().next.0;
    assert!((1..next).all(|seq| accounted.contains(&seq)), "{what}: {items:?}");
    let records = items.iter().filter(|item| item.body == Body::Record(1)).count();
    assert_eq!(records, 1, "{what}: the record has a number");
    let seq = spool.push_finding(&finding(9), at(11)).unwrap();
    assert!(seq.0 >= next, "{what}");
    items.iter().map(shown).collect()
}

#[test]
fn a_segment_cut_at_any_byte_of_its_tail_starts_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let (keep, samples) = five_items(&dir.path().join("whole"));
    for (name, from) in [(&keep, 16), (&samples, 16)] {
        let bytes = fs::read(folder(&dir.path().join("whole")).join(name)).unwrap();
        let end = mainstay_core::ledger::frame::last_written(&bytes);
        for cut in (from..end).step_by(3) {
            let root = dir.path().join("cut");
            copy(&dir.path().join("whole"), &root);
            fs::write(folder(&root).join(name), &bytes[..cut]).unwrap();
            survives(&root, &format!("{} cut to {cut}", name.display()));
            fs::remove_dir_all(&root).unwrap();
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_starts_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let (keep, samples) = five_items(&whole);
    for name in [keep, samples, PathBuf::from("cursor")] {
        let bytes = fs::read(folder(&whole).join(&name)).unwrap();
        let end = mainstay_core::ledger::frame::last_written(&bytes);
        for at in (0..end).step_by(3) {
            let root = dir.path().join("flipped");
            copy(&whole, &root);
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x21;
            fs::write(folder(&root).join(&name), &bytes).unwrap();
            survives(&root, &format!("byte {at} of {}", name.display()));
            fs::remove_dir_all(&root).unwrap();
        }
    }
}

#[test]
fn a_damaged_segment_is_set_aside_and_what_is_readable_of_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (keep, _) = five_items(dir.path());
    let path = folder(dir.path()).join(&keep);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1; // in the first finding
    fs::write(&path, &bytes).unwrap();
    let text = survives(dir.path(), "first finding");
    assert!(text[0].ends_with(" gap 1-1 not readable on the agent's disk"), "{text:?}");
    assert_eq!(text[1..], ["2 summary 2", "3 record 1", "4 summary 4", "5 finding 5"]);
    assert!(path.with_extension("damaged").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    /// Items, restarts, acknowledgements and reconnects in any order: what comes out next is always
    /// everything beyond the mark, in order and without a hole.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(steps in prop::collection::vec((0..6u8, 0..100u64), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        let (mut second, mut ledger, mut got) = (1, 0, BTreeSet::new());
        for (step, n) in steps {
            second += 1;
            match step {
                0 => drop(spool.push_summary(&summary(second), at(second)).unwrap()),
                1 => drop(spool.push_finding(&finding(second), at(second)).unwrap()),
                2 => {
                    ledger += n % 3;
                    spool.refer(ledger, at(second)).unwrap();
                }
                3 => {
                    drop(spool);
                    spool = open(dir.path());
                }
                4 => {
                    for item in spool.next_items(60).unwrap() {
                        got.insert(item.seq.0);
                    }
                    let contiguous = (1..).take_while(|seq| got.contains(seq)).count() as u64;
                    if n % 2 == 0 {
                        spool.acknowledge(Seq(contiguous), at(second));
                    }
                }
                _ => {
                    let contiguous = (1..).take_while(|seq| got.contains(seq)).count() as u64;
                    let restored = contiguous.saturating_sub(n % 3);
                    got.retain(|seq| *seq <= restored);
                    spool.resume(Seq(restored), 0, at(second)).unwrap();
                }
            }
        }
        let contiguous = (1..).take_while(|seq| got.contains(seq)).count() as u64;
        spool.resume(Seq(contiguous), 0, at(second)).unwrap();
        let rest: Vec<u64> = spool.next_items(usize::MAX).unwrap().iter().map(|item| item.seq.0).collect();
        prop_assert_eq!(rest, (contiguous + 1..spool.status().next.0).collect::<Vec<_>>());
    }
}
