//! Processes, services and containers that come and go on a host, and what the agent has of it meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::hosts::{Host, wait_until};

/// The agent's unit.
pub const AGENT: &str = "mainstay-agent.service";

/// Longest until the agent has seen the first container: it looks every ten seconds.
const SEEN_MAX: Duration = Duration::from_secs(120);

/// Thirty processes a second that live for half a second.
const PROCESSES: &str = "while :; do n=0; while [ $n -lt 30 ]; do sleep 0.5 & n=$((n+1)); done; wait; sleep 0.5; done";

/// A service a second, under a name that never comes back.
const SERVICES: &str =
    "n=0; while :; do n=$((n+1)); systemd-run --quiet --collect --unit=job-$n.service true; sleep 1; done";

/// Two scopes a second, named as Docker names the cgroup of a container, that live for twenty seconds.
const CONTAINERS: &str = "while :; do id=$(cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/uuid | tr -d '\\n-'); \
    systemd-run --quiet --scope --collect --slice=system.slice --unit=docker-$id.scope sleep 20 & sleep 0.5; done";

const UNITS: [(&str, &str); 3] =
    [("churn-processes", PROCESSES), ("churn-services", SERVICES), ("churn-containers", CONTAINERS)];

/// Begins, and waits until the agent sees containers.
///
/// # Errors
/// When it does not.
pub fn start(host: &Host) -> Result<()> {
    UNITS.iter().try_for_each(|(unit, script)| host.start(unit, script))?;
    wait_until(SEEN_MAX, "the agent to see containers", || Ok((figure(host, "containers")? > 0.0).then_some(())))
        .with_context(|| host.agent_story())
}

/// Ends what makes them; those that are there end by themselves within twenty seconds.
///
/// # Errors
/// When the host is off.
pub fn stop(host: &Host) -> Result<()> {
    UNITS.iter().try_for_each(|(unit, _)| host.must(&format!("systemctl stop {unit}.service")).map(drop))
}

/// The agent's process.
///
/// # Errors
/// When it has none.
pub fn pid(host: &Host) -> Result<u32> {
    Ok(host.unit_property(AGENT, "MainPID")?.trim().parse()?)
}

/// A number out of what the agent says of itself: `containers` of `mainstay_agent_containers`.
///
/// # Errors
/// When it does not say so.
pub fn figure(host: &Host, what: &str) -> Result<f64> {
    let page = host.must("curl -s http://127.0.0.1:7445/metrics")?;
    let name = format!("mainstay_agent_{what} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&name));
    Ok(value.with_context(|| format!("the agent does not say {name}"))?.trim().parse()?)
}

/// What the agent had at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Since the beginning.
    pub hours: f64,
    /// Resident memory.
    pub rss_kib: f64,
    /// Of that, heap, stacks and what else is not from a file.
    pub anonymous_kib: f64,
    /// Open descriptors.
    pub fds: f64,
    /// Threads.
    pub threads: f64,
    /// CPU since it was started, as its cgroup counts it.
    pub cpu_ms: f64,
}

impl Look {
    /// Looks at the agent with this process id now.
    ///
    /// # Errors
    /// When it is not there.
    pub fn at(host: &Host, pid: u32, begun: Instant) -> Result<Self> {
        let said = host.must(&format!(
            "cat /proc/{pid}/status /sys/fs/cgroup/system.slice/{AGENT}/cpu.stat && echo fds: $(ls /proc/{pid}/fd | wc -l)"
        ))?;
        let value = |name: &str| -> Result<f64> {
            let rest = said.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
        };
        Ok(Self {
            hours: begun.elapsed().as_secs_f64() / 3600.0,
            rss_kib: value("VmRSS:")?,
            anonymous_kib: value("RssAnon:")?,
            fds: value("fds:")?,
            threads: value("Threads:")?,
            cpu_ms: value("usage_usec ")? / 1000.0,
        })
    }
}
