//! What is true of the host at the moment of a decision, and is not remembered.

use super::Standing;
use crate::policy::Labels;

/// What the shell and the state machine know. A text says why something is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The labels of the host.
    pub labels: Labels,
    /// What keeps the agent from acting by itself: it crashed again and again, or its ledger is damaged.
    pub observe_only: Option<String>,
    /// The path of root's hold file, if it is there.
    pub hold_file: Option<String>,
    /// Why the actuator cannot be reached, if so.
    pub actuator_down: Option<String>,
    /// Why nothing can be written to the ledger, if so.
    pub ledger_down: Option<String>,
    /// Where the collector stands.
    pub fleet: Fleet,
    /// Open findings that can bear out a learned one.
    pub standing: Vec<Standing>,
}

/// How this host stands to its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fleet {
    /// It is not enrolled: a fleet of one.
    Alone,
    /// It is enrolled and has a session: the collector grants leases.
    Connected,
    /// It is enrolled, but the collector is away or does not answer: the stricter local budget counts.
    Away,
}

impl Default for Facts {
    /// A host that is not enrolled, with nothing in the way.
    fn default() -> Self {
        Self {
            labels: Labels::new(),
            observe_only: None,
            hold_file: None,
            actuator_down: None,
            ledger_down: None,
            fleet: Fleet::Alone,
            standing: Vec::new(),
        }
    }
}
