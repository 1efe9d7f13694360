//! The socket: takes connections, knows the peer by its credentials, one request after another on each.
//!
//! Ends by itself when nobody has asked for a while, and after `SIGTERM` as soon as the work in hand is done. Bounded in
//! connections; a peer that sends nothing is let go.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_core::verb::{FRAME_BYTES_MAX, HEADER_BYTES, RefusalReason, Reply, Request, frame_len};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::dispatch::Actuator;
use crate::gate::Peer;
use crate::{log, sys};

/// Most connections served at once. The agent uses one or two.
const CONNECTIONS_MAX: usize = 8;

/// A peer has this long to send a request, or to take a reply.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the thread that waits for `SIGTERM` looks whether it is still needed.
const SIGNAL_WAIT: Duration = Duration::from_secs(3600);

/// The user that may ask if root's file does not tell.
const AGENT_USER: &str = "mainstay";

/// Why the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nobody asked for as long as root's file says.
    Idle,
    /// `SIGTERM` or `SIGINT` came.
    Terminated,
}

/// What is going on, shared by the threads.
#[derive(Debug, Default)]
struct Load {
    connections: Mutex<usize>,
    changed: Condvar,
    is_ending: AtomicBool,
}

/// Serves until it is idle or told to end.
///
/// # Errors
/// When the socket itself fails.
pub fn serve(listener: UnixListener, actuator: Arc<Actuator>, idle: Duration) -> io::Result<Ended> {
    let load = Arc::new(Load::default());
    let terminated = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    watch_for_termination(Arc::clone(&terminated));
    listener.set_nonblocking(true)?;
    let mut quiet_since = Instant::now();
    loop {
        match wait(&listener, &terminated, idle)? {
            Woken::Terminated => {
                load.is_ending.store(true, Ordering::SeqCst);
                drop(listener);
                load.wait_until_empty();
                return Ok(Ended::Terminated);
            }
            Woken::Connection => {
                accept_all(&listener, &actuator, &load)?;
                quiet_since = Instant::now();
            }
            Woken::Nothing if load.is_empty() && quiet_since.elapsed() >= idle => return Ok(Ended::Idle),
            // Long work goes on: its end begins a new quiet time.
            Woken::Nothing if !load.is_empty() => quiet_since = Instant::now(),
            Woken::Nothing => {}
        }
    }
}

enum Woken {
    Connection,
    Terminated,
    Nothing,
}

fn wait(listener: &UnixListener, terminated: &impl AsFd, idle: Duration) -> io::Result<Woken> {
    let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(terminated, PollFlags::IN)];
    let timeout =
        Timespec { tv_sec: i64::try_from(idle.as_secs()).unwrap_or(i64::MAX), tv_nsec: idle.subsec_nanos().into() };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) if !fds[1].revents().is_empty() => Ok(Woken::Terminated),
        Ok(_) if !fds[0].revents().is_empty() => Ok(Woken::Connection),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Woken::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Turns the blocked signal into something that `poll` sees.
fn watch_for_termination(terminated: Arc<std::os::fd::OwnedFd>) {
    std::thread::spawn(move || {
        while !sys::wait_for_termination(SIGNAL_WAIT) {}
        let _ = rustix::io::write(&terminated, &1u64.to_ne_bytes());
    });
}

fn accept_all(listener: &UnixListener, actuator: &Arc<Actuator>, load: &Arc<Load>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => begin_connection(stream, actuator, load),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The peer was gone before it was taken.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

fn begin_connection(stream: UnixStream, actuator: &Arc<Actuator>, load: &Arc<Load>) {
    if !load.enter() {
        let text = format!("too many connections (at most {CONNECTIONS_MAX})");
        let _ = answer(&stream, &Reply::refused(RefusalReason::Busy, text));
        return;
    }
    let (actuator, load) = (Arc::clone(actuator), Arc::clone(load));
    std::thread::spawn(move || {
        if let Err(error) = serve_peer(&stream, &actuator, &load) {
            log::warn(format_args!("connection ended: {error}"));
        }
        load.leave();
    });
}

fn serve_peer(stream: &UnixStream, actuator: &Actuator, load: &Load) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PEER_TIMEOUT))?;
    stream.set_write_timeout(Some(PEER_TIMEOUT))?;
    let uid = sys::peer_uid(stream.as_fd())?;
    let Some(peer) = peer_of(uid, actuator) else {
        log::warn(format_args!("uid={uid} may not ask"));
        let text = format!("uid {uid} is neither the agent's nor root's");
        return answer(stream, &Reply::refused(RefusalReason::PeerNotAllowed, text));
    };
    while !load.is_ending.load(Ordering::SeqCst) {
        let Some(body) = read_frame(stream)? else { return Ok(()) };
        let reply = match Request::from_body(&body) {
            Ok(request) => actuator.handle(peer, &request),
            Err(error) => Reply::refused(RefusalReason::BadRequest, error.to_string()),
        };
        answer(stream, &reply)?;
    }
    Ok(())
}

/// Who a user id is; `None` for one that may not ask.
fn peer_of(uid: u32, actuator: &Actuator) -> Option<Peer> {
    let agent = actuator.settings().map_or_else(|_| AGENT_USER.to_owned(), |settings| settings.agent_user);
    if uid_of(&agent) == Some(uid) {
        return Some(Peer::Agent);
    }
    (uid == 0).then_some(Peer::Root)
}

/// The id of a user, by name or number. Only `/etc/passwd` is asked: the agent's user is made by the package.
fn uid_of(user: &str) -> Option<u32> {
    if let Ok(uid) = user.parse() {
        return Some(uid);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = passwd.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(user))?;
    fields.nth(2)?.parse().ok()
}

/// Reads one frame; `None` when the peer has closed or sends nothing more.
fn read_frame(mut stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    match stream.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::WouldBlock) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let len = frame_len(header).map_err(io::Error::other)?;
    debug_assert!(len <= FRAME_BYTES_MAX);
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok(Some(body))
}

fn answer(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let frame = reply.to_frame().or_else(|error| Reply::failed(error.to_string(), 0).to_frame());
    stream.write_all(&frame.map_err(io::Error::other)?)
}

impl Load {
    fn count(&self) -> std::sync::MutexGuard<'_, usize> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> bool {
        let mut count = self.count();
        let has_room = *count < CONNECTIONS_MAX;
        *count += usize::from(has_room);
        has_room
    }

    fn leave(&self) {
        *self.count() -= 1;
        self.changed.notify_all();
    }

    fn is_empty(&self) -> bool {
        *self.count() == 0
    }

    fn wait_until_empty(&self) {
        let mut count = self.count();
        while *count > 0 {
            count = self.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
