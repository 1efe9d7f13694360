//! Heads of a ledger.

use mainstay_core::ledger::Head;

use super::{ConvertError, bytes};
use crate::v1;

impl From<Head> for v1::LedgerHead {
    /// As an agent says it: without the time of a countersignature. An empty ledger has no hash,
    /// because the collector knows what it begins with.
    fn from(head: Head) -> Self {
        let hash = if head.index == 0 { Vec::new() } else { head.hash.to_vec() };
        Self { index: head.index, hash, countersigned_ms: 0 }
    }
}

impl TryFrom<v1::LedgerHead> for Option<Head> {
    type Error = ConvertError;

    /// `None` for an empty ledger.
    fn try_from(head: v1::LedgerHead) -> Result<Self, ConvertError> {
        if head.index == 0 {
            return Ok(None);
        }
        Ok(Some(Head { index: head.index, hash: bytes("hash", &head.hash)? }))
    }
}
