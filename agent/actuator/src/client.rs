//! Asks the actuator: one connection, one request, one reply, within a deadline.
//!
//! Blocking, for a worker thread (`spawn_blocking` in the agent). What matters to the caller is whether the request may
//! have been begun: [`ClientError::Unreachable`] says that it surely was not, [`ClientError::Unanswered`] that nobody
//! knows, in which case `status` tells later.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_core::verb::{HEADER_BYTES, Reply, Request, WireError, frame_len};

/// Where the socket stands on an installed host.
pub const SOCKET_PATH: &str = "/run/mainstay/actuator.sock";

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request did not leave: nothing was begun.
    #[error("cannot reach the actuator at {path}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The request was not one that can be sent: nothing was begun.
    #[error("cannot write the request")]
    BadRequest(#[source] WireError),
    /// The request may have been begun, but no reply came.
    #[error("no reply from the actuator within {waited_ms} ms")]
    Unanswered {
        /// How long was waited.
        waited_ms: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A reply came that cannot be read: the versions differ, or it is not the actuator.
    #[error("cannot read the actuator's reply")]
    BadReply(#[source] WireError),
}

impl ClientError {
    /// Whether the request surely was not begun.
    #[must_use]
    pub fn nothing_begun(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::BadRequest(_))
    }
}

/// The way to one actuator.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Default for Client {
    fn default() -> Self {
        Self::at(SOCKET_PATH)
    }
}

impl Client {
    /// An actuator behind this socket. Nothing is connected yet.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    /// Sends one request and waits for its reply, at most `deadline` in all.
    ///
    /// # Errors
    /// [`ClientError`]; see [`ClientError::nothing_begun`].
    pub fn call(&self, request: &Request, deadline: Duration) -> Result<Reply, ClientError> {
        let frame = request.to_frame().map_err(ClientError::BadRequest)?;
        let begun = Instant::now();
        let unreachable = |source| ClientError::Unreachable { path: self.path.clone(), source };
        let mut stream = UnixStream::connect(&self.path).map_err(unreachable)?;
        let unanswered = |source| {
            let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            ClientError::Unanswered { waited_ms, source }
        };
        stream.set_write_timeout(Some(deadline)).map_err(unreachable)?;
        stream.write_all(&frame).map_err(unanswered)?;
        let mut header = [0; HEADER_BYTES];
        read_by(&mut stream, &mut header, begun, deadline).map_err(unanswered)?;
        let mut body = vec![0; frame_len(header).map_err(ClientError::BadReply)?];
        read_by(&mut stream, &mut body, begun, deadline).map_err(unanswered)?;
        Reply::from_body(&body).map_err(ClientError::BadReply)
    }
}

/// Reads exactly `buffer`, or fails with `TimedOut` once the deadline is over, however the bytes trickle.
fn read_by(stream: &mut UnixStream, buffer: &mut [u8], begun: Instant, deadline: Duration) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let left = deadline.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::id::ActionId;
    use mainstay_core::verb::Verb;
    use std::os::unix::net::UnixListener;

    fn ping() -> Request {
        Request::new(ActionId(1), Verb::Ping)
    }

    #[test]
    fn nothing_was_begun_when_the_socket_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::at(dir.path().join("none")).call(&ping(), Duration::from_secs(1)).unwrap_err();
        assert!(error.nothing_begun(), "{error}");
    }

    #[test]
    fn nobody_knows_when_the_reply_does_not_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = Client::at(&path).call(&ping(), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ClientError::Unanswered { .. }), "{error}");
        assert!(!error.nothing_begun());
    }

    #[test]
    fn a_reply_that_is_none_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&[0, 0, 0, 2, 9, 9]).unwrap();
            stream
        });
        let error = Client::at(&path).call(&ping(), Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, ClientError::BadReply(WireError::Version(9))), "{error}");
        served.join().unwrap();
    }
}
