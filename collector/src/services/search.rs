//! Looking for findings, incidents, decisions, records and changes: by kind, subject, words and time.
//!
//! In: what an operator asks for, and an index of the store by time. Out: what is met by it, newest first, and whether there is
//! more. No index holds words: what time leaves is read and looked through, [`READ_MAX`] of it at most for one answer, which then
//! says how far back it has looked.

use std::ops::ControlFlow;

use mainstay_core::plan::Step;
use mainstay_core::policy::Glob;
use mainstay_proto::v1;
use mainstay_proto::v1::decision::Choice;
use mainstay_proto::v1::subject::Of;
use prost::Message;
use tonic::Status;

use crate::query::{Stop, TIMEOUT};
use crate::store::keys::Key;
use crate::store::{Store, StoreError};

/// Most that one answer holds, whatever was asked for.
const LIMIT_MAX: usize = 10_000;
/// What is answered when no limit is asked for.
const LIMIT_DEFAULT: usize = 1_000;
/// What is read for one answer at most, whatever was asked for.
const READ_MAX: usize = 200_000;
/// Entries of an index between two looks at whether somebody still waits.
const LOOK_EVERY: usize = 1_024;
/// Longest of what can be asked for.
const TEXT_BYTES_MAX: usize = 512;

/// A limit within bounds.
#[must_use]
pub fn limit(asked: u32) -> usize {
    if asked == 0 { LIMIT_DEFAULT } else { usize::try_from(asked).unwrap_or(LIMIT_MAX).min(LIMIT_MAX) }
}

/// What is looked for.
#[derive(Debug)]
pub struct Search {
    kind: String,
    subject: Option<Glob>,
    words: Vec<String>,
    /// From when, in milliseconds since 1970.
    pub from_ms: i64,
    /// Until when.
    pub to_ms: i64,
}

impl Search {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// If it is longer than it can be, or ends before it begins.
    pub fn read(asked: Option<&v1::Search>) -> Result<Self, Status> {
        let v1::Search { kind, subject, text, since_ms, until_ms } = asked.cloned().unwrap_or_default();
        for (what, given) in [("kind", &kind), ("subject", &subject), ("text", &text)] {
            if given.len() > TEXT_BYTES_MAX {
                let bytes = given.len();
                let why = format!("the {what} to look for has {bytes} bytes (at most {TEXT_BYTES_MAX})");
                return Err(Status::invalid_argument(why));
            }
        }
        let to_ms = if until_ms == 0 { i64::MAX } else { until_ms };
        if to_ms < since_ms {
            let why = "the time to look through ends before it begins: `since` has to be further back than `until`";
            return Err(Status::invalid_argument(why));
        }
        let words = text.split_whitespace().map(str::to_lowercase).collect();
        Ok(Self { kind, subject: Glob::new(&subject.to_lowercase()), words, from_ms: since_ms, to_ms })
    }

    /// All of a time.
    #[must_use]
    pub fn between(from_ms: i64, to_ms: i64) -> Self {
        Self { kind: String::new(), subject: None, words: Vec::new(), from_ms, to_ms }
    }

    /// Whether everything is meant that is of its time.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.kind.is_empty() && self.subject.is_none() && self.words.is_empty()
    }

    /// Whether this was within the time: it began, and ended if it did.
    #[must_use]
    pub fn spans(&self, began_ms: i64, ended_ms: Option<i64>) -> bool {
        began_ms <= self.to_ms && ended_ms.is_none_or(|ended_ms| ended_ms >= self.from_ms)
    }

    /// Whether this is meant, but for its time; with what else is told of it, such as its host's name.
    pub fn means(&self, event: &impl Event, elsewhere: &[&str]) -> bool {
        self.is_of_kind(event.kind()) && self.is_about(event) && self.is_told(event, elsewhere)
    }

    fn is_of_kind(&self, kind: &str) -> bool {
        let rest = kind.strip_prefix(&self.kind);
        rest.is_some_and(|rest| self.kind.is_empty() || rest.is_empty() || rest.starts_with('.'))
    }

    fn is_about(&self, event: &impl Event) -> bool {
        let Some(glob) = &self.subject else { return true };
        let (what, name) = event.subject();
        let name = name.to_lowercase();
        let shown = format!("{what}{name}");
        let short = name.strip_suffix(".service").unwrap_or(&name); // as systemctl takes it
        [short, &name, &shown].into_iter().any(|name| glob.matches(name.as_bytes()))
    }

    fn is_told(&self, event: &impl Event, elsewhere: &[&str]) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let (what, name) = event.subject();
        let mut told = format!("{}\n{what}{name}", event.kind());
        event.texts(&mut |text| {
            told.push('\n');
            told.push_str(text);
        });
        for text in elsewhere {
            told.push('\n');
            told.push_str(text);
        }
        let told = told.to_lowercase();
        self.words.iter().all(|word| told.contains(word))
    }
}

/// Something that is looked for.
pub trait Event {
    /// What kind of thing.
    fn kind(&self) -> &str;
    /// What it is about: what stands before the name where it is shown, and the name.
    fn subject(&self) -> (&'static str, String);
    /// Everything else that is told of it.
    fn texts(&self, tell: &mut dyn FnMut(&str));
}

/// What stands before the name of a subject where it is shown, and its name.
pub(super) fn named(subject: Option<&v1::Subject>) -> (&'static str, String) {
    match subject.and_then(|subject| subject.of.as_ref()) {
        None => ("", String::new()),
        Some(Of::Host(_)) => ("", "host".to_owned()),
        Some(Of::Unit(name) | Of::Series(name)) => ("", name.clone()),
        Some(Of::Mount(path)) => ("", String::from_utf8_lossy(path).into_owned()),
        Some(Of::Disk(name)) => ("disk ", name.clone()),
        Some(Of::Interface(name)) => ("interface ", name.clone()),
    }
}

impl Event for v1::Finding {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn subject(&self) -> (&'static str, String) {
        named(self.subject.as_ref())
    }

    fn texts(&self, tell: &mut dyn FnMut(&str)) {
        tell(&self.severity);
        self.evidence.iter().for_each(|evidence| tell(&evidence.text));
    }
}

impl Event for v1::DecisionView {
    fn kind(&self) -> &str {
        self.decision.as_ref().map_or("", |decision| &decision.kind)
    }

    fn subject(&self) -> (&'static str, String) {
        named(self.decision.as_ref().and_then(|decision| decision.subject.as_ref()))
    }

    fn texts(&self, tell: &mut dyn FnMut(&str)) {
        let Some(decision) = &self.decision else { return };
        decision.evidence.iter().for_each(|evidence| tell(&evidence.text));
        decision.rule.iter().for_each(|rule| tell(rule));
        for verdict in &decision.verdicts {
            tell(&verdict.guard);
            tell(&verdict.text);
        }
        let plan = match &decision.choice {
            Some(Choice::Act(plan)) => {
                tell("act");
                Some(plan)
            }
            Some(Choice::Hold(hold)) => {
                tell("hold");
                tell(&hold.reason);
                hold.would.as_ref()
            }
            None => None,
        };
        for step in plan.iter().flat_map(|plan| &plan.steps).filter_map(|planned| planned.step.clone()) {
            Step::try_from(step).iter().for_each(|step| tell(&step.to_string()));
        }
        self.steps.iter().for_each(|step| tell_outcome(step.outcome.as_ref(), tell));
        tell_verification(self.verification.as_ref(), tell);
        tell_author(self.answered.as_ref().and_then(|answered| answered.by.as_ref()), tell);
    }
}

/// How a step ended.
pub(super) fn tell_outcome(outcome: Option<&v1::Outcome>, tell: &mut dyn FnMut(&str)) {
    if let Some(outcome) = outcome {
        tell(&outcome.ended);
        tell(&outcome.text);
    }
}

/// Whether a plan helped.
pub(super) fn tell_verification(verification: Option<&v1::Verification>, tell: &mut dyn FnMut(&str)) {
    if let Some(verification) = verification {
        tell(if verification.recovered { "helped" } else { "did not help" });
        tell(&verification.text);
    }
}

/// Who ordered something, and why.
pub(super) fn tell_author(by: Option<&v1::Author>, tell: &mut dyn FnMut(&str)) {
    if let Some(author) = by {
        tell(&author.name);
        tell(&author.reason);
    }
}

impl Event for v1::Change {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn subject(&self) -> (&'static str, String) {
        ("", self.subject.clone())
    }

    fn texts(&self, tell: &mut dyn FnMut(&str)) {
        [&self.before, &self.after, &self.by].into_iter().flatten().for_each(|text| tell(text));
        tell(&self.text);
    }
}

/// One answer on its way: what was read for it, and whether there is more.
#[derive(Debug)]
pub struct Looking<'a> {
    /// Where it looks.
    pub store: &'a Store,
    stop: Stop,
    /// What it holds at most.
    limit: usize,
    passed: usize,
    read: usize,
    read_max: usize,
    /// There is more than fits.
    pub is_cut: bool,
    /// How far back it has looked where that is not all, in milliseconds since 1970.
    pub looked_back_to_ms: Option<i64>,
}

impl<'a> Looking<'a> {
    /// Looks until nobody waits any more.
    #[must_use]
    pub fn new(store: &'a Store, stop: &Stop, limit: usize) -> Self {
        Self {
            store,
            stop: stop.clone(),
            limit,
            passed: 0,
            read: 0,
            read_max: READ_MAX,
            is_cut: false,
            looked_back_to_ms: None,
        }
    }

    /// Looks for something small.
    #[must_use]
    pub fn briefly(store: &'a Store, limit: usize) -> Self {
        Self::new(store, &Stop::after(TIMEOUT), limit)
    }

    /// The value of a key, which counts as read.
    ///
    /// # Errors
    /// If the store fails.
    pub fn get<K: Key, V: Message + Default>(&mut self, key: &K) -> Result<Option<V>, StoreError> {
        self.count(1);
        self.store.get(key)
    }

    /// So many values were read.
    pub fn count(&mut self, read: usize) {
        self.read += read;
    }

    /// One more entry of an index.
    ///
    /// # Errors
    /// If nobody waits any more.
    pub fn pass(&mut self) -> Result<(), Status> {
        self.passed += 1;
        if self.passed.is_multiple_of(LOOK_EVERY) && self.stop.now().is_some() {
            return Err(Status::deadline_exceeded("it took too long; ask for less time or for one host"));
        }
        Ok(())
    }

    /// Goes through an index, newest first, and takes what `wanted` makes of its entries, until that breaks or enough is found.
    ///
    /// # Errors
    /// If the store fails, or nobody waits any more.
    pub fn take<K: Key, T>(
        &mut self,
        entries: impl Iterator<Item = Result<(K, Box<[u8]>), StoreError>>,
        at_ms: impl Fn(&K) -> i64,
        mut wanted: impl FnMut(&mut Self, K, &[u8]) -> Result<ControlFlow<(), Option<T>>, StoreError>,
    ) -> Result<Vec<T>, Status> {
        let mut found = Vec::new();
        for item in entries {
            let (key, value) = item?;
            self.pass()?;
            if self.read >= self.read_max {
                self.looked_back_to_ms = self.looked_back_to_ms.max(Some(at_ms(&key)));
                break;
            }
            match wanted(self, key, &value)? {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(one) => found.extend(one),
            }
            if found.len() > self.limit {
                break;
            }
        }
        self.cut(&mut found);
        Ok(found)
    }

    /// Leaves out what does not fit.
    pub fn cut<T>(&mut self, found: &mut Vec<T>) {
        self.is_cut |= found.len() > self.limit;
        found.truncate(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::id::{FindingId, HostId};

    use super::*;
    use crate::store::Batch;
    use crate::store::keys::{FindingByTimeKey, FindingKey, ended};

    fn search(kind: &str, subject: &str, text: &str) -> Search {
        let (kind, subject, text) = (kind.to_owned(), subject.to_owned(), text.to_owned());
        Search::read(Some(&v1::Search { kind, subject, text, ..v1::Search::default() })).unwrap()
    }

    fn finding(kind: &str, of: Of, evidence: &str) -> v1::Finding {
        let evidence = vec![v1::Evidence { text: evidence.to_owned(), measure: None }];
        let subject = Some(v1::Subject { of: Some(of) });
        v1::Finding { kind: kind.to_owned(), subject, evidence, ..v1::Finding::default() }
    }

    #[test]
    fn a_kind_is_meant_by_its_name_or_the_beginning_of_it() {
        let is = |asked, kind: &str| search(asked, "", "").means(&finding(kind, Of::Host(true), ""), &[]);
        assert!(is("", "file.changed") && is("file", "file.changed") && is("file.changed", "file.changed"));
        assert!(!is("fil", "file.changed") && !is("package", "packages.changed"));
    }

    #[test]
    fn a_subject_is_meant_by_its_name_or_as_it_is_shown() {
        let is = |asked, of| search("", asked, "").means(&finding("x", of, ""), &[]);
        for asked in ["nginx", "nginx.service", "NGINX*", "ngin?"] {
            assert!(is(asked, Of::Unit("Nginx.service".to_owned())), "{asked}");
        }
        assert!(
            !is("ngin", Of::Unit("nginx.service".to_owned())) && !is("nginx.s", Of::Unit("nginx.service".to_owned()))
        );
        assert!(is("sda", Of::Disk("sda".to_owned())) && is("disk sd?", Of::Disk("sda".to_owned())));
        assert!(is("/var/*", Of::Mount(b"/var/lib".to_vec())) && !is("/var", Of::Mount(b"/var/lib".to_vec())));
        assert!(is("interface eth0", Of::Interface("eth0".to_owned())) && is("host", Of::Host(true)));
    }

    #[test]
    fn every_word_has_to_be_told_somewhere() {
        let failed = finding("service.failed", Of::Unit("shop.service".to_owned()), "Result=oom-kill, 3 restarts");
        for asked in ["oom", "OOM-kill  restarts", "shop oom", "failed SHOP.service"] {
            assert!(search("", "", asked).means(&failed, &[]), "{asked}");
        }
        assert!(!search("", "", "oom disk").means(&failed, &[]));
        assert!(search("", "", "oom deployed").means(&failed, &["shop was deployed before"]));
        assert!(!search("disk", "", "oom").means(&failed, &[]) && !search("", "web*", "oom").means(&failed, &[]));
    }

    #[test]
    fn all_that_a_decision_tells_is_looked_through() {
        let planned = |of| v1::PlannedStep { action: 1, step: Some(v1::Step { of: Some(of) }) };
        let unit = v1::UnitStep { unit: "shop.service".to_owned(), reset_failed: false };
        let steps = vec![planned(v1::step::Of::UnitRestart(unit))];
        let would = Some(v1::Plan { steps, ..v1::Plan::default() });
        let verdict = v1::Verdict { guard: "budget".to_owned(), pass: false, text: "3 of 3 this hour".to_owned() };
        let decision = v1::Decision {
            kind: "service.failed".to_owned(),
            rule: Some("restart-shop".to_owned()),
            verdicts: vec![verdict],
            choice: Some(Choice::Hold(v1::Hold { reason: "breaker_open".to_owned(), would })),
            ..v1::Decision::default()
        };
        let verification = Some(v1::Verification { text: "stayed down".to_owned(), ..v1::Verification::default() });
        let view = v1::DecisionView { decision: Some(decision), verification, ..v1::DecisionView::default() };
        for asked in ["breaker_open", "unit.restart", "budget 3", "restart-shop", "stayed down"] {
            assert!(search("service", "", asked).means(&view, &[]), "{asked}");
        }
        assert!(!search("", "", "unit.stop").means(&view, &[]));
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused_with_the_reason() {
        let refused = |asked: v1::Search| Search::read(Some(&asked)).unwrap_err().message().to_owned();
        let long = v1::Search { text: "x".repeat(513), ..v1::Search::default() };
        assert_eq!(refused(long), "the text to look for has 513 bytes (at most 512)");
        let backwards = v1::Search { since_ms: 2, until_ms: 1, ..v1::Search::default() };
        assert!(refused(backwards).starts_with("the time to look through ends before it begins"));
    }

    /// Findings that opened a second after one another, the last with the highest number.
    fn store_of(findings: u64) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), 32 << 20, 0).unwrap();
        let mut batch = Batch::default();
        for n in 0..findings {
            let (host, id) = (HostId([7; 16]), FindingId(n));
            batch.put(
                &FindingKey { host, finding: id },
                &finding("disk.full", Of::Host(true), &format!("{} %", n % 100)),
            );
            let opened_ms = n.cast_signed() * 1_000;
            batch.put_raw(&FindingByTimeKey { opened_ms, host, finding: id }, ended(None));
        }
        tokio::runtime::Runtime::new().unwrap().block_on(store.commit(batch)).unwrap();
        (folder, store)
    }

    fn found(looking: &mut Looking<'_>, search: &Search) -> Result<Vec<u64>, Status> {
        let entries = looking.store.scan_back_from(&FindingByTimeKey::all(), &FindingByTimeKey::at(search.to_ms));
        let at_ms = |key: &FindingByTimeKey| key.opened_ms;
        looking.take(entries, at_ms, |looking, key, _| {
            let read: Option<v1::Finding> = looking.get(&FindingKey { host: key.host, finding: key.finding })?;
            let is_meant = read.is_some_and(|read| search.means(&read, &[]));
            Ok(ControlFlow::Continue(is_meant.then_some(key.finding.0)))
        })
    }

    #[test]
    fn what_is_not_looked_through_any_more_is_said_and_can_be_asked_for() {
        let (_folder, store) = store_of(500);
        let mut looking = Looking::briefly(&store, 10);
        looking.read_max = 200;
        let mut search = search("", "", "42");
        assert_eq!(found(&mut looking, &search).unwrap(), [442, 342]);
        assert_eq!((looking.is_cut, looking.looked_back_to_ms), (false, Some(299_000)));
        search.to_ms = 299_000;
        let mut looking = Looking::briefly(&store, 1);
        assert_eq!(found(&mut looking, &search).unwrap(), [242]);
        assert_eq!((looking.is_cut, looking.looked_back_to_ms), (true, None), "there is more");
        let mut looking = Looking::briefly(&store, 3);
        assert_eq!(found(&mut looking, &search).unwrap(), [242, 142, 42]);
        assert_eq!((looking.is_cut, looking.looked_back_to_ms), (false, None), "that is all");
    }

    #[test]
    fn nothing_more_is_read_when_nobody_waits() {
        let (_folder, store) = store_of(2_000);
        let stop = Stop::after(TIMEOUT);
        let mut looking = Looking::new(&store, &stop, 10);
        drop(stop.on_drop());
        assert!(found(&mut looking, &search("", "", "nothing")).unwrap_err().message().contains("took too long"));
        assert!(looking.read < 2_000, "{}", looking.read);
    }
}
