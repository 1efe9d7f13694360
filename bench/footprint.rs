//! What Mainstay's agent costs on a host, beside Debian's own agents that sample once a second, all at the same time.
//!
//! The agent is measured as it runs in earnest: from the package, enrolled, with D-Bus and a session to its collector, the
//! actuator's processes counted too. All run at once on one host and are read in the same moments, so that whatever else
//! the machine does weighs on all of them alike. CPU is `usage_usec` of each unit's cgroup, which the scheduler counts in
//! nanoseconds of run time and not in ticks, ended processes included; the spread is over windows of five seconds. Memory
//! is from each process's `smaps_rollup`. At the end it says where Mainstay's memory is.
//!
//! FOOTPRINT_SECONDS sets how long is measured (default 60); FOOTPRINT_ALONE=1 leaves the peers out.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mainstay_tests::hosts::{Base, Host};
use mainstay_tests::site::Site;

/// Idle processes on the host, so that the work per process is of a realistic size.
const IDLE_PROCESSES: u32 = 200;

/// From start to first measurement: caches are warm, and start-up is not what is compared.
const SETTLE: Duration = Duration::from_secs(20);

/// Between two looks: the windows of which the spread is shown.
const WINDOW: Duration = Duration::from_secs(5);

/// Mappings of Mainstay's agent that are listed, the largest first.
const MAPPINGS_SHOWN: usize = 12;

/// Debian's packages of the peers.
const PEERS: &[&str] = &["monit", "prometheus-node-exporter", "collectd-core", "zabbix-agent2", "netdata-core"];

const COLLECTD: &str = "BaseDir \"/run/bench\"\nPIDFile \"/run/bench/collectd.pid\"\nInterval 1\n\
    LoadPlugin cpu\nLoadPlugin memory\nLoadPlugin load\nLoadPlugin swap\nLoadPlugin df\nLoadPlugin disk\n\
    LoadPlugin interface\nLoadPlugin processes\nLoadPlugin vmem\nLoadPlugin tcpconns\nLoadPlugin uptime\n\
    LoadPlugin contextswitch\n<Plugin processes>\n ProcessMatch \"all\" \".*\"\n</Plugin>\n";

const MONIT: &str = "set daemon 1\nset idfile /run/bench/monit.id\nset statefile /run/bench/monit.state\n\
    set log /run/bench/monit.log\ncheck system host\n  if cpu usage > 95% for 10 cycles then alert\n\
    \x20 if memory usage > 95% then alert\ncheck filesystem root with path /\n  if space usage > 99% then alert\n\
    check network lo with interface lo\ncheck process idle with matching \"sleep infinity\"\n";

const ZABBIX: &str = "Server=127.0.0.1\nListenIP=127.0.0.1\nListenPort=20050\nLogType=console\nHostname=bench\n\
    ControlSocket=/run/bench/zabbix.sock\n";

const NETDATA: &str = "[global]\n run as user = root\n[directories]\n cache = /run/bench\n lib = /run/bench\n\
    log = /run/bench\n[web]\n bind to = 127.0.0.1:29999\n[ml]\n enabled = yes\n";

/// A peer: what is shown, how it is started, what is fetched from it once a second.
struct Peer {
    name: &'static str,
    command: &'static str,
    fetch: Option<&'static str>,
}

const COMMANDS: &[Peer] = &[
    Peer {
        name: "node_exporter",
        command: "prometheus-node-exporter --web.listen-address=127.0.0.1:29100 --collector.processes",
        fetch: Some("http://127.0.0.1:29100/metrics"),
    },
    Peer { name: "collectd", command: "collectd -f -C /run/bench/collectd.conf", fetch: None },
    Peer { name: "monit", command: "monit -I -c /run/bench/monitrc", fetch: None },
    Peer { name: "zabbix_agent2 (idle)", command: "zabbix_agent2 -f -c /run/bench/zabbix.conf", fetch: None },
    Peer { name: "netdata (with ml)", command: "netdata -D -c /run/bench/netdata.conf", fetch: None },
];

fn main() -> Result<()> {
    let seconds = std::env::var("FOOTPRINT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let peers = if std::env::var_os("FOOTPRINT_ALONE").is_some() { &[][..] } else { COMMANDS };
    let base = if peers.is_empty() { None } else { Some(Base::with_packages(PEERS)?) };
    let site = Site::installed(&["web-1"], base)?;
    let host = site.host("web-1");
    host.start("idle", &format!("for n in $(seq {IDLE_PROCESSES}); do sleep infinity & done; wait"))?;
    host.must("mkdir -p /run/bench")?;
    for (name, text) in
        [("collectd.conf", COLLECTD), ("monitrc", MONIT), ("zabbix.conf", ZABBIX), ("netdata.conf", NETDATA)]
    {
        host.push_file(&format!("/run/bench/{name}"), text, 0o600)?;
    }
    site.make_operator()?;
    site.make_policy_key()?;
    site.enrol("web-1", &site.token(1)?)?.ok()?;
    site.wait_online("web-1")?;

    let agent = ["mainstay-agent.service", "mainstay-actuator.service"].map(str::to_owned).to_vec();
    let mut measured = vec![Measured::new("Mainstay", agent)];
    for (number, peer) in peers.iter().enumerate() {
        let program = peer.command.split(' ').next().unwrap_or_default();
        if !host.run(&format!("command -v {program}"))?.is_success() {
            println!("{} is not installed: not measured", peer.name);
            continue;
        }
        let unit = format!("peer-{number}.service");
        host.start(&unit, &format!("exec {}", peer.command))?;
        if let Some(url) = peer.fetch {
            host.start(&format!("fetch-{number}"), &format!("while sleep 1; do curl -s -o /dev/null {url}; done"))?;
        }
        measured.push(Measured::new(peer.name, vec![unit]));
    }
    sleep(SETTLE);

    println!(
        "footprint on a booted host, all at once for {seconds} s, {IDLE_PROCESSES} idle processes, sampling once a second"
    );
    println!("CPU in ms per second: mean, and least to most of windows of {} s; memory in MiB", WINDOW.as_secs());
    for one in &mut measured {
        one.begin(host)?;
    }
    for _ in 0..u64::div_ceil(seconds, WINDOW.as_secs()) {
        sleep(WINDOW);
        for one in &mut measured {
            one.look(host)?;
        }
    }
    for one in &measured {
        one.report(host)?;
    }
    show_mappings(host, "mainstay-agent.service")
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

    fn report(&self, host: &Host) -> Result<()> {
        let name = self.name;
        if host.unit_property(&self.units[0], "ActiveState")? != "active" {
            println!("  {name:<22} did not stay up: not measured");
            return Ok(());
        }
        let seconds: f64 = self.windows.iter().map(|(_, seconds)| seconds).sum();
        let mean = self.windows.iter().map(|(cpu, seconds)| cpu * seconds).sum::<f64>() / seconds;
        let least = self.windows.iter().map(|(cpu, _)| *cpu).fold(f64::INFINITY, f64::min);
        let most = self.windows.iter().map(|(cpu, _)| *cpu).fold(0.0, f64::max);
        let (pss, count) = (memory_mib(host, &self.units, "Pss")?, processes(host, &self.units)?.len());
        let peak = self.peak_mib;
        println!(
            "  {name:<22} cpu {mean:7.2} ({least:6.2} to {most:6.2})   peak rss {peak:6.1}   pss {pss:6.1}   processes {count}"
        );
        Ok(())
    }
}

/// Where the resident memory of a unit's main process is, by mapping.
fn show_mappings(host: &Host, unit: &str) -> Result<()> {
    let pid = host.unit_property(unit, "MainPID")?;
    let text = host.must(&format!("cat /proc/{pid}/smaps"))?;
    let mut by_name: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((key, number)) = words.first().zip(words.get(1)) else { continue };
        let kib = number.parse::<f64>().unwrap_or(0.0);
        match key.strip_suffix(':') {
            Some("Rss") => by_name.entry(name.clone()).or_default()[0] += kib,
            Some("Private_Clean") => by_name.entry(name.clone()).or_default()[1] += kib,
            Some("Private_Dirty") => by_name.entry(name.clone()).or_default()[2] += kib,
            Some(_) => {}
            // `7f00-7f10 r-xp 00000000 00:1f 1234 /usr/bin/x`: code and data of a file apart, by its rights.
            None => name = format!("{} {}", words.get(5).unwrap_or(&"anonymous"), number),
        }
    }
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by(|a, b| b.1[0].total_cmp(&a.1[0]));
    println!("where the memory of {unit} is, in KiB: resident, of that clean (from its file) and dirty");
    for (name, [rss, clean, dirty]) in rows.into_iter().take(MAPPINGS_SHOWN) {
        println!("  {rss:8.0} {clean:8.0} {dirty:8.0}   {name}");
    }
    Ok(())
}

/// CPU time of a unit's cgroup since it started; a unit that is off has used none.
fn cpu_micros(host: &Host, unit: &str) -> Result<f64> {
    let text = host.run(&format!("cat /sys/fs/cgroup/system.slice/{unit}/cpu.stat"))?;
    if !text.is_success() {
        return Ok(0.0);
    }
    let used = text.stdout.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("cpu.stat has usage")?;
    Ok(used.parse()?)
}

fn processes(host: &Host, units: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for unit in units {
        let text = host.run(&format!("cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs"))?.stdout;
        found.extend(text.lines().map(str::to_owned));
    }
    Ok(found)
}

/// Sum of one field of `smaps_rollup` over all processes of the units.
fn memory_mib(host: &Host, units: &[String], field: &str) -> Result<f64> {
    let files: Vec<_> = processes(host, units)?.iter().map(|pid| format!("/proc/{pid}/smaps_rollup")).collect();
    let text = host.run(&format!("cat {} 2>/dev/null", files.join(" ")))?.stdout;
    let kib = text
        .lines()
        .filter_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<f64>().ok())
        .sum::<f64>();
    Ok(kib / 1024.0)
}
