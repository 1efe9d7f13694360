//! The few system calls that no safe crate offers: file leases, blocked signals and the activation socket.
//!
//! The only file with unsafe code. Each function wraps one call over descriptors it is lent, and holds no state.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Once;
use std::time::Duration;

/// The first descriptor that systemd passes (`SD_LISTEN_FDS_START`).
const LISTEN_FDS_START: RawFd = 3;

/// An exclusive lease on an open file: while it stands, nobody else has the file open or mapped, and whoever opens it
/// waits. Given up when dropped.
#[derive(Debug)]
pub struct WriteLease<'f> {
    file: BorrowedFd<'f>,
}

impl<'f> WriteLease<'f> {
    /// Takes the lease on a file that was opened read-only.
    ///
    /// # Errors
    /// `WouldBlock` when anybody has the file open or mapped; `PermissionDenied` without `CAP_LEASE` on somebody else's
    /// file; `InvalidInput` where the filesystem has no leases.
    pub fn take(file: BorrowedFd<'f>) -> io::Result<Self> {
        ignore_lease_breaks();
        // SAFETY: F_SETLEASE takes an integer; the descriptor is open for as long as the borrow lasts.
        // JUSTIFICATION: rustix has no F_SETLEASE, and only a lease tells whether a file is open elsewhere.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        if result == 0 { Ok(Self { file }) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether nobody has tried to open the file since the lease was taken. An opener that waits shows as a lease about
    /// to be broken.
    #[must_use]
    pub fn is_undisturbed(&self) -> bool {
        // SAFETY: F_GETLEASE takes no argument; the descriptor is open for as long as the borrow lasts.
        // JUSTIFICATION: as above; there is no other way to see a pending break without a signal handler.
        let lease = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLEASE) };
        lease == libc::F_WRLCK
    }
}

impl Drop for WriteLease<'_> {
    fn drop(&mut self) {
        // SAFETY: F_SETLEASE takes an integer; the descriptor is open for as long as the borrow lasts.
        // JUSTIFICATION: lets a waiting opener go on at once rather than when the descriptor closes.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

/// Ignores `SIGIO`, which the kernel sends when somebody wants a leased file, and whose default is to end the process.
/// Whoever holds a lease asks [`WriteLease::is_undisturbed`] instead.
fn ignore_lease_breaks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: ignoring a signal installs no handler, and SIGIO is used for nothing else here.
        // JUSTIFICATION: no safe crate in use sets signal dispositions; blocking would have to come before any thread.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    });
}

/// Blocks `SIGTERM` and `SIGINT` in this thread and in all that it starts. Called first in `main`.
///
/// # Errors
/// What the kernel says; not known to happen.
pub fn block_signals() -> io::Result<()> {
    let set = signal_set(&[libc::SIGTERM, libc::SIGINT]);
    // SAFETY: `set` is initialised, and the old mask is not asked for.
    // JUSTIFICATION: rustix does not offer pthread_sigmask in its stable interface.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Waits for `SIGTERM` or `SIGINT`, at most this long. True if one came.
#[must_use]
pub fn wait_for_termination(at_most: Duration) -> bool {
    let set = signal_set(&[libc::SIGTERM, libc::SIGINT]);
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // SAFETY: both pointers are to initialised values that outlive the call; no siginfo is asked for.
    // JUSTIFICATION: a blocked signal taken synchronously needs no handler, and so no async-signal-safe code.
    let signal = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) };
    signal > 0
}

/// The user id of the process at the other end of a unix socket, as it was when it connected.
///
/// # Errors
/// What the kernel says.
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut cred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    // SAFETY: both pointers are to initialised values of the sizes told, and the descriptor is open during the call.
    // JUSTIFICATION: rustix's `socket_peercred` holds the pid as non-zero, and a peer outside our PID namespace has 0.
    let result = unsafe {
        let out = (&raw mut cred).cast::<libc::c_void>();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, out, &raw mut len)
    };
    if result == 0 { Ok(cred.uid) } else { Err(io::Error::last_os_error()) }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: a sigset_t is plain data, and sigemptyset initialises all of it.
    // JUSTIFICATION: libc gives no safe constructor.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Takes the one listening socket that systemd passed to this process, if it did (`sd_listen_fds(3)`). To be called once,
/// before any descriptor is opened.
///
/// # Errors
/// When the number of sockets is not one.
pub fn take_activation_socket() -> io::Result<Option<OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        Some(1) => {}
        got => return Err(io::Error::other(format!("expected one socket from systemd (got {got:?})"))),
    }
    // SAFETY: systemd promises descriptor 3 to this process, and nothing else here has taken it.
    // JUSTIFICATION: the protocol names descriptors by number; there is no safe way to own one of those.
    let fd = unsafe { OwnedFd::from_raw_fd(LISTEN_FDS_START) };
    rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC)?;
    Ok(Some(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn planted() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"x").unwrap();
        (dir, path)
    }

    #[test]
    fn a_lease_is_refused_while_the_file_is_open_elsewhere() {
        let (_dir, path) = planted();
        let ours = File::open(&path).unwrap();
        let theirs = File::open(&path).unwrap();
        assert_eq!(WriteLease::take(ours.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        let lease = WriteLease::take(ours.as_fd()).unwrap();
        assert!(lease.is_undisturbed());
    }

    #[test]
    fn a_waiting_opener_is_seen_and_let_go() {
        let (_dir, path) = planted();
        let ours = File::open(&path).unwrap();
        let lease = WriteLease::take(ours.as_fd()).unwrap();
        let opener = std::thread::spawn(move || File::open(path).map(|_| ()));
        while lease.is_undisturbed() {
            std::thread::yield_now();
        }
        drop(lease);
        opener.join().unwrap().unwrap();
    }
}
