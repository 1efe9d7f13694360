//! What an operator asks of this host over the session, and the answers.
//!
//! Asking changes nothing here. An answer may be given at once or later; each question is answered
//! once, under its id. What was learned is told to root on the host as well, as a page.

use std::fmt::Write as _;
use std::time::Duration;

use mainstay_core::detect::learned::LearnedSubject;
use mainstay_core::host_query::{HostQuery, HostReply, ModelsQuery, ModelsReply};
use mainstay_core::policy::Glob;

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
            snapshots: self.snapshots.infos().to_vec(),
            relearning: self.agent.relearning().to_vec(),
        }
    }
}

impl Shell {
    /// What the detectors have learned, for a person at this host.
    pub(super) fn models_page(&self, metric: Option<Glob>) -> String {
        let learned = self.agent.learned();
        let mut text = String::new();
        if learned.is_frozen {
            text.push_str("learning is frozen by policy: models judge and do not learn\n");
        }
        for part in self.agent.relearning() {
            let _ = writeln!(text, "learned anew since the last start: {part}");
        }
        for model in learned.models {
            let state =
                model.learning.map_or_else(|| "learned".to_owned(), |left| format!("learning, {} left", short(left)));
            let _ = writeln!(
                text,
                "{} (version {}): {state}, {} subjects, {} bytes; {}",
                model.name, model.version, model.subjects, model.state_bytes, model.in_force
            );
            let of_model = |subject: &&LearnedSubject| {
                let is_meant = metric.as_ref().is_none_or(|glob| glob.matches(subject.name.as_bytes()));
                subject.model == model.name && is_meant
            };
            for subject in learned.subjects.iter().filter(of_model) {
                write_subject(&mut text, subject);
            }
        }
        for snapshot in self.snapshots.infos() {
            let usable = snapshot.unreadable.as_ref().map_or_else(String::new, |why| format!(", unusable: {why}"));
            let _ = writeln!(text, "snapshot {} ({}): {} bytes{usable}", snapshot.at_ms, snapshot.why, snapshot.bytes);
        }
        text
    }
}

fn write_subject(text: &mut String, subject: &LearnedSubject) {
    let _ = write!(text, "  {}", subject.name);
    if let (Some(expected), Some(scale), Some(limit)) = (subject.expected, subject.scale, subject.limit) {
        let _ = write!(text, ": usual now {expected:.4} (±{scale:.4}), unusual from ±{limit:.4}");
    }
    if !subject.text.is_empty() {
        let _ = write!(text, ": {}", subject.text);
    }
    if let Some(left) = subject.learning {
        let _ = write!(text, "; learning, {} left", short(left));
    }
    let _ = writeln!(text, "; {} shown", short(subject.trained));
}

/// A length of time in one unit.
fn short(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}
