//! `kernel.error`: the kernel says that hardware, a filesystem or the kernel itself is in trouble.
//!
//! In: what the kernel reported ([`crate::log::LogReading::events`]): lines that the kernel itself wrote, by journald's
//! word. They come once, and are over at once; the finding stands until none has come for a while. A log is evidence
//! and no measurement, so this kind never justifies an action by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::{Millis, millis};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{measured, said};
use crate::finding::{FindingKind, Severity};
use crate::parse::kmsg::KernelEvent;
use crate::sample::Sample;

/// So long after the last report it is over. Whoever is paged finds it still open.
const OVER_AFTER: Duration = Duration::from_secs(600);

/// Most devices that are told apart; what comes of others counts for the host.
const DEVICES_MAX: usize = 32;

/// Reports that are quoted.
const QUOTED_MAX: usize = 3;

/// So many failed requests of one device are no accident.
const IO_ERRORS_CRITICAL: u64 = 10;

/// What was reported of the host (no name) and of devices, until it is over.
#[derive(Debug, Default)]
pub(crate) struct KernelError {
    reported: BTreeMap<Option<String>, Reported>,
}

#[derive(Debug, Default)]
struct Reported {
    last: Millis,
    times: u64,
    io_errors: u64,
    fatal: bool,
    texts: Vec<String>,
}

impl KernelError {
    /// Judges the host and its devices.
    pub(crate) fn observe(&mut self, sample: &Sample, round: &mut Round<'_>) {
        let Some(log) = &sample.log else {
            round.judge_rest(FindingKind::KernelError, &Verdict::Unknown);
            return;
        };
        for event in &log.events {
            self.take(event, round.t);
        }
        self.reported.retain(|_, reported| round.t.saturating_sub(reported.last) < millis(OVER_AFTER));
        for (device, reported) in &self.reported {
            let subject = device.as_deref().map_or(SubjectRef::Host, SubjectRef::Disk);
            round.judge(FindingKind::KernelError, subject, reported.verdict());
        }
        round.judge_rest(FindingKind::KernelError, &Verdict::Over);
    }

    fn take(&mut self, event: &KernelEvent, t: Millis) {
        let (device, fatal, text) = match event {
            KernelEvent::OomChosen { .. } | KernelEvent::OomKilled { .. } => return,
            KernelEvent::HungTask { process, seconds } => {
                (None, false, format!("task {process} has been waiting for more than {seconds} s"))
            }
            KernelEvent::IoError { device } => (Some(device), false, format!("{device} failed to read or write")),
            KernelEvent::FilesystemError { device, text } | KernelEvent::ReadOnly { device, text } => {
                (Some(device), true, text.clone())
            }
            KernelEvent::Hardware { fatal, text } => (None, *fatal, text.clone()),
            KernelEvent::Kernel { text } => (None, true, text.clone()),
        };
        let is_known = |device: &String| self.reported.contains_key(&Some(device.clone()));
        let device = device.filter(|device| is_known(device) || self.reported.len() < DEVICES_MAX).cloned();
        let reported = self.reported.entry(device).or_default();
        reported.last = t;
        reported.times += 1;
        reported.io_errors += u64::from(matches!(event, KernelEvent::IoError { .. }));
        reported.fatal |= fatal;
        if !reported.texts.contains(&text) && reported.texts.len() < QUOTED_MAX {
            reported.texts.push(text);
        }
    }
}

impl Reported {
    fn verdict(&self) -> Verdict {
        let is_critical = self.fatal || self.io_errors >= IO_ERRORS_CRITICAL;
        let (first, rest) = self.texts.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let mut evidence = vec![measured(format!("kernel: {first}"), "kernel_reports", self.times as f64, Some(0.0))];
        evidence.extend(rest.iter().map(|text| said(format!("kernel: {text}"))));
        Verdict::Holds(Case {
            severity: if is_critical { Severity::Critical } else { Severity::Warning },
            confidence: 0.9,
            evidence,
            raise_after: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::log::LogReading;
    use crate::subject::Subject;
    use crate::time::Now;

    #[test]
    fn a_report_is_found_at_once_and_stands_for_ten_minutes_after_the_last() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..900u64 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let events = match second {
                10 => vec![KernelEvent::IoError { device: "sdb".into() }],
                20 => vec![KernelEvent::ReadOnly { device: "sdb".into(), text: "EXT4-fs (sdb): Remounting".into() }],
                _ => Vec::new(),
            };
            let log = Some(Arc::new(LogReading { events, ..LogReading::default() }));
            let events = detectors.observe_sample(&Sample { at: now, log, ..Sample::default() }, now);
            for event in events.into_iter().filter(|event| event.finding.kind == FindingKind::KernelError) {
                assert_eq!(event.finding.subject, Subject::Disk("sdb".into()));
                seen.push((second, event.change, event.finding.severity));
            }
        }
        let want = [
            (10, Change::Opened, Severity::Warning),
            (20, Change::Changed, Severity::Critical),
            (620, Change::Cleared, Severity::Critical),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn no_flood_of_devices_makes_more_than_the_bound() {
        let mut detector = KernelError::default();
        for n in 0..100 {
            detector.take(&KernelEvent::IoError { device: format!("d{n}") }, 0);
        }
        assert_eq!(detector.reported.len(), DEVICES_MAX + 1, "the rest counts for the host");
    }
}
