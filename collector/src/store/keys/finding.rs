//! A finding, as it was last reported, the index of findings by time, and the seconds around each.

use mainstay_core::id::{FindingId, HostId};

super::key! {
    /// By host.
    FindingKey in Findings as 40 {
        /// Whose.
        host: HostId,
        /// Which.
        finding: FindingId,
    }
}

super::key! {
    /// By the time of opening. The value is when it ended ([`super::ended`]).
    FindingByTimeKey in Findings as 41 {
        /// When it opened.
        opened_ms: i64,
        /// Whose.
        host: HostId,
        /// Which.
        finding: FindingId,
    }
}

super::key! {
    /// The seconds around a finding, as its host recorded them.
    RecordingKey in Findings as 42 {
        /// Whose.
        host: HostId,
        /// Of which finding.
        finding: FindingId,
    }
}

impl RecordingKey {
    /// Those of one host.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(RecordingKey, host)
    }
}

impl FindingKey {
    /// The findings of one host.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(FindingKey, host)
    }

    /// All findings.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(FindingKey)
    }
}

impl FindingByTimeKey {
    /// All of them, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(FindingByTimeKey)
    }

    /// Those that opened at a moment.
    #[must_use]
    pub fn at(opened_ms: i64) -> Vec<u8> {
        super::prefix!(FindingByTimeKey, opened_ms)
    }
}
