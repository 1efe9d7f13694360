//! One session, from dialling to its end.

use std::collections::VecDeque;
use std::time::Duration;

use mainstay_core::host_query::{self, HostQuery, HostReply};
use mainstay_core::id::{DecisionId, Epoch, Seq};
use mainstay_core::ledger::Head;
use mainstay_core::time::Now;
use mainstay_proto::convert::{Form, SummaryWriter};
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::agent_service_client::AgentServiceClient;
use mainstay_proto::v1::collector_message::Of as Hear;
use mainstay_proto::{HOST_REPLY_BYTES_MAX, MESSAGE_BYTES_MAX, SESSION_VERSION_MAX, SESSION_VERSION_MIN, v1};
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::message::{Inbound, OrderKind, OutMessage, PolicyStanding, SignedBytes};
use super::push::{self, Packed, Takes};
use super::{End, Uplink, UplinkCounters};
use crate::failpoint;
use crate::spool::SpoolHandle;
use crate::spool::item::Stored;
use crate::tls;

/// How long the collector may take to say Welcome.
const WELCOME_MAX: Duration = Duration::from_secs(15);
/// How long it may take to acknowledge a push. While its disk is slow it gives signs of life, and is gone when those are missing.
const ACK_MAX: Duration = Duration::from_secs(300);
/// How long it may take to take what is sent.
const SEND_MAX: Duration = Duration::from_secs(60);
/// How long the stream may take to close after a goodbye.
const BYE_MAX: Duration = Duration::from_secs(2);
/// Messages that wait for the stream.
const OUTBOX_MAX: usize = 4;
/// How often a session says something, where the collector names no time; and the bounds for it.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_MIN: Duration = Duration::from_secs(1);
/// [`PINGS_UNANSWERED_MAX`] times it is how soon a collector that is gone is noticed, whatever time it named.
const PING_MAX: Duration = Duration::from_secs(13);
/// What this build can do beyond version 1 of the session.
const CAPABILITIES: [&str; 7] = ["zstd", "columns", "recordings", "scenes", "changes", "waits", "brief"];
/// However much else is said, the collector is told the time so often.
const TELL_TIME_EVERY: Duration = Duration::from_secs(300);
/// So many pings without any answer end the session.
const PINGS_UNANSWERED_MAX: u32 = 3;
/// How long to wait at least where only an operator can help.
const DEGRADED_RETRY: Duration = Duration::from_secs(300);
/// How soon a renewal that failed is tried again.
const RENEW_RETRY: Duration = Duration::from_secs(600);

/// What stands while a session does.
struct Live {
    client: AgentServiceClient<Channel>,
    say: mpsc::Sender<v1::AgentMessage>,
    hear: Streaming<v1::CollectorMessage>,
    epoch: Epoch,
    takes: Takes,
    summaries: SummaryWriter,
    in_flight: VecDeque<InFlight>,
    /// The number of the item that was sent last.
    last_seq: Option<u64>,
    /// The last acknowledgement that said all.
    told: v1::Ack,
    credit: usize,
    /// Whether the spool may hold something that was not sent.
    more: bool,
    ping_every: Duration,
    heard: Instant,
    pinged: Instant,
    pushed: Instant,
    renew_at: Instant,
}

struct InFlight {
    upto: u64,
    bytes: usize,
    sent: Instant,
}

impl Live {
    fn has_credit(&self) -> bool {
        // One push may always be under way, whatever its size, unless the collector takes none.
        self.credit > 0
            && (self.in_flight.is_empty() || self.in_flight.iter().map(|push| push.bytes).sum::<usize>() < self.credit)
    }

    /// When the collector has been silent for too long: with a push under way, or altogether.
    fn patience(&self) -> Instant {
        patience(self.heard, self.ping_every, self.in_flight.front().map(|push| push.sent))
    }
}

fn patience(heard: Instant, ping_every: Duration, pushed: Option<Instant>) -> Instant {
    let silent = heard + ping_every * PINGS_UNANSWERED_MAX;
    pushed.map_or(silent, |pushed| silent.min(pushed + ACK_MAX))
}

/// What a session wakes up for.
enum Event {
    Heard(Result<Option<v1::CollectorMessage>, tonic::Status>),
    Loop(Option<OutMessage>),
    Filled,
    Push,
    Ping,
    Silent,
    Renew,
}

impl Uplink {
    pub(super) async fn session(&mut self) -> End {
        let mut live = match self.open().await {
            Ok(live) => live,
            Err(end) => return end,
        };
        UplinkCounters::add(&self.counters.sessions, 1);
        loop {
            if let Err(end) = self.step(&mut live).await {
                return end;
            }
        }
    }

    /// Dials, says Hello, and takes up where the collector has everything.
    async fn open(&mut self) -> Result<Live, End> {
        let identity = &self.settings.identity;
        let tls = identity.tls().map_err(|error| End::Broken {
            why: format!("the host's identity cannot be used: {}", tls::innermost(&error)),
            retry_after: DEGRADED_RETRY,
            degraded: true,
        })?;
        let address = self.settings.address.clone().unwrap_or_else(|| identity.address.clone());
        let channel = tls::connect(&address, tls).await.map_err(|error| End::broken(error.to_string()))?;
        let mut client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (say, said) = mpsc::channel(OUTBOX_MAX);
        let sent = (self.settings.clock)();
        let (hello, epoch) = self.hello(sent).await?;
        say.try_send(v1::AgentMessage { of: Some(Say::Hello(hello)) })
            .map_err(|_| End::broken("no way to say Hello"))?;
        let answer = timeout(WELCOME_MAX, client.session(ReceiverStream::new(said))).await;
        let mut hear = match answer {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(broke(&status)),
            Err(_) => return Err(End::broken("the collector did not answer")),
        };
        let welcome = match timeout(WELCOME_MAX, hear.message()).await {
            Ok(Ok(Some(v1::CollectorMessage { of: Some(Hear::Welcome(welcome)) }))) => welcome,
            Ok(Ok(Some(v1::CollectorMessage { of: Some(Hear::Reject(reject)) }))) => return Err(self.refused(&reject)),
            Ok(Ok(_)) => return Err(End::broken("the collector did not say Welcome")),
            Ok(Err(status)) => return Err(broke(&status)),
            Err(_) => return Err(End::broken("the collector did not say Welcome in time")),
        };
        self.welcomed(&welcome, sent, epoch).await?;
        let now = Instant::now();
        let ping_every = match welcome.ping_every_ms {
            0 => PING_EVERY,
            ms => Duration::from_millis(ms.into()).clamp(PING_MIN, PING_MAX),
        };
        let mut live = Live {
            client,
            say,
            hear,
            epoch,
            takes: Takes::of(&welcome.capabilities),
            summaries: SummaryWriter::new(Form::of(&welcome.capabilities)),
            in_flight: VecDeque::new(),
            last_seq: None,
            told: v1::Ack::default(),
            credit: credit(welcome.credit_bytes),
            more: true,
            ping_every,
            heard: now,
            pinged: now,
            pushed: now,
            renew_at: now + self.renew_in(),
        };
        for result in std::mem::take(&mut self.waiting.results) {
            self.say_out(&mut live, result).await?;
        }
        Ok(live)
    }

    async fn hello(&self, now: Now) -> Result<(v1::Hello, Epoch), End> {
        let status = self.on_spool(|spool, _| spool.status()).await?;
        let hello = v1::Hello {
            version_min: SESSION_VERSION_MIN,
            version_max: SESSION_VERSION_MAX,
            capabilities: CAPABILITIES.map(str::to_owned).into_iter().chain(host_query::capabilities()).collect(),
            facts: Some((&self.settings.facts).into()),
            epoch: status.epoch.0,
            seq_first: status.first.0,
            seq_next: status.next.0,
            ledger: Some((*self.sources.heads.borrow()).into()),
            policy: self.waiting.policy.as_ref().map(standing),
            wall_ms: now.wall_ms,
        };
        Ok((hello, status.epoch))
    }

    async fn welcomed(&mut self, welcome: &v1::Welcome, sent: Now, epoch: Epoch) -> Result<(), End> {
        if !(SESSION_VERSION_MIN..=SESSION_VERSION_MAX).contains(&welcome.version) {
            return Err(End::Broken {
                why: format!(
                    "the collector chose version {} of the session, which this agent does not speak",
                    welcome.version
                ),
                retry_after: DEGRADED_RETRY,
                degraded: true,
            });
        }
        let heard = (self.settings.clock)();
        let (durable, ledger) = (Seq(welcome.durable_seq), welcome.ledger.as_ref().map_or(0, |head| head.index));
        let resumed =
            self.on_spool(move |spool, now| spool.resume(durable, ledger, now).map(|()| spool.status())).await?;
        let status = resumed.map_err(|error| End::broken(format!("the spool cannot go on: {error}")))?;
        if status.epoch != epoch {
            return Err(End::Again);
        }
        self.told.clear();
        self.tell_degraded(None).await;
        let round_trip = heard.since(sent);
        let half_ms = i64::try_from(round_trip.as_millis() / 2).unwrap_or(0);
        let clock_offset_ms = welcome.wall_ms.saturating_sub(heard.wall_ms.saturating_sub(half_ms));
        tracing::info!(durable_seq = durable.0, clock_offset_ms, "session with the collector stands");
        self.tell(Inbound::Connected { clock_offset_ms, round_trip }).await;
        self.tell_acked(durable, welcome.ledger.as_ref()).await;
        Ok(())
    }

    /// Waits for the next thing to happen, and does what follows.
    async fn step(&mut self, live: &mut Live) -> Result<(), End> {
        let may_push = live.more && live.has_credit();
        // No second ping before the first had its time, and none where a push says as much.
        let idle_since = live.heard.max(live.pinged).max(live.pushed);
        // A collector that takes nothing says with its answer when it does again.
        let every = if live.credit == 0 { live.ping_every.min(PING_EVERY) } else { live.ping_every };
        let ping_at = (idle_since + every).min(live.pinged + TELL_TIME_EVERY);
        let patience = live.patience();
        let event = tokio::select! {
            biased;
            heard = live.hear.message() => Event::Heard(heard),
            message = self.from_loop.recv() => Event::Loop(message),
            () = sleep_until(patience) => Event::Silent,
            () = sleep_until(live.renew_at) => Event::Renew,
            () = std::future::ready(()), if may_push => Event::Push,
            () = self.sources.spool.filled(), if !live.more => Event::Filled,
            () = sleep_until(ping_at) => Event::Ping,
        };
        match event {
            Event::Heard(Ok(Some(message))) => self.heard(live, message).await,
            Event::Heard(Ok(None)) => Err(End::broken("the collector ended the session")),
            Event::Heard(Err(status)) => Err(broke(&status)),
            Event::Loop(Some(message)) => self.say_out(live, message).await,
            Event::Loop(None) => Err(End::Stopped),
            Event::Filled => {
                live.more = true;
                Ok(())
            }
            Event::Push => self.push(live).await,
            Event::Ping => self.ping(live).await,
            Event::Silent => Err(End::broken("the collector has been silent for too long")),
            Event::Renew => {
                self.renew(live).await;
                Ok(())
            }
        }
    }

    async fn push(&mut self, live: &mut Live) -> Result<(), End> {
        let (bytes_max, epoch, takes, last_seq) = (self.push_bytes, live.epoch, live.takes, live.last_seq);
        let (ledger, mut summaries) = (self.sources.ledger.clone(), std::mem::take(&mut live.summaries));
        let pack = move |spool: &SpoolHandle, items: Vec<Stored>| {
            // Less than what was asked for is all that there is.
            let more = items.iter().map(Stored::bytes).sum::<usize>() >= bytes_max;
            if items.is_empty() {
                return Ok((None, more, summaries));
            }
            let packed = push::pack(items, last_seq, epoch, takes, &mut summaries, spool.take_latest(), &ledger)?;
            Ok::<_, std::io::Error>((Some(packed), more, summaries))
        };
        // What is at hand needs no thread that may wait for the disk. Records are read from the ledger.
        let at_hand = self.sources.spool.items_at_hand(bytes_max);
        let packed = match at_hand {
            Some(items) if !items.iter().any(Stored::is_record) => pack(&self.sources.spool, items),
            Some(items) => self.on_spool(move |spool, _| pack(spool, items)).await?,
            None => self.on_spool(move |spool, _| pack(spool, spool.next_items(bytes_max)?)).await?,
        };
        let (packed, more, summaries) =
            packed.map_err(|error| End::broken(format!("the spool cannot be read: {error}")))?;
        (live.summaries, live.more) = (summaries, more);
        let Some(Packed { push, upto, last_seq, bytes, items }) = packed else { return Ok(()) };
        UplinkCounters::add(&self.counters.pushed_bytes, bytes as u64);
        UplinkCounters::add(&self.counters.items, items as u64);
        live.last_seq = last_seq;
        live.pushed = Instant::now();
        live.in_flight.push_back(InFlight { upto, bytes, sent: live.pushed });
        self.say(live, Say::Push(push)).await
    }

    /// Sends a message; meanwhile the collector is not heard, so this waits only so long.
    async fn say(&self, live: &mut Live, of: Say) -> Result<(), End> {
        failpoint::pass("before_send");
        let sent = timeout(SEND_MAX, live.say.send(v1::AgentMessage { of: Some(of) })).await;
        failpoint::pass("after_send");
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => match live.hear.message().await {
                // The stream closed on us: why, stands in what was said last.
                Ok(Some(v1::CollectorMessage { of: Some(Hear::Reject(reject)) })) => Err(refusal(&reject)),
                Ok(_) => Err(End::broken("the collector ended the session")),
                Err(status) => Err(broke(&status)),
            },
            Err(_) => Err(End::broken("the collector takes nothing")),
        }
    }

    async fn say_out(&mut self, live: &mut Live, message: OutMessage) -> Result<(), End> {
        let of = match message {
            OutMessage::Lease { decision, kind, subject, share } => Say::Lease(v1::LeaseRequest {
                decision: decision.0,
                kind: kind.as_str().to_owned(),
                subject: Some((&subject).into()),
                share,
            }),
            OutMessage::Policy(policy) => {
                let status = standing(&policy);
                self.waiting.policy = Some(policy);
                Say::Policy(status)
            }
            OutMessage::Result { id, done, text } => Say::Result(v1::CommandResult { id, done, text }),
            OutMessage::Reply { id, reply } => Say::Reply(wire_reply(id, reply)),
            OutMessage::Bye { reason, back_within } => {
                let back_within_ms = u64::try_from(back_within.as_millis()).unwrap_or(u64::MAX);
                self.say(live, Say::Bye(v1::Bye { reason, back_within_ms })).await?;
                return Err(self.close(live).await);
            }
        };
        self.say(live, of).await
    }

    /// Ends the stream and waits for the collector to do the same, so that the goodbye arrives.
    async fn close(&mut self, live: &mut Live) -> End {
        let (closed, _) = mpsc::channel(1);
        live.say = closed;
        let _ = timeout(BYE_MAX, async { while matches!(live.hear.message().await, Ok(Some(_))) {} }).await;
        End::Stopped
    }

    async fn ping(&mut self, live: &mut Live) -> Result<(), End> {
        let wall_ms = (self.settings.clock)().wall_ms;
        live.pinged = Instant::now();
        self.say(live, Say::Ping(v1::Ping { wall_ms })).await
    }

    async fn heard(&mut self, live: &mut Live, message: v1::CollectorMessage) -> Result<(), End> {
        live.heard = Instant::now();
        match message.of {
            Some(Hear::Ack(ack)) if ack.same => {
                let ack = v1::Ack { durable_seq: ack.durable_seq, ..live.told.clone() };
                // Of the ledger it has what it had.
                self.acked(live, &ack, None).await?;
            }
            Some(Hear::Ack(ack)) => {
                self.acked(live, &ack, ack.ledger.as_ref()).await?;
                live.told = ack;
            }
            Some(Hear::Reject(reject)) => return Err(self.refused(&reject)),
            Some(Hear::PolicyOffer(signed)) => self.tell(Inbound::PolicyOffer(signed_bytes(signed))).await,
            Some(Hear::Lease(reply)) => {
                self.tell(Inbound::Lease {
                    decision: DecisionId(reply.decision),
                    granted: reply.granted,
                    ttl: Duration::from_millis(reply.ttl_ms),
                    text: reply.text,
                })
                .await;
            }
            Some(Hear::Order(order)) => self.ordered(live, order).await?,
            Some(Hear::Query(query)) => self.asked(live, query).await?,
            // While a push waits it is only a sign of life: a collector whose disk hangs is not one to come back to at once.
            Some(Hear::Pong(_)) if !live.in_flight.is_empty() => {}
            Some(Hear::Pong(_)) => self.backoff.reset(),
            Some(Hear::Welcome(_)) => return Err(End::broken("the collector said Welcome twice")),
            // Of a newer version: not for us.
            None => {}
        }
        Ok(())
    }

    async fn acked(&mut self, live: &mut Live, ack: &v1::Ack, ledger: Option<&v1::LedgerHead>) -> Result<(), End> {
        if ack.epoch != live.epoch.0 {
            return Ok(());
        }
        self.backoff.reset();
        self.push_bytes = push::BYTES_MAX.min(self.push_bytes.saturating_mul(2));
        let took_none = live.credit == 0;
        live.credit = credit(ack.credit_bytes);
        while live.in_flight.front().is_some_and(|push| push.upto <= ack.durable_seq) {
            live.in_flight.pop_front();
        }
        let durable = Seq(ack.durable_seq);
        failpoint::pass("before_acknowledged");
        let is_refused = live.credit == 0;
        self.sources.spool.acknowledge(durable);
        failpoint::pass("after_acknowledged");
        if is_refused {
            self.on_spool(|spool, now| spool.rewind(now)).await?;
            live.in_flight.clear();
            if !took_none {
                tracing::warn!("the collector takes nothing at present: what there is to send is kept");
            }
        } else if took_none {
            live.more = true;
            tracing::info!("the collector takes what was kept");
        }
        self.tell_acked(durable, ledger).await;
        Ok(())
    }

    async fn tell_acked(&self, durable: Seq, ledger: Option<&v1::LedgerHead>) {
        let ledger = ledger.and_then(|head| Option::<Head>::try_from(head.clone()).ok().flatten());
        self.tell(Inbound::Acked { durable, ledger }).await;
    }

    async fn ordered(&mut self, live: &mut Live, order: v1::OperatorOrder) -> Result<(), End> {
        let kind = match order.kind.as_str() {
            "approval" => OrderKind::Approval,
            "hold" => OrderKind::Hold,
            "undo" => OrderKind::Undo,
            "learning" => OrderKind::Learning,
            other => {
                let text = format!("this agent does not know the order `{other}`; upgrade it");
                return self.say_out(live, OutMessage::Result { id: order.id, done: false, text }).await;
            }
        };
        let signed = signed_bytes(order.signed.unwrap_or_default());
        self.tell(Inbound::Order { id: order.id, kind, signed }).await;
        Ok(())
    }

    async fn asked(&mut self, live: &mut Live, query: v1::HostQuery) -> Result<(), End> {
        let id = query.id;
        let read = match query.what {
            None => Err("this agent does not know the question; upgrade it".to_owned()),
            Some(what) => HostQuery::try_from(what).map_err(|error| format!("the question cannot be read: {error}")),
        };
        match read {
            Ok(query) => self.tell(Inbound::Asked { id, query }).await,
            Err(text) => self.say_out(live, OutMessage::Reply { id, reply: Err(text) }).await?,
        }
        Ok(())
    }

    /// A refusal, and what it teaches about the next push.
    fn refused(&mut self, reject: &v1::Reject) -> End {
        if reject.reason == "too_large" {
            self.push_bytes = (self.push_bytes / 2).max(push::BYTES_MIN);
        }
        refusal(reject)
    }

    /// How long until a new certificate is to be asked for.
    fn renew_in(&self) -> Duration {
        let now_ms = (self.settings.clock)().wall_ms;
        let left_ms =
            self.settings.identity.validity().map_or(0, |validity| validity.renew_at_ms().saturating_sub(now_ms));
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).min(Duration::from_secs(86_400))
    }

    /// Asks for a certificate with a new life for the same key. The next session uses it.
    async fn renew(&mut self, live: &mut Live) {
        let is_due = self
            .settings
            .identity
            .validity()
            .is_none_or(|validity| validity.renew_at_ms() <= (self.settings.clock)().wall_ms);
        if is_due && let Err(why) = self.ask_for_renewal(live).await {
            tracing::warn!(why, "the host's certificate was not renewed, trying again");
            live.renew_at = Instant::now() + RENEW_RETRY;
            return;
        }
        live.renew_at = Instant::now() + self.renew_in().max(Duration::from_secs(60));
    }

    async fn ask_for_renewal(&mut self, live: &mut Live) -> Result<(), String> {
        let identity = &self.settings.identity;
        let key = KeyPair::from_pem(&identity.key).map_err(|error| error.to_string())?;
        let request = CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
        let csr = request.map_err(|error| error.to_string())?;
        let asked = timeout(WELCOME_MAX, live.client.renew(v1::RenewRequest { csr })).await;
        let response = match asked {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(status.message().to_owned()),
            Err(_) => return Err("the collector did not answer".to_owned()),
        };
        tls::mutual(&response.ca, &response.certificate, &identity.key).map_err(|error| error.to_string())?;
        let state = self.settings.state.clone();
        self.settings.identity.renew(&state, &response.certificate, &response.ca).map_err(|error| error.to_string())?;
        UplinkCounters::add(&self.counters.renewals, 1);
        tracing::info!("the host's certificate was renewed");
        Ok(())
    }
}

fn credit(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// An answer as it is said; one that is too long is said to be so.
fn wire_reply(id: u64, reply: Result<HostReply, String>) -> v1::HostReply {
    use v1::host_reply::What;
    let what = reply.map_or_else(What::Error, |reply| What::from(&reply));
    let reply = v1::HostReply { id, what: Some(what) };
    let bytes = reply.encoded_len();
    if bytes <= HOST_REPLY_BYTES_MAX {
        return reply;
    }
    let text = format!("the answer has {bytes} bytes, more than the {HOST_REPLY_BYTES_MAX} of one; ask for less");
    v1::HostReply { id, what: Some(What::Error(text)) }
}

fn standing(policy: &PolicyStanding) -> v1::PolicyStatus {
    v1::PolicyStatus {
        offered: policy.offered.as_ref().map(Into::into),
        effective: Some((&policy.effective).into()),
        confirmed: policy.confirmed,
        refused: policy.refused.clone(),
    }
}

fn signed_bytes(signed: v1::Signed) -> SignedBytes {
    SignedBytes { bytes: signed.bytes, key_id: signed.key_id, signature: signed.signature }
}

fn broke(status: &tonic::Status) -> End {
    End::broken(format!("the session broke: {}", tls::innermost(status)))
}

fn refusal(reject: &v1::Reject) -> End {
    let degraded =
        matches!(reject.reason.as_str(), "not_enrolled" | "revoked" | "duplicate_identity" | "unsupported_version");
    let asked = Duration::from_millis(reject.retry_after_ms);
    End::Broken {
        why: format!("the collector refused ({}): {}", reject.reason, reject.text),
        retry_after: if degraded { asked.max(DEGRADED_RETRY) } else { asked },
        degraded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_gives_signs_of_life_is_waited_for_and_one_that_does_not_is_gone() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(patience(after(0), PING_MAX, None), after(39));
        // A push waits since the beginning; the last sign of life came just now.
        assert_eq!(patience(after(0), PING_MAX, Some(start)), after(39));
        assert_eq!(patience(after(50), PING_MAX, Some(start)), after(89));
        assert_eq!(patience(after(290), PING_MAX, Some(start)), after(300), "no longer than that");
    }
}
