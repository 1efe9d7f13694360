//! The uplink: one session with the collector, kept up for as long as the agent runs.
//!
//! A task of its own dials, says Hello, sends what the spool holds and passes on what the collector
//! says. The loop talks to it over [`UplinkHandle::send`] and hears of it as [`Inbound`]. While
//! there is no session the agent misses nothing but leases: the spool fills, and the task dials
//! again, waiting as [`crate::backoff`] says.
//!
//! Invariant: the identity is never dropped here. A collector that does not know the host says so,
//! the task keeps trying slowly, and the operator is told (`agent.degraded`).

pub mod message;
mod push;
mod session;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_core::ledger::Head;
use mainstay_core::sample::HostFacts;
use mainstay_core::time::Now;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::ledger::Reader;
use crate::spool::SpoolHandle;
pub use message::{Inbound, OrderKind, OutMessage, PolicyStanding, SignedBytes};

/// Most messages of the loop that wait to be sent.
const OUT_MAX: usize = 64;
/// Most answers to orders that are kept while there is no session. The collector sends an order
/// again until it is answered, so one that is dropped is asked for again.
const RESULTS_MAX: usize = 64;

/// What the uplink is told when it is started.
#[derive(Debug, Clone)]
pub struct UplinkSettings {
    /// Who the host is.
    pub identity: Identity,
    /// The folder that holds the identity, for renewed certificates.
    pub state: PathBuf,
    /// Where the collector is reached, where not as the token said.
    pub address: Option<String>,
    /// What the host says of itself.
    pub facts: HostFacts,
    /// Seed of the jitter.
    pub seed: u64,
    /// Reads both clocks.
    pub clock: fn() -> Now,
}

/// What the uplink reads besides its messages.
#[derive(Debug, Clone)]
pub struct Sources {
    /// What is to be sent.
    pub spool: SpoolHandle,
    /// Where the bytes of records are.
    pub ledger: Reader,
    /// The end of the ledger ([`crate::ledger::Ledger::heads`]).
    pub heads: watch::Receiver<Head>,
}

/// Counts for `/metrics`.
#[derive(Debug, Default)]
pub struct UplinkCounters {
    /// Sessions that came about.
    pub sessions: AtomicU64,
    /// Bytes of pushes sent, as compressed.
    pub pushed_bytes: AtomicU64,
    /// Items sent, those sent again included.
    pub items: AtomicU64,
    /// Messages of the loop that were dropped, because no session takes them.
    pub dropped: AtomicU64,
    /// Certificates renewed.
    pub renewals: AtomicU64,
}

impl UplinkCounters {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// How the loop talks to the uplink. The task ends when this is dropped.
#[derive(Debug)]
pub struct UplinkHandle {
    out: mpsc::Sender<OutMessage>,
    counters: Arc<UplinkCounters>,
    task: JoinHandle<()>,
}

impl UplinkHandle {
    /// Hands a message over without waiting; says whether it was taken. One that is not, because
    /// too many wait, is counted.
    pub fn send(&self, message: OutMessage) -> bool {
        let taken = self.out.try_send(message).is_ok();
        if !taken {
            UplinkCounters::add(&self.counters.dropped, 1);
        }
        taken
    }

    /// Counts for `/metrics`.
    #[must_use]
    pub fn counters(&self) -> &UplinkCounters {
        &self.counters
    }

    /// Says goodbye and waits, for `grace` at most, until everything is sent that goes without delay.
    pub async fn stop(self, reason: &str, back_within: Duration, grace: Duration) {
        let Self { out, mut task, .. } = self;
        let _ = out.try_send(OutMessage::Bye { reason: reason.to_owned(), back_within });
        drop(out);
        if tokio::time::timeout(grace, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Starts the uplink. What the collector says arrives at `inbound`; while that is full, the session
/// reads no further.
#[must_use]
pub fn spawn(settings: UplinkSettings, sources: Sources, inbound: mpsc::Sender<Inbound>) -> UplinkHandle {
    let (out, from_loop) = mpsc::channel(OUT_MAX);
    let counters = Arc::new(UplinkCounters::default());
    let uplink = Uplink {
        backoff: Backoff::new(settings.seed),
        settings,
        sources,
        inbound,
        from_loop,
        counters: Arc::clone(&counters),
        waiting: Waiting::default(),
        told: String::new(),
        degraded: None,
        push_bytes: push::BYTES_MAX,
    };
    UplinkHandle { out, counters, task: tokio::spawn(uplink.run()) }
}

/// Messages of the loop that the next session begins with.
#[derive(Debug, Default)]
struct Waiting {
    policy: Option<PolicyStanding>,
    results: VecDeque<OutMessage>,
}

impl Waiting {
    /// Keeps what is worth keeping while there is no session; says whether the loop wants to end.
    fn keep(&mut self, message: OutMessage, counters: &UplinkCounters) -> bool {
        match message {
            OutMessage::Policy(standing) => self.policy = Some(standing),
            OutMessage::Result { .. } => {
                if self.results.len() >= RESULTS_MAX {
                    self.results.pop_front();
                    UplinkCounters::add(&counters.dropped, 1);
                }
                self.results.push_back(message);
            }
            OutMessage::Lease { .. } | OutMessage::Reply { .. } => UplinkCounters::add(&counters.dropped, 1),
            OutMessage::Bye { .. } => return true,
        }
        false
    }
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// The loop is gone, or said goodbye.
    Stopped,
    /// It broke, was refused, or never came about.
    Broken {
        why: String,
        retry_after: Duration,
        /// Whether only an operator can help.
        degraded: bool,
    },
    /// To be begun anew: the spool has another numbering now.
    Again,
}

impl End {
    fn broken(why: impl Into<String>) -> Self {
        Self::Broken { why: why.into(), retry_after: Duration::ZERO, degraded: false }
    }
}

struct Uplink {
    settings: UplinkSettings,
    sources: Sources,
    inbound: mpsc::Sender<Inbound>,
    from_loop: mpsc::Receiver<OutMessage>,
    counters: Arc<UplinkCounters>,
    backoff: Backoff,
    waiting: Waiting,
    /// The last reason that was told for there being no session.
    told: String,
    degraded: Option<String>,
    /// Most bytes of items in one push; less after one was too large.
    push_bytes: usize,
}

impl Uplink {
    async fn run(mut self) {
        loop {
            match self.session().await {
                End::Stopped => return,
                // Waited for as well: a collector that is out of its mind must not make it spin.
                End::Again => {
                    let wait = self.backoff.next(Duration::ZERO);
                    if self.pause(wait).await {
                        return;
                    }
                }
                End::Broken { why, retry_after, degraded } => {
                    let (why, degraded) = match self.expired() {
                        Some(expired) => (format!("{expired}: {why}"), true),
                        None => (why, degraded),
                    };
                    self.tell_broken(&why, degraded).await;
                    let wait = self.backoff.next(retry_after);
                    tracing::info!(why, wait_ms = wait.as_millis(), "no session with the collector");
                    if self.pause(wait).await {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the certificate has ended, by this host's clock: then no session can come about, and
    /// what TLS says of it helps nobody. It is tried all the same, as the clock may be wrong.
    fn expired(&self) -> Option<&'static str> {
        let validity = self.settings.identity.validity()?;
        let has_ended = validity.until_ms < (self.settings.clock)().wall_ms;
        has_ended.then_some("the host's certificate has expired (enrol it again with --force, or set its clock)")
    }

    /// Waits for the next attempt; says whether the loop is gone meanwhile.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                message = self.from_loop.recv() => match message {
                    Some(message) => if self.waiting.keep(message, &self.counters) { return true },
                    None => return true,
                },
            }
        }
    }

    async fn tell_broken(&mut self, why: &str, degraded: bool) {
        if self.told != why {
            self.told = why.to_owned();
            self.tell(Inbound::Disconnected { why: why.to_owned() }).await;
        }
        self.tell_degraded(degraded.then(|| why.to_owned())).await;
    }

    async fn tell_degraded(&mut self, why: Option<String>) {
        if self.degraded != why {
            self.degraded.clone_from(&why);
            self.tell(Inbound::Degraded { why }).await;
        }
    }

    async fn tell(&self, inbound: Inbound) {
        // A loop that is gone is noticed where its messages are read.
        let _ = self.inbound.send(inbound).await;
    }

    /// Runs something that waits for the disk where it holds up nobody.
    async fn on_spool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SpoolHandle, Now) -> T + Send + 'static,
    ) -> Result<T, End> {
        let (spool, clock) = (self.sources.spool.clone(), self.settings.clock);
        let done = tokio::task::spawn_blocking(move || work(&spool, clock())).await;
        done.map_err(|error| End::broken(format!("the spool failed: {error}")))
    }
}
