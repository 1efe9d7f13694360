//! The receiver: every sample with its own labels, in any order, once.

use mainstay_collector::clock::wall_ms;
use mainstay_fleet::rollup::STALE;
use mainstay_proto::v1;

use super::{TOKEN, call, http, points, series, with_token, write};
use crate::room::get;

/// An hour ago, at the beginning of a slot of ten minutes.
fn begin() -> i64 {
    (wall_ms() - 3_600_000) / 600_000 * 600_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_posted_is_answered_with_its_own_labels_and_survives_a_restart() {
    let mut world = with_token(|_| {}).await;
    let begin = begin();
    // Two targets of one exporter and a rule without a target, 15 s apart over three slots, a scrape in two requests.
    for n in 0..120i64 {
        let at = begin + n * 15_000 + 7;
        let of = |name: &str, instance: &str, value: f64| {
            series(&[("__name__", name), ("instance", instance), ("job", "node"), ("cluster", "a")], [(at, value)])
        };
        let first = vec![of("up", "a:9100", 1.0), of("x_total", "b:9100", n as f64 * 2.0)];
        let rule = series(&[("__name__", "job:up:mean")], [(at, n as f64)]);
        let second = vec![of("x_total", "a:9100", n as f64), rule, of("up", "b:9100", 0.0)];
        for request in [first, second] {
            assert_eq!(write(http(&world), request).await, (204, String::new()));
        }
    }
    let end = begin + 119 * 15_000 + 7;
    for _ in 0..2 {
        let at = http(&world);
        let total = points(at, "x_total", (begin + 7, end), "15").await;
        let expected =
            |factor: f64| (0..120i64).map(|n| (begin + 7 + n * 15_000, n as f64 * factor)).collect::<Vec<_>>();
        let labels =
            |instance: &str| format!(r#"{{"__name__":"x_total","cluster":"a","instance":"{instance}","job":"node"}}"#);
        assert_eq!(total, [(labels("a:9100"), expected(1.0)), (labels("b:9100"), expected(2.0))]);
        let rule = points(at, "job:up:mean", (end, end), "15").await;
        assert_eq!(rule, [(r#"{"__name__":"job:up:mean"}"#.to_owned(), vec![(end, 119.0)])]);
        for (query, value) in [
            (r#"sum(up{job="node"})"#, 1.0),
            (r#"count(up{instance=~"b:.*",host=""})"#, 1.0),
            (r#"sum by (job) (rate(x_total{cluster="a"}[5m]))"#, 0.2),
            ("count_over_time(up{instance=\"a:9100\"}[30m])", 120.0),
        ] {
            let found = points(at, query, (end, end), "15").await;
            assert!(found.len() == 1 && (found[0].1[0].1 - value).abs() < 1e-9, "{query}: {found:?}");
        }
        let (_, jobs) = call(at, "GET", "/api/v1/label/job/values", &[], Vec::new()).await;
        assert!(jobs.contains(r#"["node"]"#), "{jobs}");
        world.restart().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_twice_or_after_its_slot_was_sealed_finds_its_place() {
    let world = with_token(|_| {}).await;
    let (at, begin) = (http(&world), begin());
    let of = |name: &str, n: i64, value: f64| {
        series(&[("__name__", name), ("instance", "a"), ("job", "j")], [(begin + n * 60_000, value)])
    };
    // Both from the beginning, so that what comes late has the schema of what was sealed.
    assert_eq!(write(at, vec![of("a", -1, -1.0), of("b", -1, 1.0)]).await.0, 204);
    for n in 0..26 {
        // Newest first in pairs, each twice; `b` half an hour later than `a`.
        for n in [n ^ 1, n ^ 1] {
            assert_eq!(write(at, vec![of("a", n, n as f64)]).await.0, 204);
        }
    }
    for n in 0..26 {
        assert_eq!(write(at, vec![of("b", n, -(n as f64))]).await.0, 204);
    }
    // Two slots on, so that all of it is sealed.
    for n in [35, 45, 46] {
        assert_eq!(write(at, vec![of("a", n, n as f64), of("b", n, 0.0)]).await.0, 204);
    }
    let span = (begin, begin + 25 * 60_000);
    let expected = |sign: f64| (0..26).map(|n| (begin + n * 60_000, sign * n as f64)).collect::<Vec<_>>();
    let a = points(at, "a", span, "60").await;
    let b = points(at, "-(b)", span, "60").await;
    assert_eq!((a[0].1.clone(), b[0].1.clone()), (expected(1.0), expected(1.0)));
    assert_eq!(points(at, "count_over_time(a[25m])", (span.1, span.1), "60").await[0].1[0].1, 25.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_marker_ends_a_series() {
    let world = with_token(|_| {}).await;
    let (at, begin) = (http(&world), begin());
    let labels = [("__name__", "up"), ("instance", "a"), ("job", "j")];
    let samples = [(begin, 1.0), (begin + 60_000, 1.0), (begin + 120_000, f64::from_bits(STALE))];
    assert_eq!(write(at, vec![series(&labels, samples)]).await.0, 204);
    let found = points(at, "up", (begin, begin + 240_000), "60").await;
    assert_eq!(found[0].1, [(begin, 1.0), (begin + 60_000, 1.0)]);
    assert_eq!(points(at, "count_over_time(up[1h])", (begin + 240_000, begin + 240_000), "60").await[0].1[0].1, 2.0);
    // As `mainstay query up` asks: stored points.
    let ops = world.operator("ops", "viewer").await;
    let asked =
        v1::QueryRangeRequest { name: "up".to_owned(), from_ms: begin, to_ms: begin + 240_000, ..Default::default() };
    let stored = world.queries(&ops).await.query_range(asked).await.unwrap().into_inner();
    let labels: Vec<String> =
        stored.series[0].key.as_ref().unwrap().labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect();
    assert_eq!(labels, ["instance=a", "job=j"]);
    assert_eq!(stored.series[0].at_ms, [begin, begin + 60_000]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_written_is_refused_with_the_reason_and_counted() {
    let closed = crate::world::World::start().await;
    let (status, why) = write(http(&closed), Vec::new()).await;
    assert!(status == 404 && why.contains("write_token_file"), "{status} {why}");
    closed.stop().await;
    let world = with_token(|settings| settings.series_per_host = 2).await;
    let (at, now) = (http(&world), wall_ms());
    let bearer = format!("Bearer {TOKEN}");
    let good = ("authorization", bearer.as_str());
    let kind = ("content-type", "application/x-protobuf");
    let v2 = ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    let snappy = ("content-encoding", "snappy");
    for (method, headers, body, status, says) in [
        ("GET", vec![good], vec![], 405, "only POST"),
        ("POST", vec![kind, snappy], vec![], 401, "bearer token"),
        ("POST", vec![("authorization", "Bearer wrong"), kind, snappy], vec![], 401, "bearer token"),
        ("POST", vec![good, v2, snappy], vec![], 415, "io.prometheus.write.v2.Request"),
        ("POST", vec![good, kind], vec![], 415, "snappy"),
        ("POST", vec![good, kind, snappy], vec![0xff; 20], 400, "not snappy"),
        ("POST", vec![good, kind, snappy], vec![0; 8 * 1024 * 1024 + 1], 400, "8388608 bytes"),
    ] {
        let (found, why) = call(at, method, "/api/v1/write", &headers, body).await;
        assert!(found == status && why.contains(says), "{says}: {found} {why}");
    }
    let of = |name: &str| series(&[("__name__", name), ("instance", "a"), ("job", "j")], [(now, 1.0)]);
    let (status, why) = write(at, vec![of("d"), of("b"), of("c"), series(&[("x", "y")], [(now, 1.0)])]).await;
    assert_eq!(status, 400);
    assert!(
        why.contains("2 samples are not stored (labels 1, series 1), 2 are") && why.contains("no __name__"),
        "{why}"
    );
    let metrics = get(&world, "/metrics").await;
    for line in [
        "mainstay_collector_remote_samples_total 2\n",
        "mainstay_collector_remote_samples_dropped_total{reason=\"series\"} 1\n",
        "mainstay_collector_remote_samples_dropped_total{reason=\"labels\"} 1\n",
        "mainstay_collector_remote_sources 1\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let names = points(at, r#"{job="j"}"#, (now, now), "60").await;
    assert_eq!(names.len(), 2, "{names:?}");
    world.stop().await;
}
