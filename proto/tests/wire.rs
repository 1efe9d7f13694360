//! What version 1 of the wire said is still understood: its messages, as bytes, are kept beside this
//! test, and each must decode to what it meant. So a collector and an agent one version apart work,
//! and a ledger that was written once can be read for good.
//!
//! The files are never changed. A new message gets a file of its own: `UPDATE_EXPECT=1` writes those
//! that are missing. A field that is added later has its default in what these say.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mainstay_core::id::HostId;
use mainstay_core::ledger::Head;
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::time::Now;
use mainstay_proto::convert::{Form, SummaryReader, SummaryWriter, decode_record};
use mainstay_proto::v1::{self, agent_message, collector_message, item, record};
use prost::Message;

/// Holds the kept bytes of a message against what it meant.
fn kept<M: Message + Default + PartialEq + Debug>(name: &str, meaning: &M) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire/v1").join(name);
    if !path.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, meaning.encode_to_vec()).unwrap();
    }
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(M::decode(&*bytes).unwrap(), *meaning, "{name}");
    bytes
}

fn now() -> v1::Now {
    v1::Now { boot_ns: 12_345_678_901, wall_ms: 1_795_400_000_000 }
}

fn subject() -> v1::Subject {
    v1::Subject { of: Some(v1::subject::Of::Unit("nginx.service".to_owned())) }
}

fn evidence() -> v1::Evidence {
    let measure = v1::Measure { name: "n_restarts".to_owned(), value: 5.0, limit: Some(3.0), expected: None };
    v1::Evidence { text: "5 restarts in 60 s, limit 3".to_owned(), measure: Some(measure) }
}

fn finding() -> v1::Finding {
    v1::Finding {
        id: 0xf1,
        kind: "service.crash_loop".to_owned(),
        subject: Some(subject()),
        severity: "critical".to_owned(),
        confidence: 0.9,
        state: "open".to_owned(),
        opened: Some(now()),
        changed: Some(now()),
        evidence: vec![evidence()],
        effect_of: Some(0xa1),
    }
}

fn restart() -> v1::Step {
    let unit = v1::UnitStep { unit: "nginx.service".to_owned(), reset_failed: true };
    v1::Step { of: Some(v1::step::Of::UnitRestart(unit)) }
}

fn reclaim() -> v1::Step {
    let aged = v1::AgedFiles {
        name: "logs".to_owned(),
        under: b"/var/log/app".to_vec(),
        files: vec!["*.log.*".to_owned()],
        older_than_ms: 86_400_000,
    };
    let place = |of| v1::ReclaimPlace { of: Some(of) };
    let from = vec![place(v1::reclaim_place::Of::AptCache(true)), place(v1::reclaim_place::Of::Aged(aged))];
    let reclaim = v1::DiskReclaim { mount: b"/".to_vec(), from, until_used_ratio: 0.8, undo_for_ms: Some(3_600_000) };
    v1::Step { of: Some(v1::step::Of::DiskReclaim(reclaim)) }
}

fn policy() -> v1::PolicyRef {
    v1::PolicyRef { generation: 7, hash: vec![0xab; 32] }
}

fn decision(choice: v1::decision::Choice) -> v1::Decision {
    v1::Decision {
        id: 0xd1,
        at: Some(now()),
        finding: 0xf1,
        kind: "service.crash_loop".to_owned(),
        subject: Some(subject()),
        confidence: 0.9,
        evidence: vec![evidence()],
        rule: Some("web".to_owned()),
        policy: Some(policy()),
        mode: "auto".to_owned(),
        verdicts: vec![v1::Verdict { guard: "budget".to_owned(), pass: true, text: "1 of 3 per 1h".to_owned() }],
        choice: Some(choice),
        opened: Some(now()),
    }
}

fn plan() -> v1::Plan {
    let steps = [(0xa1, restart()), (0xa2, reclaim())];
    v1::Plan {
        steps: steps.into_iter().map(|(action, step)| v1::PlannedStep { action, step: Some(step) }).collect(),
        risk: "medium".to_owned(),
        stable_for_ms: 30_000,
        within_ms: 120_000,
        rung: 1,
    }
}

fn outcome() -> v1::Outcome {
    v1::Outcome { ended: "done".to_owned(), text: "job done".to_owned(), elapsed_ms: 180, freed_bytes: Some(4096) }
}

fn author() -> Option<v1::Author> {
    Some(v1::Author { name: "ann".to_owned(), reason: "maintenance".to_owned() })
}

/// One record of each kind, under the name of its file.
fn records() -> Vec<(&'static str, v1::Record)> {
    use record::Body;
    let held = v1::Hold { reason: "cooldown".to_owned(), would: Some(plan()) };
    let verification = v1::Verification { recovered: true, text: "active for 30 s".to_owned(), down_ms: Some(900) };
    let bodies = [
        ("record-started", Body::Started(record::Started { boot: vec![1; 16], version: "0.1.0".to_owned() })),
        ("record-acted", Body::Decided(decision(v1::decision::Choice::Act(plan())))),
        ("record-held", Body::Decided(decision(v1::decision::Choice::Hold(held)))),
        ("record-intent", Body::Intent(record::Intent { decision: 0xd1, action: 0xa1, step: Some(restart()) })),
        (
            "record-outcome",
            Body::Outcome(record::StepOutcome { decision: 0xd1, action: 0xa1, outcome: Some(outcome()) }),
        ),
        ("record-verified", Body::Verified(record::Verified { decision: 0xd1, verification: Some(verification) })),
        (
            "record-policy",
            Body::Policy(record::PolicyChange { policy: Some(policy()), refused: Some("line 3".to_owned()) }),
        ),
        (
            "record-answered",
            Body::Answered(record::Answered { decision: 0xd1, approved: true, by: author(), until_ms: 1 }),
        ),
        (
            "record-hold",
            Body::Hold(record::HoldChange {
                scope: "fleet".to_owned(),
                until_ms: Some(1_795_400_100_000),
                held: true,
                by: author(),
            }),
        ),
        ("record-undone", Body::Undone(record::Undone { action: 0xa2, outcome: Some(outcome()), by: author() })),
    ];
    bodies.into_iter().map(|(name, body)| (name, v1::Record { at: Some(now()), body: Some(body) })).collect()
}

/// Records that came later: they are no part of the chain below.
fn later_records() -> Vec<(&'static str, v1::Record)> {
    use record::Body;
    let author = || Some(v1::Author { name: "ana@ops".to_owned(), reason: "poisoned".to_owned() });
    let bodies = vec![
        (
            "record-learning-reset",
            Body::Learning(record::Learning {
                change: Some(record::learning::Change::Reset("unit_cpus*".to_owned())),
                order: vec![5; 32],
                not_after_ms: 1_795_400_100_000,
                by: author(),
            }),
        ),
        (
            "record-learning-rollback",
            Body::Learning(record::Learning {
                change: Some(record::learning::Change::RollbackToMs(1_795_400_000_000)),
                order: vec![6; 32],
                not_after_ms: 1_795_400_100_000,
                by: author(),
            }),
        ),
    ];
    bodies.into_iter().map(|(name, body)| (name, v1::Record { at: Some(now()), body: Some(body) })).collect()
}

#[test]
fn records_of_version_1_are_still_read() {
    for (name, record) in records().into_iter().chain(later_records()) {
        let bytes = kept(name, &record);
        let read = decode_record(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(v1::Record::from(&read), record, "{name}");
    }
}

/// Summaries as columns: what a version writes, every later one reads.
#[test]
fn the_kept_columns_are_the_summaries_that_they_were() {
    let key = |name: &str| Arc::new(SeriesKey::new(name, &[("device", "vda")]));
    let summary = |n: u32, load: f64| Summary {
        at: Now { boot_ns: u64::from(n) * 10_000_000_123, wall_ms: 1_795_400_000_000 + i64::from(n) * 10_001 },
        window_ms: 10_000 + n,
        samples: 10,
        points: vec![
            (key("bytes_total"), Point::Counter(f64::from(n * n) * 4_096.0)),
            (key("load"), Point::Gauge { last: load, min: load - 0.25, max: load + 0.5, mean: load + 0.1 }),
            (key("odd"), Point::Gauge { last: f64::from(n) / 3.0, min: -0.0, max: 1e300, mean: f64::MIN_POSITIVE }),
        ],
    };
    let summaries = [
        summary(1, 0.75),
        summary(2, 1.5),
        Summary { points: summary(3, 0.0).points[1..].to_vec(), ..summary(3, 0.0) },
    ];
    let (mut writer, mut define) = (SummaryWriter::new(Form::Columns), Vec::new());
    let of: Vec<_> = summaries.iter().map(|one| item::Of::Summary(writer.write(one, &mut define))).collect();
    let items = (1..).zip(of).map(|(seq, of)| v1::Item { seq, of: Some(of) }).collect();
    let push = v1::Push { epoch: 0xe, define, items, ..v1::Push::default() };
    kept("agent-push-columns", &push);
    let mut reader = SummaryReader::default();
    push.define.into_iter().for_each(|def| reader.definitions.define(def, Arc::new).unwrap());
    for (item, meant) in push.items.into_iter().zip(summaries) {
        let Some(item::Of::Summary(summary)) = item.of else { panic!("{item:?}") };
        assert_eq!(reader.read(summary).unwrap(), meant);
    }
}

#[test]
fn coded_summaries_are_read_as_they_were_written() {
    let key = |name: &str| Arc::new(SeriesKey::new(name, &[("device", "vda")]));
    let summary = |second: u32| {
        let whole = f64::from(second);
        let load = Point::Gauge { last: whole / 4.0, min: 0.25, max: whole, mean: (whole / 4.0 + 0.25 + whole) / 3.0 };
        Summary {
            at: Now {
                boot_ns: u64::from(second) * 1_000_000_007,
                wall_ms: 1_795_400_000_000 + i64::from(second) * 1_000,
            },
            window_ms: second * 1_000,
            samples: 3,
            points: vec![
                (key("node_disk_read_bytes_total"), Point::Counter(whole * whole * 4_096.0)),
                (key("node_disk_reads_completed_total"), Point::Counter(whole * whole)),
                (key("node_load1"), load),
                (key("node_ratio"), Point::Counter(1.0 / 3.0 / whole)),
            ],
        }
    };
    let summaries = [10, 20, 30, 40].map(summary);
    let (mut writer, mut reader) = (SummaryWriter::new(Form::Coded), SummaryReader::default());
    for (seq, meant) in (1..).zip(summaries) {
        let mut define = Vec::new();
        let of = Some(item::Of::Summary(writer.write(&meant, &mut define)));
        let push = v1::Push { define, items: vec![v1::Item { seq, of }], ..v1::Push::default() };
        // The first one names its series, so that it does not follow.
        let push = writer.brief(push, Some(seq - 1)).unwrap_or_else(|push| v1::Push { epoch: 0xe, ..push });
        assert_eq!(push.next.is_empty(), seq == 1);
        let push = v1::Push::decode(&*kept(&format!("agent-push-coded-{seq}"), &push)).unwrap();
        push.define.into_iter().for_each(|def| reader.definitions.define(def, Arc::new).unwrap());
        let summary = match push.items.into_iter().next() {
            None => v1::Summary { columns: push.next, ..v1::Summary::default() },
            Some(v1::Item { of: Some(item::Of::Summary(summary)), .. }) => summary,
            Some(other) => panic!("{other:?}"),
        };
        assert_eq!(reader.read(summary).unwrap(), meant);
    }
}

#[test]
fn the_chain_over_the_kept_records_has_the_hash_that_it_always_had() {
    let mut head = Head::genesis(HostId([7; 16]));
    for (name, record) in records() {
        head = head.after(&kept(name, &record));
    }
    let hex: String = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, CHAIN);
}

/// The end of a ledger of the host 0707… that holds the records above.
const CHAIN: &str = "e0c6ce8a53866e46d37d7feb63805c03c8755654dadd6a5f0abc7143c7310c50";

fn items() -> Vec<v1::Item> {
    let summary = v1::Summary {
        at: Some(now()),
        window_ms: 10_000,
        samples: 10,
        counter_ids: vec![1],
        counters: vec![1e6],
        gauge_ids: vec![2],
        gauges: vec![0.5, 0.1, 0.9, 0.4],
        columns: Vec::new(),
    };
    let entry = v1::LedgerEntry { index: 1, record: vec![1, 2, 3], hash: vec![9; 32] };
    let gap = v1::Gap { seq_from: 5, seq_to: 9, wall_from_ms: 1, wall_to_ms: 2, reason: "spool full".to_owned() };
    let of = [item::Of::Summary(summary), item::Of::Finding(finding()), item::Of::Ledger(entry), item::Of::Gap(gap)];
    (1..).zip(of).map(|(seq, of)| v1::Item { seq, of: Some(of) }).collect()
}

fn head() -> v1::LedgerHead {
    v1::LedgerHead { index: 41, hash: vec![9; 32], countersigned_ms: 1_795_400_000_000 }
}

fn hello() -> v1::Hello {
    let label = |name: &str, value: &str| v1::Label { name: name.to_owned(), value: value.to_owned() };
    v1::Hello {
        version_min: 1,
        version_max: 1,
        capabilities: vec!["zstd".to_owned()],
        facts: Some(v1::HostFacts {
            hostname: "web-1".to_owned(),
            boot: vec![1; 16],
            kernel: "6.1.0".to_owned(),
            os: "Debian GNU/Linux 12".to_owned(),
            agent_version: "0.1.0".to_owned(),
            labels: vec![label("role", "web"), label("zone", "a")],
        }),
        epoch: 0xe,
        seq_first: 1,
        seq_next: 43,
        ledger: Some(v1::LedgerHead { countersigned_ms: 0, ..head() }),
        policy: Some(v1::PolicyStatus {
            offered: Some(policy()),
            effective: Some(policy()),
            confirmed: true,
            refused: None,
        }),
        wall_ms: 1_795_400_000_000,
    }
}

fn change() -> v1::Item {
    let change = v1::Change {
        at_ms: 1_795_400_000_000,
        seen_ms: 1_795_400_007_000,
        kind: "package.upgraded".to_owned(),
        subject: "nginx".to_owned(),
        before: Some("1.22.1-9".to_owned()),
        after: Some("1.22.1-10".to_owned()),
        by: Some("jane".to_owned()),
        text: "apt-get upgrade".to_owned(),
    };
    v1::Item { seq: 47, of: Some(item::Of::Change(change)) }
}

fn push() -> v1::Push {
    let label = v1::Label { name: "cpu".to_owned(), value: "0".to_owned() };
    let key = v1::SeriesKey { name: "node_cpu_seconds_total".to_owned(), labels: vec![label] };
    v1::Push {
        epoch: 0xe,
        define: vec![v1::SeriesDef { id: 1, key: Some(key) }],
        items: items(),
        ..v1::Push::default()
    }
}

#[test]
fn what_agents_of_version_1_say_is_still_understood() {
    use agent_message::Of;
    let lease =
        v1::LeaseRequest { decision: 0xd1, kind: "service.failed".to_owned(), subject: Some(subject()), share: 0.1 };
    let result = v1::CommandResult { id: 5, done: true, text: "held".to_owned() };
    let said = [
        ("agent-hello", Of::Hello(hello())),
        ("agent-push", Of::Push(push())),
        (
            "agent-push-zstd",
            Of::Push(v1::Push { epoch: 0xe, zstd: vec![0x28, 0xb5, 0x2f, 0xfd], ..v1::Push::default() }),
        ),
        ("agent-push-change", Of::Push(v1::Push { epoch: 0xe, items: vec![change()], ..v1::Push::default() })),
        ("agent-lease", Of::Lease(lease)),
        ("agent-policy", Of::Policy(hello().policy.unwrap())),
        ("agent-result", Of::Result(result)),
        ("agent-ping", Of::Ping(v1::Ping { wall_ms: 1 })),
        (
            "agent-reply",
            Of::Reply(v1::HostReply {
                id: 6,
                what: Some(v1::host_reply::What::Models(v1::ModelsReply {
                    matching: 1,
                    next: Some(1),
                    ..v1::ModelsReply::default()
                })),
            }),
        ),
        ("agent-bye", Of::Bye(v1::Bye { reason: "upgrade".to_owned(), back_within_ms: 120_000 })),
    ];
    for (name, of) in said {
        kept(name, &v1::AgentMessage { of: Some(of) });
    }
    let csr = "-----BEGIN CERTIFICATE REQUEST-----".to_owned();
    let enrol =
        v1::EnrolRequest { secret: "s".to_owned(), csr: csr.clone(), facts: hello().facts, machine_id: vec![1] };
    kept("enrol-request", &enrol);
    kept("renew-request", &v1::RenewRequest { csr });
}

#[test]
fn what_collectors_of_version_1_say_is_still_understood() {
    use collector_message::Of;
    let welcome = v1::Welcome {
        version: 1,
        capabilities: vec!["zstd".to_owned()],
        durable_seq: 42,
        ledger: Some(head()),
        credit_bytes: 1 << 20,
        wall_ms: 1_795_400_000_000,
        ping_every_ms: 10_000,
    };
    let signed = v1::Signed { bytes: vec![1, 2], key_id: vec![3; 8], signature: vec![4; 64] };
    let reject = v1::Reject { reason: "rate_limited".to_owned(), text: "busy".to_owned(), retry_after_ms: 1500 };
    let lease = v1::LeaseReply { decision: 0xd1, granted: false, ttl_ms: 1, text: "3 of 3".to_owned() };
    let order = v1::OperatorOrder { kind: "hold".to_owned(), signed: Some(signed.clone()), id: 5 };
    let said = [
        ("collector-welcome", Of::Welcome(welcome)),
        (
            "collector-ack",
            Of::Ack(v1::Ack { epoch: 0xe, durable_seq: 42, ledger: Some(head()), credit_bytes: 1 << 20, same: false }),
        ),
        ("collector-reject", Of::Reject(reject)),
        ("collector-policy-offer", Of::PolicyOffer(signed)),
        ("collector-lease", Of::Lease(lease)),
        ("collector-order", Of::Order(order)),
        (
            "collector-query",
            Of::Query(v1::HostQuery {
                id: 6,
                what: Some(v1::host_query::What::Models(v1::ModelsQuery {
                    metric: "*cpu*".to_owned(),
                    from: 1,
                    limit: 2,
                })),
            }),
        ),
        ("collector-pong", Of::Pong(v1::Pong { wall_ms: 1 })),
    ];
    for (name, of) in said {
        kept(name, &v1::CollectorMessage { of: Some(of) });
    }
    let enrolled = v1::EnrolResponse {
        host_id: vec![7; 16],
        certificate: "-----BEGIN CERTIFICATE-----".to_owned(),
        ca: "-----BEGIN CERTIFICATE-----".to_owned(),
        labels: hello().facts.unwrap().labels,
        fleet_id: vec![8; 16],
    };
    kept("enrol-response", &enrolled);
}

/// An encoded message with a field that no version has yet: number 1000, three bytes.
fn from_the_future(message: &impl Message) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    bytes.extend([0xc2, 0x3e, 3, 1, 2, 3]);
    bytes
}

#[test]
fn fields_of_the_next_version_are_passed_over() {
    assert_eq!(v1::Hello::decode(&*from_the_future(&hello())).unwrap(), hello());
    for (name, record) in records() {
        let bytes = from_the_future(&record);
        assert_eq!(decode_record(&bytes).map(|read| v1::Record::from(&read)), Ok(record), "{name}");
    }
}

#[test]
fn messages_of_the_next_version_are_recognised_as_unknown() {
    let unknown = from_the_future(&v1::AgentMessage::default());
    assert_eq!(v1::AgentMessage::decode(&*unknown).unwrap().of, None);
    assert_eq!(v1::CollectorMessage::decode(&*unknown).unwrap().of, None);
    let record = from_the_future(&v1::Record { at: Some(now()), body: None });
    assert_eq!(decode_record(&record).unwrap_err().to_string(), "field body is missing or of an unknown kind");
}
