//! `connections`: who listens, and who talks to whom.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mainstay_core::connections::{Direction, Listening, Peer, Traffic};
use mainstay_core::host_query::connections::{EdgeRow, ListenerRow};
use mainstay_core::host_query::{ConnectionsQuery, ConnectionsReply};

use super::super::{ConvertError, Problem, all};
use super::{glob_from_wire, glob_to_wire, millis};
use crate::v1;

impl From<&ConnectionsQuery> for v1::ConnectionsQuery {
    fn from(query: &ConnectionsQuery) -> Self {
        Self { unit: glob_to_wire(query.unit.as_ref()), limit: query.limit }
    }
}

impl TryFrom<v1::ConnectionsQuery> for ConnectionsQuery {
    type Error = ConvertError;

    fn try_from(query: v1::ConnectionsQuery) -> Result<Self, ConvertError> {
        Ok(Self { unit: glob_from_wire("unit", &query.unit)?, limit: query.limit })
    }
}

impl From<&ConnectionsReply> for v1::ConnectionsReply {
    fn from(reply: &ConnectionsReply) -> Self {
        Self {
            age_ms: millis(reply.age),
            connections: reply.connections,
            listeners: reply.listeners.iter().map(Into::into).collect(),
            listeners_more: reply.listeners_more,
            edges: reply.edges.iter().map(Into::into).collect(),
            edges_more: reply.edges_more,
            notes: reply.notes.clone(),
        }
    }
}

impl TryFrom<v1::ConnectionsReply> for ConnectionsReply {
    type Error = ConvertError;

    fn try_from(reply: v1::ConnectionsReply) -> Result<Self, ConvertError> {
        Ok(Self {
            age: Duration::from_millis(reply.age_ms),
            connections: reply.connections,
            listeners: all("listeners", reply.listeners)?,
            listeners_more: reply.listeners_more,
            edges: all("edges", reply.edges)?,
            edges_more: reply.edges_more,
            notes: reply.notes,
        })
    }
}

fn address_to_wire(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_from_wire(bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| ConvertError::new("address", Problem::Length { expected: "4 or 16".into(), found: bytes.len() }))
}

fn port_from_wire(port: u32) -> Result<u16, ConvertError> {
    u16::try_from(port).map_err(|_| ConvertError::invalid("port", port))
}

impl From<&ListenerRow> for v1::Listener {
    fn from(row: &ListenerRow) -> Self {
        let Listening { local, waiting, waiting_max } = row.listening;
        Self {
            unit: row.unit.clone(),
            address: address_to_wire(local.ip()),
            port: local.port().into(),
            waiting,
            waiting_max,
        }
    }
}

impl TryFrom<v1::Listener> for ListenerRow {
    type Error = ConvertError;

    fn try_from(row: v1::Listener) -> Result<Self, ConvertError> {
        let local = SocketAddr::new(address_from_wire(&row.address)?, port_from_wire(row.port)?);
        let listening = Listening { local, waiting: row.waiting, waiting_max: row.waiting_max };
        Ok(Self { unit: row.unit, listening })
    }
}

impl From<&EdgeRow> for v1::Edge {
    fn from(row: &EdgeRow) -> Self {
        let traffic = &row.traffic;
        Self {
            unit: row.unit.clone(),
            inbound: row.peer.direction == Direction::In,
            address: address_to_wire(row.peer.address),
            port: row.peer.port.into(),
            open: traffic.open,
            opening: traffic.opening,
            half_closed: traffic.half_closed,
            rtt_us_sum: traffic.rtt_us_sum,
            rtt_of: traffic.rtt_of,
            rtt_us_max: traffic.rtt_us_max,
            retransmitted: traffic.retransmitted,
            segments_sent: traffic.segments_sent,
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
            known_for_ms: millis(row.known_for),
            last_seen_ms: millis(row.last_seen),
        }
    }
}

impl TryFrom<v1::Edge> for EdgeRow {
    type Error = ConvertError;

    fn try_from(edge: v1::Edge) -> Result<Self, ConvertError> {
        let direction = if edge.inbound { Direction::In } else { Direction::Out };
        let (address, port) = (address_from_wire(&edge.address)?, port_from_wire(edge.port)?);
        let traffic = Traffic {
            open: edge.open,
            opening: edge.opening,
            half_closed: edge.half_closed,
            rtt_us_sum: edge.rtt_us_sum,
            rtt_of: edge.rtt_of,
            rtt_us_max: edge.rtt_us_max,
            retransmitted: edge.retransmitted,
            segments_sent: edge.segments_sent,
            sent_bytes: edge.sent_bytes,
            received_bytes: edge.received_bytes,
        };
        Ok(Self {
            unit: edge.unit,
            peer: Peer { direction, address, port },
            traffic,
            known_for: Duration::from_millis(edge.known_for_ms),
            last_seen: Duration::from_millis(edge.last_seen_ms),
        })
    }
}
