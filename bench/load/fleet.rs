//! All hosts together, and waiting for what they come to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ed25519_dalek::SigningKey;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::super::values::{Series, Values};
use super::host::{Ground, Host, Phase};
use super::papers::Papers;
use super::process::Process;
use super::tally::Tally;

/// How often it is looked whether what is waited for is there.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Hosts that make and pack at once.
const TURNS: usize = 2;

/// Hosts that keep sessions up.
pub(crate) struct Fleet {
    phase: watch::Sender<Phase>,
    ground: Arc<Ground>,
    hosts: JoinSet<()>,
}

impl Fleet {
    /// Starts all of them at once.
    pub(crate) fn start(
        process: &Process,
        papers: Vec<Papers>,
        series: &Arc<Series>,
        key: &SigningKey,
    ) -> Result<Self> {
        let ground = Arc::new(Ground {
            address: process.address,
            hosts: u32::try_from(papers.len())?,
            trusted: key.verifying_key(),
            tally: Tally::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
        });
        let phase = watch::Sender::new(Phase::Quiet);
        let mut hosts = JoinSet::new();
        for (number, papers) in (0..).zip(papers) {
            let host = Host::new(number, papers, ground.clone(), Values::of(series, number));
            hosts.spawn(host.run(phase.subscribe()));
        }
        Ok(Self { phase, ground, hosts })
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.ground.tally
    }

    pub(crate) fn size(&self) -> u64 {
        self.ground.hosts.into()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Waits until something has come about; says how long it took.
    ///
    /// # Errors
    /// If it has not within `limit`, with what there is instead.
    pub(crate) async fn until(&self, what: &str, limit: Duration, is_so: impl Fn(&Tally) -> bool) -> Result<Duration> {
        let started = Instant::now();
        while !is_so(self.tally()) {
            if started.elapsed() > limit {
                bail!("{what} did not come about within {limit:?}: {:?}", self.tally());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(started.elapsed())
    }

    /// Waits until no host makes any more, and every summary that was made is acknowledged.
    ///
    /// # Errors
    /// If that takes longer than `limit`.
    pub(crate) async fn until_acknowledged(&self, limit: Duration) -> Result<Duration> {
        let is_over =
            |tally: &Tally| Tally::get(&tally.at_work) == 0 && Tally::get(&tally.acked) >= Tally::get(&tally.made);
        self.until("the acknowledgement of all", limit, is_over).await
    }

    /// Ends all sessions.
    pub(crate) async fn end(mut self) {
        self.phase.send_replace(Phase::End);
        while self.hosts.join_next().await.is_some() {}
    }
}
