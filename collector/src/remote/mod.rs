//! Prometheus' remote write 1.0: series that others have collected are taken in, and what agents report is handed on.
//!
//! What comes in is stored as hosts' series are, under a [`sources::Source`] for each scraped target, which is no host:
//! it has no certificate, no ledger and no findings. Rows are durable before the request is answered.

pub mod gather;
pub mod message;
pub mod receive;
pub mod send;
pub mod sources;
mod take;
pub mod target;

/// The media type of both directions.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
/// How both are compressed: snappy's block format.
pub const ENCODING: &str = "snappy";
/// The version, as its header has it.
pub const VERSION: &str = "0.1.0";
