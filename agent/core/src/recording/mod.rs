//! The flight recorder: one-second samples of the last hour, and the seconds around a finding.
//!
//! In: every reading of every sample, and the findings that open. Out: a chunk of bytes whenever a minute is full, which
//! the shell keeps in a ring on disk, and a [`Window`] for each finding, to be cut out of that ring once what came after
//! the opening has been seen too.
//!
//! `recorder.rs` holds the minute that is not full yet, `chosen.rs` says which series are recorded, `codec.rs` is a
//! chunk as bytes, `cut.rs` joins chunks to one [`Recording`], `windows.rs` says which findings get one, `about.rs`
//! which series a finding is about, and `taken.rs` is what is taken down of a sample for it and for the summary.
//!
//! Invariant: whatever a host has, a minute is at most [`SERIES_MAX`] series of [`ROWS_MAX`] samples, and nothing is
//! allocated for a sample but when a series is new or a minute begins.

mod about;
mod chosen;
mod codec;
mod cut;
mod recorder;
mod taken;
mod windows;

#[cfg(test)]
mod tests;

use crate::id::{BootId, FindingId};
use crate::readings::SeriesKind;
use crate::series::SeriesKey;
use crate::time::Now;

pub use about::About;
pub use codec::{BadRecording, shortened};
pub use cut::{Cut, Filling, Span};
pub use recorder::Recorder;
pub use taken::TakenDown;
pub use windows::{AFTER, BEFORE, WINDOW_SERIES_MAX, WINDOWS_PER_HOUR_MAX, Window, Windows};

/// Most series of one minute: what a host of some thirty disks and interfaces has, and its 64 busiest units.
pub const SERIES_MAX: usize = 768;

/// Most samples of one chunk.
pub const ROWS_MAX: usize = 60;

/// Most samples of what is joined from chunks: more than an hour of them, once a second.
pub const JOINED_ROWS_MAX: usize = 4_096;

/// Most values that are held of what is joined from chunks: 2 MiB of them.
pub const JOINED_VALUES_MAX: usize = 256 * 1_024;

/// Most bytes of the seconds around one finding: far from holding up what is sent behind them.
pub const WINDOW_BYTES_MAX: usize = 192 * 1_024;

/// What was sampled over a stretch of time, second by second.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recording {
    /// The boot of its last sample.
    pub boot: BootId,
    /// When each sample was taken, oldest first; the boot clock to the millisecond.
    pub at: Vec<Now>,
    /// What was recorded. Of a finding's window, what the finding is about stands first.
    pub series: Vec<Recorded>,
    /// How many series there were besides.
    pub left_out: u32,
}

/// One series of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Which.
    pub key: SeriesKey,
    /// How it behaves.
    pub kind: SeriesKind,
    /// A value for each sample; NaN where there was none.
    pub values: Vec<f64>,
}

/// The seconds around the opening of a finding.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FindingRecording {
    /// Which finding.
    pub finding: FindingId,
    /// When it opened, by the host's wall clock.
    pub opened_ms: i64,
    /// The seconds.
    pub recording: Recording,
}

impl Recording {
    /// As bytes: what [`Recording::decode`] reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let columns = self.series.iter().map(|one| (&one.key, one.kind, &one.values[..]));
        codec::encode(self.boot, &self.at, self.left_out, columns)
    }

    /// Leaves out its last series until it has at most so many bytes, and gives these.
    pub fn fit(&mut self, bytes_max: usize) -> Vec<u8> {
        loop {
            let bytes = self.encode();
            let count = self.series.len();
            if bytes.len() <= bytes_max || count == 0 {
                return bytes;
            }
            let fitting = count.saturating_mul(bytes_max) / bytes.len();
            self.series.truncate(fitting.min(count - 1));
            let gone = u32::try_from(count - self.series.len()).unwrap_or(u32::MAX);
            self.left_out = self.left_out.saturating_add(gone);
        }
    }

    /// Reads what was encoded.
    ///
    /// # Errors
    /// Where the bytes are none, or say more than [`JOINED_ROWS_MAX`] or [`JOINED_VALUES_MAX`] allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecording> {
        let chunk = codec::parse(bytes)?;
        let rows = chunk.at.len();
        if chunk.entries.len().saturating_mul(rows) > JOINED_VALUES_MAX {
            return Err(BadRecording { what: "the number of values" });
        }
        let read = |entry: codec::Entry<'_>| {
            let values = entry.values(rows)?;
            Ok(Recorded { key: entry.key, kind: entry.kind, values })
        };
        let series = chunk.entries.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { boot: chunk.boot, at: chunk.at, series, left_out: chunk.left_out })
    }
}

impl Recorded {
    /// What is shown of it: a gauge as it is, a counter as its growth per second since the sample before. NaN where it is
    /// not known, and where a counter began anew.
    #[must_use]
    pub fn shown(&self, at: &[Now]) -> Vec<f64> {
        if self.kind == SeriesKind::Gauge {
            return self.values.clone();
        }
        let rate = |n: usize| {
            let (Some(before), Some(value)) = (n.checked_sub(1).and_then(|n| self.values.get(n)), self.values.get(n))
            else {
                return f64::NAN;
            };
            let grown = value - before;
            let passed = at[n].since(at[n - 1]).as_secs_f64();
            if grown >= 0.0 && passed > 0.0 { grown / passed } else { f64::NAN }
        };
        (0..at.len()).map(rate).collect()
    }
}
