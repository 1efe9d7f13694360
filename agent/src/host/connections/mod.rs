//! Follows who talks to whom: a thread of its own looks every 30 seconds at the TCP sockets of the host.
//!
//! Sockets of this network namespace only: a container with a network of its own talks to nobody that is seen here, but
//! over its port that is forwarded. A look costs the kernel a few microseconds a socket, and nothing here holds up the tick.

mod dump;
mod groups;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_core::connections::Table;
use mainstay_core::host_query::{ConnectionsQuery, ConnectionsReply};
use mainstay_core::time::Now;
use tracing::warn;

use super::clock;
use super::rounds::{Pace, Rounds};
pub use dump::{DumpError, sockets};
pub use groups::Groups;

/// How often the host is looked at.
const EVERY: Duration = Duration::from_secs(30);

/// What was seen, and why nothing was the last time, if so.
#[derive(Debug, Default)]
struct Seen {
    table: Table,
    failing: Option<String>,
}

/// The thread, as the loop has it: it ends when this is gone.
#[derive(Debug)]
pub struct Connections {
    seen: Arc<Mutex<Seen>>,
    rounds: Rounds,
}

impl Connections {
    /// Begins to follow the host below `root`: `/` on a real one.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn follow(root: &Path) -> std::io::Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (of_thread, mut groups, mut buffer) = (Arc::clone(&seen), Groups::at(root), Vec::new());
        let rounds = Rounds::start("connections", Pace::every(EVERY), move || {
            let looked = sockets(&mut buffer);
            take(&of_thread, looked, &mut groups, clock::now());
        })?;
        Ok(Self { seen, rounds })
    }

    /// Has the host not be looked at, to keep the agent's budget, or again.
    pub fn set_resting(&mut self, is_resting: bool) {
        self.rounds.set_resting(is_resting);
    }

    /// Answers a question from what was seen last.
    ///
    /// # Errors
    /// Why nothing is known, in words.
    pub fn reply(&self, query: &ConnectionsQuery, now: Now) -> Result<ConnectionsReply, String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = self.rounds.is_resting().then_some("the host is not looked at, to keep the agent's budget");
        let Some(mut reply) = seen.table.reply(query, now) else {
            let why = seen.failing.as_deref().or(resting);
            return Err(why.unwrap_or("connections were not looked at yet; ask again in a moment").to_owned());
        };
        reply.notes.extend(seen.failing.as_ref().map(|why| format!("the last look failed: {why}")));
        reply.notes.extend(resting.map(str::to_owned));
        Ok(reply)
    }
}

fn take(
    seen: &Mutex<Seen>,
    looked: Result<mainstay_core::connections::Gathered, DumpError>,
    groups: &mut Groups,
    now: Now,
) {
    match looked {
        Ok(gathered) => {
            let paths = groups.paths(&gathered.cgroups());
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.table.observe(gathered, paths, now);
            seen.failing = None;
        }
        Err(error) => {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.failing.is_none() {
                warn!(%error, "who talks to whom is not known");
            }
            seen.failing = Some(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use mainstay_core::connections::Direction;
    use mainstay_core::parse::cgroup_path;
    use mainstay_core::processes::unit_of;

    use super::*;

    /// A listener and a client that has sent something and heard back, so that there is a round trip to measure.
    fn talk(address: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut byte = [0];
        for _ in 0..5 {
            client.write_all(b"x").unwrap();
            server.read_exact(&mut byte).unwrap();
            server.write_all(b"y").unwrap();
            client.read_exact(&mut byte).unwrap();
        }
        (listener, client, server)
    }

    /// What the real kernel says of the connections of this process.
    fn seen() -> Table {
        let mut table = Table::default();
        let gathered = sockets(&mut Vec::new()).unwrap();
        let mut groups = Groups::at(Path::new("/"));
        let paths = groups.paths(&gathered.cgroups()).clone();
        table.observe(gathered, &paths, clock::now());
        table
    }

    /// The unit that this process runs in, or the path of its cgroup.
    fn own_unit() -> String {
        let cgroup = std::fs::read("/proc/self/cgroup").unwrap();
        let path = String::from_utf8(cgroup_path::v2(&cgroup).unwrap().to_vec()).unwrap();
        unit_of(&path).to_owned()
    }

    fn check(address: &str) {
        let (listener, client, _server) = talk(address);
        let (own, here): (String, SocketAddr) = (own_unit(), listener.local_addr().unwrap());
        let reply = seen().reply(&ConnectionsQuery::default(), clock::now()).unwrap();
        let listening = reply.listeners.iter().find(|row| row.listening.local == here);
        assert_eq!(listening.map(|row| row.unit.as_str()), Some(own.as_str()), "{reply:#?}");
        for (direction, address) in [(Direction::Out, here.ip()), (Direction::In, client.local_addr().unwrap().ip())] {
            let is_it = |peer: &mainstay_core::connections::Peer| {
                (peer.direction, peer.address, peer.port) == (direction, address, here.port())
            };
            let edge = reply.edges.iter().find(|edge| is_it(&edge.peer)).unwrap_or_else(|| panic!("{reply:#?}"));
            assert_eq!((edge.unit.as_str(), edge.traffic.open), (own.as_str(), 1));
            assert!(edge.traffic.rtt_us_mean() > Some(0), "{edge:?}");
            // What was sent last may not be acknowledged yet.
            assert!(edge.traffic.sent_bytes >= 4 && edge.traffic.received_bytes >= 5, "{edge:?}");
        }
    }

    #[test]
    fn a_listener_and_its_client_are_seen_with_their_unit_and_a_round_trip() {
        check("127.0.0.1:0");
    }

    #[test]
    fn so_are_those_of_ipv6_where_there_is_any() {
        if TcpListener::bind("[::1]:0").is_ok() {
            check("[::1]:0");
        }
    }

    #[test]
    fn a_look_that_fails_keeps_what_was_known_and_says_so() {
        let seen = Mutex::new(Seen::default());
        let mut groups = Groups::at(Path::new("/nonexistent"));
        let failed = || Err(DumpError::Io(std::io::Error::other("no netlink")));
        take(&seen, failed(), &mut groups, clock::now());
        let rounds = Rounds::start("test", Pace::every(EVERY), || {}).unwrap();
        let mut connections = Connections { seen: Arc::new(seen), rounds };
        let ask = |connections: &Connections| connections.reply(&ConnectionsQuery::default(), clock::now());
        assert!(ask(&connections).unwrap_err().ends_with("no netlink"));
        let seen = Arc::get_mut(&mut connections.seen).unwrap();
        take(seen, Ok(Default::default()), &mut groups, clock::now());
        take(seen, failed(), &mut groups, clock::now());
        let notes = ask(&connections).unwrap().notes;
        assert!(notes[0].starts_with("the last look failed: ") && notes[0].ends_with("no netlink"), "{notes:?}");
        assert_eq!(notes.len(), 1);
        connections.set_resting(true);
        assert!(ask(&connections).unwrap().notes[1].contains("budget"));
    }
}
