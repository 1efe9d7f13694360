//! From scores to incidents: one alarm per incident.
//!
//! An alarm opens at the first step whose own score reaches the limit and stays until the fading
//! score is well below it; then nothing opens for a while, so that trouble on the edge is one
//! alarm and not ten.

use crate::detect::codec::{Reader, Writer};

/// An open alarm stays open while the fading score is above this share of the limit.
const CLEAR_FACTOR: f64 = 0.5;

/// Nothing opens for this long after an alarm was over, in seconds.
const QUIET: f64 = 1_800.0;

/// Whether there is an alarm, and what just became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlarmState {
    /// Nothing.
    #[default]
    Quiet,
    /// It opened at this step.
    Opened,
    /// It opened before and is not over.
    Open,
}

impl AlarmState {
    /// Whether it is open.
    #[must_use]
    pub fn is_open(self) -> bool {
        self != Self::Quiet
    }
}

/// The alarm of one host.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Alarm {
    is_open: bool,
    /// Seconds until it may open again.
    quiet: f64,
}

impl Alarm {
    /// Takes the score of a step of `dt` seconds, alone and with what has not yet faded.
    pub(super) fn observe(&mut self, now: f64, faded: f64, limit: f64, dt: f64) -> AlarmState {
        if self.is_open {
            if faded >= limit * CLEAR_FACTOR {
                return AlarmState::Open;
            }
            self.is_open = false;
            self.quiet = QUIET;
        } else if now >= limit && self.quiet <= 0.0 {
            self.is_open = true;
            return AlarmState::Opened;
        }
        self.quiet = (self.quiet - dt).max(0.0);
        AlarmState::Quiet
    }

    pub(super) fn save(self, writer: &mut Writer) {
        writer.u8(u8::from(self.is_open));
        writer.f64(self.quiet);
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let is_open = reader.u8()? != 0;
        Some(Self { is_open, quiet: reader.f64().filter(|quiet| quiet.is_finite() && *quiet >= 0.0)? })
    }
}
