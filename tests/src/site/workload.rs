//! What hosts do all day in tests of detection, and how it goes wrong when it is asked to.
//!
//! Every unit runs before the agent learns, so that it knows each of them well; a file in `/run/fault` then makes one go
//! wrong while it goes on with its work.

use std::time::Duration;

use anyhow::Result;

use crate::hosts::Host;

/// Longest that a unit takes to start.
const START_MAX: Duration = Duration::from_secs(20);

/// Works a little, and leaks, burns, forks, fills a disk or logs errors when asked to.
pub const WORKER: &str = "worker.service";

/// Answers over HTTP, slower and slower when asked to.
pub const SLOW: &str = "slow.service";

/// Sends to another host.
pub const TRAFFIC: &str = "traffic.service";

/// Waits, and runs stress-ng when asked to (`/run/fault/stress`).
pub const BATCH: &str = "batch.service";

/// A web server of Debian's.
pub const WEB: &str = "nginx.service";

/// Probes of what answers, for a policy.
pub const PROBES: &str = r#"version = 1

[[probe]]
unit = "nginx.service"
http = "http://127.0.0.1/"
every = "1s"
timeout = "1s"
fails = 3

[[probe]]
unit = "slow.service"
http = "http://127.0.0.1:8081/"
every = "2s"
timeout = "2s"
fails = 3
"#;

const SCRIPTS: [(&str, &str); 3] = [
    ("worker.py", include_str!("worker.py")),
    ("slow.py", include_str!("slow.py")),
    ("traffic.py", include_str!("traffic.py")),
];

/// What burns CPU gets one also on a machine that is all busy.
const HURRIED: &str = "Nice=-10\n";

/// Few descriptors, so that a leak of them comes to its end.
const FEW_FILES: &str = "LimitNOFILE=1024\n";

const WAITING: &str = "while ! test -e /run/fault/stress; do sleep 1; done; \
    exec stress-ng --cpu 2 --vm 1 --vm-bytes 256m --vm-keep";

/// Starts the web server, the worker and the one that answers slowly.
///
/// # Errors
/// When one does not start.
pub fn start(host: &Host) -> Result<()> {
    scripts(host)?;
    start_python(host, WORKER, "worker.py", &format!("{HURRIED}{FEW_FILES}"))?;
    start_python(host, SLOW, "slow.py", "")?;
    host.must(&format!("systemctl start {WEB}"))?;
    host.wait_unit(WEB, "active", START_MAX)
}

/// Starts what waits to run stress-ng, on a host whose base has it.
///
/// # Errors
/// When it does not start.
pub fn start_batch(host: &Host) -> Result<()> {
    start_unit(host, BATCH, &format!("[Service]\nExecStart=/bin/sh -c '{WAITING}'\n{HURRIED}"))
}

/// Starts what takes the traffic of other hosts.
///
/// # Errors
/// When it does not start.
pub fn start_sink(host: &Host) -> Result<()> {
    scripts(host)?;
    start_python(host, "sink.service", "traffic.py sink", "")
}

/// Starts sending to `sink`.
///
/// # Errors
/// When it does not start.
pub fn start_traffic(host: &Host, sink: &str) -> Result<()> {
    start_python(host, TRAFFIC, &format!("traffic.py {sink}"), "")
}

/// Has a unit go wrong: `amount` is how much a second, as its script says.
///
/// # Errors
/// When the file cannot be written.
pub fn break_by(host: &Host, fault: &str, amount: u64) -> Result<()> {
    host.push_file(&format!("/run/fault/{fault}"), amount.to_string(), 0o644)
}

/// Ends every fault, and with a new start of the units what it has left in them.
///
/// # Errors
/// When a unit does not start again.
pub fn mend(host: &Host) -> Result<()> {
    host.must(&format!("rm -rf /run/fault && systemctl kill -s CONT {WEB} && systemctl restart {WORKER} {SLOW}"))?;
    host.wait_unit(WORKER, "active", START_MAX)
}

fn scripts(host: &Host) -> Result<()> {
    SCRIPTS.iter().try_for_each(|(name, text)| host.push_file(&format!("/usr/local/lib/{name}"), text, 0o644))
}

fn start_python(host: &Host, unit: &str, script: &str, more: &str) -> Result<()> {
    let exec = format!("[Service]\nExecStart=/usr/bin/python3 -u /usr/local/lib/{script}\n{more}");
    start_unit(host, unit, &exec)
}

fn start_unit(host: &Host, unit: &str, text: &str) -> Result<()> {
    host.push_file(&format!("/etc/systemd/system/{unit}"), text, 0o644)?;
    host.must(&format!("systemctl daemon-reload && systemctl start {unit}"))?;
    host.wait_unit(unit, "active", START_MAX)
}
