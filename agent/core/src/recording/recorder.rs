//! The minute that is being recorded.

use std::time::Duration;

use super::chosen::Chosen;
use super::{ROWS_MAX, SERIES_MAX, codec};
use crate::id::BootId;
use crate::readings::{Reading, SeriesKind, cpu_seconds};
use crate::sample::Sample;
use crate::series::SeriesTable;
use crate::subject::UnitName;
use crate::time::Now;

/// How long a chunk is, at most; where samples come more seldom it has fewer of them.
const CHUNK: Duration = Duration::from_secs(60);

/// Records readings, sample by sample.
#[derive(Debug, Default)]
pub struct Recorder {
    boot: BootId,
    table: SeriesTable,
    /// By slot of the table.
    columns: Vec<Column>,
    at: Vec<Now>,
    chosen: Chosen,
    /// Readings of the last sample for which there was no room, and of all samples.
    left_out: u32,
    dropped: u64,
}

/// One series of the minute. It may end before the last sample: then it had no later value.
#[derive(Debug)]
struct Column {
    kind: SeriesKind,
    values: Vec<f64>,
}

impl Recorder {
    /// Records in this boot.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        Self { boot, at: Vec::with_capacity(ROWS_MAX), ..Self::default() }
    }

    /// Begins a sample, whose readings follow. Gives the chunk that came before it, if that is full.
    pub fn begin(&mut self, sample: &Sample) -> Option<Vec<u8>> {
        let is_full = self.at.len() >= ROWS_MAX
            || self
                .at
                .first()
                .is_some_and(|first| sample.at.since(*first) >= CHUNK || sample.at.boot_ns < first.boot_ns);
        let chunk = is_full.then(|| self.tail().unwrap_or_default());
        if is_full || self.at.is_empty() {
            self.chosen.choose(sample);
            self.forget();
        }
        self.at.push(sample.at);
        self.left_out = 0;
        self.table.rewind();
        if let Some(times) = &sample.cpu {
            cpu_seconds(times, &mut |mode, seconds| {
                self.put("node_cpu_seconds_total", &[("mode", mode)], SeriesKind::Counter, seconds);
            });
        }
        chunk
    }

    /// Records a reading of the sample that was begun, if it is one of those that are.
    pub fn reading(&mut self, reading: &Reading<'_>) {
        if reading.value.is_finite() && self.chosen.wants(reading) {
            self.put(reading.name, reading.labels, reading.kind, reading.value);
        }
    }

    fn put(&mut self, name: &str, labels: &[(&str, &str)], kind: SeriesKind, value: f64) {
        let has_room = self.table.len() < SERIES_MAX || self.table.contains(name, labels);
        let Some(slot) = has_room.then(|| self.table.slot(name, labels)).flatten() else {
            self.left_out += 1;
            self.dropped += 1;
            return;
        };
        if slot == self.columns.len() {
            self.columns.push(Column { kind, values: Vec::with_capacity(ROWS_MAX) });
        }
        let row = self.at.len().saturating_sub(1);
        let column = &mut self.columns[slot];
        column.kind = kind;
        // Of two readings of one name, as of filesystems mounted over one another, the last counts.
        column.values.resize(row, f64::NAN);
        column.values.push(value);
    }

    /// A finding is about this unit: it is recorded from now on.
    pub fn follow(&mut self, unit: &UnitName) {
        self.chosen.follow(unit);
    }

    /// What was recorded since the last chunk, as a chunk; `None` if that is nothing.
    #[must_use]
    pub fn tail(&self) -> Option<Vec<u8>> {
        let columns = self.columns.iter().enumerate();
        let columns: Vec<_> = columns.filter(|(_, column)| !column.values.is_empty()).collect();
        let columns =
            columns.into_iter().map(|(slot, column)| (&**self.table.key(slot), column.kind, &column.values[..]));
        (!self.at.is_empty()).then(|| codec::encode(self.boot, &self.at, self.left_out, columns))
    }

    /// Begins a minute with the series that the last one had and that are still wanted.
    fn forget(&mut self) {
        let (columns, table, chosen) = (&self.columns, &self.table, &self.chosen);
        let is_kept = |slot: usize| !columns[slot].values.is_empty() && chosen.keeps(table.key(slot));
        let kept: Vec<bool> = (0..columns.len()).map(is_kept).collect();
        if kept.contains(&false) {
            self.table.retain(|slot| kept[slot]);
            let mut kept = kept.iter();
            self.columns.retain(|_| kept.next().is_some_and(|is_kept| *is_kept));
        }
        self.columns.iter_mut().for_each(|column| column.values.clear());
        self.at.clear();
    }

    /// How many readings were left out because there are too many series ([`SERIES_MAX`]), since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The boot that is recorded.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Where its buffers are and how large.
    #[cfg(test)]
    pub(super) fn buffers(&self) -> Vec<(*const f64, usize)> {
        self.columns.iter().map(|column| (column.values.as_ptr(), column.values.capacity())).collect()
    }
}
