//! `net.retransmits`: much of what is sent over TCP has to be sent again.
//!
//! In: segments sent and sent again. A lossy path shows in this before it shows in anything else,
//! and no interface counts it. Looked at over a minute, so that one lost burst is none.

use std::time::Duration;

use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{measured, percent};
use crate::finding::{FindingKind, Severity};
use crate::sample::{Sample, TcpCounters};

/// Share sent again from which it is trouble, and under which it is over. A good network stays
/// below 0.001, a mobile one below 0.02.
const OPEN_RATIO: f64 = 0.05;
const CLEAR_RATIO: f64 = 0.02;

/// Fewer segments in a minute say nothing: one lost would be many per cent.
const SEGMENTS_MIN: f64 = 600.0;

/// What is older than a minute counts for less and less.
const DECAY_SECONDS: f64 = 60.0;

/// It must hold so long besides.
const RAISE_AFTER: Duration = Duration::from_secs(120);

/// What was sent lately.
#[derive(Debug, Default)]
pub(crate) struct NetRetransmits {
    sent: f64,
    again: f64,
}

impl NetRetransmits {
    /// Judges the host.
    pub(crate) fn observe(&mut self, before: Option<&Sample>, sample: &Sample, round: &mut Round<'_>) {
        let verdict = self.verdict(before, sample);
        round.judge(FindingKind::NetRetransmits, SubjectRef::Host, verdict);
    }

    fn verdict(&mut self, before: Option<&Sample>, sample: &Sample) -> Verdict {
        let Some(now) = sample.tcp else { return Verdict::Unknown };
        let before = before.filter(|before| sample.at.boot_ns > before.at.boot_ns);
        let rises = before.and_then(|before| Some((sample.at.since(before.at), rises(before.tcp?, now)?)));
        let Some((elapsed, (sent, again))) = rises else { return Verdict::Unknown };
        let keep = (-elapsed.as_secs_f64() / DECAY_SECONDS).exp();
        self.sent = self.sent * keep + sent;
        self.again = self.again * keep + again;
        let ratio = self.again / self.sent.max(1.0);
        if self.sent < SEGMENTS_MIN || ratio < CLEAR_RATIO {
            return Verdict::Over;
        }
        if ratio < OPEN_RATIO {
            return Verdict::Between;
        }
        let text = format!("{} of the TCP segments of the last minute were sent again", percent(ratio));
        Verdict::Holds(Case {
            severity: Severity::Warning,
            confidence: 0.9,
            evidence: vec![measured(text, "tcp_retransmit_ratio", ratio, Some(OPEN_RATIO))],
            raise_after: RAISE_AFTER,
        })
    }
}

/// Segments sent, and sent again, between two samples; `None` where a counter went back.
#[allow(clippy::cast_precision_loss)]
fn rises(before: TcpCounters, now: TcpCounters) -> Option<(f64, f64)> {
    let sent = now.segments_sent.checked_sub(before.segments_sent)?;
    let again = now.segments_retransmitted.checked_sub(before.segments_retransmitted)?;
    Some((sent as f64, again as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::time::Now;

    /// Shows what is sent in a second, and sent again.
    fn run(per_second: impl Fn(u64) -> (u64, u64)) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        let mut tcp = TcpCounters::default();
        for second in 0..900 {
            let (sent, again) = per_second(second);
            tcp.segments_sent += sent;
            tcp.segments_retransmitted += again;
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let events = detectors.observe_sample(&Sample { at: now, tcp: Some(tcp), ..Sample::default() }, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::NetRetransmits);
            seen.extend(own.map(|event| (second, event.change)));
        }
        seen
    }

    #[test]
    fn a_path_that_loses_a_tenth_for_minutes_is_found_and_clears() {
        let seen = run(|second| (100, if (200..500).contains(&second) { 10 } else { 0 }));
        assert_eq!(seen.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [Change::Opened, Change::Cleared]);
        assert!((320..420).contains(&seen[0].0) && (560..720).contains(&seen[1].0), "{seen:?}");
    }

    #[test]
    fn a_lost_burst_and_an_idle_host_are_none() {
        assert_eq!(run(|second| (100, if second == 300 { 100 } else { 0 })), []);
        assert_eq!(run(|_| (1, 1)), []);
    }
}
