//! What the agent says of itself: one line for systemd, pages for `mainstay-agent status` and
//! `mainstay-agent models`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use mainstay_core::agent::PolicyState;
use mainstay_core::budget::Depth;
use mainstay_core::config::show_bytes;
use mainstay_core::decision::{Choice, Decision};
use mainstay_core::exposition::Format;
use mainstay_core::host_query::{ConnectionsQuery, TopQuery};
use mainstay_core::id::FindingId;
use mainstay_core::policy::Glob;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use super::Shell;
use crate::host::journal::Journal;
use crate::metrics::{Asked, ask as ask_loop};

/// Most decisions that are remembered for the page.
const DECISIONS_MAX: usize = 256;

/// The question for what was learned; a glob may stand behind it.
pub(super) const MODELS: &str = "models";

/// The question for who talks to whom; a number of rows and a glob stand behind it.
const CONNECTIONS: &str = "connections";

/// The question for what `/metrics` shows of the agent, its units and probes.
pub(super) const METRICS: &str = "metrics";

/// The question for who uses most; its order, a number of rows and a glob stand behind it.
const TOP: &str = "top";

/// Longest question, and how long it may take. Who says nothing is asking for the status.
const QUESTION_BYTES_MAX: u64 = 512;
const QUESTION_DEADLINE: Duration = Duration::from_secs(1);

/// What the core said last.
#[derive(Debug, Default)]
pub(super) struct Said {
    decisions: BTreeMap<FindingId, Decision>,
    policy: PolicyState,
}

impl Said {
    /// The last decision about a finding is the one that counts.
    pub(super) fn decided(&mut self, decision: &Decision) {
        if self.decisions.len() >= DECISIONS_MAX && !self.decisions.contains_key(&decision.finding) {
            self.decisions.pop_first();
        }
        self.decisions.insert(decision.finding, decision.clone());
    }

    pub(super) fn policy(&mut self, state: &PolicyState) {
        self.policy = state.clone();
    }
}

impl Shell {
    /// The line for systemd.
    pub(super) fn status_text(&self) -> String {
        let mut text = self.agent.status().to_string();
        if let Some(why) = &self.observe_only {
            let _ = write!(text, "; observing only: {why}");
        }
        if let Some(note) = &self.state_note {
            let _ = write!(text, "; {note}");
        }
        text
    }

    /// Whether everything works that the agent needs to be of use.
    pub(super) fn readiness(&self) -> Result<String, String> {
        if self.counts.samples == 0 {
            return Err("no sample yet".to_owned());
        }
        if self.host.units().is_none() {
            return Err("systemd cannot be asked over D-Bus".to_owned());
        }
        Ok("ready".to_owned())
    }

    /// `uses 0.2 % of a core (may 10 %), 21.7 MiB of memory (may 128 MiB); reads everything`
    fn budget_text(&self) -> String {
        let budget = self.agent.budget();
        let limits = budget.limits();
        let held = budget.rss_bytes().map_or_else(|| "unknown".to_owned(), |bytes| show_bytes(mebibytes(bytes)));
        let reads = match budget.depth() {
            Depth::Whole => "reads everything".to_owned(),
            depth => format!("reads less, step {} of {}", depth.steps(), Depth::CoreOnly.steps()),
        };
        format!(
            "uses {:.1} % of a core (may {} %), {held} of memory (may {}); {reads}",
            budget.cpu_ratio() * 100.0,
            (limits.cpu_ratio * 1_000.0).round() / 10.0,
            show_bytes(limits.rss_bytes),
        )
    }

    /// The page: what stands, what was decided about it and why.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "mainstay-agent {} on {}", env!("CARGO_PKG_VERSION"), self.hostname);
        let _ = writeln!(text, "  {}", self.status_text());
        let units = self.host.units().map_or_else(|| "unknown (no D-Bus)".to_owned(), |units| units.to_string());
        let actuator =
            self.actuator_state.as_ref().map_or_else(|why| format!("away: {why}"), |()| "reached".to_owned());
        let _ = writeln!(text, "  units {units}, actuator {actuator}, collector {}", self.uplink.describe());
        let journal = self.host.journal().map_or_else(|| Ok("not followed".to_owned()), Journal::describe);
        let journal = journal.unwrap_or_else(|why| format!("unknown: {why}"));
        let _ = writeln!(text, "  journal {journal}");
        let _ = writeln!(text, "  {}", self.budget_text());
        for line in self.uplink.identity().lines().filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "  {line}");
        }
        let policy = &self.said.policy;
        if let Some(refused) = &policy.refused {
            let _ = writeln!(text, "  policy generation {} refused: {refused}", policy.offered.generation);
        }
        if self.findings.is_empty() {
            let _ = writeln!(text, "\nNothing is wrong as far as it can be seen.");
        }
        for finding in self.findings.values() {
            let _ = writeln!(
                text,
                "\n{} {} ({:?}, {:?}, {})",
                finding.kind, finding.subject, finding.severity, finding.state, finding.id
            );
            for evidence in &finding.evidence {
                let _ = writeln!(text, "  {}", evidence.text);
            }
            if let Some(decision) = self.said.decisions.get(&finding.id) {
                write_decision(&mut text, decision);
            }
        }
        text
    }
}

/// Rounded up to what people read.
fn mebibytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(1 << 20)
}

fn write_decision(text: &mut String, decision: &Decision) {
    let rule = decision.rule.as_deref().unwrap_or("no rule");
    let plan = match &decision.choice {
        Choice::Act(plan) => {
            let _ = writeln!(text, "  {} acts, by {rule}:", decision.id);
            Some(plan)
        }
        Choice::Hold { reason, would } => {
            let would_word = if would.is_some() { ", would otherwise:" } else { "" };
            let _ = writeln!(text, "  {} holds ({reason}), by {rule}{would_word}", decision.id);
            would.as_ref()
        }
    };
    for step in plan.into_iter().flat_map(|plan| &plan.steps) {
        let _ = writeln!(text, "    {}", step.step);
    }
    for verdict in decision.verdicts.iter().filter(|verdict| !verdict.pass) {
        let _ = writeln!(text, "  {}: {}", verdict.guard, verdict.text);
    }
}

/// Answers on a socket with the page. Without the socket the agent runs on.
pub(super) fn listen(path: &Path, questions: mpsc::Sender<Asked>) {
    let _ = std::fs::remove_file(path);
    let listener = match UnixListener::bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(path = %path.display(), %error, "no socket for `mainstay-agent status`");
            return;
        }
    };
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = Vec::new();
            let mut asked = (&mut stream).take(QUESTION_BYTES_MAX);
            let _ = timeout(QUESTION_DEADLINE, asked.read_to_end(&mut question)).await;
            let questions = questions.clone();
            // One that takes its time holds up no other.
            tokio::spawn(async move {
                let page = page(&String::from_utf8_lossy(&question), &questions).await;
                let page = page.unwrap_or_else(|error| error + "\n");
                let _ = stream.write_all(page.as_bytes()).await;
            });
        }
    });
}

/// Has the loop answer a question.
async fn page(question: &str, questions: &mpsc::Sender<Asked>) -> Result<String, String> {
    let question = question.trim();
    let (word, rest) = question.split_once(' ').unwrap_or((question, ""));
    let answer = match word {
        MODELS => ask_loop(questions, |answer| Asked::Models(Glob::new(rest.trim()), answer)).await,
        TOP => {
            let query = read_top(rest)?;
            ask_loop(questions, |answer| Asked::Top(query, answer)).await
        }
        METRICS => return Ok(ask_loop(questions, Asked::Metrics).await?.text.render(Format::Prometheus)),
        CONNECTIONS => {
            let (unit, limit) = read_choice(rest)?;
            ask_loop(questions, |answer| Asked::Connections(ConnectionsQuery { unit, limit }, answer)).await
        }
        _ => ask_loop(questions, Asked::Status).await,
    };
    answer?
}

/// The question for who uses most, as it is sent.
pub(super) fn top_question(query: &TopQuery) -> String {
    let glob = query.unit.as_ref().map_or("", Glob::as_str);
    format!("{TOP} {} {} {glob}", query.by.as_str(), query.limit)
}

/// The question for who talks to whom, as it is sent.
pub(super) fn connections_question(query: &ConnectionsQuery) -> String {
    format!("{CONNECTIONS} {} {}", query.limit, query.unit.as_ref().map_or("", Glob::as_str))
}

fn read_top(text: &str) -> Result<TopQuery, String> {
    let (by, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (unit, limit) = read_choice(rest)?;
    Ok(TopQuery { by: by.parse()?, unit, limit })
}

/// A number of rows, and a glob where there is one.
fn read_choice(text: &str) -> Result<(Option<Glob>, u32), String> {
    let (limit, glob) = text.split_once(' ').unwrap_or((text, ""));
    let limit = limit.parse().map_err(|_| format!("`{limit}` is no number of rows"))?;
    Ok((Glob::new(glob.trim()), limit))
}

/// Asks the agent that runs for a page: nothing, or [`MODELS`].
pub(super) async fn ask(path: &Path, question: &str) -> anyhow::Result<String> {
    let no_agent = || format!("no agent answers on {}", path.display());
    let mut stream = UnixStream::connect(path).await.with_context(no_agent)?;
    stream.write_all(question.as_bytes()).await.with_context(no_agent)?;
    stream.shutdown().await.with_context(no_agent)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.with_context(no_agent)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use mainstay_core::host_query::top::TopBy;

    use super::*;

    #[test]
    fn a_question_for_who_uses_most_is_read_as_it_is_sent() {
        for query in [
            TopQuery { by: TopBy::Io, unit: Glob::new("a b*"), limit: 7 },
            TopQuery { by: TopBy::Cpu, unit: None, limit: 0 },
        ] {
            let question = top_question(&query);
            let (word, rest) = question.trim().split_once(' ').unwrap();
            assert_eq!((word, read_top(rest)), (TOP, Ok(query)));
        }
        let query = ConnectionsQuery { unit: Glob::new("a b*"), limit: 7 };
        assert_eq!(connections_question(&query), "connections 7 a b*");
        assert_eq!(read_choice("7 a b*"), Ok((query.unit, 7)));
        assert!(read_top("luck 3").unwrap_err().contains("`luck` is none of cpu"));
        assert!(read_top("cpu many").unwrap_err().contains("`many`"));
    }
}
