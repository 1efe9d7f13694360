//! A fleet of hosts with an hour and more of series each: what a question reads of it, and that the answer is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mainstay_collector::config::Settings;
use mainstay_collector::enrol::authority::Authority;
use mainstay_collector::hub::Hub;
use mainstay_collector::query::fleet::Fleet;
use mainstay_collector::query::{self, Outcome, Stop, TIMEOUT};
use mainstay_collector::store::Store;
use mainstay_core::series::Point;
use mainstay_promql::{
    EvalError, Interrupted, Limits, Source as _, Span, Value, Wanted, evaluate, parse, parse_selector,
};

#[path = "../../../bench/fleet.rs"]
pub(crate) mod plan;
#[path = "../../../bench/shapes.rs"]
pub(crate) mod shapes;

use plan::{Plan, STEP_MS};

/// The beginning of an hour.
const WALL: i64 = 1_800_000_000_000;
/// A joined hour, two sealed slots and five minutes of open rows.
const PLAN: Plan = Plan { hosts: 24, series: 300, own_units: false, from_ms: WALL, to_ms: WALL + 85 * 60_000 };

fn ask(hub: &Hub, text: &str) -> Outcome {
    query::run(hub, text, Span::Instant { at_ms: PLAN.to_ms }, &Stop::after(TIMEOUT)).unwrap()
}

/// The values of `node_load1` of a host in the last hour, made anew.
fn loads(host: u32) -> Vec<f64> {
    let described = shapes::describe(PLAN.series);
    let load = described.keys.iter().position(|key| key.name == "node_load1").unwrap();
    let mut shapes = shapes::Shapes::of(u64::from(host), PLAN.series);
    let mut values = Vec::new();
    for n in 1..=(PLAN.to_ms - PLAN.from_ms) / STEP_MS {
        let at_ms = PLAN.from_ms + n * STEP_MS;
        let point = shapes.summary(10, &described.gauge)[load];
        if let Point::Gauge { last, .. } = point
            && at_ms > PLAN.to_ms - 3_600_000 - STEP_MS
            && at_ms + at_ms / STEP_MS % 7 > PLAN.to_ms - 3_600_000
            && at_ms + at_ms / STEP_MS % 7 <= PLAN.to_ms
        {
            values.push(last);
        }
    }
    values
}

/// A hub over a store that such a fleet was written to.
pub(crate) async fn hub(folder: &std::path::Path, plan: Plan) -> Arc<Hub> {
    let settings = Settings::for_tests(folder);
    std::fs::create_dir_all(&settings.data).unwrap();
    let path = settings.data.join("db");
    let store = Arc::new(Store::open(&path, settings.cache_bytes, 0).unwrap());
    plan::write(&store, plan).await.unwrap();
    drop(store);
    let store = Store::open(&path, settings.cache_bytes, 0).unwrap();
    let authority = Authority::open_or_make(&settings.data.join("ca"), WALL).unwrap();
    Hub::start(store, authority, Arc::new(settings), ([127, 0, 0, 1], 1).into()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_about_the_fleet_reads_one_part_of_a_host_and_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path(), PLAN).await;

    let outcome = ask(&hub, "topk(10, avg_over_time(node_load1[1h]))");
    let read = outcome.seen.read;
    let hosts = u64::from(PLAN.hosts);
    assert_eq!((read.blocks, read.parts), (3 * hosts, 3 * hosts), "an hour and two slots, one part of each: {read:?}");
    let open = PLAN.to_ms / STEP_MS - (WALL + 80 * 60_000) / STEP_MS;
    assert!(read.rows <= hosts * (open.unsigned_abs() + 1), "{read:?}");
    // A part holds 24 of 300 series, four columns of 360 rows of them at most, of which few are more than two bytes.
    assert!(read.unpacked_bytes < hosts * 24 * (360 + 120) * 4, "{read:?}");
    assert_eq!(outcome.seen.completeness(), 1.0);
    let Value::Vector(top) = outcome.answer.value else { panic!("topk is a vector") };
    let mut expected: Vec<(f64, String)> = (1..=PLAN.hosts)
        .map(|host| {
            let values = loads(host);
            (values.iter().sum::<f64>() / values.len() as f64, plan::name(host))
        })
        .collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert_eq!(top.len(), 10);
    for ((labels, value), (mean, name)) in top.iter().zip(&expected) {
        assert_eq!(labels.get("host"), name);
        assert!((value - mean).abs() < 1e-9, "{name}: {value}, not {mean}");
    }

    let again = ask(&hub, "avg by (host) (avg_over_time(node_load1[1h]))").seen.read;
    assert_eq!((again.blocks, again.parts, again.rows, again.kept), (0, 0, 0, 4 * hosts), "nothing is read again");
    let one = ask(&hub, "avg_over_time(node_load5{host=\"host-00007\"}[1h])");
    assert_eq!((one.seen.read.blocks, one.seen.read.parts), (3, 3), "no other host is read");
    let none = ask(&hub, "node_load1{role=\"nothing\"}");
    assert_eq!(none.seen.read.parts, 0, "the labels of hosts decide before a part is unpacked");
}

/// More hosts than are read by the thread that evaluates: a joined hour, a sealed slot and some open rows of each.
const MANY: Plan = Plan { hosts: 80, series: 300, own_units: false, from_ms: WALL, to_ms: WALL + 72 * 60_000 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_however_many_threads_read() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path(), MANY).await;
    let at = Span::Instant { at_ms: MANY.to_ms };
    let range = Span::Range { start_ms: MANY.to_ms - 3_600_000, end_ms: MANY.to_ms, step_ms: 60_000 };
    let ask = |text: &str, span, lanes, limits| {
        let stop = Stop::after(TIMEOUT);
        let fleet = Fleet::of(&hub, &stop).in_lanes(lanes);
        let answer = evaluate(&parse(text).unwrap(), span, &fleet, limits, &|| stop.now());
        (answer.map(|answer| answer.value), fleet.seen())
    };
    for (text, span) in [
        ("topk(10, avg_over_time(node_load1[1h]))", at),
        ("sum by (role) (rate(node_network_receive_bytes_total[5m]))", range),
        ("{__name__=~\"node_.+\",role!=\"db\"}", at),
        ("count by (rack) (node_load1:max > 0)", range),
        ("node_load1{host=~\"host-0000.\"}", range),
        ("quantile_over_time(0.9, node_load5[30m])", range),
        ("absent_over_time(node_load1{host=\"host-00004\"}[5m])", range),
        ("max_over_time(sum by (role) (node_load1)[30m:5m])", at),
        ("node_load1[10m]", at),
    ] {
        hub.store.warm.forget();
        let one = ask(text, span, 1, Limits::default());
        assert!(one.1.read.rows > 0, "{text}: {:?}", one.1.read);
        for lanes in [2, 5] {
            hub.store.warm.forget();
            let many = ask(text, span, lanes, Limits::default());
            // Every value, and how complete it is and what was read for it.
            assert_eq!(format!("{many:?}"), format!("{one:?}"), "{text} in {lanes} lanes");
            let again = ask(text, span, lanes, Limits::default());
            assert_eq!(format!("{:?}", again.0), format!("{:?}", one.0), "{text} in {lanes} lanes, asked again");
            assert_eq!(again.1.completeness().to_bits(), one.1.completeness().to_bits());
        }
    }

    let few = Limits { samples_max: 10_000, ..Limits::default() };
    for text in ["node_load1[1h]", "sum(avg_over_time(node_load1[1h]))"] {
        let (one, two) = (ask(text, at, 1, few).0, ask(text, at, 2, few).0);
        assert_eq!(
            (one, two),
            (Err(EvalError::TooManySamples(10_000)), Err(EvalError::TooManySamples(10_000))),
            "{text}"
        );
    }

    // Threads that read stop when nobody waits any more.
    let stop = Stop::after(TIMEOUT);
    let fleet = Fleet::of(&hub, &stop).in_lanes(2);
    let wanted = Wanted::all_of(&[], (MANY.from_ms, MANY.to_ms));
    let (mut waits, mut taken) = (Some(stop.on_drop()), 0);
    let result = fleet.made(&wanted, &|_, values| Ok(Some(values.to_vec())), &mut |_, _| {
        drop(waits.take());
        taken += 1;
        Ok(())
    });
    assert_eq!(result, Err(EvalError::Interrupted(Interrupted::Cancelled)));
    assert!((1..=2 * MANY.series).contains(&taken), "two hosts are under way at first, not {taken} series");

    // What is held ahead is bounded also where hosts have more than those before them had.
    let load = parse_selector("node_load1").unwrap();
    let (stop, wanted) = (Stop::after(TIMEOUT), Wanted::all_of(&load, (MANY.to_ms - 60_000, MANY.to_ms)));
    let (made, mut taken, mut ahead_max, mut names) = (AtomicUsize::new(0), 0, 0, Vec::new());
    let make = |_: &[i64], _: &[f64]| {
        let before = made.fetch_add(1, Ordering::SeqCst);
        Ok(Some(vec![1.0; if before < 20 { 1 } else { 1 << 20 }]))
    };
    let fleet = Fleet::of(&hub, &stop).in_lanes(2);
    let result = fleet.made(&wanted, &make, &mut |labels, _| {
        ahead_max = ahead_max.max(made.load(Ordering::SeqCst) - taken);
        taken += 1;
        names.push(labels.get("host").to_owned());
        Ok(())
    });
    assert_eq!(
        (result, names.len(), names.is_sorted()),
        (Ok(()), MANY.hosts as usize, true),
        "each once, in their order"
    );
    assert!(ahead_max <= 20 + 2 * 6, "{ahead_max} were held: the small ones, and of 8 MiB two of each of six pieces");
}
