//! Handing on: what agents report, sent to others over remote write.
//!
//! A task for each target reads what is durable behind its mark of each host, in the order of the rows' times, and moves the
//! mark when it was taken. Ingest waits for none of it. What others have written to us is not sent: they can do so.

mod client;
mod marks;
mod pace;
mod read;
mod task;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::target::RemoteWrite;
use crate::clock;
use crate::hub::Hub;

/// How often it is seen whether the settings name other targets.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What became of what was sent to one target.
#[derive(Debug)]
pub struct Counts {
    sent: AtomicU64,
    skipped: AtomicU64,
    failures: AtomicU64,
    /// Everything from before this was taken; `i64::MAX` is everything there is.
    behind_ms: AtomicI64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            sent: AtomicU64::default(),
            skipped: AtomicU64::default(),
            failures: AtomicU64::default(),
            behind_ms: AtomicI64::new(i64::MAX),
        }
    }
}

/// Of all targets, for the metrics.
#[derive(Debug, Default)]
pub struct AllCounts {
    of: Mutex<BTreeMap<String, Arc<Counts>>>,
}

impl AllCounts {
    fn of(&self, target: &str) -> Arc<Counts> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).entry(target.to_owned()).or_default().clone()
    }

    fn keep(&self, targets: &BTreeMap<String, Running>) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| targets.contains_key(name));
    }

    /// Adds them in Prometheus' text format.
    pub fn write(&self, out: &mut String) {
        let all = self.of.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now_ms = clock::wall_ms();
        let lag = |counts: &Counts| match counts.behind_ms.load(Ordering::Relaxed) {
            i64::MAX => 0.0,
            behind => now_ms.saturating_sub(behind).max(0) as f64 / 1e3,
        };
        let of =
            |counter: fn(&Counts) -> &AtomicU64| move |counts: &Counts| counter(counts).load(Ordering::Relaxed) as f64;
        type Value<'v> = &'v dyn Fn(&Counts) -> f64;
        let rows: [(&str, &str, &str, Value<'_>); 4] = [
            ("samples_sent_total", "counter", "Samples that a target has taken.", &of(|counts| &counts.sent)),
            (
                "samples_skipped_total",
                "counter",
                "Samples that a target has refused for good.",
                &of(|counts| &counts.skipped),
            ),
            (
                "failures_total",
                "counter",
                "Requests that a target did not take and that were sent again.",
                &of(|counts| &counts.failures),
            ),
            ("lag_seconds", "gauge", "Age of the oldest row that a target may not have taken.", &lag),
        ];
        for (name, kind, help, value) in rows {
            let name = format!("mainstay_collector_remote_write_{name}");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (target, counts) in &all {
                let _ = writeln!(out, "{name}{{target={target:?}}} {}", value(counts));
            }
        }
    }
}

/// A task that ends with this.
#[derive(Debug)]
struct Running {
    target: RemoteWrite,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands on to whom the settings name, until this is dropped.
pub async fn to_all(hub: Arc<Hub>) {
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let wanted = hub.settings().remote_write.clone();
        running.retain(|_, running| wanted.contains(&running.target));
        for target in wanted {
            let start = || {
                let counts = hub.remote_counts.of(&target.name);
                Running { task: tokio::spawn(task::run(hub.clone(), target.clone(), counts)), target: target.clone() }
            };
            running.entry(target.name.clone()).or_insert_with(start);
        }
        hub.remote_counts.keep(&running);
        hub.store.arrived.follow(running.keys().cloned().collect());
    }
}
