//! A decision with all that followed from it, the indexes by time and by host, and what was seen before its actions.

use mainstay_core::id::{ActionId, DecisionId, HostId};

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

super::key! {
    /// What was seen before an action.
    SceneKey in Decisions as 52 {
        /// Of which decision.
        decision: DecisionId,
        /// On which host.
        host: HostId,
        /// Before which action.
        action: ActionId,
    }
}

impl SceneKey {
    /// Those of one decision, in no particular order.
    #[must_use]
    pub fn of(decision: DecisionId, host: HostId) -> Vec<u8> {
        super::prefix!(SceneKey, decision, host)
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

    /// Those of a moment.
    #[must_use]
    pub fn at(at_ms: i64) -> Vec<u8> {
        super::prefix!(DecisionByTimeKey, at_ms)
    }
}

impl DecisionByHostKey {
    /// Those of one host, oldest first.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(DecisionByHostKey, host)
    }

    /// Those of a moment.
    #[must_use]
    pub fn at(host: HostId, at_ms: i64) -> Vec<u8> {
        super::prefix!(DecisionByHostKey, host, at_ms)
    }
}
