//! Which rung of a rule's ladder is next.
//!
//! Each rung is tried once while the trouble lasts, the gentlest first, and none before its time. Trouble lasts until a
//! plan is proved to have helped, or until nothing was done about the subject for [`QUIET`] before a new finding opened;
//! a unit that fails again a second after its restart is still the same trouble, though it is another finding.

use std::collections::BTreeSet;
use std::time::Duration;

use super::guards::Question;
use super::step;
use crate::policy::Rung;

/// A finding that opens this long after the last rung was tried is new trouble.
pub(super) const QUIET: Duration = Duration::from_secs(3_600);

/// A rung that could be taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate<'r> {
    /// Its place in the ladder, from 0.
    pub(super) index: u32,
    /// What it says.
    pub(super) rung: &'r Rung,
    /// Whether it may be taken.
    pub(super) state: State,
}

/// Where a rung stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Now.
    Due,
    /// Later.
    NotDue {
        /// After this much more time.
        wait: Duration,
    },
    /// It was the last one, and it was tried.
    Exhausted,
}

/// What has been tried about the trouble that a finding is part of.
struct Position {
    lasted: Duration,
    tried: BTreeSet<u32>,
}

/// The rung that is next, or the last one if all were tried; `None` if none makes sense for the subject.
pub(super) fn next<'q>(question: &Question<'q>) -> Option<Candidate<'q>> {
    let position = position(question);
    let untried = applicable(question).find(|(index, _)| !position.tried.contains(index));
    if let Some((index, rung)) = untried {
        return Some(Candidate { index, rung, state: state(rung, position.lasted) });
    }
    applicable(question).last().map(|(index, rung)| Candidate { index, rung, state: State::Exhausted })
}

/// The rungs after a candidate that only tell somebody, were not tried and are due.
pub(super) fn messages_after<'q>(
    question: &Question<'q>,
    candidate: &Candidate<'q>,
) -> impl Iterator<Item = Candidate<'q>> + use<'q> {
    let Position { lasted, tried } = position(question);
    let after = candidate.index;
    applicable(question)
        .filter(move |(index, rung)| *index > after && rung.action.is_message() && !tried.contains(index))
        .map(move |(index, rung)| Candidate { index, rung, state: state(rung, lasted) })
        .filter(|candidate| candidate.state == State::Due)
}

fn applicable<'q>(question: &Question<'q>) -> impl Iterator<Item = (u32, &'q Rung)> + use<'q> {
    let subject = &question.finding.subject;
    (0..).zip(&question.rule.ladder).filter(move |(_, rung)| step(&rung.action, subject).is_some())
}

fn state(rung: &Rung, lasted: Duration) -> State {
    match rung.after.checked_sub(lasted) {
        None | Some(Duration::ZERO) => State::Due,
        Some(wait) => State::NotDue { wait },
    }
}

fn position(question: &Question<'_>) -> Position {
    let Question { finding, rule, book, now, .. } = question;
    let open_for = now.since(finding.opened);
    let fresh = Position { lasted: open_for, tried: BTreeSet::new() };
    let Some(episode) = book.episode(&rule.name, &finding.subject) else { return fresh };
    let quiet_for = book.since(episode.touched, *now);
    let is_new_trouble = episode.finding != finding.id && quiet_for >= open_for.saturating_add(QUIET);
    let starts_over = rule.start_over.is_some_and(|wait| quiet_for >= wait);
    if is_new_trouble || starts_over {
        return fresh;
    }
    Position { lasted: open_for.max(book.since(episode.began, *now)), tried: episode.tried.clone() }
}
