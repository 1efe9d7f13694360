//! The pure core of the collector: what is stored once, who may act, what belongs together.
//!
//! As pure as the agent's: no I/O, no clock, no randomness, and only maps with a fixed order.
#![forbid(unsafe_code)]

pub mod dedup;
pub mod lease;
