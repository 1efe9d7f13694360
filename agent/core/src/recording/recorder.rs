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

/// What became of a series that a number stands for, so that it is looked up once and not in every sample.
#[derive(Debug, Clone, Copy)]
enum Known {
    Nothing,
    NotRecorded,
    Column(u32),
}

/// Records readings, sample by sample.
#[derive(Debug, Default)]
pub struct Recorder {
    boot: BootId,
    table: SeriesTable,
    /// By slot of the table.
    columns: Vec<Column>,
    at: Vec<Now>,
    /// The values of each sample by slot, no number where there was none. What is taken down of one sample lies together, as
    /// it is written, and becomes columns once a minute.
    rows: Vec<Vec<f64>>,
    chosen: Chosen,
    /// What is known of series by their numbers, and the layout that gave these.
    known: Vec<Known>,
    layout: u64,
    /// Whether the sample in hand may have what the one before had.
    may_repeat: bool,
    /// The columns of CPU time by mode, in the order in which modes come.
    modes: Vec<usize>,
    /// Readings of the last sample for which there was no room, and of all samples.
    left_out: u32,
    dropped: u64,
}

/// One series of the minute.
#[derive(Debug)]
struct Column {
    kind: SeriesKind,
    /// What it was in this minute, if it has a value in it.
    seen: Option<Seen>,
}

/// What a series was in a minute. Most never change, and their values need not be looked for sample by sample. Small, as all
/// of them are gone through in every sample.
#[derive(Debug, Clone, Copy)]
struct Seen {
    value: f64,
    /// The first and the last sample that had it, by their places.
    first: u8,
    last: u8,
    /// Whether it was this very value from the first to the last.
    is_steady: bool,
}

impl Seen {
    fn begun(sample: usize, value: f64) -> Self {
        Self { value, first: place(sample), last: place(sample), is_steady: true }
    }

    fn add(&mut self, sample: usize, value: f64) {
        self.is_steady &= sample <= self.last() + 1 && value.to_bits() == self.value.to_bits();
        self.last = place(sample);
    }

    fn first(&self) -> usize {
        self.first.into()
    }

    fn last(&self) -> usize {
        self.last.into()
    }
}

/// The place of a sample in its minute, which has fewer than [`ROWS_MAX`] before it.
fn place(sample: usize) -> u8 {
    const { assert!(ROWS_MAX <= u8::MAX as usize) };
    u8::try_from(sample).unwrap_or(u8::MAX)
}

impl Recorder {
    /// Records in this boot.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        let table = SeriesTable::with_room(SERIES_MAX);
        Self { boot, table, at: Vec::with_capacity(ROWS_MAX), ..Self::default() }
    }

    /// Begins a sample, whose readings follow with the numbers of `layout`: while it is the same, so is the series that a
    /// number stands for. Gives the chunk that came before the sample, if that is full.
    pub fn begin(&mut self, sample: &Sample, layout: u64) -> Option<Vec<u8>> {
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
        if self.rows.len() < self.at.len() {
            self.rows.push(Vec::with_capacity(self.columns.len()));
        }
        self.left_out = 0;
        if std::mem::replace(&mut self.layout, layout) != layout {
            self.known.clear();
        }
        // What is known by now is of the sample before, and of this minute.
        self.may_repeat = !self.known.is_empty();
        if let Some(times) = &sample.cpu {
            let mut at = 0;
            cpu_seconds(times, &mut |mode, seconds| {
                self.mode(at, mode, seconds);
                at += 1;
            });
        }
        chunk
    }

    /// Records a reading of the sample that was begun, if it is one of those that are. `series` is the number of its series,
    /// where it has one.
    pub fn reading(&mut self, series: Option<usize>, reading: &Reading<'_>) {
        if !reading.value.is_finite() {
            return;
        }
        let column = match series.and_then(|series| self.known.get(series)).unwrap_or(&Known::Nothing) {
            Known::NotRecorded => return,
            Known::Column(column) => Some(*column as usize),
            Known::Nothing if !self.chosen.wants(reading) => return self.remember(series, Known::NotRecorded),
            Known::Nothing => {
                let column = self.column(reading.name, reading.labels, reading.kind);
                let known = column.and_then(|column| u32::try_from(column).ok());
                self.remember(series, known.map_or(Known::Nothing, Known::Column));
                column
            }
        };
        self.put(column, reading.kind, reading.value);
    }

    /// Whether series of the sample that was begun can be recorded by [`Self::again`].
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        self.may_repeat
    }

    /// Records the series with this number as it was in the sample before, if it is one of those that are recorded.
    pub fn again(&mut self, series: usize) {
        match self.known.get(series).unwrap_or(&Known::Nothing) {
            Known::NotRecorded => {}
            Known::Nothing => self.no_room(),
            Known::Column(column) => {
                let (sample, slot) = (self.at.len() - 1, *column as usize);
                let Some(seen) = self.columns[slot].seen.as_mut().filter(|seen| seen.last() + 1 == sample) else {
                    return;
                };
                seen.last = place(sample);
                let (before, row) = self.rows.split_at_mut(sample);
                let (before, row) = (&before[sample - 1], &mut row[0]);
                if slot >= row.len() {
                    row.resize(self.columns.len(), f64::NAN);
                }
                row[slot] = before[slot];
            }
        }
    }

    fn remember(&mut self, series: Option<usize>, known: Known) {
        let Some(series) = series else { return };
        if series >= self.known.len() {
            self.known.resize(series + 1, Known::Nothing);
        }
        self.known[series] = known;
    }

    fn mode(&mut self, at: usize, mode: &str, seconds: f64) {
        let column = self.modes.get(at).copied().or_else(|| {
            let column = self.column("node_cpu_seconds_total", &[("mode", mode)], SeriesKind::Counter);
            // Only in their order, so that a place stands for a mode.
            self.modes.extend(column.filter(|_| self.modes.len() == at));
            column
        });
        self.put(column, SeriesKind::Counter, seconds);
    }

    /// The column of a series; made where there is none and there is room.
    fn column(&mut self, name: &str, labels: &[(&str, &str)], kind: SeriesKind) -> Option<usize> {
        let slot = self.table.add(name, labels)?;
        if slot == self.columns.len() {
            self.columns.push(Column { kind, seen: None });
        }
        Some(slot)
    }

    fn put(&mut self, column: Option<usize>, kind: SeriesKind, value: f64) {
        let Some(slot) = column else { return self.no_room() };
        let Some(sample) = self.at.len().checked_sub(1) else { return };
        let column = &mut self.columns[slot];
        column.kind = kind;
        match &mut column.seen {
            Some(seen) => seen.add(sample, value),
            None => column.seen = Some(Seen::begun(sample, value)),
        }
        let row = &mut self.rows[sample];
        if slot >= row.len() {
            row.resize(self.columns.len(), f64::NAN);
        }
        // Of two readings of one name, as of filesystems mounted over one another, the last counts.
        row[slot] = value;
    }

    fn no_room(&mut self) {
        self.left_out += 1;
        self.dropped += 1;
    }

    /// A finding is about this unit: it is recorded from now on.
    pub fn follow(&mut self, unit: &UnitName) {
        self.chosen.follow(unit);
        self.known.clear();
    }

    /// What was recorded since the last chunk, as a chunk; `None` if that is nothing.
    #[must_use]
    pub fn tail(&self) -> Option<Vec<u8>> {
        let seen = |(slot, column): (usize, &Column)| Some((slot, column.kind, column.seen?));
        let columns: Vec<_> = self.columns.iter().enumerate().filter_map(seen).collect();
        let columns =
            columns.into_iter().map(|(slot, kind, seen)| (&**self.table.key(slot), kind, self.values(slot, seen)));
        (!self.at.is_empty()).then(|| codec::encode(self.boot, &self.at, self.left_out, columns))
    }

    /// The values of a series up to its last one.
    fn values(&self, slot: usize, seen: Seen) -> Vec<f64> {
        if seen.is_steady {
            let mut values = vec![f64::NAN; seen.first()];
            values.resize(seen.last() + 1, seen.value);
            return values;
        }
        let rows = self.rows.iter().take(seen.last() + 1);
        rows.map(|row| row.get(slot).copied().unwrap_or(f64::NAN)).collect()
    }

    /// Begins a minute with the series that the last one had and that are still wanted.
    fn forget(&mut self) {
        let (columns, table, chosen) = (&self.columns, &self.table, &self.chosen);
        let is_kept = |slot: usize| columns[slot].seen.is_some() && chosen.keeps(table.key(slot));
        let kept: Vec<bool> = (0..columns.len()).map(is_kept).collect();
        if kept.contains(&false) {
            self.table.retain(|slot| kept[slot]);
            let mut kept = kept.iter();
            self.columns.retain(|_| kept.next().is_some_and(|is_kept| *is_kept));
            self.modes.clear();
        }
        self.known.clear();
        self.columns.iter_mut().for_each(|column| column.seen = None);
        self.rows.iter_mut().for_each(Vec::clear);
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
        self.rows.iter().map(|row| (row.as_ptr(), row.capacity())).collect()
    }
}
