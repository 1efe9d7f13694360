//! A lease to act that was granted, so that a collector that starts anew goes on counting.

use mainstay_core::id::HostId;

super::key! {
    /// By host and kind of finding: a later grant replaces the earlier one.
    LeaseKey in Meta as 10 {
        /// To whom.
        host: HostId,
        /// For what kind of finding.
        kind: String,
    }
}

impl LeaseKey {
    /// Those of one host.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(LeaseKey, host)
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(LeaseKey)
    }
}
