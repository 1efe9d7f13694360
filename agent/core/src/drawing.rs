//! Which stored series shows a finding: from what was measured to the query that draws it.
//!
//! In: the kind of a finding, its subject, the name of a measure in its evidence. Out: PromQL over
//! the series that a host sends ([`crate::readings`]), so that the command line can draw what the
//! detector saw. What has no stored series of its own is not drawn.

use crate::finding::FindingKind;
use crate::subject::Subject;

/// The window over which rates of counters are drawn: six stored points.
const RATE: &str = "[1m]";

/// The matcher of CPU time: of each CPU, or of all together where they are many.
pub const CPU_SECONDS: &str = "__name__=~\"node_cpu_seconds_total|mainstay_cpu_seconds_total\"";

/// The query that shows `measure` of a finding on the host of this name; `None` where no stored
/// series shows it.
#[must_use]
pub fn query(kind: FindingKind, subject: &Subject, measure: &str, host: &str) -> Option<String> {
    let on = |labels: &str| Place { host, labels: labels.to_owned() };
    match (kind, subject) {
        (FindingKind::MetricAnomalous, _) => {
            let (name, labels) = match measure.split_once('{') {
                Some((name, rest)) => (name, rest.strip_suffix('}')?),
                None => (measure, ""),
            };
            learned(name, &on(labels))
        }
        (FindingKind::DiskFilling | FindingKind::DiskFull, Subject::Mount(mount)) => {
            let on = on(&format!("mountpoint={:?}", mount.to_string()));
            let (size, avail) = (on.gauge("node_filesystem_size_bytes"), on.gauge("node_filesystem_avail_bytes"));
            Some(format!("{size} - {avail}"))
        }
        (FindingKind::DiskInodes, Subject::Mount(mount)) => {
            let on = on(&format!("mountpoint={:?}", mount.to_string()));
            Some(format!("{} - {}", on.gauge("node_filesystem_files"), on.gauge("node_filesystem_files_free")))
        }
        (FindingKind::MemoryLeak, Subject::Unit(unit)) => {
            Some(on(&format!("unit={:?}", unit.as_str())).gauge("mainstay_unit_memory_bytes"))
        }
        (FindingKind::ServiceCrashLoop, Subject::Unit(unit)) => {
            Some(on(&format!("unit={:?}", unit.as_str())).gauge("mainstay_unit_restarts_total"))
        }
        (FindingKind::ServiceSlow | FindingKind::ServiceHung, Subject::Unit(unit)) => {
            Some(on(&format!("unit={:?}", unit.as_str())).gauge("mainstay_probe_duration_seconds"))
        }
        (FindingKind::MemoryPressure, _) => learned("memory_waiting_ratio", &on("")),
        (FindingKind::CpuSaturated, _) => learned("cpu_busy_ratio", &on("")),
        (FindingKind::IoStalled, _) => learned("io_waiting_ratio", &on("")),
        (FindingKind::FdExhausted, _) => learned("file_handles_ratio", &on("")),
        (FindingKind::NetRetransmits, _) => {
            let on = on("");
            Some(format!("{} / {}", on.rate("node_netstat_Tcp_RetransSegs"), on.rate("node_netstat_Tcp_OutSegs")))
        }
        _ => None,
    }
}

/// The host and labels that a query is about.
struct Place<'a> {
    host: &'a str,
    labels: String,
}

impl Place<'_> {
    fn with(&self, name: &str, more: &str) -> String {
        let parts = [format!("host={:?}", self.host), self.labels.clone(), more.to_owned()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{name}{{{}}}", parts.join(","))
    }

    fn gauge(&self, name: &str) -> String {
        self.with(name, "")
    }

    fn rate(&self, name: &str) -> String {
        format!("rate({}{RATE})", self.gauge(name))
    }

    /// The share of the time of all CPUs that they spent so.
    fn cpu(&self, modes: &str) -> String {
        let spent = self.with("", &format!("{CPU_SECONDS},{modes}"));
        let all = self.with("", CPU_SECONDS);
        format!("sum(rate({spent}{RATE})) / sum(rate({all}{RATE}))")
    }

    fn ratio(&self, part: &str, whole: &str) -> String {
        format!("{} / {}", self.gauge(part), self.gauge(whole))
    }

    fn sum(&self, names: &[&str]) -> String {
        names.iter().map(|name| self.rate(name)).collect::<Vec<_>>().join(" + ")
    }
}

/// The query of a metric that is learned (`metric.anomalous`), by its name there.
fn learned(name: &str, on: &Place<'_>) -> Option<String> {
    Some(match name {
        "cpu_busy_ratio" => on.cpu("mode!~\"idle|iowait\""),
        "cpu_iowait_ratio" => on.cpu("mode=\"iowait\""),
        "cpu_steal_ratio" => on.cpu("mode=\"steal\""),
        "cpu_waiting_ratio" => on.rate("node_pressure_cpu_waiting_seconds_total"),
        "load_per_cpu" => {
            let cpus = on.with("node_cpu_seconds_total", "mode=\"idle\"");
            let many = on.gauge("mainstay_cpus");
            format!("sum({}) / (count({cpus}) or sum({many}))", on.gauge("node_load1"))
        }
        "procs_blocked" => on.gauge("node_procs_blocked"),
        "context_switches_per_second" => on.rate("node_context_switches_total"),
        "forks_per_second" => on.rate("node_forks_total"),
        "major_faults_per_second" => on.rate("node_vmstat_pgmajfault"),
        "swapped_pages_per_second" => on.sum(&["node_vmstat_pswpin", "node_vmstat_pswpout"]),
        "memory_available_ratio" => on.ratio("node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"),
        "memory_waiting_ratio" => on.rate("node_pressure_memory_waiting_seconds_total"),
        "io_waiting_ratio" => on.rate("node_pressure_io_waiting_seconds_total"),
        "swap_used_ratio" => format!("1 - {}", on.ratio("node_memory_SwapFree_bytes", "node_memory_SwapTotal_bytes")),
        "file_handles_ratio" => on.ratio("node_filefd_allocated", "node_filefd_maximum"),
        "disk_busy_ratio" => on.rate("node_disk_io_time_seconds_total"),
        "disk_read_bytes_per_second" => on.rate("node_disk_read_bytes_total"),
        "disk_written_bytes_per_second" => on.rate("node_disk_written_bytes_total"),
        "disk_await_seconds" => format!(
            "({}) / ({})",
            on.sum(&["node_disk_read_time_seconds_total", "node_disk_write_time_seconds_total"]),
            on.sum(&["node_disk_reads_completed_total", "node_disk_writes_completed_total"])
        ),
        "network_receive_bytes_per_second" => on.rate("node_network_receive_bytes_total"),
        "network_transmit_bytes_per_second" => on.rate("node_network_transmit_bytes_total"),
        "network_packets_per_second" => {
            on.sum(&["node_network_receive_packets_total", "node_network_transmit_packets_total"])
        }
        "network_errors_per_second" => on.sum(&[
            "node_network_receive_errs_total",
            "node_network_receive_drop_total",
            "node_network_transmit_errs_total",
            "node_network_transmit_drop_total",
        ]),
        "unit_cpus" => on.rate("mainstay_unit_cpu_seconds_total"),
        "unit_memory_bytes" => on.gauge("mainstay_unit_memory_bytes"),
        "probe_latency_seconds" => on.gauge("mainstay_probe_duration_seconds"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_found_among_the_stored_series() {
        let draw = |kind, subject: &Subject, measure| query(kind, subject, measure, "web-1").unwrap();
        assert_eq!(
            draw(FindingKind::MetricAnomalous, &Subject::Host, r#"disk_busy_ratio{device="vda"}"#),
            r#"rate(node_disk_io_time_seconds_total{host="web-1",device="vda"}[1m])"#
        );
        assert_eq!(
            draw(FindingKind::DiskFilling, &Subject::Mount("/var".into()), "time_to_full_seconds"),
            r#"node_filesystem_size_bytes{host="web-1",mountpoint="/var"} - node_filesystem_avail_bytes{host="web-1",mountpoint="/var"}"#
        );
        let unit = Subject::Unit("app.service".parse().unwrap());
        assert_eq!(
            draw(FindingKind::MemoryLeak, &unit, "time_to_limit_seconds"),
            r#"mainstay_unit_memory_bytes{host="web-1",unit="app.service"}"#
        );
        assert_eq!(query(FindingKind::ClockUnsynced, &Subject::Host, "x", "web-1"), None);
    }

    #[test]
    fn every_metric_that_is_learned_can_be_drawn_and_every_series_named_is_stored() {
        let names = include_str!("detect/metric_anomalous.rs");
        let (_, list) = names.split_once("fn metrics(").unwrap();
        let (list, _) = list.split_once("#[cfg(test)]").unwrap();
        let quoted = list.split('"').skip(1).step_by(2).filter(|word| word.contains('_') || *word == "load_per_cpu");
        let stored = include_str!("readings.rs");
        let mut seen = 0;
        for name in quoted {
            let promql = learned(name, &Place { host: "h", labels: String::new() });
            let promql = promql.unwrap_or_else(|| panic!("{name} is learned and cannot be drawn"));
            for series in promql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
                let is_series = series.starts_with("node_") || series.starts_with("mainstay_");
                assert!(!is_series || stored.contains(&format!("\"{series}\"")), "{series} is not stored");
            }
            seen += 1;
        }
        assert!(seen >= 25, "{seen}");
    }
}
