//! Connections: who listens, who talks to whom and how slowly, by unit. The raw material of a map of services.
//!
//! Sockets of one look are gathered by cgroup and peer ([`Gathered`]); [`Table`] gives the cgroups their units and
//! remembers for a while whom a unit talked to. An incoming connection counts under the local port and the address of
//! whoever calls, an outgoing one under the address and port that are called. Everything is bounded, and what does not
//! fit is counted.

mod table;

pub use table::Table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::parse::sock_diag::{Socket, State};

/// Most listening sockets of one look.
pub const LISTENERS_MAX: usize = 1_024;

/// Most pairs of unit and peer that are remembered, and of one look.
pub const EDGES_MAX: usize = 2_048;

/// Most sockets that are taken from one look.
pub const SOCKETS_MAX: u32 = 200_000;

/// Which side began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Direction {
    /// The other side.
    #[default]
    In,
    /// This one.
    Out,
}

/// Whom a unit talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Which side began.
    pub direction: Direction,
    /// The other side's address.
    pub address: IpAddr,
    /// The port that was called: the local one of an incoming connection, the remote one of an outgoing.
    pub port: u16,
}

/// The connections of a unit with one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// How many are open.
    pub open: u32,
    /// How many of them wait for the other side's first answer.
    pub opening: u32,
    /// How many of them the other side has closed and this one has not.
    pub half_closed: u32,
    /// Sum of the round-trip times of those that have one, in microseconds, and how many those are.
    pub rtt_us_sum: u64,
    /// See [`Traffic::rtt_us_sum`].
    pub rtt_of: u32,
    /// The longest of them.
    pub rtt_us_max: u32,
    /// Segments sent again over the lives of those that are open.
    pub retransmitted: u64,
    /// Segments sent; 0 where the kernel does not say.
    pub segments_sent: u64,
    /// Bytes that arrived there, over the lives of those that are open.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

impl Traffic {
    /// The mean round-trip time in microseconds.
    #[must_use]
    pub fn rtt_us_mean(&self) -> Option<u64> {
        self.rtt_us_sum.checked_div(u64::from(self.rtt_of))
    }

    fn add(&mut self, socket: &Socket) {
        self.open = self.open.saturating_add(1);
        self.opening = self.opening.saturating_add(u32::from(socket.state == State::SynSent));
        self.half_closed = self.half_closed.saturating_add(u32::from(socket.state == State::CloseWait));
        let Some(info) = socket.info else { return };
        if info.rtt_us > 0 {
            self.rtt_us_sum = self.rtt_us_sum.saturating_add(u64::from(info.rtt_us));
            self.rtt_of = self.rtt_of.saturating_add(1);
            self.rtt_us_max = self.rtt_us_max.max(info.rtt_us);
        }
        self.retransmitted = self.retransmitted.saturating_add(u64::from(info.retransmitted));
        self.segments_sent = self.segments_sent.saturating_add(u64::from(info.segments_sent.unwrap_or(0)));
        self.sent_bytes = self.sent_bytes.saturating_add(info.sent_bytes.unwrap_or(0));
        self.received_bytes = self.received_bytes.saturating_add(info.received_bytes.unwrap_or(0));
    }

    fn merge(&mut self, other: &Self) {
        self.open = self.open.saturating_add(other.open);
        self.opening = self.opening.saturating_add(other.opening);
        self.half_closed = self.half_closed.saturating_add(other.half_closed);
        self.rtt_us_sum = self.rtt_us_sum.saturating_add(other.rtt_us_sum);
        self.rtt_of = self.rtt_of.saturating_add(other.rtt_of);
        self.rtt_us_max = self.rtt_us_max.max(other.rtt_us_max);
        self.retransmitted = self.retransmitted.saturating_add(other.retransmitted);
        self.segments_sent = self.segments_sent.saturating_add(other.segments_sent);
        self.sent_bytes = self.sent_bytes.saturating_add(other.sent_bytes);
        self.received_bytes = self.received_bytes.saturating_add(other.received_bytes);
    }
}

/// A socket that waits for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    /// Where.
    pub local: SocketAddr,
    /// Connections that nobody has accepted yet.
    pub waiting: u32,
    /// How many may wait.
    pub waiting_max: u32,
}

/// The sockets of one look, by cgroup. Listening sockets are to be added first: they tell which connections came in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gathered {
    pub(super) listening: Vec<(Option<u64>, Listening)>,
    listening_at: BTreeSet<(IpAddr, u16)>,
    pub(super) edges: BTreeMap<(Option<u64>, Peer), Traffic>,
    /// Connections of all edges, those left out too.
    pub(super) connections: u32,
    /// Listening sockets, edges and sockets that were left out.
    pub(super) left_out: u32,
    /// Sockets came and went during the look.
    pub(super) is_interrupted: bool,
}

impl Gathered {
    /// Adds a socket.
    pub fn add(&mut self, socket: &Socket) {
        if socket.state == State::Listen {
            self.listening_at.insert((socket.local.ip(), socket.local.port()));
            if self.listening.len() >= LISTENERS_MAX {
                self.left_out = self.left_out.saturating_add(1);
                return;
            }
            let (local, waiting, waiting_max) = (socket.local, socket.receive_queue, socket.send_queue);
            self.listening.push((socket.cgroup, Listening { local, waiting, waiting_max }));
            return;
        }
        self.connections = self.connections.saturating_add(1);
        let key = (socket.cgroup, self.peer(socket));
        if self.edges.len() >= EDGES_MAX && !self.edges.contains_key(&key) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.edges.entry(key).or_default().add(socket);
    }

    /// Whether no more sockets are taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.connections >= SOCKETS_MAX
    }

    /// Notes that the look may lack sockets.
    pub fn interrupted(&mut self) {
        self.is_interrupted = true;
    }

    /// The cgroups that sockets were made in.
    #[must_use]
    pub fn cgroups(&self) -> BTreeSet<u64> {
        let listening = self.listening.iter().map(|(cgroup, _)| *cgroup);
        listening.chain(self.edges.keys().map(|(cgroup, _)| *cgroup)).flatten().collect()
    }

    fn peer(&self, socket: &Socket) -> Peer {
        let (local, remote) = (socket.local, socket.remote);
        let everywhere = [IpAddr::from([0u8; 4]), IpAddr::from([0u8; 16])];
        let is_in = [local.ip(), everywhere[0], everywhere[1]]
            .into_iter()
            .any(|address| self.listening_at.contains(&(address, local.port())));
        let (direction, port) = if is_in { (Direction::In, local.port()) } else { (Direction::Out, remote.port()) };
        Peer { direction, address: remote.ip(), port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::sock_diag::datagram;

    /// The recorded sockets of both families, listening ones first.
    pub(super) fn recorded() -> Gathered {
        let mut sockets = Vec::new();
        for bytes in [
            &include_bytes!("../parse/fixtures/sock_diag_tcp.6.18.bin")[..],
            include_bytes!("../parse/fixtures/sock_diag_tcp6.6.18.bin"),
        ] {
            datagram(bytes, |socket| sockets.push(socket)).unwrap();
        }
        sockets.sort_by_key(|socket| socket.state != State::Listen);
        let mut gathered = Gathered::default();
        sockets.iter().for_each(|socket| gathered.add(socket));
        gathered
    }

    #[test]
    fn both_ends_of_a_connection_are_told_apart_by_who_listens() {
        let gathered = recorded();
        let edges: Vec<_> = gathered.edges.keys().map(|(_, p)| (p.direction, p.address.to_string(), p.port)).collect();
        use Direction::{In, Out};
        let want = [
            (In, "127.0.0.1", 37_565),
            (In, "127.0.0.1", 41_075),
            (In, "::1", 37_565),
            (Out, "127.0.0.1", 37_565),
            (Out, "127.0.0.1", 41_075),
            (Out, "::1", 37_565),
        ];
        assert_eq!(edges, want.map(|(direction, address, port)| (direction, address.to_owned(), port)));
        assert_eq!((gathered.connections, gathered.left_out, gathered.listening.len()), (6, 0, 2));
        assert_eq!(gathered.cgroups(), BTreeSet::from([1]));
    }

    #[test]
    fn what_is_open_is_summed() {
        let gathered = recorded();
        let traffic = gathered.edges.values().nth(4).unwrap();
        assert_eq!((traffic.open, traffic.rtt_us_mean(), traffic.rtt_us_max), (1, Some(10), 10));
        assert_eq!((traffic.sent_bytes, traffic.received_bytes, traffic.segments_sent), (20_001, 20, 23));
        assert_eq!(Traffic::default().rtt_us_mean(), None);
    }

    #[test]
    fn more_peers_than_are_kept_are_counted() {
        let mut gathered = recorded();
        let mut socket = Socket {
            state: State::SynSent,
            local: "10.0.0.1:1".parse().unwrap(),
            remote: "10.0.0.2:1".parse().unwrap(),
            receive_queue: 0,
            send_queue: 0,
            cgroup: Some(9),
            info: None,
        };
        for port in 1..=3_000 {
            socket.remote.set_port(port);
            gathered.add(&socket);
            gathered.add(&socket);
        }
        assert_eq!((gathered.edges.len(), gathered.connections), (EDGES_MAX, 6_006));
        assert_eq!(gathered.left_out, 2 * (3_000 + 6 - 2_048));
        assert_eq!(gathered.edges.last_key_value().unwrap().1.opening, 2);
    }
}
