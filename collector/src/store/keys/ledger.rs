//! A record of a host's ledger, in its exact bytes.

use mainstay_core::id::HostId;

super::key! {
    /// In the order of the ledger.
    LedgerKey in Ledger as 32 {
        /// Whose ledger.
        host: HostId,
        /// Its number, from 1.
        index: u64,
    }
}

impl LedgerKey {
    /// The ledger of one host.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(LedgerKey, host)
    }
}
