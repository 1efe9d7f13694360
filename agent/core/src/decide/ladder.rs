//! Which rung of a rule's ladder is next.
//!
//! A rung that acts is due once the trouble has lasted for its `after`. Of those that are due each is tried once, the
//! gentlest first; then the last of them is tried again, as often as cooldown, budget and the rule's `tries` let it. A
//! rung that only tells somebody is told once. Trouble lasts until a plan is proved to have helped, or until nothing was
//! done about the subject for [`QUIET`] before a new finding opened; a unit that fails again a second after its restart
//! is still the same trouble, though it is another finding.

use std::collections::BTreeMap;
use std::time::Duration;

use super::book::Episode;
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
    /// It was tried as often as it may be, and nothing comes after it.
    Exhausted,
}

/// What has been tried about the trouble that a finding is part of.
struct Position {
    lasted: Duration,
    /// How often each rung was tried.
    tried: BTreeMap<u32, u32>,
}

impl Position {
    fn tries(&self, index: u32) -> u32 {
        self.tried.get(&index).copied().unwrap_or(0)
    }
}

/// The rung that is next, or the last one if there is nothing more to try; `None` if none makes sense for the subject.
pub(super) fn next<'q>(question: &Question<'q>) -> Option<Candidate<'q>> {
    let position = position(question);
    let acting: Vec<(u32, &Rung)> = applicable(question).filter(|(_, rung)| !rung.action.is_message()).collect();
    // A ladder that only tells somebody.
    let rungs: Vec<(u32, &Rung)> = if acting.is_empty() { applicable(question).collect() } else { acting };
    let due: Vec<&(u32, &Rung)> = rungs.iter().filter(|(_, rung)| state(rung, position.lasted) == State::Due).collect();
    let untried = due.iter().find(|(index, _)| position.tries(*index) == 0);
    let again = due.last().filter(|(index, rung)| {
        !rung.action.is_message() && question.rule.tries.is_none_or(|most| position.tries(*index) < most)
    });
    if let Some((index, rung)) = untried.or(again) {
        return Some(Candidate { index: *index, rung, state: State::Due });
    }
    let mut later = applicable(question)
        .filter(|(index, _)| position.tries(*index) == 0)
        .map(|(index, rung)| Candidate { index, rung, state: state(rung, position.lasted) })
        .filter(|candidate| candidate.state != State::Due);
    later
        .next()
        .or_else(|| rungs.last().map(|(index, rung)| Candidate { index: *index, rung, state: State::Exhausted }))
}

/// The rungs that only tell somebody, are due and were not told yet.
pub(super) fn messages<'q>(question: &Question<'q>) -> Vec<Candidate<'q>> {
    let position = position(question);
    applicable(question)
        .filter(|(index, rung)| rung.action.is_message() && position.tries(*index) == 0)
        .map(|(index, rung)| Candidate { index, rung, state: state(rung, position.lasted) })
        .filter(|candidate| candidate.state == State::Due)
        .collect()
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
    let fresh = Position { lasted: open_for, tried: BTreeMap::new() };
    let Some(episode) = book.episode(&rule.name, &finding.subject) else { return fresh };
    let quiet_for = book.since(episode.touched(), *now);
    if episode.finding != finding.id && is_new_trouble(quiet_for, open_for) {
        return fresh;
    }
    if rule.start_over.is_some_and(|wait| quiet_for >= wait) {
        return fresh;
    }
    Position { lasted: open_for.max(book.since(episode.began, *now)), tried: tried(episode, rule.start_over) }
}

/// Whether a finding that has been open for so long is new trouble, when the last rung was tried so long ago.
pub(super) fn is_new_trouble(quiet_for: Duration, open_for: Duration) -> bool {
    quiet_for >= open_for.saturating_add(QUIET)
}

/// How often each rung was tried since the ladder last started over.
fn tried(episode: &Episode, start_over: Option<Duration>) -> BTreeMap<u32, u32> {
    let mut tried = BTreeMap::new();
    let mut last = None;
    for (rung, at) in &episode.tries {
        let gap = last.map_or(Duration::ZERO, |last| Duration::from_nanos(at.saturating_sub(last)));
        if start_over.is_some_and(|wait| gap >= wait) {
            tried.clear();
        }
        *tried.entry(*rung).or_default() += 1;
        last = Some(*at);
    }
    tried
}
