//! Which of the recorded series a finding is about, most telling first.

use crate::drawing;
use crate::finding::{Finding, FindingKind};
use crate::series::SeriesKey;
use crate::subject::Subject;

/// Ranks of what no pattern names: the host's own load, its disks and interfaces, units.
const HOST: u16 = 1_000;
const DEVICES: u16 = 2_000;
const UNITS: u16 = 3_000;

/// Measures of a finding that are looked at: the first say the most.
const MEASURES_MAX: usize = 4;

/// What a person looks at on any host.
const LOAD: [&str; 6] = [
    "node_cpu_seconds_total",
    "node_pressure_cpu_waiting_seconds_total",
    "node_memory_MemAvailable_bytes",
    "node_pressure_memory_waiting_seconds_total",
    "node_pressure_io_waiting_seconds_total",
    "node_load1",
];

/// What is looked at of a unit, whatever is wrong with it.
const OF_UNIT: [&str; 8] = [
    "mainstay_unit_memory_bytes",
    "mainstay_unit_cpu_seconds_total",
    "mainstay_unit_tasks",
    "mainstay_log_errors_total",
    "mainstay_probe_duration_seconds",
    "mainstay_unit_open_fds",
    "mainstay_unit_io_written_bytes_total",
    "mainstay_unit_restarts_total",
];

/// Series by their telling, for one finding.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct About {
    /// A name, and the label that has to be there with it.
    patterns: Vec<(String, Option<(String, String)>)>,
}

impl About {
    /// What a finding is about.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        let mut about = Self::default();
        let label = label_of(&finding.subject);
        let measures = finding.evidence.iter().filter_map(|evidence| evidence.measure.as_ref());
        for measure in measures.take(MEASURES_MAX) {
            let Some(promql) = drawing::query(finding.kind, &finding.subject, &measure.name, "") else { continue };
            let own = measure.name.split_once('{').and_then(|(_, rest)| label_in(rest));
            for name in names_in(&promql) {
                about.add(name, own.clone().or_else(|| label.clone()));
            }
        }
        for name in telling(finding.kind) {
            let is_of_subject = !name.starts_with("node_") || !matches!(finding.subject, Subject::Unit(_));
            about.add(name, label.clone().filter(|_| is_of_subject));
        }
        if matches!(finding.subject, Subject::Unit(_)) {
            OF_UNIT.iter().for_each(|name| about.add(name, label.clone()));
        }
        LOAD.iter().for_each(|name| about.add(name, None));
        about
    }

    fn add(&mut self, name: &str, label: Option<(String, String)>) {
        let pattern = (name.to_owned(), label);
        if !self.patterns.contains(&pattern) {
            self.patterns.push(pattern);
        }
    }

    /// How telling a series is: the least is the most.
    #[must_use]
    pub fn rank(&self, key: &SeriesKey) -> u16 {
        let is_meant = |(name, label): &(String, Option<(String, String)>)| {
            *name == key.name && label.as_ref().is_none_or(|label| key.labels.contains(label))
        };
        if let Some(at) = self.patterns.iter().position(is_meant) {
            return u16::try_from(at).unwrap_or(HOST);
        }
        let has = |label: &str| key.labels.iter().any(|(name, _)| name == label);
        if has("unit") {
            UNITS
        } else if has("device") {
            DEVICES
        } else {
            HOST
        }
    }
}

/// The label that series of a subject have.
fn label_of(subject: &Subject) -> Option<(String, String)> {
    let label = |name: &str, value: String| Some((name.to_owned(), value));
    match subject {
        Subject::Host => None,
        Subject::Unit(unit) => label("unit", unit.as_str().to_owned()),
        Subject::Mount(mount) => label("mountpoint", mount.to_string()),
        Subject::Disk(name) | Subject::Interface(name) => label("device", name.clone()),
        Subject::Series(series) => series.split_once('{').and_then(|(_, rest)| label_in(rest)),
    }
}

/// The first label in what stands behind the brace of a series.
fn label_in(rest: &str) -> Option<(String, String)> {
    let (name, rest) = rest.split_once("=\"")?;
    let (value, _) = rest.split_once('"')?;
    Some((name.to_owned(), value.to_owned()))
}

/// The stored series that a query names.
fn names_in(promql: &str) -> impl Iterator<Item = &str> {
    let words = promql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("node_") || word.starts_with("mainstay_"))
}

/// The series that tell most of each kind, besides those of its measures.
fn telling(kind: FindingKind) -> &'static [&'static str] {
    match kind {
        FindingKind::ServiceFailed | FindingKind::ServiceCrashLoop | FindingKind::ServiceFlapping => {
            &["mainstay_unit_memory_bytes", "mainstay_unit_cpu_seconds_total", "mainstay_log_errors_total"]
        }
        FindingKind::ServiceHung | FindingKind::ServiceSlow => {
            &["mainstay_probe_duration_seconds", "mainstay_unit_cpu_seconds_total", "mainstay_unit_tasks"]
        }
        FindingKind::DiskFull | FindingKind::DiskFilling | FindingKind::DiskReadonly => {
            &["node_filesystem_avail_bytes", "node_filesystem_readonly"]
        }
        FindingKind::DiskInodes | FindingKind::InodeLeak => &["node_filesystem_files_free"],
        FindingKind::MemoryPressure => &[
            "node_pressure_memory_waiting_seconds_total",
            "node_memory_MemAvailable_bytes",
            "node_vmstat_pgmajfault",
            "node_vmstat_pswpin",
        ],
        FindingKind::MemoryLeak => &["mainstay_unit_memory_bytes", "node_memory_MemAvailable_bytes"],
        FindingKind::MemoryOomKill => {
            &["mainstay_unit_memory_bytes", "node_vmstat_oom_kill", "node_memory_MemAvailable_bytes"]
        }
        FindingKind::FdLeak => &["mainstay_unit_open_fds", "node_filefd_allocated"],
        FindingKind::FdExhausted => &["node_filefd_allocated", "mainstay_unit_open_fds"],
        FindingKind::TaskLeak | FindingKind::TaskExhausted => &["mainstay_unit_tasks", "node_processes_threads"],
        FindingKind::ProcessForkStorm => &["mainstay_unit_tasks", "node_forks_total", "node_processes_pids"],
        FindingKind::ProcessRunaway => &["mainstay_unit_cpu_seconds_total"],
        FindingKind::ProcessZombies => &["node_processes_state"],
        FindingKind::CpuSaturated => &["node_pressure_cpu_waiting_seconds_total", "node_procs_running"],
        FindingKind::IoStalled => &[
            "node_pressure_io_waiting_seconds_total",
            "node_procs_blocked",
            "node_disk_io_time_seconds_total",
            "node_disk_io_now",
        ],
        FindingKind::ConntrackExhausted => &["node_nf_conntrack_entries", "node_netstat_Tcp_CurrEstab"],
        FindingKind::NetRetransmits => {
            &["node_netstat_Tcp_RetransSegs", "node_netstat_Tcp_OutSegs", "node_network_transmit_drop_total"]
        }
        FindingKind::ClockUnsynced => &["node_timex_sync_status"],
        FindingKind::LogBurst | FindingKind::LogPattern => &["mainstay_log_errors_total"],
        _ => &[],
    }
}
