//! What an operator asks of this host over the session, and the answers.
//!
//! Asking changes nothing here. An answer may be given at once or later; each question is answered
//! once, under its id. What was learned is told to root on the host as well, as a page.

use std::fmt::Write as _;
use std::time::Duration;

use mainstay_core::detect::learned::LearnedSubject;
use mainstay_core::host_query::{HostQuery, HostReply, ModelsQuery, ModelsReply, RecordQuery, RecordReply};
use mainstay_core::policy::Glob;
use mainstay_core::recording::Span;

use super::{Event, Shell};
use crate::host::clock;

/// Questions for the recording that are answered at one time: each has some megabytes in hand.
const READING_RECORDS_MAX: usize = 2;

impl Shell {
    pub(super) fn asked(&mut self, id: u64, query: HostQuery) {
        match query {
            HostQuery::Models(query) => self.uplink.reply(id, Ok(HostReply::Models(self.models(&query)))),
            HostQuery::Record(query) => self.record(id, query),
            HostQuery::Top(query) => self.answer_top(id, query),
            HostQuery::Logs(query) => self.answer_logs(id, query),
            HostQuery::Connections(query) => {
                let reply = self.connections.reply(&query, clock::now());
                self.uplink.reply(id, reply.map(HostReply::Connections));
            }
        }
    }

    /// Has the keeper read the flight recorder's ring; the answer comes back as an event.
    fn record(&mut self, id: u64, query: RecordQuery) {
        if self.reading_records >= READING_RECORDS_MAX {
            let text = format!("{READING_RECORDS_MAX} questions for the recording are being answered; ask again");
            return self.uplink.reply(id, Err(text));
        }
        self.reading_records += 1;
        let (recorder, _) = self.agent.recorder();
        let span = Span::until(recorder.boot(), clock::now(), query.last());
        let (answered, events) = (self.keeper.recorded(query, span, recorder.tail()), self.events.clone());
        tokio::spawn(async move {
            let reply = answered.await.map_err(|_| "the flight recorder cannot be read".to_owned());
            let _ = events.send(Event::Recorded { id, reply }).await;
        });
    }

    pub(super) fn recorded(&mut self, id: u64, reply: Result<RecordReply, String>) {
        self.reading_records = self.reading_records.saturating_sub(1);
        self.uplink.reply(id, reply.map(HostReply::Record));
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
