//! PromQL over the real store: Prometheus' HTTP API as promtool and curl see it, and the operators' service.

mod beside;

use std::process::Stdio;
use std::sync::LazyLock;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use mainstay_proto::v1;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::agent::{Agent, definitions, hello, item, summary};
use crate::world::World;

/// Two hours ago, at the beginning of a slot: within every retention.
static WALL: LazyLock<i64> = LazyLock::new(|| (mainstay_collector::clock::wall_ms() - 7_200_000) / 600_000 * 600_000);

/// A world with two hosts that sent 120 summaries each, at 10 s: load n, CPU seconds 10 n.
async fn world() -> World {
    let world = World::start().await;
    for name in ["web-1", "db-1"] {
        let papers = world.enrol(name).await;
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello(name)).await;
        for n in 0..120i64 {
            let items = vec![item(n.cast_unsigned() + 1, v1::item::Of::Summary(summary(n, *WALL + n * 10_000)))];
            let define = if n == 0 { definitions() } else { Vec::new() };
            let push = v1::Push { epoch: crate::agent::EPOCH, define, items, ..Default::default() };
            agent.say(v1::agent_message::Of::Push(push)).await;
            let acknowledged = agent.hear().await;
            assert!(matches!(acknowledged, Some(v1::collector_message::Of::Ack(_))), "summary {n}: {acknowledged:?}");
        }
    }
    world
}

fn http(world: &World) -> std::net::SocketAddr {
    world.collector.as_ref().unwrap().http
}

/// Asks the API: the status and the document.
async fn ask(world: &World, method: &str, path: &str, body: &str) -> (u16, Value) {
    let stream = TcpStream::connect(http(world)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "collector")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{path}: {bytes:?}")))
}

pub(crate) async fn get(world: &World, path: &str) -> Value {
    let (status, document) = ask(world, "GET", path, "").await;
    assert_eq!((status, &document["status"]), (200, &json!("success")), "{path}: {document}");
    document
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_answered_from_the_blocks_of_all_hosts() {
    let world = world().await;
    let end = *WALL + 1_190_000;
    let at = seconds(end);
    let value = |document: &Value| document["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned();
    for (query, expected) in [
        ("node_load1%7Bhost=%22web-1%22%7D", "119"),
        ("sum(node_load1)", "238"),
        ("node_load1:mean%7Bhost=%22db-1%22%7D", "119.25"),
        ("count(node_load1%7Brole=%22web%22%7D)", "2"),
        ("sum(avg_over_time(node_load1%5B1m%5D))", "233"),
        ("max_over_time(sum(node_load1)%5B5m:1m%5D)", "228"),
        ("count(node_load1%20offset%201h)%20or%20vector(-1)", "-1"),
        ("sum%20without%20(host)%20(node_load1%20*%20on(host)%20group_left()%20(node_load1%20%3E%20bool%201e9))", "0"),
    ] {
        let document = get(&world, &format!("/api/v1/query?query={query}&time={at}")).await;
        assert_eq!(document["data"]["resultType"], "vector");
        assert_eq!(value(&document), expected, "{query}: {document}");
        assert_eq!(document["mainstay"]["resolution"], "raw");
    }
    let form = format!("query=rate(node_cpu_seconds_total[1m])&start={}&end={at}&step=60", seconds(end - 600_000));
    let (status, document) = ask(&world, "POST", "/api/v1/query_range", &form).await;
    assert_eq!(status, 200, "{document}");
    assert_eq!(document["data"]["resultType"], "matrix");
    let series = document["data"]["result"].as_array().unwrap();
    assert!(series.len() >= 2, "{document}");
    assert_eq!(series[0]["values"].as_array().unwrap().len(), 11, "{document}");
    assert_eq!(document["mainstay"]["hosts"], 2);
    assert_eq!(document["mainstay"]["completeness"], 1.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_kinds_are_listed() {
    let world = world().await;
    let span = format!("start={}&end={}", seconds(*WALL), seconds(*WALL + 1_200_000));
    let hosts = get(&world, "/api/v1/label/host/values").await;
    assert_eq!(hosts["data"], json!(["db-1", "web-1"]));
    let narrowed =
        get(&world, &format!("/api/v1/label/host/values?match[]=node_load1%7Bhost!=%22db-1%22%7D&{span}")).await;
    assert_eq!(narrowed["data"], json!(["web-1"]));
    let names = get(&world, "/api/v1/label/__name__/values").await;
    assert!(names["data"].as_array().unwrap().contains(&json!("node_load1")), "{names}");
    let labels = get(&world, "/api/v1/labels").await;
    for label in ["__name__", "cpu", "host", "mode", "role"] {
        assert!(labels["data"].as_array().unwrap().contains(&json!(label)), "{label}: {labels}");
    }
    let series = get(&world, &format!("/api/v1/series?match[]=node_load1&{span}")).await;
    assert_eq!(
        (&series["mainstay"]["hosts"], &series["mainstay"]["resolution"]),
        (&json!(2), &json!("raw")),
        "{series}"
    );
    assert_eq!((series["data"].as_array().unwrap().len(), series.get("warnings")), (2, None), "{series}");
    assert_eq!(series["data"][0]["host"], "db-1");
    for what in ["label/host/values?", "labels?", "series?match[]=node_load1&", "labels?match[]=node_load1&"] {
        let answer = get(&world, &format!("/api/v1/{what}{span}&limit=1")).await;
        assert_eq!(answer["data"].as_array().unwrap().len(), 1, "{what}: {answer}");
        assert_eq!(answer["warnings"], json!(["results truncated due to limit"]), "{what}: {answer}");
    }
    let metadata = get(&world, "/api/v1/metadata").await;
    assert_eq!(metadata["data"]["node_load1"][0]["type"], "gauge");
    assert_eq!(metadata["data"]["node_cpu_seconds_total"][0]["type"], "counter");
    assert_eq!(get(&world, "/api/v1/query_exemplars?query=x").await["data"], json!([]));
    assert!(get(&world, "/api/v1/status/buildinfo").await["data"]["version"].is_string());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_answered_is_said_in_prometheus_words() {
    let world = world().await;
    for (path, status, kind, says) in [
        ("/api/v1/query?query=sum(", 400, "bad_data", "unclosed left parenthesis"),
        ("/api/v1/query", 400, "bad_data", "query"),
        ("/api/v1/query?query=1&time=yesterday", 400, "bad_data", "valid timestamp"),
        ("/api/v1/query?query=node_load1+%2B+on()+node_load1&time=now", 400, "bad_data", "timestamp"),
        ("/api/v1/query_range?query=1&start=0&end=10&step=0", 400, "bad_data", "step"),
        ("/api/v1/query_range?query=1&start=10&end=0&step=1", 400, "bad_data", "before start"),
        ("/api/v1/query_range?query=1&start=0&end=1000000&step=1", 400, "bad_data", "maximum resolution of 11000"),
        (
            "/api/v1/query_range?query=x%5B5m%5D&start=0&end=10&step=1",
            400,
            "bad_data",
            "\"range vector\" for range query",
        ),
        ("/api/v1/query_range?query=%22x%22&start=0&end=10&step=1", 400, "bad_data", "\"string\" for range query"),
        ("/api/v1/series", 400, "bad_data", "match[]"),
        ("/api/v1/series?match[]=rate(x%5B5m%5D)", 400, "bad_data", "no series selector"),
        ("/api/v1/nothing", 404, "not_found", "not answered here"),
    ] {
        let (found, document) = ask(&world, "GET", path, "").await;
        assert_eq!((found, &document["errorType"]), (status, &json!(kind)), "{path}: {document}");
        assert!(document["error"].as_str().unwrap().contains(says), "{path}: {document}");
    }
    let clash = format!("/api/v1/query?query=node_load1+%2B+on()+node_load1&time={}", seconds(*WALL + 600_000));
    let (status, document) = ask(&world, "GET", &clash, "").await;
    assert_eq!((status, &document["errorType"]), (422, &json!("execution")), "{document}");
    let (status, _) = ask(&world, "DELETE", "/api/v1/query", "").await;
    assert_eq!(status, 405);
    // Two million steps are looked at, and a millisecond is over long before.
    let form = "query=max_over_time(vector(time())[10d:1s])&timeout=1ms&step=10";
    let form = format!("{form}&start={}&end={}", seconds(*WALL), seconds(*WALL + 20_000));
    let (status, document) = ask(&world, "POST", "/api/v1/query_range", &form).await;
    assert_eq!((status, &document["errorType"]), (503, &json!("timeout")), "{document}");
    world.stop().await;
}

/// Debian's promtool, out of the package of prometheus, unpacked. `None` where it cannot be had.
fn promtool() -> Option<std::path::PathBuf> {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts/unpacked");
    let output = std::process::Command::new(script).arg("prometheus").stderr(Stdio::inherit()).output().unwrap();
    if output.status.success() {
        return Some(std::path::Path::new(String::from_utf8(output.stdout).unwrap().trim()).join("usr/bin/promtool"));
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "promtool cannot be had");
    eprintln!("skipped: promtool cannot be had");
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_asks_as_it_asks_prometheus() {
    let Some(promtool) = promtool() else { return };
    let world = world().await;
    let url = format!("http://{}", http(&world));
    let (start, end) = (seconds(*WALL + 600_000), seconds(*WALL + 1_190_000));
    let cases: [(&[&str], &str); 5] = [
        (&["query", "instant", "--time", &end, &url, r#"node_load1{host="web-1"}"#], "=> 119 @"),
        (&["query", "range", "--start", &start, "--end", &end, "--step", "60s", &url, "sum(node_load1)"], "228 @"),
        (&["query", "series", "--match", "node_load1", "--start", &start, "--end", &end, &url], r#"host="db-1""#),
        (&["query", "labels", "--start", &start, "--end", &end, &url, "host"], "web-1"),
        (&["query", "instant", "--time", &end, &url, r#"histogram_quantile(0.9, node_load1)"#], ""),
    ];
    for (arguments, expected) in cases {
        let mut command = std::process::Command::new(&promtool);
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains(expected), "{arguments:?}: {said}{failed}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_ask_promql_over_their_own_service() {
    let world = world().await;
    let ops = world.operator("ops", "viewer").await;
    let mut queries = world.queries(&ops).await;
    let end = *WALL + 1_190_000;
    let asked = |promql: &str, step_ms: u32| v1::QueryRangeRequest {
        promql: promql.to_owned(),
        from_ms: end - 60_000,
        to_ms: end,
        step_ms,
        ..Default::default()
    };
    let now = queries.query_range(asked("sum(node_load1)", 0)).await.unwrap().into_inner();
    assert_eq!((now.series[0].at_ms.as_slice(), now.series[0].values.as_slice()), (&[end][..], &[238.0][..]));
    let range = queries.query_range(asked(r#"node_load1{host="db-1"} * 2"#, 30_000)).await.unwrap().into_inner();
    assert_eq!(range.series[0].values, [226.0, 232.0, 238.0]);
    assert_eq!(range.series[0].key.as_ref().unwrap().labels[0].value, "db-1");
    let refused = queries.query_range(asked("sum(", 0)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    world.stop().await;
}
