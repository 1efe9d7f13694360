//! Capacity: weeks of history come from agents, and what they lead to is asked.

use std::f64::consts::TAU;

use mainstay_collector::clock::wall_ms;
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::query_service_client::QueryServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::agent::{Agent, EPOCH, at, hello, item};
use crate::world::World;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Points of an hour.
const POINTS: i64 = 3;
/// Summaries of one push.
const PUSH: usize = 500;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// A host whose CPUs are busiest at an hour of the day, and whose disk grows by a GiB a day.
struct Host {
    name: &'static str,
    hours: i64,
    busiest: f64,
    /// Whether it tells of its CPUs together, as hosts with many do.
    is_large: bool,
}

impl Host {
    /// CPUs at work, of two.
    fn busy(&self, at_ms: i64) -> f64 {
        let hour = (at_ms % DAY_MS) as f64 / HOUR_MS as f64;
        0.6 + 0.5 * ((hour - self.busiest) / 24.0 * TAU).cos() + 0.04 * noise(at_ms)
    }

    fn definitions(&self) -> Vec<v1::SeriesDef> {
        let disk = [("device", "/dev/vda1"), ("fstype", "ext4"), ("mountpoint", "/var")];
        let tmp = [("device", "tmpfs"), ("fstype", "tmpfs"), ("mountpoint", "/run")];
        let def = |id, name: &str, labels: &[(&str, &str)]| v1::SeriesDef {
            id,
            key: Some(v1::SeriesKey {
                name: name.to_owned(),
                labels: labels
                    .iter()
                    .map(|(n, v)| v1::Label { name: (*n).to_owned(), value: (*v).to_owned() })
                    .collect(),
            }),
        };
        let cpu = |id, cpu, mode| match self.is_large {
            true => def(id, "mainstay_cpu_seconds_total", &[("mode", mode)]),
            false => def(id, "node_cpu_seconds_total", &[("cpu", cpu), ("mode", mode)]),
        };
        vec![
            cpu(1, "0", "user"),
            cpu(2, "1", "system"),
            cpu(3, "0", "idle"),
            def(13, if self.is_large { "mainstay_cpus" } else { "node_load1" }, &[]),
            def(4, "node_network_receive_bytes_total", &[("device", "eth0")]),
            def(5, "node_memory_MemTotal_bytes", &[]),
            def(6, "node_memory_MemAvailable_bytes", &[]),
            def(7, "node_filesystem_size_bytes", &disk),
            def(8, "node_filesystem_free_bytes", &disk),
            def(9, "node_filesystem_avail_bytes", &disk),
            def(10, "node_filesystem_size_bytes", &tmp),
            def(11, "node_filesystem_free_bytes", &tmp),
            def(12, "node_filesystem_avail_bytes", &tmp),
        ]
    }

    /// What it sends, up to the last full hour.
    fn history(&self, end_ms: i64) -> Vec<v1::Summary> {
        let step = HOUR_MS / POINTS;
        let (mut work, mut received) = (0.0, 0.0);
        (0..=self.hours * POINTS)
            .map(|n| {
                let at_ms = end_ms - self.hours * HOUR_MS + n * step;
                work += self.busy(at_ms) * step as f64 / 1e3;
                received += (2e6 + 1e6 * self.busy(at_ms)) * step as f64 / 1e3;
                // 60 GiB when this ends, of 80, of which 4 are kept back for root.
                let used = 60.0 - (end_ms - at_ms) as f64 / DAY_MS as f64 + 0.05 * noise(at_ms);
                let available = 5.0 + 0.1 * noise(at_ms + 1);
                let gauges = [8.0, available, 80.0, 80.0 - used, 76.0 - used, 1.0, 0.9, 0.9];
                v1::Summary {
                    at: at(at_ms),
                    window_ms: u32::try_from(step).unwrap(),
                    samples: 10,
                    counter_ids: vec![1, 2, 3, 4],
                    counters: vec![work * 0.75, work * 0.25, at_ms as f64, received],
                    gauge_ids: (5..=13).collect(),
                    gauges: gauges.iter().map(|value| value * GIB).chain([2.0]).flat_map(|value| [value; 4]).collect(),
                    ..v1::Summary::default()
                }
            })
            .collect()
    }

    /// Enrols it and sends its history.
    async fn settle(&self, world: &World, end_ms: i64) {
        let papers = world.enrol(self.name).await;
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello(self.name)).await;
        let items: Vec<v1::Item> =
            (1..).zip(self.history(end_ms)).map(|(n, s)| item(n, v1::item::Of::Summary(s))).collect();
        for (n, items) in items.chunks(PUSH).enumerate() {
            let define = if n == 0 { self.definitions() } else { Vec::new() };
            agent.say(Say::Push(v1::Push { epoch: EPOCH, define, items: items.to_vec(), ..Default::default() })).await;
            let heard = agent.hear().await;
            assert!(matches!(heard, Some(v1::collector_message::Of::Ack(_))), "{} push {n}: {heard:?}", self.name);
        }
    }
}

/// From -1 to 1, without a pattern and always the same.
fn noise(seed: i64) -> f64 {
    let mixed = seed.unsigned_abs().wrapping_mul(6_364_136_223_846_793_005).rotate_left(29);
    (mixed.wrapping_mul(1_442_695_040_888_963_407) >> 40) as f64 / f64::from(1u32 << 23) - 1.0
}

async fn world(hosts: &[Host]) -> (World, QueryServiceClient<Channel>, i64) {
    let world = World::start().await;
    let end_ms = wall_ms() / HOUR_MS * HOUR_MS;
    for host in hosts {
        host.settle(&world, end_ms).await;
    }
    let ops = world.operator("ops", "viewer").await;
    let queries = world.queries(&ops).await;
    (world, queries, end_ms)
}

fn month() -> v1::CapacityRequest {
    v1::CapacityRequest { horizon_ms: 30 * DAY_MS.unsigned_abs(), ..Default::default() }
}

async fn ask(
    queries: &mut QueryServiceClient<Channel>,
    request: v1::CapacityRequest,
) -> Result<Vec<v1::CapacityView>, Status> {
    Ok(queries.capacity(request).await?.into_inner().rows)
}

fn row<'r>(rows: &'r [v1::CapacityView], subject: &str, resource: &str) -> &'r v1::CapacityView {
    let found = rows.iter().find(|row| row.subject == subject && row.resource == resource);
    found.unwrap_or_else(|| panic!("{subject} {resource} is not in {rows:#?}"))
}

const WEB_1: Host = Host { name: "web-1", hours: 24 * 24, busiest: 14.0, is_large: false };
const WEB_2: Host = Host { name: "web-2", hours: 24 * 24, busiest: 2.0, is_large: true };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_ahead_is_foretold_for_each_host_and_for_all_of_a_role() {
    let fresh = Host { name: "new-1", hours: 5, busiest: 0.0, is_large: false };
    let (world, mut queries, end_ms) = world(&[WEB_1, WEB_2, fresh]).await;

    let rows = ask(&mut queries, month()).await.unwrap();
    let cpu = row(&rows, "web-1", "cpu");
    assert_eq!((cpu.unfit.as_str(), cpu.limit), ("", Some(2.0)), "{cpu:#?}");
    // Every day is alike: whether the week has foretold it as well is up to the noise.
    assert!(["day", "week"].contains(&cpu.season.as_str()), "{cpu:#?}");
    assert!((1.05..1.15).contains(&cpu.expected) && cpu.high > cpu.expected && cpu.high < 1.3, "{cpu:#?}");
    assert!((cpu.headroom.unwrap() - (1.0 - cpu.high / 2.0)).abs() < 1e-9);
    assert_eq!((cpu.met_ms, cpu.earliest_ms), (None, None), "{cpu:#?}");
    // Hours ahead are counted from the last that is known: one more where the hour has just turned.
    assert!((30..=31).contains(&cpu.days.len()), "{cpu:#?}");
    assert_eq!((cpu.history_ms, cpu.completeness), (24 * DAY_MS.unsigned_abs(), 1.0));
    assert_eq!(cpu.resolution_ms.div_ceil(60_000), 20, "{cpu:#?}");

    // 60 of 76 GiB, one a day: full in 16 days.
    let disk = row(&rows, "web-1", "disk");
    assert_eq!((disk.part.as_str(), disk.limit), ("/var", Some(76.0 * GIB)));
    let days = |ms: Option<i64>| (ms.unwrap() - end_ms) as f64 / DAY_MS as f64;
    assert!((15.0..17.0).contains(&days(disk.met_ms)), "{} days: {disk:#?}", days(disk.met_ms));
    assert!(days(disk.earliest_ms) <= days(disk.met_ms) && days(disk.latest_ms) < 20.0, "{disk:#?}");
    assert!((disk.trend_per_day / GIB - 1.0).abs() < 0.1 && disk.headroom.unwrap() < 0.0, "{disk:#?}");
    assert!(!rows.iter().any(|row| row.part == "/run"), "what is in memory is no disk");

    let memory = row(&rows, "web-2", "memory");
    assert_eq!((memory.met_ms, memory.limit), (None, Some(8.0 * GIB)));
    assert!((memory.expected / GIB - 3.0).abs() < 0.2, "{memory:#?}");
    let net = row(&rows, "web-1", "net");
    assert_eq!((net.part.as_str(), net.limit, net.headroom, net.chance), ("eth0 in", None, None, None));

    let young = row(&rows, "new-1", "cpu");
    assert_eq!(young.unfit, "5 h of history: no forecast; a week is needed for a season by day");
    assert_eq!((young.expected, young.days.len()), (0.0, 0));

    // Together they are busy all day: the peak that they share is less than the two they have.
    let of_role = v1::CapacityRequest { by: "role".to_owned(), host_glob: "web-*".to_owned(), ..month() };
    let shared = ask(&mut queries, of_role).await.unwrap();
    let web = row(&shared, "web", "cpu");
    assert_eq!((web.hosts, web.limit), (2, Some(4.0)), "{web:#?}");
    let own = cpu.expected + row(&rows, "web-2", "cpu").expected;
    assert!((web.expected - 1.2).abs() < 0.1 && own > 2.1, "{} beside {own}", web.expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_answered_is_refused_with_what_could() {
    let short = Host { hours: 24 * 9, ..WEB_1 };
    let (world, mut queries, _) = world(&[short]).await;
    let refused = [
        (
            v1::CapacityRequest { by: "rol".to_owned(), ..month() },
            Code::InvalidArgument,
            "no host has a label `rol` (role)",
        ),
        (
            v1::CapacityRequest { resources: vec!["gpu".to_owned()], ..month() },
            Code::InvalidArgument,
            "`gpu` is no resource (cpu, memory, disk, net)",
        ),
        (
            v1::CapacityRequest { horizon_ms: 1_000, ..month() },
            Code::InvalidArgument,
            "capacity is foretold for an hour to 366 days ahead",
        ),
        (
            v1::CapacityRequest { full_at: 1.5, ..month() },
            Code::InvalidArgument,
            "a limit is met at a share of it above 0 and up to 1",
        ),
        (
            v1::CapacityRequest { host_glob: "db-*".to_owned(), ..month() },
            Code::NotFound,
            "no host has this name and these labels; `mainstay hosts` lists them",
        ),
    ];
    for (request, code, text) in refused {
        let status = ask(&mut queries, request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let rows = ask(&mut queries, month()).await.unwrap();
    let far = "9 d of history reach 18 d ahead: no forecast for 30 d; ask --for 18d";
    assert_eq!(row(&rows, "web-1", "cpu").unfit, far);
    let cpu_only =
        v1::CapacityRequest { resources: vec!["cpu".to_owned()], horizon_ms: 17 * DAY_MS.unsigned_abs(), ..month() };
    let rows = ask(&mut queries, cpu_only).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert!((1.05..1.2).contains(&rows[0].expected), "{rows:#?}");
    // A lower bar is met sooner.
    let half = v1::CapacityRequest { full_at: 0.5, horizon_ms: 17 * DAY_MS.unsigned_abs(), ..month() };
    let rows = ask(&mut queries, half).await.unwrap();
    assert!(row(&rows, "web-1", "cpu").met_ms.is_some(), "{rows:#?}");
    world.stop().await;
}
