//! Tells systemd how the service is: `READY=1`, `STATUS=…`, `WATCHDOG=1`, `RELOADING=1`, `STOPPING=1`.
//!
//! Without `NOTIFY_SOCKET` every call does nothing: the agent also runs by hand.

use std::cell::Cell;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The service manager, as far as it listens.
#[derive(Debug)]
pub struct SdNotify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// When it last gave a sign of life.
    alive: Cell<Option<Instant>>,
}

/// Signs of life that fit into the time that systemd waits for one. Each wakes systemd too.
const SIGNS: u32 = 6;

impl SdNotify {
    /// Takes what systemd gave in the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let watchdog = std::env::var("WATCHDOG_USEC").ok().and_then(|us| us.parse().ok()).map(Duration::from_micros);
        let to = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| Self::socket(&name));
        Self { to, watchdog, alive: Cell::new(None) }
    }

    fn socket(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
        let address = match name.strip_prefix('@') {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
            None => SocketAddr::from_pathname(name),
        };
        let socket = UnixDatagram::unbound().ok()?;
        // A manager that does not read must not stop the loop.
        socket.set_nonblocking(true).ok()?;
        Some((socket, address.ok()?))
    }

    /// How long systemd waits for a sign of life, if it watches.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Everything is up and settings are valid.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The line that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// The loop is alive at this moment. systemd is told so often that it never has cause to doubt it.
    pub fn alive(&self, now: Instant) {
        let Some(watchdog) = self.watchdog else { return };
        if self.alive.get().is_none_or(|last| now.duration_since(last) >= watchdog / SIGNS) {
            self.alive.set(Some(now));
            self.send("WATCHDOG=1");
        }
    }

    /// Settings are being read again; [`Self::ready`] follows.
    pub fn reloading(&self, boot_ns: u64) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", boot_ns / 1_000));
    }

    /// The service is ending.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            // Nothing can be done about it; the watchdog will tell systemd.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn notify(path: &Path, watchdog: Option<Duration>) -> SdNotify {
        SdNotify { to: SdNotify::socket(path.to_str().unwrap()), watchdog, alive: Cell::new(None) }
    }

    #[test]
    fn gives_signs_of_life_as_often_as_systemd_has_to_hear_them_and_no_oftener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut buffer = [0; 128];
        let begun = Instant::now();
        let watched = notify(&path, Some(Duration::from_secs(30)));
        let mut signs = Vec::new();
        for second in 0..20 {
            watched.alive(begun + Duration::from_secs(second));
            if manager.recv(&mut buffer).is_ok() {
                signs.push(second);
            }
        }
        assert_eq!(signs, [0, 5, 10, 15]);
        notify(&path, None).alive(begun);
        assert!(manager.recv(&mut buffer).is_err(), "nobody waits for it");
    }

    #[test]
    fn says_it_is_ready_in_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = notify(&path, None);
        notify.ready("observing\nonly");
        let mut buffer = [0; 128];
        let bytes = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"READY=1\nSTATUS=observing; only");
    }
}
