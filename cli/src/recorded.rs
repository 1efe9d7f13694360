//! What a host's flight recorder kept: drawn second by second for people, every value for programs.
//!
//! A gauge is drawn as it is, a counter as its growth per second. The time of all CPUs is drawn as one line, their busy
//! share. Where nothing was recorded, because the agent was not running, the line is blank.

use mainstay_core::readings::SeriesKind;
use mainstay_core::recording::{FindingRecording, Recorded, Recording};
use mainstay_proto::v1;
use serde::Serialize;

use crate::draw::{self, WIDTH};
use crate::{view, words};

/// Width of the column of ranges, beyond which the name is moved.
const RANGE_WIDTH: usize = 24;
/// The series that the busy share is made of.
const CPU: &str = "node_cpu_seconds_total";

/// A recording for programs.
#[derive(Debug, Serialize)]
pub(crate) struct RecordingDoc {
    at: Vec<Option<String>>,
    series: Vec<SeriesDoc>,
    left_out: u32,
}

#[derive(Debug, Serialize)]
struct SeriesDoc {
    series: String,
    kind: &'static str,
    /// As they were read: of a counter, the counter.
    values: Vec<Option<f64>>,
}

impl From<&Recording> for RecordingDoc {
    fn from(recording: &Recording) -> Self {
        let series = recording.series.iter().map(|one| SeriesDoc {
            series: one.key.to_string(),
            kind: match one.kind {
                SeriesKind::Counter => "counter",
                SeriesKind::Gauge => "gauge",
            },
            values: one.values.iter().map(|value| value.is_finite().then_some(*value)).collect(),
        });
        Self {
            at: recording.at.iter().map(|at| view::moment(at.wall_ms)).collect(),
            series: series.collect(),
            left_out: recording.left_out,
        }
    }
}

/// The seconds around a finding, if they are there and can be read.
pub(crate) fn read(wire: Option<&v1::FindingRecording>) -> Option<FindingRecording> {
    wire.and_then(|wire| FindingRecording::try_from(wire.clone()).ok())
}

/// One line of a drawing.
struct Line {
    name: String,
    values: Vec<f64>,
    unit: Unit,
}

/// How its values are said.
#[derive(Clone, Copy)]
enum Unit {
    Bytes { per_second: bool },
    Number { per_second: bool },
    Share,
}

impl Unit {
    fn of(recorded: &Recorded) -> Self {
        let per_second = recorded.kind == SeriesKind::Counter;
        let name = recorded.key.name.trim_end_matches("_total");
        if name.ends_with("_bytes") { Self::Bytes { per_second } } else { Self::Number { per_second } }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes are whole and positive")]
    fn say(self, value: f64) -> String {
        let suffix = |per_second: bool| if per_second { "/s" } else { "" };
        match self {
            Self::Bytes { per_second } => format!("{}{}", words::bytes(value.max(0.0) as u64), suffix(per_second)),
            Self::Number { per_second } => format!("{}{}", words::number(value), suffix(per_second)),
            Self::Share => format!("{:.0} %", value * 100.0),
        }
    }
}

/// The lines that draw a recording: at most `lines_max` series, then the moment that a finding opened, if there is one.
pub(crate) fn drawn(recording: &Recording, opened_ms: Option<i64>, lines_max: usize) -> Vec<String> {
    let (Some(first), Some(last)) = (recording.at.first(), recording.at.last()) else { return Vec::new() };
    let at_ms: Vec<i64> = recording.at.iter().map(|at| at.wall_ms).collect();
    let width = at_ms.len().min(WIDTH);
    let all = lines(recording);
    let mut drawn = vec![format!(
        "{} to {}, {}",
        words::date_time(first.wall_ms),
        words::clock(last.wall_ms),
        words::count(at_ms.len(), "sample")
    )];
    for line in all.iter().take(lines_max) {
        let finite = || line.values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let range =
            if low <= high { format!("{} to {}", line.unit.say(low), line.unit.say(high)) } else { "–".into() };
        let bars = draw::timeline(&line.values, &at_ms, width);
        drawn.push(format!("{bars}  {range:<RANGE_WIDTH$}  {}", line.name));
    }
    if let Some(opened_ms) = opened_ms.filter(|at| (first.wall_ms..=last.wall_ms).contains(at)) {
        let column = draw::column(opened_ms, first.wall_ms, last.wall_ms, width);
        drawn.push(format!("{:>at$} found {}", "^", words::clock(opened_ms), at = column + 1));
    }
    drawn
}

/// Every series that has a value, in the order of the recording; the CPUs' times as one.
fn lines(recording: &Recording) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut has_cpu = false;
    for one in recording.series.iter().filter(|one| one.values.iter().any(|value| value.is_finite())) {
        if one.key.name != CPU {
            lines.push(Line { name: one.key.to_string(), values: one.shown(&recording.at), unit: Unit::of(one) });
        } else if !has_cpu {
            has_cpu = true;
            lines.push(Line { name: "CPUs busy".to_owned(), values: busy(recording), unit: Unit::Share });
        }
    }
    lines
}

/// The share of the time of all CPUs that they were not idle, second by second.
fn busy(recording: &Recording) -> Vec<f64> {
    let rows = recording.at.len();
    let (mut idle, mut all) = (vec![0.0; rows], vec![0.0; rows]);
    for one in recording.series.iter().filter(|one| one.key.name == CPU) {
        let is_idle = one.key.labels.iter().any(|(_, mode)| mode == "idle" || mode == "iowait");
        for (row, value) in one.shown(&recording.at).into_iter().enumerate() {
            all[row] += value;
            if is_idle {
                idle[row] += value;
            }
        }
    }
    idle.iter().zip(all).map(|(idle, all)| if all > 0.0 { 1.0 - idle / all } else { f64::NAN }).collect()
}

#[cfg(test)]
mod tests {
    use mainstay_core::series::SeriesKey;
    use mainstay_core::time::Now;

    use super::*;

    fn recorded(name: &str, labels: &[(&str, &str)], kind: SeriesKind, value: impl Fn(u32) -> f64) -> Recorded {
        Recorded { key: SeriesKey::new(name, labels), kind, values: (0..20).map(value).collect() }
    }

    fn recording() -> Recording {
        let unit = [("unit", "app.service")];
        let cpu = |mode, per_second: f64| {
            recorded(CPU, &[("mode", mode)], SeriesKind::Counter, move |n| f64::from(n) * per_second)
        };
        Recording {
            at: (0..20).map(|n| Now { boot_ns: n * 1_000_000_000, wall_ms: n.cast_signed() * 1_000 }).collect(),
            series: vec![
                recorded("mainstay_unit_memory_bytes", &unit, SeriesKind::Gauge, |n| f64::from(n + 1) * 1_048_576.0),
                cpu("idle", 0.5),
                cpu("user", 1.5),
                recorded("mainstay_unit_io_read_bytes_total", &unit, SeriesKind::Counter, |n| f64::from(n) * 2_048.0),
                recorded("mainstay_unit_tasks", &unit, SeriesKind::Gauge, |n| if n < 10 { 3.0 } else { f64::NAN }),
                recorded("node_load1", &[], SeriesKind::Gauge, |_| f64::NAN),
            ],
            ..Recording::default()
        }
    }

    #[test]
    fn a_recording_is_drawn_line_by_line_with_the_moment_of_the_finding() {
        let lines = drawn(&recording(), Some(15_000), 10);
        assert_eq!(lines.len(), 1 + 4 + 1, "{lines:#?}");
        assert!(lines[0].ends_with(", 20 samples"), "{lines:#?}");
        assert!(
            lines[1].ends_with("1.0 MiB to 20.0 MiB       mainstay_unit_memory_bytes{unit=\"app.service\"}"),
            "{}",
            lines[1]
        );
        assert!(lines[2].ends_with("75 % to 75 %              CPUs busy"), "{}", lines[2]);
        assert!(lines[3].contains("2.0 KiB/s to 2.0 KiB/s"), "{}", lines[3]);
        assert!(lines[4].contains("3.00 to 3.00"), "{}", lines[4]);
        assert_eq!(lines[4].chars().nth(5), lines[4].chars().nth(9));
        assert_eq!(lines[4].chars().nth(15), Some(' '), "nothing was recorded there");
        assert!(lines[5].starts_with("               ^ found "), "{}", lines[5]);
        assert_eq!(drawn(&recording(), Some(99_000), 2).len(), 3, "a moment beyond it has no place");
        assert!(drawn(&Recording::default(), None, 9).is_empty());
    }

    #[test]
    fn programs_get_every_value_and_nothing_for_what_is_unknown() {
        let doc = serde_json::to_value(RecordingDoc::from(&recording())).unwrap();
        assert_eq!(doc["series"].as_array().unwrap().len(), 6);
        assert_eq!(doc["series"][4]["values"][9], 3.0);
        assert!(doc["series"][4]["values"][10].is_null());
        assert_eq!(doc["series"][1]["kind"], "counter");
        assert_eq!(doc["at"][1], "1970-01-01T00:00:01.000Z");
    }
}
