//! `logs`: the last lines of a host's journal, or of one unit's.
//!
//! Nothing of them is kept anywhere. A line is redacted by the same rules as an example of the log before it leaves the host.

use std::time::Duration;

use crate::subject::UnitName;

/// Most lines of one answer: some 150 KiB on the wire.
pub const LINES_MAX: usize = 500;

/// The least severe of syslog's priorities, `debug`.
pub const PRIORITY_MAX: u8 = 7;

/// syslog's words, the most severe first.
pub const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Asks for lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsQuery {
    /// Only lines of this unit, with what systemd says about it.
    pub unit: Option<UnitName>,
    /// Only lines from this long ago on; zero is as far back as the journal goes.
    pub since: Duration,
    /// Only lines that are at least this severe: 0 to [`PRIORITY_MAX`], which is all of them.
    pub priority: u8,
    /// How many of the last lines are wanted at most; 0, or more than [`LINES_MAX`], is that many.
    pub limit: u32,
}

impl Default for LogsQuery {
    fn default() -> Self {
        Self { unit: None, since: Duration::ZERO, priority: PRIORITY_MAX, limit: 0 }
    }
}

impl LogsQuery {
    /// How many lines one answer has at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        match usize::try_from(self.limit).unwrap_or(LINES_MAX) {
            0 => LINES_MAX,
            limit => limit.min(LINES_MAX),
        }
    }
}

/// Lines of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogsReply {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// Whether earlier lines match too.
    pub has_more: bool,
}

/// One line, redacted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogLine {
    /// When it was said, where that is known; when journald took it otherwise.
    pub wall_ms: i64,
    /// 0 to [`PRIORITY_MAX`].
    pub priority: u8,
    /// The unit that it is of or about, as journald vouches for it; empty where there is none.
    pub unit: String,
    /// Who wrote it, by the name that it gave itself.
    pub from: String,
    /// What it says.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_whatever_is_asked_for() {
        let limit = |limit| LogsQuery { limit, ..LogsQuery::default() }.limit();
        assert_eq!([limit(0), limit(1), limit(500), limit(501), limit(u32::MAX)], [LINES_MAX, 1, 500, 500, 500]);
    }
}
