//! How far a host's stream is stored. Written in the same batch as the items that it counts.

use mainstay_core::id::HostId;

super::key! {
    /// The marks of one host.
    MarkKey in Meta as 2 {
        /// Which host.
        host: HostId,
    }
}

impl MarkKey {
    /// The marks of all hosts.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(MarkKey)
    }
}
