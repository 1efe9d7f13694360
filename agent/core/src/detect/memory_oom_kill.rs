//! `memory.oom_kill`: the kernel killed processes for lack of memory.
//!
//! In: the host's counter of kills, those of the units' cgroups, and who was killed from the kernel's log. Only the
//! counters open it: the log says more about it. A kill is over at once, but what it took away is not: the finding
//! stands until none has happened for a while.

use std::time::Duration;

use super::clock::{Millis, millis};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::words::{bytes, measured, said};
use crate::finding::{FindingKind, Severity};
use crate::parse::kmsg::KernelEvent;
use crate::sample::Sample;
use crate::signal::Signals;
use crate::subject::UnitName;

/// So long after the last kill it is over. Whoever is paged finds it still open.
const OVER_AFTER: Duration = Duration::from_secs(600);

/// Units named in the evidence.
const UNITS_NAMED: usize = 5;

/// Victims named in the evidence.
const VICTIMS_NAMED: usize = 5;

/// A victim that the log names so long before the counter has moved belongs to no kill.
const EARLY_MAX: Duration = Duration::from_secs(30);

/// Remembers the kills of the stretch that is not over yet.
#[derive(Debug, Default)]
pub(crate) struct MemoryOomKill {
    last: Option<Millis>,
    kills: u64,
    units: Vec<String>,
    /// Who the log says was killed, and when we heard of it.
    victims: Vec<(Millis, String)>,
    /// Whose turn the kernel said that it is: the process, and its cgroup.
    chosen: Option<(u32, String)>,
}

impl MemoryOomKill {
    /// Judges the host.
    pub(crate) fn observe(&mut self, sample: &Sample, signals: &Signals<'_>, round: &mut Round<'_>) {
        let verdict = self.verdict(sample, signals, round.t);
        round.judge(FindingKind::MemoryOomKill, SubjectRef::Host, verdict);
    }

    fn verdict(&mut self, sample: &Sample, signals: &Signals<'_>, t: Millis) -> Verdict {
        if self.last.is_some_and(|last| t.saturating_sub(last) >= millis(OVER_AFTER)) {
            *self = Self::default();
        }
        self.listen(sample, t);
        let kills = signals.oom_kills.unwrap_or_default();
        if kills > 0 {
            self.last = Some(t);
            self.kills = self.kills.saturating_add(kills);
        }
        // The cgroup's own counter is read a few seconds later.
        for unit in signals.units.iter().filter(|unit| unit.oom_kills.is_some_and(|kills| kills > 0)) {
            let name = unit.unit.to_string();
            if self.last.is_some() && self.units.len() < UNITS_NAMED && !self.units.contains(&name) {
                self.units.push(name);
            }
        }
        if self.last.is_none() {
            self.victims.retain(|(heard, _)| t.saturating_sub(*heard) < millis(EARLY_MAX));
            return if sample.vm.is_some() { Verdict::Over } else { Verdict::Unknown };
        }
        let text = match self.kills {
            1 => "the kernel killed a process for lack of memory".to_owned(),
            kills => format!("the kernel killed {kills} processes for lack of memory"),
        };
        #[allow(clippy::cast_precision_loss)]
        let mut evidence = vec![measured(text, "oom_kills", self.kills as f64, Some(0.0))];
        evidence.extend(self.victims.iter().map(|(_, victim)| said(format!("kernel: killed {victim}"))));
        if !self.units.is_empty() {
            evidence.push(said(format!("in {}", self.units.join(", "))));
        }
        Verdict::Holds(Case { severity: Severity::Critical, confidence: 0.99, evidence, raise_after: Duration::ZERO })
    }

    /// Takes from the log who was killed.
    fn listen(&mut self, sample: &Sample, t: Millis) {
        for event in sample.log.iter().flat_map(|log| &log.events) {
            match event {
                KernelEvent::OomChosen { cgroup, pid } => self.chosen = Some((*pid, cgroup.clone())),
                KernelEvent::OomKilled { pid, process, in_cgroup, anon_rss_bytes } => {
                    let cgroup = self.chosen.take().filter(|(chosen, _)| chosen == pid).map(|(_, cgroup)| cgroup);
                    let mut text = format!("{process} (pid {pid}");
                    if let Some(held) = anon_rss_bytes {
                        text += &format!(", held {}", bytes(*held));
                    }
                    text += ")";
                    if let Some(cgroup) = cgroup {
                        text += &unit_of(&cgroup).map_or_else(|| format!(" in {cgroup}"), |unit| format!(" of {unit}"));
                    }
                    if *in_cgroup {
                        text += " at the limit of its cgroup";
                    }
                    if self.victims.len() < VICTIMS_NAMED {
                        self.victims.push((t, text));
                    }
                }
                _ => {}
            }
        }
    }
}

/// The unit that a cgroup belongs to: the innermost that is one.
fn unit_of(cgroup: &str) -> Option<UnitName> {
    cgroup
        .rsplit('/')
        .find(|part| part.ends_with(".service") || part.ends_with(".scope"))
        .and_then(|part| part.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors, Settings};
    use crate::sample::VmCounters;
    use crate::time::Now;

    fn kernel(line: &[u8]) -> KernelEvent {
        crate::parse::kmsg::parse(line).unwrap()
    }

    #[test]
    fn the_log_adds_the_victim_and_opens_nothing_by_itself() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut told = Vec::new();
        for second in 0..200u64 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let vm = Some(VmCounters { oom_kill: u64::from(second >= 150), ..VmCounters::default() });
            let mut log = crate::log::LogReading::default();
            if second == 50 || second == 151 {
                log.events = vec![
                    kernel(b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice/app.service,task_memcg=/system.slice/app.service,task=eater,pid=77,uid=0"),
                    kernel(b"Memory cgroup out of memory: Killed process 77 (eater) total-vm:9kB, anon-rss:2048kB, file-rss:0kB, shmem-rss:0kB"),
                ];
            }
            let sample = Sample { at: now, vm, log: Some(std::sync::Arc::new(log)), ..Sample::default() };
            let events = detectors.observe_sample(&sample, now);
            for event in events.into_iter().filter(|event| event.finding.kind == FindingKind::MemoryOomKill) {
                told.push((second, event.change, event.finding.evidence.len()));
            }
        }
        assert_eq!(told, [(150, Change::Opened, 1), (151, Change::Changed, 2)]);
        let finding = detectors.open_findings().find(|f| f.kind == FindingKind::MemoryOomKill).unwrap();
        let want = "kernel: killed eater (pid 77, held 2.0 MiB) of app.service at the limit of its cgroup";
        assert_eq!(finding.evidence[1].text, want);
    }

    #[test]
    fn a_kill_is_found_at_once_and_stands_for_ten_minutes_after_the_last() {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for second in 0..900u64 {
            let now = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let oom_kill = 7 + u64::from(second >= 10) + 2 * u64::from(second >= 100);
            let vm = Some(VmCounters { oom_kill, ..VmCounters::default() });
            let events = detectors.observe_sample(&Sample { at: now, vm, ..Sample::default() }, now);
            let own = events.into_iter().filter(|event| event.finding.kind == FindingKind::MemoryOomKill);
            seen.extend(own.map(|event| (second, event.change)));
            if second == 200 {
                let finding = detectors.open_findings().next().unwrap();
                assert!(finding.evidence[0].text.contains("killed 3 processes"), "{finding:?}");
            }
        }
        assert_eq!(seen, [(10, Change::Opened), (700, Change::Cleared)]);
    }
}
