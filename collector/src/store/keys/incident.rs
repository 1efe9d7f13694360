//! An incident, the index of incidents by time, which incident a finding belongs to, and what is to be told of incidents.

use mainstay_core::id::{FindingId, HostId, IncidentId};

super::key! {
    /// By its id.
    IncidentKey in Incidents as 56 {
        /// Which.
        incident: IncidentId,
    }
}

super::key! {
    /// By the time of opening. The value is when it ended ([`super::ended`]).
    IncidentByTimeKey in Incidents as 57 {
        /// When its first member opened.
        opened_ms: i64,
        /// Which.
        incident: IncidentId,
    }
}

super::key! {
    /// The value is the incident's id.
    IncidentOfKey in Incidents as 58 {
        /// Whose finding.
        host: HostId,
        /// Which finding.
        finding: FindingId,
    }
}

super::key! {
    /// What is to be told outside of an incident, until it is told.
    NoticeKey in Incidents as 59 {
        /// When it came about.
        at_ms: i64,
        /// Of which.
        incident: IncidentId,
        /// Whether it cleared (1), or opened (0).
        cleared: u8,
    }
}

impl NoticeKey {
    /// All of them, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(NoticeKey)
    }
}

impl IncidentOfKey {
    /// Those of one host.
    #[must_use]
    pub fn of(host: HostId) -> Vec<u8> {
        super::prefix!(IncidentOfKey, host)
    }
}

impl IncidentKey {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(IncidentKey)
    }
}

impl IncidentByTimeKey {
    /// All of them, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(IncidentByTimeKey)
    }

    /// Those that opened at a moment.
    #[must_use]
    pub fn at(opened_ms: i64) -> Vec<u8> {
        super::prefix!(IncidentByTimeKey, opened_ms)
    }
}
