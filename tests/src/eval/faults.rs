//! The faults of the evaluation: what is broken, how, and which detectors are there for it.

use crate::site::workload::{SLOW, WEB, WORKER};

/// The host that takes what the others send, and loses a part of it when a link is to be bad.
pub(super) const PEER: &str = "peer";

/// One fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What it is called in the table.
    pub name: &'static str,
    /// What is to blame: a unit or a mount point; `host` where nothing smaller is.
    pub blame: &'static str,
    /// The detectors that are made for it.
    pub kinds: &'static [&'static str],
    /// What is done to the host …
    pub begin: &'static str,
    /// … and to the one that it sends to; `HOST` stands for the host's address.
    pub begin_peer: &'static str,
    /// Minutes for which it is waited that the detectors speak.
    pub minutes: u64,
}

const NONE: Fault = Fault { name: "", blame: WORKER, kinds: &[], begin: "true", begin_peer: "true", minutes: 5 };

/// Those that take an hour by their nature: each on a host of its own, all at once.
pub const SLOW_FAULTS: [Fault; 3] = [
    Fault {
        name: "memory leak, 1.5 MiB a second of 24 GiB",
        kinds: &["memory.leak"],
        begin: "echo 1572864 > /run/fault/leak",
        ..NONE
    },
    Fault {
        name: "descriptor leak, 10 a minute of 1024",
        kinds: &["fd.leak", "fd.exhausted"],
        begin: "echo 0.1666 > /run/fault/fds",
        ..NONE
    },
    Fault {
        name: "disk fill, 256 KiB a second of 1 GiB",
        blame: "/srv/data",
        kinds: &["disk.filling", "disk.full"],
        begin: "echo 262144 > /run/fault/disk",
        ..NONE
    },
];

/// Those that are over in minutes: one after the other, on one host.
pub const QUICK_FAULTS: [Fault; 6] = [
    Fault {
        name: "runaway: one CPU, all the time",
        kinds: &["process.runaway"],
        begin: "echo 1 > /run/fault/burn",
        minutes: 8,
        ..NONE
    },
    Fault {
        name: "fork storm: 225 a second, 25 of them stay",
        kinds: &["process.fork_storm"],
        begin: "echo 25 > /run/fault/storm",
        minutes: 3,
        ..NONE
    },
    Fault {
        name: "lock-up of nginx behind its probe",
        blame: WEB,
        kinds: &["service.hung"],
        begin: "systemctl kill -s STOP nginx.service",
        minutes: 1,
        ..NONE
    },
    Fault {
        name: "link that loses 15 % both ways",
        blame: "host",
        kinds: &["net.retransmits"],
        begin: LOSE,
        begin_peer: LOSE_AT_PEER,
        ..NONE
    },
    Fault {
        name: "probe slower by 60 ms every minute",
        blame: SLOW,
        kinds: &["service.slow"],
        begin: "echo 60 > /run/fault/slow",
        minutes: 9,
        ..NONE
    },
    Fault {
        name: "log burst: 20 errors a second",
        kinds: &["log.burst", "log.pattern"],
        begin: "echo 20 > /run/fault/errors",
        minutes: 3,
        ..NONE
    },
];

/// Where a link loses packets: on arrival at either end, as on a bad cable; a drop on the way out would be told to the sender.
const LOSE: &str = "nft 'add table inet bad; add chain inet bad in { type filter hook input priority 0; }; \
    add rule inet bad in meta l4proto tcp tcp sport 9000 numgen random mod 100 < 15 drop'";
const LOSE_AT_PEER: &str = "nft 'add table inet bad; add chain inet bad in { type filter hook input priority 0; }; \
    add rule inet bad in ip saddr HOST tcp dport 9000 numgen random mod 100 < 15 drop'";

/// Ends what [`LOSE`] began, where it did.
pub(super) const LOSE_NO_MORE: &str = "nft delete table inet bad 2>/dev/null || true";
