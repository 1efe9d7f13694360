//! The guards: one pure function each, asked every time, in the order of [`Guard::ALL`].
//!
//! Each answers in words with both values, whether it lets the plan pass or not. A rung that only tells somebody passes
//! the guards that keep the host from harm: a message harms nothing.

use std::time::Duration;

use super::book::{Book, Lease};
use super::corroboration;
use super::facts::{Facts, Fleet};
use super::ladder::{Candidate, State};
use super::plan;
use crate::config::show_duration;
use crate::decision::{Guard, HoldReason, Mode, Verdict};
use crate::finding::{Finding, FindingKind, FindingState};
use crate::id::ActionId;
use crate::policy::{Budget, Policy, Rule};
use crate::subject::Subject;
use crate::time::Now;

/// Everything that guards may look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) finding: &'q Finding,
    pub(super) policy: &'q Policy,
    pub(super) rule: &'q Rule,
    pub(super) book: &'q Book,
    pub(super) facts: &'q Facts,
    pub(super) now: Now,
}

/// `Ok` lets the plan pass. Both carry the words.
type Says = Result<String, (HoldReason, String)>;

/// Asks every guard. The first that refuses gives the reason.
pub(super) fn ask_all(question: &Question<'_>, candidate: &Candidate<'_>) -> (Vec<Verdict>, Option<HoldReason>) {
    let mut refused = None;
    let mut verdicts = Vec::with_capacity(Guard::ALL.len());
    for guard in Guard::ALL.iter().copied() {
        let (pass, text) = match ask(guard, question, candidate) {
            Ok(text) => (true, text),
            Err((reason, text)) => {
                refused = refused.or(Some(reason));
                (false, text)
            }
        };
        verdicts.push(Verdict { guard, pass, text });
    }
    (verdicts, refused)
}

fn ask(guard: Guard, question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    match guard {
        Guard::Evidence => evidence(question, candidate),
        Guard::Corroboration => corroborated(question, candidate),
        Guard::Mode => mode(question, candidate),
        Guard::HoldFile => hold_file(question, candidate),
        Guard::OperatorHold => operator_hold(question, candidate),
        Guard::Protected => protected(question, candidate),
        Guard::Busy => busy(question, candidate),
        Guard::Confidence => confidence(question),
        Guard::Duration => duration(question),
        Guard::Ladder => ladder(question, candidate),
        Guard::Cooldown => cooldown(question, candidate),
        Guard::Budget => budget(question, candidate),
        Guard::Window => window(question, candidate),
        Guard::OwnEffect => own_effect(question),
        Guard::Risk => risk(question, candidate),
        Guard::Actuator => actuator(question, candidate),
        Guard::Lease => lease(question, candidate),
    }
}

/// The words of a guard that a message need not pass.
fn message(candidate: &Candidate<'_>) -> Option<Says> {
    candidate.rung.action.is_message().then(|| Ok("a message only".to_owned()))
}

fn evidence(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    let kind = question.finding.kind;
    match question.finding.state {
        FindingState::Unknown => {
            Err((HoldReason::SubjectUnknown, "what would show it can no longer be read".to_owned()))
        }
        FindingState::Cleared => Err((HoldReason::SubjectUnknown, "the finding has cleared".to_owned())),
        FindingState::Open if may_justify_action(kind) || candidate.rung.action.is_message() => Ok("open".to_owned()),
        FindingState::Open => Err((HoldReason::Uncorroborated, format!("{kind} alone justifies no action"))),
    }
}

/// A learned finding alone is no reason to interrupt what runs.
fn corroborated(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    let finding = question.finding;
    if let Some(says) = message(candidate) {
        return says;
    }
    if !corroboration::is_learned(finding.kind) {
        return Ok("measured, not learned".to_owned());
    }
    if !corroboration::interrupts(&candidate.rung.action) {
        return Ok(format!("{} interrupts nothing", candidate.rung.action.kind()));
    }
    corroboration::of(finding, &question.facts.standing).map_err(|needs| (HoldReason::Uncorroborated, needs))
}

/// Whether a finding of this kind may justify an action by itself. That something is unusual does not mean that it is
/// wrong, what the collector or the agent says about itself is not cured by a unit or a disk, and what stands in a log
/// may have been written by anybody.
#[must_use]
pub(crate) fn may_justify_action(kind: FindingKind) -> bool {
    !matches!(
        kind,
        FindingKind::MetricAnomalous
            // Who answers slowly waits for something, more often than not for another service.
            | FindingKind::ServiceSlow
            | FindingKind::HostSilent
            | FindingKind::AgentDegraded
            | FindingKind::KernelError
            // Somebody has to go there with another disk.
            | FindingKind::DiskFailing
            | FindingKind::LogBurst
            | FindingKind::LogPattern
            // What goes up and down is not mended by one more of either.
            | FindingKind::ServiceFlapping
            | FindingKind::FindingFlapping
    )
}

fn mode(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    let mode = question.rule.mode;
    let says = format!("mode {mode}");
    if let Some(why) = &question.facts.observe_only {
        return Err((HoldReason::ObserveOnly, format!("observing only: {why}")));
    }
    if candidate.rung.action.is_message() && mode >= Mode::Suggest {
        return Ok(says);
    }
    match mode {
        Mode::Auto => Ok(says),
        Mode::Observe => Err((HoldReason::ObserveOnly, says)),
        Mode::Suggest => Err((HoldReason::SuggestOnly, says)),
        Mode::Approve => approval(question, candidate),
    }
}

fn approval(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    // The names of actions are drawn anew each time and are no part of the hash.
    let hash = plan(question, candidate, ActionId::default()).hash();
    match question.book.answer(question.finding.id, hash, question.now) {
        Some(answer) if answer.approved => {
            Ok(format!("mode approve, approved by {}: {}", answer.by.name, answer.by.reason))
        }
        Some(answer) => {
            Err((HoldReason::Denied, format!("mode approve, denied by {}: {}", answer.by.name, answer.by.reason)))
        }
        None => Err((HoldReason::NeedsApproval, "mode approve, nobody has answered".to_owned())),
    }
}

fn hold_file(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    match (&question.facts.hold_file, message(candidate)) {
        (None, _) => Ok("no hold file".to_owned()),
        (Some(_), Some(says)) => says,
        (Some(path), None) => Err((HoldReason::HoldFile, format!("{path} is there"))),
    }
}

fn operator_hold(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    let Some((scope, until_ms, by)) = question.book.held(&question.finding.subject, question.now) else {
        return Ok("no operator's hold".to_owned());
    };
    if let Some(says) = message(candidate) {
        return says;
    }
    let left = until_ms.map_or_else(
        || "without end".to_owned(),
        |until| {
            let left_ms = until.saturating_sub(question.now.wall_ms).max(0).unsigned_abs();
            format!("for another {}", show(Duration::from_millis(left_ms)))
        },
    );
    Err((HoldReason::OperatorHold, format!("{scope} held {left} by {}: {}", by.name, by.reason)))
}

fn protected(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    if let Some(says) = message(candidate) {
        return says;
    }
    match &question.finding.subject {
        Subject::Unit(unit) if question.policy.protects(unit) => {
            Err((HoldReason::Protected, format!("{unit} is protected")))
        }
        subject => Ok(format!("{subject} is not protected")),
    }
}

fn busy(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    match (question.book.busy(&question.finding.subject, question.now), message(candidate)) {
        (None, _) => Ok("nothing else under way".to_owned()),
        (Some(_), Some(says)) => says,
        (Some(running), None) => {
            Err((HoldReason::Busy, format!("{} of {} is under way or being proved", running.step, running.decision)))
        }
    }
}

fn confidence(question: &Question<'_>) -> Says {
    let (got, least) = (question.finding.confidence, question.rule.confidence);
    if got >= least {
        Ok(format!("confidence {got:.2} ≥ {least:.2}"))
    } else {
        Err((HoldReason::LowConfidence, format!("confidence {got:.2} < {least:.2}")))
    }
}

fn duration(question: &Question<'_>) -> Says {
    let (held, least) = (question.now.since(question.finding.opened), question.rule.held_for);
    if held >= least {
        Ok(format!("held {} ≥ {}", show(held), show(least)))
    } else {
        Err((HoldReason::TooYoung, format!("held {} < {}", show(held), show(least))))
    }
}

fn ladder(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    let (rung, of) = (candidate.index + 1, question.rule.ladder.len());
    match candidate.state {
        State::Due => Ok(format!("rung {rung} of {of}")),
        State::NotDue { wait } => {
            Err((HoldReason::RungNotDue, format!("rung {rung} of {of} is due in {}", show(wait))))
        }
        State::Exhausted => {
            Err((HoldReason::LadderExhausted, format!("all {of} rungs tried as often as the rule lets them")))
        }
    }
}

fn cooldown(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    if let Some(says) = message(candidate) {
        return says;
    }
    let Some(acted) = question.book.acted(&question.rule.name, &question.finding.subject) else {
        return Ok("cooldown: last never".to_owned());
    };
    let wait = question.rule.cooldown_after(acted.failures);
    let past = question.book.since(acted.at, question.now);
    let after = match acted.failures {
        0 => String::new(),
        1 => " after 1 failure".to_owned(),
        failures => format!(" after {failures} failures in a row"),
    };
    if past >= wait {
        Ok(format!("cooldown: last {} ago ≥ {}{after}", show(past), show(wait)))
    } else {
        Err((HoldReason::Cooldown, format!("cooldown: last {} ago < {}{after}", show(past), show(wait))))
    }
}

fn budget(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    message(candidate).unwrap_or_else(|| spend(question, question.rule.budget, HoldReason::BudgetSpent, "budget"))
}

fn spend(question: &Question<'_>, budget: Budget, reason: HoldReason, what: &str) -> Says {
    let (book, name, now) = (question.book, &question.rule.name, question.now);
    let spent = book.spent(name, budget, now);
    let (count, per) = (budget.count, show(budget.per));
    if spent < count {
        // What this plan would be, as in `1 of 3`.
        return Ok(format!("{what} {} of {count} per {per}", spent + 1));
    }
    let free = show(book.free_in(name, budget, now));
    Err((reason, format!("{what} {spent} of {count} per {per} spent, free in {free}")))
}

fn window(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    if let Some(says) = message(candidate) {
        return says;
    }
    let wall_ms = question.now.wall_ms;
    let shut = question.rule.windows.iter().find(|any| !any.is_empty() && !any.iter().any(|one| one.is_open(wall_ms)));
    let Some(shut) = shut else {
        let bound = question.rule.windows.iter().any(|any| !any.is_empty());
        return Ok(if bound { "window open".to_owned() } else { "any time".to_owned() });
    };
    let all = shut.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let opens = shut.iter().filter_map(|one| Some((one.opens_at(wall_ms)?, one))).min_by_key(|(at, _)| *at);
    let opens = opens.map_or(String::new(), |(at, one)| format!(", opens {}", one.show(at)));
    Err((HoldReason::OutsideWindow, format!("outside {all}{opens}")))
}

fn own_effect(question: &Question<'_>) -> Says {
    match question.finding.effect_of {
        None => Ok("not an effect of ours".to_owned()),
        Some(action) => Err((HoldReason::OwnEffect, format!("an effect of our own {action}"))),
    }
}

fn risk(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    let (risk, most) = (candidate.rung.action.risk(question.finding.kind), question.rule.risk);
    if risk <= most {
        Ok(format!("risk {risk} ≤ {most}"))
    } else {
        Err((HoldReason::TooRisky, format!("risk {risk} > {most}")))
    }
}

fn actuator(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    if let Some(why) = &question.facts.ledger_down {
        return Err((HoldReason::LedgerUnavailable, format!("the ledger cannot be written: {why}")));
    }
    match (&question.facts.actuator_down, message(candidate)) {
        (None, _) => Ok("actuator and ledger ready".to_owned()),
        (Some(_), Some(says)) => says,
        (Some(why), None) => Err((HoldReason::ActuatorUnavailable, format!("the actuator cannot be reached: {why}"))),
    }
}

fn lease(question: &Question<'_>, candidate: &Candidate<'_>) -> Says {
    if let Some(says) = message(candidate) {
        return says;
    }
    let (kind, now) = (question.finding.kind, question.now);
    match (question.facts.fleet, question.book.lease(kind, now)) {
        (Fleet::Alone, _) => Ok("not enrolled, a fleet of one".to_owned()),
        (Fleet::Away, Some(Lease::Granted { until })) | (Fleet::Connected, Some(Lease::Granted { until })) => {
            Ok(format!("lease for {kind}, {} left", show(question.book.left(*until, now))))
        }
        (Fleet::Connected, Some(Lease::Denied { until, text })) => {
            let left = show(question.book.left(*until, now));
            Err((HoldReason::LeaseDenied, format!("{text}, asked again in {left}")))
        }
        (Fleet::Connected, None) => Err((HoldReason::LeasePending, "the collector is being asked".to_owned())),
        (Fleet::Away, _) => {
            let stricter = Budget { count: (question.rule.budget.count / 2).max(1), ..question.rule.budget };
            spend(question, stricter, HoldReason::LeaseDenied, "without a collector")
        }
    }
}

/// A duration for a person: nothing finer than a second once it is longer than ten.
fn show(duration: Duration) -> String {
    let shown = if duration >= Duration::from_secs(10) { Duration::from_secs(duration.as_secs()) } else { duration };
    show_duration(shown)
}
