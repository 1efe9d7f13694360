//! Delivers what waits in the outbox: retries with backoff, each target for itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::id::ActionId;
use tokio::sync::{Mutex, Notify};
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

/// When a message is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    backoff: Duration,
}

/// Delivers for ever. Each round takes what is due, one message after the other.
pub async fn deliver(sender: Sender) {
    deliver_with(sender, BACKOFF_MIN).await;
}

async fn deliver_with(sender: Sender, backoff_min: Duration) {
    let mut retries: BTreeMap<String, Retry> = BTreeMap::new();
    loop {
        let waiting: Vec<(String, Message)> = {
            let outbox = sender.outbox().await;
            outbox.waiting().map(|(action, message)| (action.to_owned(), message.clone())).collect()
        };
        retries.retain(|action, _| waiting.iter().any(|(waits, _)| waits == action));
        for (action, message) in waiting {
            if retries.get(&action).is_some_and(|retry| retry.at > Instant::now()) {
                continue;
            }
            match attempt(&sender, &action, &message).await {
                Attempt::Over => {
                    retries.remove(&action);
                }
                Attempt::Again => {
                    let backoff =
                        retries.get(&action).map_or(backoff_min, |retry| (retry.backoff * 2).min(BACKOFF_MAX));
                    retries.insert(action, Retry { at: Instant::now() + backoff, backoff });
                }
            }
        }
        let next = retries.values().map(|retry| retry.at).min();
        tokio::select! {
            () = sender.inner.wake.notified() => {}
            () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
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

    #[tokio::test(flavor = "current_thread")]
    async fn a_message_is_tried_until_the_webhook_takes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let target = Target::Webhook(WebhookTarget { url, headers_file: None, ca_file: None });
        let folder = tempfile::tempdir().unwrap();
        let sender = Sender::new(Outbox::open(folder.path()).unwrap(), BTreeMap::from([("ops".to_owned(), target)]));
        let message = Message {
            action: ActionId(1).to_string(),
            decision: "d-1".to_owned(),
            to: "ops".to_owned(),
            text: "app.service failed".to_owned(),
            hostname: "h1".to_owned(),
            created_ms: clock::now().wall_ms,
        };
        sender.put(ActionId(1), message.clone()).await.unwrap();
        let nobody = Message { to: "nobody".to_owned(), ..message };
        assert_eq!(sender.put(ActionId(2), nobody).await.unwrap_err(), "no [notify.nobody] in agent.toml");
        let delivery = tokio::spawn(deliver_with(sender.clone(), Duration::from_millis(1)));
        for answer in ["HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 204 OK\r\n\r\n"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let bytes = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..bytes]).to_lowercase();
            assert!(request.contains("idempotency-key: a-0000000000000001"), "{request}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        while sender.outbox().await.waiting().count() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sender.counts(), Counts { delivered: 1, failed: 1, given_up: 0 });
        delivery.abort();
    }
}
