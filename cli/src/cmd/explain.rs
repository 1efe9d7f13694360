//! `mainstay explain`: why something was done, or was not, as a person tells it.

use std::fmt::Write as _;

use clap::Args;
use mainstay_core::id::{ActionId, DecisionId};
use mainstay_proto::v1::decision::Choice;
use mainstay_proto::v1::{Decision, ExplainRequest, ExplainResponse, Finding, Now, PolicyRef};
use serde::Serialize;

use crate::changed::{self, Near, NearDoc};
use crate::connect;
use crate::context::Context;
use crate::draw;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::recorded::{self, RecordingDoc};
use crate::scene::{self, SceneDoc};
use crate::view::{self, DecisionDoc, FindingDoc};
use crate::words;

/// Arguments of `mainstay explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A decision's id, or the beginning of it; without one, the newest that was acted on
    id: Option<String>,
    /// With what was seen of the unit before it was restarted: its last lines of the journal, where its processes waited,
    /// sockets, limits (takes the role operator)
    #[arg(long)]
    evidence: bool,
}

#[derive(Debug, Serialize)]
struct Explanation {
    #[serde(flatten)]
    decision: DecisionDoc,
    finding_now: Option<FindingDoc>,
    helped: u32,
    tried: u32,
    chain_intact: bool,
    changes: Vec<NearDoc>,
    recording: Option<RecordingDoc>,
    scenes_kept: u32,
    scenes: Vec<SceneDoc>,
}

/// Series of the seconds around the finding that are drawn: those that it is about, and the host's load.
const SECONDS_DRAWN: usize = 6;

/// Explains one decision.
pub(crate) async fn run(args: &ExplainArgs, context: &Context) -> Result<Exit, Failure> {
    let mut queries = connect::queries(context).await?;
    let request = ExplainRequest { id: args.id.clone().unwrap_or_default(), evidence: args.evidence };
    let answer = queries.explain(request).await?.into_inner();
    let near = near(&answer, context).await;
    if context.format.is_for_people() {
        for line in story(&answer).lines() {
            output::line_out(line)?;
        }
        for line in under("changed", changed::lines(&near)) {
            output::line_out(&line)?;
        }
        if let Some((hostname, finding)) = drawn(&answer) {
            for line in draw::finding(context, &hostname, &finding, answer.now_ms).await {
                output::line_out(&format!("{:COLUMN$}{line}", ""))?;
            }
        }
        for line in seconds(&answer) {
            output::line_out(&line)?;
        }
        for line in before(&answer) {
            output::line_out(&line)?;
        }
    } else {
        let decision = (&answer.decision.clone().unwrap_or_default()).into();
        let explanation = Explanation {
            decision,
            finding_now: answer.finding.as_ref().map(Into::into),
            helped: answer.helped,
            tried: answer.tried,
            chain_intact: answer.chain_intact,
            changes: near.iter().map(Into::into).collect(),
            recording: recorded::read(answer.recording.as_ref()).map(|kept| (&kept.recording).into()),
            scenes_kept: answer.scenes_kept,
            scenes: answer.scenes.iter().map(Into::into).collect(),
        };
        output::document(context, &explanation)?;
    }
    Ok(Exit::Success)
}

/// What was changed on the host shortly before.
async fn near(answer: &ExplainResponse, context: &Context) -> Vec<Near> {
    let decided = answer.decision.clone().unwrap_or_default();
    let decision = decided.decision.unwrap_or_default();
    let opened = answer.finding.as_ref().and_then(|finding| finding.opened.as_ref());
    let opened = opened.or(decision.opened.as_ref()).or(decision.at.as_ref());
    let Some(opened_ms) = opened.map(|at| at.wall_ms) else { return Vec::new() };
    changed::before(context, &decided.host_id, decision.subject.as_ref(), opened_ms).await
}

/// Lines under one word.
fn under(word: &'static str, lines: Vec<String>) -> Vec<String> {
    let words = std::iter::once(word).chain(std::iter::repeat(""));
    words.zip(lines).map(|(word, line)| format!("  {word:<width$}{line}", width = COLUMN - 2)).collect()
}

/// The seconds around the finding, as its host recorded them.
fn seconds(answer: &ExplainResponse) -> Vec<String> {
    let Some(kept) = recorded::read(answer.recording.as_ref()) else { return Vec::new() };
    let drawn = recorded::drawn(&kept.recording, Some(kept.opened_ms), SECONDS_DRAWN);
    under("seconds", drawn)
}

/// What was seen before the actions, or that there is something to see.
fn before(answer: &ExplainResponse) -> Vec<String> {
    let mut lines: Vec<String> = answer.scenes.iter().flat_map(scene::lines).collect();
    if lines.is_empty() && answer.scenes_kept > 0 {
        let scenes = words::count(usize::try_from(answer.scenes_kept).unwrap_or(usize::MAX), "scene");
        lines.push(format!("{scenes} from before what was done, with lines of the journal: --evidence shows"));
    }
    under("before", lines)
}

/// What is drawn: the finding as it is now or, where it is no longer kept, as the decision saw it.
fn drawn(answer: &ExplainResponse) -> Option<(String, Finding)> {
    let decided = answer.decision.as_ref()?;
    let decision = decided.decision.as_ref()?;
    let seen = || Finding {
        id: decision.finding,
        kind: decision.kind.clone(),
        subject: decision.subject.clone(),
        evidence: decision.evidence.clone(),
        opened: decision.opened.or(decision.at),
        ..Finding::default()
    };
    Some((decided.hostname.clone(), answer.finding.clone().unwrap_or_else(seen)))
}

/// The words under which the parts of the story stand.
const COLUMN: usize = 12;

/// The whole story of one decision.
fn story(answer: &ExplainResponse) -> String {
    let decided = answer.decision.clone().unwrap_or_default();
    let decision = decided.decision.clone().unwrap_or_default();
    let mut text = format!("{}\n", headline(answer, &decision));
    let opened = answer.finding.as_ref().and_then(|finding| finding.opened);
    entry(
        &mut text,
        "found",
        &format!(
            "{}  {}, confidence {:.2}",
            at(opened.as_ref().or(decision.at.as_ref())),
            decision.kind,
            decision.confidence
        ),
    );
    for evidence in &decision.evidence {
        more(&mut text, &evidence.text);
    }
    entry(&mut text, "decided", &format!("{}  {}   {}", at(decision.at.as_ref()), choice(&decision), rule(&decision)));
    for line in verdicts(&decision) {
        more(&mut text, &line);
    }
    for step in &decided.steps {
        let (action, target) = view::step(step.step.as_ref());
        let outcome = step.outcome.as_ref().map_or_else(
            || "handed over, no outcome yet".to_owned(),
            |outcome| format!("{}: {}", outcome.ended, outcome.text),
        );
        let undone = if step.undone { " (undone since)" } else { "" };
        entry(
            &mut text,
            "did",
            &format!(
                "{}  {action} {target}  {outcome}{undone}",
                at(step.outcome_at.as_ref().or(step.intent_at.as_ref()))
            ),
        );
        if let Some(freed) = step.outcome.as_ref().and_then(|outcome| outcome.freed_bytes) {
            more(
                &mut text,
                &format!(
                    "{} freed; undo with `mainstay undo {} --host {} --reason …`",
                    words::bytes(freed),
                    ActionId(step.action),
                    decided.hostname
                ),
            );
        }
    }
    if let Some(answered) = &decided.answered {
        let by = answered.by.clone().unwrap_or_default();
        let word = if answered.approved { "approved" } else { "denied" };
        entry(&mut text, "answered", &format!("{word} by {}: {}", by.name, by.reason));
    }
    if let Some(verification) = &decided.verification {
        entry(&mut text, "verified", &format!("{}  {}", at(decided.verified_at.as_ref()), verification.text));
    }
    if answer.tried > 0 {
        let what = decided.steps.first().map_or("this", |step| view::step(step.step.as_ref()).0);
        entry(
            &mut text,
            "learned",
            &format!("{what} cures {} here: {} of {}", decision.kind, answer.helped, answer.tried),
        );
    }
    if decided.ledger_from > 0 {
        entry(&mut text, "proof", &proof(answer));
    }
    if let Some(down_ms) = decided.verification.as_ref().and_then(|verification| verification.down_ms) {
        let _ = write!(text, "down for {}", words::short(down_ms));
    }
    text
}

fn headline(answer: &ExplainResponse, decision: &Decision) -> String {
    let decided = answer.decision.clone().unwrap_or_default();
    let subject = view::subject(decision.subject.as_ref());
    let host = &decided.hostname;
    let id = DecisionId(decision.id);
    match &decision.choice {
        Some(Choice::Act(plan)) => {
            let end = match (&decided.verification, decided.steps.last().and_then(|step| step.outcome.as_ref())) {
                (Some(verification), _) if verification.recovered => ", and it helped".to_owned(),
                (Some(_), _) => ", and it did not help".to_owned(),
                (None, Some(outcome)) if outcome.ended != "done" => format!(", which {}", outcome.ended),
                (None, Some(_)) => "; whether it helps is being watched".to_owned(),
                (None, None) => "; it is under way".to_owned(),
            };
            let done = view::plan(Some(plan));
            // The subject is part of what is done, but for a message.
            let about = if done.ends_with(&subject) { String::new() } else { format!(" for {subject}") };
            format!("{id}: {done}{about} on {host}{end}.")
        }
        Some(Choice::Hold(hold)) => {
            let would = hold
                .would
                .as_ref()
                .map_or_else(String::new, |plan| format!(" Would have done: {}.", view::plan(Some(plan))));
            format!("{id}: nothing was done about {subject} on {host}: held, {}.{would}", hold.reason.replace('_', " "))
        }
        None => format!("{id}: a decision about {subject} on {host} that this version cannot read"),
    }
}

fn choice(decision: &Decision) -> String {
    match &decision.choice {
        Some(Choice::Act(plan)) => format!("act: {}", view::plan(Some(plan))),
        Some(Choice::Hold(hold)) => format!("hold: {}", hold.reason),
        None => "?".to_owned(),
    }
}

fn rule(decision: &Decision) -> String {
    let policy = decision.policy.clone().unwrap_or(PolicyRef { generation: 0, hash: Vec::new() });
    let policy = if policy.generation == 0 {
        "built-in policy".to_owned()
    } else {
        format!("policy g{} (sha256 {}…)", policy.generation, words::hex8(&policy.hash))
    };
    match &decision.rule {
        Some(rule) => format!("rule {rule}, {policy}"),
        None => format!("no rule matches, {policy}"),
    }
}

/// The verdicts, a few to a line.
fn verdicts(decision: &Decision) -> Vec<String> {
    const WIDTH: usize = 88;
    let mut lines = vec![String::new()];
    for verdict in &decision.verdicts {
        let mark = if verdict.pass { output::paint("32", "✓") } else { output::paint("31", "✗") };
        let word = format!("{} {mark}", verdict.text);
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && last.chars().count() + word.chars().count() + 3 > WIDTH {
            lines.push(word);
        } else {
            if !last.is_empty() {
                last.push_str("   ");
            }
            last.push_str(&word);
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

fn proof(answer: &ExplainResponse) -> String {
    let decided = answer.decision.clone().unwrap_or_default();
    let chain = if answer.chain_intact { "chain intact" } else { "CHAIN BROKEN (mainstay ledger verify says where)" };
    let signed = if decided.countersigned_ms == 0 {
        "not yet countersigned".to_owned()
    } else {
        format!("countersigned by the collector {}", words::clock(decided.countersigned_ms))
    };
    format!("ledger {} #{}–#{}, {chain}, {signed}", decided.hostname, decided.ledger_from, decided.ledger_to)
}

fn at(now: Option<&Now>) -> String {
    words::clock_ms(now.map_or(0, |now| now.wall_ms))
}

fn entry(text: &mut String, word: &str, line: &str) {
    let _ = writeln!(text, "  {word:<width$}{line}", width = COLUMN - 2);
}

fn more(text: &mut String, line: &str) {
    let _ = writeln!(text, "{:COLUMN$}{line}", "");
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::subject::Of;
    use mainstay_proto::v1::{DecisionView, Hold, Subject, Verdict, Verification};

    use super::*;

    fn held() -> ExplainResponse {
        let decision = Decision {
            id: 0x40b2,
            kind: "service.failed".into(),
            subject: Some(Subject { of: Some(Of::Unit("postgresql.service".into())) }),
            confidence: 1.0,
            rule: Some("databases".into()),
            verdicts: vec![
                Verdict { guard: "mode".into(), pass: false, text: "mode approve".into() },
                Verdict { guard: "budget".into(), pass: true, text: "budget 1 of 3 per 1h".into() },
            ],
            choice: Some(Choice::Hold(Hold { reason: "needs_approval".into(), would: None })),
            ..Decision::default()
        };
        let decision = DecisionView { hostname: "db-1".into(), decision: Some(decision), ..DecisionView::default() };
        ExplainResponse { decision: Some(decision), ..ExplainResponse::default() }
    }

    #[test]
    fn a_held_decision_says_so_first_and_shows_every_guard() {
        let text = story(&held());
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "d-00000000000040b2: nothing was done about postgresql.service on db-1: held, needs approval."
        );
        assert!(text.contains("mode approve ✗   budget 1 of 3 per 1h ✓"), "{text}");
        assert!(!text.contains("down for"), "{text}");
    }

    #[test]
    fn a_broken_chain_is_never_called_proof() {
        let mut answer = held();
        answer.decision.as_mut().unwrap().ledger_from = 3;
        assert!(story(&answer).contains("CHAIN BROKEN"));
        answer.chain_intact = true;
        assert!(story(&answer).contains("chain intact, not yet countersigned"));
    }

    #[test]
    fn a_remedy_that_did_not_help_is_named_so() {
        let mut answer = held();
        let decided = answer.decision.as_mut().unwrap();
        decided.decision.as_mut().unwrap().choice = Some(Choice::Act(Default::default()));
        decided.verification = Some(Verification { recovered: false, text: "still failed".into(), down_ms: None });
        assert!(story(&answer).contains("and it did not help."));
    }
}
