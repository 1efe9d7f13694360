//! A recording as bytes: who and when, then each series with its column.
//!
//! Layout 1: version, boot id, number of samples, their boot and wall milliseconds as columns of whole numbers, how many
//! series were left out, number of series; each is its kind, name, labels, which samples it has as runs, and the length
//! and bytes of its values. A reader that wants some series passes over the rest without reading their values. Reading
//! never trusts a length.

use crate::columns::{has_scale, read_column, read_ints, read_varint, whole, write_column, write_ints, write_varint};
use crate::id::BootId;
use crate::readings::SeriesKind;
use crate::series::SeriesKey;
use crate::time::Now;

use super::{JOINED_ROWS_MAX, SERIES_MAX};

const VERSION: u8 = 1;
/// Longest name, label name or label value.
const TEXT_BYTES_MAX: usize = 4_096;
/// Most labels of a series.
const LABELS_MAX: usize = 16;
/// Values of a column as [`write_column`] has them, or as whole millionths: the kernel counts CPU time and pressure so.
const PLAIN: u8 = 0;
const MILLIONTHS: u8 = 1;
const NS_PER_MS: u64 = 1_000_000;

/// Bytes that are no recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a recording cannot be read at {what}")]
pub struct BadRecording {
    /// What was being read.
    pub what: &'static str,
}

/// A recording whose values are not read yet.
#[derive(Debug)]
pub(super) struct Chunk<'b> {
    pub(super) boot: BootId,
    pub(super) at: Vec<Now>,
    pub(super) left_out: u32,
    pub(super) entries: Vec<Entry<'b>>,
}

/// One series of it.
#[derive(Debug)]
pub(super) struct Entry<'b> {
    pub(super) key: SeriesKey,
    pub(super) kind: SeriesKind,
    /// First sample and number of samples of each run that it has values for.
    runs: Vec<(usize, usize)>,
    column: &'b [u8],
    /// All bytes of this entry.
    raw: &'b [u8],
}

impl Entry<'_> {
    /// A value for each of `rows` samples, NaN where there is none.
    pub(super) fn values(&self, rows: usize) -> Result<Vec<f64>, BadRecording> {
        let count = self.runs.iter().map(|(_, len)| len).sum();
        let present = read_values(self.column, count).ok_or(BadRecording { what: "values" })?;
        let mut values = vec![f64::NAN; rows];
        let mut rest = &present[..];
        for (first, len) in &self.runs {
            let (head, tail) = rest.split_at(*len);
            values[*first..first + len].copy_from_slice(head);
            rest = tail;
        }
        Ok(values)
    }
}

/// Writes a recording. Values that are no number are left out.
pub(super) fn encode<'a>(
    boot: BootId,
    at: &[Now],
    left_out: u32,
    series: impl ExactSizeIterator<Item = (&'a SeriesKey, SeriesKind, impl AsRef<[f64]>)>,
) -> Vec<u8> {
    let mut out = head(boot, at, left_out, series.len());
    let (mut present, mut column) = (Vec::with_capacity(at.len()), Vec::new());
    for (key, kind, values) in series {
        let values = values.as_ref();
        out.push(u8::from(kind == SeriesKind::Gauge));
        write_text(&mut out, &key.name);
        write_varint(&mut out, key.labels.len() as u64);
        for (name, value) in &key.labels {
            write_text(&mut out, name);
            write_text(&mut out, value);
        }
        write_runs(&mut out, values);
        column.clear();
        if is_whole(values) {
            write_values(&mut column, values);
        } else {
            present.clear();
            present.extend(values.iter().copied().filter(|value| value.is_finite()));
            write_values(&mut column, &present);
        }
        write_varint(&mut out, column.len() as u64);
        out.extend_from_slice(&column);
    }
    out
}

fn head(boot: BootId, at: &[Now], left_out: u32, series: usize) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&boot.0);
    write_varint(&mut out, at.len() as u64);
    let boot_ms = at.iter().map(|at| i64::try_from(at.boot_ns / NS_PER_MS).unwrap_or(i64::MAX));
    write_ints(&mut out, &boot_ms.collect::<Vec<_>>(), 0);
    write_ints(&mut out, &at.iter().map(|at| at.wall_ms).collect::<Vec<_>>(), 0);
    write_varint(&mut out, u64::from(left_out));
    write_varint(&mut out, series as u64);
    out
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    write_varint(out, end as u64);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Whether all are numbers, as in most series.
fn is_whole(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// The runs of values that are numbers: how many, then for each how many are passed over and how many it has.
fn write_runs(out: &mut Vec<u8>, values: &[f64]) {
    if !values.is_empty() && is_whole(values) {
        return [1, 0, values.len() as u64].into_iter().for_each(|number| write_varint(out, number));
    }
    let is_new_run = |n: &usize| values[*n].is_finite() && n.checked_sub(1).is_none_or(|n| !values[n].is_finite());
    write_varint(out, (0..values.len()).filter(is_new_run).count() as u64);
    let mut behind = 0;
    for first in (0..values.len()).filter(is_new_run) {
        let len = values[first..].iter().take_while(|value| value.is_finite()).count();
        write_varint(out, (first - behind) as u64);
        write_varint(out, len as u64);
        behind = first + len;
    }
}

fn write_values(out: &mut Vec<u8>, values: &[f64]) {
    let millionths = || values.iter().map(|value| whole(*value, 1e6)).collect::<Option<Vec<_>>>();
    match (!has_scale(values)).then(millionths).flatten() {
        Some(values) => {
            out.push(MILLIONTHS);
            write_ints(out, &values, 0);
        }
        None => {
            out.push(PLAIN);
            write_column(out, values);
        }
    }
}

fn read_values(column: &[u8], count: usize) -> Option<Vec<f64>> {
    let (how, mut rest) = column.split_first()?;
    match *how {
        PLAIN => read_column(&mut rest, count),
        MILLIONTHS => Some(read_ints(&mut rest, count)?.into_iter().map(|value| value as f64 / 1e6).collect()),
        _ => None,
    }
}

/// Reads a recording but for its values.
pub(super) fn parse(bytes: &[u8]) -> Result<Chunk<'_>, BadRecording> {
    let at = |what: &'static str| move || BadRecording { what };
    let (version, rest) = bytes.split_first().ok_or_else(at("its version"))?;
    if *version != VERSION {
        return Err(BadRecording { what: "its version, which is another" });
    }
    let (boot, mut rest) = rest.split_first_chunk::<16>().ok_or_else(at("its boot"))?;
    let rows = read_len(&mut rest, JOINED_ROWS_MAX).ok_or_else(at("the number of samples"))?;
    let boot_ms = read_ints(&mut rest, rows).ok_or_else(at("its times"))?;
    let wall_ms = read_ints(&mut rest, rows).ok_or_else(at("its times"))?;
    let left_out = read_len(&mut rest, usize::MAX).ok_or_else(at("what was left out"))?;
    // What is joined from chunks has the series of all of them.
    let count = read_len(&mut rest, SERIES_MAX * ROWS_JOINED).ok_or_else(at("the number of series"))?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(entry(&mut rest, rows)?);
    }
    let moment = |(boot_ms, wall_ms): (i64, i64)| {
        let boot_ns = u64::try_from(boot_ms).ok()?.checked_mul(NS_PER_MS)?;
        Some(Now { boot_ns, wall_ms })
    };
    let moments: Option<Vec<Now>> = boot_ms.into_iter().zip(wall_ms).map(moment).collect();
    Ok(Chunk {
        boot: BootId(*boot),
        at: moments.ok_or_else(at("its times"))?,
        left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
        entries,
    })
}

/// Chunks that one recording is joined from, at most.
const ROWS_JOINED: usize = JOINED_ROWS_MAX / super::ROWS_MAX + 1;

fn entry<'b>(rest: &mut &'b [u8], rows: usize) -> Result<Entry<'b>, BadRecording> {
    let begin = *rest;
    let read = |rest: &mut &'b [u8]| -> Option<Entry<'b>> {
        let (kind, tail) = rest.split_first()?;
        *rest = tail;
        let kind = match *kind {
            0 => SeriesKind::Counter,
            1 => SeriesKind::Gauge,
            _ => return None,
        };
        let name = read_text(rest)?;
        let mut labels = Vec::new();
        for _ in 0..read_len(rest, LABELS_MAX)? {
            labels.push((read_text(rest)?, read_text(rest)?));
        }
        let (mut runs, mut behind) = (Vec::new(), 0usize);
        for _ in 0..read_len(rest, rows)? {
            let first = behind.checked_add(read_len(rest, rows)?)?;
            let len = read_len(rest, rows)?;
            behind = first.checked_add(len).filter(|end| *end <= rows)?;
            runs.push((first, len));
        }
        let len = read_len(rest, usize::MAX)?;
        let (column, tail) = rest.split_at_checked(len)?;
        *rest = tail;
        let raw = &begin[..begin.len() - rest.len()];
        Some(Entry { key: SeriesKey { name, labels }, kind, runs, column, raw })
    };
    read(rest).ok_or(BadRecording { what: "a series" })
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    let len = read_len(rest, TEXT_BYTES_MAX)?;
    let (text, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    String::from_utf8(text.to_vec()).ok()
}

/// A count or length that is at most so large.
fn read_len(rest: &mut &[u8], max: usize) -> Option<usize> {
    usize::try_from(read_varint(rest)?).ok().filter(|len| *len <= max)
}

/// A chunk without its last series, so that `series` are left: those that matter most stand first.
///
/// # Errors
/// Where the bytes are no chunk.
pub fn shortened(bytes: &[u8], series: usize) -> Result<Vec<u8>, BadRecording> {
    let chunk = parse(bytes)?;
    let kept = &chunk.entries[..series.min(chunk.entries.len())];
    let gone = u32::try_from(chunk.entries.len() - kept.len()).unwrap_or(u32::MAX);
    let mut out = head(chunk.boot, &chunk.at, chunk.left_out.saturating_add(gone), kept.len());
    for entry in kept {
        out.extend_from_slice(entry.raw);
    }
    Ok(out)
}
