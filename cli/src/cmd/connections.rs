//! `mainstay host connections`: who listens on a host, who talks to whom and how slowly, asked of the host itself.

use clap::Args;
use mainstay_core::connections::Direction;
use mainstay_core::host_query::connections::{EdgeRow, ListenerRow};
use mainstay_core::host_query::{ConnectionsQuery, ConnectionsReply, HostQuery, HostReply};
use mainstay_core::policy::Glob;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{ask, output};

/// Peers that are shown without `--limit`: a screen.
const SHOWN: u32 = 40;

/// Arguments of `mainstay host connections`.
#[derive(Debug, Args)]
pub(crate) struct ConnectionsArgs {
    /// Name, id or the beginning of an id
    host: String,
    /// Only units that this glob matches
    #[arg(long, value_name = "GLOB")]
    unit: Option<String>,
    /// Most peers that are shown; 0 is as many as the host says at once
    #[arg(long, default_value_t = SHOWN, value_name = "N")]
    limit: u32,
}

/// Carries the command out.
pub(crate) async fn run(args: &ConnectionsArgs, context: &Context) -> Result<Exit, Failure> {
    let unit = args.unit.as_deref().map(|text| {
        Glob::new(text).ok_or_else(|| Failure::usage("--unit is empty and would match nothing; leave it out for all"))
    });
    let query = ConnectionsQuery { unit: unit.transpose()?, limit: args.limit };
    let answer = ask::host(context, &args.host, &HostQuery::Connections(query)).await?;
    let HostReply::Connections(reply) = answer.reply else { return Err(ask::of_another_kind(&answer.hostname)) };
    if context.format.is_for_people() {
        for line in format!("{}: {}", answer.hostname, reply.page()).lines() {
            output::line_out(line)?;
        }
    } else {
        output::document(context, &ConnectionsDoc::new(answer.hostname, &reply))?;
    }
    Ok(Exit::Success)
}

#[derive(Debug, Serialize)]
struct ConnectionsDoc {
    host: String,
    age_seconds: f64,
    connections: u32,
    listeners: Vec<ListenerDoc>,
    listeners_more: u32,
    peers: Vec<PeerDoc>,
    peers_more: u32,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ListenerDoc {
    unit: String,
    address: String,
    port: u16,
    waiting: u32,
    waiting_max: u32,
}

#[derive(Debug, Serialize)]
struct PeerDoc {
    unit: String,
    direction: &'static str,
    address: String,
    port: u16,
    open: u32,
    unanswered: u32,
    half_closed: u32,
    rtt_seconds: Option<f64>,
    rtt_seconds_max: Option<f64>,
    segments_sent: u64,
    segments_sent_again: u64,
    sent_bytes: u64,
    received_bytes: u64,
    first_seen_seconds_ago: u64,
    last_seen_seconds_ago: u64,
}

impl ConnectionsDoc {
    fn new(host: String, reply: &ConnectionsReply) -> Self {
        Self {
            host,
            age_seconds: reply.age.as_secs_f64(),
            connections: reply.connections,
            listeners: reply.listeners.iter().map(Into::into).collect(),
            listeners_more: reply.listeners_more,
            peers: reply.edges.iter().map(Into::into).collect(),
            peers_more: reply.edges_more,
            notes: reply.notes.clone(),
        }
    }
}

impl From<&ListenerRow> for ListenerDoc {
    fn from(row: &ListenerRow) -> Self {
        let listening = &row.listening;
        Self {
            unit: row.unit.clone(),
            address: listening.local.ip().to_string(),
            port: listening.local.port(),
            waiting: listening.waiting,
            waiting_max: listening.waiting_max,
        }
    }
}

impl From<&EdgeRow> for PeerDoc {
    #[allow(clippy::cast_precision_loss, reason = "microseconds of a round trip")]
    fn from(row: &EdgeRow) -> Self {
        let traffic = &row.traffic;
        Self {
            unit: row.unit.clone(),
            direction: match row.peer.direction {
                Direction::In => "in",
                Direction::Out => "out",
            },
            address: row.peer.address.to_string(),
            port: row.peer.port,
            open: traffic.open,
            unanswered: traffic.opening,
            half_closed: traffic.half_closed,
            rtt_seconds: traffic.rtt_us_mean().map(|us| us as f64 / 1e6),
            rtt_seconds_max: (traffic.rtt_of > 0).then(|| f64::from(traffic.rtt_us_max) / 1e6),
            segments_sent: traffic.segments_sent,
            segments_sent_again: traffic.retransmitted,
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
            first_seen_seconds_ago: row.known_for.as_secs(),
            last_seen_seconds_ago: row.last_seen.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mainstay_core::connections::{Peer, Traffic};

    use super::*;

    #[test]
    fn programs_get_every_value_in_base_units() {
        let edge = EdgeRow {
            unit: "app.service".into(),
            peer: Peer { direction: Direction::Out, address: "10.0.0.2".parse().unwrap(), port: 5_432 },
            traffic: Traffic { open: 2, rtt_us_sum: 3_000, rtt_of: 2, rtt_us_max: 2_000, ..Traffic::default() },
            known_for: Duration::from_secs(90),
            last_seen: Duration::ZERO,
        };
        let gone = EdgeRow { traffic: Traffic::default(), ..edge.clone() };
        let reply = ConnectionsReply { edges: vec![edge, gone], ..ConnectionsReply::default() };
        let doc = serde_json::to_value(ConnectionsDoc::new("web-1".into(), &reply)).unwrap();
        assert_eq!((&doc["peers"][0]["rtt_seconds"], &doc["peers"][0]["direction"]), (&0.0015.into(), &"out".into()));
        assert_eq!(doc["peers"][0]["rtt_seconds_max"], 0.002);
        assert!(doc["peers"][1]["rtt_seconds"].is_null() && doc["peers"][1]["rtt_seconds_max"].is_null());
    }
}
