//! Thousands of hosts at one collector: what taking their summaries in costs, how long acknowledgements, a storm of
//! reconnects and a policy take, and what a sample takes on the wire, as `docs/performance.md` shows.
//!
//! Run beside the collector's own program, which is a process of its own (COLLECTOR names another one):
//!
//! ```text
//! cargo build --release -p mainstay-collector && cargo run --release -p mainstay-collector --example load
//! ```
//!
//! SESSIONS and LIVE_SECONDS set how many hosts send live and for how long (default 10,000 hosts, 620 s: a slot ends in it),
//! SERIES how many series each has (300; of a recording no more, taken from all over it), BEHIND and SUMMARIES how many hosts catch up at once and on how many summaries (200
//! hosts, 360 summaries), ROUNDS how often each question is asked (300), RECORDING a recording (`bench/record.rs`) to replay
//! instead of made values, CONFIG more lines of the collector's configuration (a cache of 256 MiB). ONLY some of: wire,
//! behind, peers, live, storm, offer, asked. For the last SESSIONS hosts bring SUMMARIES each, over their sessions, before
//! they are asked about: five minutes on two cores of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;

#[path = "remote_peers.rs"]
mod peers;
#[allow(dead_code)] // the test of it uses more
#[path = "load/mod.rs"]
mod play;
#[path = "peers.rs"]
mod programs;
#[path = "recording.rs"]
mod recording;
#[path = "remote_write.rs"]
mod remote_write;
#[path = "shapes.rs"]
mod shapes;
#[allow(dead_code)] // beside-peers uses more
#[path = "values.rs"]
mod values;

use play::fleet::Fleet;
use play::papers::enrol;
use play::process::{Process, raise_file_limit};
use play::tally::Tally;
use play::trials::{self, Taken};
use values::{Gauges, SAMPLES, Series, Values};

/// Longest that any part may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Longest that the history of all hosts may take.
const LIMIT_OF_HISTORY: Duration = Duration::from_secs(3_600);
/// What a collector of 10,000 hosts is given that has a gibibyte.
const CONFIG: &str = "cache = \"256MiB\"";
/// Between two summaries of a host.
const EVERY: Duration = Duration::from_secs(10);
/// Summaries between two whose bytes are counted: what names the series is sent once.
const WIRE_SUMMARIES: u64 = 360;
/// Series of a host at work.
const WIRE_SERIES: usize = 750;

struct Plan {
    program: PathBuf,
    config: String,
    sessions: usize,
    lasting: Duration,
    series: usize,
    behind: usize,
    summaries: u64,
    rounds: usize,
    recording: Option<String>,
    only: String,
}

fn number(name: &str, default: usize) -> Result<usize> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}: `{text}` is no number")))
}

impl Plan {
    fn read() -> Result<Self> {
        let beside =
            std::env::current_exe()?.parent().and_then(Path::parent).context("a folder")?.join("mainstay-collector");
        let recording = std::env::var_os("RECORDING");
        let read = |file| {
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", PathBuf::from(file).display()))
        };
        Ok(Self {
            program: std::env::var_os("COLLECTOR").map_or(beside, PathBuf::from),
            config: std::env::var("CONFIG").unwrap_or_else(|_| CONFIG.to_owned()),
            sessions: number("SESSIONS", 10_000)?,
            lasting: Duration::from_secs(number("LIVE_SECONDS", 620)? as u64),
            series: number("SERIES", 300)?,
            behind: number("BEHIND", 200)?,
            summaries: number("SUMMARIES", 360)? as u64,
            rounds: number("ROUNDS", 300)?,
            recording: recording.map(read).transpose()?,
            only: std::env::var("ONLY").unwrap_or_default(),
        })
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.split([',', ' ']).any(|one| one == part)
    }

    fn recorded(&self) -> Result<Option<Series>> {
        self.recording.as_deref().map(|text| Series::recorded(text, SAMPLES)).transpose()
    }

    /// What each of many hosts has.
    fn series(&self) -> Result<Arc<Series>> {
        let recorded = self.recorded()?.map(|series| series.some(self.series));
        Ok(Arc::new(recorded.unwrap_or_else(|| Series::made(self.series))))
    }

    fn origin(&self) -> &'static str {
        if self.recording.is_some() { "recorded" } else { "made" }
    }

    async fn start(&self, folder: &Path, hosts: usize, series: &Arc<Series>) -> Result<World> {
        let process = Process::start(&self.program, folder, &self.config).await?;
        let papers = enrol(&process, hosts).await?;
        let fleet_id = papers.first().context("a host at least")?.fleet;
        let key = SigningKey::from_bytes(&[7; 32]);
        let fleet = Fleet::start(&process, papers, series, &key)?;
        Ok(World { process, fleet, fleet_id, key })
    }
}

/// A collector, and the hosts that have sessions with it.
struct World {
    process: Process,
    fleet: Fleet,
    fleet_id: [u8; 16],
    key: SigningKey,
}

impl World {
    /// Waits until every host has a session for the first time.
    async fn connected(&self) -> Result<Duration> {
        self.fleet.until("sessions", LIMIT, |tally| Tally::get(&tally.connected) == self.fleet.size()).await
    }

    async fn end(self) {
        self.fleet.end().await;
    }
}

fn main() -> Result<()> {
    let plan = Plan::read()?;
    let files = raise_file_limit()?;
    ensure!(files > plan.sessions as u64 + 100, "{files} open files are too few for {} sessions", plan.sessions);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if plan.wants("wire") {
            wire(&plan, Gauges::Sampled).await?;
            wire(&plan, Gauges::ReadOnce).await?;
        }
        if plan.wants("behind") {
            behind(&plan).await?;
        }
        if plan.wants("peers") {
            peers(&plan).await?;
        }
        if plan.wants("live") || plan.wants("storm") || plan.wants("offer") {
            connected(&plan).await?;
        }
        if plan.wants("asked") {
            asked(&plan).await?;
        }
        Ok(())
    })
}

fn row(what: &str, value: impl std::fmt::Display, goal: &str) {
    println!("| {what} | {value} | {goal} |");
}

fn heading(text: &str) {
    println!("\n{text}\n\n| measured | figure | goal |\n| --- | --- | --- |");
}

fn shown(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What a changing sample takes on the wire, beside remote write. Read once, both have the same of a gauge: its last value.
async fn wire(plan: &Plan, gauges: Gauges) -> Result<()> {
    let series = plan.recorded()?.unwrap_or_else(|| Series::made(WIRE_SERIES));
    let series = Arc::new(series.with(gauges));
    let folder = tempfile::tempdir()?;
    let world = plan.start(folder.path(), 1, &series).await?;
    world.connected().await?;
    let Taken { points, changed, changed_values, up, down, messages, bodies, acks, .. } =
        trials::wire(&world.process, &world.fleet, WIRE_SUMMARIES).await?;
    world.end().await;
    let each = |bytes: u64| format!("{:.2} bytes", bytes as f64 / changed as f64);
    let a_push = |bytes: u64| format!("{:.1} bytes", bytes as f64 / acks.count() as f64);
    let summaries = (points / series.len() as u64).max(1);
    heading(&format!(
        "On the wire: one host of {} {} series, gauges {}, {} of them changing in the mean summary, {} values; TLS, HTTP/2, gRPC counted",
        series.len(),
        plan.origin(),
        match gauges {
            Gauges::Sampled => "sampled each second",
            Gauges::ReadOnce => "read once",
        },
        changed / summaries,
        changed_values / summaries,
    ));
    row("a series that changed, from the host", each(up), "1.8");
    row("a value that changed, from the host", format!("{:.2} bytes", up as f64 / changed_values as f64), "1.8");
    row("a series that changed, acknowledgements too", each(up + down), "");
    row("a push", a_push(up), "");
    row("of that, what it is there for", a_push(bodies), "");
    row("around that in its message", a_push(messages - bodies), "");
    row("around the message: TLS, HTTP/2, gRPC", a_push(up - messages), "");
    row("an acknowledgement", a_push(down), "");
    let sizes = remote_write::sizes(&mut Values::of(&series, 0), WIRE_SUMMARIES);
    row(
        "remote write 1.0 of the last values, from the host",
        format!("{:.2} bytes", sizes.up as f64 / sizes.changed as f64),
        "",
    );
    row("the same, answers too", format!("{:.2} bytes", (sizes.up + sizes.down) as f64 / sizes.changed as f64), "");
    Ok(())
}

/// What is to be reached where hosts send; empty where it is not measured by that.
struct Goals {
    per_core: &'static str,
    within: &'static str,
    memory: &'static str,
}

/// Of hosts that send as it comes about, and of those that bring what they kept.
const LIVE: Goals = Goals { per_core: "500,000", within: "1 s", memory: "1024 MiB" };
const BEHIND: Goals = Goals { within: "", memory: "", ..LIVE };
/// While it is asked, too: most of its time goes into answers, and it has just taken an hour in.
const ASKED: Goals = Goals { per_core: "", memory: "", ..LIVE };

fn print_taken(taken: &Taken, goals: &Goals) {
    row("samples acknowledged as durable", taken.points, "");
    row("in", shown(taken.took), "");
    row("samples a second and core of the collector", format!("{:.0}", taken.points_per_core_second()), goals.per_core);
    row("CPU seconds of it for a million samples", format!("{:.2}", taken.cpu_seconds_per_million()), "");
    let cores = |cpu_seconds: f64| format!("{:.2}", cpu_seconds / taken.took.as_secs_f64());
    row("cores that it kept busy", cores(taken.cpu_seconds), "");
    row("cores that the hosts kept busy", cores(taken.own_cpu_seconds), "");
    row("acknowledgements", taken.acks.count(), "");
    for (percent, goal) in [(50, ""), (99, goals.within), (100, "")] {
        row(&format!("acknowledged within, {percent} of 100"), shown(taken.acks.percentile(percent)), goal);
    }
    row("memory of the collector, resident at the end", mib(taken.usage.rss_bytes), goals.memory);
    row("the most since its start", mib(taken.usage.peak_bytes), goals.memory);
}

/// Hosts that were cut off send what they kept.
async fn behind(plan: &Plan) -> Result<()> {
    let series = plan.series()?;
    let folder = tempfile::tempdir()?;
    let world = plan.start(folder.path(), plan.behind, &series).await?;
    world.connected().await?;
    let taken = trials::catch_up(&world.process, &world.fleet, plan.summaries, LIMIT).await?;
    heading(&format!(
        "{} hosts catch up on {} summaries of {} {} series each",
        plan.behind,
        plan.summaries,
        series.len(),
        plan.origin(),
    ));
    print_taken(&taken, &BEHIND);
    row("bytes of the store's files", mib(world.process.disk_bytes()), "");
    world.end().await;
    Ok(())
}

/// The same samples in what Debian has.
async fn peers(plan: &Plan) -> Result<()> {
    let series = plan.series()?;
    for peer in peers::PEERS {
        let cost = peer.feed(&series, u32::try_from(plan.behind)?, plan.summaries).await?;
        heading(&format!("the same, last values alone, in {} over remote write without TLS", peer.name));
        row("samples taken", cost.samples, "");
        row("in", shown(cost.took), "");
        let million = cost.samples as f64 / 1e6;
        row("CPU seconds of it for a million samples", format!("{:.2}", cost.usage.cpu_seconds / million), "");
        row("memory, the most since its start", mib(cost.usage.peak_bytes), "");
        row("bytes of its files", mib(cost.disk_bytes), "");
    }
    Ok(())
}

/// Hosts that are connected send as they measure, come back from a crash of the collector, and are offered a policy.
async fn connected(plan: &Plan) -> Result<()> {
    let series = plan.series()?;
    let folder = tempfile::tempdir()?;
    let mut world = plan.start(folder.path(), plan.sessions, &series).await?;
    let first = world.connected().await?;
    heading(&format!(
        "{} hosts of {} {} series, a collector with {}",
        plan.sessions,
        series.len(),
        plan.origin(),
        plan.config,
    ));
    row("first sessions of all", shown(first), "");
    row("memory of the collector with them", mib(world.process.usage()?.rss_bytes), "");
    if plan.wants("live") {
        // The first summary of a session names its series.
        let begun = trials::live(&world.process, &world.fleet, EVERY, EVERY).await?;
        row("memory of it when each has named its series", mib(begun.usage.rss_bytes), "");
        row(
            "CPU seconds of it for that, a thousand hosts",
            format!("{:.2}", begun.cpu_seconds * 1e3 / begun.acks.count() as f64),
            "",
        );
        row("that acknowledged within, 99 of 100, all hosts in ten seconds", shown(begun.acks.percentile(99)), "");
        let taken = trials::live(&world.process, &world.fleet, EVERY, plan.lasting).await?;
        heading(&format!("a summary of each every 10 s, for {} s", plan.lasting.as_secs()));
        print_taken(&taken, &LIVE);
        row("broken sessions", world.fleet.tally().told_broken(), "0");
    }
    if plan.wants("offer") {
        offer(&world, 1).await?;
    }
    if plan.wants("storm") {
        let storm = trials::storm(&mut world.process, &world.fleet, LIMIT).await?;
        heading("the collector is killed and started again, all come back at once");
        row("ready again after", shown(storm.ready), "5 s");
        row("all have sessions after", shown(storm.served), "60 s");
        row("half of them after", shown(storm.welcomes.percentile(50)), "");
        row("attempts that were put off", storm.put_off, "");
        row("attempts without an answer", storm.failed, "");
        row("hosts refused for good", storm.refused, "0");
        row("acknowledged summaries that it no longer knew", storm.forgotten, "0");
        row("memory of the collector, the most since its start", mib(world.process.usage()?.peak_bytes), "1024 MiB");
    }
    world.end().await;
    Ok(())
}

/// Hosts bring an hour each and go on sending, and are asked about meanwhile.
async fn asked(plan: &Plan) -> Result<()> {
    let series = plan.series()?;
    let folder = tempfile::tempdir()?;
    let world = plan.start(folder.path(), plan.sessions, &series).await?;
    world.connected().await?;
    let taken = trials::catch_up(&world.process, &world.fleet, plan.summaries, LIMIT_OF_HISTORY).await?;
    let (hosts, summaries) = (plan.sessions, plan.summaries);
    heading(&format!(
        "{hosts} hosts bring {summaries} summaries of {} series each, a collector with {}",
        series.len(),
        plan.config
    ));
    print_taken(&taken, &BEHIND);
    row("bytes of the store's files", mib(world.process.disk_bytes()), "");
    row("broken sessions", world.fleet.tally().told_broken(), "0");
    let (asked, taken) = trials::asked(&world.process, &world.fleet, EVERY, plan.rounds).await?;
    println!(
        "\nasked over HTTP, {} times each, while every host sends every 10 s\n\n| question | first, ms | p50, ms | p99, ms | goal, ms | the slowest: which, ms |\n| --- | --- | --- | --- | --- | --- |",
        plan.rounds
    );
    let ms = |took: Duration| format!("{:.1}", took.as_secs_f64() * 1e3);
    for one in asked {
        let [first, half, most] = [one.first(), one.percentile(50), one.percentile(99)].map(ms);
        let slowest = one.slowest(6).into_iter().map(|(round, took)| format!("{round}: {}", ms(took)));
        let slowest = slowest.collect::<Vec<_>>().join(", ");
        println!("| `{}` | {first} | {half} | {most} | {} | {slowest} |", one.question, one.goal_ms);
    }
    heading("what was sent meanwhile");
    print_taken(&taken, &ASKED);
    row("broken sessions", world.fleet.tally().told_broken(), "0");
    world.end().await;
    Ok(())
}

async fn offer(world: &World, generation: u64) -> Result<()> {
    let offered = trials::offer(&world.process, &world.fleet, world.fleet_id, &world.key, generation, LIMIT).await?;
    heading("a policy is pushed to all of them");
    for (percent, goal) in [(50, ""), (99, "2 s"), (100, "")] {
        let took = offered.effective.percentile(percent);
        row(&format!("verified and in force within, {percent} of 100"), shown(took), goal);
    }
    row("the collector shows all of them under it after", shown(offered.shown), "");
    Ok(())
}
