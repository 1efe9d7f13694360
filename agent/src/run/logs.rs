//! The last lines of the journal, for an operator who asks: read on a thread of its own, redacted, and kept nowhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::host_query::{HostReply, LogsQuery, LogsReply};
use mainstay_core::log::Redaction;

use super::{Event, Shell, top};
use crate::host::{clock, journal};
use crate::journalctl::{self, JOURNALCTL, Wanted};

/// Longest that the journal is read: less than whoever asked waits.
const TIME_MAX: Duration = Duration::from_secs(8);

impl Shell {
    /// Reads, and answers over the session.
    pub(super) fn answer_logs(&self, id: u64, query: LogsQuery) {
        let (root, redaction) = (self.paths.root.clone(), self.settings.journal.redaction());
        let (looks, events) = (Arc::clone(&self.looks), self.events.clone());
        tokio::spawn(async move {
            let reply = match top::begin(&looks) {
                Ok(look) => {
                    let read = tokio::task::spawn_blocking(move || lines(&root, query, redaction)).await;
                    drop(look);
                    read.unwrap_or_else(|lost| Err(lost.to_string()))
                }
                Err(busy) => Err(busy),
            };
            let reply = reply.map(|reply| Box::new(HostReply::Logs(reply)));
            let _ = events.send(Event::Answered { id, reply }).await;
        });
    }
}

fn lines(root: &Path, query: LogsQuery, redaction: Option<Redaction>) -> Result<LogsReply, String> {
    let refused = "no line of the journal leaves this host: [journal] lines = false in its agent.toml";
    let redaction = redaction.ok_or_else(|| refused.to_owned())?;
    journal::readable(root)?;
    let kept = query.limit();
    let since_ms = i64::try_from(query.since.as_millis()).ok().filter(|back_ms| *back_ms > 0);
    let wanted = Wanted {
        unit: query.unit,
        since_ms: since_ms.map(|back_ms| clock::now().wall_ms.saturating_sub(back_ms)),
        until_ms: None,
        priority: query.priority,
        // One more says that there are more.
        read: kept.saturating_add(1),
        kept,
        redaction,
    };
    journalctl::lines(JOURNALCTL, &wanted, TIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_are_no_lines_is_said() {
        let root = tempfile::tempdir().unwrap();
        let why = lines(root.path(), LogsQuery::default(), None).unwrap_err();
        assert!(why.contains("[journal] lines = false"), "{why}");
        let why = lines(root.path(), LogsQuery::default(), Some(Redaction::default())).unwrap_err();
        assert!(why.contains("etc/machine-id"), "{why}");
    }
}
