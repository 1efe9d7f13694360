//! What is tried with a fleet that has sessions, and what it came to.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use mainstay_collector::clock;
use mainstay_core::policy::bundle::Bundle;
use mainstay_proto::v1;
use mainstay_proto::v1::query_service_client::QueryServiceClient;

use super::asked::{self, Asked};
use super::fleet::Fleet;
use super::host::Phase;
use super::process::{Process, Usage, usage_of};
use super::tally::{Tally, Times};

/// A policy that any host takes.
const POLICY: &str = "version = 1\n[[rule]]\nname = \"busy\"\non = [\"cpu.saturated\"]\n";

/// What taking summaries in came to.
#[derive(Debug)]
pub(crate) struct Taken {
    /// From the first to the last acknowledgement.
    pub(crate) took: Duration,
    pub(crate) points: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) acks: Times,
    pub(crate) usage: Usage,
    /// CPU seconds of the hosts' process: of the hosts themselves, mostly.
    pub(crate) own_cpu_seconds: f64,
    /// Bytes of TCP's payload from the hosts and to them; of that, of messages and of what they are there for.
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) messages: u64,
    pub(crate) bodies: u64,
    /// Points that changed, and values of them.
    pub(crate) changed: u64,
    pub(crate) changed_values: u64,
}

impl Taken {
    /// CPU seconds of the collector for a million points.
    pub(crate) fn cpu_seconds_per_million(&self) -> f64 {
        self.cpu_seconds / (self.points as f64 / 1e6)
    }

    /// Points that one core of the collector takes in a second.
    pub(crate) fn points_per_core_second(&self) -> f64 {
        self.points as f64 / self.cpu_seconds
    }
}

/// What a storm came to.
#[derive(Debug)]
pub(crate) struct Storm {
    /// How long the collector took to be ready again, and then until every host had a session.
    pub(crate) ready: Duration,
    pub(crate) served: Duration,
    pub(crate) welcomes: Times,
    pub(crate) put_off: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    /// Summaries that were acknowledged before it, and that the collector no longer knew of.
    pub(crate) forgotten: u64,
}

/// What an offer came to.
#[derive(Debug)]
pub(crate) struct Offered {
    /// From the operator's push until hosts had verified it and put it into force.
    pub(crate) effective: Times,
    /// Until the collector showed every host under it.
    pub(crate) shown: Duration,
}

/// Counts what `work` takes from its beginning until all is acknowledged.
async fn taking(
    process: &Process,
    fleet: &Fleet,
    limit: Duration,
    phase: Phase,
    made: impl AsyncFn() -> Result<()>,
) -> Result<Taken> {
    let tally = fleet.tally();
    let (before, own, points) =
        (process.usage()?, usage_of(std::process::id())?.cpu_seconds, Tally::get(&tally.points));
    let counters =
        [&tally.traffic.up, &tally.traffic.down, &tally.messages, &tally.bodies, &tally.changed, &tally.changed_values];
    let counted = counters.map(Tally::get);
    tally.take_acks();
    let started = Instant::now();
    fleet.enter(phase);
    made().await?;
    fleet.enter(Phase::Quiet);
    fleet.until_acknowledged(limit).await?;
    let took = started.elapsed();
    let usage = process.usage()?;
    let [up, down, messages, bodies, changed, changed_values] =
        std::array::from_fn(|n| Tally::get(counters[n]) - counted[n]);
    Ok(Taken {
        took,
        points: Tally::get(&tally.points) - points,
        cpu_seconds: usage.cpu_seconds - before.cpu_seconds,
        acks: tally.take_acks(),
        usage,
        own_cpu_seconds: usage_of(std::process::id())?.cpu_seconds - own,
        up,
        down,
        messages,
        bodies,
        changed,
        changed_values,
    })
}

/// Every host sends so many summaries of the past at once, as after a night without a network.
///
/// # Errors
/// If not all of it is acknowledged within `limit`.
pub(crate) async fn catch_up(process: &Process, fleet: &Fleet, summaries: u64, limit: Duration) -> Result<Taken> {
    let from_ms = clock::wall_ms() - i64::try_from(summaries)? * 10_000;
    let made = Tally::get(&fleet.tally().made) + summaries * fleet.size();
    let all_made =
        async || fleet.until("all summaries", limit, |tally| Tally::get(&tally.made) >= made).await.map(|_| ());
    taking(process, fleet, limit, Phase::Behind { from_ms, summaries }, all_made).await
}

/// Every host sends a summary each so often, for some time.
///
/// # Errors
/// If not all of it is acknowledged soon after.
pub(crate) async fn live(process: &Process, fleet: &Fleet, every: Duration, lasting: Duration) -> Result<Taken> {
    let for_some_time = async || {
        tokio::time::sleep(lasting).await;
        Ok(())
    };
    taking(process, fleet, Duration::from_secs(60), Phase::Live { every }, for_some_time).await
}

/// Every host sends so many summaries, each when the one before is acknowledged, and their bytes are counted: not those
/// with names, which a session has once.
///
/// # Errors
/// If one is not acknowledged soon.
pub(crate) async fn wire(process: &Process, fleet: &Fleet, summaries: u64) -> Result<Taken> {
    const LIMIT: Duration = Duration::from_secs(60);
    let one_by_one = async |numbers: Range<u64>| {
        for nth in numbers {
            let all = Tally::get(&fleet.tally().made) + fleet.size();
            fleet.enter(Phase::One { nth });
            let is_there = |tally: &Tally| [&tally.made, &tally.acked].map(Tally::get) == [all; 2];
            fleet.until("a summary of each and its acknowledgement", LIMIT, is_there).await?;
        }
        Ok(())
    };
    // The first summary names the series, and the next is the first with differences of differences.
    one_by_one(0..2).await?;
    taking(process, fleet, LIMIT, Phase::Quiet, async || one_by_one(2..2 + summaries).await).await
}

/// Asks the collector, while every host sends a summary each so often.
///
/// # Errors
/// If an answer is none, or what was sent meanwhile is not acknowledged soon after.
pub(crate) async fn asked(
    process: &Process,
    fleet: &Fleet,
    every: Duration,
    rounds: usize,
) -> Result<(Vec<Asked>, Taken)> {
    let (at, hosts) = (process.http, usize::try_from(fleet.size())?);
    let answers = Mutex::new(Vec::new());
    let ask = async || {
        let asked = tokio::task::spawn_blocking(move || asked::ask(at, hosts, rounds)).await??;
        *answers.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        Ok(())
    };
    let taken = taking(process, fleet, Duration::from_secs(60), Phase::Live { every }, ask).await?;
    Ok((answers.into_inner().unwrap_or_else(PoisonError::into_inner), taken))
}

/// The collector is killed and started again; every host comes back at once.
///
/// # Errors
/// If not every host has a session again within `limit`.
pub(crate) async fn storm(process: &mut Process, fleet: &Fleet, limit: Duration) -> Result<Storm> {
    let tally = fleet.tally();
    let of = || [&tally.put_off, &tally.failed, &tally.refused, &tally.forgotten].map(Tally::get);
    let before = of();
    process.kill()?;
    fleet.until("the end of all sessions", limit, |tally| Tally::get(&tally.connected) == 0).await?;
    tally.take_welcomes(Instant::now());
    let ready = process.restart()?;
    let started = Instant::now();
    let served =
        fleet.until("a session of every host", limit, |tally| Tally::get(&tally.connected) == fleet.size()).await?;
    let after = of();
    let [put_off, failed, refused, forgotten] = std::array::from_fn(|n| after[n] - before[n]);
    Ok(Storm { ready, served, welcomes: tally.take_welcomes(started), put_off, failed, refused, forgotten })
}

/// An operator pushes a policy to every host that is connected.
///
/// # Errors
/// If it is not in force everywhere within `limit`, or anybody does not believe it.
pub(crate) async fn offer(
    process: &Process,
    fleet: &Fleet,
    fleet_id: [u8; 16],
    key: &SigningKey,
    generation: u64,
    limit: Duration,
) -> Result<Offered> {
    let files = vec![("busy.toml".to_owned(), POLICY.as_bytes().to_vec())];
    let not_after_ms = clock::wall_ms() + 3_600_000;
    let signed = Bundle { fleet_id, generation, prev_hash: [0; 32], not_after_ms, files }.sign(key);
    let policy =
        v1::Signed { bytes: signed.bytes, key_id: signed.key_id.0.to_vec(), signature: signed.signature.to_vec() };
    let tally = fleet.tally();
    let wanted = Tally::get(&tally.effective) + fleet.size();
    let mut commands = process.admin().await?;
    let mut queries = QueryServiceClient::new(process.local().await?).max_decoding_message_size(usize::MAX);
    let started = Instant::now();
    let pushed = commands.push_policy(v1::PushPolicyRequest { policy: Some(policy) }).await?.into_inner();
    ensure!(u64::from(pushed.connected) == fleet.size(), "offered to {} of {} hosts", pushed.connected, fleet.size());
    let told = |tally: &Tally| Tally::get(&tally.effective) >= wanted || tally.unbelieved().is_some();
    fleet.until("the policy everywhere", limit, told).await?;
    if let Some(why) = tally.unbelieved() {
        bail!("a host does not believe the policy: {why}");
    }
    loop {
        let status = queries.policy_status(v1::PolicyStatusRequest::default()).await?.into_inner();
        let under = |host: &&v1::PolicyHostStatus| {
            let effective = host.status.as_ref().and_then(|status| status.effective.as_ref());
            effective.is_some_and(|policy| policy.generation == generation)
        };
        if status.hosts.iter().filter(under).count() as u64 == fleet.size() {
            break;
        }
        ensure!(started.elapsed() < limit, "the collector does not show every host under generation {generation}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(Offered { effective: tally.take_offers(started), shown: started.elapsed() })
}

/// How many summaries the collector can be asked for, of all hosts.
///
/// # Errors
/// If it does not answer.
pub(crate) async fn stored(process: &Process, metric: &str) -> Result<f64> {
    value(process, &format!("sum(count_over_time({metric}[3h]))")).await
}

/// The one value that a question has now.
///
/// # Errors
/// If it does not answer.
pub(crate) async fn value(process: &Process, promql: &str) -> Result<f64> {
    let mut queries = QueryServiceClient::new(process.local().await?).max_decoding_message_size(usize::MAX);
    let request = v1::QueryRangeRequest { promql: promql.to_owned(), to_ms: clock::wall_ms(), ..Default::default() };
    let answer = queries.query_range(request).await?.into_inner();
    answer.series.first().and_then(|series| series.values.first()).copied().context("no answer")
}
