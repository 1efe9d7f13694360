//! Recordings of a host: what it was sampled at once a second, as text that anything reads.
//!
//! The first line names the columns: `at_ms`, then one for each series, `c:` before a counter's key and `g:` before a
//! gauge's. Every other line is a second: its wall time in milliseconds and the values, separated by tabs; a value that
//! was not there is empty.

use mainstay_core::series::Point;
use mainstay_fleet::block::Row;

/// A recording, read.
pub(crate) struct Recording {
    /// Of each series, whether it is a gauge.
    pub(crate) gauge: Vec<bool>,
    seconds: Vec<(i64, Vec<Option<f64>>)>,
}

impl Recording {
    /// Reads a recording; a line that was cut short, as the last one may be, ends it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let mut columns = lines.next().ok_or("an empty recording")?.split('\t');
        if columns.next() != Some("at_ms") {
            return Err("line 1: the first column of a recording is `at_ms`".to_owned());
        }
        let kind = |column: &str| match column.split_once(':') {
            Some(("g", _)) => Ok(true),
            Some(("c", _)) => Ok(false),
            _ => Err(format!("line 1: `{column}` begins neither with `c:` nor with `g:`")),
        };
        let gauge = columns.map(kind).collect::<Result<Vec<_>, _>>()?;
        let mut seconds = Vec::new();
        for (n, line) in (2..).zip(lines) {
            let mut cells = line.split('\t');
            let at_ms = cells.next().unwrap_or_default();
            let at_ms = at_ms.parse().map_err(|_| format!("line {n}: `{at_ms}` is no time in milliseconds"))?;
            let number = |cell: &str| match cell {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| format!("line {n}: `{text}` is no number")),
            };
            let values = cells.map(number).collect::<Result<Vec<_>, _>>()?;
            if values.len() != gauge.len() {
                break;
            }
            seconds.push((at_ms, values));
        }
        Ok(Self { gauge, seconds })
    }

    /// Summaries of so many seconds each, as an agent makes them.
    pub(crate) fn windows(&self, seconds: u32) -> Vec<Row> {
        let windows = self.seconds.chunks_exact(usize::try_from(seconds).unwrap_or(1));
        windows
            .map(|window| Row {
                at_ms: window[window.len() - 1].0,
                window_ms: seconds * 1_000,
                samples: seconds,
                cells: (0..self.gauge.len()).map(|at| point(window, at, self.gauge[at])).collect(),
            })
            .collect()
    }
}

fn point(window: &[(i64, Vec<Option<f64>>)], at: usize, is_gauge: bool) -> Option<Point> {
    let values: Vec<f64> = window.iter().filter_map(|(_, values)| values[at]).collect();
    let last = *values.last()?;
    Some(if is_gauge {
        Point::Gauge {
            last,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: values.iter().sum::<f64>() / values.len() as f64,
        }
    } else {
        Point::Counter(last)
    })
}
