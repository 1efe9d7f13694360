//! What goes between the loop of the agent and its session with the collector.

use std::time::Duration;

use mainstay_core::decision::PolicyRef;
use mainstay_core::finding::FindingKind;
use mainstay_core::host_query::{HostQuery, HostReply};
use mainstay_core::id::{DecisionId, Seq};
use mainstay_core::ledger::Head;
use mainstay_core::subject::Subject;

/// What the loop sends besides what is in the spool. None of it is kept over a reconnect but the
/// last [`OutMessage::Policy`]: a lease that was asked for before is asked for again by the core.
#[derive(Debug, Clone, PartialEq)]
pub enum OutMessage {
    /// Asks for a lease to act.
    Lease {
        /// The decision that will use it.
        decision: DecisionId,
        /// What is wrong.
        kind: FindingKind,
        /// With what.
        subject: Subject,
        /// Most hosts of the fleet that the policy lets act at once, as a share from 0 to 1.
        share: f64,
    },
    /// Where the host stands with its policy. The last one is said again at every connect.
    Policy(PolicyStanding),
    /// The answer to an [`Inbound::Order`].
    Result {
        /// The order's id.
        id: u64,
        /// Whether it was carried out.
        done: bool,
        /// What came of it, in words.
        text: String,
    },
    /// The answer to an [`Inbound::Asked`]. One that is asked on a session that is no more is
    /// dropped: whoever asked has been told that there is none.
    Reply {
        /// The question's id.
        id: u64,
        /// The answer, or why there is none.
        reply: Result<HostReply, String>,
    },
    /// The agent goes away on purpose; the session ends after this.
    Bye {
        /// Why: `stopping`, `upgrade`, `shutdown`.
        reason: String,
        /// When it should be back.
        back_within: Duration,
    },
}

/// Which policy was offered, and which is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyStanding {
    /// The last offer, if there was one.
    pub offered: Option<PolicyRef>,
    /// What is in force.
    pub effective: PolicyRef,
    /// Whether it has run its trial.
    pub confirmed: bool,
    /// Why the last offer is not in force, with file and line.
    pub refused: Option<String>,
}

/// Something signed by an operator, as it came. Nothing of it is believed before the core has
/// checked the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBytes {
    /// What was signed.
    pub bytes: Vec<u8>,
    /// The first 8 bytes of SHA-256 over the public key.
    pub key_id: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// What an operator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKind {
    /// An answer to a decision that asked.
    Approval,
    /// A hold, or the end of one.
    Hold,
    /// Undo an action.
    Undo,
    /// A change of what was learned.
    Learning,
}

/// What the session tells the loop.
#[derive(Debug, Clone, PartialEq)]
pub enum Inbound {
    /// A session stands.
    Connected {
        /// The collector's clock less ours, in milliseconds, give or take half of `round_trip`.
        clock_offset_ms: i64,
        /// How long the answer took.
        round_trip: Duration,
    },
    /// There is none any more, or none came about. Said once per change of `why`.
    Disconnected {
        /// Why, in words.
        why: String,
    },
    /// The agent cannot do its part, for a reason that only an operator can remove
    /// (`agent.degraded`): not enrolled there, a duplicate identity. `None`: that is over.
    Degraded {
        /// Why, in words.
        why: Option<String>,
    },
    /// The collector offers a policy.
    PolicyOffer(SignedBytes),
    /// The answer to [`OutMessage::Lease`].
    Lease {
        /// For which decision.
        decision: DecisionId,
        /// Whether it may act.
        granted: bool,
        /// How long the grant holds, or before when not to ask again.
        ttl: Duration,
        /// Why not, in words.
        text: String,
    },
    /// An operator's order; to be answered with [`OutMessage::Result`].
    Order {
        /// Names it in the answer.
        id: u64,
        /// What kind of order.
        kind: OrderKind,
        /// The order.
        signed: SignedBytes,
    },
    /// An operator's question; to be answered with [`OutMessage::Reply`].
    Asked {
        /// Names it in the answer.
        id: u64,
        /// What is asked.
        query: HostQuery,
    },
    /// The collector has everything up to here.
    Acked {
        /// Of the spool.
        durable: Seq,
        /// Of the ledger, if it said.
        ledger: Option<Head>,
    },
}
