//! Series of hosts in the shapes that real ones have, made from a seed: of eight hundred series of a host at work some
//! two hundred change at all; counters tick steadily or in bursts, gauges wander, and the rest stands still.
//!
//! For measurements and tests of what stores and reads series; nothing here knows how they are stored.

use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey};

/// How the values of a series come about.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Always the same.
    Still,
    /// A counter that rises by about so much a second, now and then by much more.
    Rising(f64),
    /// A counter of seconds, kept in hundredths, of which about this share passes.
    Busy(f64),
    /// A counter of seconds, kept in millionths.
    Stalled(f64),
    /// A gauge of whole pages around so many bytes.
    Pages(f64),
    /// A small whole number.
    Few(f64),
    /// An average with two decimals.
    Average(f64),
}

/// A metric: its name, the label that tells its series apart with how many there are, and what of them moves.
struct Metric {
    name: &'static str,
    label: &'static str,
    series: usize,
    shape: Shape,
    moving: usize,
}

const fn metric(name: &'static str, label: &'static str, series: usize, shape: Shape, moving: usize) -> Metric {
    Metric { name, label, series, shape, moving }
}

const METRICS: &[Metric] = &[
    metric("mainstay_unit_memory_current_bytes", "unit", 24, Shape::Pages(2e7), 6),
    metric("mainstay_unit_restarts_total", "unit", 24, Shape::Rising(0.0), 0),
    metric("mainstay_unit_tasks", "unit", 24, Shape::Few(12.0), 1),
    metric("node_context_switches_total", "", 1, Shape::Rising(4_000.0), 1),
    metric("node_cpu_seconds_total", "cpu", 32, Shape::Busy(0.2), 14),
    metric("node_disk_io_time_seconds_total", "device", 4, Shape::Busy(0.05), 1),
    metric("node_disk_read_bytes_total", "device", 4, Shape::Rising(20_000.0), 1),
    metric("node_disk_writes_completed_total", "device", 4, Shape::Rising(12.0), 1),
    metric("node_disk_written_bytes_total", "device", 4, Shape::Rising(200_000.0), 1),
    metric("node_filesystem_avail_bytes", "mountpoint", 6, Shape::Pages(4e10), 2),
    metric("node_filesystem_files_free", "mountpoint", 6, Shape::Few(2e6), 1),
    metric("node_filesystem_size_bytes", "mountpoint", 6, Shape::Pages(5e10), 0),
    metric("node_intr_total", "", 1, Shape::Rising(2_500.0), 1),
    metric("node_load1", "", 1, Shape::Average(0.7), 1),
    metric("node_load15", "", 1, Shape::Average(0.5), 1),
    metric("node_load5", "", 1, Shape::Average(0.6), 1),
    metric("node_memory_bytes", "kind", 40, Shape::Pages(3e9), 14),
    metric("node_netstat_total", "counter", 70, Shape::Rising(30.0), 9),
    metric("node_network_receive_bytes_total", "device", 4, Shape::Rising(40_000.0), 2),
    metric("node_network_receive_drop_total", "device", 4, Shape::Rising(0.0), 0),
    metric("node_network_receive_packets_total", "device", 4, Shape::Rising(60.0), 2),
    metric("node_network_transmit_bytes_total", "device", 4, Shape::Rising(30_000.0), 2),
    metric("node_network_transmit_packets_total", "device", 4, Shape::Rising(50.0), 2),
    metric("node_pressure_waiting_seconds_total", "resource", 3, Shape::Stalled(0.01), 3),
    metric("node_processes_pids", "", 1, Shape::Few(240.0), 1),
    metric("node_procs_running", "", 1, Shape::Few(3.0), 1),
    metric("node_vmstat_total", "counter", 90, Shape::Rising(900.0), 24),
];

/// One series on its way.
#[derive(Clone)]
struct Series {
    shape: Shape,
    value: f64,
    /// What a host's load makes of the shape's rate.
    weight: f64,
}

/// The series of one host, sample by sample.
#[derive(Clone)]
pub(crate) struct Shapes {
    series: Vec<Series>,
    seed: u64,
}

/// What is told of a host's series: their keys in order, and which are gauges.
pub(crate) struct Described {
    /// Sorted.
    pub(crate) keys: Vec<Arc<SeriesKey>>,
    /// Of each, whether it is a gauge.
    pub(crate) gauge: Vec<bool>,
}

/// The first `count` series that hosts have; all hosts have the same ones.
pub(crate) fn describe(count: usize) -> Described {
    let mut described = Described { keys: Vec::new(), gauge: Vec::new() };
    for (key, shape) in all().take(count) {
        let is_gauge = matches!(shape.1, Shape::Pages(_) | Shape::Few(_) | Shape::Average(_));
        described.keys.push(Arc::new(key));
        described.gauge.push(is_gauge);
    }
    described
}

/// Every series in the order of keys: its key, whether it moves, and its shape. The list begins anew under other names
/// when it is through, so that there are as many as anybody wants.
fn all() -> impl Iterator<Item = (SeriesKey, (bool, Shape))> {
    (0..).flat_map(|round| {
        METRICS.iter().flat_map(move |metric| {
            (0..metric.series).map(move |n| {
                let name = if round == 0 { metric.name.to_owned() } else { format!("other{round}_{}", metric.name) };
                let value = format!("{n:02}");
                let labels: &[(&str, &str)] = if metric.label.is_empty() { &[] } else { &[(metric.label, &value)] };
                (SeriesKey::new(&name, labels), (n < metric.moving, metric.shape))
            })
        })
    })
}

impl Shapes {
    /// A host that is told apart by its number.
    pub(crate) fn of(host: u64, count: usize) -> Self {
        let mut shapes = Self { series: Vec::new(), seed: host.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
        for (_, (moves, shape)) in all().take(count) {
            let start = match shape {
                Shape::Pages(around) => (around * (0.5 + shapes.random()) / 4096.0).round() * 4096.0,
                Shape::Few(around) => (around * (0.5 + shapes.random())).round(),
                Shape::Average(around) => (around * 100.0).round() / 100.0,
                Shape::Still => 0.0,
                Shape::Rising(rate) | Shape::Busy(rate) | Shape::Stalled(rate) => {
                    (rate * 1e5 * (0.5 + shapes.random())).round()
                }
            };
            let weight = 0.25 + 1.5 * shapes.random();
            shapes.series.push(Series { shape: if moves { shape } else { Shape::Still }, value: start, weight });
        }
        shapes
    }

    fn random(&mut self) -> f64 {
        // Xorshift: quick, and the same everywhere.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// What a summary of the next `seconds`, sampled once in each, comes to: a point of every series.
    pub(crate) fn summary(&mut self, seconds: u32, gauge: &[bool]) -> Vec<Point> {
        (0..self.series.len()).map(|at| self.point(at, seconds, gauge[at])).collect()
    }

    fn point(&mut self, at: usize, seconds: u32, is_gauge: bool) -> Point {
        if matches!(self.series[at].shape, Shape::Still) {
            let last = self.series[at].value;
            return if is_gauge {
                Point::Gauge { last, min: last, max: last, mean: last }
            } else {
                Point::Counter(last)
            };
        }
        if !is_gauge {
            return Point::Counter(self.step(at, f64::from(seconds)));
        }
        let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
        for _ in 0..seconds {
            let value = self.step(at, 1.0);
            (min, max, sum) = (min.min(value), max.max(value), sum + value);
        }
        Point::Gauge { last: self.series[at].value, min, max, mean: sum / f64::from(seconds) }
    }

    fn step(&mut self, at: usize, seconds: f64) -> f64 {
        let (chance, size) = (self.random(), self.random());
        let Series { shape, value, weight } = &mut self.series[at];
        // One step in fifty is a burst, as when a job runs.
        let burst = if chance < 0.02 { 8.0 } else { 0.9 + 0.2 * size };
        match *shape {
            Shape::Still => {}
            Shape::Rising(rate) => *value += (rate * *weight * seconds * burst).round(),
            Shape::Busy(share) => *value = ((*value + share * *weight * seconds * burst) * 100.0).round() / 100.0,
            Shape::Stalled(share) => *value = ((*value + share * *weight * seconds * burst) * 1e6).round() / 1e6,
            // It mostly stands still between two looks.
            Shape::Pages(around) if chance < 0.3 => {
                let pages = ((size - 0.5) * around * 1e-4 / 4096.0).round();
                *value = (*value + pages * 4096.0).max(0.0);
            }
            Shape::Few(around) if chance < 0.2 => {
                *value = (*value + ((size - 0.5) * (4.0 + around * 0.01)).round()).max(0.0);
            }
            Shape::Average(around) if chance < 0.25 => {
                *value = ((*value * 0.92 + around * *weight * 0.16 * size) * 100.0).round() / 100.0;
            }
            Shape::Pages(_) | Shape::Few(_) | Shape::Average(_) => {}
        }
        *value
    }
}
