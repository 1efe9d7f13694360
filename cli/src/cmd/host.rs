//! `mainstay host`: one host whole, what it has learned, and its end.

use std::io::{IsTerminal as _, Write as _};

use clap::Subcommand;
use mainstay_core::agent::LEARNING_SECONDS;
use mainstay_proto::v1::{DeleteHostRequest, GetHostRequest, GetHostResponse, HostView, RevokeHostRequest, SeriesKey};
use serde::Serialize;

use super::connections::{self, ConnectionsArgs};
use super::decisions::DecisionRow;
use super::findings::FindingRow;
use super::host_logs::{self, LogsArgs};
use super::host_top::{self, TopArgs};
use super::hosts::{HostRow, painted_state, policy_word};
use super::models::{self, ModelsArgs};
use super::record::{self, RecordArgs};
use super::timeline::{self, TimelineArgs};
use crate::connect;
use crate::context::Context;
use crate::draw;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::view::{self, DecisionDoc, FindingDoc};
use crate::words;

/// What can be asked of one host.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Show who it is, what is wrong, its disks and units, and what was decided
    Show {
        /// Name, id or the beginning of an id
        host: String,
    },
    /// Show what it has learned to be usual: models, and metric by metric, disk by disk, unit by unit
    Models(ModelsArgs),
    /// Show its last minutes second by second, as its flight recorder has them
    Record(RecordArgs),
    /// Show which processes and units use most, which are stuck, and who holds deleted files
    Top(TopArgs),
    /// Show who listens on it, and who talks to whom and how slowly
    Connections(ConnectionsArgs),
    /// Show the last lines of its journal, or of one unit's, redacted (takes the role operator)
    Logs(LogsArgs),
    /// Show what happened on it, on one line of time
    Timeline(TimelineArgs),
    /// Refuse this host's certificate from now on
    Revoke {
        /// Name, id or the beginning of an id
        host: String,
    },
    /// Delete a host that is no more, with its series, findings, decisions and ledger; it has to be enrolled anew
    Delete {
        /// Name, id or the beginning of an id
        host: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// The series that says whether a host waits for a reboot.
const REBOOT_REQUIRED: &str = "mainstay_host_reboot_required";

/// Findings whose series are drawn with a host.
const FINDINGS_DRAWN: usize = 3;

impl HostCommand {
    /// Whether it changes nothing, so that it may be watched.
    pub(crate) fn only_looks(&self) -> bool {
        match self {
            Self::Show { .. } => true,
            Self::Models(args) => args.only_looks(),
            Self::Record(_) | Self::Timeline(_) | Self::Top(_) | Self::Connections(_) | Self::Logs(_) => true,
            Self::Revoke { .. } | Self::Delete { .. } => false,
        }
    }
}

#[derive(Debug, Serialize)]
struct HostDoc {
    #[serde(flatten)]
    host: HostRow,
    enrolled: Option<String>,
    clock_offset_ms: i64,
    findings_open: Vec<FindingDoc>,
    decisions: Vec<DecisionDoc>,
    values: Vec<ValueDoc>,
}

#[derive(Debug, Serialize)]
struct ValueDoc {
    series: String,
    value: f64,
    at: Option<String>,
}

/// Carries the command out.
pub(crate) async fn run(command: &HostCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        HostCommand::Show { host } => show(host, context).await,
        HostCommand::Models(args) => models::run(args, context).await,
        HostCommand::Record(args) => record::run(args, context).await,
        HostCommand::Top(args) => host_top::run(args, context).await,
        HostCommand::Connections(args) => connections::run(args, context).await,
        HostCommand::Logs(args) => host_logs::run(args, context).await,
        HostCommand::Timeline(args) => timeline::run(args, context).await,
        HostCommand::Revoke { host } => {
            let request = RevokeHostRequest { host: host.clone() };
            connect::commands(context).await?.revoke_host(request).await?;
            output::say(&format!(
                "{host} is revoked: its certificate is refused from now on; enrol it anew to let it back in"
            ));
            Ok(Exit::Success)
        }
        HostCommand::Delete { host, yes } => delete(host, *yes, context).await,
    }
}

/// Shows whom it is about before it is too late, and wants the name typed.
async fn delete(host: &str, yes: bool, context: &Context) -> Result<Exit, Failure> {
    let request = GetHostRequest { host: host.to_owned() };
    let known = connect::queries(context).await?.get_host(request).await?.into_inner();
    let (view, now_ms) = (known.host.unwrap_or_default(), known.now_ms);
    let name = view.facts.as_ref().map_or_else(String::new, |facts| facts.hostname.clone());
    let id = view::host_id(&view.host_id);
    if !yes && !is_confirmed(&name, &id, &view, now_ms)? {
        output::say("nothing was deleted");
        return Ok(Exit::No);
    }
    // By its id: meanwhile another may have come by that name.
    let gone = connect::commands(context).await?.delete_host(DeleteHostRequest { host: id }).await?.into_inner();
    if gone.going_on {
        output::say(&format!(
            "{} is shut out; what is stored of it is being removed, {} entries so far: `mainstay status` shows how far that is",
            gone.hostname, gone.removed
        ));
        return Ok(Exit::Success);
    }
    output::say(&format!(
        "{} is deleted with {} entries ({}); its agent is refused until it is enrolled anew (`mainstay-agent enrol --force`)",
        gone.hostname,
        gone.removed,
        words::bytes(gone.removed_bytes)
    ));
    Ok(Exit::Success)
}

fn is_confirmed(name: &str, id: &str, view: &HostView, now_ms: i64) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "what is deleted cannot be brought back: --yes is needed where nobody can be asked",
        ));
    }
    let seen = words::ago(view.last_seen_ms, now_ms);
    output::say(&format!(
        "{name} ({id}), {}, last seen {seen} ago, enrolled {}",
        view.state,
        words::date_time(view.enrolled_ms)
    ));
    eprint!("its series, findings, decisions and ledger go for good; type its name to delete it: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == name)
}

async fn show(host: &str, context: &Context) -> Result<Exit, Failure> {
    let request = GetHostRequest { host: host.to_owned() };
    let answer = connect::queries(context).await?.get_host(request).await?.into_inner();
    if context.format.is_for_people() {
        print(&answer, context).await?;
    } else {
        output::document(context, &document(&answer))?;
    }
    Ok(Exit::Success)
}

fn document(answer: &GetHostResponse) -> HostDoc {
    let host = answer.host.clone().unwrap_or_default();
    HostDoc {
        host: HostRow::new(&host, answer.now_ms),
        enrolled: view::moment(host.enrolled_ms),
        clock_offset_ms: host.clock_offset_ms,
        findings_open: host.findings.iter().map(Into::into).collect(),
        decisions: answer.decisions.iter().map(Into::into).collect(),
        values: answer
            .values
            .iter()
            .map(|value| ValueDoc {
                series: value.key.as_ref().map(series_name).unwrap_or_default(),
                value: value.value,
                at: view::moment(value.at_ms),
            })
            .collect(),
    }
}

async fn print(answer: &GetHostResponse, context: &Context) -> Result<(), Failure> {
    let host = answer.host.clone().unwrap_or_default();
    let facts = host.facts.clone().unwrap_or_default();
    let labels: Vec<_> = facts.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
    let boot = view::host_id(&facts.boot);
    for (name, value) in [
        ("host", format!("{}  {}", facts.hostname, painted_state(&host.state))),
        ("id", view::host_id(&host.host_id)),
        ("labels", if labels.is_empty() { "–".to_owned() } else { labels.join(" ") }),
        ("system", format!("{}, kernel {}, boot {boot}", facts.os, facts.kernel)),
        ("agent", format!("{}, enrolled {}", facts.agent_version, words::date_time(host.enrolled_ms))),
        ("policy", policy_line(&host)),
        (
            "last seen",
            format!("{} ago, clock off by {} ms", words::ago(host.last_seen_ms, answer.now_ms), host.clock_offset_ms),
        ),
        ("complete", completeness(&host)),
        ("ledger", ledger_line(&host)),
        ("learning", learning_line(answer)),
    ] {
        output::line_out(&format!("{name:<11}{value}"))?;
    }
    if last(answer, REBOOT_REQUIRED) == Some(1.0) {
        output::line_out(&format!("{:<11}{}", "reboot", output::paint("33", "needed, as its packages say")))?;
    }
    for note in &host.notes {
        output::line_out(&format!("{:<11}{}", "note", output::paint("31", note)))?;
    }
    let disks: Vec<_> = disks(answer);
    if !disks.is_empty() {
        output::line_out("")?;
        output::rows(context, &disks)?;
    }
    if !host.findings.is_empty() {
        output::line_out("")?;
        let members: Vec<_> = host
            .findings
            .iter()
            .map(|finding| mainstay_proto::v1::FindingView {
                host_id: host.host_id.clone(),
                hostname: facts.hostname.clone(),
                finding: Some(finding.clone()),
                incident: None,
            })
            .collect();
        output::rows(
            context,
            &members.iter().map(|member| FindingRow::new(member, answer.now_ms)).collect::<Vec<_>>(),
        )?;
    }
    for finding in host.findings.iter().take(FINDINGS_DRAWN) {
        let lines = draw::finding(context, &facts.hostname, finding, answer.now_ms).await;
        if !lines.is_empty() {
            output::line_out("")?;
            output::line_out(&format!("{} {}", finding.kind, view::subject(finding.subject.as_ref())))?;
        }
        for line in lines {
            output::line_out(&line)?;
        }
    }
    if !answer.decisions.is_empty() {
        output::line_out("")?;
        output::rows(context, &answer.decisions.iter().map(DecisionRow::new).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// The last value of a series without labels.
fn last(answer: &GetHostResponse, name: &str) -> Option<f64> {
    let is_it = |value: &&mainstay_proto::v1::SeriesValue| value.key.as_ref().is_some_and(|key| key.name == name);
    answer.values.iter().find(is_it).map(|value| value.value)
}

/// How much longer what is usual is learned, as the host said last.
fn learning_line(answer: &GetHostResponse) -> String {
    match last(answer, LEARNING_SECONDS) {
        None => "unknown".to_owned(),
        Some(seconds) if seconds > 0.0 => {
            let left = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
            format!(
                "{} left until anything unusual is told",
                words::short(u64::try_from(left.as_millis()).unwrap_or(0))
            )
        }
        Some(_) => "what is usual is known; `mainstay host models` shows it".to_owned(),
    }
}

fn policy_line(host: &mainstay_proto::v1::HostView) -> String {
    let word = policy_word(host.policy.as_ref());
    match host.policy.as_ref().and_then(|policy| policy.refused.as_ref()) {
        Some(refused) => format!("{word}: {refused}"),
        None => word,
    }
}

fn completeness(host: &mainstay_proto::v1::HostView) -> String {
    let mut line = format!("{:.1}%", host.completeness * 100.0);
    for gap in &host.gaps {
        line.push_str(&format!(
            ", gap #{}–#{} {}–{} ({})",
            gap.seq_from,
            gap.seq_to,
            words::clock(gap.wall_from_ms),
            words::clock(gap.wall_to_ms),
            gap.reason
        ));
    }
    line
}

fn ledger_line(host: &mainstay_proto::v1::HostView) -> String {
    match &host.ledger {
        Some(head) if head.index > 0 => format!(
            "{} records, head {}…, countersigned {}",
            head.index,
            words::hex8(&head.hash),
            words::date_time(head.countersigned_ms)
        ),
        _ => "empty".to_owned(),
    }
}

#[derive(Debug, Serialize)]
struct DiskRow {
    mount: String,
    used_ratio: f64,
    size_bytes: u64,
    avail_bytes: u64,
}

impl Row for DiskRow {
    const HEADINGS: &'static [&'static str] = &["MOUNT", "USED", "SIZE", "AVAILABLE"];
    const WIDE_FROM: usize = 4;

    fn cells(&self) -> Vec<String> {
        vec![
            self.mount.clone(),
            format!("{:.1}%", self.used_ratio * 100.0),
            words::bytes(self.size_bytes),
            words::bytes(self.avail_bytes),
        ]
    }
}

/// The filesystems of the host, from its last values; used as `df` says it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes in bytes are below 2^53 and not negative"
)]
fn disks(answer: &GetHostResponse) -> Vec<DiskRow> {
    let value = |name: &str, mount: &str| {
        answer.values.iter().find_map(|value| {
            let key = value.key.as_ref()?;
            (key.name == name && mountpoint(key) == Some(mount)).then_some(value.value)
        })
    };
    let mounts: std::collections::BTreeSet<_> = answer
        .values
        .iter()
        .filter_map(|value| value.key.as_ref())
        .filter(|key| key.name == "node_filesystem_size_bytes")
        .filter_map(mountpoint)
        .collect();
    mounts
        .into_iter()
        .filter_map(|mount| {
            let size = value("node_filesystem_size_bytes", mount)?;
            let free = value("node_filesystem_free_bytes", mount)?;
            let avail = value("node_filesystem_avail_bytes", mount)?;
            let used = size - free;
            Some(DiskRow {
                mount: mount.to_owned(),
                used_ratio: if used + avail > 0.0 { used / (used + avail) } else { 0.0 },
                size_bytes: size as u64,
                avail_bytes: avail as u64,
            })
        })
        .collect()
}

fn mountpoint(key: &SeriesKey) -> Option<&str> {
    key.labels.iter().find(|label| label.name == "mountpoint").map(|label| label.value.as_str())
}

/// A series as it is written in a query.
pub(crate) fn series_name(key: &SeriesKey) -> String {
    let labels: Vec<_> = key.labels.iter().map(|label| format!("{}={:?}", label.name, label.value)).collect();
    if labels.is_empty() { key.name.clone() } else { format!("{}{{{}}}", key.name, labels.join(",")) }
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::{Label, SeriesValue};

    use super::*;

    #[test]
    fn a_disk_is_used_as_df_says_it() {
        let value = |name: &str, value: f64| SeriesValue {
            key: Some(SeriesKey {
                name: name.to_owned(),
                labels: vec![Label { name: "mountpoint".into(), value: "/var".into() }],
            }),
            value,
            at_ms: 1,
        };
        let answer = GetHostResponse {
            values: vec![
                value("node_filesystem_size_bytes", 1000.0),
                value("node_filesystem_free_bytes", 250.0),
                value("node_filesystem_avail_bytes", 200.0),
                value("node_filesystem_files", 7.0),
            ],
            ..GetHostResponse::default()
        };
        let rows = disks(&answer);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].cells(), ["/var", "78.9%", "1000 B", "200 B"]);
    }
}
