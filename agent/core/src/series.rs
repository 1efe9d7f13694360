//! Series and summaries: what is stored and shown of a sample.
//!
//! Names and labels are those that node_exporter's users know. A counter travels as a counter; a
//! gauge carries its last value with the least, the greatest and the mean of the window.

use std::fmt;
use std::sync::Arc;

use crate::time::Now;

/// A series of values: a name and labels in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// Such as `node_cpu_seconds_total`.
    pub name: String,
    /// Sorted by label name, each name once.
    pub labels: Vec<(String, String)>,
}

impl SeriesKey {
    /// A series with these labels, in whatever order they come.
    #[must_use]
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        let mut labels: Vec<_> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        labels.sort();
        Self { name: name.to_owned(), labels }
    }
}

impl fmt::Display for SeriesKey {
    /// As it is written in a query: `node_filesystem_avail_bytes{mountpoint="/"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, (name, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at == 0 { "" } else { "," })?;
        }
        f.write_str("}")
    }
}

/// One value of a series over the window of a summary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// A counter, as it stood at the end of the window.
    Counter(f64),
    /// A gauge over the window.
    Gauge {
        /// Its last value.
        last: f64,
        /// Its least.
        min: f64,
        /// Its greatest.
        max: f64,
        /// Its mean over the samples of the window.
        mean: f64,
    },
}

/// What ten seconds of samples come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// The end of the window.
    pub at: Now,
    /// How long it is, in milliseconds.
    pub window_ms: u32,
    /// How many samples it holds.
    pub samples: u32,
    /// Sorted by series. A series without a reading in the window is absent.
    pub points: Vec<(Arc<SeriesKey>, Point)>,
}
