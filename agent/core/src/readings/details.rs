//! What `/metrics` shows of units and containers besides what is stored: the peak of their memory, how often they met its
//! limits, and how long they waited for what.
//!
//! It is read anyway; a collector that stored it would keep a third more series of every unit.

use super::{Each, Out, Reading, count};
use crate::sample::{Cgroup, Pressure, Sample};

/// Calls `take` with every one of them, always in the same order.
pub fn details(sample: &Sample, take: &mut dyn FnMut(Reading<'_>)) {
    let mut out = Out { labels: &[], subject: 0, subjects: &mut 0, take: &mut Each(take) };
    for (name, unit) in sample.units.iter().flatten() {
        if let Some(cgroup) = &unit.cgroup {
            of(cgroup, &OF_UNIT, &[("unit", name.as_str())], &mut out);
        }
    }
    for container in &sample.containers {
        let labels = [
            ("container", container.name.as_str()),
            ("id", container.id.as_str()),
            ("image", container.image.as_str()),
            ("runtime", container.runtime),
        ];
        if let Some(cgroup) = &container.cgroup {
            of(cgroup, &OF_CONTAINER, &labels, &mut out);
        }
    }
}

/// Names of series: the peak, times at `memory.high` and at `memory.max`, and by resource some and all waiting.
struct Names {
    peak: &'static str,
    high: &'static str,
    max: &'static str,
    pressure: [[&'static str; 2]; 3],
}

const OF_UNIT: Names = Names {
    peak: "mainstay_unit_memory_peak_bytes",
    high: "mainstay_unit_memory_high_total",
    max: "mainstay_unit_memory_max_total",
    pressure: [
        ["mainstay_unit_pressure_cpu_waiting_seconds_total", "mainstay_unit_pressure_cpu_stalled_seconds_total"],
        ["mainstay_unit_pressure_memory_waiting_seconds_total", "mainstay_unit_pressure_memory_stalled_seconds_total"],
        ["mainstay_unit_pressure_io_waiting_seconds_total", "mainstay_unit_pressure_io_stalled_seconds_total"],
    ],
};

const OF_CONTAINER: Names = Names {
    peak: "mainstay_container_memory_peak_bytes",
    high: "mainstay_container_memory_high_total",
    max: "mainstay_container_memory_max_total",
    pressure: [
        [
            "mainstay_container_pressure_cpu_waiting_seconds_total",
            "mainstay_container_pressure_cpu_stalled_seconds_total",
        ],
        [
            "mainstay_container_pressure_memory_waiting_seconds_total",
            "mainstay_container_pressure_memory_stalled_seconds_total",
        ],
        [
            "mainstay_container_pressure_io_waiting_seconds_total",
            "mainstay_container_pressure_io_stalled_seconds_total",
        ],
    ],
};

fn of(cgroup: &Cgroup, names: &Names, labels: &[(&'static str, &str)], out: &mut Out<'_>) {
    let mut out = out.with(labels);
    if let Some(bytes) = cgroup.memory_peak_bytes {
        out.gauge(names.peak, count(bytes));
    }
    let met = [(names.high, cgroup.memory_events_high), (names.max, cgroup.memory_events_max)];
    for (name, times) in met {
        if let Some(times) = times {
            out.counter(name, count(times));
        }
    }
    let pressure = [cgroup.pressure.cpu, cgroup.pressure.memory, cgroup.pressure.io];
    for ([waiting, stalled], pressure) in names.pressure.into_iter().zip(pressure) {
        if let Some(Pressure { some, full }) = pressure {
            out.counter(waiting, count(some.total_us) / 1e6);
            if let Some(full) = full {
                out.counter(stalled, count(full.total_us) / 1e6);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::{Container, Pressures, Stall, Unit};

    fn lines(sample: &Sample) -> Vec<String> {
        let mut lines = Vec::new();
        details(sample, &mut |r| {
            assert!(r.labels.is_sorted(), "{r:?}");
            lines.push(format!("{} {}", crate::series::SeriesKey::new(r.name, r.labels), r.value));
        });
        lines
    }

    #[test]
    fn what_is_known_of_a_unit_and_of_a_container_is_shown_under_their_own_names() {
        let stall = |total_us| Stall { total_us, ..Stall::default() };
        let io = Some(Pressure { some: stall(1_500_000), full: Some(stall(500_000)) });
        let cgroup = Cgroup {
            memory_peak_bytes: Some(9),
            memory_events_high: Some(3),
            pressure: Pressures { cpu: Some(Pressure { some: stall(2_000_000), full: None }), memory: None, io },
            ..Cgroup::default()
        };
        let unit = Unit { cgroup: Some(cgroup), ..Unit::default() };
        let container =
            Container { runtime: "docker", name: "web".into(), cgroup: Some(cgroup), ..Container::default() };
        let units = BTreeMap::from([("app.service".parse().unwrap(), unit)]);
        let lines = lines(&Sample { units: Some(units), containers: vec![container], ..Sample::default() });
        assert_eq!(
            lines[..5],
            [
                r#"mainstay_unit_memory_peak_bytes{unit="app.service"} 9"#,
                r#"mainstay_unit_memory_high_total{unit="app.service"} 3"#,
                r#"mainstay_unit_pressure_cpu_waiting_seconds_total{unit="app.service"} 2"#,
                r#"mainstay_unit_pressure_io_waiting_seconds_total{unit="app.service"} 1.5"#,
                r#"mainstay_unit_pressure_io_stalled_seconds_total{unit="app.service"} 0.5"#,
            ]
        );
        assert_eq!(
            lines[5],
            r#"mainstay_container_memory_peak_bytes{container="web",id="",image="",runtime="docker"} 9"#
        );
        assert_eq!(lines.len(), 10);
    }

    #[test]
    fn a_controller_that_is_missing_names_no_series() {
        let unit = Unit { cgroup: Some(Cgroup::default()), ..Unit::default() };
        let gone = Unit { cgroup: None, ..Unit::default() };
        let units = BTreeMap::from([("a.service".parse().unwrap(), unit), ("b.service".parse().unwrap(), gone)]);
        assert!(lines(&Sample { units: Some(units), ..Sample::default() }).is_empty());
    }
}
