//! Beside Debian's own programs: what they are told and what we are told has to be the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mainstay_collector::clock::wall_ms;
use serde_json::Value;

use super::send::{push, start, to};
use super::{TOKEN, call, escaped, http, ms, points, with_token};
use crate::agent::{Agent, hello};
use crate::world::until;

#[path = "../../../../bench/peers.rs"]
pub(crate) mod programs;

use programs::{Peer, written};

/// A program that these tests ask for; `None` where it cannot be had.
pub(crate) fn program(package: &str) -> Option<PathBuf> {
    let program = programs::program(package);
    if program.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{package} cannot be had");
        eprintln!("skipped: {package} cannot be had");
    }
    program
}

async fn ready(peer: Peer, path: &str) -> Peer {
    until(&format!("a ready peer, which lies in {}", peer.data.path().display()), async || {
        tokio::net::TcpStream::connect(peer.at).await.ok()?;
        (call(peer.at, "GET", path, &[], Vec::new()).await.0 == 200).then_some(())
    })
    .await;
    peer
}

/// Prometheus, which watches itself every second and sends to us what it finds, if we are named.
async fn prometheus(program: &Path, write_to: Option<SocketAddr>) -> Peer {
    let settings = |at: SocketAddr| {
        let watch = format!(
            "scrape_configs:\n- job_name: prometheus\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs:\n  - targets: ['{at}']\n"
        );
        let write = write_to.map(|to| {
            format!(
                "{watch}remote_write:\n- url: http://{to}/api/v1/write\n  authorization:\n    credentials: {TOKEN}\n  queue_config:\n    max_samples_per_send: 100\n"
            )
        });
        format!("global:\n  external_labels:\n    cluster: a\n{}", write.unwrap_or_default())
    };
    ready(Peer::prometheus(program, settings).unwrap(), "/-/ready").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_prometheus_scrapes_and_sends_is_answered_here_as_it_is_there() {
    let Some(program) = program("prometheus") else { return };
    let world = with_token(|_| {}).await;
    let ours = http(&world);
    let prometheus = prometheus(&program, Some(ours)).await;
    let begin = wall_ms();
    // Scrapes go over several shards and requests of a hundred samples: some may come seconds later than others.
    let scrapes = "count_over_time(up{job=\"prometheus\"}[1m])";
    let end = until("eight scrapes here", async || {
        let now = wall_ms();
        let found = points(ours, scrapes, (now, now), "1").await;
        let last = points(ours, "max(timestamp(up))", (now, now), "1").await;
        (found.first()?.1[0].1 >= 8.0).then(|| ms(last[0].1[0].1) - 1_500)
    })
    .await;
    let without_cluster = |all: Vec<(String, Vec<(i64, f64)>)>| {
        // External labels are what a sender adds.
        let all = all.into_iter().map(|(labels, points)| (labels.replace("\"cluster\":\"a\",", ""), points));
        let mut all = all.collect::<Vec<_>>();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let query = "{job=\"prometheus\"}";
    until("the same series and values here and there", async || {
        let there = points(prometheus.at, query, (begin, end), "1").await;
        let here = without_cluster(points(ours, query, (begin, end), "1").await);
        (there.len() > 300 && same(&here, &there)).then_some(())
    })
    .await;
    // Nothing that changed with prometheus 3: rates of counters that have just begun did.
    for query in ["sum by (handler) (prometheus_http_requests_total)", "go_goroutines + 1"] {
        let (here, there) =
            (points(ours, query, (begin, end), "1").await, points(prometheus.at, query, (begin, end), "1").await);
        assert!(!there.is_empty() && same(&without_cluster(here.clone()), &there), "{query}: {here:?} {there:?}");
    }
    world.stop().await;
}

/// VictoriaMetrics' agent, which watches itself every second under the job `vmagent` and sends what it finds.
async fn vmagent(victoria: &Path, write_to: &[String]) -> Peer {
    let agent = Peer::spawn(&victoria.with_file_name("vmagent"), |data, at| {
        let watch = format!(
            "scrape_configs:\n- job_name: vmagent\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs:\n  - targets: ['{at}']\n"
        );
        let mut arguments = vec![
            format!("-promscrape.config={}", written(data, &watch)),
            format!("-remoteWrite.tmpDataPath={}", data.join("data").display()),
            format!("-httpListenAddr={at}"),
        ];
        for url in write_to {
            arguments.extend([format!("-remoteWrite.url={url}"), format!("-remoteWrite.bearerToken={TOKEN}")]);
        }
        arguments
    });
    ready(agent.unwrap(), "/health").await
}

/// VictoriaMetrics' rules, asked of one server and written to it.
async fn vmalert(victoria: &Path, of: SocketAddr, rules: &str) -> Peer {
    let alert = Peer::spawn(&victoria.with_file_name("vmalert"), |data, at| {
        vec![
            format!("-rule={}", written(data, rules)),
            format!("-datasource.url=http://{of}"),
            format!("-remoteWrite.url=http://{of}"),
            format!("-remoteWrite.bearerToken={TOKEN}"),
            format!("-httpListenAddr={at}"),
            // It asks for one; recording rules tell nobody.
            "-notifier.url=http://127.0.0.1:9".to_owned(),
        ]
    });
    ready(alert.unwrap(), "/health").await
}

/// Every sample that somebody holds of a series of ours, as Prometheus tells them.
async fn stored(at: SocketAddr, name: &str, end_ms: i64) -> Vec<(i64, f64)> {
    let path = format!("/api/v1/query?query={name}%5B10m%5D&time={}.{:03}", end_ms / 1000, end_ms % 1000);
    let (status, text) = call(at, "GET", &path, &[], Vec::new()).await;
    assert_eq!(status, 200, "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let Some(series) = document["data"]["result"].get(0) else { return Vec::new() };
    assert_eq!((series["metric"]["host"].as_str(), series["metric"]["role"].as_str()), (Some("web-1"), Some("web")));
    let pairs = series["values"].as_array().unwrap().iter();
    pairs.map(|pair| (ms(pair[0].as_f64().unwrap()), pair[1].as_str().unwrap().parse().unwrap())).collect()
}

/// What victoria-metrics exports of a selector: the labels and the samples of each series.
async fn exported(at: SocketAddr, selector: &str) -> Vec<(Value, Vec<(i64, f64)>)> {
    let path = format!("/api/v1/export?match%5B%5D={}&end=9999999999", escaped(selector));
    let (status, text) = call(at, "GET", &path, &[], Vec::new()).await;
    assert_eq!(status, 200, "{text}");
    let of = |line: &str| {
        let document: Value = serde_json::from_str(line).unwrap();
        let times = document["timestamps"].as_array().unwrap().iter().map(|at| at.as_i64().unwrap());
        let values = document["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
        (document["metric"].clone(), times.zip(values).collect())
    };
    text.lines().map(of).collect()
}

/// The samples of the one series of ours that victoria-metrics has under a name.
async fn exported_of_web_1(at: SocketAddr, name: &str) -> Vec<(i64, f64)> {
    let Some((labels, samples)) = exported(at, name).await.into_iter().next() else { return Vec::new() };
    assert_eq!((labels["host"].as_str(), labels["role"].as_str()), (Some("web-1"), Some("web")));
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_report_is_held_by_prometheus_and_victoria_metrics_as_it_is_here() {
    let (Some(program), Some(victoria)) = (program("prometheus"), program("victoria-metrics")) else { return };
    let prometheus = prometheus(&program, None).await;
    let victoria = ready(Peer::victoria(&victoria).unwrap(), "/health").await;
    let url = |peer: &Peer| format!("http://{}/api/v1/write", peer.at);
    let (world, papers) = start(vec![to("prometheus", url(&prometheus)), to("victoria", url(&victoria))]).await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let begin = wall_ms() + 1_000;
    for n in 0..120i64 {
        push(&mut agent, n.cast_unsigned() + 1, n, begin + n * 1_000 + n % 7).await;
    }
    let end = begin + 121_000;
    for name in ["node_load1", "node_cpu_seconds_total"] {
        let here = stored(http(&world), name, end).await;
        assert_eq!(here.len(), 120);
        until("the same samples in prometheus", async || {
            (stored(prometheus.at, name, end).await == here).then_some(())
        })
        .await;
        until("the same samples in victoria-metrics", async || {
            (exported_of_web_1(victoria.at, name).await == here).then_some(())
        })
        .await;
    }
    world.stop().await;
}

/// Every sample of a selector up to a moment, by the labels of its series.
async fn samples(at: SocketAddr, selector: &str, end_ms: i64) -> BTreeMap<String, Vec<(i64, f64)>> {
    let query = escaped(&format!("{selector}[10m]"));
    let path = format!("/api/v1/query?query={query}&time={}.{:03}", end_ms / 1000, end_ms % 1000);
    let (status, text) = call(at, "GET", &path, &[], Vec::new()).await;
    assert_eq!(status, 200, "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let of = |series: &Value| {
        let pairs = series["values"].as_array().unwrap().iter();
        let samples = pairs.map(|pair| (ms(pair[0].as_f64().unwrap()), pair[1].as_str().unwrap().parse().unwrap()));
        (series["metric"].to_string(), samples.collect())
    };
    document["data"]["result"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_victoria_metrics_agent_sends_is_here_as_it_is_there_and_its_rules_are_answered() {
    let Some(program) = program("victoria-metrics") else { return };
    let world = with_token(|_| {}).await;
    let ours = http(&world);
    let victoria = ready(Peer::victoria(&program).unwrap(), "/health").await;
    let urls = [ours, victoria.at].map(|at| format!("http://{at}/api/v1/write"));
    let agent = vmagent(&program, &urls).await;
    let rules =
        "groups:\n- name: a\n  interval: 1s\n  rules:\n  - record: job:up:count\n    expr: count by (job) (up == 1)\n";
    let rules = vmalert(&program, ours, rules).await;
    let selector = "{job=\"vmagent\",__name__!=\"job:up:count\"}";
    until("the same scrapes of the agent here and there", async || {
        let there: BTreeMap<String, Vec<(i64, f64)>> =
            exported(victoria.at, selector).await.into_iter().map(|(labels, of)| (labels.to_string(), of)).collect();
        // What was scraped last is not everywhere yet.
        let scraped = there.values().map(|of| of.len()).max().filter(|most| *most > 4)?;
        let until_ms = there.values().filter_map(|of| Some(of.get(scraped.checked_sub(3)?)?.0)).min()?;
        let before = |all: BTreeMap<String, Vec<(i64, f64)>>| {
            let all =
                all.into_iter().map(|(labels, of)| (labels, of.into_iter().filter(|at| at.0 <= until_ms).collect()));
            all.filter(|(_, of): &(_, Vec<_>)| !of.is_empty()).collect::<Vec<_>>()
        };
        let (here, there) = (before(samples(ours, selector, wall_ms()).await), before(there));
        (there.len() > 100 && close(&here, &there)).then_some(())
    })
    .await;
    until("what its rule says every second", async || {
        let said = samples(ours, "job:up:count", wall_ms()).await;
        let (labels, said) = said.first_key_value().filter(|(_, said)| said.len() > 3)?;
        assert!(labels.contains("\"job\":\"vmagent\""), "{labels}");
        said.iter().all(|(_, value)| *value == 1.0).then_some(())
    })
    .await;
    drop((agent, rules, victoria));
    world.stop().await;
}

/// Whether series are the same, and values but for the last of their digits: victoria-metrics keeps them in decimals.
fn close(here: &[(String, Vec<(i64, f64)>)], there: &[(String, Vec<(i64, f64)>)]) -> bool {
    let is_close = |a: &(i64, f64), b: &(i64, f64)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * a.1.abs();
    let are_close =
        |a: &[(i64, f64)], b: &[(i64, f64)]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b));
    here.len() == there.len() && here.iter().zip(there).all(|(a, b)| a.0 == b.0 && are_close(&a.1, &b.1))
}

/// Whether series and values are the same, bit by bit.
fn same(here: &[(String, Vec<(i64, f64)>)], there: &[(String, Vec<(i64, f64)>)]) -> bool {
    let bits = |points: &[(i64, f64)]| points.iter().map(|(at, value)| (*at, value.to_bits())).collect::<Vec<_>>();
    here.len() == there.len() && here.iter().zip(there).all(|(a, b)| a.0 == b.0 && bits(&a.1) == bits(&b.1))
}
