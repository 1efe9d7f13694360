//! Writes the seeds that the targets begin with, one folder a target, below the folder it is told.
//!
//! They are made, not kept: from the generators of the wire's own property tests, so that a new message is in them. Each
//! has to reach what it was made for, or this fails.

use std::path::Path;

use mainstay_core::series::Point;
use mainstay_core::time::Now;
use mainstay_fleet::block::{LEVEL_SLOT, Row, pack, write_loose};
use mainstay_fuzz::{block, query, wire};
use mainstay_proto::convert::{Form, SummaryWriter, encode_record};
use mainstay_proto::v1;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use prost::Message as _;

#[allow(dead_code)]
#[path = "../proto/src/convert/generate.rs"]
mod generate;

const EACH: usize = 24;

const QUERIES: &[&str] = &[
    "a",
    "sum by (host) (rate(a[1m]))",
    "topk(2, avg_over_time({__name__=~\"a|q\"}[1m] offset 10s))",
    "histogram_quantile(0.9, sum by (le) (d_bucket))",
    "a / on (host) group_left (le) sum by (host) (c)",
    "max_over_time(rate(a[20s])[1m:10s] @ end())",
    "label_replace(a, \"x\", \"$1\", \"host\", \"(.*)\") or absent(b)",
    "predict_linear(a[1m], 3600) > bool 0 unless c == 1",
    "count_values(\"v\", a) + scalar(vector(time())) % 2 ^ -1",
    "double_exponential_smoothing(a[1m], 0.5, 0.1) and quantile(0.5, a) by (le)",
    "sort_desc(clamp(a, -1, Inf)) - ignoring (le) c",
];

fn main() {
    let root = std::env::args().nth(1).expect("the folder to write the seeds to");
    let write = |target: &str, n: usize, bytes: &[u8]| {
        let folder = Path::new(&root).join(target);
        std::fs::create_dir_all(&folder).expect("a folder for seeds");
        std::fs::write(folder.join(format!("seed-{n:03}")), bytes).expect("a seed");
    };
    for (n, seed) in wire_seeds().iter().enumerate() {
        let read = wire::run(seed);
        assert!(read.messages > 0 && read.converted > 0, "seed {n} of the wire reaches nothing: {read:?}");
        write("wire", n, seed);
    }
    for (n, seed) in block_seeds().iter().enumerate() {
        let read = block::run(seed);
        assert!(
            read.is_row || read.is_recording || read.is_block && read.series > 0,
            "seed {n} of blocks reaches nothing: {read:?}"
        );
        write("block", n, seed);
    }
    let source = query::source();
    for (n, text) in QUERIES.iter().enumerate() {
        let read = query::run(&source, text.as_bytes());
        assert!(read.is_query && read.answers > 0, "{text}: {read:?}");
        write("query", n, text.as_bytes());
    }
}

fn made<S: Strategy>(strategy: S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..EACH).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

fn agents(of: v1::agent_message::Of) -> Vec<u8> {
    wire::frame(&v1::AgentMessage { of: Some(of) }.encode_to_vec(), false)
}

fn pushed(of: v1::item::Of) -> Vec<u8> {
    let items = vec![v1::Item { seq: 1, of: Some(of) }];
    agents(v1::agent_message::Of::Push(v1::Push { items, ..v1::Push::default() }))
}

fn wire_seeds() -> Vec<Vec<u8>> {
    use v1::item::Of;
    let mut seeds = Vec::new();
    seeds.extend(made(generate::finding()).iter().map(|finding| pushed(Of::Finding(finding.into()))));
    seeds.extend(made(generate::change()).iter().map(|change| pushed(Of::Change(change.into()))));
    seeds.extend(made(generate::scene()).iter().map(|scene| pushed(Of::Scene(scene.into()))));
    seeds.extend(made(generate::finding_recording()).iter().map(|one| pushed(Of::Recording(one.into()))));
    seeds.extend(made(generate::record()).iter().map(|record| {
        pushed(Of::Ledger(v1::LedgerEntry { index: 1, record: encode_record(record), hash: vec![0; 32] }))
    }));
    seeds.extend(
        made(generate::host_reply())
            .iter()
            .map(|reply| agents(v1::agent_message::Of::Reply(v1::HostReply { id: 1, what: Some(reply.into()) }))),
    );
    seeds.extend(made(generate::host_query()).iter().map(|query| {
        let query = v1::HostQuery { id: 1, what: Some(query.into()) };
        let message = v1::CollectorMessage { of: Some(v1::collector_message::Of::Query(query)) };
        wire::frame(&message.encode_to_vec(), true)
    }));
    seeds.extend(made(generate::facts()).iter().map(|facts| {
        agents(v1::agent_message::Of::Hello(v1::Hello { facts: Some(facts.into()), ..v1::Hello::default() }))
    }));
    // Compressed, as a frame and as what one unpacks to.
    for finding in made(generate::finding()) {
        let items = vec![v1::Item { seq: 1, of: Some(Of::Finding((&finding).into())) }];
        let plain = v1::Push { items, ..v1::Push::default() }.encode_to_vec();
        let frame = zstd::bulk::compress(&plain, 3).expect("zstd");
        seeds.extend(
            [plain, frame].map(|zstd| agents(v1::agent_message::Of::Push(v1::Push { zstd, ..v1::Push::default() }))),
        );
    }
    // Sessions of several summaries, in each form.
    let summaries = made(generate::summary());
    for form in [Form::Lists, Form::Columns, Form::Coded] {
        for few in summaries.chunks(3) {
            let mut writer = SummaryWriter::new(form);
            seeds.push(
                few.iter()
                    .flat_map(|summary| {
                        let mut define = Vec::new();
                        let of = Some(Of::Summary(writer.write(summary, &mut define)));
                        let push = v1::Push { define, items: vec![v1::Item { seq: 1, of }], ..v1::Push::default() };
                        agents(v1::agent_message::Of::Push(push))
                    })
                    .collect(),
            );
        }
    }
    seeds
}

fn block_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        made(generate::finding_recording()).iter().map(|one| one.recording.encode()).collect();
    for (series, gap) in [(1, 3), (2, 1000), (5, 7), (30, 2)] {
        let gauge: Vec<bool> = (0..series).map(|at| at % 2 == 0).collect();
        let rows: Vec<Row> = (0..12).map(|n| row(n, &gauge, gap)).collect();
        let packed = pack([7; 16], &gauge, &rows, LEVEL_SLOT).expect("rows are packed");
        let body = &packed.head[5..];
        let frame = zstd::bulk::decompress(&packed.parts[0][5..], 1 << 20).expect("a frame");
        let length = u16::try_from(body.len()).expect("a short head").to_be_bytes();
        seeds.push([&length[..], body, &frame].concat());
        seeds.push(write_loose([7; 16], &rows[3])[5..].to_vec());
    }
    seeds
}

fn row(n: u32, gauge: &[bool], gap: u32) -> Row {
    let value =
        |at: usize| f64::from(n * 3 + u32::try_from(at).expect("few series")) / if at % 3 == 0 { 100.0 } else { 1.0 };
    let cell = |(at, gauge): (usize, &bool)| {
        let last = value(at);
        (n % gap != 1).then_some(match gauge {
            true => Point::Gauge { last, min: last - 1.0, max: last + 0.5, mean: last / 3.0 },
            false => Point::Counter(last),
        })
    };
    let now = Now::default();
    Row {
        at_ms: now.wall_ms + 1_700_000_000_000 + i64::from(n) * 10_000,
        window_ms: 10_000,
        samples: 10,
        cells: gauge.iter().enumerate().map(cell).collect(),
    }
}
