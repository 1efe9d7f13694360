//! An operator's signed order that waits for a host to answer it.

use mainstay_core::id::HostId;

super::key! {
    /// By host, in the order in which they were given.
    OrderKey in Meta as 8 {
        /// For which host.
        host: HostId,
        /// When it was given.
        at_ms: i64,
        /// The host answers under this.
        id: u64,
    }
}

impl OrderKey {
    /// What waits for one host, oldest first.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(OrderKey, host)
    }
}
