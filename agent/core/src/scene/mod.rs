//! The scene: what a person would have looked at before a unit was restarted, kept because the restart wipes it away.
//!
//! The unprivileged agent adds the unit's last lines of the journal to what the actuator sees of its processes
//! ([`UnitScene`], the verb `scene`). Everything is bounded and redacted before it leaves the host; whatever cannot be
//! seen is said in [`Scene::notes`], and never holds up what is to be done.

mod read;

pub use read::{limits, sockets, stack, status};

use crate::id::{ActionId, DecisionId};
use crate::subject::UnitName;
use crate::time::Now;

/// Most processes of a unit that are looked at, and most calls of a kernel stack.
pub const PROCESSES_MAX: usize = 32;
/// See [`PROCESSES_MAX`].
pub const STACK_MAX: usize = 12;
/// Most sockets that are listed.
pub const SOCKETS_MAX: usize = 64;
/// Most limits of the main process: the kernel has sixteen.
pub const LIMITS_MAX: usize = 24;
/// Most lines of the journal.
pub const LINES_MAX: usize = 50;
/// Longest word of the kernel's that is kept: a name, a wait channel, a call, a limit.
pub const WORD_BYTES_MAX: usize = 64;

/// What was seen before an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Before which action …
    pub action: ActionId,
    /// … of which decision.
    pub decision: DecisionId,
    /// Which unit.
    pub unit: UnitName,
    /// When.
    pub at: Now,
    /// How long it took, in milliseconds: by so much the action was later.
    pub elapsed_ms: u64,
    /// Its last lines of the journal, oldest first.
    pub lines: Vec<SceneLine>,
    /// Its processes.
    pub processes: UnitScene,
    /// What could not be seen, and why.
    pub notes: Vec<String>,
}

/// A line of the journal, redacted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SceneLine {
    /// When journald took it.
    pub wall_ms: i64,
    /// 0 to 7, as syslog has it.
    pub priority: u8,
    /// Who wrote it, by the name that it gave.
    pub from: String,
    /// What it says.
    pub text: String,
}

/// What the actuator sees of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitScene {
    /// Its processes, in the order in which its control group lists them.
    pub processes: Vec<ProcessScene>,
    /// How many more it has.
    pub processes_more: u32,
    /// Network sockets of the processes that are listed.
    pub sockets: Vec<SocketScene>,
    /// How many more they have.
    pub sockets_more: u32,
    /// Limits of its first process: `Max open files 1024 of 524288`.
    pub limits: Vec<String>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessScene {
    /// Its id.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub name: String,
    /// Its state: `S (sleeping)`, `D (disk sleep)`.
    pub state: String,
    /// Where in the kernel it waits; empty where that cannot be read or it does not wait.
    pub waits_in: String,
    /// Its kernel stack, innermost call first; empty where that cannot be read.
    pub stack: Vec<String>,
    /// Threads.
    pub threads: u32,
    /// Memory that it has in use.
    pub rss_bytes: u64,
    /// Open file descriptors, and how many of them are sockets.
    pub fds: u32,
    /// See [`ProcessScene::fds`].
    pub sockets: u32,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketScene {
    /// `tcp LISTEN`, `tcp ESTABLISHED`, `udp`.
    pub kind: String,
    /// Its own address and port.
    pub local: String,
    /// The other side's; empty where there is none.
    pub remote: String,
    /// Bytes that nobody has read yet; of a listening socket, connections that nobody has accepted.
    pub unread: u64,
    /// Bytes that the other side has not acknowledged.
    pub unsent: u64,
}

/// A word of the kernel's within bounds, without what a terminal would obey.
#[must_use]
pub fn word(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(WORD_BYTES_MAX)]);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
