//! The spool: everything that is to reach the collector, numbered, on disk until acknowledged.
//!
//! What goes in gets the next number; what comes out comes in the order of numbers, only after its
//! bytes are on the disk, so that no number is ever used twice. Findings, references to records in
//! the ledger and gaps lie in segments that are made ahead, so that a full disk cannot stop them;
//! samples lie apart, and the oldest go first when there is no room. What is missing is always
//! known: each gap is an item itself, and is sent where it belongs in the order.
//!
//! Invariant: every number up to the last is acknowledged, held here, or covered by a gap.

mod cursor;
mod handle;
pub mod item;
mod lane;
mod open;
mod room;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::change::Change;
use mainstay_core::finding::Finding;
use mainstay_core::id::{Epoch, HostId, Seq};
use mainstay_core::recording::FindingRecording;
use mainstay_core::scene::Scene;
use mainstay_core::series::Summary;
use mainstay_core::time::Now;
use mainstay_proto::v1;
use prost::Message as _;

use cursor::{Cursor, Marks};
use item::{Body, Stored, SummaryBodies, change_body, finding_body, recording_body, scene_body};
use lane::{Lane, Position};
use runs::Run;

pub use handle::SpoolHandle;

/// How long what is acknowledged is kept, so that a collector that was restored from a backup can
/// ask for it again. It goes sooner when the room is needed.
pub const KEEP_ACKED: Duration = Duration::from_secs(15 * 60);
/// The same for findings and changes, which are few: a collector that was set back by days must hear again which have
/// cleared since, or they stay open there.
pub const KEEP_ACKED_FINDINGS: Duration = Duration::from_secs(7 * 86_400);
/// Most bytes of them that are kept for longer than [`KEEP_ACKED`].
pub const KEEP_ACKED_FINDINGS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the spool is told when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The folder that holds the spools (`/var/lib/mainstay/spool`).
    pub root: PathBuf,
    /// Whose it is: an enrolment under another id begins a new one.
    pub host: HostId,
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// The random number that names the spool, if a new one has to be made.
    pub new_epoch: Epoch,
    /// The last record of the ledger that the collector is known to have
    /// ([`crate::ledger::Ledger::countersigned`]): a new spool does not refer to those before it.
    pub countersigned: u64,
}

/// What is to be known of a spool from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolStatus {
    /// Which spool it is.
    pub epoch: Epoch,
    /// The oldest item that is still here.
    pub first: Seq,
    /// The number that comes next.
    pub next: Seq,
    /// Everything up to here is acknowledged.
    pub acked: Seq,
    /// Bytes on disk.
    pub bytes: u64,
    /// Samples and findings that were dropped for lack of room since the start.
    pub dropped: u64,
}

/// The spool, open. See [`SpoolHandle`] for how it is shared.
#[derive(Debug)]
pub struct Spool {
    settings: SpoolSettings,
    epoch: Epoch,
    keep: Lane,
    samples: Lane,
    cursor: Cursor,
    marks: Marks,
    /// Gaps whose own number is not acknowledged, by the first number that they cover.
    gaps: BTreeMap<u64, (Seq, i64, v1::Gap)>,
    /// Runs that are lost, and not yet in a gap on disk.
    lost: Vec<(Run, &'static str)>,
    /// Records whose number is not acknowledged: number, index in the ledger.
    records: VecDeque<(u64, u64)>,
    /// The last record that has a number.
    referred: u64,
    /// Records before it that have none any more: a segment was unreadable.
    refer_again: Vec<u64>,
    reading: Reading,
    bodies: SummaryBodies,
    dropped: u64,
    notes: Vec<String>,
}

/// Where sending goes on.
#[derive(Debug, Default)]
struct Reading {
    /// Items up to here are not sent again.
    after: u64,
    /// Gaps that begin before this were sent.
    gaps_from: u64,
    /// The record that the next reference stands for; 0: that which it was made for.
    record: u64,
    /// The number of the last reference that was sent.
    referred: u64,
    keep: Position,
    samples: Position,
    keep_ahead: VecDeque<Stored>,
    samples_ahead: VecDeque<Stored>,
}

impl Spool {
    /// Puts a summary in. If there is no room, the oldest samples go; if there still is none, this
    /// one does, and is counted as a gap.
    ///
    /// # Errors
    /// If it could not be written. Its number is used up and will be reported as a gap.
    pub fn push_summary(&mut self, summary: &Summary, now: Now) -> io::Result<Seq> {
        let body = self.bodies.body(summary)?;
        self.push_sample(body, now)
    }

    /// Puts the seconds around a finding in, as [`Spool::push_summary`] does.
    ///
    /// # Errors
    /// If they could not be written. Their number is used up and will be reported as a gap.
    pub fn push_recording(&mut self, recording: &FindingRecording, now: Now) -> io::Result<Seq> {
        self.push_sample(recording_body(recording)?, now)
    }

    /// Puts what was seen before an action in, as [`Spool::push_summary`] does.
    ///
    /// # Errors
    /// If it could not be written. Its number is used up and will be reported as a gap.
    pub fn push_scene(&mut self, scene: &Scene, now: Now) -> io::Result<Seq> {
        self.push_sample(scene_body(scene)?, now)
    }

    fn push_sample(&mut self, body: Body, now: Now) -> io::Result<Seq> {
        self.tell_lost(now);
        let seq = self.next_seq();
        let stored = Stored { seq, wall_ms: now.wall_ms, body };
        // Where nobody reads, what is in memory could be dropped from the disk, and be told as lost, before it is sent.
        let is_read = self.reading.samples != Position::default();
        let all_read = is_read && self.reading.samples_ahead.is_empty() && self.samples.is_end(self.reading.samples);
        let appended = self.samples.append(std::slice::from_ref(&stored));
        self.marks.next += 1;
        if let Err(error) = appended {
            self.lost.push((Run::one(seq.0, now.wall_ms), "not written"));
            return Err(error);
        }
        if all_read {
            // Who has read all before it need not read this one.
            self.reading.samples_ahead.push_back(stored);
            self.reading.samples = self.samples.end();
        }
        self.make_room(now);
        Ok(seq)
    }

    /// Puts a finding in, as it is now. It is on disk when this returns.
    ///
    /// # Errors
    /// If it could not be written; it has no number then and may be put in again.
    pub fn push_finding(&mut self, finding: &Finding, now: Now) -> io::Result<Seq> {
        self.tell_lost(now);
        let seq = self.keep_all(vec![finding_body(finding)], now)?;
        self.make_room(now);
        Ok(seq)
    }

    /// Puts a change in. It is kept as findings are.
    ///
    /// # Errors
    /// If it could not be written; it has no number then and may be put in again.
    pub fn push_change(&mut self, change: &Change, now: Now) -> io::Result<Seq> {
        self.tell_lost(now);
        let seq = self.keep_all(vec![change_body(change)], now)?;
        self.make_room(now);
        Ok(seq)
    }

    /// Refers to every record of the ledger up to `head` that has no number yet. To be called after
    /// the ledger has them, and once after opening: so a crash between the two loses none.
    ///
    /// # Errors
    /// If it could not be written; the next call does it.
    pub fn refer(&mut self, head: u64, now: Now) -> io::Result<()> {
        self.tell_lost(now);
        let again = std::mem::take(&mut self.refer_again);
        let records: Vec<u64> = again.iter().copied().chain(self.referred + 1..=head).collect();
        if records.is_empty() {
            return Ok(());
        }
        let first = self.marks.next;
        if let Err(error) = self.keep_all(records.iter().copied().map(Body::Record).collect(), now) {
            self.refer_again = again;
            return Err(error);
        }
        self.records.extend((first..).zip(records));
        self.referred = self.referred.max(head);
        self.make_room(now);
        Ok(())
    }

    /// The next items to send, in order: about `bytes_max` bytes of them, at least one. Empty when
    /// everything was.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub fn next_items(&mut self, bytes_max: usize) -> io::Result<Vec<Stored>> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some(item) = self.next_item()? else { break };
            bytes += item.bytes();
            items.push(item);
        }
        Ok(items)
    }

    /// [`Spool::next_items`], where there are some and they are all in memory.
    pub fn items_at_hand(&mut self, bytes_max: usize) -> Option<Vec<Stored>> {
        let Reading { keep, samples, keep_ahead, samples_ahead, .. } = &self.reading;
        let is_at_hand = self.keep.is_end(*keep) && self.samples.is_end(*samples);
        let some = !(keep_ahead.is_empty() && samples_ahead.is_empty());
        (is_at_hand && some).then(|| self.next_items(bytes_max).ok()).flatten()
    }

    fn next_item(&mut self) -> io::Result<Option<Stored>> {
        let after = self.reading.after;
        fill(&mut self.reading.keep_ahead, &self.keep, &mut self.reading.keep, after)?;
        fill(&mut self.reading.samples_ahead, &self.samples, &mut self.reading.samples, after)?;
        let gap = self.gaps.range(self.reading.gaps_from..).next().map(|(from, _)| *from);
        let keep = self.reading.keep_ahead.front().map(|item| item.seq.0);
        let sample = self.reading.samples_ahead.front().map(|item| item.seq.0);
        let Some(first) = [gap, keep, sample].into_iter().flatten().min() else { return Ok(None) };
        if gap == Some(first) {
            self.reading.gaps_from = first + 1;
            return Ok(self.gaps.get(&first).map(|(seq, wall_ms, gap)| Stored {
                seq: *seq,
                wall_ms: *wall_ms,
                body: Body::Gap(gap.encode_to_vec()),
            }));
        }
        let from_keep = keep == Some(first);
        let ahead = if from_keep { &mut self.reading.keep_ahead } else { &mut self.reading.samples_ahead };
        let item = ahead.pop_front();
        Ok(item.map(|item| self.in_order(item)))
    }

    /// The collector has everything up to `durable`.
    pub fn acknowledge(&mut self, durable: Seq, now: Now) {
        if durable.0 <= self.marks.acked || durable.0 >= self.marks.next {
            return;
        }
        self.marks.acked = durable.0;
        while let Some((_, index)) = self.records.front().copied().filter(|(seq, _)| *seq <= durable.0) {
            self.records.pop_front();
            self.marks.record_acked = self.marks.record_acked.max(index);
        }
        self.gaps.retain(|_, (seq, ..)| *seq > durable);
        for lane in [&mut self.keep, &mut self.samples] {
            for segment in lane.segments.iter_mut().filter(|segment| segment.last() <= durable.0) {
                segment.acked_at_ns.get_or_insert(now.boot_ns);
            }
        }
        if let Err(error) = self.cursor.write(self.marks) {
            tracing::warn!(%error, "cannot write the cursor of the spool; some items will be sent twice");
        }
        self.trim(now);
    }

    /// A session begins, and the collector says up to where it has everything. Sending starts from
    /// there: further on than we knew if an acknowledgement was lost, further back if the collector
    /// was restored. What it lacks and is here no more becomes a gap. `ledger` is the last record
    /// that it has.
    ///
    /// # Errors
    /// If the spool had to be begun anew (it is behind what the collector has: the machine was set
    /// back) and could not be.
    pub fn resume(&mut self, durable: Seq, ledger: u64, now: Now) -> io::Result<()> {
        if durable.0 >= self.marks.next {
            self.begin_anew(now)?;
        } else if durable.0 < self.marks.acked {
            self.step_back(durable, ledger)?;
            let head = self.referred;
            self.refer(head, now)?;
        } else {
            self.acknowledge(durable, now);
        }
        self.refer_missing(ledger, now)?;
        self.tell_lost(now);
        let record = if ledger <= self.referred { ledger + 1 } else { 0 };
        self.read_from(record);
        Ok(())
    }

    /// Sending starts again from what is acknowledged: the collector did not take what came after it.
    pub fn rewind(&mut self) {
        let first = self.records.front().filter(|(seq, _)| *seq <= self.reading.referred);
        self.read_from(first.map_or(self.reading.record, |(_, index)| *index));
    }

    fn read_from(&mut self, record: u64) {
        self.reading = Reading { after: self.marks.acked, record, ..Reading::default() };
    }

    /// Sees to it that there is a reference for every record that the collector lacks: a spool that was begun since, or
    /// that has dropped what was acknowledged, has none for those that a restored collector lacks again.
    fn refer_missing(&mut self, ledger: u64, now: Now) -> io::Result<()> {
        let lacking = self.referred.saturating_sub(ledger);
        let missing = lacking.saturating_sub(self.records.len() as u64);
        if missing == 0 {
            return Ok(());
        }
        self.marks.record_acked = self.marks.record_acked.min(ledger);
        self.refer_again = (ledger + 1..=ledger + missing).collect();
        let head = self.referred;
        self.refer(head, now)
    }

    /// References stand for the records in their order from where the collector is, whichever they were made for: one that
    /// was made again has a later number than those of later records, and a chain is taken link by link.
    fn in_order(&mut self, item: Stored) -> Stored {
        let Body::Record(made_for) = item.body else { return item };
        if self.reading.record == 0 {
            return item;
        }
        let index = self.reading.record.min(self.referred.max(made_for));
        self.reading.record = index + 1;
        self.reading.referred = item.seq.0;
        let at = self.records.binary_search_by_key(&item.seq.0, |(seq, _)| *seq);
        if let Some(reference) = at.ok().and_then(|at| self.records.get_mut(at)) {
            reference.1 = index;
        }
        Stored { body: Body::Record(index), ..item }
    }

    /// What is to be known of it.
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        let first = [&self.keep, &self.samples].into_iter().filter_map(|lane| lane.segments.front());
        let first = first.filter(|segment| !segment.runs.is_empty()).map(|segment| segment.first).min();
        SpoolStatus {
            epoch: self.epoch,
            first: Seq(first.unwrap_or(self.marks.next)),
            next: self.next_seq(),
            acked: Seq(self.marks.acked),
            bytes: self.bytes(),
            dropped: self.dropped,
        }
    }

    /// What was found wrong when it was opened, or since, in words for the operator.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn next_seq(&self) -> Seq {
        Seq(self.marks.next)
    }

    /// Appends to the lane that nothing is dropped from; gives the first number.
    fn keep_all(&mut self, bodies: Vec<Body>, now: Now) -> io::Result<Seq> {
        let first = self.marks.next;
        let stored: Vec<_> =
            (first..).zip(bodies).map(|(seq, body)| Stored { seq: Seq(seq), wall_ms: now.wall_ms, body }).collect();
        self.keep.append(&stored)?;
        self.marks.next += stored.len() as u64;
        Ok(Seq(first))
    }

    /// Puts gaps in for what was lost. If that fails it is tried again with the next item.
    fn tell_lost(&mut self, now: Now) {
        if self.lost.is_empty() {
            return;
        }
        let gaps: Vec<_> = self.lost.iter().map(|(run, reason)| gap(*run, reason)).collect();
        let bodies = gaps.iter().map(|gap| Body::Gap(gap.encode_to_vec())).collect();
        match self.keep_all(bodies, now) {
            Ok(Seq(first)) => {
                self.lost.clear();
                for (seq, gap) in (first..).zip(gaps) {
                    self.hold_gap(Seq(seq), now.wall_ms, gap);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot write down what the spool lost; trying again"),
        }
    }

    /// Remembers of an item what is needed until it is acknowledged.
    fn hold_pending(&mut self, seq: Seq, wall_ms: i64, body: &Body) {
        match body {
            Body::Record(index) => self.records.push_back((seq.0, *index)),
            Body::Gap(bytes) => match v1::Gap::decode(&**bytes) {
                Ok(gap) => self.hold_gap(seq, wall_ms, gap),
                Err(error) => tracing::error!(seq = seq.0, %error, "a gap of the spool cannot be read"),
            },
            Body::Finding(_) | Body::Change(_) | Body::Summary(_) | Body::Recording(_) | Body::Scene(_) => {}
        }
    }

    fn hold_gap(&mut self, seq: Seq, wall_ms: i64, gap: v1::Gap) {
        // A gap that comes to lie before what was sent last goes out next, not with the next session.
        self.reading.gaps_from = self.reading.gaps_from.min(gap.seq_from);
        self.gaps.insert(gap.seq_from, (seq, wall_ms, gap));
    }
}

fn gap(run: Run, reason: &str) -> v1::Gap {
    v1::Gap {
        seq_from: run.first,
        seq_to: run.last,
        wall_from_ms: run.wall_from_ms,
        wall_to_ms: run.wall_to_ms,
        reason: reason.to_owned(),
    }
}

/// Reads ahead in a lane, if nothing is read ahead. Gaps go out in an order of their own.
fn fill(ahead: &mut VecDeque<Stored>, lane: &Lane, position: &mut Position, after: u64) -> io::Result<()> {
    while ahead.is_empty() {
        let items = lane.read(position)?;
        if items.is_empty() {
            break;
        }
        let is_due = |item: &Stored| item.seq.0 > after && !matches!(item.body, Body::Gap(_));
        ahead.extend(items.into_iter().filter(is_due));
    }
    Ok(())
}
