//! `mainstay hosts`: every host in a line.

use std::collections::BTreeMap;

use clap::Args;
use mainstay_proto::v1::{HostView, ListHostsRequest, PolicyRef, PolicyStatus};
use serde::Serialize;

use super::HostSelector;
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::{view, words};

/// Arguments of `mainstay hosts`.
#[derive(Debug, Args)]
pub(crate) struct HostsArgs {
    #[command(flatten)]
    selector: HostSelector,
}

/// One host in a line.
#[derive(Debug, Serialize)]
pub(crate) struct HostRow {
    host: String,
    state: String,
    findings: Vec<String>,
    policy: String,
    last_seen: Option<String>,
    completeness: f64,
    labels: BTreeMap<String, String>,
    host_id: String,
    agent_version: String,
    os: String,
    kernel: String,
    notes: Vec<String>,
    #[serde(skip)]
    seen_ago: String,
    #[serde(skip)]
    gap: Option<String>,
}

impl Row for HostRow {
    const HEADINGS: &'static [&'static str] = &[
        "HOST",
        "STATE",
        "ROLE",
        "ZONE",
        "FINDINGS",
        "POLICY",
        "LAST SEEN",
        "COMPLETE",
        "ID",
        "AGENT",
        "OS",
        "KERNEL",
    ];
    const WIDE_FROM: usize = 8;

    fn cells(&self) -> Vec<String> {
        let label = |name: &str| self.labels.get(name).cloned().unwrap_or_else(|| "–".to_owned());
        vec![
            self.host.clone(),
            painted_state(&self.state),
            label("role"),
            label("zone"),
            if self.findings.is_empty() { "–".to_owned() } else { self.findings.join(",") },
            self.policy.clone(),
            self.seen_ago.clone(),
            complete(self.completeness, self.gap.as_deref()),
            self.host_id.clone(),
            self.agent_version.clone(),
            self.os.clone(),
            self.kernel.clone(),
        ]
    }
}

/// The state of a host in the colour that fits it.
pub(crate) fn painted_state(state: &str) -> String {
    match state {
        "online" => output::paint("32", state),
        "healing" => output::paint("33", state),
        _ => output::paint("31", state),
    }
}

fn complete(share: f64, gap: Option<&str>) -> String {
    match gap {
        // A gap is never rounded away.
        Some(gap) => format!("{:.1}% (gap {gap})", (share * 100.0).min(99.9)),
        None => format!("{:.0}%", share * 100.0),
    }
}

impl HostRow {
    /// The row of one host, as seen at `now_ms`.
    pub(crate) fn new(host: &HostView, now_ms: i64) -> Self {
        let facts = host.facts.clone().unwrap_or_default();
        let mut findings: Vec<_> = host
            .findings
            .iter()
            .filter(|finding| finding.state == "open")
            .map(|finding| finding.kind.clone())
            .collect();
        if host.state == "silent" {
            findings.push("host.silent".to_owned());
        }
        findings.sort();
        findings.dedup();
        Self {
            host: facts.hostname,
            state: host.state.clone(),
            findings,
            policy: policy_word(host.policy.as_ref()),
            last_seen: view::moment(host.last_seen_ms),
            completeness: host.completeness,
            labels: facts.labels.into_iter().map(|label| (label.name, label.value)).collect(),
            host_id: view::host_id(&host.host_id),
            agent_version: facts.agent_version,
            os: facts.os,
            kernel: facts.kernel,
            notes: host.notes.clone(),
            seen_ago: words::ago(host.last_seen_ms, now_ms),
            gap: host
                .gaps
                .last()
                .map(|gap| format!("{}–{}", words::clock(gap.wall_from_ms), words::clock(gap.wall_to_ms))),
        }
    }
}

/// `g7 ok`, `g7 confirming`, `g6, g7 refused`, `built-in`.
pub(crate) fn policy_word(status: Option<&PolicyStatus>) -> String {
    let Some(status) = status else { return "–".to_owned() };
    let generation = |policy: &Option<PolicyRef>| policy.as_ref().map_or(0, |policy| policy.generation);
    let (offered, effective) = (generation(&status.offered), generation(&status.effective));
    let in_force = if effective == 0 { "built-in".to_owned() } else { format!("g{effective}") };
    match &status.refused {
        Some(_) => format!("{in_force}, g{offered} refused"),
        None if offered > effective => format!("{in_force}, g{offered} offered"),
        None if effective == 0 => in_force,
        None if status.confirmed => format!("{in_force} ok"),
        None => format!("{in_force} confirming"),
    }
}

/// Lists the hosts.
pub(crate) async fn run(args: &HostsArgs, context: &Context) -> Result<Exit, Failure> {
    let request = ListHostsRequest { selector: Some(args.selector.to_wire()) };
    let answer = connect::queries(context).await?.list_hosts(request).await?.into_inner();
    let rows: Vec<_> = answer.hosts.iter().map(|host| HostRow::new(host, answer.now_ms)).collect();
    output::rows(context, &rows)?;
    if context.format.is_for_people() {
        output::line_out(&totals(&rows))?;
        for line in notes(&rows) {
            output::line_out(&line)?;
        }
        if rows.is_empty() {
            output::say(
                "no host is enrolled, or none matches: `mainstay token create` makes a token for `mainstay-agent enrol`",
            );
        }
    }
    Ok(Exit::Success)
}

/// `4 hosts: 2 online, 1 healing, 1 silent`
fn totals(rows: &[HostRow]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for row in rows {
        *counts.entry(&row.state).or_default() += 1;
    }
    let parts: Vec<_> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let total = words::count(rows.len(), "host");
    if parts.is_empty() { total } else { format!("{total}: {}", parts.join(", ")) }
}

/// What has to be known about hosts, a line each.
fn notes(rows: &[HostRow]) -> Vec<String> {
    let of = |row: &HostRow| row.notes.iter().map(|note| format!("{}: {note}", row.host)).collect::<Vec<_>>();
    rows.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::Gap;

    use super::*;

    fn status(offered: u64, effective: u64, refused: Option<&str>, confirmed: bool) -> PolicyStatus {
        let policy = |generation| Some(PolicyRef { generation, hash: vec![0; 32] });
        PolicyStatus {
            offered: policy(offered),
            effective: policy(effective),
            confirmed,
            refused: refused.map(str::to_owned),
        }
    }

    #[test]
    fn a_policy_that_is_not_in_force_is_never_ok() {
        assert_eq!(policy_word(Some(&status(7, 7, None, true))), "g7 ok");
        assert_eq!(policy_word(Some(&status(7, 7, None, false))), "g7 confirming");
        assert_eq!(policy_word(Some(&status(7, 6, None, true))), "g6, g7 offered");
        assert_eq!(policy_word(Some(&status(7, 6, Some("bad signature"), true))), "g6, g7 refused");
        assert_eq!(policy_word(Some(&status(0, 0, None, true))), "built-in");
    }

    #[test]
    fn a_gap_is_never_rounded_away() {
        let host = HostView {
            state: "online".into(),
            completeness: 0.999_99,
            gaps: vec![Gap { seq_from: 1, seq_to: 2, wall_from_ms: 1_000, wall_to_ms: 2_000, reason: String::new() }],
            ..HostView::default()
        };
        assert!(HostRow::new(&host, 5_000).cells()[7].starts_with("99.9% (gap "));
        let whole = HostView { completeness: 1.0, gaps: vec![], ..host };
        assert_eq!(HostRow::new(&whole, 5_000).cells()[7], "100%");
    }

    #[test]
    fn what_has_to_be_known_of_a_host_stands_below_the_table_and_in_the_document() {
        let facts = Some(mainstay_proto::v1::HostFacts { hostname: "web-1".into(), ..Default::default() });
        let host = HostView { facts, notes: vec!["2 of its 5 series are dropped".into()], ..HostView::default() };
        let rows = [HostRow::new(&HostView::default(), 0), HostRow::new(&host, 0)];
        assert_eq!(notes(&rows), ["web-1: 2 of its 5 series are dropped"]);
        assert!(serde_json::to_string(&rows[1]).unwrap().contains("[\"2 of its 5 series are dropped\"]"));
    }

    #[test]
    fn a_silent_host_is_a_finding_of_its_own() {
        let host = HostView { state: "silent".into(), ..HostView::default() };
        assert_eq!(HostRow::new(&host, 0).findings, ["host.silent"]);
        assert_eq!(totals(&[HostRow::new(&host, 0)]), "1 host: 1 silent");
    }
}
