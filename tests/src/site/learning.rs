//! A host that knows itself: its agent has learned six days by replay ([`crate::learning`]), and what it finds is read from its
//! journal.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::hosts::{Host, packages, wait_until};

/// What every agent gets whose findings are read: a journal that programs can read. The disk below the host's root is the
/// machine's, and fills with what the machine does.
const SETTINGS: &str = "[log]\nformat = \"json\"\n\n[filesystems]\nignore_types = [\"overlay\"]\n";

/// Days that a host is taught. The first is only watched, and the four after it make the limit that of this host.
const DAYS: u32 = 6;

/// Seconds of the host that they are made of.
const SECONDS: u32 = 30;

/// Where the state stands by.
const LEARNED: &str = "/var/cache/learned";

/// Longest that an agent takes to start and to answer.
const START_MAX: Duration = Duration::from_secs(60);

/// Kinds that are about the machine which all hosts share, whatever a host does.
const OF_THE_MACHINE: [&str; 4] = ["cpu.saturated", "io.stalled", "memory.pressure", "clock.unsynced"];

/// Root's own settings and policy for a host whose findings are to be read. They count from the agent's next start on.
///
/// # Errors
/// When a file cannot be written.
pub fn prepare(host: &Host, policy: &str) -> Result<()> {
    host.push_file("/etc/mainstay/agent.d/20-tests.toml", SETTINGS, 0o644)?;
    host.push_file("/etc/mainstay/policy.d/tests.toml", policy, 0o644)
}

/// Has the agent of a host learn days of what the host does now, probes of `policy` included. Gives a line about it.
///
/// # Errors
/// When the history is not quiet, or the agent does not take what was learned.
pub fn learn(host: &Host, policy: &str, seed: u64) -> Result<String> {
    host.copy_in(&packages::helper("learn-by-replay")?, "/var/cache/learn", 0o755)?;
    host.push_file("/var/cache/probes.toml", policy, 0o644)?;
    let said = host.must(&format!("/var/cache/learn {DAYS} {SECONDS} {seed} {LEARNED} /var/cache/probes.toml"))?;
    recall(host)?;
    Ok(said)
}

/// Puts the agent back to what it had learned by [`learn`], whatever has happened since.
///
/// # Errors
/// When the agent does not take it.
pub fn recall(host: &Host) -> Result<()> {
    host.must(&format!(
        "systemctl stop mainstay-agent.service && \
         install -o mainstay -g mainstay -m 600 {LEARNED} /var/lib/mainstay/learned && \
         systemctl start mainstay-agent.service"
    ))?;
    wait_until(START_MAX, "an agent that has learned", || {
        let page = host.must("mainstay-agent models")?;
        let knows = |line: &&str| line.starts_with("metric.anomalous ") && line.contains(": learned, ");
        Ok(page.lines().find(knows).map(|_| ()))
    })
    .with_context(|| host.agent_story())
}

/// A finding as the agent's journal tells of it when it opens.
#[derive(Debug, Clone, Deserialize)]
pub struct Opened {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// What it is about: `host`, a unit, a mount point.
    pub subject: String,
    /// The first of its evidence, as it was then.
    pub evidence: String,
    /// When it opened, by the wall clock.
    pub opened_ms: i64,
}

#[derive(Deserialize)]
struct Line {
    message: String,
    state: Option<String>,
    #[serde(flatten)]
    rest: serde_json::Value,
}

impl Opened {
    /// Whether it is about the machine that all hosts share: an alarm of the learned model is when it names a metric of the
    /// machine first, as when somebody copies a disk.
    #[must_use]
    pub fn is_the_machines(&self) -> bool {
        let is_own = self.metric().contains("unit=") || self.metric().starts_with("network_");
        OF_THE_MACHINE.contains(&self.kind.as_str()) || (self.kind == "metric.anomalous" && !is_own)
    }

    /// The metric that an alarm of the learned model names first.
    fn metric(&self) -> &str {
        self.evidence.split_once(" is ").map_or("", |(metric, _)| metric)
    }

    /// Whether `unit` is to blame by it: its subject, or the unit of the metric that is named first.
    #[must_use]
    pub fn blames(&self, unit: &str) -> bool {
        self.subject == unit || self.metric().contains(&format!("unit=\"{unit}\""))
    }
}

/// The findings that opened on a host since a moment, oldest first, each once. Only with the settings of [`prepare`].
///
/// # Errors
/// When the journal cannot be read.
pub fn opened(host: &Host, since_ms: i64) -> Result<Vec<Opened>> {
    let text = host.must("journalctl -u mainstay-agent -o cat --no-pager -q")?;
    let mut found = read(&text);
    found.retain(|finding| finding.opened_ms >= since_ms);
    Ok(found)
}

fn read(journal: &str) -> Vec<Opened> {
    let mut found: Vec<Opened> = Vec::new();
    for line in journal.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        if line.message != "finding" || line.state.as_deref() != Some("Open") {
            continue;
        }
        // One that stood over a restart is told again.
        if let Ok(finding) = serde_json::from_value::<Opened>(line.rest)
            && found.iter().all(|known| known.id != finding.id)
        {
            found.push(finding);
        }
    }
    found
}

/// The wall clock of a host, which is the machine's.
#[must_use]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_read_once_and_blame_the_first_metrics_unit() {
        let line = |id: &str, state: &str| {
            serde_json::json!({
                "timestamp": "x", "level": "INFO", "message": "finding", "id": id, "kind": "metric.anomalous",
                "subject": "host", "state": state, "opened_ms": 5,
                "evidence": r#"unit_cpus{unit="app.service"} is 0.9, at this time of day about 0.1"#,
            })
            .to_string()
        };
        let journal =
            [line("f-1", "Open"), "started".to_owned(), line("f-1", "Cleared"), line("f-1", "Open")].join("\n");
        let found = read(&journal);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].blames("app.service") && !found[0].blames("web.service") && !found[0].is_the_machines());
        let evidence = r#"disk_written_bytes_per_second{device="vda"} is 400000000, at"#.to_owned();
        assert!(Opened { evidence, ..found[0].clone() }.is_the_machines());
    }
}
