//! What a host asks for, hour by hour: its series folded into demand and what there is of it.
//!
//! In: a host and a range of hours. Out: CPUs, memory, disks and interfaces, each with its demand and
//! its limit. A stretch is read and folded at a time, so that months of a host need no more memory
//! than a day of it. Only [`read`] knows where the points come from.

use std::collections::BTreeMap;

use mainstay_fleet::capacity::{Hourly, Hours};
use mainstay_promql::{EvalError, Labels, Matcher, NAME, Source, Test, Wanted};

use super::fleet::Fleet;

const HOUR_MS: i64 = 3_600_000;
/// Hours that are read at a time.
const STRETCH_HOURS: i64 = 24;
/// A disk, an interface or a CPU that was not seen in the host's last hours is gone.
const GONE_MS: i64 = 6 * HOUR_MS;
/// Most series of one host that are folded: 256 CPUs of five modes, and disks and interfaces beside them.
const SERIES_MAX: usize = 4_096;
/// What fills with memory, or is full by design.
const FILESYSTEMS_IGNORED: [&str; 5] = ["tmpfs", "devtmpfs", "ramfs", "squashfs", "iso9660"];

/// What can run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// CPUs that work.
    Cpu,
    /// Memory that is not available.
    Memory,
    /// Bytes that a filesystem holds.
    Disk,
    /// Bytes that an interface receives or sends in a second.
    Net,
}

impl Resource {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Disk, Self::Net];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Net => "net",
        }
    }

    /// What it is counted in.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "cpus",
            Self::Memory | Self::Disk => "bytes",
            Self::Net => "bytes/s",
        }
    }

    fn series(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &["node_cpu_seconds_total", "mainstay_cpu_seconds_total", "mainstay_cpus"],
            Self::Memory => &["node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes"],
            Self::Disk => &[
                "node_filesystem_size_bytes",
                "node_filesystem_free_bytes",
                "node_filesystem_avail_bytes",
                "node_filesystem_readonly",
            ],
            Self::Net => {
                &["node_network_receive_bytes_total", "node_network_transmit_bytes_total", "node_network_speed_bytes"]
            }
        }
    }
}

/// One thing that can run short.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is of.
    pub resource: Resource,
    /// Which: a mount point; an interface. Empty of what there is one of.
    pub name: String,
    /// `in` or `out`; empty of what has none.
    pub direction: &'static str,
    /// What is asked for.
    pub demand: Hourly,
    /// What there is; `None` where nobody knows.
    pub limit: Option<f64>,
    /// Milliseconds between the points that its hours are made of, on average.
    pub step_ms: u64,
}

/// What a host asked for from hour `first` to before hour `end`. `fleet` holds this host alone.
///
/// # Errors
/// If the store cannot be read, or the time is up.
pub fn of_host(fleet: &Fleet<'_>, resources: &[Resource], (first, end): (i64, i64)) -> Result<Vec<Part>, EvalError> {
    let hours = usize::try_from(end - first).unwrap_or(0);
    let mut folds: BTreeMap<Labels, Hours> = BTreeMap::new();
    let mut from = first;
    while from < end {
        let to = (from + STRETCH_HOURS).min(end);
        read(fleet, resources, (from * HOUR_MS + 1, to * HOUR_MS), &mut |labels, at, values| {
            if !folds.contains_key(&labels) && folds.len() >= SERIES_MAX {
                return;
            }
            let is_counter = labels.get(NAME).ends_with("_total");
            let fold = folds.entry(labels).or_insert_with(|| Hours::new(first, hours, is_counter));
            at.iter().zip(values).for_each(|(at, value)| fold.add(*at, *value));
        })?;
        from = to;
    }
    Ok(parts(&Folds::of(folds)))
}

/// Takes one series: its labels, times and values.
type Points<'t> = dyn FnMut(Labels, &[i64], &[f64]) + 't;

/// The points of a host's series that resources are made of, in the order of their times. Everything that is asked of
/// the store for capacity is asked here.
fn read(
    fleet: &Fleet<'_>,
    resources: &[Resource],
    (from_ms, to_ms): (i64, i64),
    take: &mut Points<'_>,
) -> Result<(), EvalError> {
    let names: Vec<&str> = resources.iter().flat_map(|resource| resource.series()).copied().collect();
    let pattern = |text: &str| mainstay_promql::whole(text).map_err(EvalError::Execution);
    let matchers = [
        Matcher { label: NAME.to_owned(), test: Test::Matches(pattern(&names.join("|"))?) },
        // Waiting is no work, and what is stolen is another guest's.
        Matcher { label: "mode".to_owned(), test: Test::MatchesNot(pattern("idle|iowait|steal|guest|guest_nice")?) },
    ];
    let wanted = Wanted::all_of(&matchers, (from_ms, to_ms));
    fleet.series(&wanted, &mut |labels, at, values| {
        take(labels, at, values);
        Ok(())
    })
}

/// A host's series by their labels.
struct Folds(BTreeMap<Labels, Hours>);

impl Folds {
    /// Without those that are gone.
    fn of(mut all: BTreeMap<Labels, Hours>) -> Self {
        // What is told under another name since is not gone: it is gone if it ended before the rest of its name.
        let group = |labels: &Labels| {
            Some(labels.get(NAME).to_owned()).filter(|name| Resource::Cpu.series().contains(&name.as_str()))
        };
        let mut newest: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for (labels, fold) in &all {
            let newest = newest.entry(group(labels)).or_default();
            *newest = (*newest).max(fold.last().map_or(0, |(at, _)| at));
        }
        all.retain(|labels, fold| fold.last().is_some_and(|(at, _)| at + GONE_MS >= newest[&group(labels)]));
        Self(all)
    }

    fn named<'f>(&'f self, name: &'f str) -> impl Iterator<Item = (&'f Labels, &'f Hours)> {
        self.0.iter().filter(move |(labels, _)| labels.get(NAME) == name)
    }

    /// The series of the same labels and another name.
    fn beside(&self, labels: &Labels, name: &str) -> Option<&Hours> {
        self.0.get(&labels.with(NAME, name))
    }

    fn last_beside(&self, labels: &Labels, name: &str) -> Option<f64> {
        self.beside(labels, name)?.last().map(|(_, value)| value)
    }
}

fn parts(folds: &Folds) -> Vec<Part> {
    let mut parts = Vec::new();
    parts.extend(cpu(folds));
    parts.extend(memory(folds));
    parts.extend(disks(folds));
    parts.extend(interfaces(folds));
    parts
}

/// CPUs that were at work, of those that there are: each told by itself, or many together. A host that has changed from one to
/// the other has hours of both.
fn cpu(folds: &Folds) -> Option<Part> {
    let each = sum(folds, "node_cpu_seconds_total");
    let together = sum(folds, "mainstay_cpu_seconds_total");
    let (demand, step_ms) = match (&each, &together) {
        (Some(each), Some(together)) => (either(&each.demand, &together.demand), each.step_ms.max(together.step_ms)),
        (one, other) => one.as_ref().or(other.as_ref()).map(|one| (one.demand.clone(), one.step_ms))?,
    };
    let mut cpus: Vec<&str> = folds.named("node_cpu_seconds_total").map(|(labels, _)| labels.get("cpu")).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let told = folds.named("mainstay_cpus").next().and_then(|(_, fold)| fold.last());
    let told = told.filter(|(at, _)| each.as_ref().is_none_or(|each| *at > each.last_ms));
    #[allow(clippy::cast_precision_loss)]
    let limit = told.map(|(_, cpus)| cpus).or_else(|| (!cpus.is_empty()).then_some(cpus.len() as f64));
    Some(Part { resource: Resource::Cpu, name: String::new(), direction: "", demand, limit, step_ms })
}

/// All series of a name together.
struct Sum {
    demand: Hourly,
    step_ms: u64,
    last_ms: i64,
}

fn sum(folds: &Folds, name: &str) -> Option<Sum> {
    let mut all = folds.named(name).map(|(_, fold)| fold);
    let first = all.next()?;
    let of_first = Sum { demand: first.hourly(), step_ms: first.step_ms(), last_ms: first.last()?.0 };
    Some(all.fold(of_first, |sum, fold| Sum {
        demand: combine(&sum.demand, &fold.hourly(), |a, b| a + b),
        last_ms: sum.last_ms.max(fold.last().map_or(0, |(at, _)| at)),
        ..sum
    }))
}

fn memory(folds: &Folds) -> Option<Part> {
    let (labels, total) = folds.named("node_memory_MemTotal_bytes").next()?;
    let available = folds.beside(labels, "node_memory_MemAvailable_bytes")?;
    Some(Part {
        resource: Resource::Memory,
        name: String::new(),
        direction: "",
        demand: combine(&total.hourly(), &available.hourly(), |total, available| total - available),
        limit: total.last().map(|(_, value)| value),
        step_ms: total.step_ms(),
    })
}

/// One part for each device, at its shortest mount point.
fn disks(folds: &Folds) -> Vec<Part> {
    let mut by_device: BTreeMap<&str, (&Labels, &Hours)> = BTreeMap::new();
    for (labels, size) in folds.named("node_filesystem_size_bytes") {
        let is_ignored = FILESYSTEMS_IGNORED.contains(&labels.get("fstype"));
        if is_ignored || folds.last_beside(labels, "node_filesystem_readonly") == Some(1.0) {
            continue;
        }
        let mount = |labels: &Labels| (labels.get("mountpoint").len(), labels.get("mountpoint").to_owned());
        let known = by_device.entry(labels.get("device")).or_insert((labels, size));
        if mount(labels) < mount(known.0) {
            *known = (labels, size);
        }
    }
    let disk = |(labels, size): (&Labels, &Hours)| {
        let free = folds.beside(labels, "node_filesystem_free_bytes")?;
        // What is kept back for root is not there for anybody else.
        let kept = free.last()?.1 - folds.last_beside(labels, "node_filesystem_avail_bytes")?;
        Some(Part {
            resource: Resource::Disk,
            name: labels.get("mountpoint").to_owned(),
            direction: "",
            demand: combine(&size.hourly(), &free.hourly(), |size, free| size - free),
            limit: Some(size.last()?.1 - kept),
            step_ms: size.step_ms(),
        })
    };
    let mut disks: Vec<Part> = by_device.into_values().filter_map(disk).collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

/// Two parts for each interface; those that never carried anything are left out.
fn interfaces(folds: &Folds) -> Vec<Part> {
    let directions = [("node_network_receive_bytes_total", "in"), ("node_network_transmit_bytes_total", "out")];
    let mut parts: Vec<Part> = directions
        .into_iter()
        .flat_map(|(name, direction)| folds.named(name).map(move |(labels, fold)| (labels, fold, direction)))
        .map(|(labels, fold, direction)| Part {
            resource: Resource::Net,
            name: labels.get("device").to_owned(),
            direction,
            demand: fold.hourly(),
            limit: folds.last_beside(labels, "node_network_speed_bytes").filter(|speed| *speed > 0.0),
            step_ms: fold.step_ms(),
        })
        .filter(|part| part.demand.values.iter().flatten().any(|rate| *rate > 0.0))
        .collect();
    parts.sort_by(|a, b| a.name.cmp(&b.name).then(a.direction.cmp(b.direction)));
    parts
}

/// Of each hour what one of two knows of it, the first before the second.
fn either(a: &Hourly, b: &Hourly) -> Hourly {
    Hourly { first: a.first, values: a.values.iter().zip(&b.values).map(|(a, b)| a.or(*b)).collect() }
}

/// Two demands hour by hour; unknown where one is.
fn combine(a: &Hourly, b: &Hourly, with: impl Fn(f64, f64) -> f64) -> Hourly {
    let both = a.values.iter().zip(&b.values).map(|(a, b)| Some(with((*a)?, (*b)?)));
    Hourly { first: a.first, values: both.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: i64 = 500_000;

    /// A series with a point at the end of each of some hours, and the one before.
    fn series(
        name: &str,
        labels: &[(&str, &str)],
        hours: std::ops::Range<i64>,
        value: impl Fn(i64) -> f64,
    ) -> (Labels, Hours) {
        let mut fold = Hours::new(FIRST, 10, name.ends_with("_total"));
        for hour in hours.start - 1..hours.end {
            fold.add((FIRST + hour + 1) * HOUR_MS, value(hour));
        }
        (Labels::from_text(&[&[(NAME, name)], labels].concat()), fold)
    }

    fn cpu_of(series: Vec<(Labels, Hours)>) -> Part {
        cpu(&Folds::of(series.into_iter().collect())).unwrap()
    }

    #[test]
    fn cpus_that_are_told_together_from_some_hour_on_keep_the_hours_before() {
        // Two CPUs with half a second of work a second each, and the same host with them together.
        let each = |cpu: &'static str, hours| {
            series("node_cpu_seconds_total", &[("cpu", cpu), ("mode", "user")], hours, |hour| hour as f64 * 1_800.0)
        };
        let together = |hours: std::ops::Range<i64>| {
            [
                series("mainstay_cpu_seconds_total", &[("mode", "user")], hours.clone(), |hour| hour as f64 * 3_600.0),
                series("mainstay_cpus", &[], hours, |_| 64.0),
            ]
        };
        let known = |part: &Part| part.demand.values.iter().map(|value| value.is_some()).collect::<Vec<_>>();
        let part = cpu_of([vec![each("0", 1..8), each("1", 1..8)], together(8..10).into()].concat());
        assert_eq!(known(&part), [&[false][..], &[true; 9]].concat(), "{part:?}");
        assert!(part.demand.values.iter().flatten().all(|cpus| (cpus - 1.0).abs() < 1e-9), "{part:?}");
        assert_eq!((part.limit, part.step_ms.div_ceil(60_000)), (Some(64.0), 53));
        // And back.
        let part = cpu_of([together(1..3).to_vec(), vec![each("0", 3..10), each("1", 3..10)]].concat());
        assert_eq!((part.limit, known(&part)), (Some(2.0), [&[false][..], &[true; 9]].concat()));
        // A CPU that has been taken away is none of those that there are.
        let part = cpu_of(vec![each("0", 1..10), each("1", 1..2)]);
        assert_eq!((part.limit, part.demand.values[9]), (Some(1.0), Some(0.5)));
    }
}
