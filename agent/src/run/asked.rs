//! What an operator asks of this host over the session, and the answers.
//!
//! Asking changes nothing here. An answer may be given at once or later; each question is answered
//! once, under its id.

use mainstay_core::host_query::{HostQuery, HostReply, ModelsQuery, ModelsReply};

use super::Shell;

impl Shell {
    pub(super) fn asked(&self, id: u64, query: &HostQuery) {
        match query {
            HostQuery::Models(query) => self.uplink.reply(id, Ok(HostReply::Models(self.models(query)))),
        }
    }

    /// What the detectors have learned.
    fn models(&self, query: &ModelsQuery) -> ModelsReply {
        let learned = self.agent.learned();
        let (subjects, matching, next) = query.page(learned.subjects);
        ModelsReply {
            models: learned.models,
            subjects,
            matching,
            next,
            is_frozen: learned.is_frozen,
            snapshots: Vec::new(),
            relearning: self.agent.relearning().to_vec(),
        }
    }
}
