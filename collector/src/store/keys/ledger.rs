//! A record of a host's ledger, in its exact bytes, and the index by time.

use mainstay_core::id::HostId;
use mainstay_proto::v1;

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

super::key! {
    /// By time, of those that can be read; not in the column of ledgers, which a hole in a list would make unreadable. The value is empty.
    RecordByTimeKey in Decisions as 60 {
        /// When it was made, by its host's clock.
        at_ms: i64,
        /// Whose ledger.
        host: HostId,
        /// Its number.
        index: u64,
    }
}

impl RecordByTimeKey {
    /// All of them, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(RecordByTimeKey)
    }

    /// Those of a moment.
    #[must_use]
    pub fn at(at_ms: i64) -> Vec<u8> {
        super::prefix!(RecordByTimeKey, at_ms)
    }

    /// That of a record.
    #[must_use]
    pub fn listing(key: &LedgerKey, record: &v1::Record) -> Self {
        Self { at_ms: record.at.as_ref().map_or(0, |at| at.wall_ms), host: key.host, index: key.index }
    }
}
