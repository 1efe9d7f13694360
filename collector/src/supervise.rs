//! Talking to systemd: one datagram per message to the socket that it names.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Says something to systemd; nothing happens where it does not listen.
pub fn notify(message: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(message.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// How often systemd wants a sign of life: half of what it allows.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let micros: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let mine = env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
    (mine && micros > 0).then(|| Duration::from_micros(micros / 2))
}
