//! What a host is asked on demand, over its session with the collector: a closed list, one noun a
//! file.
//!
//! A question changes nothing on the host, so it is not signed; what changes something is an
//! [order](crate::policy::order). A question is answered with one [`HostReply`] of bounded size:
//! what does not fit is asked for in pages, each question saying where its page begins.
//!
//! A further question is one variant here and in [`HostReply`], one file beside this one, one in
//! `proto/src/convert/host_query/`, one message in `session.proto`, and its answer in the shell's
//! `run/asked.rs`; the compiler shows every place.

pub mod connections;
pub mod logs;
pub mod models;
mod page;
pub mod record;
pub mod top;

pub use connections::{ConnectionsQuery, ConnectionsReply};
pub use logs::{LogsQuery, LogsReply};
pub use models::{ModelsQuery, ModelsReply};
pub use record::{RecordQuery, RecordReply};
pub use top::{TopQuery, TopReply};

/// Every question by its name, in the order of the variants. An agent says in its Hello which of
/// them it can answer, so that an older one is not asked what it does not know.
pub const NAMES: [&str; 5] = ["models", "record", "top", "connections", "logs"];

/// What stands before a question's name in the capabilities of a session.
const CAPABILITY_PREFIX: &str = "host_query.";

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum HostQuery {
    /// What the detectors have learned.
    Models(ModelsQuery),
    /// What the flight recorder has of the last minutes.
    Record(RecordQuery),
    /// Which processes and units use most.
    Top(TopQuery),
    /// Who talks to whom.
    Connections(ConnectionsQuery),
    /// The last lines of the journal.
    Logs(LogsQuery),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum HostReply {
    /// To [`HostQuery::Models`].
    Models(ModelsReply),
    /// To [`HostQuery::Record`].
    Record(RecordReply),
    /// To [`HostQuery::Top`].
    Top(TopReply),
    /// To [`HostQuery::Connections`].
    Connections(ConnectionsReply),
    /// To [`HostQuery::Logs`].
    Logs(LogsReply),
}

impl HostQuery {
    /// Its name: a word of [`NAMES`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Models(_) => "models",
            Self::Record(_) => "record",
            Self::Top(_) => "top",
            Self::Connections(_) => "connections",
            Self::Logs(_) => "logs",
        }
    }

    /// What an agent says in its Hello if it can answer this.
    #[must_use]
    pub fn capability(&self) -> String {
        format!("{CAPABILITY_PREFIX}{}", self.name())
    }
}

/// What an agent of this version says in its Hello that it can answer.
pub fn capabilities() -> impl Iterator<Item = String> {
    NAMES.into_iter().map(|name| format!("{CAPABILITY_PREFIX}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_among_the_capabilities_once() {
        let questions = [
            HostQuery::Models(ModelsQuery::default()),
            HostQuery::Record(RecordQuery::default()),
            HostQuery::Top(TopQuery::default()),
            HostQuery::Connections(ConnectionsQuery::default()),
            HostQuery::Logs(LogsQuery::default()),
        ];
        let said: Vec<_> = capabilities().collect();
        assert_eq!(said, questions.iter().map(HostQuery::capability).collect::<Vec<_>>());
    }
}
