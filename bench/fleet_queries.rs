//! Questions about a large fleet, timed: the hosts' series are written through the real store, then asked while they go on
//! sending, as `docs/performance.md` shows.
//!
//! FLEET_HOSTS, FLEET_SERIES and FLEET_MINUTES set the fleet (default 10,000 hosts, 300 series, 85 minutes: a joined hour,
//! two sealed slots and five minutes of open rows), FLEET_ROUNDS how often each question is asked (default 300), FLEET_FOLDER
//! a folder that is written once and used again. With FLEET_OWN=1 each host has units that no other has, as containers are
//! named: no two hosts have the same series then.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use mainstay_collector::config::Settings;
use mainstay_collector::enrol::authority::Authority;
use mainstay_collector::hub::Hub;
use mainstay_collector::query::fleet::Fleet;
use mainstay_collector::query::names::{self, Names};
use mainstay_collector::query::{self, Stop, TIMEOUT};
use mainstay_collector::services;
use mainstay_collector::store::keys::{FindingByTimeKey, FindingKey, HostKey, ended};
use mainstay_collector::store::read::Read;
use mainstay_collector::store::schema::Schema;
use mainstay_collector::store::{Batch, Store};
use mainstay_core::id::{FindingId, HostId};
use mainstay_fleet::block::Row;
use mainstay_promql::{Limits, Span, evaluate, parse};
use mainstay_proto::v1;

#[path = "fleet.rs"]
mod fleet;
#[path = "shapes.rs"]
mod shapes;

use fleet::{Plan, STEP_MS};

/// Findings that are looked through for a word, and how often.
const FINDINGS: u64 = 200_000;
const FINDINGS_ROUNDS: u32 = 10;
/// How often a question about all units of all hosts is asked.
const MANY_SERIES_ROUNDS: u32 = 20;
/// The beginning of an hour: questions say when they are of, so that the figures do not hang on the time of day.
const WALL: i64 = 1_800_000_000_000;

fn number(name: &str, default: u32) -> Result<u32> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}: `{text}` is no number")))
}

fn main() -> Result<()> {
    let plan = Plan {
        hosts: number("FLEET_HOSTS", 10_000)?,
        series: number("FLEET_SERIES", 300)? as usize,
        own_units: number("FLEET_OWN", 0)? != 0,
        from_ms: WALL,
        to_ms: WALL + i64::from(number("FLEET_MINUTES", 85)?) * 60_000,
    };
    let rounds = number("FLEET_ROUNDS", 300)?;
    let temporary = tempfile::tempdir()?;
    let folder = std::env::var("FLEET_FOLDER").map_or_else(|_| temporary.path().to_owned(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(plan, rounds, folder))
}

async fn measure(plan: Plan, rounds: u32, folder: PathBuf) -> Result<()> {
    let mut settings = Settings::for_tests(&folder);
    settings.cache_bytes = 512 << 20;
    let path = settings.data.join("db");
    std::fs::create_dir_all(&settings.data)?;
    let store = Arc::new(Store::open(&path, settings.cache_bytes, 0)?);
    let hosts = store.scan::<HostKey>(&HostKey::all(), &HostKey::all()).count();
    let started = Instant::now();
    let stored = i64::from(plan.hosts) * (plan.to_ms - plan.from_ms) / STEP_MS * i64::try_from(plan.series)?;
    if hosts == 0 {
        fleet::write(&store, plan).await?;
        let took = started.elapsed().as_secs_f64();
        println!(
            "{} hosts, {} series each{}, {} minutes: {:.1} million points written in {took:.0} s ({:.0} a second)",
            plan.hosts,
            plan.series,
            if plan.own_units { ", those of units under names that no other host has" } else { "" },
            (plan.to_ms - plan.from_ms) / 60_000,
            stored as f64 / 1e6,
            stored as f64 / took,
        );
    }
    drop(store);
    let store = Store::open(&path, settings.cache_bytes, 0)?;
    println!(
        "{:.0} MB in tables, {:.2} bytes a point",
        store.live_bytes() as f64 / 1e6,
        store.live_bytes() as f64 / stored as f64
    );
    let authority = Authority::open_or_make(&settings.data.join("ca"), WALL)?;
    let hub = Hub::start(store, authority, Arc::new(settings), ([127, 0, 0, 1], 1).into()).await?;
    let sending = Arc::new(AtomicBool::new(true));
    let sent = Arc::new(AtomicU64::new(0));
    let rows = last_rows(&hub.store, plan)?;
    let sender = tokio::spawn(send(hub.clone(), rows, sending.clone(), sent.clone()));
    let asked = {
        let hub = hub.clone();
        // As a collector does in its first minutes.
        let of = hub.clone();
        let started = Instant::now();
        tokio::task::spawn_blocking(move || while_any(|| of.store.tend())).await??;
        println!(
            "who had which series was read in {:.2} s: {} hours, {:.2} MB",
            started.elapsed().as_secs_f64(),
            hub.store.presence.hours(),
            hub.store.presence.bytes() as f64 / 1e6,
        );
        store_findings(&hub, plan).await?;
        tokio::task::spawn_blocking(move || questions(&hub, plan, rounds)).await?
    };
    sending.store(false, Ordering::Relaxed);
    sender.await??;
    println!("meanwhile {} summaries were stored", sent.load(Ordering::Relaxed));
    println!("peak memory of this process: {}", peak().unwrap_or_default());
    asked
}

/// Goes on as long as there is anything to do.
fn while_any<E>(mut work: impl FnMut() -> Result<bool, E>) -> Result<(), E> {
    while work()? {}
    Ok(())
}

/// A host that goes on sending: its number, what it has named, and its last row.
type Sending = (u32, Arc<Schema>, Row);

/// All hosts where they were when they were written, with their names in memory as those of sessions are.
fn last_rows(store: &Store, plan: Plan) -> Result<Vec<Sending>> {
    let mut rows = Vec::new();
    for host in 1..=plan.hosts {
        rows.extend(store.last_row(host)?.map(|(schema, row)| (host, schema, row)));
    }
    Ok(rows)
}

/// Goes on sending: every host a summary each ten seconds.
async fn send(hub: Arc<Hub>, mut rows: Vec<Sending>, sending: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let each = rows.len().div_ceil(100).max(1);
    while sending.load(Ordering::Relaxed) {
        for rows in rows.chunks_mut(each) {
            ticks.tick().await;
            let mut batch = Batch::default();
            for (host, schema, row) in rows.iter_mut() {
                row.at_ms += STEP_MS;
                hub.store.put_row(&mut batch, *host, schema, row);
                sent.fetch_add(1, Ordering::Relaxed);
            }
            hub.store.commit(batch).await?;
            if !sending.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

/// Findings of all hosts, a second after one another: as many as are looked through for one answer.
async fn store_findings(hub: &Hub, plan: Plan) -> Result<()> {
    let ids: Vec<HostId> = hub.state().hosts.keys().copied().collect();
    for some in (0..FINDINGS).collect::<Vec<_>>().chunks(1_000) {
        let mut batch = Batch::default();
        for n in some {
            let (host, id) = (ids[usize::try_from(*n)? % ids.len()], FindingId(*n));
            let opened_ms = plan.from_ms - i64::try_from(*n)? * 1_000;
            let at = Some(v1::Now { boot_ns: 0, wall_ms: opened_ms });
            let text = format!("Result=exit-code, {n} restarts; used 96.1 % of 40 GiB, limit 95 %");
            let finding = v1::Finding {
                id: *n,
                kind: "service.failed".to_owned(),
                subject: Some(v1::Subject { of: Some(v1::subject::Of::Unit(format!("app-{}.service", n % 50))) }),
                state: "cleared".to_owned(),
                opened: at,
                changed: at,
                evidence: vec![v1::Evidence { text, measure: None }],
                ..v1::Finding::default()
            };
            batch.put(&FindingKey { host, finding: id }, &finding);
            batch.put_raw(&FindingByTimeKey { opened_ms, host, finding: id }, ended(Some(opened_ms)));
        }
        hub.store.commit(batch).await?;
    }
    Ok(())
}

fn questions(hub: &Hub, plan: Plan, rounds: u32) -> Result<()> {
    println!(
        "\n| question | first, ms | p50, ms | p99, ms | goal, ms | parts unpacked and open rows read, first | and last |\n|---|---|---|---|---|---|---|"
    );
    let mut cold = Vec::new();
    let at = Span::Instant { at_ms: plan.to_ms };
    let hour = Span::Range { start_ms: plan.to_ms - 3_600_000, end_ms: plan.to_ms, step_ms: 15_000 };
    for (query, goal, rounds) in [
        ("topk(10, avg_over_time(node_load1[1h]))", "500", rounds),
        ("sum by (role) (rate(node_network_receive_bytes_total{device=\"00\"}[5m]))", "500", rounds),
        // Two dozen series of each host.
        ("topk(10, mainstay_unit_memory_current_bytes)", "", rounds.min(MANY_SERIES_ROUNDS)),
    ] {
        for lanes in [1, 2] {
            hub.store.warm.forget();
            let name = format!("{query}` read by `{lanes}");
            cold.push(ask(&name, goal, rounds, |_| {
                let stop = Stop::after(TIMEOUT);
                let fleet = Fleet::of(hub, &stop).in_lanes(lanes);
                let answer = evaluate(&parse(query)?, at, &fleet, Limits::default(), &|| stop.now())?;
                Ok((fleet.seen().read, answer.samples))
            })?);
        }
    }
    for (query, span, goal) in [
        ("avg_over_time(node_load1{host=\"HOST\"}[1h])", at, "50"),
        ("sum by (cpu) (rate(node_cpu_seconds_total{host=\"HOST\"}[5m]))", hour, "50"),
        ("mainstay_unit_memory_current_bytes:max{host=\"HOST\"}", hour, "50"),
    ] {
        cold.push(ask(query, goal, rounds, |round| {
            let host = fleet::name(1 + round * 7_919 % plan.hosts);
            let outcome = query::run(hub, &query.replace("HOST", &host), span, &Stop::after(TIMEOUT))?;
            Ok((outcome.seen.read, outcome.answer.samples))
        })?);
    }
    let all = |text: &str| -> Result<Names> {
        let selectors = if text.is_empty() { Vec::new() } else { vec![mainstay_promql::parse_selector(text)?] };
        Ok(Names { selectors, span: (plan.to_ms - 3_600_000, plan.to_ms), limit: 100_000 })
    };
    for (label, selector) in [
        ("__name__", ""),
        ("host", ""),
        ("role", ""),
        ("unit", ""),
        ("unit", "{host=\"host-00001\"}"),
        ("device", "{role=~\"web|db\",rack!=\"r7\",__name__=~\"node_network_.*\"}"),
    ] {
        let names = all(selector)?;
        ask(&format!("values of label `{label}` {selector}"), "20", rounds, |_| {
            names::values(hub, label, &names, &Stop::after(TIMEOUT))?;
            Ok((Read::default(), 0))
        })?;
    }
    let search = Some(v1::Search { text: "nowhere to be found".to_owned(), ..v1::Search::default() });
    let request = v1::ListFindingsRequest { all: true, search, ..v1::ListFindingsRequest::default() };
    ask(&format!("a word looked for in {FINDINGS} findings"), "", rounds.min(FINDINGS_ROUNDS), |_| {
        let answer = services::findings::list(hub, &request, &Stop::after(TIMEOUT)).map_err(|why| anyhow!(why))?;
        ensure!(
            answer.findings.is_empty() && answer.looked_back_to_ms.is_none(),
            "it is nowhere, and all was looked at"
        );
        Ok((Read::default(), 0))
    })?;
    extrapolate(&cold);
    Ok(())
}

/// The first answer to a question: how long it took, and what was read for it.
struct First {
    question: String,
    ms: f64,
    read: Read,
    samples: u64,
}

/// What longer ranges would take, at the pace at which the first answer about an hour was read: what is read again is kept in
/// memory, and no more of it than fits. Of what is old only rollups are kept, which are fewer.
fn extrapolate(cold: &[First]) {
    let samples_max = Limits::default().samples_max;
    println!(
        "\n| over longer ranges, extrapolated from the parts that an hour of it reads | parts of a day | s | parts of a week | s |"
    );
    println!("|---|---|---|---|---|");
    for First { question, ms, read, samples } in cold {
        let of = |hours: u64| {
            let took = match samples * hours {
                samples if samples > samples_max => format!("refused: {} million samples", samples / 1_000_000),
                _ => format!("{:.1}", ms * hours as f64 / 1e3),
            };
            format!("{} | {took}", read.parts * hours)
        };
        println!("| `{question}` | {} | {} |", of(24), of(24 * 7));
    }
}

fn ask(name: &str, goal: &str, rounds: u32, mut one: impl FnMut(u32) -> Result<(Read, u64)>) -> Result<First> {
    let (mut took, mut reads, mut samples) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let started = Instant::now();
        let (read, of_it) = one(round)?;
        reads.push(read);
        samples = of_it;
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let first = took[0];
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[((took.len() - 1) * percent).div_ceil(100)];
    let read = |read: Read| format!("{}, {}", read.parts, read.rows);
    let (begin, end) = (read(reads[0]), read(reads[reads.len() - 1]));
    println!("| `{name}` | {first:.1} | {:.1} | {:.1} | {goal} | {begin} | {end} |", at(50), at(99));
    Ok(First { question: name.to_owned(), ms: first, read: reads[0], samples })
}

/// The most memory that this process had, in the kernel's words.
fn peak() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|rest| rest.trim().to_owned())
}
