//! `connections`: who listens, who talks to whom and how slowly, by unit.

mod page;

use std::time::Duration;

use crate::connections::{Listening, Peer, Traffic};
use crate::policy::Glob;

/// Most peers, and most listening sockets, of one answer.
pub const ROWS_MAX: usize = 1_024;

/// Asks who talks to whom.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConnectionsQuery {
    /// Only units (or cgroups) that this matches.
    pub unit: Option<Glob>,
    /// How many peers are wanted at most; 0, or more than [`ROWS_MAX`], is that many.
    pub limit: u32,
}

impl ConnectionsQuery {
    /// How many rows one answer has at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        match usize::try_from(self.limit).unwrap_or(ROWS_MAX) {
            0 => ROWS_MAX,
            limit => limit.min(ROWS_MAX),
        }
    }
}

/// Who talks to whom.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConnectionsReply {
    /// How long ago the host looked.
    pub age: Duration,
    /// Connections in all.
    pub connections: u32,
    /// Sockets that wait for connections.
    pub listeners: Vec<ListenerRow>,
    /// How many more match.
    pub listeners_more: u32,
    /// Units with their peers.
    pub edges: Vec<EdgeRow>,
    /// How many more match.
    pub edges_more: u32,
    /// What is not known, and why.
    pub notes: Vec<String>,
}

/// A socket that waits for connections.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerRow {
    /// Its unit, or the path of a cgroup.
    pub unit: String,
    /// Where, and how many wait.
    pub listening: Listening,
}

/// A unit and a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeRow {
    /// The unit, or the path of a cgroup.
    pub unit: String,
    /// Whom it talks to.
    pub peer: Peer,
    /// What is open; [`Traffic::open`] is 0 where nothing is any more, and the rest is as it was last seen.
    pub traffic: Traffic,
    /// How long ago they were first seen.
    pub known_for: Duration,
    /// How long ago a connection was last seen.
    pub last_seen: Duration,
}
