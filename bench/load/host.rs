//! One host: its session, what it has not been thanked for yet, and what it believes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ed25519_dalek::VerifyingKey;
use mainstay_collector::clock;
use mainstay_core::policy::bundle::{Offer, PolicyState, accept};
use mainstay_core::policy::signed::{KeyId, Signed, TrustedKeys};
use mainstay_core::time::Now;
use mainstay_proto::convert::{Form, SummaryWriter};
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::agent_service_client::AgentServiceClient;
use mainstay_proto::v1::collector_message::Of as Hear;
use mainstay_proto::{MESSAGE_BYTES_MAX, SESSION_VERSION_MAX, SESSION_VERSION_MIN, v1};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use zstd::bulk::Compressor;

use super::super::values::{Changed, Values};
use super::backoff::Backoff;
use super::connect::connect;
use super::papers::Papers;
use super::spool::Spool;
use super::tally::Tally;

/// As an agent waits: for Welcome, for what it sends to be taken, and for an acknowledgement.
const WELCOME_MAX: Duration = Duration::from_secs(15);
const SEND_MAX: Duration = Duration::from_secs(60);
const ACK_MAX: Duration = Duration::from_secs(300);
/// As an agent packs.
const ZSTD_LEVEL: i32 = 3;
/// Summaries of one push: some 128 KiB as the spool keeps them.
const BATCH: usize = 32;
/// Most summaries of the past that are made ahead of their acknowledgement.
const AHEAD_MAX: usize = 4 * BATCH;
/// What a summary that comes alone is of.
const ONE: Duration = Duration::from_secs(10);
/// Between two summaries of the past.
const STEP_MS: i64 = 10_000;

thread_local! {
    /// As an agent has one for all its pushes. Made anew for each it would be a megabyte that the kernel has to clear.
    static PACKER: RefCell<Compressor<'static>> =
        RefCell::new(Compressor::new(ZSTD_LEVEL).expect("a level that there is"));
}

/// What all hosts do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    /// Nothing but to say that they are there.
    Quiet,
    /// A summary every so often, as it comes about. Hosts begin spread over that time.
    Live { every: Duration },
    /// One summary, and one more with each number.
    One { nth: u64 },
    /// So many summaries of the past, as fast as they are taken.
    Behind { from_ms: i64, summaries: u64 },
    /// They end.
    End,
}

/// What all hosts know.
pub(crate) struct Ground {
    pub(crate) address: SocketAddr,
    pub(crate) hosts: u32,
    pub(crate) trusted: VerifyingKey,
    pub(crate) tally: Tally,
    /// Turns of making and packing the past: what all hosts have to do at once would keep each of them from hearing.
    pub(crate) turns: Arc<Semaphore>,
}

impl Ground {
    fn turn(&self) -> Turn {
        let turn = self.turns.clone().acquire_owned();
        Box::pin(async { turn.await.ok() })
    }
}

async fn granted(turn: &mut Option<Turn>) -> Option<OwnedSemaphorePermit> {
    match turn {
        Some(turn) => turn.await,
        None => std::future::pending().await,
    }
}

/// One host.
pub(crate) struct Host {
    number: u32,
    papers: Papers,
    ground: Arc<Ground>,
    values: Values,
    spool: Spool,
    next_seq: u64,
    acked: u64,
    /// What it does, and how many summaries it has made since it began that.
    phase: Phase,
    made: u64,
    policy: PolicyState,
    backoff: Backoff,
}

/// Why a session ended.
enum End {
    Told,
    /// It is to be tried again after so long at least.
    Broken(Duration),
    /// By itself, while it stood.
    Lost(&'static str),
}

/// A turn that is waited for, in its place, whatever else happens meanwhile.
type Turn = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>;

/// What stands while a session does.
struct Live {
    say: mpsc::Sender<v1::AgentMessage>,
    hear: Streaming<v1::CollectorMessage>,
    writer: SummaryWriter,
    /// The item that was sent last, and when; and the last acknowledgement that said all.
    last_seq: Option<u64>,
    pushed: Instant,
    told: v1::Ack,
    in_flight: VecDeque<InFlight>,
    credit: usize,
    ping_every: Duration,
    heard: Instant,
    pinged: Instant,
    tick: Instant,
    /// While there is something to push.
    turn: Option<Turn>,
}

struct InFlight {
    upto: u64,
    bytes: usize,
    sent: Instant,
}

impl Live {
    /// As the agent has it: one push may always be under way, unless the collector takes none.
    fn has_credit(&self) -> bool {
        let under_way = self.in_flight.iter().map(|push| push.bytes).sum::<usize>();
        self.credit > 0 && (self.in_flight.is_empty() || under_way < self.credit)
    }

    async fn say(&self, of: Say) -> Result<(), End> {
        match timeout(SEND_MAX, self.say.send(v1::AgentMessage { of: Some(of) })).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Lost("not taken")),
        }
    }
}

/// Takes a session from the count when it ends.
struct Connected<'t>(&'t Tally);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Host {
    pub(crate) fn new(number: u32, papers: Papers, ground: Arc<Ground>, values: Values) -> Self {
        let policy = PolicyState { fleet_id: papers.fleet, ..PolicyState::default() };
        let backoff = Backoff::new(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            number,
            papers,
            ground,
            values,
            spool: Spool::default(),
            next_seq: 1,
            acked: 0,
            phase: Phase::Quiet,
            made: 0,
            policy,
            backoff,
        }
    }

    /// Keeps a session up until it is told to end.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        while *phase.borrow() != Phase::End {
            let Err(end) = self.session(&mut phase).await else { return };
            let retry_after = match end {
                End::Told => return,
                End::Broken(retry_after) => retry_after,
                End::Lost(_) => Duration::ZERO,
            };
            let wait = self.backoff.next(retry_after);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = phase.wait_for(|phase| *phase == Phase::End) => {}
            }
        }
    }

    async fn session(&mut self, phase: &mut watch::Receiver<Phase>) -> Result<(), End> {
        let ground = self.ground.clone();
        let mut live = match self.open().await {
            Ok(live) => live,
            Err(end) => {
                if matches!(end, End::Broken(Duration::ZERO)) {
                    Tally::add(&ground.tally.failed, 1);
                }
                return Err(end);
            }
        };
        Tally::add(&ground.tally.connected, 1);
        let _connected = Connected(&ground.tally);
        ground.tally.welcomed();
        live.tick = self.first_tick();
        loop {
            let stepped = self.step(&mut live, phase).await;
            match &stepped {
                Err(End::Broken(_)) => ground.tally.broke("refused"),
                Err(End::Lost(why)) => ground.tally.broke(why),
                Ok(()) | Err(End::Told) => {}
            }
            stepped?;
        }
    }

    async fn open(&mut self) -> Result<Live, End> {
        let broken = |_| End::Broken(Duration::ZERO);
        let traffic = &self.ground.tally.traffic;
        let channel = connect(self.ground.address, self.number, &self.papers, traffic).await.map_err(broken)?;
        let mut client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (say, said) = mpsc::channel(4);
        let hello = v1::AgentMessage { of: Some(Say::Hello(self.hello())) };
        say.try_send(hello).map_err(|_| End::Broken(Duration::ZERO))?;
        let answer = timeout(WELCOME_MAX, client.session(ReceiverStream::new(said))).await;
        let mut hear = answer.map_err(|_| anyhow!("late")).and_then(|answer| Ok(answer?)).map_err(broken)?.into_inner();
        let welcome = match timeout(WELCOME_MAX, hear.message()).await {
            Ok(Ok(Some(v1::CollectorMessage { of: Some(Hear::Welcome(welcome)) }))) => welcome,
            Ok(Ok(Some(v1::CollectorMessage { of: Some(Hear::Reject(reject)) }))) => return Err(self.refused(&reject)),
            _ => return Err(End::Broken(Duration::ZERO)),
        };
        Tally::add(&self.ground.tally.forgotten, self.acked.saturating_sub(welcome.durable_seq));
        self.acknowledged(welcome.durable_seq);
        self.spool.begin_again();
        Ok(Live {
            say,
            hear,
            writer: SummaryWriter::new(Form::of(&welcome.capabilities)),
            last_seq: None,
            pushed: Instant::now(),
            told: v1::Ack::default(),
            in_flight: VecDeque::new(),
            credit: usize::try_from(welcome.credit_bytes).unwrap_or(usize::MAX),
            ping_every: Duration::from_millis(welcome.ping_every_ms.max(1_000).into()),
            heard: Instant::now(),
            pinged: Instant::now(),
            tick: Instant::now(),
            turn: None,
        })
    }

    fn hello(&self) -> v1::Hello {
        let facts = v1::HostFacts { hostname: self.papers.name().to_owned(), boot: vec![1; 16], ..Default::default() };
        v1::Hello {
            version_min: SESSION_VERSION_MIN,
            version_max: SESSION_VERSION_MAX,
            capabilities: ["zstd", "columns", "waits", "brief"].map(str::to_owned).to_vec(),
            facts: Some(facts),
            epoch: self.epoch(),
            seq_first: self.acked + 1,
            seq_next: self.next_seq,
            policy: Some(self.standing()),
            wall_ms: clock::wall_ms(),
            ..v1::Hello::default()
        }
    }

    fn epoch(&self) -> u64 {
        u64::from(self.number) + 1
    }

    fn standing(&self) -> v1::PolicyStatus {
        let effective = &self.policy.effective;
        v1::PolicyStatus { effective: Some(effective.into()), confirmed: true, ..v1::PolicyStatus::default() }
    }

    fn refused(&self, reject: &v1::Reject) -> End {
        let tally = &self.ground.tally;
        let later = matches!(reject.reason.as_str(), "rate_limited" | "shutting_down" | "overloaded" | "storage_full");
        Tally::add(if later { &tally.put_off } else { &tally.refused }, 1);
        // An attempt that was answered is none that failed.
        End::Broken(Duration::from_millis(reject.retry_after_ms.max(1)))
    }

    /// When the next summary of this host is due; hosts are spread over the time between two.
    fn first_tick(&self) -> Instant {
        let share = f64::from(self.number) / f64::from(self.ground.hosts);
        let Phase::Live { every } = self.phase else { return Instant::now() };
        Instant::now() + every.mul_f64(share)
    }

    /// Whether a push may go: there is something to send, or something of the past to be made for it.
    fn may_push(&self, live: &Live) -> bool {
        let is_behind = matches!(self.phase, Phase::Behind { summaries, .. } if self.made < summaries);
        live.has_credit() && (self.spool.unsent() > 0 || is_behind && self.spool.len() < AHEAD_MAX)
    }

    async fn step(&mut self, live: &mut Live, phase: &mut watch::Receiver<Phase>) -> Result<(), End> {
        let now = *phase.borrow_and_update();
        if now != self.phase {
            match (self.phase, now) {
                (Phase::Quiet, _) => Tally::add(&self.ground.tally.at_work, 1),
                (_, Phase::Quiet) => Tally::take(&self.ground.tally.at_work, 1),
                _ => {}
            }
            (self.phase, self.made) = (now, 0);
            live.tick = self.first_tick();
            if let Phase::One { .. } = now {
                self.make(clock::now(), ONE);
            }
        }
        if now == Phase::End {
            return Err(End::Told);
        }
        let may_push = self.may_push(live);
        // Nobody holds a turn that it does not use.
        live.turn = live.turn.take().filter(|_| may_push).or_else(|| may_push.then(|| self.ground.turn()));
        let silent = live.heard + live.ping_every * 3;
        let patience = live.in_flight.front().map_or(silent, |push| silent.min(push.sent + ACK_MAX));
        tokio::select! {
            biased;
            heard = live.hear.message() => match heard {
                Ok(Some(message)) => self.heard(live, message).await,
                Ok(None) => Err(End::Lost("ended by the collector")),
                Err(_) => Err(End::Lost("with an error of the stream")),
            },
            // What it is stands at the beginning of the next step.
            changed = phase.changed() => changed.map_err(|_| End::Told),
            () = sleep_until(patience) => {
                Err(End::Lost(if live.in_flight.is_empty() { "nothing heard, idle" } else { "nothing heard of a push" }))
            }
            () = sleep_until(live.tick), if matches!(now, Phase::Live { .. }) => {
                if let Phase::Live { every } = now {
                    live.tick += every;
                    self.make(clock::now(), every);
                }
                Ok(())
            }
            turn = granted(&mut live.turn), if may_push => {
                live.turn = None;
                // Beside the threads that run tasks: the rest is to hear meanwhile.
                let push = match now {
                    Phase::Behind { from_ms, summaries } => block_in_place(|| {
                        self.make_past(from_ms, summaries);
                        self.pack(live)
                    }),
                    _ => self.pack(live),
                };
                drop(turn);
                let push = push?;
                live.say(Say::Push(push)).await
            }
            () = sleep_until(live.heard.max(live.pinged).max(live.pushed) + live.ping_every) => {
                live.pinged = Instant::now();
                live.say(Say::Ping(v1::Ping { wall_ms: clock::wall_ms() })).await
            }
        }
    }

    fn make(&mut self, at: Now, every: Duration) {
        let (summary, Changed { series, values }) =
            self.values.next(at, u32::try_from(every.as_millis()).unwrap_or(u32::MAX));
        self.spool.add(self.next_seq, summary, matches!(self.phase, Phase::Behind { .. }));
        self.next_seq += 1;
        self.made += 1;
        Tally::add(&self.ground.tally.made, 1);
        Tally::add(&self.ground.tally.changed, series);
        Tally::add(&self.ground.tally.changed_values, values);
    }

    fn make_past(&mut self, from_ms: i64, summaries: u64) {
        if self.spool.unsent() < BATCH && self.made < summaries {
            self.spool.past_from(self.next_seq, self.values.clone());
        }
        while self.spool.unsent() < BATCH && self.made < summaries {
            let passed_ms = i64::try_from(self.made + 1).unwrap_or(0) * STEP_MS;
            let wall_ms = from_ms + passed_ms + i64::from(self.number) % STEP_MS;
            let boot_ns = u64::try_from(passed_ms).unwrap_or(0) * 1_000_000;
            self.make(Now { boot_ns, wall_ms }, Duration::from_millis(STEP_MS.unsigned_abs()));
        }
    }

    fn pack(&mut self, live: &mut Live) -> Result<v1::Push, End> {
        let mut inner = v1::Push::default();
        let mut upto = 0;
        self.spool.send(BATCH, |seq, summary| {
            let summary = live.writer.write(summary, &mut inner.define);
            inner.items.push(v1::Item { seq, of: Some(v1::item::Of::Summary(summary)) });
            upto = seq;
        });
        let push = match live.writer.brief(inner, live.last_seq) {
            Ok(push) => push,
            Err(inner) => {
                let packed = PACKER.with_borrow_mut(|packer| packer.compress(&inner.encode_to_vec()));
                let zstd = packed.map_err(|_| End::Lost("not packed"))?;
                v1::Push { epoch: self.epoch(), zstd, ..v1::Push::default() }
            }
        };
        (live.last_seq, live.pushed) = (Some(upto), Instant::now());
        let tally = &self.ground.tally;
        let (body, bytes) = (push.next.len().max(push.zstd.len()), push.encoded_len());
        Tally::add(&tally.bodies, body as u64);
        Tally::add(&tally.messages, (1 + prost::length_delimiter_len(bytes) + bytes) as u64);
        live.in_flight.push_back(InFlight { upto, bytes, sent: live.pushed });
        Ok(push)
    }

    async fn heard(&mut self, live: &mut Live, message: v1::CollectorMessage) -> Result<(), End> {
        live.heard = Instant::now();
        match message.of {
            Some(Hear::Ack(mut ack)) => {
                if ack.same {
                    ack = v1::Ack { durable_seq: ack.durable_seq, ..live.told.clone() };
                } else {
                    live.told = ack.clone();
                }
                self.backoff.reset();
                live.credit = usize::try_from(ack.credit_bytes).unwrap_or(usize::MAX);
                while let Some(push) = live.in_flight.front().filter(|push| push.upto <= ack.durable_seq) {
                    self.ground.tally.ack_took(push.sent.elapsed());
                    live.in_flight.pop_front();
                }
                self.acknowledged(ack.durable_seq);
                if live.credit == 0 {
                    // Not taken: it is sent again when there is credit again.
                    live.in_flight.clear();
                    self.spool.begin_again();
                }
                Ok(())
            }
            Some(Hear::Pong(_)) => {
                if live.in_flight.is_empty() {
                    self.backoff.reset();
                }
                Ok(())
            }
            Some(Hear::PolicyOffer(signed)) => self.offered(live, signed).await,
            Some(Hear::Reject(reject)) => Err(self.refused(&reject)),
            _ => Ok(()),
        }
    }

    fn acknowledged(&mut self, durable: u64) {
        self.acked = self.acked.max(durable);
        let tally = &self.ground.tally;
        self.spool.acknowledged(durable, |points| {
            Tally::add(&tally.acked, 1);
            Tally::add(&tally.points, points);
        });
    }

    /// Takes an offer as an agent does: the signature first, then whether it is for this fleet and newer.
    async fn offered(&mut self, live: &Live, signed: v1::Signed) -> Result<(), End> {
        let v1::Signed { bytes, key_id, signature } = signed;
        let read = key_id.try_into().ok().zip(signature.try_into().ok());
        let offer = read.map(|(key_id, signature)| Signed { bytes, key_id: KeyId(key_id), signature });
        let trusted = TrustedKeys(vec![self.ground.trusted]);
        match offer.map(|offer| accept(&offer, &trusted, &self.policy, clock::wall_ms())) {
            Some(Ok(Offer::Accepted(accepted))) => {
                self.policy.took(accepted.policy.reference);
                self.ground.tally.offer_took_force();
            }
            Some(Ok(Offer::InForce)) => {}
            Some(Err(refusal)) => self.ground.tally.disbelieve(refusal.to_string()),
            None => self.ground.tally.disbelieve("its key or its signature is no such thing".to_owned()),
        }
        live.say(Say::Policy(self.standing())).await
    }
}
