//! A sample as metrics of OpenTelemetry, and what an answer to their export means.
//!
//! In: a sample. Out: metrics under the names, units and attributes of the semantic conventions ([`names`]) where those
//! have one, else under the name that `/metrics` uses, as a Prometheus receiver would hand them on. What a sample does
//! not hold has no metric. Nothing is encoded here.

mod answer;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::readings::{Reading, SeriesKind, readings};
use crate::sample::{BackgroundReading, Filesystem, FilesystemUsage, Memory, ProcessCounts, Sample};
use names::{SEMANTIC, Semantic, Shape};

pub use answer::{Verdict, verdict};
pub use names::SCHEMA_URL;

/// Most points of one export: some thousand units. What is beyond is left out and counted; the host comes first.
pub const POINTS_MAX: usize = 20_000;

/// Longest value of an attribute. Mount points and names of images come from others.
pub const ATTRIBUTE_BYTES_MAX: usize = 1_024;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only rises.
    Counter,
    /// A sum that rises and falls: what it adds up to means something.
    UpDownCounter,
    /// A value at a moment.
    Gauge,
}

/// From when on a sum is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Since the host was booted.
    Boot,
    /// Since a moment that nobody knows: of a unit, a container or the agent.
    Unknown,
}

/// The value of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A count.
    Int(i64),
    /// A measure.
    Double(f64),
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number that names something.
    Int(i64),
}

/// The attributes of a point, sorted by their keys.
pub type Attributes<'s> = Vec<(&'s str, Value)>;

/// One value of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'s> {
    /// What it is of.
    pub attributes: Attributes<'s>,
    /// The value.
    pub value: Number,
}

/// All points of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric<'s> {
    /// Its name.
    pub name: &'s str,
    /// Its unit as UCUM has it; empty where none is known.
    pub unit: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// From when on it counts.
    pub since: Since,
    /// Its values.
    pub points: Vec<Point<'s>>,
}

/// What is exported of one sample.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Export<'s> {
    /// By name.
    pub metrics: Vec<Metric<'s>>,
    /// Points that were left out for want of room.
    pub left_out: u64,
}

/// Turns a sample into metrics.
#[must_use]
pub fn export(sample: &Sample) -> Export<'_> {
    let mut made = Made::default();
    host(sample, &mut made);
    for reading in sample.background.iter().flat_map(|background| background.told(sample.at)) {
        background(reading, &mut made);
    }
    readings(sample, &mut |reading| take(reading, &mut made));
    Export { metrics: made.metrics.into_values().collect(), left_out: made.left_out }
}

#[derive(Default)]
struct Made<'s> {
    metrics: BTreeMap<&'s str, Metric<'s>>,
    points: usize,
    left_out: u64,
}

impl<'s> Made<'s> {
    fn add(&mut self, shape: Shape<'s>, since: Since, attributes: Attributes<'s>, value: Number) {
        if self.points >= POINTS_MAX {
            self.left_out += 1;
            return;
        }
        self.points += 1;
        let Shape { name, unit, kind } = shape;
        let new = || Metric { name, unit, kind, since, points: Vec::new() };
        self.metrics.entry(name).or_insert_with(new).points.push(Point { attributes, value });
    }
}

/// Takes one series of `/metrics`.
fn take(reading: Reading<'_>, made: &mut Made<'_>) {
    let is_of_kernel = reading.name.starts_with("node_") || reading.name == "mainstay_cpu_seconds_total";
    let since = if is_of_kernel { Since::Boot } else { Since::Unknown };
    let Ok(at) = SEMANTIC.binary_search_by_key(&reading.name, |row| row.of) else {
        let attributes = attributes(reading.name, reading.labels, &[]);
        made.add(as_in_metrics(reading.name, reading.kind), since, attributes, Number::Double(reading.value));
        return;
    };
    // Part of what `host` has made of several of them.
    let Semantic::Is(shape, fixed) = SEMANTIC[at].means else { return };
    let value = match shape.unit {
        "s" => Number::Double(reading.value),
        _ => Number::Int(whole(reading.value)),
    };
    made.add(shape, since, attributes(reading.name, reading.labels, fixed), value);
}

/// A count as it was before it became the value of a series.
#[allow(clippy::cast_possible_truncation, reason = "counts are whole, and stay where they are beyond 2^63")]
fn whole(value: f64) -> i64 {
    value as i64
}

/// Takes one that was read beside the samples: of those the conventions have none.
fn background<'s>(reading: &'s BackgroundReading, made: &mut Made<'s>) {
    let BackgroundReading { key, kind, value } = reading;
    let attributes = key.labels.iter().map(|(label, value)| (label.as_str(), names::bounded(value))).collect();
    made.add(as_in_metrics(&key.name, *kind), Since::Boot, attributes, Number::Double(*value));
}

fn as_in_metrics(name: &str, kind: SeriesKind) -> Shape<'_> {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    let unit = match stem.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "",
    };
    let kind = match kind {
        SeriesKind::Counter => Kind::Counter,
        SeriesKind::Gauge => Kind::Gauge,
    };
    Shape { name, unit, kind }
}

fn attributes(
    name: &str,
    labels: &[(&'static str, &str)],
    fixed: &[(&'static str, &'static str)],
) -> Attributes<'static> {
    let keys = names::keys(name);
    let renamed = |label: &'static str| keys.iter().find(|(from, _)| *from == label).map_or(label, |(_, to)| to);
    let of_series = labels.iter().map(|(label, value)| {
        let key = renamed(label);
        (key, names::value(key, value))
    });
    let fixed = fixed.iter().map(|(key, value)| (*key, Value::Text((*value).to_owned())));
    let mut attributes: Attributes<'_> = of_series.chain(fixed).collect();
    attributes.sort_unstable();
    attributes
}

/// What the conventions want otherwise than as one series of `/metrics` for one of theirs.
fn host(sample: &Sample, made: &mut Made<'_>) {
    let uptime = std::time::Duration::from_nanos(sample.at.boot_ns).as_secs_f64();
    made.add(names::UPTIME, Since::Boot, Vec::new(), Number::Double(uptime));
    if let Some(cpus) = sample.cpus {
        made.add(names::CPUS, Since::Boot, Vec::new(), Number::Int(cpus.into()));
    }
    if let Some(m) = &sample.memory {
        memory(m, made);
    }
    for fs in &sample.filesystems {
        if let Some(usage) = &fs.usage {
            filesystem(fs, usage, made);
        }
    }
    if let Some(counts) = sample.processes {
        processes(counts, made);
    }
}

/// Adds a value for each state. They sum up to the whole, as the conventions want it.
fn states<const N: usize>(
    shape: Shape<'static>,
    key: &'static str,
    common: &[(&'static str, Value)],
    states: [(&str, u64); N],
    made: &mut Made<'_>,
) {
    for (state, value) in states {
        let mut attributes = common.to_vec();
        attributes.push((key, Value::Text(state.to_owned())));
        attributes.sort_unstable();
        made.add(shape, Since::Boot, attributes, Number::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }
}

/// What can be reclaimed of the slab is cache, as free(1) counts it.
fn memory(memory: &Memory, made: &mut Made<'_>) {
    let cached = memory.cached_bytes.saturating_add(memory.slab_reclaimable_bytes);
    let other = memory.free_bytes.saturating_add(memory.buffers_bytes).saturating_add(cached);
    let of_memory = [
        ("used", memory.total_bytes.saturating_sub(other)),
        ("free", memory.free_bytes),
        ("buffers", memory.buffers_bytes),
        ("cached", cached),
    ];
    states(names::MEMORY, "system.memory.state", &[], of_memory, made);
    let swap_used = memory.swap_total_bytes.saturating_sub(memory.swap_free_bytes);
    let of_swap = [("used", swap_used), ("free", memory.swap_free_bytes)];
    states(names::PAGING, "system.paging.state", &[], of_swap, made);
}

fn filesystem(fs: &Filesystem, usage: &FilesystemUsage, made: &mut Made<'_>) {
    let text = |text: &str| names::bounded(text);
    let common = [
        ("system.device", text(&String::from_utf8_lossy(&fs.device.0))),
        ("system.filesystem.mode", text(if fs.read_only { "ro" } else { "rw" })),
        ("system.filesystem.mountpoint", text(&String::from_utf8_lossy(&fs.mount.0))),
        ("system.filesystem.type", text(&fs.fstype)),
    ];
    let of_filesystem = [
        ("used", usage.size_bytes.saturating_sub(usage.free_bytes)),
        ("free", usage.avail_bytes),
        ("reserved", usage.free_bytes.saturating_sub(usage.avail_bytes)),
    ];
    states(names::FILESYSTEM, "system.filesystem.state", &common, of_filesystem, made);
    let size = Number::Int(i64::try_from(usage.size_bytes).unwrap_or(i64::MAX));
    made.add(names::FILESYSTEM_LIMIT, Since::Boot, common.to_vec(), size);
}

/// Of two states there is word; whatever else a process does is the third.
fn processes(counts: ProcessCounts, made: &mut Made<'_>) {
    let other = counts.total.saturating_sub(counts.zombies).saturating_sub(counts.uninterruptible);
    let by_state = [
        ("defunct", counts.zombies.into()),
        ("uninterruptible", counts.uninterruptible.into()),
        ("other", other.into()),
    ];
    states(names::PROCESSES, "process.state", &[], by_state, made);
}
