//! The wire: generated types of `mainstay.v1`, and their translation from and to the domain.
//!
//! Nothing outside of [`convert`] translates. The domain types have no derives of the wire, and the
//! wire has no logic.
#![forbid(unsafe_code)]

pub mod backup_key;
pub mod codec;
pub mod convert;
pub mod otlp;
pub mod packed;

/// Version 1 of the wire.
#[allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all)]
pub mod v1 {
    tonic::include_proto!("mainstay.v1");
}

/// The lowest version of the session that this build speaks.
pub const SESSION_VERSION_MIN: u32 = 1;
/// The highest version of the session that this build speaks.
pub const SESSION_VERSION_MAX: u32 = 1;
/// Most bytes of one message, after decompression. More is refused, not read.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of one answer to a question: far from holding up the pushes behind it. What is longer
/// is asked for in pages.
pub const HOST_REPLY_BYTES_MAX: usize = 1024 * 1024;
/// The name in the collector's server certificate that every client verifies, whatever the address
/// it was reached by: the CA is the collector's own, so the name need not be that of a machine.
pub const COLLECTOR_NAME: &str = "mainstay-collector";
