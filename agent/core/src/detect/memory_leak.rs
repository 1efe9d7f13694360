//! `memory.leak`: the memory of a unit grows steadily towards its limit.
//!
//! In: memory of every unit that is no page cache. Only the floor counts: the least of every half
//! hour, which a garbage collector reaches and a leak raises. It has to rise nearly every time for
//! three hours or more, by an amount that matters, without slackening (a cache that fills does),
//! and reach the limit of the unit, or else the end of the machine's memory, before long. A restart
//! begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::trend::{History, Slope, slope, span, tau};
use super::words::{bytes, duration, measured, seconds};
use crate::finding::{FindingKind, Severity};
use crate::sample::Sample;
use crate::signal::{Signals, UnitSignals};
use crate::subject::UnitName;

/// Most units that are followed. Each takes some 1.5 KiB.
const UNITS_MAX: usize = 1_024;

/// One point every five minutes, eight hours of them.
const STEP: Millis = 5 * 60_000;
const POINTS: usize = 96;

/// Points of which the least is taken: half an hour, longer than collectors take between two full
/// collections.
const BLOCK: usize = 6;

/// Blocks that are needed: three hours.
const BLOCKS_MIN: usize = 6;

/// How nearly always the floor rises (Kendall's tau): one pair of blocks in ten may be the wrong
/// way round.
const TAU_MIN: f64 = 0.8;

/// Growth that matters: this much, and this share of where it began.
const GROWTH_BYTES_MIN: f64 = 16.0 * 1_048_576.0;
const GROWTH_RATIO_MIN: f64 = 0.1;

/// The last third of the history must grow at this share of the first at least.
const SLACKENING_MIN: f64 = 0.5;

/// No forecast reaches further than this many times what was seen.
const REACH: f64 = 8.0;

/// The limit within this time is critical.
const CRITICAL: Duration = Duration::from_secs(3_600);

/// What is remembered of a unit.
#[derive(Debug, Clone)]
struct Growth {
    invocation: Option<[u8; 16]>,
    floor: History,
    verdict: Verdict,
}

/// Histories by unit.
#[derive(Debug, Default)]
pub(crate) struct MemoryLeak {
    units: BTreeMap<UnitName, Growth>,
}

impl MemoryLeak {
    pub(crate) fn observe(
        &mut self,
        sample: &Sample,
        signals: &Signals<'_>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(units) = &sample.units else {
            round.judge_rest(FindingKind::MemoryLeak, &Verdict::Unknown);
            return;
        };
        self.units.retain(|name, _| units.contains_key(name));
        for unit in &signals.units {
            // Page cache grows without harm and cannot be told apart.
            let Some(used) = unit.memory_bytes.filter(|_| !unit.memory_with_cache) else {
                round.judge(FindingKind::MemoryLeak, SubjectRef::Unit(unit.unit), Verdict::Unknown);
                continue;
            };
            if !self.units.contains_key(unit.unit) {
                if self.units.len() >= UNITS_MAX {
                    continue;
                }
                self.units.insert(unit.unit.clone(), Growth::new());
            }
            let Some(growth) = self.units.get_mut(unit.unit) else { continue };
            let invocation = units.get(unit.unit).and_then(|unit| unit.invocation);
            if growth.invocation != invocation {
                *growth = Growth { invocation, verdict: Verdict::Over, ..Growth::new() };
            }
            if growth.floor.push(round.t, float(used), f64::min) {
                growth.verdict = growth.judge(used, unit, sample, settings);
            }
            round.judge(FindingKind::MemoryLeak, SubjectRef::Unit(unit.unit), growth.verdict.clone());
        }
        round.judge_rest(FindingKind::MemoryLeak, &Verdict::Over);
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.units.len());
        for (name, growth) in &self.units {
            writer.str(name.as_str());
            writer.option(growth.invocation, |w, invocation| w.bytes(&invocation));
            growth.floor.save(writer);
        }
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let mut units = BTreeMap::new();
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            let name = reader.unit()?;
            let invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            let floor = Growth::new().floor.load(reader)?;
            units.insert(name, Growth { invocation, floor, ..Growth::new() });
        }
        Some(Self { units })
    }
}

/// A count for arithmetic: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

impl Growth {
    fn new() -> Self {
        Self { invocation: None, floor: History::new(STEP, POINTS), verdict: Verdict::Between }
    }

    fn judge(&self, used: u64, unit: &UnitSignals<'_>, sample: &Sample, settings: &Settings) -> Verdict {
        let floors = floors(self.floor.settled());
        if floors.len() < BLOCKS_MIN {
            // Nothing is known yet; after a restart it is over until shown otherwise.
            return if self.verdict == Verdict::Over { Verdict::Over } else { Verdict::Between };
        }
        let values: Vec<f64> = floors.iter().map(|floor| floor.1).collect();
        let (first, last) = (values[0], values[values.len() - 1]);
        let grown = last - first;
        let third = values.len() / 3;
        let lately = last - values[values.len() - 1 - third];
        let rises = tau(&values) >= TAU_MIN
            && grown >= GROWTH_BYTES_MIN.max(first * GROWTH_RATIO_MIN)
            && lately >= SLACKENING_MIN * (values[third] - first);
        let Some(slope) = slope(&floors).filter(|slope| rises && slope.low > 0.0) else { return Verdict::Over };
        let Some((limit, left)) = limit(used, unit, sample) else { return Verdict::Unknown };
        let to_limit = left / slope.mid;
        let seen = float(span(&floors).unsigned_abs()) / 1_000.0;
        let within = settings.memory_leak_within.as_secs_f64();
        if to_limit < within.min(REACH * seen) {
            holds(grown, seen, &slope, left, &limit)
        } else if to_limit < within * 2.0 {
            Verdict::Between
        } else {
            Verdict::Over
        }
    }
}

/// The least of every [`BLOCK`] points, counted back from the newest.
fn floors(points: &[(Millis, f64)]) -> Vec<(Millis, f64)> {
    let least = |block: &[(Millis, f64)]| {
        let value = block.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        (block[block.len() - 1].0, value)
    };
    let mut floors: Vec<_> = points.rchunks_exact(BLOCK).map(least).collect();
    floors.reverse();
    floors
}

/// The limit in words, and what is left until it.
fn limit(used: u64, unit: &UnitSignals<'_>, sample: &Sample) -> Option<(String, f64)> {
    let memory = sample.memory?;
    match unit.memory_max_bytes {
        Some(limit) if limit < memory.total_bytes => {
            Some((format!("its limit of {}", bytes(limit)), float(limit.saturating_sub(used))))
        }
        _ => {
            let text = format!("the end of the machine's memory of {}", bytes(memory.total_bytes));
            Some((text, float(memory.available_bytes)))
        }
    }
}

fn holds(grown: f64, seen: f64, slope: &Slope, left: f64, limit: &str) -> Verdict {
    let to_limit = left / slope.mid;
    let by = |slope: f64| duration(seconds(left / slope));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let text = format!(
        "memory that is no cache grew by {} in {} ({} an hour): {limit} in about {} ({} to {})",
        bytes(grown as u64),
        duration(seconds(seen)),
        bytes((slope.mid * 3_600.0) as u64),
        by(slope.mid),
        by(slope.high),
        by(slope.low),
    );
    Verdict::Holds(Case {
        severity: if to_limit < CRITICAL.as_secs_f64() { Severity::Critical } else { Severity::Warning },
        // Three hours may be a morning's load; six hardly are.
        confidence: if seen < 5.0 * 3_600.0 { 0.7 } else { 0.9 },
        evidence: vec![measured(text, "time_to_limit_seconds", to_limit, None)],
        raise_after: Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Detectors};
    use crate::sample::{Cgroup, Memory, Unit};
    use crate::time::Now;

    const MIB: f64 = 1_048_576.0;

    /// Shows a unit every ten seconds; `used_mib` tells its memory after so many minutes, `restarts`
    /// its invocation. Gives when, in hours, findings opened and cleared.
    fn run(
        hours: u64,
        limit_mib: Option<u64>,
        used_mib: impl Fn(f64) -> f64,
        invocation: impl Fn(u64) -> u8,
    ) -> Vec<(u64, Change)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for tick in 0..hours * 360 {
            let minute = tick / 6;
            let now = Now { boot_ns: tick * 10_000_000_000, wall_ms: 0 };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let used = (used_mib(minute as f64) * MIB) as u64;
            let cgroup = Cgroup {
                memory_anon_bytes: Some(used),
                memory_current_bytes: Some(used * 2),
                memory_max_bytes: limit_mib.map(|mib| mib << 20),
                ..Cgroup::default()
            };
            let unit = Unit { invocation: Some([invocation(minute); 16]), cgroup: Some(cgroup), ..Unit::default() };
            let memory = Memory { total_bytes: 16 << 30, available_bytes: 8 << 30, ..Memory::default() };
            let sample = Sample {
                at: now,
                memory: Some(memory),
                units: Some(BTreeMap::from([("app.service".parse().unwrap(), unit)])),
                ..Sample::default()
            };
            let mut events = detectors.observe_sample(&sample, now);
            events.retain(|e| e.finding.kind == FindingKind::MemoryLeak && e.change != Change::Changed);
            seen.extend(events.into_iter().map(|event| (minute / 60, event.change)));
        }
        seen
    }

    /// A garbage collector's sawtooth: up to half as much again, every 20 minutes.
    fn sawtooth(minute: f64) -> f64 {
        1.0 + 0.5 * (minute % 20.0) / 20.0
    }

    #[test]
    fn a_steady_leak_is_found_in_hours_by_its_own_limit() {
        // 60 MiB an hour on 200, limit 1 GiB: full after 13 h.
        let seen = run(6, Some(1_024), |m| 200.0 + m, |_| 0);
        assert_eq!(seen, [(3, Change::Opened)]);
    }

    #[test]
    fn a_leak_below_a_sawtooth_heap_is_found() {
        let seen = run(8, Some(2_048), |m| (200.0 + m) * sawtooth(m), |_| 0);
        assert_eq!(seen.len(), 1, "{seen:?}");
    }

    #[test]
    fn a_sawtooth_heap_is_no_leak() {
        assert_eq!(run(48, Some(1_024), |m| 400.0 * sawtooth(m), |_| 0), []);
    }

    #[test]
    fn a_cache_that_fills_and_stays_full_is_no_leak() {
        assert_eq!(run(48, Some(1_024), |m| 200.0 + 500.0 * (1.0 - (-m / 90.0).exp()), |_| 0), []);
    }

    #[test]
    fn daily_load_is_no_leak() {
        let day = |m: f64| 1.0 + 0.3 * (m / 1_440.0 * std::f64::consts::TAU).sin();
        assert_eq!(run(72, Some(4_096), |m| 800.0 * day(m), |_| 0), []);
    }

    #[test]
    fn a_unit_restarted_every_two_hours_shows_no_trend() {
        assert_eq!(run(24, Some(1_024), |m| 200.0 + m % 120.0, |m| u8::try_from(m / 120).unwrap()), []);
    }

    #[test]
    fn a_restart_clears_it() {
        let seen = run(8, Some(1_024), |m| 200.0 + m % 300.0, |m| u8::try_from(m / 300).unwrap());
        assert_eq!(seen, [(3, Change::Opened), (5, Change::Cleared)]);
    }

    #[test]
    fn growth_that_reaches_no_limit_for_weeks_is_none() {
        assert_eq!(run(12, None, |m| 500.0 + m * 0.2, |_| 0), []);
    }
}
