//! Delivers what waits in the outbox: retries with backoff, each target for itself and one message at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::id::ActionId;
use tokio::sync::{Mutex, Notify};
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::outbox::{Message, Outbox, Put};
use super::{smtp, webhook};
use crate::config::Target;
use crate::host::clock;

/// First and longest wait before a message is tried again.
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// After this long a message is given up: it is news no more.
const GIVE_UP_AFTER_MS: i64 = 3 * 24 * 3_600_000;

/// The outbox as the loop and the delivery share it.
#[derive(Debug, Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    outbox: Arc<Mutex<Outbox>>,
    targets: std::sync::Mutex<BTreeMap<String, Target>>,
    wake: Notify,
    counts: std::sync::Mutex<Counts>,
}

/// What became of messages since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages that were given up.
    pub given_up: u64,
}

impl Sender {
    /// Shares an outbox.
    #[must_use]
    pub fn new(outbox: Outbox, targets: BTreeMap<String, Target>) -> Self {
        let inner = Inner {
            outbox: Arc::new(Mutex::new(outbox)),
            targets: std::sync::Mutex::new(targets),
            wake: Notify::new(),
            counts: std::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The outbox, to ask after messages.
    pub async fn outbox(&self) -> tokio::sync::MutexGuard<'_, Outbox> {
        self.inner.outbox.lock().await
    }

    /// Keeps a message durably, in a thread that may wait for the disk, and has it delivered.
    ///
    /// # Errors
    /// Why it is not kept, in words.
    pub async fn put(&self, action: ActionId, message: Message) -> Result<Put, String> {
        if !self.knows(&message.to) {
            return Err(format!("no [notify.{}] in agent.toml", message.to));
        }
        let mut outbox = self.inner.outbox.clone().lock_owned().await;
        let put = tokio::task::spawn_blocking(move || outbox.put(action, message)).await;
        let put = put.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.inner.wake.notify_one();
        Ok(put)
    }

    /// Uses other targets from now on.
    pub fn set_targets(&self, targets: BTreeMap<String, Target>) {
        *lock(&self.inner.targets) = targets;
        self.inner.wake.notify_one();
    }

    /// Whether there is a target of this name.
    #[must_use]
    pub fn knows(&self, target: &str) -> bool {
        lock(&self.inner.targets).contains_key(target)
    }

    /// What became of messages.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *lock(&self.inner.counts)
    }

    fn target(&self, name: &str) -> Option<Target> {
        lock(&self.inner.targets).get(name).cloned()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.inner.counts));
    }
}

/// A lock whose holder panicked holds plain data that is still whole.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Delivers for ever.
pub async fn deliver(sender: Sender) {
    deliver_with(sender, BACKOFF_MIN).await;
}

/// The way to one target: one message at a time, and a pause after each that it did not take.
#[derive(Debug)]
struct Lane {
    backoff: Duration,
    not_before: Instant,
    /// How often each waiting message was tried. The least tried goes first, so that one that is never taken holds up
    /// no other.
    tried: BTreeMap<String, u32>,
}

/// Every target has a lane of its own: one that is down, or slow to say so, holds up nobody else's messages.
async fn deliver_with(sender: Sender, backoff_min: Duration) {
    let mut resting: BTreeMap<String, Lane> = BTreeMap::new();
    let mut at_work: BTreeMap<task::Id, String> = BTreeMap::new();
    let mut rounds: JoinSet<(String, Lane)> = JoinSet::new();
    loop {
        let targets: BTreeSet<String> =
            sender.outbox().await.waiting().map(|(_, message)| message.to.clone()).collect();
        resting.retain(|to, _| targets.contains(to));
        for to in targets {
            let is_due = resting.get(&to).is_none_or(|lane| lane.not_before <= Instant::now());
            if is_due && !at_work.values().any(|busy| *busy == to) {
                let new = || Lane { backoff: backoff_min, not_before: Instant::now(), tried: BTreeMap::new() };
                let lane = resting.remove(&to).unwrap_or_else(new);
                let id = rounds.spawn(round(sender.clone(), to.clone(), lane, backoff_min)).id();
                at_work.insert(id, to);
            }
        }
        let next = resting.values().map(|lane| lane.not_before).min();
        tokio::select! {
            () = sender.inner.wake.notified() => {}
            () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
            Some(ended) = rounds.join_next_with_id() => match ended {
                Ok((id, (to, lane))) => {
                    at_work.remove(&id);
                    resting.insert(to, lane);
                }
                // Begun anew with the next look.
                Err(error) => {
                    at_work.remove(&error.id());
                }
            },
        }
    }
}

/// Delivers what waits for one target, until nothing does or it does not take one.
async fn round(sender: Sender, to: String, mut lane: Lane, backoff_min: Duration) -> (String, Lane) {
    loop {
        let next = {
            let outbox = sender.outbox().await;
            let waiting = || outbox.waiting().filter(|(_, message)| message.to == to);
            lane.tried.retain(|action, _| waiting().any(|(waits, _)| waits == action));
            let tried = |action: &str| lane.tried.get(action).copied().unwrap_or(0);
            waiting()
                .min_by_key(|(action, _)| tried(action))
                .map(|(action, message)| (action.to_owned(), message.clone()))
        };
        let Some((action, message)) = next else { return (to, lane) };
        match attempt(&sender, &action, &message).await {
            Attempt::Over => lane.backoff = backoff_min,
            Attempt::Again => {
                *lane.tried.entry(action).or_default() += 1;
                lane.not_before = Instant::now() + lane.backoff;
                lane.backoff = (lane.backoff * 2).min(BACKOFF_MAX);
                return (to, lane);
            }
        }
    }
}

enum Attempt {
    Over,
    Again,
}

async fn attempt(sender: &Sender, action: &str, message: &Message) -> Attempt {
    let sent = match sender.target(&message.to) {
        Some(Target::Webhook(target)) => webhook::send(&target, message).await,
        Some(Target::Smtp(target)) => smtp::send(&target, message).await,
        None => Err("no such target in agent.toml".to_owned()),
    };
    let to = message.to.as_str();
    match sent {
        Ok(()) => {
            info!(to, action, decision = message.decision, "message delivered");
            sender.count(|counts| counts.delivered += 1);
        }
        Err(text) if clock::now().wall_ms.saturating_sub(message.created_ms) < GIVE_UP_AFTER_MS => {
            warn!(to, action, error = text, "message not delivered, will try again");
            sender.count(|counts| counts.failed += 1);
            return Attempt::Again;
        }
        Err(text) => {
            error!(to, action, decision = message.decision, error = text, "message given up: nobody was told");
            sender.count(|counts| counts.given_up += 1);
        }
    }
    if let Err(error) = sender.outbox().await.finish(action) {
        warn!(action, %error, "cannot mark a message as delivered; it may come twice");
    }
    Attempt::Over
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::WebhookTarget;

    fn message(to: &str, action: u64) -> Message {
        Message {
            action: ActionId(action).to_string(),
            decision: "d-1".to_owned(),
            to: to.to_owned(),
            text: "app.service failed".to_owned(),
            hostname: "h1".to_owned(),
            created_ms: clock::now().wall_ms,
        }
    }

    async fn webhook() -> (TcpListener, Target) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        (listener, Target::Webhook(WebhookTarget { url, headers_file: None, ca_file: None }))
    }

    /// Takes one request and answers it so; gives the request back, in small letters.
    async fn answered(listener: &TcpListener, answer: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let bytes = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..bytes]).to_lowercase()
    }

    const NO: &str = "HTTP/1.1 500 No\r\n\r\n";
    const YES: &str = "HTTP/1.1 204 OK\r\n\r\n";

    #[tokio::test(flavor = "current_thread")]
    async fn a_message_is_tried_until_the_webhook_takes_it() {
        let (listener, target) = webhook().await;
        let folder = tempfile::tempdir().unwrap();
        let sender = Sender::new(Outbox::open(folder.path()).unwrap(), BTreeMap::from([("ops".to_owned(), target)]));
        sender.put(ActionId(1), message("ops", 1)).await.unwrap();
        let refused = sender.put(ActionId(2), message("nobody", 2)).await.unwrap_err();
        assert_eq!(refused, "no [notify.nobody] in agent.toml");
        let delivery = tokio::spawn(deliver_with(sender.clone(), Duration::from_millis(1)));
        for answer in [NO, YES] {
            let request = answered(&listener, answer).await;
            assert!(request.contains("idempotency-key: a-0000000000000001"), "{request}");
        }
        while sender.outbox().await.waiting().count() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sender.counts(), Counts { delivered: 1, failed: 1, given_up: 0 });
        delivery.abort();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_receiver_that_hangs_holds_up_nobody_elses_messages() {
        let ((silent, hangs), (listener, works)) = (webhook().await, webhook().await);
        let folder = tempfile::tempdir().unwrap();
        let targets = BTreeMap::from([("a-hangs".to_owned(), hangs), ("works".to_owned(), works)]);
        let sender = Sender::new(Outbox::open(folder.path()).unwrap(), targets);
        for (to, action) in [("a-hangs", 1), ("a-hangs", 2), ("works", 3)] {
            sender.put(ActionId(action), message(to, action)).await.unwrap();
        }
        let delivery = tokio::spawn(deliver_with(sender.clone(), Duration::from_millis(1)));
        // Connected to, and never answered.
        let _held = silent.accept().await.unwrap();
        assert!(answered(&listener, YES).await.contains("a-0000000000000003"));
        // One that comes later goes its way as well.
        sender.put(ActionId(4), message("works", 4)).await.unwrap();
        assert!(answered(&listener, YES).await.contains("a-0000000000000004"));
        delivery.abort();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_message_that_is_never_taken_holds_up_no_other_of_its_target() {
        let (listener, target) = webhook().await;
        let folder = tempfile::tempdir().unwrap();
        let sender = Sender::new(Outbox::open(folder.path()).unwrap(), BTreeMap::from([("ops".to_owned(), target)]));
        for action in [1, 2, 3] {
            sender.put(ActionId(action), message("ops", action)).await.unwrap();
        }
        let delivery = tokio::spawn(deliver_with(sender.clone(), Duration::from_millis(1)));
        for (action, answer) in [(1, NO), (2, YES), (3, YES), (1, NO), (1, YES)] {
            let request = answered(&listener, answer).await;
            assert!(request.contains(&ActionId(action).to_string()), "wanted {action}: {request}");
        }
        delivery.abort();
    }
}
