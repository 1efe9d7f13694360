//! The session with the collector.

pub mod message;
