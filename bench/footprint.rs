//! What Mainstay's agent costs on a host, beside Debian's own agents that sample once a second, one after the other.
//!
//! The agent is measured as it runs in earnest: from the package, enrolled, with D-Bus and a session to its collector, the
//! actuator's processes counted too. CPU is what the unit's cgroup used, memory is read from each process's `smaps_rollup`.
//!
//! FOOTPRINT_SECONDS sets how long each is measured (default 60).

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{Base, Host};
use mainstay_tests::site::Site;

/// Idle processes on the host, so that the work per process is of a realistic size.
const IDLE_PROCESSES: u32 = 200;

/// From start to first measurement: caches are warm, and start-up is not what is compared.
const SETTLE: Duration = Duration::from_secs(10);

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
    let site = Site::installed(&["web-1"], Some(Base::with_packages(PEERS)?))?;
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

    println!("footprint on a booted host, {seconds} s each, {IDLE_PROCESSES} idle processes, sampling once a second:");
    measure(host, "mainstay", &["mainstay-agent.service", "mainstay-actuator.service"], seconds)?;
    host.must("systemctl stop mainstay-agent.service mainstay-actuator.socket mainstay-actuator.service")?;
    for peer in COMMANDS {
        let program = peer.command.split(' ').next().unwrap_or_default();
        if !host.run(&format!("command -v {program}"))?.is_success() {
            println!("  {:<22} not installed: not measured", peer.name);
            continue;
        }
        host.start("peer", &format!("exec {}", peer.command))?;
        if let Some(url) = peer.fetch {
            host.start("fetch", &format!("while sleep 1; do curl -s -o /dev/null {url}; done"))?;
        }
        measure(host, peer.name, &["peer.service"], seconds)?;
        host.run("systemctl stop peer.service fetch.service")?;
    }
    Ok(())
}

/// Measures what some units use together, and prints it.
fn measure(host: &Host, name: &str, units: &[&str], seconds: u32) -> Result<()> {
    sleep(SETTLE);
    if host.unit_property(units[0], "ActiveState")? != "active" {
        println!("  {name:<22} did not stay up: not measured");
        return Ok(());
    }
    let mut last: Vec<f64> = units.iter().map(|unit| cpu_micros(host, unit)).collect::<Result<_>>()?;
    let (mut used, mut peak) = (0.0_f64, 0.0_f64);
    for _ in 0..seconds.div_ceil(5) {
        sleep(Duration::from_secs(5));
        peak = peak.max(memory_mib(host, units, "Rss")?);
        for (unit, last) in units.iter().zip(&mut last) {
            let now = cpu_micros(host, unit)?;
            // A unit that ended when it was idle begins again at nothing; it gives nothing back.
            used += if now >= *last { now - *last } else { now };
            *last = now;
        }
    }
    let cpu = used / 1000.0 / f64::from(seconds.div_ceil(5) * 5);
    let (pss, processes) = (memory_mib(host, units, "Pss")?, processes(host, units)?.len());
    println!("  {name:<22} cpu {cpu:7.2} ms/s   peak rss {peak:7.1} MiB   pss {pss:7.1} MiB   processes {processes}");
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

fn processes(host: &Host, units: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for unit in units {
        let text = host.run(&format!("cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs"))?.stdout;
        found.extend(text.lines().map(str::to_owned));
    }
    Ok(found)
}

/// Sum of one field of `smaps_rollup` over all processes of the units.
fn memory_mib(host: &Host, units: &[&str], field: &str) -> Result<f64> {
    let files: Vec<_> = processes(host, units)?.iter().map(|pid| format!("/proc/{pid}/smaps_rollup")).collect();
    let text = host.run(&format!("cat {} 2>/dev/null", files.join(" ")))?.stdout;
    let kib = text
        .lines()
        .filter_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<f64>().ok())
        .sum::<f64>();
    Ok(kib / 1024.0)
}
