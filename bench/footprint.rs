//! What Mainstay's agent costs on a host, beside the bare reads of the files that it reads and beside Debian's own agents
//! that sample once a second.
//!
//! The agent is measured as it runs in earnest: from the package, enrolled, with D-Bus and a session to its collector. The
//! floor (`floor.c`) reads exactly the kernel files that the agent was seen to read (`mainstay_tests::floor`), as often, and
//! throws them away. Both are measured in the same seconds, as the floor reads files of the agent's own unit and the ratio
//! shall not depend on what else the machine does; then the peers, one after the other. With FOOTPRINT_TOGETHER=1 all run
//! at once, for a machine that is not quiet. CPU is `usage_usec` of each unit's cgroup, ended processes included; the spread
//! is over windows of five seconds. Memory is from each process's `smaps_rollup`, the agent's with and without the actuator,
//! which is there for half a minute after it was asked something.
//!
//! FOOTPRINT_SECONDS sets how long each is measured (default 60); FOOTPRINT_ALONE=1 leaves the peers out;
//! FOOTPRINT_WINDOWS=1 lists every window.

mod agents;

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mainstay_tests::floor::{self, Plan};
use mainstay_tests::hosts::usage::{cpu_micros, mappings, memory_mib, processes};
use mainstay_tests::hosts::{Base, Host};
use mainstay_tests::site::Site;

use agents::PEERS;

/// Idle processes on the host, so that the work per process is of a realistic size.
const IDLE_PROCESSES: u32 = 200;

/// From start to first measurement: caches are warm, and start-up is not what is compared.
const SETTLE: Duration = Duration::from_secs(20);

/// How long the agent is watched for the plan of the floor: twice the minute after which everything was read once.
const TRACED: Duration = Duration::from_secs(120);

/// Between two looks: the windows of which the spread is shown.
const WINDOW: Duration = Duration::from_secs(5);

/// Mappings of Mainstay's agent that are listed, the largest first.
const MAPPINGS_SHOWN: usize = 14;

/// What the agent may take: so many times the floor, and so much memory.
const FLOORS_GOAL: f64 = 1.5;
const RSS_MIB_GOAL: f64 = 12.0;

const AGENT: &str = "mainstay-agent.service";
const ACTUATOR: &str = "mainstay-actuator.service";
const FLOOR: &str = "floor.service";

fn main() -> Result<()> {
    let seconds = std::env::var("FOOTPRINT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let (alone, together) = (is_set("FOOTPRINT_ALONE"), is_set("FOOTPRINT_TOGETHER"));
    let packages = if alone { &[][..] } else { agents::PACKAGES };
    let base = Base::with_packages(&[packages, &["strace"][..]].concat())?;
    let site = Site::installed(&["web-1"], Some(base))?;
    let host = site.host("web-1");
    host.start("idle", &format!("for n in $(seq {IDLE_PROCESSES}); do sleep infinity & done; wait"))?;
    agents::prepare(host)?;
    site.make_operator()?;
    site.make_policy_key()?;
    site.enrol("web-1", &site.token(1)?)?.ok()?;
    site.wait_online("web-1")?;

    let own = |name, units: &[&str]| Measured::new(name, units.iter().map(|unit| (*unit).to_owned()).collect());
    let mut first = vec![own("Mainstay agent", &[AGENT]), own("with its actuator", &[AGENT, ACTUATOR])];
    let peers = if alone { &[][..] } else { PEERS };
    if together {
        for peer in peers {
            first.extend(peer.start(host)?.map(|unit| Measured::new(peer.name, vec![unit])));
        }
    }
    sleep(SETTLE);
    start_floor(host)?;
    first.push(own("floor: its reads only", &[FLOOR]));

    println!("footprint on a booted host, {seconds} s each, {IDLE_PROCESSES} idle processes, sampling once a second");
    println!("CPU in ms per second: mean, and least to most of windows of {} s; memory in MiB", WINDOW.as_secs());
    measure(host, &mut first, seconds)?;
    compare(&first, host)?;
    show_mappings(host)?;
    if !together {
        host.must(&format!("systemctl stop {FLOOR} {AGENT} mainstay-actuator.socket {ACTUATOR}"))?;
        for peer in peers {
            let Some(unit) = peer.start(host)? else { continue };
            sleep(SETTLE);
            measure(host, &mut [Measured::new(peer.name, vec![unit])], seconds)?;
            peer.stop(host)?;
        }
    }
    Ok(())
}

/// Watches what the agent reads, and starts what reads the same.
fn start_floor(host: &Host) -> Result<()> {
    let pid: u32 = host.unit_property(AGENT, "MainPID")?.trim().parse()?;
    let begun = Instant::now();
    host.must(&format!(
        "mkdir -p /run/bench/trace && timeout -s INT {} strace -q -ff -y -s 0 -e trace={} -o /run/bench/trace/of -p {pid}; \
         test -s /run/bench/trace/of.{pid}",
        TRACED.as_secs(),
        floor::CALLS
    ))?;
    let mut plan = Plan::new(pid, begun.elapsed().as_secs_f64());
    for trace in host.must("ls /run/bench/trace")?.lines() {
        plan.take(&host.must(&format!("cat /run/bench/trace/{trace}"))?);
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/floor.c");
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("floor");
    let built = Command::new("cc").args(["-O2", "-static", "-o"]).args([&program, &source]).status().context("cc")?;
    ensure!(built.success(), "cc ends with {built}");
    host.copy_in(&program, "/usr/local/bin/floor", 0o755)?;
    host.push_file("/run/bench/plan", plan.text(), 0o644)?;
    let said = host.must("/usr/local/bin/floor /run/bench/plan check")?;
    let list = |rates: Vec<(&str, f64)>| {
        rates.iter().map(|(what, rate)| format!("{rate:.1} {what}")).collect::<Vec<_>>().join(", ")
    };
    println!(
        "the floor reads what the agent was seen to read in {} s, a second: {}",
        TRACED.as_secs(),
        list(plan.per_second())
    );
    println!("  {said}; left out, a second: {}", list(plan.left_out()));
    host.start(FLOOR, "exec /usr/local/bin/floor /run/bench/plan")
}

/// Measures these at the same time and says what they took.
fn measure(host: &Host, measured: &mut [Measured], seconds: u64) -> Result<()> {
    for one in &mut *measured {
        one.begin(host)?;
    }
    for _ in 0..u64::div_ceil(seconds, WINDOW.as_secs()) {
        sleep(WINDOW);
        for one in &mut *measured {
            one.look(host)?;
        }
    }
    measured.iter().try_for_each(|one| one.report(host))
}

/// Says how the agent stands beside its goals.
fn compare(measured: &[Measured], host: &Host) -> Result<()> {
    let mean = |name: &str| measured.iter().find(|one| one.name.starts_with(name)).map(Measured::mean);
    let (agent, both) = (mean("Mainstay").context("measured")?, mean("with").context("measured")?);
    let floor = mean("floor").context("measured")?;
    println!(
        "agent / floor: {:.2}, with its actuator {:.2} (goal: at most {FLOORS_GOAL})",
        agent / floor,
        both / floor
    );
    let pid = host.unit_property(AGENT, "MainPID")?;
    let status = host.must(&format!("grep -E '^(VmHWM|VmRSS)' /proc/{}/status", pid.trim()))?;
    let said: Vec<_> = status.split_whitespace().collect();
    println!("resident of the agent, as the kernel says (VmHWM: the most since its start): {}", said.join(" "));
    println!(
        "peak RSS: agent {:.1} MiB, with its actuator {:.1} (goal: at most {RSS_MIB_GOAL})",
        measured[0].peak_mib, measured[1].peak_mib
    );
    Ok(())
}

/// One agent while it is measured.
struct Measured {
    name: &'static str,
    units: Vec<String>,
    last: Vec<f64>,
    at: Instant,
    /// CPU in ms per second, window by window, with how long each was.
    windows: Vec<(f64, f64)>,
    peak_mib: f64,
}

impl Measured {
    fn new(name: &'static str, units: Vec<String>) -> Self {
        Self { name, units, last: Vec::new(), at: Instant::now(), windows: Vec::new(), peak_mib: 0.0 }
    }

    fn begin(&mut self, host: &Host) -> Result<()> {
        self.last = self.units.iter().map(|unit| cpu_micros(host, unit)).collect::<Result<_>>()?;
        self.at = Instant::now();
        Ok(())
    }

    fn look(&mut self, host: &Host) -> Result<()> {
        let mut used = 0.0;
        for (unit, last) in self.units.iter().zip(&mut self.last) {
            let now = cpu_micros(host, unit)?;
            // A unit that ended when it was idle begins again at nothing; it gives nothing back.
            used += if now >= *last { now - *last } else { now };
            *last = now;
        }
        let seconds = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        self.windows.push((used / 1000.0 / seconds, seconds));
        self.peak_mib = self.peak_mib.max(memory_mib(host, &self.units, "Rss")?);
        Ok(())
    }

    fn mean(&self) -> f64 {
        let seconds: f64 = self.windows.iter().map(|(_, seconds)| seconds).sum();
        self.windows.iter().map(|(cpu, seconds)| cpu * seconds).sum::<f64>() / seconds
    }

    fn report(&self, host: &Host) -> Result<()> {
        let name = self.name;
        if host.unit_property(&self.units[0], "ActiveState")? != "active" {
            println!("  {name:<22} did not stay up: not measured");
            return Ok(());
        }
        let mean = self.mean();
        let least = self.windows.iter().map(|(cpu, _)| *cpu).fold(f64::INFINITY, f64::min);
        let most = self.windows.iter().map(|(cpu, _)| *cpu).fold(0.0, f64::max);
        let (pss, count) = (memory_mib(host, &self.units, "Pss")?, processes(host, &self.units)?.len());
        let peak = self.peak_mib;
        println!(
            "  {name:<22} cpu {mean:7.2} ({least:6.2} to {most:6.2})   peak rss {peak:6.1}   pss {pss:6.1}   processes {count}"
        );
        if std::env::var_os("FOOTPRINT_WINDOWS").is_some() {
            println!("    {:.2?}", self.windows.iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>());
        }
        Ok(())
    }
}

/// Where the resident memory of the agent is, by mapping.
fn show_mappings(host: &Host) -> Result<()> {
    println!("where the memory of {AGENT} is, in KiB: resident, of that clean (from its file) and dirty");
    for mapping in mappings(host, AGENT)?.iter().take(MAPPINGS_SHOWN) {
        println!("  {:8.0} {:8.0} {:8.0}   {}", mapping.rss_kib, mapping.clean_kib, mapping.dirty_kib, mapping.name);
    }
    Ok(())
}
