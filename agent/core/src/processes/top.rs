//! From two looks at the processes to the answer: who uses most, by process and by unit, who is stuck, and who holds
//! deleted files.
//!
//! In: what was seen now ([`Look`]) and CPU times from before. Out: rows in the order that was asked for, each list within
//! its bound and the rest counted. A process that began in between counts from its beginning, one that ended at its parent.

mod containers;

use std::collections::BTreeMap;
use std::time::Duration;

use super::ended::{Before, ended};
use super::{HELD_MAX, Held, Inspected, ProcessSeen, mount_of};
use crate::host_query::top::{ProcessRow, ROWS_MAX, STUCK_MAX, TopBy, TopQuery, TopReply, UnitRow};
use crate::parse::container::container;
use crate::sample::Container;
use crate::subject::PathBytes;
use crate::time::Now;

/// What the actuator said: at the end of the look, and how long before it what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counted {
    /// First.
    pub first: Inspected,
    /// So much later …
    pub window: Duration,
    /// … again.
    pub last: Inspected,
}

/// Containers with what their cgroups say, twice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainersSeen {
    /// First.
    pub first: Vec<Container>,
    /// So much later …
    pub window: Duration,
    /// … again.
    pub last: Vec<Container>,
    /// How many more run: a bound was met.
    pub unseen: u32,
}

/// Everything that was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// When.
    pub at: Now,
    /// CPU times from before.
    pub before: Before,
    /// Clock ticks in a second.
    pub ticks_per_second: u64,
    /// CPUs that are online.
    pub cpus: u32,
    /// The processes.
    pub seen: Vec<ProcessSeen>,
    /// How many more there are: a bound was met.
    pub unseen: u32,
    /// What the actuator counted, or why it did not.
    pub counted: Result<Counted, String>,
    /// Where filesystems are mounted, by device number.
    pub mounts: Vec<((u32, u32), PathBytes)>,
    /// What containers are called, by the paths of their cgroups.
    pub containers: BTreeMap<String, String>,
    /// What they use.
    pub containers_seen: ContainersSeen,
    /// Processes that were begun in a second, all of the host; `None` where that is not known.
    pub forks_per_second: Option<f64>,
    /// Tasks of units, and how many each may have.
    pub tasks: BTreeMap<String, (Option<u64>, Option<u64>)>,
}

/// Answers a question from a look.
#[must_use]
pub fn top(look: &Look, query: &TopQuery) -> TopReply {
    let mut rows: Vec<ProcessRow> = rows(look);
    let mut reply = TopReply {
        cpu_window: look.at.since(look.before.at),
        io_window: look.counted.as_ref().ok().map(|counted| counted.window),
        cpus: look.cpus,
        total: count(look.seen.len()).saturating_add(look.unseen),
        threads: look.seen.iter().map(|process| process.threads).fold(0, u32::saturating_add),
        zombies: count(look.seen.iter().filter(|process| process.state == 'Z').count()),
        uninterruptible: count(look.seen.iter().filter(|process| process.state == 'D').count()),
        forks_per_second: look.forks_per_second,
        notes: notes(look),
        held: look.counted.as_ref().ok().map(|counted| held(&counted.last, &look.seen, &look.mounts, &look.containers)),
        ..TopReply::default()
    };
    if let Some(glob) = &query.unit {
        rows.retain(|row| glob.matches(row.unit.as_bytes()));
        if let Some(held) = &mut reply.held {
            held.retain(|held| glob.matches(held.unit.as_bytes()));
        }
    }
    let limit = query.limit();
    let stuck = rows.iter().filter(|row| matches!(row.state, 'Z' | 'D'));
    reply.stuck = stuck.take(STUCK_MAX).cloned().collect();
    let mut of_containers = containers::rows(&look.containers_seen, &rows, query);
    reply.containers_more = cut(&mut of_containers, limit).saturating_add(look.containers_seen.unseen);
    reply.containers = of_containers;
    let mut units = units(&rows, &look.tasks);
    let of_unit = |unit: &UnitRow| weight(query.by, unit.cpu + unit.ended_cpu, unit.rss_bytes, &unit.io, unit.fds);
    sort(&mut units, |unit| (of_unit(unit), unit.unit.clone()));
    reply.units_more = cut(&mut units, limit);
    reply.units = units;
    let of_row = |row: &ProcessRow| weight(query.by, row.cpu + row.ended_cpu, row.rss_bytes, &row.io, row.fds);
    sort(&mut rows, |row| (of_row(row), format!("{:>10}", row.pid)));
    reply.processes_more = cut(&mut rows, limit);
    reply.processes = rows;
    reply
}

/// Holders of deleted files, most space first, with the names of what only has numbers.
#[must_use]
pub fn held(
    inspected: &Inspected,
    seen: &[ProcessSeen],
    mounts: &[((u32, u32), PathBytes)],
    containers: &BTreeMap<String, String>,
) -> Vec<Held> {
    let by_pid: BTreeMap<u32, &ProcessSeen> = seen.iter().map(|process| (process.pid, process)).collect();
    let mut held: Vec<Held> = inspected
        .deleted
        .iter()
        .map(|deleted| {
            let process = by_pid.get(&deleted.pid);
            Held {
                mount: mount_of(deleted.device, mounts),
                // One that ended meanwhile holds nothing any more, or its child does.
                unit: process.map_or_else(|| "?".to_owned(), |process| owner(process, containers)),
                pid: deleted.pid,
                name: process.map_or_else(|| "?".to_owned(), |process| process.name.clone()),
                files: deleted.files,
                bytes: deleted.bytes,
            }
        })
        .collect();
    held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.pid.cmp(&b.pid)));
    held.truncate(HELD_MAX);
    held
}

/// What a process belongs to: its container by the name that it has, its unit otherwise.
fn owner(process: &ProcessSeen, containers: &BTreeMap<String, String>) -> String {
    let named = container(&process.cgroup).and_then(|found| containers.get(found.cgroup));
    named.cloned().unwrap_or_else(|| process.unit().to_owned())
}

fn notes(look: &Look) -> Vec<String> {
    let mut notes = Vec::new();
    if look.unseen > 0 {
        notes.push(format!("{} processes could not be looked at", look.unseen));
    }
    match &look.counted {
        Err(why) => notes.push(format!("I/O and deleted files are unknown: {why}")),
        Ok(counted) => {
            let Inspected { processes_more, unread, deleted_more, .. } = counted.last;
            if unread > 0 {
                notes.push(format!("{unread} processes could not be counted; what they hold is not known"));
            }
            if processes_more > 0 {
                notes.push(format!("I/O of {processes_more} processes with less is not shown"));
            }
            if deleted_more > 0 {
                notes.push(format!("{deleted_more} holders of fewer deleted bytes are left out"));
            }
        }
    }
    notes
}

fn rows(look: &Look) -> Vec<ProcessRow> {
    let seconds = look.at.since(look.before.at).as_secs_f64();
    let per_second = |rise: u64| if seconds > 0.0 { float(rise) / seconds } else { 0.0 };
    let ticks_now = ticks(look.at, look.ticks_per_second);
    let rates = look.counted.as_ref().map(rates).unwrap_or_default();
    let ended = ended(&look.before, &look.seen);
    let ticks_per_second = float(look.ticks_per_second.max(1));
    let of = |process: &ProcessSeen| {
        let before = look.before.of(process);
        let rise = process.ticks.saturating_sub(before.map_or(0, |before| before.own));
        let ended = ended.get(&process.pid).copied().unwrap_or(0);
        let age = ticks_now.saturating_sub(process.started_ticks);
        let counted = rates.get(&process.pid);
        ProcessRow {
            pid: process.pid,
            ppid: process.ppid,
            name: process.name.clone(),
            unit: owner(process, &look.containers),
            state: process.state,
            cpu: per_second(rise) / ticks_per_second,
            ended_cpu: per_second(ended) / ticks_per_second,
            is_new: before.is_none() && !look.before.times.is_empty(),
            rss_bytes: process.rss_bytes,
            threads: process.threads,
            io: counted.and_then(|counted| counted.io),
            fds: process.fds.or_else(|| counted.map(|counted| counted.fds)),
            fds_max: process.fds_max.or_else(|| counted.and_then(|counted| counted.fds_max)),
            age: Duration::from_secs(age / look.ticks_per_second.max(1)),
        }
    };
    look.seen.iter().map(of).collect()
}

/// What the actuator says of one process.
#[derive(Debug, Clone, Copy)]
struct Rate {
    io: Option<(u64, u64)>,
    fds: u64,
    fds_max: Option<u64>,
}

fn rates(counted: &Counted) -> BTreeMap<u32, Rate> {
    let seconds = counted.window.as_secs_f64();
    let first: BTreeMap<u32, _> = counted.first.processes.iter().map(|process| (process.pid, process)).collect();
    let rate = |before: u64, now: u64| -> Option<u64> {
        let rise = now.checked_sub(before).filter(|_| seconds > 0.0)?;
        // A rate of bytes is whole and positive, and far below what a u64 holds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some((float(rise) / seconds) as u64)
    };
    let of = |now: &super::ProcessCounts| {
        let before = first.get(&now.pid);
        let io = before.and_then(|before| {
            Some((rate(before.read_bytes, now.read_bytes)?, rate(before.written_bytes, now.written_bytes)?))
        });
        (now.pid, Rate { io, fds: u64::from(now.fds), fds_max: now.fds_max })
    };
    counted.last.processes.iter().map(of).collect()
}

fn units(rows: &[ProcessRow], tasks: &BTreeMap<String, (Option<u64>, Option<u64>)>) -> Vec<UnitRow> {
    let mut units: BTreeMap<&str, UnitRow> = BTreeMap::new();
    for row in rows {
        let unit = units.entry(&row.unit).or_default();
        unit.processes = unit.processes.saturating_add(1);
        unit.threads = unit.threads.saturating_add(row.threads);
        unit.new = unit.new.saturating_add(row.is_new.into());
        unit.cpu += row.cpu;
        unit.ended_cpu += row.ended_cpu;
        unit.rss_bytes = unit.rss_bytes.saturating_add(row.rss_bytes);
        if let Some((read, written)) = row.io {
            let (all_read, all_written) = unit.io.unwrap_or_default();
            unit.io = Some((all_read.saturating_add(read), all_written.saturating_add(written)));
        }
        if let Some(fds) = row.fds {
            unit.fds = Some(unit.fds.unwrap_or(0).saturating_add(fds));
        }
        if let (Some(fds), Some(max @ 1..)) = (row.fds, row.fds_max) {
            let used = float(fds) / float(max);
            unit.fds_used_ratio = Some(unit.fds_used_ratio.map_or(used, |most| most.max(used)));
        }
    }
    let named = units.into_iter().map(|(name, row)| {
        let (tasks, tasks_max) = tasks.get(name).copied().unwrap_or_default();
        UnitRow { unit: name.to_owned(), tasks, tasks_max, ..row }
    });
    named.collect()
}

/// What rows are ordered by.
fn weight(by: TopBy, cpu: f64, rss_bytes: u64, io: &Option<(u64, u64)>, fds: Option<u64>) -> f64 {
    match by {
        TopBy::Cpu => cpu,
        TopBy::Memory => float(rss_bytes),
        TopBy::Io => io.map_or(0.0, |(read, written)| float(read.saturating_add(written))),
        TopBy::Fds => float(fds.unwrap_or(0)),
    }
}

/// The heaviest first; those of one weight by name.
fn sort<T>(rows: &mut [T], key: impl Fn(&T) -> (f64, String)) {
    rows.sort_by_cached_key(|row| {
        let (weight, name) = key(row);
        // Weights are not negative, so their bits are in their order.
        (std::cmp::Reverse(weight.to_bits()), name)
    });
}

/// Cuts a list to its bound; says how much was cut.
fn cut<T>(rows: &mut Vec<T>, limit: usize) -> u32 {
    let more = rows.len().saturating_sub(limit);
    rows.truncate(limit);
    count(more)
}

impl TopQuery {
    fn limit(&self) -> usize {
        match usize::try_from(self.limit).unwrap_or(ROWS_MAX) {
            0 => ROWS_MAX,
            limit => limit.min(ROWS_MAX),
        }
    }
}

/// A moment in clock ticks after boot.
fn ticks(at: Now, per_second: u64) -> u64 {
    let ticks = u128::from(at.boot_ns) * u128::from(per_second) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A count for arithmetic: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
