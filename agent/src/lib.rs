//! The shell of the Mainstay agent: it reads the host, drives the pure core ([`mainstay_core`]),
//! carries out what the core wants done, and keeps and sends what happened.
//!
//! Modules in reading order. Invariant: no decision is made here.

pub mod actuate;
mod backoff;
mod child;
pub mod config;
pub mod durable;
pub mod enrol;
pub mod failpoint;
pub mod host;
pub mod http;
pub mod identity;
pub mod journalctl;
pub mod keeper;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod otlp;
pub mod packing;
pub mod panics;
pub mod recording;
pub mod run;
pub mod scene;
pub mod spool;
pub mod tls;
pub mod uplink;
