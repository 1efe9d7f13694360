//! The session: one bidirectional stream per agent, from Hello to its end.
//!
//! Who the agent is stands in its certificate, and nothing that it says changes that. What one session
//! says never reaches another: a refusal ends only the session that earned it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_core::finding::FindingKind;
use mainstay_core::id::HostId;
use mainstay_fleet::lease::{LeaseAnswer, LeaseLimits};
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as FromAgent;
use mainstay_proto::v1::agent_service_server::AgentService;
use mainstay_proto::v1::collector_message::Of as ToAgent;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::adapters::Map;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::hello::{hear, not_enrolled};
use super::push::{Ingest, broken, malformed, reject};
use crate::clock;
use crate::enrol::authority::HOST_LIFE;
use crate::enrol::identity::{Peer, peer};
use crate::hub::Hub;
use crate::metrics::count;
use crate::services::ask;
use crate::store::Batch;
use crate::store::keys::{LeaseKey, MarkKey, OrderKey};

/// Most messages that wait to be sent to one agent. Answers wait; offers and orders are given up
/// and come again with the next session.
pub(super) const OUTBOX_MAX: usize = 64;
/// How often an agent that has nothing to say should say so: less often than summaries come, which say as much.
pub const PING_EVERY: Duration = Duration::from_secs(15);
/// A session without a word for this long is over: two pings and some.
const QUIET_MAX: Duration = Duration::from_secs(35);
/// How often an agent is told that its collector is there, while what it said waits for the disk.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for Hello.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// What this build can do beyond version 1.
pub const CAPABILITIES: [&str; 7] = ["zstd", "columns", "units", "coded", "recordings", "scenes", "changes"];

/// The service for agents.
#[derive(Debug, Clone)]
pub struct Agents {
    hub: Arc<Hub>,
}

impl Agents {
    /// Over one hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

/// A message on its way to an agent. A queue has places for many, of which mostly none is taken: so they are small.
pub type Letter = Box<v1::CollectorMessage>;

/// What a session says, as it is sent.
pub type Letters = Map<ReceiverStream<Letter>, fn(Letter) -> Result<v1::CollectorMessage, Status>>;

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = Letters;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let host = peer(&request)?.host()?;
        let (out, stream) = mpsc::channel(OUTBOX_MAX);
        let session =
            Session { hub: self.hub.clone(), host, id: 0, boot: Vec::new(), is_counted: false, out: Outbox(out) };
        tokio::spawn(session.run(request.into_inner()));
        let opened: fn(Letter) -> Result<v1::CollectorMessage, Status> = |letter| Ok(*letter);
        Ok(Response::new(ReceiverStream::new(stream).map(opened)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let host = peer(&request)?.host()?;
        let known = self.hub.state().hosts.get(&host).map(|h| h.is_revoked());
        match known {
            None => return Err(Status::permission_denied("this host is not enrolled here; enrol it again")),
            Some(true) => return Err(Status::permission_denied("this host was revoked by an operator")),
            Some(false) => {}
        }
        let csr = request.into_inner().csr;
        let certificate = self
            .hub
            .authority
            .sign(&csr, &Peer::Host(host), HOST_LIFE, clock::wall_ms())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(v1::RenewResponse { certificate, ca: self.hub.authority.ca_pem().to_owned() }))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Outbox(mpsc::Sender<Letter>);

impl Outbox {
    /// Sends, and waits if the agent reads slowly. False when it is gone.
    pub(super) async fn send(&self, of: ToAgent) -> bool {
        self.0.send(Box::new(v1::CollectorMessage { of: Some(of) })).await.is_ok()
    }

    /// Waits for `done`, and gives signs of life meanwhile: a disk that takes nothing for a minute is no reason for ten
    /// thousand agents to come again. `waits` is told each time.
    async fn alive_while<F: Future + Unpin>(&self, mut done: F, waits: impl Fn()) -> F::Output {
        loop {
            if let Ok(done) = timeout(ALIVE_EVERY, &mut done).await {
                return done;
            }
            waits();
            let pong = ToAgent::Pong(v1::Pong { wall_ms: clock::wall_ms() });
            // What waits to be sent to it is a sign of life, too.
            let _ = self.0.try_send(Box::new(v1::CollectorMessage { of: Some(pong) }));
        }
    }
}

/// One session of one host.
pub(super) struct Session {
    pub(super) hub: Arc<Hub>,
    pub(super) host: HostId,
    pub(super) id: u64,
    pub(super) boot: Vec<u8>,
    /// Whether it counts as one of those that are open.
    pub(super) is_counted: bool,
    pub(super) out: Outbox,
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_counted {
            self.hub.sessions_open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What the loop of a session wakes up for.
#[allow(clippy::large_enum_variant)] // one at a time, on the stack, for a moment
enum Event {
    Said(v1::AgentMessage),
    Ended(Result<(), String>),
    Send(Letter),
    Close(v1::Reject),
}

impl Session {
    async fn run(mut self, mut stream: Streaming<v1::AgentMessage>) {
        let hello = match timeout(HELLO_MAX, stream.message()).await {
            Ok(Ok(Some(v1::AgentMessage { of: Some(FromAgent::Hello(hello)) }))) => hello,
            Ok(Ok(Some(_))) => return self.refuse(malformed("a session begins with Hello".to_owned())).await,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(status)) => return self.refuse(unreadable(&status)).await,
        };
        let epoch = hello.epoch;
        let (orders, end) = match self.open(hello).await {
            Ok(opened) => opened,
            Err(refusal) => {
                self.close();
                return self.refuse(refusal).await;
            }
        };
        let why = self.talk(&mut stream, epoch, orders, end).await;
        self.close();
        match why {
            Some(refusal) => self.refuse(refusal).await,
            None => tracing::info!(host = %self.host, session = self.id, "session ended"),
        }
    }

    async fn refuse(&self, refusal: v1::Reject) {
        count(&self.hub.metrics.rejects);
        tracing::warn!(host = %self.host, session = self.id, reason = refusal.reason, text = refusal.text, "session refused");
        self.out.send(ToAgent::Reject(refusal)).await;
    }

    /// Takes messages until one side ends it. Gives the refusal that ends it, if one does.
    async fn talk(
        &mut self,
        stream: &mut Streaming<v1::AgentMessage>,
        epoch: u64,
        mut orders: mpsc::Receiver<Letter>,
        mut end: watch::Receiver<Option<v1::Reject>>,
    ) -> Option<v1::Reject> {
        let mut ingest = Ingest::new(self.hub.clone(), self.host, self.id, epoch);
        let mut ending = self.hub.ending.subscribe();
        loop {
            let event = tokio::select! {
                said = timeout(QUIET_MAX, stream.message()) => match said {
                    Ok(Ok(Some(message))) => Event::Said(message),
                    Ok(Ok(None)) => Event::Ended(Ok(())),
                    Ok(Err(status)) if status.code() == tonic::Code::OutOfRange => Event::Close(unreadable(&status)),
                    Ok(Err(status)) => Event::Ended(Err(status.message().to_owned())),
                    Err(_) => Event::Ended(Err(format!("nothing said for {} s", QUIET_MAX.as_secs()))),
                },
                Some(message) = orders.recv() => Event::Send(message),
                why = ended(&mut end) => Event::Close(why),
                () = stopping(&mut ending) => {
                    Event::Close(reject("shutting_down", "the collector is stopping", 2_000))
                }
            };
            match event {
                Event::Said(message) => {
                    let (out, hub, host, id) = (self.out.clone(), self.hub.clone(), self.host, self.id);
                    // Nobody is silent whose word waits here.
                    let waits = || {
                        hear(&hub, host, id);
                    };
                    // In a place of its own, so that a session that waits has no room for it.
                    if let Err(refusal) = out.alive_while(Box::pin(self.said(&mut ingest, message)), waits).await {
                        return Some(refusal);
                    }
                }
                Event::Send(message) => {
                    if let Some(of) = message.of
                        && !self.out.send(of).await
                    {
                        return None;
                    }
                }
                Event::Ended(Ok(())) => return None,
                Event::Ended(Err(text)) => {
                    tracing::info!(host = %self.host, session = self.id, text, "session broke");
                    return None;
                }
                Event::Close(refusal) if refusal.reason.is_empty() => return None,
                Event::Close(refusal) => return Some(refusal),
            }
        }
    }

    async fn said(&mut self, ingest: &mut Ingest, message: v1::AgentMessage) -> Result<(), v1::Reject> {
        if !self.still_mine() {
            return Err(self.contested());
        }
        match message.of {
            Some(FromAgent::Push(push)) => {
                let ack = ingest.push(push).await?;
                self.out.send(ToAgent::Ack(ingest.brief(ack))).await;
            }
            Some(FromAgent::Ping(ping)) => {
                let now_ms = clock::wall_ms();
                self.change(|host| host.mark.clock_offset_ms = ping.wall_ms.saturating_sub(now_ms));
                self.out.send(ToAgent::Pong(v1::Pong { wall_ms: now_ms })).await;
                if let Some(ack) = ingest.resume() {
                    self.out.send(ToAgent::Ack(ingest.brief(ack))).await;
                }
            }
            Some(FromAgent::Lease(request)) => {
                let reply = self.lease(&request).await?;
                self.out.send(ToAgent::Lease(reply)).await;
            }
            Some(FromAgent::Policy(status)) => {
                self.change(|host| host.mark.policy = Some(status));
                self.store_mark().await?;
            }
            Some(FromAgent::Result(result)) => self.answered(result).await?,
            Some(FromAgent::Reply(reply)) => ask::answered(&self.hub, self.host, reply),
            Some(FromAgent::Bye(bye)) => {
                let back =
                    clock::wall_ms().saturating_add(i64::try_from(bye.back_within_ms.min(86_400_000)).unwrap_or(0));
                tracing::info!(host = %self.host, reason = bye.reason, back_within_ms = bye.back_within_ms, "host says goodbye");
                self.change(|host| host.mark.back_by_ms = back);
                self.store_mark().await?;
            }
            Some(FromAgent::Hello(_)) => return Err(malformed("Hello comes once".to_owned())),
            // Of a newer version: not ours to understand.
            None => {}
        }
        Ok(())
    }

    async fn answered(&self, result: v1::CommandResult) -> Result<(), v1::Reject> {
        let mut batch = Batch::default();
        let waiting = self.hub.store.scan_values::<OrderKey, v1::OperatorOrder>(&OrderKey::of(self.host));
        for (key, _) in waiting.filter_map(Result::ok).filter(|(key, _)| key.id == result.id) {
            batch.delete(&key);
        }
        self.hub.store.commit(batch).await.map_err(|error| broken(&error))?;
        let waiter = self.hub.state().waiting.get(&result.id).cloned();
        if let Some(waiter) = waiter {
            // Whoever asked may no longer wait.
            let _ = waiter.try_send(result);
        }
        Ok(())
    }

    /// Answers when the grant is durable: a collector that starts anew must not grant it twice.
    async fn lease(&self, request: &v1::LeaseRequest) -> Result<v1::LeaseReply, v1::Reject> {
        let deny = |text: String| v1::LeaseReply { decision: request.decision, granted: false, ttl_ms: 0, text };
        let Ok(kind) = request.kind.parse::<FindingKind>() else {
            return Ok(deny(format!("this collector does not know the kind `{}`; upgrade it", request.kind)));
        };
        let now = clock::now();
        let answer = {
            let mut state = self.hub.state();
            let hosts = state.hosts.values().filter(|h| !h.is_revoked()).count();
            let limits = LeaseLimits { share: request.share, ..LeaseLimits::default() };
            state.leases.request(self.host, kind, hosts, &limits, now)
        };
        match answer {
            LeaseAnswer::Granted { expires_in } => {
                let mut batch = Batch::default();
                let at = v1::Now { boot_ns: now.boot_ns, wall_ms: now.wall_ms };
                batch.put(&LeaseKey { host: self.host, kind: request.kind.clone() }, &at);
                self.hub.store.commit(batch).await.map_err(|error| broken(&error))?;
                count(&self.hub.metrics.leases_granted);
                let ttl_ms = u64::try_from(expires_in.as_millis()).unwrap_or(u64::MAX);
                Ok(v1::LeaseReply { decision: request.decision, granted: true, ttl_ms, text: String::new() })
            }
            LeaseAnswer::Denied { retry_after, text } => {
                count(&self.hub.metrics.leases_denied);
                Ok(deny(format!("{text}; ask again in {} s", retry_after.as_secs())))
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut crate::hub::HostState)) {
        if let Some(host) = self.hub.state().hosts.get_mut(&self.host) {
            change(host);
        }
    }

    async fn store_mark(&self) -> Result<(), v1::Reject> {
        let lock = self.hub.state().hosts.get(&self.host).map(|h| h.lock.clone()).ok_or_else(not_enrolled)?;
        let _guard = lock.lock().await;
        let mut batch = Batch::default();
        if let Some(host) = self.hub.state().hosts.get(&self.host) {
            batch.put(&MarkKey { host: self.host }, &host.mark);
        }
        self.hub.store.commit(batch).await.map_err(|error| broken(&error))
    }

    fn close(&self) {
        self.change(|host| {
            if host.live.as_ref().is_some_and(|live| live.id == self.id) {
                host.live = None;
            }
        });
        ask::session_ended(&self.hub, self.host, self.id);
    }
}

/// Waits until the session is told to end. One whose place was taken is told by its next word.
async fn ended(end: &mut watch::Receiver<Option<v1::Reject>>) -> v1::Reject {
    let told = end.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    match told {
        Some(why) => why,
        None => std::future::pending().await,
    }
}

/// Waits until the collector ends.
pub(super) async fn stopping(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

fn unreadable(status: &Status) -> v1::Reject {
    if status.code() == tonic::Code::OutOfRange {
        return reject("too_large", status.message(), 60_000);
    }
    malformed(status.message().to_owned())
}
