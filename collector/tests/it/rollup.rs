//! Coarse series beside the rows that they were made of: what is answered from both has to be the same.

use std::time::Duration;

use mainstay_collector::hub::Hub;
use mainstay_collector::ingest::join;
use mainstay_collector::query::{self, Stop, TIMEOUT};
use mainstay_collector::services;
use mainstay_collector::store::Batch;
use mainstay_collector::store::keys::OpenRowKey;
use mainstay_collector::store::retention::Retention;
use mainstay_collector::store::series::hour_of;
use mainstay_fleet::rollup::Tier;
use mainstay_promql::{Span, Value};
use mainstay_proto::v1;

use super::fleet::{hub, plan::Plan};

const HOUR_MS: i64 = 3_600_000;
/// Nine in the evening, so that there are two days.
const WALL: i64 = 1_800_000_000_000 + 13 * HOUR_MS;
/// Seven joined hours, two sealed slots and five minutes of open rows, some of them right on the boundaries.
const PLAN: Plan =
    Plan { hosts: 3, series: 300, own_units: false, from_ms: WALL, to_ms: WALL + 7 * HOUR_MS + 25 * 60_000 };

/// By labels: moments and values.
type Answers = Vec<(String, Vec<(i64, f64)>)>;

fn ask(hub: &Hub, text: &str, span: Span) -> (Answers, Option<Tier>, f64) {
    let outcome = query::run(hub, text, span, &Stop::after(TIMEOUT)).unwrap();
    let answers = match outcome.answer.value {
        Value::Matrix(all) => all.into_iter().map(|(labels, points)| (labels.to_string(), points)).collect(),
        other => panic!("{text}: {other:?}"),
    };
    (answers, outcome.seen.tier, outcome.seen.completeness())
}

/// Whether two answers are the same: bit by bit, or up to so much of a value.
fn compare(text: &str, raw: &Answers, rolled: &Answers, up_to: f64) {
    let names = |answers: &Answers| answers.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>();
    assert_eq!(names(raw), names(rolled), "{text}");
    assert!(!raw.is_empty(), "{text}");
    for ((labels, raw), (_, rolled)) in raw.iter().zip(rolled) {
        let moments = |points: &[(i64, f64)]| points.iter().map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(moments(raw), moments(rolled), "{text}: {labels}");
        for ((at, a), (_, b)) in raw.iter().zip(rolled) {
            let same = a.to_bits() == b.to_bits() || (a - b).abs() <= up_to * a.abs();
            assert!(same, "{text}: {labels} at {at}: {a} of rows, {b} of stretches");
        }
    }
}

/// Queries whose answers are the same of rows and of stretches that they hold wholly; sums and means of decimals up to what
/// adding them in another order makes of them.
const EXACT: &[(&str, f64)] = &[
    ("min_over_time(node_load1[RANGE])", 0.0),
    ("max_over_time(node_load1[RANGE])", 0.0),
    ("last_over_time(node_load1[RANGE])", 0.0),
    ("count_over_time(node_load1[RANGE])", 0.0),
    ("sum_over_time(node_load1[RANGE])", 1e-12),
    ("avg_over_time(node_load1[RANGE])", 1e-12),
    ("min_over_time(mainstay_unit_memory_current_bytes:min[RANGE])", 0.0),
    ("max_over_time(mainstay_unit_memory_current_bytes:max[RANGE])", 0.0),
    ("count_over_time(mainstay_unit_memory_current_bytes:mean[RANGE])", 0.0),
    ("avg_over_time(mainstay_unit_memory_current_bytes:mean[RANGE])", 1e-9),
    ("sum_over_time(mainstay_unit_tasks[RANGE])", 0.0),
    ("min_over_time(node_context_switches_total[RANGE])", 0.0),
    ("max_over_time(node_cpu_seconds_total[RANGE])", 0.0),
    ("last_over_time(node_cpu_seconds_total[RANGE])", 0.0),
    ("sum_over_time(node_context_switches_total[RANGE])", 1e-12),
    ("count_over_time(node_context_switches_total[RANGE])", 0.0),
    ("sum by (role) (max_over_time(node_load1[RANGE]))", 1e-12),
    ("present_over_time(node_load1[RANGE])", 0.0),
    // Of the counter's last values, whose ends lie elsewhere by a stretch at most: asked of many stretches only.
    ("rate(node_context_switches_total[RANGE])", 0.2),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rollups_answer_is_what_the_rows_would_have() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path(), PLAN).await;
    let every = |minutes: i64, from: i64, to: i64| Span::Range {
        start_ms: WALL + from * 60_000,
        end_ms: WALL + to * 60_000,
        step_ms: minutes * 60_000,
    };
    // Stretches of five minutes are asked for up to the open rows, hours up to what is sealed.
    let five = [("5m", every(5, 5, 440)), ("15m", every(5, 15, 440)), ("2h", every(25, 120, 440))];
    let hours = [("1h", every(60, 60, 420)), ("3h", every(60, 180, 420))];
    let of = |tier: Tier| -> Vec<(String, Span, f64)> {
        let spans = if tier == Tier::Hour { &hours[..] } else { &five[..] };
        let both = EXACT.iter().flat_map(|(text, up_to)| spans.iter().map(move |span| (text, span, up_to)));
        let is_asked = |text: &str, range: &str| !text.contains("rate") || range == "2h";
        let asked = both.filter(|(text, (range, _), _)| is_asked(text, range));
        asked.map(|(text, (range, span), up_to)| (text.replace("RANGE", range), *span, *up_to)).collect()
    };
    let raw = Tier::ALL.map(|tier| {
        let asked = of(tier).into_iter().map(|(text, span, up_to)| {
            let (answers, none, share) = ask(&hub, &text, span);
            assert_eq!((none, share), (None, 1.0), "{text}");
            (text, span, up_to, answers)
        });
        asked.collect::<Vec<_>>()
    });
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    // Rows of the first four hours go, then stretches of five minutes of the first day: what is not rolled up stays.
    let now = PLAN.to_ms;
    for (tier, asked, retention) in [
        (Tier::Minutes5, &raw[0], Retention { series: hours(3), ..Retention::default() }),
        (Tier::Hour, &raw[1], Retention { series: hours(3), series_5m: hours(4), ..Retention::default() }),
    ] {
        hub.store.retain(&[], retention, now).await.unwrap();
        for (text, span, up_to, raw) in asked {
            let (answers, told, _) = ask(&hub, text, *span);
            assert_eq!(told, Some(tier), "{text}");
            compare(text, raw, &answers, *up_to);
        }
        let recent = every(5, 360, 440);
        assert_eq!(ask(&hub, "max_over_time(node_load1[5m])", recent).1, None, "rows are there for what is recent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_points_of_what_is_old_are_those_of_stretches_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path(), PLAN).await;
    let matchers = vec![v1::Matcher { label: "host".into(), op: "=".into(), value: "host-00002".into() }];
    let ask = |name: &str| {
        let (from_ms, to_ms) = (WALL, WALL + 7 * HOUR_MS);
        let request = v1::QueryRangeRequest {
            name: name.into(),
            matchers: matchers.clone(),
            from_ms,
            to_ms,
            ..Default::default()
        };
        let answer = services::range::query(&hub, &request, &Stop::after(TIMEOUT)).unwrap();
        assert_eq!((answer.series.len(), answer.completeness), (1, 1.0), "{name}");
        let series = answer.series.into_iter().next().unwrap();
        (series.at_ms.into_iter().zip(series.values).collect::<Vec<_>>(), answer.resolution)
    };
    let (rows, raw) = ask("node_load1:max");
    assert_eq!(raw, "raw");
    let retention = Retention { series: Duration::from_secs(60), ..Retention::default() };
    hub.store.retain(&[], retention, WALL + 8 * HOUR_MS).await.unwrap();
    let (stretches, five) = ask("node_load1:max");
    assert_eq!(five, "5m");
    let expected: Vec<(i64, f64)> = rows
        .chunk_by(|(a, _), (b, _)| {
            Tier::Minutes5.stretch_of(*a) == Tier::Minutes5.stretch_of(*b) && a / HOUR_MS == b / HOUR_MS
        })
        .map(|rows| (rows[rows.len() - 1].0, rows.iter().map(|(_, max)| *max).fold(f64::MIN, f64::max)))
        .collect();
    assert!(stretches == expected, "{stretches:?}, not {expected:?}");
    let stop = Stop::after(TIMEOUT);
    let selectors = vec![mainstay_promql::parse_selector("{host=\"host-00001\"}").unwrap()];
    let names = query::names::Names { selectors, span: (WALL, WALL + HOUR_MS), limit: 1_000 };
    let units = query::names::values(&hub, "unit", &names, &stop).unwrap();
    assert!(!units.all.is_empty(), "names of what is old are found too");
    assert_eq!((units.hosts, units.seen.tier), (1, Some(Tier::Minutes5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hosts_leave_open_that_do_not_come_back_is_sealed_and_rolled_up() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path(), PLAN).await;
    let open = || hub.store.scan::<OpenRowKey>(&OpenRowKey::all(), &OpenRowKey::all()).count();
    assert!(open() > 0);
    let last = Span::Range { start_ms: PLAN.to_ms - 300_000, end_ms: PLAN.to_ms, step_ms: 300_000 };
    let question = "max_over_time(node_load1[5m])";
    let (raw, none, share) = ask(&hub, question, last);
    assert_eq!((none, share), (None, 1.0));

    assert_eq!(join::seal_left(&hub, PLAN.to_ms + HOUR_MS).await.unwrap(), 0, "they may come back");
    let later = PLAN.to_ms + 2 * HOUR_MS;
    assert_eq!(join::seal_left(&hub, later).await.unwrap(), 3);
    assert_eq!(open(), 0);
    assert_eq!(join::seal_left(&hub, later).await.unwrap(), 0, "once");
    for host in 1..=PLAN.hosts {
        let mut batch = Batch::default();
        assert!(hub.store.join_hour(&mut batch, host, hour_of(PLAN.to_ms)).unwrap());
        hub.store.commit(batch).await.unwrap();
    }
    let retention = Retention { series: Duration::from_secs(60), ..Retention::default() };
    hub.store.retain(&[], retention, later).await.unwrap();
    let (answers, told, _) = ask(&hub, question, last);
    assert_eq!(told, Some(Tier::Minutes5));
    compare(question, &raw, &answers, 0.0);
}
