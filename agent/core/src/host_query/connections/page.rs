//! The answer as a page.

use std::fmt::Write as _;

use super::super::page::{Side, known, name, table, write_more};
use super::{ConnectionsReply, EdgeRow, ListenerRow};
use crate::connections::{Direction, Traffic};
use crate::detect::words::{bytes, duration};
use Side::{Left, Right};

impl ConnectionsReply {
    /// As people read it.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        let _ = writeln!(page, "{} connections over TCP, {} ago", self.connections, duration(self.age));
        for note in &self.notes {
            let _ = writeln!(page, "{note}");
        }
        page.push('\n');
        let headings = [("UNIT", Left), ("LISTENS ON", Left), ("WAITING", Right)];
        let row = |row: &ListenerRow| {
            let listening = &row.listening;
            let waiting = format!("{}/{}", listening.waiting, listening.waiting_max);
            [name(&row.unit), listening.local.to_string(), waiting]
        };
        table(&mut page, headings, &self.listeners.iter().map(row).collect::<Vec<_>>());
        write_more(&mut page, self.listeners_more, "listening sockets");
        page.push('\n');
        self.write_edges(&mut page);
        page
    }

    fn write_edges(&self, page: &mut String) {
        let headings = [
            ("UNIT", Left),
            ("", Left),
            ("PEER", Left),
            ("PORT", Right),
            ("OPEN", Right),
            ("RTT", Right),
            ("RTT MAX", Right),
            ("SENT AGAIN", Right),
            ("SENT", Right),
            ("RECEIVED", Right),
            ("SEEN", Right),
        ];
        let row = |edge: &EdgeRow| {
            let traffic = &edge.traffic;
            let direction = match edge.peer.direction {
                Direction::In => "from",
                Direction::Out => "to",
            };
            [
                name(&edge.unit),
                direction.to_owned(),
                edge.peer.address.to_string(),
                edge.peer.port.to_string(),
                open(traffic),
                known(traffic.rtt_us_mean(), rtt),
                known((traffic.rtt_of > 0).then_some(traffic.rtt_us_max.into()), rtt),
                again(traffic),
                bytes(traffic.sent_bytes),
                bytes(traffic.received_bytes),
                if traffic.open > 0 { "now".to_owned() } else { format!("{} ago", duration(edge.last_seen)) },
            ]
        };
        table(page, headings, &self.edges.iter().map(row).collect::<Vec<_>>());
        write_more(page, self.edges_more, "peers");
    }
}

/// How many are open, and how many of them do not get on.
fn open(traffic: &Traffic) -> String {
    let mut text = traffic.open.to_string();
    for (count, what) in [(traffic.opening, "unanswered"), (traffic.half_closed, "half closed")] {
        if count > 0 && traffic.open > 0 {
            let _ = write!(text, " ({count} {what})");
        }
    }
    text
}

/// A round-trip time in milliseconds.
#[allow(clippy::cast_precision_loss, reason = "microseconds of a round trip")]
fn rtt(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1e3)
}

/// The share of segments that had to be sent again; their number where it is not known of how many.
#[allow(clippy::cast_precision_loss, reason = "a share")]
fn again(traffic: &Traffic) -> String {
    match (traffic.retransmitted, traffic.segments_sent) {
        (0, _) => "0".to_owned(),
        (again, 0) => again.to_string(),
        (again, of) => format!("{again} ({:.1} %)", again as f64 / of as f64 * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connections::{Listening, Peer};

    #[test]
    fn a_page_says_who_talks_to_whom_and_how_slowly() {
        let listening = Listening { local: "0.0.0.0:80".parse().unwrap(), waiting: 3, waiting_max: 511 };
        let peer = Peer { direction: Direction::Out, address: "10.0.0.2".parse().unwrap(), port: 5_432 };
        let traffic = Traffic {
            open: 4,
            opening: 1,
            rtt_us_sum: 3_000,
            rtt_of: 2,
            rtt_us_max: 2_000,
            retransmitted: 5,
            segments_sent: 100,
            sent_bytes: 2_048,
            ..Traffic::default()
        };
        let edge = EdgeRow {
            unit: "app.service".into(),
            peer,
            traffic,
            known_for: Duration::from_secs(90),
            last_seen: Duration::from_secs(12),
        };
        let gone = EdgeRow { traffic: Traffic::default(), ..edge.clone() };
        let reply = ConnectionsReply {
            age: Duration::from_secs(12),
            connections: 4,
            listeners: vec![ListenerRow { unit: "nginx.service".into(), listening }],
            edges: vec![edge, gone],
            edges_more: 7,
            notes: vec!["a note".into()],
            ..ConnectionsReply::default()
        };
        let page = reply.page();
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[..2], ["4 connections over TCP, 12 s ago", "a note"]);
        assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["nginx.service", "0.0.0.0:80", "3/511"]);
        let words = lines[7].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words, "app.service to 10.0.0.2 5432 4 (1 unanswered) 1.50 ms 2.00 ms 5 (5.0 %) 2.0 KiB 0 B now");
        assert!(lines[8].ends_with("12 s ago") && lines[8].contains('–'), "{page}");
        assert_eq!(lines[9], "and 7 more peers");
    }
}
