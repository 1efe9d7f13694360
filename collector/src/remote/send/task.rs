//! The task of one target: reads what is to be sent, sends it in order, and moves the marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mainstay_promql::{EvalError, Matcher, parse_selector};

use super::Counts;
use super::client::Client;
use super::marks::Marks;
use super::pace::{Verdict, pause, verdict};
use super::read::{Ask, Done, Packed, read};
use crate::clock;
use crate::hub::Hub;
use crate::remote::target::RemoteWrite;
use crate::store::keys::RemoteKey;
use crate::store::{Batch, StoreError};

/// Between two rounds, so that requests hold rows of many hosts.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// After the store failed.
const BROKEN: Duration = Duration::from_secs(10);
/// How much of a host's time is read at once.
const STRETCH_MS: i64 = 600_000;
/// Most late rows of a round.
const LATE_MAX: usize = 1_000;

/// Why a round ended.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] EvalError),
    #[error("what is to be sent could not be read: {0}")]
    Work(#[from] tokio::task::JoinError),
}

/// Sends to one target until this is dropped.
pub(super) async fn run(hub: Arc<Hub>, to: RemoteWrite, counts: Arc<Counts>) {
    let target = to.name.clone();
    loop {
        let failed = match Task::open(hub.clone(), to.clone(), counts.clone()).await {
            Ok(mut task) => task.rounds().await,
            Err(failed) => failed,
        };
        tracing::error!(to = target, error = %failed, "handing on stops for a moment");
        tokio::time::sleep(BROKEN).await;
    }
}

struct Task {
    hub: Arc<Hub>,
    name: String,
    matchers: Arc<[Matcher]>,
    client: Client,
    marks: Marks,
    counts: Arc<Counts>,
    saved: Instant,
}

impl Task {
    async fn open(hub: Arc<Hub>, to: RemoteWrite, counts: Arc<Counts>) -> Result<Self, Failed> {
        let marks = Marks::load(&hub.store, &to.name, clock::wall_ms()).await?;
        // Both were read with the settings.
        let matchers = match to.series.as_str() {
            "" => Vec::new(),
            series => parse_selector(series).map_err(|error| EvalError::Execution(error.to_string()))?,
        };
        let name = to.name.clone();
        let client = Client::new(to).map_err(|error| EvalError::Execution(error.to_string()))?;
        Ok(Self { hub, name, matchers: matchers.into(), client, marks, counts, saved: Instant::now() })
    }

    async fn rounds(&mut self) -> Failed {
        loop {
            match self.round().await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(ROUND_EVERY).await,
                Err(failed) => return failed,
            }
        }
    }

    /// Sends what there is. Says whether there is more that is old.
    async fn round(&mut self) -> Result<bool, Failed> {
        let was_late = self.late().await?;
        let now_ms = clock::wall_ms();
        let mut waiting = self.waiting();
        let oldest = waiting.first().map(|(mark, _)| *mark);
        self.counts.behind_ms.store(oldest.unwrap_or(i64::MAX), Ordering::Relaxed);
        let mut is_behind = was_late;
        while let Some((first, _)) = waiting.first().copied() {
            let ends = first.saturating_add(STRETCH_MS);
            let to_ms = if ends < now_ms { ends } else { i64::MAX };
            is_behind |= to_ms != i64::MAX;
            let rest = waiting.split_off(waiting.partition_point(|(mark, _)| *mark < to_ms));
            let marks = std::mem::replace(&mut waiting, rest).into_iter().map(|(mark, host)| (host, mark)).collect();
            self.stretch(marks, (first.saturating_add(1), to_ms)).await?;
        }
        self.save().await;
        if self.waiting().is_empty() {
            self.counts.behind_ms.store(i64::MAX, Ordering::Relaxed);
        }
        Ok(is_behind)
    }

    /// Hosts of which there may be rows to be sent, by their marks.
    fn waiting(&self) -> Vec<(i64, u32)> {
        let hosts: Vec<u32> = self.hub.state().hosts.values().map(|host| host.row.short).collect();
        let arrived = &self.hub.store.arrived;
        let pending = hosts.into_iter().filter(|host| self.marks.is_pending(*host, arrived.newest(*host)));
        let mut pending: Vec<(i64, u32)> = pending.map(|host| (self.marks.position(host), host)).collect();
        pending.sort_unstable();
        pending
    }

    /// Sends what some hosts have of a stretch behind their marks.
    async fn stretch(&mut self, marks: BTreeMap<u32, i64>, span: (i64, i64)) -> Result<(), Failed> {
        let mut hosts: BTreeSet<u32> = marks.keys().copied().collect();
        let marks = Arc::new(marks);
        while !hosts.is_empty() {
            let marks = marks.clone();
            let wants = move |host: u32, at_ms: i64| marks.get(&host).is_some_and(|mark| at_ms > *mark);
            for packed in self.reading(&hosts, span, wants).await? {
                self.send(&packed).await;
                for done in packed.done {
                    hosts.remove(&done.host);
                    self.done(done, span.1);
                }
                if self.saved.elapsed() >= ROUND_EVERY {
                    self.save().await;
                }
            }
            // A host that was taken out of the state meanwhile is not read at all.
            let there: BTreeSet<u32> = self.hub.state().hosts.values().map(|host| host.row.short).collect();
            hosts.retain(|host| there.contains(host));
        }
        Ok(())
    }

    fn done(&mut self, done: Done, to_ms: i64) {
        if !done.is_meant {
            // None of its rows will ever be sent, whether they are durable yet or not.
            let newest = self.hub.store.arrived.newest(done.host).unwrap_or(i64::MIN);
            self.marks.reach(done.host, newest);
            self.marks.read_to_end(done.host);
            return;
        }
        self.marks.reach(done.host, done.last_ms.unwrap_or(i64::MIN));
        match to_ms {
            i64::MAX => self.marks.read_to_end(done.host),
            _ => self.marks.look(done.host, to_ms),
        }
    }

    async fn save(&mut self) {
        if let Err(error) = self.marks.save(&self.hub.store).await {
            tracing::warn!(to = self.name, %error, "how far series are handed on could not be stored");
        }
        self.saved = Instant::now();
    }

    /// Sends rows that came behind later ones. Says whether there were any.
    async fn late(&mut self) -> Result<bool, Failed> {
        let prefix = RemoteKey::all(RemoteKey::LATE);
        let mut keys = Vec::new();
        for item in self.hub.store.scan::<RemoteKey>(&prefix, &prefix) {
            let (key, _) = item?;
            if key.target == self.name {
                keys.push(key);
            }
            if keys.len() >= LATE_MAX {
                break;
            }
        }
        for keys in keys.chunk_by(|a, b| a.number == b.number && b.at_ms - a.at_ms < STRETCH_MS) {
            let (Some(first), Some(last)) = (keys.first(), keys.last()) else { continue };
            let moments: BTreeSet<i64> = keys.iter().map(|key| key.at_ms).collect();
            let hosts = BTreeSet::from([first.number]);
            let wants = move |_: u32, at_ms: i64| moments.contains(&at_ms);
            for packed in self.reading(&hosts, (first.at_ms, last.at_ms), wants).await? {
                self.send(&packed).await;
            }
            let mut batch = Batch::default();
            keys.iter().for_each(|key| batch.delete(key));
            self.hub.store.commit(batch).await?;
        }
        Ok(!keys.is_empty())
    }

    /// Reads what is to be sent, on a thread that may wait for the disk.
    fn reading<W: Fn(u32, i64) -> bool + Send + 'static>(
        &self,
        hosts: &BTreeSet<u32>,
        span: (i64, i64),
        wants: W,
    ) -> impl Future<Output = Result<Vec<Packed>, Failed>> + use<W> {
        let (hub, hosts, matchers) = (self.hub.clone(), hosts.clone(), self.matchers.clone());
        let work = move || read(&hub, &Ask { matchers: &matchers, span, hosts: &hosts, wants: &wants });
        let done = tokio::task::spawn_blocking(work);
        async move { Ok(done.await??) }
    }

    /// Sends one request until it is taken or refused for good.
    async fn send(&mut self, packed: &Packed) {
        if packed.samples == 0 {
            return;
        }
        let mut failed = 0u32;
        loop {
            let (why, asked) = match self.client.send(packed.body.clone()).await {
                Ok(answer) => match verdict(answer.status) {
                    Verdict::Taken => return add(&self.counts.sent, packed.samples),
                    Verdict::Refused => {
                        add(&self.counts.skipped, packed.samples);
                        let (status, said) = (answer.status.as_u16(), answer.said);
                        tracing::warn!(
                            to = self.name,
                            status,
                            said,
                            samples = packed.samples,
                            "samples are refused and skipped"
                        );
                        return;
                    }
                    Verdict::Again => {
                        (format!("it answered {} {}", answer.status.as_u16(), answer.said), answer.retry_after)
                    }
                },
                Err(error) => (error.to_string(), None),
            };
            failed = failed.saturating_add(1);
            add(&self.counts.failures, 1);
            let pause = pause(failed, asked, share());
            if failed.is_power_of_two() {
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(to = self.name, failed, pause_ms, why, "series cannot be handed on, trying again");
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// A random share of one.
fn share() -> f64 {
    (crate::random::number() >> 11) as f64 / (1u64 << 53) as f64
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
