use mainstay_core::id::{BootId, DecisionId};
use mainstay_core::record::{Body, Record, Verification};
use mainstay_core::time::Now;
use mainstay_proto::convert::encode_record;

use super::*;

const HOST: HostId = HostId([7; 16]);

fn settings(root: &Path) -> LedgerSettings {
    LedgerSettings { root: root.to_owned(), host: HOST, bytes_max: 0 }
}

fn record(n: u64) -> Record {
    let verification = Verification { recovered: true, text: "recovered".to_owned(), down_ms: Some(n) };
    Record { at: Now::default(), body: Body::Verified { decision: DecisionId(n), verification } }
}

fn encoded(n: u64) -> Vec<u8> {
    encode_record(&record(n))
}

/// Appends records `from..=to`, one sync each.
fn append(ledger: &mut Ledger, from: u64, to: u64) {
    for n in from..=to {
        assert_eq!(ledger.append(&[encoded(n)]).unwrap().index, n);
    }
}

fn replayed(ledger: &Ledger) -> Vec<u64> {
    ledger.replay().unwrap().into_iter().map(|(index, _)| index).collect()
}

/// The only shard, and where its last frame begins.
fn shard_and_last_frame(dir: &Path) -> (PathBuf, usize, usize) {
    let path = dir.join(HOST.to_string()).join(shard_name(1));
    let frame = shard::entry_bytes(&encoded(1));
    let bytes = fs::read(&path).unwrap();
    let end = frame::last_written(&bytes);
    (path, end - frame, end)
}

#[test]
fn records_are_there_after_a_restart_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    append(&mut ledger, 1, 3);
    let head = ledger.append(&[encoded(4), encoded(5)]).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    assert_eq!((ledger.head(), ledger.notes()), (head, &[][..]));
    append(&mut ledger, 6, 6);
    let records = ledger.replay().unwrap();
    assert_eq!(records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(records[3].1, record(4));
    let report = ledger.reader().verify(HOST).unwrap();
    assert!(report.is_intact());
    assert_eq!(report.head, ledger.head());
}

#[test]
fn a_tail_cut_at_any_byte_costs_only_the_last_record() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut Ledger::open(&settings(dir.path())).unwrap(), 1, 3);
    let (path, start, end) = shard_and_last_frame(dir.path());
    let whole = fs::read(&path).unwrap();
    for cut in start..end {
        for zeros in [false, true] {
            let mut bytes = whole[..cut].to_vec();
            if zeros {
                bytes.resize(SHARD_BYTES, 0);
            }
            fs::write(&path, &bytes).unwrap();
            let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
            assert_eq!(ledger.head().index, 2, "cut at {cut}");
            append(&mut ledger, 3, 3);
            assert!(ledger.reader().verify(HOST).unwrap().is_intact(), "cut at {cut}");
            assert_eq!(fs::read(&path).unwrap(), whole, "the same record stands in the same place");
        }
    }
}

#[test]
fn a_flipped_byte_in_the_tail_never_keeps_it_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut Ledger::open(&settings(dir.path())).unwrap(), 1, 3);
    let (path, start, end) = shard_and_last_frame(dir.path());
    let whole = fs::read(&path).unwrap();
    for at in start..end + 16 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
        assert_eq!(ledger.head().index, if at < end { 2 } else { 3 }, "byte {at}");
        assert_eq!(ledger.notes().len(), 1, "byte {at}: {:?}", ledger.notes());
        let next = ledger.head().index + 1;
        append(&mut ledger, next, 4);
        assert!(ledger.reader().verify(HOST).unwrap().is_intact(), "byte {at}");
    }
    let evidence = fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    let evidence = evidence.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "evidence"));
    assert_eq!(evidence.count(), 2, "one a record behind which there was something");
}

#[test]
fn a_record_gone_bad_in_the_middle_is_named_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut Ledger::open(&settings(dir.path())).unwrap(), 1, 5);
    let (path, start, _) = shard_and_last_frame(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let third = start - 2 * shard::entry_bytes(&encoded(1));
    bytes[third + 50] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    assert_eq!((ledger.head().index, ledger.notes().len()), (5, 1));
    append(&mut ledger, 6, 6);
    assert_eq!(replayed(&ledger), [1, 2, 4, 5, 6]);
    let bad = ledger.reader().verify(HOST).unwrap().bad.unwrap();
    assert_eq!((bad.index, bad.place.offset), (3, third));
}

#[test]
fn a_damaged_header_costs_no_record() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut Ledger::open(&settings(dir.path())).unwrap(), 1, 3);
    let (path, ..) = shard_and_last_frame(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let ledger = Ledger::open(&settings(dir.path())).unwrap();
    assert_eq!((ledger.head().index, ledger.notes().len()), (3, 1));
    assert_eq!(ledger.reader().verify(HOST).unwrap().bad.unwrap().fault, shard::Fault::Header);
}

/// Fills a few shards with records of a hundred thousand bytes.
fn fill(ledger: &mut Ledger, shards: usize) -> u64 {
    let large =
        Record { at: Now::default(), body: Body::Started { boot: BootId::default(), version: "v".repeat(100_000) } };
    let large = encode_record(&large);
    while ledger.shards.len() < shards {
        ledger.append(&[&large]).unwrap();
    }
    ledger.head().index
}

#[test]
fn a_group_of_records_may_span_shards() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    let large = vec![vec![1; 200_000]; 12];
    let head = ledger.append(&large).unwrap();
    assert_eq!((head.index, ledger.shards.len()), (12, 3));
    assert!(ledger.reader().verify(HOST).unwrap().is_intact());
    let found = ledger.reader().records(4, 7, usize::MAX).unwrap();
    assert_eq!(found.iter().map(|entry| entry.index).collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert_eq!(ledger.reader().records(4, 12, 300_000).unwrap().len(), 2, "bounded by bytes");
    assert_eq!(Ledger::open(&settings(dir.path())).unwrap().head(), head);
}

#[test]
fn shards_are_dropped_only_when_the_collector_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    let last = fill(&mut ledger, SHARDS_MIN + 3);
    assert_eq!(ledger.shards.len(), SHARDS_MIN + 3, "nobody has them");
    let third = ledger.shards[2];
    let at = |index| {
        let entry = ledger.reader().records(index, index, 1).unwrap().remove(0);
        Head { index: entry.index, hash: entry.hash }
    };
    let (early, late) = (at(third), at(last));
    ledger.countersign(early);
    assert_eq!(ledger.shards.len(), SHARDS_MIN + 1, "two were whole before it");
    ledger.countersign(late);
    assert_eq!(ledger.shards.len(), SHARDS_MIN);
    let report = ledger.reader().verify(HOST).unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.begins_after.index + 1, ledger.shards[0]);
    drop(ledger);
    let ledger = Ledger::open(&settings(dir.path())).unwrap();
    assert_eq!((ledger.countersigned(), ledger.head().index), (Some(late), last));
}

#[test]
fn a_cut_tail_is_found_against_the_countersigned_head() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    append(&mut ledger, 1, 3);
    let head = ledger.head();
    ledger.countersign(head);
    let (path, start, _) = shard_and_last_frame(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[start..].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert!(!ledger.reader().verify(HOST).unwrap().is_intact());
}

#[test]
fn a_new_enrolment_begins_a_new_chain_and_forgets_no_cooldown() {
    let dir = tempfile::tempdir().unwrap();
    let before = LedgerSettings { host: HostId::default(), ..settings(dir.path()) };
    append(&mut Ledger::open(&before).unwrap(), 1, 2);
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    assert_eq!(ledger.head(), Head::genesis(HOST));
    append(&mut ledger, 1, 1);
    assert_eq!(replayed(&ledger), [1, 2, 1]);
    let chains = reader::chains(dir.path()).unwrap();
    assert_eq!(chains.iter().map(|(host, _)| *host).collect::<Vec<_>>(), [HostId::default(), HOST]);
    for (host, reader) in chains {
        assert!(reader.verify(host).unwrap().is_intact());
    }
}

#[test]
fn a_crash_between_making_and_naming_a_shard_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    append(&mut ledger, 1, 2);
    let spare = dir.path().join(HOST.to_string()).join(SPARE);
    let header = Header { host: HOST, after: ledger.head() }.encode();
    OpenOptions::new().write(true).open(&spare).unwrap().write_all_at(&header, 0).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    let last = fill(&mut ledger, 2);
    assert!(ledger.reader().verify(HOST).unwrap().is_intact());
    assert_eq!(Ledger::open(&settings(dir.path())).unwrap().head().index, last);
}

#[test]
fn a_record_that_is_too_long_is_refused_and_the_next_goes_through() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    let error = ledger.append(&[vec![0; RECORD_BYTES_MAX + 1]]).unwrap_err();
    assert_eq!(error.to_string(), "a record of 262145 bytes is too long (at most 262144)");
    append(&mut ledger, 1, 1);
}

#[test]
fn what_a_failed_write_left_is_never_read_as_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&settings(dir.path())).unwrap();
    append(&mut ledger, 1, 1);
    // As if the write had gone through and the sync had failed: the caller was told that it is not there.
    let (long, short) = (vec![5; 500], vec![6; 10]);
    let head = ledger.head();
    ledger.append(&[long]).unwrap();
    ledger.dirty_to = ledger.at;
    ledger.at -= shard::entry_bytes(&[5; 500]);
    ledger.head = head;
    ledger.append(&[short]).unwrap();
    assert_eq!(Ledger::open(&settings(dir.path())).unwrap().head(), ledger.head());
    assert_eq!((ledger.head().index, ledger.reader().verify(HOST).unwrap().records), (2, 2));
}
