//! Chunks joined to one recording, in two passes over them: what there is, then the values that are wanted.
//!
//! So that an hour of everything is never in memory: after the first pass the series are known, the most wanted of them
//! are chosen, and the second pass reads the values of those alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{BadRecording, JOINED_ROWS_MAX, JOINED_VALUES_MAX, Recorded, Recording, codec};
use crate::id::BootId;
use crate::readings::SeriesKind;
use crate::series::SeriesKey;
use crate::time::Now;

/// A stretch of time. Samples of its boot are held against the boot clock, so that a wall clock that jumps loses none;
/// those of other boots against the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The boot that its moments are of.
    pub boot: BootId,
    /// Its first moment …
    pub from: Now,
    /// … and its last.
    pub to: Now,
}

impl Span {
    /// So long until now.
    #[must_use]
    pub fn until(boot: BootId, now: Now, last: Duration) -> Self {
        let ns = u64::try_from(last.as_nanos()).unwrap_or(u64::MAX);
        let ms = i64::try_from(last.as_millis()).unwrap_or(i64::MAX);
        let from = Now { boot_ns: now.boot_ns.saturating_sub(ns), wall_ms: now.wall_ms.saturating_sub(ms) };
        Self { boot, from, to: now }
    }

    fn holds(&self, boot: BootId, at: Now) -> bool {
        if boot == self.boot {
            (self.from.boot_ns..=self.to.boot_ns).contains(&at.boot_ns)
        } else {
            (self.from.wall_ms..=self.to.wall_ms).contains(&at.wall_ms)
        }
    }
}

/// The first pass.
#[derive(Debug)]
pub struct Cut {
    span: Span,
    boot: BootId,
    at: Vec<Now>,
    found: BTreeMap<(u16, SeriesKey), SeriesKind>,
    left_out: u32,
}

impl Cut {
    /// Begins.
    #[must_use]
    pub fn new(span: Span) -> Self {
        Self { span, boot: span.boot, at: Vec::new(), found: BTreeMap::new(), left_out: 0 }
    }

    /// Looks at a chunk; they come oldest first. `rank` says which of its series are wanted, the least first.
    ///
    /// # Errors
    /// Where the bytes are no chunk: it counts as not being there.
    pub fn look(&mut self, chunk: &[u8], rank: &dyn Fn(&SeriesKey) -> Option<u16>) -> Result<(), BadRecording> {
        let chunk = codec::parse(chunk)?;
        let before = self.at.len();
        self.at.extend(chunk.at.iter().filter(|at| self.span.holds(chunk.boot, **at)));
        if self.at.len() == before {
            return Ok(());
        }
        self.boot = chunk.boot;
        self.left_out = self.left_out.max(chunk.left_out);
        for entry in chunk.entries {
            if let Some(rank) = rank(&entry.key) {
                self.found.insert((rank, entry.key), entry.kind);
            }
        }
        Ok(())
    }

    /// How many series are wanted in all.
    #[must_use]
    pub fn found(&self) -> usize {
        self.found.len()
    }

    /// How many series one recording of this stretch can have.
    #[must_use]
    pub fn series_max(&self) -> usize {
        JOINED_VALUES_MAX / self.at.len().clamp(1, JOINED_ROWS_MAX)
    }

    /// Chooses at most `limit` series after the first `from`, and begins the second pass.
    #[must_use]
    pub fn choose(self, from: usize, limit: usize) -> Filling {
        let limit = limit.min(self.series_max());
        let found = self.found.len();
        // What is too old for the bound on samples goes.
        let surplus = self.at.len().saturating_sub(JOINED_ROWS_MAX);
        let rows = self.at.len() - surplus;
        let chosen = self.found.into_iter().skip(from).take(limit);
        let series: Vec<_> =
            chosen.map(|((_, key), kind)| Recorded { key, kind, values: vec![f64::NAN; rows] }).collect();
        let slots = series.iter().enumerate().map(|(slot, one)| (one.key.clone(), slot)).collect();
        let unshown = found.saturating_sub(from).saturating_sub(series.len());
        let left_out = self.left_out.saturating_add(u32::try_from(unshown).unwrap_or(u32::MAX));
        let recording = Recording { boot: self.boot, at: self.at[surplus..].to_vec(), series, left_out };
        Filling { span: self.span, surplus, row: 0, slots, recording }
    }
}

/// The second pass.
#[derive(Debug)]
pub struct Filling {
    span: Span,
    /// Samples that are passed over: the oldest.
    surplus: usize,
    /// Samples that were filled or passed over yet.
    row: usize,
    slots: BTreeMap<SeriesKey, usize>,
    recording: Recording,
}

impl Filling {
    /// Takes the values of a chunk: the same chunks in the same order as in the first pass.
    ///
    /// # Errors
    /// Where the bytes are no chunk.
    pub fn fill(&mut self, chunk: &[u8]) -> Result<(), BadRecording> {
        let chunk = codec::parse(chunk)?;
        let rows = chunk.at.len();
        let inside: Vec<usize> = (0..rows).filter(|row| self.span.holds(chunk.boot, chunk.at[*row])).collect();
        let first = self.row;
        self.row += inside.len();
        if inside.is_empty() {
            return Ok(());
        }
        for entry in chunk.entries {
            let Some(slot) = self.slots.get(&entry.key) else { continue };
            let values = entry.values(rows)?;
            let to = &mut self.recording.series[*slot].values;
            for (row, from) in (first..).zip(&inside) {
                if let Some(to) = row.checked_sub(self.surplus).and_then(|row| to.get_mut(row)) {
                    *to = values[*from];
                }
            }
        }
        Ok(())
    }

    /// The recording.
    #[must_use]
    pub fn finish(self) -> Recording {
        self.recording
    }
}
