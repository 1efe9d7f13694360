//! A summary as columns: what changed since the summary before, each kind of number in a row of its own.
//!
//! Both sides of a session remember the series of the summary before, in the order of their keys, and how each was
//! written last. In: summaries in the order in which they are sent. Out: bytes that give the same summaries again, bit by
//! bit, if they are read in that order. The reader believes nothing: any bytes give a summary or an error, and never more
//! series than the session has defined.
//!
//! ```text
//! summary = flags u8 | boot_ns, wall_ms: second differences | window_ms, samples: differences
//!         | [edits of the series: removed n, gaps … | inserted n, (gap, id) …]          where flag 1 is set
//!         | which series changed: a bitmap, xor the one before | forms n, (gap, form u8) …
//!         | counters … | gauges: last … | last - min … | max - last … | sum - samples × last … | [ulps of the mean …]
//!         | what is neither: bits xor the bits before, byte by byte over all
//! form    = gauge 16 | decimal places 0 to 9; units of 512, 1024, 4096: 10 to 12; or 15: neither
//! ```
//!
//! All numbers are zigzag varints, a value times ten to the power of its places or divided by its unit: memory comes in pages.
//! Units are written only to readers with the capability `units`. A series is written in the form it had
//! before unless `forms` says otherwise. Counters are second differences where flag 2 is set, else first ones. A mean is
//! the sum of the window over its samples; what rounding left of it are the ulps, none where flag 4 is not set. A series
//! that did not change has the value it had at the end of the summary before, a gauge throughout the window.
//!
//! Where flag 8 is set what follows the edits is *coded* instead (`coded.rs`), for readers with the capability `coded`:
//!
//! ```text
//! summary = flags u8 | [edits] | bits: clocks, then for each series whether it changed [form] [step] [how a gauge went]
//! bits    = decisions of an arithmetic coder, each at the price of its chance, which both sides learn (`chance.rs`)
//! ```

mod chance;
mod clocks;
mod coded;
mod entry;
mod odds;
mod reader;
mod rows;
mod seen;
mod way;

use std::sync::Arc;

use mainstay_core::series::Summary;
use prost::encoding::encode_varint;

use self::chance::{BitReader, BitWriter};
use self::clocks::Clocks;
pub(super) use self::entry::Entry;
use self::entry::{NOWHERE, form_of};
use self::odds::Odds;
use self::reader::{Reader, bad, short};
use self::rows::Rows;
use super::series::{Definitions, Dictionary, Form};
use super::{ConvertError, Problem};
use crate::v1;

const EDITED: u8 = 1;
const SECOND: u8 = 2;
const ULPS: u8 = 4;
const CODED: u8 = 8;

/// The state of one side. Both begin with an empty one.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    entries: Vec<Entry>,
    clocks: Clocks,
    odds: Odds,
}

impl Columns {
    /// The series of the summary before, in the order of their keys.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes a summary, whose points are sorted by their series, in a form other than lists. Definitions that the reader needs
    /// first are added to `define`.
    pub(super) fn write(
        &mut self,
        summary: &Summary,
        form: Form,
        dictionary: &mut Dictionary,
        define: &mut Vec<v1::SeriesDef>,
    ) -> Vec<u8> {
        let mut flags = 0;
        let mut edits = Vec::new();
        if !self.is_of(summary) {
            flags |= EDITED;
            self.edit(summary, dictionary, define, &mut edits);
        }
        if form == Form::Coded {
            let mut bits = BitWriter::behind([&[flags | CODED][..], &edits].concat());
            // Only a reader finds anything wrong.
            let _ = self.code(&mut bits, Some(summary), |_, _| {});
            return bits.end();
        }
        let units = form == Form::Units;
        let mut body = Vec::new();
        let (mut bitmap, mut forms, mut rows) = (vec![0; self.entries.len().div_ceil(8)], Vec::new(), Rows::default());
        let mut gap = 0;
        for (at, (entry, (_, point))) in self.entries.iter_mut().zip(&summary.points).enumerate() {
            let changed = !entry.is_same(point);
            bitmap[at / 8] |= u8::from(changed != entry.changed) << (at % 8);
            entry.changed = changed;
            gap += 1;
            if !changed {
                entry.step = 0;
                continue;
            }
            let form = entry.form_for(point, summary.samples, units);
            if form != entry.form {
                forms.push((gap - 1, form));
                gap = 0;
                entry.reform(form);
            }
            entry.settled = true;
            rows.add(entry, point, summary.samples);
        }
        body.extend(&bitmap);
        encode_varint(forms.len() as u64, &mut body);
        for (gap, form) in forms {
            encode_varint(gap, &mut body);
            body.push(form);
        }
        flags |= rows.write(&mut body);
        let mut out = vec![flags];
        self.clocks.write(summary, &mut out);
        out.extend(edits);
        out.extend(body);
        out
    }

    /// Whether the series of a summary are those of the one before.
    fn is_of(&self, summary: &Summary) -> bool {
        self.entries.len() == summary.points.len()
            && self.entries.iter().zip(&summary.points).all(|(entry, (key, _))| entry.key == *key)
    }

    /// Makes the series those of a summary, and writes how.
    fn edit(
        &mut self,
        summary: &Summary,
        dictionary: &mut Dictionary,
        define: &mut Vec<v1::SeriesDef>,
        out: &mut Vec<u8>,
    ) {
        let (mut removed, mut inserted) = (Vec::new(), Vec::new());
        let mut before = std::mem::take(&mut self.entries).into_iter().peekable();
        let (mut kept, mut old) = (0, 0);
        for (key, _) in &summary.points {
            while before.next_if(|entry| entry.key < *key).is_some() {
                removed.push(old);
                old = 0;
            }
            if let Some(entry) = before.next_if(|entry| entry.key == *key) {
                old += 1;
                kept += 1;
                self.entries.push(entry);
            } else {
                inserted.push((kept, dictionary.id(key, define)));
                kept = 0;
                self.entries.push(Entry::new(Arc::clone(key)));
            }
        }
        for _ in before {
            removed.push(old);
            old = 0;
        }
        self.renumber();
        encode_varint(removed.len() as u64, out);
        removed.into_iter().for_each(|gap| encode_varint(gap, out));
        encode_varint(inserted.len() as u64, out);
        for (gap, id) in inserted {
            encode_varint(gap, out);
            encode_varint(id.into(), out);
        }
    }

    /// Reads a summary. After an error the state is of no use any more: the session has to end.
    ///
    /// # Errors
    /// If the bytes are none that [`Columns::write`] would have written.
    pub(super) fn read(&mut self, bytes: &[u8], definitions: &Definitions) -> Result<Summary, ConvertError> {
        let mut reader = Reader { rest: bytes };
        let flags = reader.byte("flags")?;
        if flags & !(EDITED | SECOND | ULPS | CODED) != 0 || flags & CODED != 0 && flags & (SECOND | ULPS) != 0 {
            return Err(bad("flags", format!("{flags:#x} has bits that this build does not know")));
        }
        if flags & CODED == 0 {
            self.clocks.read(&mut reader)?;
        }
        if flags & EDITED != 0 {
            self.read_edits(&mut reader, definitions)?;
        }
        if flags & CODED != 0 {
            return self.read_coded(reader.rest);
        }
        self.read_changes(&mut reader)?;
        let samples = self.clocks.samples;
        let mut rows = Rows::read(&mut reader, flags, &self.entries)?;
        if !reader.rest.is_empty() {
            return Err(bad("columns", format!("{} bytes follow the summary", reader.rest.len())));
        }
        let mut points = Vec::with_capacity(self.entries.len());
        for entry in &mut self.entries {
            let point = if entry.changed {
                rows.take(entry, samples)
            } else {
                entry.step = 0;
                entry.same()
            };
            points.push((Arc::clone(&entry.key), point));
        }
        Ok(Summary { at: self.clocks.at, window_ms: self.clocks.window_ms, samples, points })
    }

    fn read_coded(&mut self, bytes: &[u8]) -> Result<Summary, ConvertError> {
        let (mut bits, mut points) = (BitReader::new(bytes), Vec::with_capacity(self.entries.len()));
        self.code(&mut bits, None, |key, point| points.push((Arc::clone(key), point)))?;
        bits.end().map_err(|over| match over {
            1.. => bad("columns", format!("{over} bytes follow the summary")),
            0 => bad("columns", "its last byte is another than a writer's".to_owned()),
            _ => short("columns"),
        })?;
        Ok(Summary { at: self.clocks.at, window_ms: self.clocks.window_ms, samples: self.clocks.samples, points })
    }

    /// Says of each series where it is now, and where its twin is, if that is still there.
    fn renumber(&mut self) {
        let known =
            self.entries.iter().filter(|entry| entry.at != NOWHERE).map(|entry| usize::from(entry.at) + 1).max();
        let mut moved = vec![NOWHERE; known.unwrap_or(0)];
        for (at, entry) in (0..NOWHERE).zip(&self.entries).filter(|(_, entry)| entry.at != NOWHERE) {
            moved[usize::from(entry.at)] = at;
        }
        for (at, entry) in (0..).zip(&mut self.entries) {
            entry.at = u16::try_from(at).unwrap_or(NOWHERE);
            entry.twin = moved.get(usize::from(entry.twin)).copied().unwrap_or(NOWHERE);
            if entry.twin == NOWHERE {
                entry.score = 0;
            }
        }
    }

    fn read_edits(&mut self, reader: &mut Reader<'_>, definitions: &Definitions) -> Result<(), ConvertError> {
        let mut before = std::mem::take(&mut self.entries).into_iter();
        for _ in 0..reader.count("removed")? {
            let gap = reader.gap("removed", before.len())?;
            self.entries.extend(before.by_ref().take(gap));
            before.next();
        }
        self.entries.extend(before);
        let mut before = std::mem::take(&mut self.entries).into_iter();
        for _ in 0..reader.count("inserted")? {
            let gap = reader.gap("inserted", before.len() + 1)?;
            let id = u32::try_from(reader.varint("inserted")?).unwrap_or(u32::MAX);
            let unknown = || ConvertError::new("inserted", Problem::Unknown(format!("series {id}")));
            let key = definitions.key(id).ok_or_else(unknown)?;
            self.entries.extend(before.by_ref().take(gap));
            self.entries.push(Entry::new(Arc::clone(key)));
        }
        self.entries.extend(before);
        // Each key once, so that there are never more series than were defined.
        if let Some(pair) = self.entries.windows(2).find(|pair| pair[0].key >= pair[1].key) {
            return Err(bad("inserted", format!("{} does not come before {}", pair[0].key, pair[1].key)));
        }
        // They change rarely, and a collector has them of ten thousand sessions.
        self.entries.shrink_to_fit();
        self.renumber();
        Ok(())
    }

    fn read_changes(&mut self, reader: &mut Reader<'_>) -> Result<(), ConvertError> {
        let bitmap = reader.bytes("changed", self.entries.len().div_ceil(8))?;
        for (at, entry) in self.entries.iter_mut().enumerate() {
            entry.changed ^= bitmap[at / 8] >> (at % 8) & 1 == 1;
        }
        let mut entries = self.entries.iter_mut();
        for _ in 0..reader.count("forms")? {
            let gap = reader.gap("forms", entries.len())?;
            let form = reader.byte("forms")?;
            let form = form_of(form).ok_or_else(|| bad("forms", format!("{form:#x} is no form")))?;
            let entry = entries.nth(gap).filter(|entry| entry.changed);
            entry.ok_or_else(|| bad("forms", "the form of a series that did not change".to_owned()))?.reform(form);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
