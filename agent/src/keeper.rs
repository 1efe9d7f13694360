//! The thread that makes things durable, so that a slow disk never stalls the tick.
//!
//! In: records, items for the spool, files, minutes of the flight recorder. Out: which records are
//! durable. Records that wait together share one fsync. The order in which they came is kept, and a
//! record that follows one that failed fails too, so that a durable record implies those before it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use mainstay_core::agent::{Item, Token};
use mainstay_core::host_query::{RecordQuery, RecordReply};
use mainstay_core::ledger::Head;
use mainstay_core::record::{Body, Record};
use mainstay_core::recording::{FindingRecording, Span, Window};
use mainstay_core::scene::Scene;
use mainstay_proto::convert::encode_record;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::host::clock;
use crate::ledger::Ledger;
use crate::recording::{self, Ring};
use crate::spool::SpoolHandle;
use crate::{durable, failpoint};

/// Most records that share one fsync.
const GROUP_MAX: usize = 256;

/// Most items that wait for the disk. Beyond it new ones are dropped and counted; records never.
const ITEMS_QUEUED_MAX: usize = 1_024;

/// What is to be made durable.
enum Request {
    Record { token: Token, record: Box<Record> },
    Item(Box<Item>),
    Countersign(Head),
    File { path: PathBuf, bytes: Vec<u8> },
    Remove(PathBuf),
    Chunk(Vec<u8>),
    Cut(Box<Window>, Option<Vec<u8>>),
    Recorded(Box<Recorded>),
    Scene(Box<Scene>),
    Flush(oneshot::Sender<()>),
}

/// A question about what was recorded, and where its answer goes.
struct Recorded {
    query: RecordQuery,
    span: Span,
    tail: Option<Vec<u8>>,
    answer: oneshot::Sender<RecordReply>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// The record is durable.
    Persisted(Token),
    /// The record is not in the ledger.
    Failed(Token, String),
}

/// Counters that the thread keeps.
#[derive(Debug, Default)]
pub struct KeeperCounts {
    /// Records that are durable.
    pub persisted: AtomicU64,
    /// Records that could not be made durable.
    pub failed: AtomicU64,
    /// Items that were dropped because of a bound or an error of the disk.
    pub items_dropped: AtomicU64,
    /// fsyncs of the ledger.
    pub syncs: AtomicU64,
    /// Minutes of the flight recorder that the ring took, and that it could not take.
    pub minutes: AtomicU64,
    /// See [`KeeperCounts::minutes`].
    pub minutes_failed: AtomicU64,
    /// Series that were left out of minutes because they did not fit.
    pub minutes_cut: AtomicU64,
    queued: AtomicUsize,
}

/// The way to the thread.
#[derive(Debug)]
pub struct Keeper {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<KeeperCounts>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

impl Keeper {
    /// Starts the thread. What becomes of records is told through `told`. There is no spool before
    /// the host is enrolled. `ring` is where the flight recorder's ring lies.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        ledger: Ledger,
        spool: Option<SpoolHandle>,
        ring: PathBuf,
        told: UnboundedSender<Kept>,
    ) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel();
        let counts = Arc::new(KeeperCounts::default());
        let recorder = RingFile { path: ring, open: None, failing: String::new() };
        let mut work = Work { ledger, spool, recorder, told, counts: counts.clone() };
        let builder = std::thread::Builder::new().name("keeper".to_owned()).stack_size(512 << 10);
        let thread = builder.spawn(move || work.run(&queue))?;
        Ok(Self { requests: Some(requests), thread: Some(thread), counts })
    }

    /// Appends a record to the ledger; the answer comes through the channel.
    pub fn record(&self, token: Token, record: Record) {
        self.send(Request::Record { token, record: Box::new(record) });
    }

    /// Puts an item in the spool.
    pub fn item(&self, item: Item) {
        if self.counts.queued.fetch_add(1, Ordering::Relaxed) >= ITEMS_QUEUED_MAX {
            self.counts.queued.fetch_sub(1, Ordering::Relaxed);
            self.counts.items_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.send(Request::Item(Box::new(item)));
    }

    /// The collector has the ledger up to `head`.
    pub fn countersign(&self, head: Head) {
        self.send(Request::Countersign(head));
    }

    /// Replaces a small file.
    pub fn file(&self, path: PathBuf, bytes: Vec<u8>) {
        self.send(Request::File { path, bytes });
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, path: PathBuf) {
        self.send(Request::Remove(path));
    }

    /// Keeps a minute of the flight recorder.
    pub fn chunk(&self, chunk: Vec<u8>) {
        self.send(Request::Chunk(chunk));
    }

    /// Cuts the seconds around a finding, and puts them in the spool. `tail` is what was recorded since the last minute.
    pub fn cut(&self, window: Box<Window>, tail: Option<Vec<u8>>) {
        self.send(Request::Cut(window, tail));
    }

    /// Puts what was seen before an action in the spool.
    pub fn scene(&self, scene: Box<Scene>) {
        self.send(Request::Scene(scene));
    }

    /// Reads what was recorded.
    pub fn recorded(&self, query: RecordQuery, span: Span, tail: Option<Vec<u8>>) -> oneshot::Receiver<RecordReply> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Recorded(Box::new(Recorded { query, span, tail, answer })));
        answered
    }

    /// Answers when everything that was asked before is done.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        self.send(Request::Flush(done));
        let _ = is_done.await;
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> &KeeperCounts {
        &self.counts
    }

    fn send(&self, request: Request) {
        if let Some(requests) = &self.requests {
            // The thread ends only after this sender: if it panicked, the answers do not come, and
            // the core takes the ledger for unavailable.
            let _ = requests.send(request);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The flight recorder's ring, opened when it is first needed and again after it could not be.
struct RingFile {
    path: PathBuf,
    open: Option<Ring>,
    /// What went wrong last, so that it is said once.
    failing: String,
}

impl RingFile {
    fn ring(&mut self) -> Option<&mut Ring> {
        if self.open.is_none() {
            match Ring::open(&self.path) {
                Ok(ring) => self.open = Some(ring),
                Err(error) => self.failed(&error),
            }
        }
        self.open.as_mut()
    }

    fn append(&mut self, chunk: &[u8], counts: &KeeperCounts) {
        let Some(ring) = self.ring() else {
            counts.minutes_failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match ring.append(chunk) {
            Ok(appended) => {
                counts.minutes.fetch_add(1, Ordering::Relaxed);
                counts.minutes_cut.fetch_add(appended.left_out as u64, Ordering::Relaxed);
                if !self.failing.is_empty() {
                    info!(path = %self.path.display(), "the flight recorder's ring can be written again");
                    self.failing.clear();
                }
            }
            Err(error) => {
                counts.minutes_failed.fetch_add(1, Ordering::Relaxed);
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        let text = error.to_string();
        if self.failing != text {
            warn!(path = %self.path.display(), %error, "the flight recorder's ring cannot be written");
            self.failing = text;
        }
    }
}

struct Work {
    ledger: Ledger,
    spool: Option<SpoolHandle>,
    recorder: RingFile,
    told: UnboundedSender<Kept>,
    counts: Arc<KeeperCounts>,
}

impl Work {
    fn run(&mut self, queue: &Receiver<Request>) {
        // Made at the start, when nothing waits for it: taking its room takes a while on a slow disk.
        self.recorder.ring();
        let mut group = Vec::new();
        while let Ok(first) = queue.recv() {
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request {
                    Request::Record { token, record } => {
                        group.push((token, record));
                        if group.len() < GROUP_MAX {
                            next = queue.try_recv().ok();
                        }
                    }
                    other => {
                        // Order matters: what came before is durable before this is done.
                        self.append(&mut group);
                        self.other(other);
                        next = queue.try_recv().ok();
                    }
                }
            }
            self.append(&mut group);
        }
    }

    fn append(&mut self, group: &mut Vec<(Token, Box<Record>)>) {
        if group.is_empty() {
            return;
        }
        pass_all(group, "before");
        let bytes: Vec<Vec<u8>> = group.iter().map(|(_, record)| encode_record(record)).collect();
        let before = self.ledger.head();
        let result = self.ledger.append(&bytes);
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        let durable = usize::try_from(self.ledger.head().index - before.index).unwrap_or(usize::MAX);
        let error = result.err().map(|error| crate::actuate::chain(&error)).unwrap_or_default();
        pass_all(group, "after");
        if durable > 0 {
            failpoint::pass("before_spooled");
            let head = self.ledger.head().index;
            if let Some(Err(error)) = self.spool.as_ref().map(|spool| spool.refer(head, clock::now())) {
                error!(%error, "records are durable here but cannot be queued for the collector");
            }
            failpoint::pass("after_spooled");
        }
        for (at, (token, _)) in group.drain(..).enumerate() {
            let kept = if at < durable {
                self.counts.persisted.fetch_add(1, Ordering::Relaxed);
                Kept::Persisted(token)
            } else {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                Kept::Failed(token, error.clone())
            };
            let _ = self.told.send(kept);
        }
    }

    /// Nobody takes what is cut before the host is enrolled.
    fn cut(&mut self, window: &Window, tail: Option<&[u8]>) {
        let Some(spool) = &self.spool else { return };
        let recording = recording::window(self.recorder.ring().map(|ring| &*ring), tail, window);
        let kept = FindingRecording { finding: window.finding, opened_ms: window.opened_ms, recording };
        if let Err(error) = spool.push_recording(&kept, clock::now()) {
            self.counts.items_dropped.fetch_add(1, Ordering::Relaxed);
            error!(%error, "a recording cannot be queued for the collector");
        }
    }

    fn other(&mut self, request: Request) {
        match request {
            Request::Item(item) => {
                self.counts.queued.fetch_sub(1, Ordering::Relaxed);
                let Some(spool) = &self.spool else { return };
                let pushed = match *item {
                    Item::Finding(finding) => spool.push_finding(&finding, clock::now()),
                    Item::Summary(summary) => spool.push_summary(summary, clock::now()),
                    Item::Change(change) => spool.push_change(&change, clock::now()),
                };
                if let Err(error) = pushed {
                    self.counts.items_dropped.fetch_add(1, Ordering::Relaxed);
                    error!(%error, "cannot be queued for the collector");
                }
            }
            Request::Countersign(head) => self.ledger.countersign(head),
            Request::File { path, bytes } => {
                if let Err(error) = durable::write_atomic(&path, &bytes, 0o600) {
                    error!(path = %path.display(), %error, "cannot be written");
                }
            }
            Request::Remove(path) => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    error!(path = %path.display(), %error, "cannot be removed");
                }
                _ => {}
            },
            Request::Chunk(chunk) => self.recorder.append(&chunk, &self.counts),
            Request::Cut(window, tail) => self.cut(&window, tail.as_deref()),
            Request::Scene(scene) => {
                let pushed = self.spool.as_ref().map(|spool| spool.push_scene(&scene, clock::now()));
                if let Some(Err(error)) = pushed {
                    self.counts.items_dropped.fetch_add(1, Ordering::Relaxed);
                    error!(%error, "a scene cannot be queued for the collector");
                }
            }
            Request::Recorded(asked) => {
                let Recorded { query, span, tail, answer } = *asked;
                let ring = self.recorder.ring().map(|ring| &*ring);
                // Whoever asked may be gone.
                let _ = answer.send(recording::page(ring, tail.as_deref(), span, &query));
            }
            Request::Flush(done) => {
                let _ = done.send(());
            }
            Request::Record { .. } => {}
        }
    }
}

/// Passes the failpoint of each record that marks a boundary of an action.
fn pass_all(group: &[(Token, Box<Record>)], side: &str) {
    for (_, record) in group {
        let what = match record.body {
            Body::Intent { .. } => "intent",
            Body::Outcome { .. } => "outcome",
            Body::Verified { .. } => "verified",
            _ => continue,
        };
        failpoint::pass(&format!("{side}_{what}_persisted"));
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::id::{BootId, HostId};
    use mainstay_core::time::Now;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::ledger::LedgerSettings;

    fn record(at: u64) -> Record {
        let body = Body::Started { boot: BootId::default(), version: "0".to_owned() };
        Record { at: Now { boot_ns: at, wall_ms: 0 }, body }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn records_are_durable_in_their_order_and_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            LedgerSettings { root: folder.path().join("ledger"), host: HostId::default(), bytes_max: 8 << 20 };
        let (told, mut kept) = unbounded_channel();
        let keeper =
            Keeper::start(Ledger::open(&settings).unwrap(), None, folder.path().join("recording"), told).unwrap();
        for token in 1..=3 {
            keeper.record(Token(token), record(token));
        }
        keeper.file(folder.path().join("learned"), b"x".to_vec());
        keeper.flush().await;
        for token in 1..=3 {
            assert_eq!(kept.recv().await, Some(Kept::Persisted(Token(token))));
        }
        assert_eq!(std::fs::read(folder.path().join("learned")).unwrap(), b"x");
        drop(keeper);
        let records: Vec<Record> =
            Ledger::open(&settings).unwrap().replay().unwrap().into_iter().map(|r| r.1).collect();
        assert_eq!(records, [record(1), record(2), record(3)]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_record_that_cannot_be_kept_is_told_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            LedgerSettings { root: folder.path().join("ledger"), host: HostId::default(), bytes_max: 8 << 20 };
        let (told, mut kept) = unbounded_channel();
        let keeper =
            Keeper::start(Ledger::open(&settings).unwrap(), None, folder.path().join("recording"), told).unwrap();
        let text = "x".repeat(mainstay_core::ledger::RECORD_BYTES_MAX + 1);
        let body = Body::Started { boot: BootId::default(), version: text };
        keeper.record(Token(9), Record { at: Now::default(), body });
        let Some(Kept::Failed(Token(9), text)) = kept.recv().await else { panic!("it was kept") };
        assert!(!text.is_empty());
    }
}
