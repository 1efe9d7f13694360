//! A host that brings more series than it may: what is over is dropped, counted and named, and nothing else suffers.

use mainstay_collector::clock::wall_ms;
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;

use crate::agent::{Agent, EPOCH, at, hello, item};
use crate::room::get;
use crate::world::World;

/// A summary of counters `m0`, `m1` …, by their numbers.
fn summary(series: std::ops::Range<u32>, wall_ms: i64) -> v1::Summary {
    v1::Summary {
        at: at(wall_ms),
        window_ms: 10_000,
        samples: 10,
        counters: series.clone().map(f64::from).collect(),
        counter_ids: series.collect(),
        ..v1::Summary::default()
    }
}

fn definitions(series: std::ops::Range<u32>) -> Vec<v1::SeriesDef> {
    let key = |n| v1::SeriesKey { name: format!("m{n:05}"), labels: Vec::new() };
    series.map(|n| v1::SeriesDef { id: n, key: Some(key(n)) }).collect()
}

async fn bring(agent: &mut Agent, seq: u64, define: Vec<v1::SeriesDef>, summary: v1::Summary) {
    let items = vec![item(seq, v1::item::Of::Summary(summary))];
    agent.say(Say::Push(v1::Push { epoch: EPOCH, define, items, ..Default::default() })).await;
    let heard = agent.hear().await;
    assert!(matches!(heard, Some(Hear::Ack(_))), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_brings_beyond_its_limit_is_dropped_counted_and_named() {
    let world = World::start_with(|settings| settings.series_per_host = 3).await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let ops = world.operator("ops", "viewer").await;
    let host = async || {
        let request = v1::GetHostRequest { host: "web-1".to_owned() };
        let answer = world.queries(&ops).await.get_host(request).await.unwrap().into_inner();
        let mut names: Vec<_> = answer.values.into_iter().map(|value| value.key.unwrap().name).collect();
        names.sort();
        (names, answer.host.unwrap().notes)
    };
    // The end of a slot of ten minutes lies between the second and the third.
    let slot = wall_ms() / 600_000 * 600_000;
    bring(&mut agent, 1, definitions(0..20), summary(4..9, slot - 20_000)).await;
    let note = "2 of its 5 series are dropped: see `series_per_host` in collector.toml";
    assert_eq!(host().await, (["m00004", "m00005", "m00006"].map(String::from).to_vec(), vec![note.to_owned()]));
    let metrics = get(&world, "/metrics").await;
    assert!(metrics.contains("mainstay_collector_points_dropped_total 2\n"), "{metrics}");
    assert!(metrics.contains("mainstay_collector_hosts_over_series 1\n"), "{metrics}");

    bring(&mut agent, 2, Vec::new(), summary(6..9, slot - 10_000)).await;
    assert_eq!(host().await.0, ["m00006"], "places are given anew with the next slot only");
    bring(&mut agent, 3, Vec::new(), summary(6..9, slot + 10_000)).await;
    assert_eq!(host().await, (["m00006", "m00007", "m00008"].map(String::from).to_vec(), Vec::new()));
    assert!(get(&world, "/metrics").await.contains("mainstay_collector_points_dropped_total 4\n"));
    assert!(get(&world, "/metrics").await.contains("mainstay_collector_hosts_over_series 0\n"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_as_many_series_as_an_agent_has_is_heard() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    bring(&mut agent, 1, definitions(0..20_000), summary(0..20_000, wall_ms())).await;
    let request = v1::ListHostsRequest::default();
    let ops = world.operator("ops", "viewer").await;
    let hosts = world.queries(&ops).await.list_hosts(request).await.unwrap().into_inner().hosts;
    assert!(hosts[0].notes[0].starts_with("10000 of its 20000 series are dropped"), "{:?}", hosts[0].notes);
    world.stop().await;
}
