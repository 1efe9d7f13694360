//! Decisions: `Act` with a plan or `Hold` with a reason, and what every guard said.

use std::fmt;

use crate::finding::{Evidence, FindingKind};
use crate::id::{DecisionId, FindingId};
use crate::plan::Plan;
use crate::subject::Subject;
use crate::time::Now;

/// How far a rule goes by itself. In rising order of freedom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Findings are recorded; what would have been done is said.
    Observe,
    /// The plan is shown to operators, with a message.
    Suggest,
    /// The plan waits for an operator's signed approval.
    Approve,
    /// The plan is carried out.
    Auto,
}

impl Mode {
    /// Every mode, in rising order of freedom.
    pub const ALL: [Self; 4] = [Self::Observe, Self::Suggest, Self::Approve, Self::Auto];

    /// The word as policies write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Suggest => "suggest",
            Self::Approve => "approve",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// The closed list of guards, in the order in which they are asked. Each is a pure
        /// function; every one is asked every time, so that a decision shows them all.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard { $($(#[$doc])* $name,)+ }

        impl Guard {
            /// Every guard, in the order in which they are asked.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name as it is shown.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

guards! {
    /// The finding can still be read, and is of a kind that may justify an action by itself.
    Evidence = "evidence",
    /// What was learned is borne out by something measured, where the plan interrupts what runs.
    Corroboration = "corroboration",
    /// The rule's mode lets it act, or an approval does.
    Mode = "mode",
    /// `/etc/mainstay/hold` is absent.
    HoldFile = "hold file",
    /// An operator's hold, over the fleet, the host or the unit.
    OperatorHold = "operator hold",
    /// The subject is not on the protected list.
    Protected = "protected",
    /// No other plan for the subject is being carried out or proved.
    Busy = "busy",
    /// The finding is sure enough.
    Confidence = "confidence",
    /// The finding has held long enough.
    Duration = "duration",
    /// A rung of the rule's ladder is due.
    Ladder = "ladder",
    /// The last action of this rule on this subject is long enough ago.
    Cooldown = "cooldown",
    /// The rule has acted less often in its window than it may.
    Budget = "budget",
    /// It is the time of day and week in which the rule may act.
    Window = "window",
    /// The finding is not an effect of an action of ours.
    OwnEffect = "own effect",
    /// The step's risk is within what the rule allows.
    Risk = "risk",
    /// The actuator can be reached, and the ledger written.
    Actuator = "actuator",
    /// The fleet's share of hosts acting on this kind is not used up.
    Lease = "fleet lease",
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one guard said.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Which guard.
    pub guard: Guard,
    /// Whether it lets the plan pass.
    pub pass: bool,
    /// Why, in words with both values: `budget 1 of 3 per 1h`.
    pub text: String,
}

macro_rules! hold_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// The closed list of reasons for doing nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum HoldReason { $($(#[$doc])* $name,)+ }

        impl HoldReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name as records, metrics and the wire write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

hold_reasons! {
    /// No rule is about this finding.
    NoRule = "no_rule",
    /// The rule only observes.
    ObserveOnly = "observe_only",
    /// The rule only suggests.
    SuggestOnly = "suggest_only",
    /// The rule asks first, and nobody has answered yet.
    NeedsApproval = "needs_approval",
    /// An operator said no.
    Denied = "denied",
    /// Root's hold file is there.
    HoldFile = "hold_file",
    /// An operator holds the fleet, the host or the unit.
    OperatorHold = "operator_hold",
    /// The subject is on the protected list.
    Protected = "protected",
    /// The detector is not sure enough.
    LowConfidence = "low_confidence",
    /// The finding has not held long enough.
    TooYoung = "too_young",
    /// The last action is too recent.
    Cooldown = "cooldown",
    /// The rule has acted as often as it may.
    BudgetSpent = "budget_spent",
    /// Outside the maintenance window.
    OutsideWindow = "outside_window",
    /// An effect of an action of ours.
    OwnEffect = "own_effect",
    /// The step is riskier than the rule allows.
    TooRisky = "too_risky",
    /// The actuator cannot be reached.
    ActuatorUnavailable = "actuator_unavailable",
    /// The intent cannot be made durable.
    LedgerUnavailable = "ledger_unavailable",
    /// The fleet's share of hosts acting on this is used up.
    LeaseDenied = "lease_denied",
    /// All else lets the plan pass; the collector has to be asked for a lease, or has not answered yet.
    LeasePending = "lease_pending",
    /// The next rung of the ladder is due later.
    RungNotDue = "rung_not_due",
    /// Every rung of the ladder has been tried.
    LadderExhausted = "ladder_exhausted",
    /// What would show the finding can no longer be read.
    SubjectUnknown = "subject_unknown",
    /// A finding of a kind that justifies no action by itself, such as a learned anomaly; or a learned
    /// one that nothing else bears out, where the plan interrupts what runs.
    Uncorroborated = "uncorroborated",
    /// Another plan for this subject is being carried out or proved.
    Busy = "busy",
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Carry the plan out.
    Act(Plan),
    /// Do nothing, for this reason: of the guards that refused, the first in their order.
    Hold {
        /// Why.
        reason: HoldReason,
        /// What would be done otherwise, if a rule says it.
        would: Option<Plan>,
    },
}

/// The policy that a decision was made under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyRef {
    /// Its generation; 0 is the built-in policy, which only observes.
    pub generation: u64,
    /// SHA-256 over its exact bytes.
    pub hash: [u8; 32],
}

/// A decision about one finding, with everything needed to explain it later.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Known by this in logs, ledger, messages and on the screen.
    pub id: DecisionId,
    /// When.
    pub at: Now,
    /// About which finding.
    pub finding: FindingId,
    /// Its kind.
    pub kind: FindingKind,
    /// Its subject.
    pub subject: Subject,
    /// When it opened.
    pub opened: Now,
    /// Its confidence at that moment.
    pub confidence: f64,
    /// Its evidence at that moment.
    pub evidence: Vec<Evidence>,
    /// The rule that matched.
    pub rule: Option<String>,
    /// The policy in force.
    pub policy: PolicyRef,
    /// The rule's mode.
    pub mode: Mode,
    /// What every guard said, in their order.
    pub verdicts: Vec<Verdict>,
    /// What was decided.
    pub choice: Choice,
}
