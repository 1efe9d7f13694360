//! Learning by replay: quiet days of a host in seconds.
//!
//! The agent learns for days what is usual. A test has no days: it reads a real host for less than a minute as the agent
//! does ([`record`]), makes days of the same host of that ([`history`]), shows them to the agent's own detectors at the
//! pace of their models ([`teach`]), and writes what they learned where the agent looks at its start. Nothing in the
//! shipped programs knows of this: the state file is the same as after real days.

pub mod history;
mod neighbours;
pub mod record;

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use mainstay_core::detect::{Change, Detectors, Settings};

pub use history::History;

/// What came of showing a history to the detectors.
#[derive(Debug)]
pub struct Lesson {
    /// The bytes that the agent finds as `learned` in its state folder.
    pub state: Vec<u8>,
    /// How many samples were shown.
    pub samples: u64,
    /// How many metrics, filesystems and units are known.
    pub subjects: usize,
    /// Findings that opened meanwhile, by kind. A history is quiet, so these are false alarms.
    pub opened: BTreeMap<String, u32>,
}

/// Shows a history to detectors with the defaults that a fresh host runs.
///
/// # Errors
/// When it left a finding open, or was too short to know the host: the state would be of no use.
pub fn teach(history: History, seed: u64) -> Result<Lesson> {
    let mut detectors = Detectors::new(Settings::default(), seed);
    let (mut samples, mut opened) = (0, BTreeMap::new());
    for sample in history {
        samples += 1;
        for event in detectors.observe_sample(&sample, sample.at) {
            if event.change == Change::Opened {
                *opened.entry(event.finding.kind.to_string()).or_default() += 1;
            }
        }
    }
    if let Some(left) = detectors.learning() {
        bail!("the history is too short: the host would be learned for {left:?} more");
    }
    let standing: Vec<_> = detectors.open_findings().map(|found| format!("{found:?}")).collect();
    ensure!(standing.is_empty(), "the history is not quiet, it ends with:\n{}", standing.join("\n"));
    let subjects = detectors.learned().subjects.len();
    Ok(Lesson { state: detectors.snapshot(), samples, subjects, opened })
}

#[cfg(test)]
mod tests {
    use mainstay_core::finding::FindingKind;
    use mainstay_core::sample::Sample;

    use super::history::tests::recorded;
    use super::*;

    /// Goes on from a lesson with ten minutes of the recorded host, in which `disturb` may change every second's sample.
    fn afterwards(lesson: &Lesson, disturb: impl Fn(u64, &mut Sample)) -> Vec<(u64, FindingKind, String)> {
        let last = recorded(30).pop().unwrap();
        let mut detectors = Detectors::restore(&lesson.state, Settings::default(), 9, last.at).unwrap();
        let mut seen = Vec::new();
        for (second, mut sample) in (0..).zip(recorded(630).into_iter().skip(30)) {
            disturb(second, &mut sample);
            let opened =
                detectors.observe_sample(&sample, sample.at).into_iter().filter(|e| e.change == Change::Opened);
            seen.extend(opened.map(|event| (second, event.finding.kind, event.finding.evidence[0].text.clone())));
        }
        seen
    }

    #[test]
    fn a_taught_host_is_known_stays_quiet_and_names_the_unit_that_is_disturbed() {
        let lesson = teach(History::new(&recorded(30), 7, 1).unwrap(), 1).unwrap();
        assert_eq!(lesson.samples, 7 * 8_640 + 1);
        assert!(lesson.opened.values().sum::<u32>() <= 1, "false alarms in a quiet week: {:?}", lesson.opened);
        assert_eq!(afterwards(&lesson, |_, _| {}), []);

        let leaks = |second: u64, sample: &mut Sample| {
            let units = sample.units.as_mut().unwrap();
            let cgroup = units.get_mut(&"app.service".parse().unwrap()).unwrap().cgroup.as_mut().unwrap();
            *cgroup.rss_bytes.as_mut().unwrap() += second.min(52) << 23;
        };
        let seen = afterwards(&lesson, leaks);
        // 25 times what matters of memory: a history that has worse hours of its own makes the host deaf.
        let (second, kind, text) = seen.first().expect("416 MiB in a minute, and nothing is said");
        assert_eq!(*kind, FindingKind::MetricAnomalous);
        assert!(*second <= 70 && text.contains(r#"unit_memory_bytes{unit="app.service"}"#), "{second}: {text}");
    }

    #[test]
    fn a_day_is_too_little_to_be_taught() {
        let error = teach(History::new(&recorded(30), 1, 1).unwrap(), 1).unwrap_err();
        assert!(error.to_string().contains("too short"), "{error}");
    }
}
