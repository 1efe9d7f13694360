//! A decision with all that followed from it, and the indexes by time and by host.

use mainstay_core::id::{DecisionId, HostId};

super::key! {
    /// By its id, which commands take the beginning of. Two hosts could draw the same.
    DecisionKey in Decisions as 48 {
        /// Which.
        decision: DecisionId,
        /// Whose.
        host: HostId,
    }
}

super::key! {
    /// By time. The value is empty.
    DecisionByTimeKey in Decisions as 49 {
        /// When it was made.
        at_ms: i64,
        /// Which.
        decision: DecisionId,
        /// Whose.
        host: HostId,
    }
}

super::key! {
    /// By host and time. The value is empty.
    DecisionByHostKey in Decisions as 50 {
        /// Whose.
        host: HostId,
        /// When it was made.
        at_ms: i64,
        /// Which.
        decision: DecisionId,
    }
}

impl DecisionKey {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(DecisionKey)
    }

    /// Those of one id.
    #[must_use]
    pub fn with_id(decision: DecisionId) -> Vec<u8> {
        super::prefix!(DecisionKey, decision)
    }
}

impl DecisionByTimeKey {
    /// All of them, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(DecisionByTimeKey)
    }
}

impl DecisionByHostKey {
    /// Those of one host, oldest first.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(DecisionByHostKey, host)
    }
}
