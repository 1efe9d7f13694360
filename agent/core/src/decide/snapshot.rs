//! The book as bytes, so that a start need not read the whole ledger.
//!
//! The shell keeps a snapshot with the number of the last record that it holds, and applies what follows. A snapshot
//! that cannot be read is thrown away and the ledger read from the first record on: nothing is lost by it but time.
//! Leases are left out; they are short and asked for again.

use std::collections::VecDeque;
use std::time::Duration;

use super::book::{ASKED_MAX, Acted, Answer, Asked, Book, Episode, HOLDS_MAX, Held, KEYS_MAX, Key, Running, TRIES_MAX};
use super::budget::{ProvenClock, TIMES_MAX, Times};
use crate::canonical::{Reader, Truncated, Writer};
use crate::finding::FindingKind;
use crate::id::{BootId, DecisionId, FindingId};
use crate::plan::Verify;
use crate::record::Author;
use crate::subject::{PathBytes, Subject};

/// What the bytes begin with. A change of the encoding changes it, and older snapshots are thrown away.
const TAG: &str = "mainstay-book-1";

/// Names of steps, so that a running one can be named without keeping text.
const STEPS: [&str; 6] = ["unit.restart", "unit.start", "unit.stop", "unit.reload", "disk.reclaim", "notify"];

impl Book {
    /// The book as bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG);
        writer.u8(u8::from(self.clock.boot.is_some())).fixed(&self.clock.boot.unwrap_or_default().0);
        writer.u64(self.clock.before_ns).u64(self.clock.seen_ns);
        writer.count(self.acted.len());
        for (key, acted) in &self.acted {
            write_key(&mut writer, key);
            writer.u64(acted.at).u32(acted.failures);
        }
        writer.count(self.times.len());
        for (rule, times) in &self.times {
            writer.text(rule).count(times.0.len());
            times.0.iter().for_each(|at| drop_ref(writer.u64(*at)));
        }
        writer.count(self.episodes.len());
        for (key, episode) in &self.episodes {
            write_key(&mut writer, key);
            writer.u64(episode.began).u64(episode.finding.0).count(episode.tries.len());
            episode.tries.iter().for_each(|(rung, at)| drop_ref(writer.u32(*rung).u64(*at)));
        }
        writer.count(self.running.len());
        for (subject, running) in &self.running {
            write_subject(&mut writer, subject);
            write_running(&mut writer, running);
        }
        writer.count(self.asked.len());
        for (decision, asked) in &self.asked {
            writer.u64(decision.0).u64(asked.finding.0).fixed(&asked.plan_hash).u64(asked.at);
            writer.u8(u8::from(asked.answer.is_some()));
            if let Some(answer) = &asked.answer {
                writer.u8(u8::from(answer.approved)).i64(answer.until_ms);
                write_author(&mut writer, &answer.by);
            }
        }
        writer.count(self.holds.len());
        for (scope, held) in &self.holds {
            writer.text(scope).u8(u8::from(held.until_ms.is_some())).i64(held.until_ms.unwrap_or(0));
            write_author(&mut writer, &held.by);
        }
        writer.finish()
    }

    /// The book that a snapshot was taken of.
    ///
    /// # Errors
    /// [`Truncated`] for anything that [`Book::snapshot`] does not write.
    pub fn restore(bytes: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(bytes, TAG)?;
        let mut book = Self::default();
        let (has_boot, boot) = (reader.u8()? != 0, BootId(reader.fixed()?));
        book.clock = ProvenClock { boot: has_boot.then_some(boot), before_ns: reader.u64()?, seen_ns: reader.u64()? };
        for _ in 0..bounded(&mut reader, KEYS_MAX)? {
            let key = read_key(&mut reader)?;
            book.acted.insert(key, Acted { at: reader.u64()?, failures: reader.u32()? });
        }
        for _ in 0..bounded(&mut reader, usize::MAX)? {
            let rule = reader.text()?;
            let count = bounded(&mut reader, TIMES_MAX)?;
            let times = (0..count).map(|_| reader.u64()).collect::<Result<VecDeque<_>, _>>()?;
            book.times.insert(rule, Times(times));
        }
        for _ in 0..bounded(&mut reader, KEYS_MAX)? {
            let key = read_key(&mut reader)?;
            let (began, finding) = (reader.u64()?, FindingId(reader.u64()?));
            let count = bounded(&mut reader, TRIES_MAX)?;
            let tries = (0..count).map(|_| Ok((reader.u32()?, reader.u64()?))).collect::<Result<Vec<_>, _>>()?;
            book.episodes.insert(key, Episode { began, finding, tries });
        }
        for _ in 0..bounded(&mut reader, usize::MAX)? {
            let subject = read_subject(&mut reader)?;
            let running = read_running(&mut reader)?;
            book.running.insert(subject, running);
        }
        for _ in 0..bounded(&mut reader, ASKED_MAX)? {
            let decision = DecisionId(reader.u64()?);
            let asked = read_asked(&mut reader)?;
            book.asked.insert(decision, asked);
        }
        for _ in 0..bounded(&mut reader, HOLDS_MAX)? {
            let scope = reader.text()?;
            let (has_end, end_ms) = (reader.u8()? != 0, reader.i64()?);
            let by = read_author(&mut reader)?;
            book.holds.insert(scope, Held { until_ms: has_end.then_some(end_ms), by });
        }
        reader.finish()?;
        Ok(book)
    }
}

/// Ends a chain of writes in a closure.
fn drop_ref(_: &mut Writer) {}

fn bounded(reader: &mut Reader<'_>, max: usize) -> Result<usize, Truncated> {
    let count = reader.count()?;
    if count <= max { Ok(count) } else { Err(Truncated { at: 0 }) }
}

fn write_key(writer: &mut Writer, (rule, subject): &Key) {
    writer.text(rule);
    write_subject(writer, subject);
}

fn read_key(reader: &mut Reader<'_>) -> Result<Key, Truncated> {
    Ok((reader.text()?, read_subject(reader)?))
}

fn write_subject(writer: &mut Writer, subject: &Subject) {
    match subject {
        Subject::Host => writer.u8(0),
        Subject::Unit(unit) => writer.u8(1).text(unit.as_str()),
        Subject::Mount(path) => writer.u8(2).bytes(&path.0),
        Subject::Disk(name) => writer.u8(3).text(name),
        Subject::Interface(name) => writer.u8(4).text(name),
        Subject::Series(name) => writer.u8(5).text(name),
    };
}

fn read_subject(reader: &mut Reader<'_>) -> Result<Subject, Truncated> {
    Ok(match reader.u8()? {
        0 => Subject::Host,
        1 => Subject::Unit(reader.text()?.parse().map_err(|_| Truncated { at: 0 })?),
        2 => Subject::Mount(PathBytes(reader.bytes()?.to_vec())),
        3 => Subject::Disk(reader.text()?),
        4 => Subject::Interface(reader.text()?),
        5 => Subject::Series(reader.text()?),
        _ => return Err(Truncated { at: 0 }),
    })
}

fn write_running(writer: &mut Writer, running: &Running) {
    writer.u64(running.decision.0).u64(running.finding.0).text(running.kind.as_str());
    writer.text(&running.rule).text(running.step);
    write_duration(writer, running.verify.stable_for);
    write_duration(writer, running.verify.within);
    writer.u8(u8::from(running.begun)).u64(running.since);
}

fn read_running(reader: &mut Reader<'_>) -> Result<Running, Truncated> {
    let (decision, finding) = (DecisionId(reader.u64()?), FindingId(reader.u64()?));
    let kind: FindingKind = reader.text()?.parse().map_err(|_| Truncated { at: 0 })?;
    let (rule, step) = (reader.text()?, reader.text()?);
    let step = STEPS.into_iter().find(|known| *known == step).ok_or(Truncated { at: 0 })?;
    let verify = Verify { stable_for: read_duration(reader)?, within: read_duration(reader)? };
    let (begun, since) = (reader.u8()? != 0, reader.u64()?);
    Ok(Running { decision, finding, kind, rule, step, verify, begun, since })
}

fn read_asked(reader: &mut Reader<'_>) -> Result<Asked, Truncated> {
    let (finding, plan_hash, at) = (FindingId(reader.u64()?), reader.fixed()?, reader.u64()?);
    let answer = if reader.u8()? == 0 {
        None
    } else {
        Some(Answer { approved: reader.u8()? != 0, until_ms: reader.i64()?, by: read_author(reader)? })
    };
    Ok(Asked { finding, plan_hash, answer, at })
}

fn write_author(writer: &mut Writer, by: &Author) {
    writer.text(&by.name).text(&by.reason);
}

fn read_author(reader: &mut Reader<'_>) -> Result<Author, Truncated> {
    Ok(Author { name: reader.text()?, reason: reader.text()? })
}

fn write_duration(writer: &mut Writer, duration: Duration) {
    writer.u64(duration.as_secs()).u32(duration.subsec_nanos());
}

fn read_duration(reader: &mut Reader<'_>) -> Result<Duration, Truncated> {
    let (seconds, nanos) = (reader.u64()?, reader.u32()?);
    if nanos < 1_000_000_000 { Ok(Duration::new(seconds, nanos)) } else { Err(Truncated { at: 0 }) }
}
