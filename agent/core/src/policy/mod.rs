//! Policy: what operators allow, as data that is ready to be asked.
//!
//! In: policy files ([`Policy::parse`]), a signed [`bundle`], root's local files. Out: for a finding, the one rule that
//! it falls under ([`Policy::rule_for`]). Nothing here decides anything: that is `decide`. Whatever can be wrong with a
//! policy is found when it is read, so that nothing has to be checked while a host is in trouble.

pub mod bundle;
pub mod confirm;
mod detect;
mod glob;
mod narrow;
pub mod order;
mod protected;
mod read;
mod select;
pub mod signed;
mod when;
mod window;

use std::time::Duration;

use crate::decision::{Mode, PolicyRef};
use crate::finding::{Finding, FindingKind};
use crate::plan::{ReclaimPlace, ResetFailed, Risk, Undo, Verify};
use crate::subject::{Subject, UnitName};

pub use detect::{DetectOverrides, Threshold};
pub use glob::Glob;
pub use protected::{PROTECTED_UNITS, is_protected};
pub use read::builtin;
pub use select::{Labels, Selector, Target};
pub use when::{Comparison, Dimension, When};
pub use window::{BadWindow, Days, Window};

/// Most rules in one policy. With more, the first match is no longer something that a person can follow.
pub const RULES_MAX: usize = 1_000;

/// What operators allow on a host, or on a fleet before [`Policy::for_host`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// Which policy this is: what decisions refer to. Generation 0 is the built-in or a local one.
    pub reference: PolicyRef,
    /// Its files, in the order of their names.
    pub files: Vec<PolicyFile>,
    /// Root's own files on an enrolled host. They can only take away: see [`Policy::narrowed_by`].
    pub local: Vec<PolicyFile>,
}

/// One file of a policy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyFile {
    /// Its name, as it is shown.
    pub name: String,
    /// What it is for, in the words of whoever wrote it.
    pub description: String,
    /// Which hosts it is for. Empty: every host.
    pub applies_to: Selector,
    /// Probes that the agent runs.
    pub probes: Vec<ProbeSpec>,
    /// Rules. The first that matches a finding is the one that counts.
    pub rules: Vec<Rule>,
    /// Who depends on whom: evidence for the collector's correlation.
    pub depends: Vec<Depends>,
    /// Bounds over the fleet.
    pub limits: Limits,
    /// Thresholds of the detectors.
    pub detect: DetectOverrides,
    /// Units that are never acted on, besides [`PROTECTED_UNITS`].
    pub protected: Vec<Glob>,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeCheck {
    /// Gets a URL; an answer below 400 is a success.
    Http {
        /// `http://host[:port]/path`.
        url: String,
    },
    /// Opens a connection; being accepted is a success.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// Has the actuator run a command that root defined in `/etc/mainstay/probes.d`.
    Command {
        /// The name of root's file, without its suffix.
        name: String,
    },
}

/// A probe, as the policy defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Unique among the probes of a host; the unit's name where none was given.
    pub name: String,
    /// The unit that it speaks for.
    pub unit: UnitName,
    /// What it does.
    pub check: ProbeCheck,
    /// How often.
    pub every: Duration,
    /// No answer by then is a failure.
    pub timeout: Duration,
    /// How many failures in a row are a hang.
    pub fails: u32,
}

/// How often a rule may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So often …
    pub count: u32,
    /// … in any stretch of time as long as this.
    pub per: Duration,
}

/// What a rung of a ladder does, before it is known about what.
#[derive(Debug, Clone, PartialEq)]
pub enum RungAction {
    /// `unit.restart`
    UnitRestart(ResetFailed),
    /// `unit.start`
    UnitStart(ResetFailed),
    /// `unit.stop`
    UnitStop,
    /// `unit.reload`
    UnitReload,
    /// `disk.reclaim`
    DiskReclaim {
        /// In the order in which they are emptied; never empty.
        from: Vec<ReclaimPlace>,
        /// Stops at this used share of the filesystem, 0 to 1.
        until_used_ratio: f64,
        /// What becomes of files that cannot be made again.
        undo: Undo,
    },
    /// `notify`
    Notify {
        /// Who is told.
        to: String,
    },
}

impl RungAction {
    /// Whether this only tells somebody. A message is not an action on the host: it costs no budget, and nothing but
    /// the mode `observe` holds it up.
    #[must_use]
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Notify { .. })
    }

    /// How much can go wrong if this is done needlessly, with a subject that was found to be in the state `kind`.
    #[must_use]
    pub fn risk(&self, kind: FindingKind) -> Risk {
        match self {
            Self::Notify { .. } | Self::UnitStart(_) | Self::UnitReload => Risk::Low,
            // What is down cannot be interrupted.
            Self::UnitRestart(_) if kind == FindingKind::ServiceFailed => Risk::Low,
            Self::UnitRestart(_) => Risk::Medium,
            Self::UnitStop => Risk::High,
            Self::DiskReclaim { undo: Undo::For(_), .. } => Risk::Low,
            Self::DiskReclaim { undo: Undo::None, from, .. } => {
                let lost = from.iter().any(|place| matches!(place, ReclaimPlace::Aged(_)));
                if lost { Risk::High } else { Risk::Low }
            }
        }
    }

    /// The dotted name of the action.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnitRestart(_) => "unit.restart",
            Self::UnitStart(_) => "unit.start",
            Self::UnitStop => "unit.stop",
            Self::UnitReload => "unit.reload",
            Self::DiskReclaim { .. } => "disk.reclaim",
            Self::Notify { .. } => "notify",
        }
    }
}

/// One rung of a rule's ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// What to do.
    pub action: RungAction,
    /// How long the trouble must have lasted before this rung is due.
    pub after: Duration,
}

/// What may be done about some findings.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique in the policy.
    pub name: String,
    /// The kinds of findings that it is about.
    pub on: Vec<FindingKind>,
    /// The units that it is about.
    pub units: Vec<Glob>,
    /// The mount points that it is about.
    pub mounts: Vec<Glob>,
    /// The hosts that it is about, among those that its file is for. Empty: all of them.
    pub labels: Selector,
    /// A condition on what was measured.
    pub when: Option<When>,
    /// How far it goes by itself.
    pub mode: Mode,
    /// Least confidence of a finding, 0 to 1.
    pub confidence: f64,
    /// How long a finding must have held.
    pub held_for: Duration,
    /// Least time between two actions on the same subject.
    pub cooldown: Duration,
    /// The cooldown is multiplied by this for every failure in a row; 1 is no backoff.
    pub backoff: f64,
    /// The cooldown grows no further than this.
    pub cooldown_max: Duration,
    /// How often it may act, all subjects together.
    pub budget: Budget,
    /// When it may act: every list must have a window that is open. An empty list is always open.
    pub windows: Vec<Vec<Window>>,
    /// The riskiest step that it may take.
    pub risk: Risk,
    /// What to do, from the gentlest on.
    pub ladder: Vec<Rung>,
    /// How often each rung that acts may be tried while the trouble lasts; `None`: as often as all else lets it.
    pub tries: Option<u32>,
    /// While the trouble lasts, the ladder starts over this long after its last rung was tried; `None`: never.
    pub start_over: Option<Duration>,
    /// How recovery is proved.
    pub verify: Verify,
}

impl Rule {
    /// Whether the rule is about this finding, on a host with these labels.
    #[must_use]
    pub fn is_about(&self, finding: &Finding, labels: &Labels) -> bool {
        let subject = match &finding.subject {
            Subject::Unit(unit) => self.units.iter().any(|glob| glob.matches(unit.as_str().as_bytes())),
            Subject::Mount(path) => self.mounts.iter().any(|glob| glob.matches(&path.0)),
            Subject::Host | Subject::Disk(_) | Subject::Interface(_) | Subject::Series(_) => true,
        };
        subject
            && self.on.contains(&finding.kind)
            && self.labels.matches(labels)
            && self.when.as_ref().is_none_or(|when| when.holds(&finding.evidence))
    }

    /// The wait after `failures` failures in a row.
    #[must_use]
    pub fn cooldown_after(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
        let longest = self.cooldown_max.max(self.cooldown);
        Duration::try_from_secs_f64(self.cooldown.as_secs_f64() * self.backoff.powi(exponent))
            .map_or(longest, |wait| wait.min(longest))
    }
}

/// That one part of the fleet needs another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depends {
    /// Who needs …
    pub from: Target,
    /// … whom.
    pub on: Target,
}

/// Bounds over the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Share of hosts, 0 to 1, that may act on one kind of finding within [`Limits::WINDOW`].
    pub hosts_ratio: Option<f64>,
}

impl Limits {
    /// The share of hosts where no file names one.
    pub const HOSTS_RATIO_DEFAULT: f64 = 0.10;
    /// The time within which hosts are counted.
    pub const WINDOW: Duration = Duration::from_secs(600);
}

impl Policy {
    /// The rule that a finding falls under: the first in the order of files and rules that is about it, made stricter
    /// by each of root's local rules that is about it too.
    #[must_use]
    pub fn rule_for(&self, finding: &Finding, labels: &Labels) -> Option<Rule> {
        let mut rule = self.first_about(&self.files, finding, labels).next()?.clone();
        for local in self.first_about(&self.local, finding, labels) {
            rule.narrow(local);
        }
        Some(rule)
    }

    fn first_about<'p>(
        &self,
        files: &'p [PolicyFile],
        finding: &'p Finding,
        labels: &'p Labels,
    ) -> impl Iterator<Item = &'p Rule> {
        files
            .iter()
            .filter(|file| file.applies_to.matches(labels))
            .flat_map(|file| &file.rules)
            .filter(|rule| rule.is_about(finding, labels))
    }

    /// What of this policy is for a host with these labels.
    #[must_use]
    pub fn for_host(&self, labels: &Labels) -> Self {
        let mine =
            |files: &[PolicyFile]| files.iter().filter(|file| file.applies_to.matches(labels)).cloned().collect();
        Self { reference: self.reference, files: mine(&self.files), local: mine(&self.local) }
    }

    /// Every probe. Ask [`Policy::for_host`] first for those of one host.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeSpec> {
        self.files.iter().flat_map(|file| &file.probes)
    }

    /// Every declared dependency.
    pub fn depends(&self) -> impl Iterator<Item = &Depends> {
        self.files.iter().flat_map(|file| &file.depends)
    }

    /// Every rule, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.files.iter().flat_map(|file| &file.rules)
    }

    /// The share of hosts that may act on one kind of finding: the smallest that any file names.
    #[must_use]
    pub fn hosts_ratio(&self) -> f64 {
        let named = self.files.iter().chain(&self.local).filter_map(|file| file.limits.hosts_ratio);
        named.reduce(f64::min).unwrap_or(Limits::HOSTS_RATIO_DEFAULT)
    }

    /// What is set of the detectors; of two files that name the same, the later counts.
    #[must_use]
    pub fn detect(&self) -> DetectOverrides {
        let mut all = DetectOverrides::default();
        for file in &self.files {
            all.extend(&file.detect);
        }
        all
    }

    /// Whether a unit is never acted on under this policy.
    #[must_use]
    pub fn protects(&self, unit: &UnitName) -> bool {
        let added = self.files.iter().chain(&self.local).flat_map(|file| &file.protected);
        is_protected(unit) || added.into_iter().any(|glob| glob.matches(unit.as_str().as_bytes()))
    }
}
