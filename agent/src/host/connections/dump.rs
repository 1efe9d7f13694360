//! Asks the kernel for its TCP sockets over netlink (`sock_diag`), as `ss` does. Everybody may.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mainstay_core::connections::Gathered;
use mainstay_core::parse::sock_diag::{States, datagram, request};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// Longest wait for one datagram.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Longest look: a hundred thousand sockets take less.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The kernel fills datagrams of at most 32 KiB.
const DATAGRAM_BYTES: usize = 64 << 10;

/// Why sockets cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The kernel does not answer as it should.
    #[error("cannot ask the kernel for its sockets: {0}")]
    Io(#[from] io::Error),
    /// It answers with something else.
    #[error("cannot read the kernel's list of sockets: {0}")]
    Parse(#[from] mainstay_core::parse::ParseError),
}

impl From<rustix::io::Errno> for DumpError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// All TCP sockets of this network namespace, those that listen first.
///
/// # Errors
/// [`DumpError`].
pub fn sockets(buffer: &mut Vec<u8>) -> Result<Gathered, DumpError> {
    let begun = Instant::now();
    let netlink = open()?;
    buffer.resize(DATAGRAM_BYTES, 0);
    let mut gathered = Gathered::default();
    for states in [States::Listening, States::Connected] {
        dump(&netlink, states, buffer, begun, &mut gathered)?;
        if gathered.is_full() {
            break;
        }
    }
    Ok(gathered)
}

fn open() -> Result<OwnedFd, DumpError> {
    let protocol = Some(netlink::SOCK_DIAG);
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    set_socket_timeout(&netlink, Timeout::Recv, Some(WAIT_MAX))?;
    Ok(netlink)
}

fn dump(
    netlink: &OwnedFd,
    states: States,
    buffer: &mut [u8],
    begun: Instant,
    gathered: &mut Gathered,
) -> Result<(), DumpError> {
    send(netlink, &request(states), SendFlags::empty())?;
    loop {
        let (bytes, whole) = match recv(netlink, &mut *buffer, RecvFlags::TRUNC) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if whole > bytes {
            return Err(io::Error::other(format!("a datagram of {whole} bytes, at most {DATAGRAM_BYTES}")).into());
        }
        let end = datagram(buffer.get(..bytes).unwrap_or_default(), |socket| gathered.add(&socket))?;
        if end.is_interrupted {
            gathered.interrupted();
        }
        match end.error {
            Some(code) => return Err(io::Error::from_raw_os_error(code).into()),
            None if end.is_done => return Ok(()),
            None => {}
        }
        if begun.elapsed() >= TIME_MAX {
            return Err(io::Error::other(format!("it took more than {} s", TIME_MAX.as_secs())).into());
        }
    }
}
