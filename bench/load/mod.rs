//! A fleet that is played: thousands of sessions as agents have them, to a collector's own program.
//!
//! Each host has enrolled, dials with its own certificate, says Hello, writes its summaries with the agent's own writer,
//! sends as much as the collector gives it credit for, keeps what is not acknowledged, waits between attempts as agents do,
//! and verifies what it is offered. What it has none of is a host: its values are recorded or made.

pub(crate) mod asked;
pub(crate) mod connect;
pub(crate) mod fleet;
pub(crate) mod host;
pub(crate) mod papers;
pub(crate) mod process;
mod spool;
pub(crate) mod tally;
pub(crate) mod trials;

#[allow(clippy::duplicate_mod)] // the tests have both who ask with it
#[path = "../http.rs"]
mod http;

/// How long an agent waits between attempts: its own code.
#[path = "../../agent/src/backoff.rs"]
mod backoff;
