//! Sends metrics to an OpenTelemetry receiver over OTLP/HTTP, where agent.toml names one.
//!
//! In: samples, as the tick has taken them; nothing is read for it. Out: an export every so often, posted by a task of its
//! own. The loop makes the bytes and never waits: what cannot be sent is kept within bounds, tried again where that
//! may help, and counted where it is dropped.

mod deliver;
mod queue;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::id::HostId;
use mainstay_core::otlp::export;
use mainstay_core::sample::{HostFacts, Sample};
use mainstay_core::time::Now;
use mainstay_proto::otlp::{Source, Times, request};
use tokio::sync::Notify;

use crate::config::OtlpSettings;
use crate::host::{clock, facts};
use queue::Queue;

const SERVICE: &str = "mainstay-agent";

/// Exports samples.
#[derive(Debug)]
pub struct Otlp {
    every_ns: u64,
    next_ns: u64,
    source: Source,
    /// As it was at the start: the clock may be set, and sums must not begin anew for that.
    boot_unix_ns: u64,
    shared: Arc<Shared>,
}

/// What the loop and the task share.
#[derive(Debug, Default)]
struct Shared {
    waiting: std::sync::Mutex<Queue>,
    wake: Notify,
    counts: Counts,
}

/// What became of exports since the start.
#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    refused: AtomicU64,
    given_up: AtomicU64,
    crowded_out: AtomicU64,
    attempts_failed: AtomicU64,
    points_rejected: AtomicU64,
    points_left_out: AtomicU64,
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Queue> {
        // A holder that panicked left plain data that is still whole.
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Otlp {
    /// Begins to export. The first one comes at a moment drawn from the seed, so that a fleet that was started at once
    /// does not send at once.
    #[must_use]
    pub fn start(settings: &OtlpSettings, root: &Path, facts: &HostFacts, host: Option<HostId>, seed: u64) -> Self {
        let (shared, now) = (Arc::new(Shared::default()), clock::now());
        tokio::spawn(deliver::deliver(Arc::clone(&shared), settings.clone(), seed));
        let every_ns = u64::try_from(settings.every.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self {
            every_ns,
            next_ns: now.boot_ns.saturating_add(seed % every_ns),
            source: Source {
                resource: resource(root, facts, host),
                scope: SERVICE,
                version: env!("CARGO_PKG_VERSION"),
            },
            boot_unix_ns: unix_ns(now).saturating_sub(now.boot_ns),
            shared,
        }
    }

    /// Exports the sample, if it is time to.
    pub fn sampled(&mut self, sample: &Sample) {
        let Some(late_ns) = sample.at.boot_ns.checked_sub(self.next_ns) else { return };
        // What was missed is not made up for.
        self.next_ns = self.next_ns.saturating_add((late_ns / self.every_ns + 1).saturating_mul(self.every_ns));
        let export = export(sample);
        let at_unix_ns = unix_ns(sample.at);
        let times = Times { boot_unix_ns: self.boot_unix_ns.min(at_unix_ns), at_unix_ns };
        let bytes = request(&self.source, times, export.metrics);
        let counts = &self.shared.counts;
        add(&counts.points_left_out, export.left_out);
        add(&counts.crowded_out, self.shared.waiting().put(bytes.into()));
        self.shared.wake.notify_one();
    }

    /// What became of exports, for `/metrics`.
    pub fn expose(&self, text: &mut Exposition) {
        let counts = &self.shared.counts;
        #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let help = "Exports over OTLP, by how they ended: taken, refused for good, given up after attempts, or \
                    crowded out by newer ones.";
        let mut family = text.family("mainstay_agent_otlp_exports_total", FamilyKind::Counter, help);
        for (ended, counter) in [
            ("crowded_out", &counts.crowded_out),
            ("given_up", &counts.given_up),
            ("refused", &counts.refused),
            ("taken", &counts.taken),
        ] {
            family.add(&[("ended", ended)], load(counter));
        }
        for (name, help, counter) in [
            ("attempts_failed_total", "Attempts to send an export that failed.", &counts.attempts_failed),
            ("points_rejected_total", "Points that the receiver left out of exports.", &counts.points_rejected),
            ("points_left_out_total", "Points left out of exports that were too large.", &counts.points_left_out),
        ] {
            text.counter(&format!("mainstay_agent_otlp_{name}"), help, load(counter));
        }
        let waiting = u32::try_from(self.shared.waiting().len()).map_or(f64::INFINITY, f64::from);
        text.gauge("mainstay_agent_otlp_exports_waiting", "Exports that wait to be sent.", waiting);
    }
}

fn unix_ns(now: Now) -> u64 {
    let since_1970 = Duration::from_millis(u64::try_from(now.wall_ms).unwrap_or(0));
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// What the metrics are of, under the names of the semantic conventions. What is not known is left out.
fn resource(root: &Path, facts: &HostFacts, host: Option<HostId>) -> Vec<(String, String)> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let machine = facts::machine_id(root);
    let host = host.map(|host| host.to_string()).unwrap_or_default();
    let instance = if host.is_empty() { &machine } else { &host };
    let known: [(&str, &str); 9] = [
        ("host.arch", arch),
        ("host.id", &machine),
        ("host.name", &facts.hostname),
        ("mainstay.host.id", &host),
        ("os.description", &facts.os),
        ("os.type", "linux"),
        ("service.instance.id", instance),
        ("service.name", SERVICE),
        ("service.version", &facts.agent_version),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    let known = known.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = facts.labels.iter().map(|(name, value)| (format!("mainstay.label.{name}"), value.clone()));
    known.chain(labels).collect()
}

#[cfg(test)]
mod tests;
