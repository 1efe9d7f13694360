//! A host that was enrolled.

use mainstay_core::id::HostId;

super::key! {
    /// Known by the identity in its certificate.
    HostKey in Meta as 1 {
        /// Which host.
        host: HostId,
    }
}

impl HostKey {
    /// All hosts.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(HostKey)
    }
}
