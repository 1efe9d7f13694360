//! What a host's log says, without the log: counts by unit and priority, templates, and what the kernel reports.
//!
//! In: lines with the fields that journald itself vouches for ([`Line`]). Out: a [`LogReading`] for the sample, cumulative
//! as other counters are, and bounded whatever is logged. Only counts, templates and few redacted examples leave the
//! host. Everything in a message may have been written by an attacker: it decides nothing about whose line it is.

mod snapshot;
mod templates;
mod words;

use std::collections::BTreeMap;

use crate::parse::kmsg::{self, KernelEvent};
use crate::subject::UnitName;
use templates::{Template, Templates};
use words::Words;

pub use templates::TEMPLATES_MAX;
pub use words::{MESSAGE_BYTES_MAX, RULES_MAX, Redaction};

/// Most units that are told apart. The one that was silent for longest makes room.
pub const UNITS_MAX: usize = 128;

/// Most templates of all units together.
pub const TEMPLATES_HOST_MAX: usize = 1_024;

/// Most events of the kernel in one reading; a dying disk says the same a thousand times.
pub const KERNEL_EVENTS_MAX: usize = 32;

/// Most new patterns in one reading.
pub const NOVEL_MAX: usize = 8;

/// Templates that a reading names of a unit with errors.
const TOP_MAX: usize = 3;

/// A unit is known after this long and this many lines: what is new before is new because everything is.
const KNOWN_AFTER_MS: i64 = 3_600_000;
const KNOWN_LINES: u64 = 200;

/// A unit that has had to forget templates within this time says nothing about new ones: they may be old ones.
const FORGETFUL_MS: i64 = 24 * 3_600_000;

/// A new pattern is worth a word when it has come this often: a single odd line is not.
const NOVEL_LINES: u64 = 3;

/// From this priority (syslog's `err`) on a line is an error.
const ERROR_PRIORITY: u8 = 3;

/// A message as it may leave the host: secrets masked, control characters and what is too long left out.
#[must_use]
pub fn redacted(message: &[u8], redaction: &Redaction) -> String {
    let mut words = Words::default();
    words.mask(message, redaction);
    words.example(redaction)
}

/// One line of the journal, as far as journald vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// When journald took it.
    pub wall_ms: i64,
    /// Whose it is.
    pub source: Source<'a>,
    /// 0 to 7; clients choose it, so that it decides no more than what counts as an error.
    pub priority: u8,
    /// What it says: at most the first [`MESSAGE_BYTES_MAX`] bytes are looked at. `None` where it cannot be read, or
    /// too much is logged at once to look at every line.
    pub message: Option<&'a [u8]>,
}

/// Whose a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// The kernel's own: it came through the kernel's log, with the kernel's facility.
    Kernel,
    /// A unit's, by `_SYSTEMD_UNIT`.
    Unit(&'a UnitName),
    /// Somebody else's: sessions, transient units, what came without a unit.
    Other,
}

/// What the log came to, up to a moment: counters since the agent started, and what is new since the reading before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogReading {
    /// By unit.
    pub units: BTreeMap<UnitName, LogCounts>,
    /// The kernel's.
    pub kernel: LogCounts,
    /// All other lines.
    pub other: LogCounts,
    /// Lines that were only counted because there were too many: their unit and priority are not known.
    pub skipped: u64,
    /// Lines whose text could not be read, or was not because there were too many.
    pub unread: u64,
    /// Entries that were damaged.
    pub damaged: u64,
    /// Units and templates that were forgotten to make room.
    pub evicted: u64,
    /// What the kernel reported since the reading before.
    pub events: Vec<KernelEvent>,
    /// Reports of the kernel that were left out because of [`KERNEL_EVENTS_MAX`].
    pub events_dropped: u64,
    /// Patterns of errors that a known unit had not written before.
    pub novel: Vec<(UnitName, Pattern)>,
}

impl LogReading {
    /// Whether something in it is not in the reading before.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.events.is_empty() || !self.novel.is_empty()
    }

    /// The same, without what is new.
    #[must_use]
    pub fn without_news(&self) -> Self {
        Self { events: Vec::new(), novel: Vec::new(), ..self.clone() }
    }

    /// Takes over what is new in `before`, which nobody has seen; within the bounds.
    pub fn follow(&mut self, before: &Self) {
        let events = before.events.iter().cloned().chain(std::mem::take(&mut self.events));
        self.events = events.take(KERNEL_EVENTS_MAX).collect();
        let novel = before.novel.iter().cloned().chain(std::mem::take(&mut self.novel));
        self.novel = novel.take(NOVEL_MAX).collect();
    }
}

/// Lines of one source.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogCounts {
    /// By priority.
    pub lines: [u64; 8],
    /// Errors: of priority `err` or worse, or that say so of themselves.
    pub errors: u64,
    /// The most frequent patterns of errors in about the last minute; empty where there was none.
    pub top: Vec<Pattern>,
}

/// A pattern of messages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pattern {
    /// `cannot open <*> No such file`
    pub template: String,
    /// Its messages in about the last minute.
    pub recent: u32,
    /// One of them, redacted.
    pub example: String,
}

/// What is kept of one source.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    counts: LogCounts,
    templates: Templates,
    /// When it was first and last heard.
    first_ms: i64,
    last_ms: i64,
    /// Lines since it was first heard, restarts of the agent included.
    lines: u64,
    /// When it last had an error.
    error_ms: i64,
}

/// Takes lines in and gives readings.
#[derive(Debug, Default)]
pub struct Digest {
    redaction: Redaction,
    words: Words,
    units: BTreeMap<UnitName, Kept>,
    kernel: Kept,
    other: LogCounts,
    skipped: u64,
    unread: u64,
    damaged: u64,
    evicted: u64,
    events: Vec<KernelEvent>,
    events_dropped: u64,
    novel: Vec<(UnitName, Pattern)>,
    /// Time of the latest line.
    seen_ms: i64,
}

impl Digest {
    /// Starts knowing nothing.
    #[must_use]
    pub fn new(redaction: Redaction) -> Self {
        Self { redaction, ..Self::default() }
    }

    /// Takes a line.
    pub fn line(&mut self, line: Line<'_>) {
        self.seen_ms = self.seen_ms.max(line.wall_ms);
        if line.message.is_none() {
            self.unread += 1;
        }
        match line.source {
            Source::Kernel => {
                if let Some(event) = line.message.and_then(kmsg::parse) {
                    if self.events.len() < KERNEL_EVENTS_MAX {
                        self.events.push(event);
                    } else {
                        self.events_dropped += 1;
                    }
                }
                let _ = self.kernel.take(line, &mut self.words, &self.redaction);
            }
            Source::Unit(name) => {
                if !self.units.contains_key(name) {
                    self.make_room();
                    self.units.insert(name.clone(), Kept { first_ms: line.wall_ms, ..Kept::default() });
                }
                let Some(kept) = self.units.get_mut(name) else { return };
                if let Some(pattern) = kept.take(line, &mut self.words, &self.redaction)
                    && self.novel.len() < NOVEL_MAX
                {
                    self.novel.push((name.clone(), pattern));
                }
                self.bound_templates();
            }
            Source::Other => count(&mut self.other, line.priority, false),
        }
    }

    /// Time of the latest line, that of an agent before this one included; 0 where there was none.
    #[must_use]
    pub fn seen_ms(&self) -> i64 {
        self.seen_ms
    }

    /// Counts lines that were not looked at because there were too many.
    pub fn skip(&mut self, lines: u64) {
        self.skipped = self.skipped.saturating_add(lines);
    }

    /// Counts an entry that was damaged.
    pub fn damaged(&mut self) {
        self.damaged += 1;
    }

    /// What it all came to. What is new in it is not in the next.
    pub fn reading(&mut self, now_ms: i64) -> LogReading {
        LogReading {
            units: self.units.iter().map(|(name, kept)| (name.clone(), kept.reading(now_ms))).collect(),
            kernel: self.kernel.reading(now_ms),
            other: self.other.clone(),
            skipped: self.skipped,
            unread: self.unread,
            damaged: self.damaged,
            evicted: self.evicted + self.units.values().map(|kept| kept.templates.evicted).sum::<u64>(),
            events: std::mem::take(&mut self.events),
            events_dropped: self.events_dropped,
            novel: std::mem::take(&mut self.novel),
        }
    }

    fn make_room(&mut self) {
        if self.units.len() < UNITS_MAX {
            return;
        }
        let quietest = self.units.iter().min_by_key(|(_, kept)| kept.last_ms).map(|(name, _)| name.clone());
        self.evicted += quietest.and_then(|name| self.units.remove(&name)).map_or(0, |kept| 1 + kept.templates.evicted);
    }

    /// Keeps the templates of all units within their bound: the quietest unit loses all of its.
    fn bound_templates(&mut self) {
        while self.units.values().map(|kept| kept.templates.len()).sum::<usize>() > TEMPLATES_HOST_MAX {
            let with_some = self.units.values_mut().filter(|kept| kept.templates.len() > 0);
            let Some(kept) = with_some.min_by_key(|kept| kept.last_ms) else { return };
            kept.templates.clear(kept.last_ms);
        }
    }
}

impl Kept {
    /// Takes a line; gives the pattern if it is a new one that is worth a word.
    fn take(&mut self, line: Line<'_>, words: &mut Words, redaction: &Redaction) -> Option<Pattern> {
        self.last_ms = self.last_ms.max(line.wall_ms);
        self.lines += 1;
        let Some(message) = line.message else {
            count(&mut self.counts, line.priority, false);
            return None;
        };
        words.mask(message, redaction);
        let error = line.priority <= ERROR_PRIORITY || words.says_error();
        count(&mut self.counts, line.priority, error);
        if error {
            self.error_ms = self.error_ms.max(line.wall_ms);
        }
        let is_known = self.is_known(line.wall_ms);
        let (template, is_new) = self.templates.add(words.iter(), line.wall_ms);
        template.error |= error;
        if is_new {
            template.novel = is_known;
        }
        if template.example.is_empty() && error {
            template.example = words.example(redaction).into();
        }
        if !template.novel || template.told || !error || template.lines < NOVEL_LINES {
            return None;
        }
        template.told = true;
        Some(pattern(template, line.wall_ms))
    }

    /// Whether what is new now is really new.
    fn is_known(&self, now_ms: i64) -> bool {
        let forgot = self.templates.evicted_ms.is_some_and(|at| now_ms.saturating_sub(at) < FORGETFUL_MS);
        self.lines >= KNOWN_LINES && now_ms.saturating_sub(self.first_ms) >= KNOWN_AFTER_MS && !forgot
    }

    fn reading(&self, now_ms: i64) -> LogCounts {
        let mut counts = self.counts.clone();
        if now_ms.saturating_sub(self.error_ms) < 2 * templates::WINDOW_MS {
            let mut top: Vec<&Template> =
                self.templates.iter().filter(|template| template.error && template.recent(now_ms) > 0).collect();
            top.sort_by_key(|template| std::cmp::Reverse(template.recent(now_ms)));
            counts.top = top.into_iter().take(TOP_MAX).map(|template| pattern(template, now_ms)).collect();
        }
        counts
    }
}

fn pattern(template: &Template, now_ms: i64) -> Pattern {
    Pattern { template: template.text(), recent: template.recent(now_ms), example: template.example.to_string() }
}

fn count(counts: &mut LogCounts, priority: u8, error: bool) {
    counts.lines[usize::from(priority.min(7))] += 1;
    counts.errors += u64::from(error || priority <= ERROR_PRIORITY);
}

#[cfg(test)]
mod tests;
