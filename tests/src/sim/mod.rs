//! A simulated fleet: hundreds of real agent cores, the machines they look after, the collector
//! they tell, and everything that can go wrong between them, on one queue of events and one seed.
//!
//! A world says nothing about right and wrong; that is [`check`]'s. The same seed gives the same
//! bytes ([`World::trace_hash`]).

pub mod actuator;
pub mod check;
pub mod collector;
pub mod fault;
pub mod machine;
pub mod node;
pub mod plan;
pub mod rng;
pub mod scenario;
pub mod season;
pub mod session;
pub mod spool;
pub mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_core::agent::Settings;
use mainstay_core::detect;
use mainstay_core::policy::signed::Signed;
use mainstay_core::sample::HostFacts;
use mainstay_core::subject::UnitName;

use check::Bounds;
use machine::{Nature, Service};

pub use world::{MILLI, SECOND, World};

/// A bug that is planted in what surrounds the agents, to see that the checkers find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The collector acknowledges what it has not committed.
    AcknowledgesBeforeCommit,
    /// The agent is started without its ledger's records, and forgets its budgets.
    ForgetsTheBook,
    /// After a crash the shell hands intents without outcome over again, and the actuator has
    /// forgotten what it did.
    RepeatsIntents,
}

/// What a world is like.
#[derive(Debug, Clone)]
pub struct Config {
    /// Hosts in the fleet.
    pub hosts: usize,
    /// Services of every host.
    pub services: Vec<(&'static str, Nature)>,
    /// The agent crashes once in so many boundaries; 0 is never.
    pub crash_once_in: u64,
    /// A batch is delivered twice once in so many.
    pub duplicate_once_in: u64,
    /// An acknowledgement is lost once in so many.
    pub lost_ack_once_in: u64,
    /// The text of the policy that the collector offers.
    pub policy: String,
    /// The bug that is planted, if one is.
    pub bug: Option<Bug>,
}

impl Config {
    /// A fleet of `hosts` in which nothing goes wrong by itself.
    #[must_use]
    pub fn quiet(hosts: usize) -> Self {
        let services =
            vec![("web.service", Nature::Sound), ("db.service", Nature::Sound), ("job.service", Nature::Sound)];
        Self {
            hosts,
            services,
            crash_once_in: 0,
            duplicate_once_in: 0,
            lost_ack_once_in: 0,
            policy: plan::POLICY.to_owned(),
            bug: None,
        }
    }

    /// A fleet in which everything goes wrong now and then.
    #[must_use]
    pub fn rough(hosts: usize) -> Self {
        Self { crash_once_in: 60, duplicate_once_in: 12, lost_ack_once_in: 25, ..Self::quiet(hosts) }
    }

    /// The services of a host at its boot.
    #[must_use]
    pub fn services(&self) -> BTreeMap<UnitName, Service> {
        let named = self.services.iter().filter_map(|(name, nature)| Some((name.parse().ok()?, *nature)));
        named.map(|(name, nature)| (name, Service::running(nature))).collect()
    }

    /// What may not be exceeded under [`plan::POLICY`].
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let budgets =
            plan::BUDGETS.map(|(rule, count, seconds)| (rule.to_owned(), (count, Duration::from_secs(seconds))));
        Bounds {
            budgets: budgets.into(),
            hosts_max: (self.hosts / 10).max(1),
            window: Duration::from_secs(600),
            // 30 s, and what passes between deciding and acting.
            lease: Duration::from_secs(40),
        }
    }

    /// The policy of the fleet, signed.
    #[must_use]
    pub fn signed_policy(&self) -> Signed {
        plan::sign(1, &self.policy)
    }

    /// What the agents start with, but for who they are.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            ids_seed: 0,
            host: None,
            facts: HostFacts::default(),
            detect: detect::Settings::default(),
            operator_keys: plan::operator_keys(),
            fleet: plan::FLEET,
            budget: mainstay_core::budget::Limits::default(),
            observe_only: None,
        }
    }
}
