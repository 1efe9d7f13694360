//! `mainstay policy status`: which host is under which policy.

use mainstay_proto::v1::{PolicyHostStatus, PolicyStatusRequest};
use serde::Serialize;

use crate::cmd::hosts::policy_word;
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, Row};
use crate::{view, words};

#[derive(Debug, Serialize)]
struct StatusRow {
    host: String,
    host_id: String,
    offered: u64,
    effective: u64,
    effective_sha256: String,
    confirmed: bool,
    refused: Option<String>,
    last_seen: Option<String>,
    #[serde(skip)]
    word: String,
    #[serde(skip)]
    seen_ago: String,
}

impl Row for StatusRow {
    const HEADINGS: &'static [&'static str] = &["HOST", "POLICY", "SHA256", "LAST SEEN", "REFUSED BECAUSE", "ID"];
    const WIDE_FROM: usize = 5;

    fn cells(&self) -> Vec<String> {
        let first_line = |text: &String| text.lines().next().unwrap_or_default().to_owned();
        vec![
            self.host.clone(),
            self.word.clone(),
            self.effective_sha256.get(..8).map_or_else(|| "–".to_owned(), |hash| format!("{hash}…")),
            self.seen_ago.clone(),
            self.refused.as_ref().map_or_else(|| "–".to_owned(), first_line),
            self.host_id.clone(),
        ]
    }
}

impl StatusRow {
    fn new(host: &PolicyHostStatus, now_ms: i64) -> Self {
        let status = host.status.clone().unwrap_or_default();
        let effective = status.effective.clone().unwrap_or_default();
        Self {
            host: host.hostname.clone(),
            host_id: view::host_id(&host.host_id),
            offered: status.offered.as_ref().map_or(0, |policy| policy.generation),
            effective: effective.generation,
            effective_sha256: if effective.generation == 0 { String::new() } else { words::hex(&effective.hash) },
            confirmed: status.confirmed,
            word: policy_word(host.status.as_ref()),
            refused: status.refused,
            last_seen: view::moment(host.last_seen_ms),
            seen_ago: words::ago(host.last_seen_ms, now_ms),
        }
    }
}

/// Shows the newest policy and where it is in force.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let answer = connect::queries(context).await?.policy_status(PolicyStatusRequest {}).await?.into_inner();
    if context.format.is_for_people() {
        output::line_out(&if answer.generation == 0 {
            "no policy was pushed yet: every host observes only".to_owned()
        } else {
            format!(
                "generation {} (sha256 {}…), signed by key {}…, pushed by {} {} ago, may be taken until {}",
                answer.generation,
                words::hex8(&answer.hash),
                words::hex8(&answer.key_id),
                answer.pushed_by,
                words::ago(answer.pushed_ms, answer.now_ms),
                words::date_time(answer.not_after_ms),
            )
        })?;
    }
    let rows: Vec<_> = answer.hosts.iter().map(|host| StatusRow::new(host, answer.now_ms)).collect();
    output::rows(context, &rows)?;
    Ok(Exit::Success)
}
