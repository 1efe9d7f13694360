//! A push: unpacked within bounds, checked, stored once, durable, acknowledged. In this order.
//!
//! Everything that a push changes of its host is one durable batch with the host's marks; what is
//! known in memory changes only afterwards. So a crash at any point leaves marks and items in step,
//! and an item that is sent again is known.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mainstay_core::id::{ActionId, DecisionId, Epoch, FindingId, HostId, Seq};
use mainstay_core::recording::WINDOW_BYTES_MAX;
use mainstay_fleet::dedup::{Admit, Gap, Marks};
use mainstay_proto::packed::{self, BadPush};
use mainstay_proto::v1;
use prost::Message;

use super::credit::credit;
use super::hello::not_enrolled;
use super::ledger::LedgerPass;
use super::summary::{BadSummary, SeriesBook, Stored};
use super::{chain, changes, findings, incidents};
use crate::clock;
use crate::hub::Hub;
use crate::metrics::{add, count};
use crate::store::keys::{MarkKey, RecordingKey, SceneKey};
use crate::store::values::MarkRow;
use crate::store::{Batch, Store, StoreError};

/// Most items of one push.
pub const ITEMS_MAX: usize = 20_000;
/// Most gaps of a host that are kept with their times: the latest.
pub const GAPS_MAX: usize = 256;
/// Most bytes of what was seen before an action: some fifty lines, and what fits a frame of the actuator.
const SCENE_BYTES_MAX: usize = 128 * 1024;
/// The capability of agents that keep what they are given no credit for, and go on in the same session.
const WAITS: &str = "waits";
/// The capability of agents that remember the acknowledgement before.
const BRIEF: &str = "brief";

/// One session's way into the store.
#[derive(Debug)]
pub struct Ingest {
    hub: Arc<Hub>,
    host: HostId,
    session: u64,
    epoch: u64,
    book: SeriesBook,
    /// Whether the agent keeps what it is given no credit for, and goes on in the same session.
    waits: bool,
    /// It was given none: what it sends is read and not taken, until it is given some again.
    paused: bool,
    /// The number of the last item that was read.
    last_seq: Option<u64>,
    /// Whether the agent remembers the acknowledgement before, and what that said but for its number.
    remembers: bool,
    told: Option<(Option<v1::LedgerHead>, u32)>,
}

/// What one push comes to before it is durable.
struct Pass {
    mark: MarkRow,
    marks: Marks,
    batch: Batch,
    findings: Vec<v1::Finding>,
    stored: u64,
    duplicates: u64,
    lost: u64,
    points: u64,
    /// Of the last summary.
    series: Option<Stored>,
    dropped: u64,
}

/// What reading a push comes to.
enum Read<'s> {
    /// Nothing of it is taken.
    Left(v1::Ack),
    Staged(Box<Pass>, LedgerPass<'s>),
}

impl Ingest {
    /// For one session.
    #[must_use]
    pub fn new(hub: Arc<Hub>, host: HostId, session: u64, epoch: u64) -> Self {
        let live = |hub: &Hub| hub.state().hosts.get(&host).and_then(|host| host.live.clone());
        let live = live(&hub);
        let says = |word| live.as_ref().is_some_and(|live| live.capabilities.contains(word));
        let (waits, remembers) = (says(WAITS), says(BRIEF));
        let book = SeriesBook::default();
        Self { hub, host, session, epoch, book, waits, paused: false, last_seq: None, remembers, told: None }
    }

    /// Takes one push.
    ///
    /// # Errors
    /// Why it is not taken; the session then ends.
    pub async fn push(&mut self, push: v1::Push) -> Result<v1::Ack, v1::Reject> {
        let started = Instant::now();
        let bytes = push.encoded_len().max(push.zstd.len());
        let hub = self.hub.clone();
        let mut turn = hub.push_turns.take(&push).await;
        let lock = self.lock()?;
        let guard = match lock.try_lock() {
            Ok(guard) => guard,
            Err(_) => {
                // Whoever has it may have it for minutes: nobody who waits for it holds a turn.
                drop(turn);
                let guard = lock.lock().await;
                turn = hub.push_turns.take(&push).await;
                guard
            }
        };
        let now_ms = clock::wall_ms();
        let read = turn.work(|| self.read(&hub.store, push, now_ms));
        // What is left is waiting for the disk.
        drop(turn);
        let (pass, records) = match read? {
            Read::Left(ack) => return Ok(ack),
            Read::Staged(pass, records) => (pass, records),
        };
        let ack = self.commit(*pass, records, now_ms).await;
        drop(guard);
        count(&hub.metrics.pushes);
        add(&hub.metrics.push_bytes, bytes as u64);
        ack.map(|ack| v1::Ack { credit_bytes: self.credit(started.elapsed()), ..ack })
    }

    /// Reads a push, and lays out what it changes. Under the host's lock.
    fn read<'s>(&mut self, store: &'s Store, push: v1::Push, now_ms: i64) -> Result<Read<'s>, v1::Reject> {
        let push = if push.next.is_empty() { unpack(push)? } else { self.follow(push)? };
        self.last_seq = push.items.last().map(|item| item.seq).or(self.last_seq);
        if push.epoch != self.epoch {
            return Err(malformed(format!("a push of epoch {:016x} in a session of {:016x}", push.epoch, self.epoch)));
        }
        if push.items.len() > ITEMS_MAX {
            return Err(reject("too_large", format!("a push of {} items (at most {ITEMS_MAX})", push.items.len()), 0));
        }
        if let Err(error) = store.room().check() {
            if !self.waits {
                return Err(broken(&error));
            }
            self.paused = true;
        }
        for def in push.define {
            self.book.define(def, store.keys()).map_err(|error| malformed(error.to_string()))?;
        }
        if self.paused {
            return self.leave(push.items).map(Read::Left);
        }
        let (pass, records) = self.stage(store, push.items, now_ms)?;
        Ok(Read::Staged(Box::new(pass), records))
    }

    /// What the agent may have on its way, after a push that took so long.
    fn credit(&self, took: Duration) -> u32 {
        credit(took, self.hub.sessions_open.load(Ordering::Relaxed))
    }

    /// A push that is nothing but the summary after the last item.
    fn follow(&self, push: v1::Push) -> Result<v1::Push, v1::Reject> {
        let columns = push.next;
        if !(push.items.is_empty() && push.define.is_empty() && push.zstd.is_empty()) {
            return Err(malformed("a push is a next summary or something else, but not both".to_owned()));
        }
        let Some(seq) = self.last_seq.and_then(|last| last.checked_add(1)) else {
            return Err(malformed("a next summary comes after no item of this session".to_owned()));
        };
        let summary = v1::Summary { columns, ..v1::Summary::default() };
        let items = vec![v1::Item { seq, of: Some(v1::item::Of::Summary(summary)) }];
        let epoch = if push.epoch == 0 { self.epoch } else { push.epoch };
        Ok(v1::Push { epoch, items, ..v1::Push::default() })
    }

    /// An acknowledgement as it is said to this agent: without what stood in the one before, if it remembers that.
    pub fn brief(&mut self, ack: v1::Ack) -> v1::Ack {
        let told = Some((ack.ledger.clone(), ack.credit_bytes));
        if self.remembers && self.told == told {
            return v1::Ack { durable_seq: ack.durable_seq, same: true, ..v1::Ack::default() };
        }
        self.told = told;
        ack
    }

    /// Credit again for an agent that was given none, once there is room.
    pub fn resume(&mut self) -> Option<v1::Ack> {
        if !self.paused || self.hub.store.room().check().is_err() {
            return None;
        }
        self.paused = false;
        self.known(self.credit(Duration::ZERO)).ok()
    }

    /// Reads a push without taking it: the next one says only what changed since. The agent keeps it.
    fn leave(&mut self, items: Vec<v1::Item>) -> Result<v1::Ack, v1::Reject> {
        for item in items {
            if let Some(v1::item::Of::Summary(summary)) = item.of {
                self.book.read(summary).map_err(|error| malformed(format!("item {}: {error}", item.seq)))?;
            }
        }
        count(&self.hub.metrics.pushes_left);
        self.known(0)
    }

    /// What is durable of the host, with so much credit.
    fn known(&self, credit_bytes: u32) -> Result<v1::Ack, v1::Reject> {
        let state = self.hub.state();
        let host = state.hosts.get(&self.host).ok_or_else(not_enrolled)?;
        let durable_seq = host.mark.marks().acknowledged(Epoch(self.epoch)).0;
        Ok(v1::Ack { epoch: self.epoch, durable_seq, ledger: host.mark.ledger.clone(), credit_bytes, same: false })
    }

    fn lock(&self) -> Result<Arc<tokio::sync::Mutex<()>>, v1::Reject> {
        let state = self.hub.state();
        let host =
            state.hosts.get(&self.host).ok_or_else(|| reject("not_enrolled", "the host is not known here", 0))?;
        Ok(host.lock.clone())
    }

    /// Lays out what the items change.
    fn stage<'s>(
        &mut self,
        store: &'s Store,
        items: Vec<v1::Item>,
        now_ms: i64,
    ) -> Result<(Pass, LedgerPass<'s>), v1::Reject> {
        let (mark, short, hostname) = {
            let state = self.hub.state();
            let host =
                state.hosts.get(&self.host).ok_or_else(|| reject("not_enrolled", "the host is not known here", 0))?;
            if host.live.as_ref().is_none_or(|live| live.id != self.session) {
                return Err(reject("duplicate_identity", "another session of this host has taken over", 10_000));
            }
            self.book.begin(host.slot);
            (host.mark.clone(), host.row.short, host.hostname().to_owned())
        };
        let mut records = LedgerPass::new(store, self.host, hostname, now_ms);
        let marks = mark.marks();
        let mut pass = Pass {
            mark,
            marks,
            batch: Batch::default(),
            findings: Vec::new(),
            stored: 0,
            duplicates: 0,
            lost: 0,
            points: 0,
            series: None,
            dropped: 0,
        };
        self.book.seal(store, &mut pass.batch, short, now_ms).map_err(|error| broken(&error))?;
        for item in items {
            self.item(&mut pass, &mut records, short, item, now_ms)?;
        }
        records.finish(&mut pass.batch);
        Ok((pass, records))
    }

    fn item(
        &mut self,
        pass: &mut Pass,
        records: &mut LedgerPass<'_>,
        short: u32,
        item: v1::Item,
        now_ms: i64,
    ) -> Result<(), v1::Reject> {
        let epoch = Epoch(self.epoch);
        let malformed_item = |error: BadSummary| malformed(format!("item {}: {error}", item.seq));
        let (summary, of) = match item.of {
            Some(v1::item::Of::Summary(summary)) => (Some(self.book.read(summary).map_err(malformed_item)?), None),
            of => (None, of),
        };
        match pass.marks.admit(epoch, Seq(item.seq)) {
            Admit::New => pass.stored += 1,
            Admit::Duplicate => {
                pass.duplicates += 1;
                return Ok(());
            }
            Admit::Refused { expected } => {
                return Err(malformed(format!(
                    "item {} cannot be taken, {} is the first that is missing",
                    item.seq, expected.0
                )));
            }
        }
        if let Some(summary) = summary {
            let bounds = (now_ms, self.hub.settings().series_per_host);
            let stored = self.book.store(&self.hub.store, &mut pass.batch, short, summary, bounds);
            let stored = stored.map_err(|error| broken(&error))?;
            pass.points += stored.points;
            pass.dropped += stored.dropped;
            pass.series = Some(stored);
        }
        match of {
            Some(v1::item::Of::Finding(finding)) => self.finding(pass, finding, now_ms),
            Some(v1::item::Of::Ledger(entry)) => {
                let taken = records.take(&mut pass.batch, &mut pass.mark, entry).map_err(|error| broken(&error))?;
                taken.map_err(|why| malformed(format!("item {}: {why}", item.seq)))?;
            }
            Some(v1::item::Of::Gap(gap)) => {
                let range = Gap { first: Seq(gap.seq_from), last: Seq(gap.seq_to) };
                if range.is_empty() || gap.seq_to > item.seq {
                    return Err(malformed(format!(
                        "item {} declares {} to {} lost",
                        item.seq, gap.seq_from, gap.seq_to
                    )));
                }
                if gap.seq_to == item.seq {
                    // In the place of an item that its host could not read.
                    pass.stored -= 1;
                    pass.lost += 1;
                }
                pass.lost += pass.marks.declare_lost(epoch, range);
                pass.mark.gaps.push(gap);
                let old = pass.mark.gaps.len().saturating_sub(GAPS_MAX);
                pass.mark.gaps.drain(..old);
            }
            Some(v1::item::Of::Recording(recording)) => {
                if recording.columns.len() > WINDOW_BYTES_MAX {
                    let bytes = recording.columns.len();
                    return Err(malformed(format!(
                        "item {}: a recording of {bytes} bytes (at most {WINDOW_BYTES_MAX})",
                        item.seq
                    )));
                }
                let key = RecordingKey { host: self.host, finding: FindingId(recording.finding) };
                pass.batch.put(&key, &recording);
            }
            Some(v1::item::Of::Scene(scene)) => {
                let bytes = scene.encoded_len();
                if bytes > SCENE_BYTES_MAX {
                    return Err(malformed(format!(
                        "item {}: a scene of {bytes} bytes (at most {SCENE_BYTES_MAX})",
                        item.seq
                    )));
                }
                let (decision, action) = (DecisionId(scene.decision), ActionId(scene.action));
                pass.batch.put(&SceneKey { decision, host: self.host, action }, &scene);
            }
            Some(v1::item::Of::Change(change)) => {
                changes::store(&mut pass.batch, self.host, change, now_ms)
                    .map_err(|why| malformed(format!("item {}: {why}", item.seq)))?;
            }
            // A summary; or of a newer version, which Welcome did not agree on: counted, so that the stream goes on.
            Some(v1::item::Of::Summary(_)) | None => {}
        }
        Ok(())
    }

    fn finding(&self, pass: &mut Pass, finding: v1::Finding, now_ms: i64) {
        findings::store(&mut pass.batch, self.host, &finding, now_ms);
        pass.findings.push(finding);
    }

    async fn commit(&self, mut pass: Pass, records: LedgerPass<'_>, now_ms: i64) -> Result<v1::Ack, v1::Reject> {
        let hub = &self.hub;
        let LedgerPass { doubts, healing, unread, .. } = records;
        for doubt in &doubts {
            tracing::error!(host = %self.host, doubt, "the host's ledger is doubtful");
            note(&mut pass.mark.doubts, doubt, now_ms);
        }
        pass.mark.set_marks(&pass.marks);
        pass.mark.epoch = self.epoch;
        pass.mark.last_seen_ms = now_ms;
        pass.mark.stored += pass.stored;
        pass.mark.lost += pass.lost;
        let Pass { mark, marks, mut batch, findings, .. } = pass;
        batch.put(&MarkKey { host: self.host }, &mark);
        hub.store.commit(batch).await.map_err(|error| broken(&error))?;
        let ack = v1::Ack {
            epoch: self.epoch,
            durable_seq: marks.acknowledged(Epoch(self.epoch)).0,
            ledger: mark.ledger.clone(),
            credit_bytes: 0,
            same: false,
        };
        if let Some(host) = hub.state().hosts.get_mut(&self.host) {
            // What other messages of this session changed meanwhile stays.
            host.mark = MarkRow {
                policy: host.mark.policy.clone(),
                clock_offset_ms: host.mark.clock_offset_ms,
                back_by_ms: host.mark.back_by_ms,
                ..mark
            };
            host.heard_ms = now_ms;
            host.series = pass.series.unwrap_or(host.series);
            host.slot = self.book.slot();
            for finding in &findings {
                if finding.state == "open" {
                    host.findings.insert(finding.id, finding.clone());
                } else {
                    host.findings.remove(&finding.id);
                }
            }
            for (decision, acts) in healing {
                if acts {
                    host.healing.insert(decision, now_ms)
                } else {
                    host.healing.remove(&decision)
                };
            }
            host.healing.retain(|_, at| now_ms.saturating_sub(*at) < 900_000);
        }
        let metrics = &hub.metrics;
        add(&metrics.items, pass.stored);
        add(&metrics.duplicates, pass.duplicates);
        add(&metrics.lost, pass.lost);
        add(&metrics.samples, pass.points);
        add(&metrics.points_dropped, pass.dropped);
        add(&metrics.doubts, doubts.len() as u64);
        add(&metrics.records_unread, unread);
        incidents::observe(hub, self.host, &findings);
        Ok(ack)
    }
}

/// Adds a doubt with its time, once.
pub(super) fn note(doubts: &mut Vec<String>, doubt: &str, now_ms: i64) {
    if doubts.len() < chain::DOUBTS_MAX && !doubts.iter().any(|known| known.ends_with(doubt)) {
        doubts.push(format!("{now_ms}: {doubt}"));
    }
}

/// What a push has, unpacked if it is compressed.
fn unpack(push: v1::Push) -> Result<v1::Push, v1::Reject> {
    packed::unpack(push).map_err(|bad| match bad {
        BadPush::TooLarge => reject("too_large", bad.to_string(), 0),
        BadPush::Malformed(why) => malformed(why),
    })
}

/// A refusal.
#[must_use]
pub fn reject(reason: &str, text: impl Into<String>, retry_after_ms: u64) -> v1::Reject {
    v1::Reject { reason: reason.to_owned(), text: text.into(), retry_after_ms }
}

/// A refusal of what no honest agent of this version sends. It may try again: after an upgrade.
pub(super) fn malformed(text: String) -> v1::Reject {
    reject("malformed", text, 60_000)
}

/// A refusal because of the store: the agent keeps what it has.
pub(super) fn broken(error: &StoreError) -> v1::Reject {
    match error {
        StoreError::Full(_) => reject("storage_full", "the collector's disk is full; nothing is lost, keep it", 30_000),
        StoreError::Closed => reject("shutting_down", "the collector is stopping", 5_000),
        other => {
            tracing::error!(error = %other, "the store failed");
            reject("overloaded", "the collector's store failed; nothing is lost, keep it", 30_000)
        }
    }
}
