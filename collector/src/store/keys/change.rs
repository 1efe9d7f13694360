//! What was changed on hosts, and the marks that operators and their tools leave.

use mainstay_core::id::HostId;

super::key! {
    /// A change of a host. The same change told again has the same key.
    ChangeKey in Findings as 43 {
        /// Whose.
        host: HostId,
        /// When it was changed.
        at_ms: i64,
        /// Tells changes of one moment apart.
        id: u64,
    }
}

super::key! {
    /// A mark, such as a deployment, in order of time.
    EventKey in Findings as 44 {
        /// When.
        at_ms: i64,
        /// Tells marks of one moment apart.
        id: u64,
    }
}

super::key! {
    /// Changes by time. The value is empty.
    ChangeByTimeKey in Findings as 53 {
        /// When it was changed.
        at_ms: i64,
        /// Whose.
        host: HostId,
        /// Which of that moment.
        id: u64,
    }
}

impl ChangeKey {
    /// The changes of one host, oldest first.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(ChangeKey, host)
    }

    /// Those of a moment.
    #[must_use]
    pub fn at(host: HostId, at_ms: i64) -> Vec<u8> {
        super::prefix!(ChangeKey, host, at_ms)
    }
}

impl EventKey {
    /// All marks, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(EventKey)
    }

    /// Those of a moment.
    #[must_use]
    pub fn at(at_ms: i64) -> Vec<u8> {
        super::prefix!(EventKey, at_ms)
    }
}

impl ChangeByTimeKey {
    /// All of them, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(ChangeByTimeKey)
    }

    /// Those of a moment.
    #[must_use]
    pub fn at(at_ms: i64) -> Vec<u8> {
        super::prefix!(ChangeByTimeKey, at_ms)
    }
}
