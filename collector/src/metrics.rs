//! The collector's own counters, and how they are written out for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::remote::gather::{Dropped, Reason};

macro_rules! counters {
    ($($name:ident = $metric:literal: $help:literal,)+) => {
        /// Counts since the start.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $name: AtomicU64,)+
            remote_dropped: [AtomicU64; Reason::ALL.len()],
        }

        impl Metrics {
            /// Adds the counters in Prometheus' text format.
            pub fn write(&self, out: &mut String) {
                $(counter(out, $metric, $help, self.$name.load(Ordering::Relaxed));)+
                self.write_remote_dropped(out);
            }
        }
    };
}

counters! {
    sessions = "mainstay_collector_sessions_total": "Sessions that were opened.",
    rejects = "mainstay_collector_rejects_total": "Sessions and messages that were refused.",
    handshakes_failed = "mainstay_collector_handshakes_failed_total": "TLS handshakes that failed or took too long.",
    pushes = "mainstay_collector_pushes_total": "Pushes that were stored.",
    pushes_left = "mainstay_collector_pushes_left_total": "Pushes that were not taken, for lack of room on the disk; agents keep them.",
    push_bytes = "mainstay_collector_push_bytes_total": "Bytes of pushes after decompression.",
    items = "mainstay_collector_items_total": "Items that were stored.",
    duplicates = "mainstay_collector_duplicates_total": "Items that were stored already.",
    lost = "mainstay_collector_lost_total": "Items that agents declared lost.",
    samples = "mainstay_collector_samples_total": "Points of series that were stored.",
    points_dropped = "mainstay_collector_points_dropped_total": "Points of series that hosts had more than they may bring.",
    doubts = "mainstay_collector_ledger_doubts_total": "Reasons to doubt a host's ledger.",
    records_unread = "mainstay_collector_records_unread_total": "Ledger records that are stored but could not be read.",
    leases_granted = "mainstay_collector_leases_granted_total": "Leases granted.",
    leases_denied = "mainstay_collector_leases_denied_total": "Leases denied.",
    enrolled = "mainstay_collector_enrolled_total": "Hosts enrolled.",
    enrol_refused = "mainstay_collector_enrol_refused_total": "Enrolments refused.",
    commands = "mainstay_collector_commands_total": "Operators' commands.",
    notices_sent = "mainstay_collector_notices_sent_total": "Messages to the webhook that were taken.",
    notices_dropped = "mainstay_collector_notices_dropped_total": "Messages to the webhook that were given up.",
    remote_requests = "mainstay_collector_remote_requests_total": "Requests of remote write.",
    remote_refused = "mainstay_collector_remote_refused_total": "Requests of remote write of which not all was stored.",
    remote_samples = "mainstay_collector_remote_samples_total": "Samples of remote write that were stored.",
    heartbeats_failed = "mainstay_collector_heartbeats_failed_total": "Heartbeats that were not taken.",
}

impl Metrics {
    /// Counts what of a request of remote write was not stored.
    pub fn remote_dropped(&self, dropped: &Dropped) {
        self.remote_dropped.iter().zip(dropped.samples).for_each(|(counter, samples)| add(counter, samples));
    }

    fn write_remote_dropped(&self, out: &mut String) {
        let name = "mainstay_collector_remote_samples_dropped_total";
        let _ = writeln!(out, "# HELP {name} Samples of remote write that were not stored.\n# TYPE {name} counter");
        for (reason, counter) in Reason::ALL.into_iter().zip(&self.remote_dropped) {
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {}", reason.name(), counter.load(Ordering::Relaxed));
        }
    }
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Adds several.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Writes one counter.
pub fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
}

/// Writes one gauge.
pub fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}
