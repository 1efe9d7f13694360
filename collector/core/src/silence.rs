//! Silence: whether a host that is not heard of is away, unknown or silent.
//!
//! In: when a host was last heard of, what it said last, since when the collector listens. Out: a
//! [`Presence`]. A host that nobody could have heard, because the collector itself was not there,
//! is `Unknown`, never `Silent`: absence of data is not evidence while nobody listens.

use mainstay_core::finding::{Evidence, Finding, FindingKind, FindingState, Measure, Severity};
use mainstay_core::id::{FindingId, HostId, IdSource};
use mainstay_core::subject::Subject;
use mainstay_core::time::Now;

/// What is known of one host when the question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// When anything last came from it (collector's wall clock); `None` if never.
    pub last_ms: Option<i64>,
    /// It said goodbye, and will be back by then.
    pub back_by_ms: Option<i64>,
    /// Whether it has a session now.
    pub connected: bool,
}

/// How silence is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SilenceSettings {
    /// Quiet for longer than this is silence, in milliseconds (default 45 000: four pings and some).
    pub after_ms: i64,
    /// When this collector began to listen.
    pub listening_since_ms: i64,
}

/// What a host is, as far as it can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is heard.
    Online,
    /// It said that it would be gone for a while.
    Away {
        /// When it should be back.
        back_by_ms: i64,
    },
    /// The collector has not listened for long enough to tell.
    Unknown,
    /// It should have been heard, and was not.
    Silent {
        /// Since when it is overdue.
        since_ms: i64,
    },
}

/// Tells what a host is at `now_ms`.
#[must_use]
pub fn presence(heard: Heard, settings: SilenceSettings, now_ms: i64) -> Presence {
    let after = settings.after_ms.max(1);
    let quiet_from = heard.last_ms.map_or(settings.listening_since_ms, |last| last.max(settings.listening_since_ms));
    if let Some(back_by_ms) = heard.back_by_ms.filter(|_| !heard.connected) {
        return if now_ms <= back_by_ms {
            Presence::Away { back_by_ms }
        } else {
            Presence::Silent { since_ms: back_by_ms }
        };
    }
    let recently = heard.last_ms.is_some_and(|last| now_ms.saturating_sub(last) <= after);
    if recently {
        return Presence::Online;
    }
    let overdue = quiet_from.saturating_add(after);
    if now_ms <= overdue {
        return Presence::Unknown;
    }
    // What is shown is since when it is quiet, not since when that is a finding.
    Presence::Silent { since_ms: heard.last_ms.unwrap_or(quiet_from) }
}

/// The finding for a silent host. Its id follows from the host and the moment it went quiet, so
/// that a collector that starts anew opens the same finding again and not a second one.
#[must_use]
pub fn silent_finding(host: HostId, since_ms: i64, now_ms: i64) -> Finding {
    let quiet_ms = now_ms.saturating_sub(since_ms).max(0);
    let parts = [u64::from_be_bytes(half(host, 0)), u64::from_be_bytes(half(host, 8)), since_ms.cast_unsigned()];
    let mixed = parts.into_iter().fold(0, |seed, part| IdSource::new(seed ^ part).next_u64());
    let at = Now { boot_ns: 0, wall_ms: now_ms };
    Finding {
        id: FindingId(mixed),
        kind: FindingKind::HostSilent,
        subject: Subject::Host,
        severity: Severity::Critical,
        confidence: 0.9,
        state: FindingState::Open,
        opened: at,
        changed: at,
        evidence: vec![Evidence {
            text: format!("nothing heard for {} s, and it did not say goodbye", quiet_ms / 1000),
            measure: Some(Measure {
                name: "quiet_seconds".to_owned(),
                value: (quiet_ms / 1000) as f64,
                limit: None,
                expected: None,
            }),
        }],
        effect_of: None,
    }
}

fn half(host: HostId, from: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&host.0[from..from + 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: SilenceSettings = SilenceSettings { after_ms: 45_000, listening_since_ms: 1_000_000 };

    fn heard(last_ms: Option<i64>) -> Heard {
        Heard { last_ms, back_by_ms: None, connected: false }
    }

    #[test]
    fn a_host_is_silent_only_after_somebody_listened_long_enough() {
        let cases = [
            ("heard just now", heard(Some(1_099_000)), 1_100_000, Presence::Online),
            ("quiet, but within the limit", heard(Some(1_055_001)), 1_100_000, Presence::Online),
            ("quiet for longer", heard(Some(1_054_000)), 1_100_000, Presence::Silent { since_ms: 1_054_000 }),
            ("quiet while the collector was down", heard(Some(500_000)), 1_010_000, Presence::Unknown),
            ("and still quiet", heard(Some(500_000)), 1_045_001, Presence::Silent { since_ms: 500_000 }),
            ("never heard, just started", heard(None), 1_030_000, Presence::Unknown),
            ("never heard", heard(None), 1_045_001, Presence::Silent { since_ms: 1_000_000 }),
        ];
        for (name, heard, now_ms, expected) in cases {
            assert_eq!(presence(heard, SETTINGS, now_ms), expected, "{name}");
        }
    }

    #[test]
    fn who_said_goodbye_is_away_until_it_should_be_back() {
        let gone = Heard { last_ms: Some(1_100_000), back_by_ms: Some(1_400_000), connected: false };
        assert_eq!(presence(gone, SETTINGS, 1_399_000), Presence::Away { back_by_ms: 1_400_000 });
        assert_eq!(presence(gone, SETTINGS, 1_400_001), Presence::Silent { since_ms: 1_400_000 });
        let back = Heard { last_ms: Some(1_390_000), connected: true, ..gone };
        assert_eq!(presence(back, SETTINGS, 1_391_000), Presence::Online);
    }

    #[test]
    fn the_finding_of_one_silence_has_one_id() {
        let host = HostId([7; 16]);
        let first = silent_finding(host, 5_000, 60_000);
        assert_eq!(first.id, silent_finding(host, 5_000, 90_000).id);
        assert_ne!(first.id, silent_finding(host, 6_000, 90_000).id);
        assert_ne!(first.id, silent_finding(HostId([8; 16]), 5_000, 90_000).id);
    }
}
