//! The actuator behind its socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_actuator::client::Client;
use mainstay_actuator::server::{Ended, serve};
use mainstay_core::id::ActionId;
use mainstay_core::plan::ResetFailed;
use mainstay_core::verb::{Detail, RefusalReason, Reply, Request, Verb};

use super::world::{CountingUnits, World, refused};

const SOON: Duration = Duration::from_secs(20);

struct Served {
    socket: PathBuf,
    units: &'static CountingUnits,
    thread: std::thread::JoinHandle<std::io::Result<Ended>>,
    _dir: tempfile::TempDir,
}

fn served(agent_user: &str, idle: Duration) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let own = tempfile::tempdir().unwrap();
    let socket = own.path().join("sock");
    let world = World::over(dir, data, &format!("agent_user = \"{agent_user}\""));
    let listener = UnixListener::bind(&socket).unwrap();
    let units = world.units;
    let thread = std::thread::spawn(move || {
        let world = world;
        let actuator = mainstay_actuator::dispatch::Actuator::new(
            world.paths.clone(),
            mainstay_actuator::load::Ownership::AnyOwner,
            Box::new(world.units),
        );
        serve(listener, Arc::new(actuator), idle)
    });
    Served { socket, units, thread, _dir: own }
}

fn us() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

fn restart(id: u64) -> Request {
    let verb = Verb::UnitRestart { unit: "nginx.service".parse().unwrap(), reset_failed: ResetFailed::Keep };
    Request::new(ActionId(id), verb)
}

#[test]
fn answers_and_ends_when_nobody_asks_any_more() {
    let served = served(&us(), Duration::from_millis(300));
    let client = Client::at(&served.socket);
    assert!(matches!(client.call(&restart(1), SOON).unwrap(), Reply::Done(Detail::Unit(_))));
    assert!(matches!(client.call(&restart(1), SOON).unwrap(), Reply::Done(Detail::Unit(_))));
    assert_eq!(served.units.count(), 1);
    assert_eq!(served.thread.join().unwrap().unwrap(), Ended::Idle);
}

#[test]
fn a_peer_that_is_not_the_agent_does_not_act() {
    let served = served("4242", Duration::from_millis(300));
    let reply = Client::at(&served.socket).call(&restart(1), SOON).unwrap();
    assert_eq!(refused(reply), RefusalReason::PeerNotAllowed);
    assert_eq!(served.units.count(), 0);
    served.thread.join().unwrap().unwrap();
}

#[test]
fn garbage_is_answered_or_dropped_and_the_next_peer_is_served() {
    let served = served(&us(), Duration::from_millis(500));
    // A frame that is no request gets words.
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.write_all(&[0, 0, 0, 3, 1, 1, 99]).unwrap();
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(refused(Reply::from_body(&body).unwrap()), RefusalReason::BadRequest);
    drop(stream);
    // A frame beyond the bound ends the connection.
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.write_all(&[0xff; 8]).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(stream);
    // So does one that stops in the middle.
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.write_all(&[0, 0, 0, 9, 1]).unwrap();
    drop(stream);
    assert!(matches!(Client::at(&served.socket).call(&restart(2), SOON).unwrap(), Reply::Done(_)));
    served.thread.join().unwrap().unwrap();
}

#[test]
fn more_peers_than_it_serves_are_told_so() {
    let served = served(&us(), Duration::from_millis(300));
    let idle: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&served.socket).unwrap()).collect();
    let busy = loop {
        // Accepting the eight may take a moment; the ninth is refused once it has.
        match Client::at(&served.socket).call(&restart(3), SOON) {
            Ok(Reply::Refused(refusal)) => break refusal.reason,
            _ => std::thread::yield_now(),
        }
    };
    assert_eq!(busy, RefusalReason::Busy);
    drop(idle);
    served.thread.join().unwrap().unwrap();
}
