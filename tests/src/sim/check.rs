//! The checkers: what must hold in every simulated fleet, told from what was seen alone.
//!
//! They know nothing of how the simulation or the agents work; they read what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use mainstay_core::finding::FindingKind;
use mainstay_core::id::ActionId;
use mainstay_core::record::{Body, Record};

/// Something that happened on a host, as the checkers see it.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// A record became durable in the host's ledger.
    Durable(Record),
    /// An agent handed a step over.
    HandedOver(ActionId),
    /// A step began to change the host.
    Acted {
        /// Under which id.
        action: ActionId,
        /// By which rule.
        rule: String,
        /// About which kind of finding.
        kind: FindingKind,
        /// Whether the host had a session with the collector that had lasted for a while.
        connected: bool,
    },
    /// The collector granted a lease.
    Granted(FindingKind),
    /// A message was put in the outbox: to whom, and its subject.
    Told(String, String),
    /// An operator's order was answered: whether it was carried out, and in words.
    Answered(bool, String),
    /// The agent started.
    Started,
    /// Something was done to the host or the fleet: a fault, a trouble.
    Struck(String),
}

/// What may not be exceeded.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Actions of each rule on one host within a time.
    pub budgets: BTreeMap<String, (usize, Duration)>,
    /// Hosts of the fleet that may act on one kind of finding …
    pub hosts_max: usize,
    /// … within this.
    pub window: Duration,
    /// How long a lease may be used, with what the way takes.
    pub lease: Duration,
}

/// Something that must not happen, and did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which rule of the game.
    pub rule: &'static str,
    /// Where and how.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// More actions than the budget.
pub const OVER_BUDGET: &str = "never more actions than the budget";
/// A step without a durable intent.
pub const NO_INTENT: &str = "no step without a durable intent";
/// One action carried out twice.
pub const TWICE: &str = "no action id is carried out twice";
/// A record that did not arrive, or arrived twice.
pub const EXACTLY_ONCE: &str = "every record arrives exactly once after healing";
/// More hosts acting than the fleet's share.
pub const OVER_SHARE: &str = "never more hosts than the fleet's share act while connected";
/// Acting without need.
pub const NOT_QUIET: &str = "a quiet fleet acts zero times";

/// Watches a fleet.
#[derive(Debug)]
pub struct Checker {
    bounds: Bounds,
    intents: BTreeSet<(usize, ActionId)>,
    handed_over: BTreeSet<(usize, ActionId)>,
    acted: BTreeSet<(usize, ActionId)>,
    by_rule: BTreeMap<(usize, String), Vec<u64>>,
    grants: BTreeMap<FindingKind, Vec<(u64, usize)>>,
    violations: BTreeSet<Violation>,
    /// How often a host was changed, over all.
    pub actions: u64,
}

impl Checker {
    /// Watches for what exceeds these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            intents: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            acted: BTreeSet::new(),
            by_rule: BTreeMap::new(),
            grants: BTreeMap::new(),
            violations: BTreeSet::new(),
            actions: 0,
        }
    }

    /// Takes what was seen on `host` at `at` (true time, in nanoseconds).
    pub fn see(&mut self, at: u64, host: usize, seen: &Seen) {
        match seen {
            Seen::Durable(Record { body: Body::Intent { action, .. }, .. }) => {
                self.intents.insert((host, *action));
            }
            Seen::HandedOver(action) => {
                self.must(self.intents.contains(&(host, *action)), NO_INTENT, || format!("host {host}, {action}"));
                let first = self.handed_over.insert((host, *action));
                self.must(first, TWICE, || format!("host {host} handed {action} over again"));
            }
            Seen::Acted { action, rule, kind, connected } => {
                self.acted(at, host, *action, rule);
                if *connected {
                    self.under_lease(at, host, *kind);
                }
            }
            Seen::Granted(kind) => self.granted(at, host, *kind),
            Seen::Durable(_) | Seen::Started | Seen::Struck(_) | Seen::Told(..) | Seen::Answered(..) => {}
        }
    }

    fn acted(&mut self, at: u64, host: usize, action: ActionId, rule: &str) {
        self.actions += 1;
        let first = self.acted.insert((host, action));
        self.must(first, TWICE, || format!("{action} changed host {host} again"));
        let times = self.by_rule.entry((host, rule.to_owned())).or_default();
        times.push(at);
        let Some((count, per)) = self.bounds.budgets.get(rule).copied() else { return };
        let within = times.iter().filter(|then| at - **then < nanos(per)).count();
        self.must(within <= count, OVER_BUDGET, || {
            format!("host {host}, rule {rule}: {within} actions within {} s, budget {count}", per.as_secs())
        });
    }

    fn granted(&mut self, at: u64, host: usize, kind: FindingKind) {
        let (window, most) = (nanos(self.bounds.window), self.bounds.hosts_max);
        let grants = self.grants.entry(kind).or_default();
        grants.push((at, host));
        let hosts: BTreeSet<usize> =
            grants.iter().filter(|(then, _)| at - then < window).map(|(_, host)| *host).collect();
        self.must(hosts.len() <= most, OVER_SHARE, || {
            format!("{} hosts were granted {kind} within {} s, at most {most}", hosts.len(), window / 1_000_000_000)
        });
    }

    fn under_lease(&mut self, at: u64, host: usize, kind: FindingKind) {
        let lease = nanos(self.bounds.lease);
        let has = self
            .grants
            .get(&kind)
            .is_some_and(|grants| grants.iter().any(|(then, granted)| *granted == host && at - then <= lease));
        self.must(has, OVER_SHARE, || format!("host {host} acted on {kind} without a lease"));
    }

    /// Compares what a host wrote with what the collector has of it, when all faults have healed.
    pub fn delivered(&mut self, host: usize, written: &[Record], stored: &[Record]) {
        let missing = written.iter().filter(|record| !stored.contains(record)).count();
        self.must(missing == 0, EXACTLY_ONCE, || {
            format!("host {host}: {missing} of {} records never arrived", written.len())
        });
        if missing == 0 {
            self.must(written == stored, EXACTLY_ONCE, || {
                format!(
                    "host {host}: {} records were written, {} stored, or in another order",
                    written.len(),
                    stored.len()
                )
            });
        }
    }

    /// Nothing was wrong: nothing may have been done.
    pub fn was_quiet(&mut self) {
        let actions = self.actions;
        self.must(actions == 0, NOT_QUIET, || format!("{actions} actions without any trouble"));
    }

    /// What was violated.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.violations.iter().cloned().collect()
    }

    fn must(&mut self, holds: bool, rule: &'static str, text: impl FnOnce() -> String) {
        if !holds {
            self.violations.insert(Violation { rule, text: text() });
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
