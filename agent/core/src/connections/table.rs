//! Whom units talk to, over several looks: what is open now, and what was within the last hour.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Direction, EDGES_MAX, Gathered, Listening, Peer, Traffic};
use crate::host_query::connections::{ConnectionsQuery, ConnectionsReply, EdgeRow, ListenerRow, ROWS_MAX};
use crate::processes::unit_of;
use crate::time::Now;

/// A peer that was not seen for so long is forgotten.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// The unit of a socket whose cgroup is not known: the kernel does not say (before Linux 5.7), or it is gone.
const UNKNOWN: &str = "?";

/// One unit and one peer.
#[derive(Debug, Clone, PartialEq)]
struct Edge {
    traffic: Traffic,
    first: Now,
    last: Now,
}

/// What is known of connections.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// When it was last looked; `None` before the first time.
    looked: Option<Now>,
    listening: Vec<(String, Listening)>,
    edges: BTreeMap<(String, Peer), Edge>,
    connections: u32,
    left_out: u32,
    is_interrupted: bool,
    /// Edges that had to make room before their time.
    forgotten: u64,
}

impl Table {
    /// Takes a look, with the paths of cgroups by their ids.
    pub fn observe(&mut self, gathered: Gathered, paths: &BTreeMap<u64, String>, now: Now) {
        let unit = |cgroup: Option<u64>| {
            let path = cgroup.and_then(|id| paths.get(&id));
            path.map_or(UNKNOWN, |path| unit_of(path)).to_owned()
        };
        self.looked = Some(now);
        (self.connections, self.left_out) = (gathered.connections, gathered.left_out);
        self.is_interrupted = gathered.is_interrupted;
        self.listening = gathered.listening.iter().map(|(cgroup, listening)| (unit(*cgroup), *listening)).collect();
        self.listening.sort();
        // What is not open any more has no traffic, and stands for a while as it was last seen.
        self.edges.values_mut().for_each(|edge| edge.traffic.open = 0);
        self.edges.retain(|_, edge| now.since(edge.last) < REMEMBERED);
        let mut open: BTreeMap<(String, Peer), Traffic> = BTreeMap::new();
        for ((cgroup, peer), traffic) in gathered.edges {
            open.entry((unit(cgroup), peer)).or_default().merge(&traffic);
        }
        for (key, traffic) in open {
            let first = self.edges.get(&key).map_or(now, |edge| edge.first);
            self.edges.insert(key, Edge { traffic, first, last: now });
        }
        self.make_room();
    }

    /// Those that were not seen for longest go first.
    fn make_room(&mut self) {
        let surplus = self.edges.len().saturating_sub(EDGES_MAX);
        if surplus == 0 {
            return;
        }
        let mut by_age: Vec<_> = self.edges.iter().map(|(key, edge)| (edge.last.boot_ns, key.clone())).collect();
        by_age.sort();
        for (_, key) in by_age.into_iter().take(surplus) {
            self.edges.remove(&key);
        }
        self.forgotten = self.forgotten.saturating_add(surplus as u64);
    }

    /// Answers a question; `None` before the first look.
    #[must_use]
    pub fn reply(&self, query: &ConnectionsQuery, now: Now) -> Option<ConnectionsReply> {
        let looked = self.looked?;
        let is_meant = |unit: &str| query.unit.as_ref().is_none_or(|glob| glob.matches(unit.as_bytes()));
        let mut listeners: Vec<ListenerRow> = self
            .listening
            .iter()
            .filter(|(unit, _)| is_meant(unit))
            .map(|(unit, listening)| ListenerRow { unit: unit.clone(), listening: *listening })
            .collect();
        let mut edges: Vec<EdgeRow> = self
            .edges
            .iter()
            .filter(|((unit, _), _)| is_meant(unit))
            .map(|((unit, peer), edge)| EdgeRow {
                unit: unit.clone(),
                peer: *peer,
                traffic: edge.traffic,
                known_for: now.since(edge.first),
                last_seen: now.since(edge.last),
            })
            .collect();
        // What is open first, by unit; calls that came in before calls that went out.
        edges.sort_by(|a, b| {
            let key = |row: &EdgeRow| (row.traffic.open == 0, row.peer.direction == Direction::Out);
            (&a.unit, key(a)).cmp(&(&b.unit, key(b))).then_with(|| b.traffic.open.cmp(&a.traffic.open))
        });
        let limit = query.limit();
        let (listeners_more, edges_more) = (cut(&mut listeners, ROWS_MAX), cut(&mut edges, limit));
        Some(ConnectionsReply {
            age: now.since(looked),
            connections: self.connections,
            listeners,
            listeners_more,
            edges,
            edges_more,
            notes: self.notes(),
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.left_out > 0 {
            notes.push(format!("{} sockets were left out: there are more peers than are followed", self.left_out));
        }
        if self.is_interrupted {
            notes.push("sockets came and went during the look; some may be missing".to_owned());
        }
        if self.forgotten > 0 {
            notes.push(format!("{} peers were forgotten before their hour was over", self.forgotten));
        }
        if self.listening.iter().any(|(unit, _)| unit == UNKNOWN) || self.edges.keys().any(|(unit, _)| unit == UNKNOWN)
        {
            notes.push("? is a unit that is not known: its cgroup is gone, or the kernel is older than 5.7".to_owned());
        }
        notes
    }
}

fn cut<T>(rows: &mut Vec<T>, limit: usize) -> u32 {
    let more = rows.len().saturating_sub(limit);
    rows.truncate(limit);
    u32::try_from(more).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::recorded;
    use super::*;
    use crate::parse::sock_diag::{Socket, State};
    use crate::policy::Glob;

    fn at(second: u64) -> Now {
        Now { boot_ns: second * 1_000_000_000, wall_ms: 0 }
    }

    fn paths() -> BTreeMap<u64, String> {
        BTreeMap::from([(1, "/system.slice/app.service".to_owned()), (2, "/system.slice/db.service/x".to_owned())])
    }

    /// Connections that one cgroup has opened to these ports.
    fn calls(cgroup: u64, ports: impl IntoIterator<Item = u16>) -> Gathered {
        let mut gathered = Gathered::default();
        for port in ports {
            gathered.add(&Socket {
                state: State::Established,
                local: "10.0.0.1:60000".parse().unwrap(),
                remote: std::net::SocketAddr::new("10.0.0.2".parse().unwrap(), port),
                receive_queue: 0,
                send_queue: 0,
                cgroup: Some(cgroup),
                info: None,
            });
        }
        gathered
    }

    fn reply(table: &Table, second: u64) -> ConnectionsReply {
        table.reply(&ConnectionsQuery::default(), at(second)).unwrap()
    }

    #[test]
    fn sockets_are_told_by_unit_with_their_round_trip_times() {
        let mut table = Table::default();
        assert!(table.reply(&ConnectionsQuery::default(), at(1)).is_none(), "nothing was looked at yet");
        table.observe(recorded(), &paths(), at(10));
        let reply = reply(&table, 12);
        assert_eq!((reply.age.as_secs(), reply.connections, reply.edges.len()), (2, 6, 6));
        assert!(reply.edges.iter().all(|edge| edge.unit == "app.service" && edge.traffic.rtt_us_mean() > Some(0)));
        assert_eq!(reply.listeners[0].unit, "app.service");
        assert!(reply.notes.is_empty(), "{:?}", reply.notes);
    }

    #[test]
    fn a_peer_is_remembered_for_an_hour_after_its_last_connection() {
        let mut table = Table::default();
        table.observe(calls(2, [5432]), &paths(), at(0));
        table.observe(calls(2, []), &paths(), at(30));
        let edge = &reply(&table, 40).edges[0];
        assert_eq!((edge.unit.as_str(), edge.traffic.open, edge.last_seen.as_secs()), ("db.service", 0, 40));
        table.observe(calls(2, [5432]), &paths(), at(60));
        let edge = &reply(&table, 60).edges[0];
        assert_eq!((edge.traffic.open, edge.last_seen.as_secs(), edge.known_for.as_secs()), (1, 0, 60));
        table.observe(calls(2, []), &paths(), at(60 + 3_600));
        assert!(reply(&table, 60 + 3_600).edges.is_empty());
    }

    #[test]
    fn cgroups_of_one_unit_are_one_and_what_is_not_known_says_so() {
        let mut table = Table::default();
        let mut gathered = calls(1, [80]);
        for (cgroup, edge) in calls(7, [80, 81]).edges {
            gathered.edges.insert(cgroup, edge);
        }
        let paths = BTreeMap::from([(1, "/system.slice/app.service".to_owned())]);
        table.observe(gathered.clone(), &paths, at(0));
        let units: Vec<_> = reply(&table, 0).edges.into_iter().map(|edge| (edge.unit, edge.traffic.open)).collect();
        assert_eq!(units, [("?".to_owned(), 1), ("?".to_owned(), 1), ("app.service".to_owned(), 1)]);
        assert!(reply(&table, 0).notes[0].starts_with("? is a unit that is not known"));
        let both = BTreeMap::from([
            (1, "/system.slice/app.service/a".to_owned()),
            (7, "/system.slice/app.service/b".to_owned()),
        ]);
        let mut table = Table::default();
        table.observe(gathered, &both, at(0));
        let opens: Vec<_> = reply(&table, 0).edges.iter().map(|edge| (edge.peer.port, edge.traffic.open)).collect();
        assert_eq!(opens, [(80, 2), (81, 1)]);
    }

    #[test]
    fn the_oldest_peers_make_room_and_are_counted() {
        let mut table = Table::default();
        table.observe(calls(1, 1..=2_000), &paths(), at(0));
        table.observe(calls(1, 2_001..=2_100), &paths(), at(30));
        let all = table.reply(&ConnectionsQuery::default(), at(30)).unwrap();
        assert_eq!(all.edges.len() + all.edges_more as usize, EDGES_MAX);
        assert_eq!(all.edges.iter().filter(|edge| edge.traffic.open > 0).count(), 100, "none that is open has gone");
        assert_eq!(all.notes, ["52 peers were forgotten before their hour was over"]);
    }

    #[test]
    fn a_glob_and_a_limit_choose() {
        let mut table = Table::default();
        let mut gathered = calls(1, [80, 81, 82]);
        gathered.edges.extend(calls(2, [90]).edges);
        table.observe(gathered, &paths(), at(0));
        let query = ConnectionsQuery { unit: Glob::new("app*"), limit: 2 };
        let reply = table.reply(&query, at(0)).unwrap();
        assert_eq!((reply.edges.len(), reply.edges_more), (2, 1));
    }
}
