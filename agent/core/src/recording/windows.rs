//! Which findings get their seconds kept: those that open, so many an hour, each once what came after is recorded too.

use std::collections::VecDeque;
use std::time::Duration;

use super::{About, Span};
use crate::finding::{Finding, FindingState, Severity};
use crate::id::{BootId, FindingId};
use crate::subject::{Subject, UnitName};
use crate::time::Now;

/// What is kept of the time before a finding opened …
pub const BEFORE: Duration = Duration::from_secs(300);
/// … and after.
pub const AFTER: Duration = Duration::from_secs(60);

/// Most windows of an hour: what is beyond them is counted, and can be fetched from the host while it is in the ring.
pub const WINDOWS_PER_HOUR_MAX: usize = 20;

/// Of these, so many are for findings that are critical: others cannot use them up.
const CRITICAL_WINDOWS: usize = 5;

/// Most series of a window: those that the finding is about first.
pub const WINDOW_SERIES_MAX: usize = 96;

const HOUR: Duration = Duration::from_secs(3_600);

/// What is to be cut out of the ring for one finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Which finding.
    pub finding: FindingId,
    /// When it opened, by the wall clock.
    pub opened_ms: i64,
    /// From when to when.
    pub span: Span,
    /// What it is about.
    pub about: About,
}

/// The windows on their way, and how many there were lately.
#[derive(Debug, Default)]
pub struct Windows {
    boot: BootId,
    waiting: VecDeque<(Now, Window)>,
    /// When those of the last hour were begun.
    lately: VecDeque<Now>,
    begun: u64,
    refused: u64,
}

impl Windows {
    /// For this boot.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        Self { boot, ..Self::default() }
    }

    /// A finding opened. Gives the unit that it is about, which is to be recorded from now on.
    pub fn opened<'f>(&mut self, finding: &'f Finding, now: Now) -> Option<&'f UnitName> {
        while self.lately.front().is_some_and(|at| now.since(*at) >= HOUR) {
            self.lately.pop_front();
        }
        let spared = if finding.severity == Severity::Critical { 0 } else { CRITICAL_WINDOWS };
        if self.lately.len() + spared >= WINDOWS_PER_HOUR_MAX {
            self.refused += 1;
        } else {
            self.lately.push_back(now);
            self.begun += 1;
            // A detector that waited before it was sure says when it began; that is kept too, within bounds.
            let waited = now.since(finding.opened).min(BEFORE);
            let span = Span { to: now.plus(AFTER), ..Span::until(self.boot, now, BEFORE + waited) };
            let window =
                Window { finding: finding.id, opened_ms: finding.opened.wall_ms, span, about: About::of(finding) };
            self.waiting.push_back((now.plus(AFTER), window));
        }
        match &finding.subject {
            Subject::Unit(unit) => Some(unit),
            _ => None,
        }
    }

    /// A finding stands from before the start: one that opened only just gets its window now, if the agent was stopped
    /// before it was cut. One that had it already gets the same again.
    pub fn standing<'f>(&mut self, finding: &'f Finding, now: Now) -> Option<&'f UnitName> {
        let ago_ms = now.wall_ms.saturating_sub(finding.opened.wall_ms);
        let is_new = (0..=i64::try_from(AFTER.as_millis()).unwrap_or(0)).contains(&ago_ms);
        let is_of_this_boot = finding.opened.boot_ns <= now.boot_ns;
        (finding.state == FindingState::Open && is_new && is_of_this_boot).then(|| self.opened(finding, now)).flatten()
    }

    /// The next window that can be cut.
    pub fn due(&mut self, now: Now) -> Option<Window> {
        let is_due = self.waiting.front().is_some_and(|(at, _)| now.boot_ns >= at.boot_ns);
        is_due.then(|| self.waiting.pop_front()).flatten().map(|(_, window)| window)
    }

    /// How many were begun, and how many were not because of [`WINDOWS_PER_HOUR_MAX`], since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.begun, self.refused)
    }
}
