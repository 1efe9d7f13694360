//! How the hosts stand that a question is about: who is not there, and whose clock is off. An answer says so, whatever is here of them.

use mainstay_fleet::silence::SilenceSettings;
use mainstay_proto::v1;

use crate::hub::HostState;
use crate::services::hosts;

/// A clock that is off by more than this is told.
const CLOCK_OFF_MS: u64 = 1_000;
/// Most hosts that an answer names; the rest is counted.
pub const NAMED_MAX: usize = 10;

/// A host that is not there, or whose clock is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub host: String,
    /// Its state, in the word that operators know it by.
    pub state: &'static str,
    /// When it was heard last.
    pub last_seen_ms: i64,
    /// How far its clock is ahead of ours.
    pub clock_offset_ms: i64,
}

impl Standing {
    /// Of a host, if there is something to say.
    #[must_use]
    pub fn of(host: &HostState, settings: SilenceSettings, now_ms: i64) -> Option<Self> {
        let standing = Self {
            host: String::new(),
            state: hosts::word(host, settings, now_ms),
            last_seen_ms: host.heard_ms.max(host.mark.last_seen_ms),
            clock_offset_ms: host.mark.clock_offset_ms,
        };
        // Mostly there is nothing to say, and nothing is copied then.
        let is_said = !standing.is_there() || standing.is_clock_off();
        is_said.then(|| Self { host: host.hostname().to_owned(), ..standing })
    }

    /// Whether it is heard of.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.state, "online" | "healing")
    }

    /// Whether its clock is known to be off.
    #[must_use]
    pub fn is_clock_off(&self) -> bool {
        self.is_there() && self.clock_offset_ms.unsigned_abs() > CLOCK_OFF_MS
    }

    /// As operators see it.
    #[must_use]
    pub fn view(&self) -> v1::HostView {
        v1::HostView {
            facts: Some(v1::HostFacts { hostname: self.host.clone(), ..v1::HostFacts::default() }),
            state: self.state.to_owned(),
            last_seen_ms: self.last_seen_ms,
            clock_offset_ms: self.clock_offset_ms,
            ..v1::HostView::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::values::MarkRow;

    use super::*;

    #[test]
    fn who_is_heard_and_has_the_time_is_not_spoken_of() {
        const NOW: i64 = 1_700_000_000_000;
        let settings = SilenceSettings { after_ms: 45_000, listening_since_ms: NOW - 7_200_000 };
        let host = |heard_ms: i64, clock_offset_ms: i64| HostState {
            heard_ms,
            mark: MarkRow { clock_offset_ms, ..MarkRow::default() },
            ..HostState::default()
        };
        let said = |host: HostState| Standing::of(&host, settings, NOW).map(|s| (s.is_there(), s.is_clock_off()));
        assert_eq!(said(host(NOW, 999)), None);
        assert_eq!(said(host(NOW, -1_001)), Some((true, true)));
        // What its clock said before it fell silent is no news.
        assert_eq!(said(host(NOW - 3_600_000, 5_000)), Some((false, false)));
        assert_eq!(said(host(0, 0)), Some((false, false)));
    }
}
