//! One file of journald, read as it grows.
//!
//! In: an open file. Out: its lines, each once, in their order. What is there is believed up to the number of entries
//! that the header named at the beginning of a round; a line that is damaged is counted and passed over, a file whose
//! lists of lines are damaged is given up.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use mainstay_core::log::{Line, MESSAGE_BYTES_MAX, Source};
use mainstay_core::parse::journal::{
    self, ARRAY_BYTES, BadJournal, DATA_BYTES, ENTRY_BYTES, EntryArray, Field, HEADER_BYTES, Header, ITEMS_MAX, Packing,
};
use mainstay_core::subject::UnitName;

use super::unpack::{PACKED_BYTES_MAX, Unpack};
use super::window::Window;

/// Most fields of a file that are remembered by where they stand; most lines share most of theirs.
const FIELDS_MAX: usize = 1_024;

/// Most arrays of entries in one file: each is twice as long as the one before.
const ARRAYS_MAX: usize = 64;

/// Bytes of an entry with its most items.
const ENTRY_BYTES_MAX: usize = ENTRY_BYTES + ITEMS_MAX * 16;

/// Bytes of a message that are of use, with its name.
const TEXT_BYTES: usize = MESSAGE_BYTES_MAX + "MESSAGE=".len();

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The kernel says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It holds what journald does not write.
    #[error("{0}")]
    Bad(#[from] BadJournal),
}

/// Buffers that all files share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    window: Window,
    unpack: Unpack,
    items: Vec<u64>,
    text: Vec<u8>,
}

impl Scratch {
    /// Gives back what is needed seldom.
    pub(super) fn rest(&mut self) {
        self.unpack.rest();
    }
}

/// What a field that many lines share says.
#[derive(Debug, Clone)]
enum Known {
    Unit(Option<UnitName>),
    FromKernel,
    Facility(u8),
    Priority(u8),
    Message,
    Other,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// All of it is looked at.
    Whole,
    /// Its text is left out, but for the kernel's.
    Fields,
}

/// What was met while reading.
pub(super) trait Sink {
    /// A line.
    fn line(&mut self, line: Line<'_>);
    /// A line that is damaged.
    fn damaged(&mut self);
    /// Lines that are not looked at.
    fn skip(&mut self, lines: u64);
    /// How the next line is to be looked at; `None`: no further one is.
    fn look(&mut self) -> Option<Look>;
}

/// How far a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// To its end, for now.
    Drained,
    /// Lines of it are left to the next round.
    Behind,
    /// To its end, and nothing will be added.
    Ended,
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: File,
    is_compact: bool,
    /// Lines that were taken or passed over.
    taken: u64,
    /// The array that the next line stands in, its length, and how many of its lines were taken; 0 is none yet.
    array: u64,
    array_len: u64,
    array_taken: u64,
    /// Lines that were there when it was opened: they are not skipped, however long they take.
    backlog: u64,
    fields: BTreeMap<u64, Known>,
}

impl JournalFile {
    /// Follows a file from its first line on.
    pub(super) fn new(file: File) -> Self {
        let (array, array_len, array_taken) = (0, 0, 0);
        Self { file, is_compact: false, taken: 0, array, array_len, array_taken, backlog: 0, fields: BTreeMap::new() }
    }

    /// Passes over the lines up to a moment, microseconds since 1970.
    pub(super) fn seek(&mut self, since_us: u64, scratch: &mut Scratch) -> Result<(), Unreadable> {
        scratch.window.forget();
        let Some(header) = self.header(scratch)? else { return Ok(()) };
        let arrays = self.arrays(&header, scratch)?;
        let there = arrays.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
        let (mut from, mut to) = (0, header.n_entries.min(there));
        while from < to {
            let middle = from + (to - from) / 2;
            if self.time_of(middle, &arrays, scratch)? <= since_us {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        (self.taken, self.backlog) = (from, header.n_entries);
        (self.array, self.array_len, self.array_taken) = (0, 0, 0);
        let mut before = from;
        for (offset, len) in arrays {
            (self.array, self.array_len, self.array_taken) = (offset, len, before.min(len));
            before -= self.array_taken;
            if before == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Reads what was added.
    pub(super) fn read(&mut self, scratch: &mut Scratch, sink: &mut impl Sink) -> Result<Stand, Unreadable> {
        scratch.window.forget();
        let Some(header) = self.header(scratch)? else { return Ok(Stand::Drained) };
        while self.taken < header.n_entries {
            let Some(look) = sink.look() else {
                if self.taken < self.backlog {
                    break;
                }
                sink.skip(header.n_entries - self.taken);
                self.pass(header.n_entries - self.taken, &header, scratch)?;
                break;
            };
            let Some(offset) = self.next_entry(&header, scratch)? else { break };
            match self.line(offset, look, scratch, sink) {
                Ok(()) => {}
                Err(Unreadable::Bad(_)) => sink.damaged(),
                Err(error) => return Err(error),
            }
        }
        Ok(match header.n_entries.cmp(&self.taken) {
            Ordering::Greater => Stand::Behind,
            _ if header.archived => Stand::Ended,
            _ => Stand::Drained,
        })
    }

    /// The header; `None` while journald is still making the file.
    fn header(&mut self, scratch: &mut Scratch) -> Result<Option<Header>, Unreadable> {
        let bytes = scratch.window.peek(&self.file, 0, HEADER_BYTES)?;
        if bytes.len() < HEADER_BYTES || bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = journal::header(bytes)?;
        self.is_compact = header.compact;
        Ok(Some(header))
    }

    /// Where the arrays are, and how many lines each has room for.
    fn arrays(&self, header: &Header, scratch: &mut Scratch) -> Result<Vec<(u64, u64)>, Unreadable> {
        let (mut arrays, mut at, mut there) = (Vec::new(), header.entry_array_offset, 0);
        while at != 0 && there < header.n_entries && arrays.len() < ARRAYS_MAX {
            let array = self.array_at(at, scratch)?;
            arrays.push((at, array.len));
            there = array.len.saturating_add(there);
            at = array.next;
        }
        Ok(arrays)
    }

    fn array_at(&self, at: u64, scratch: &mut Scratch) -> Result<EntryArray, Unreadable> {
        let array = journal::entry_array(scratch.window.peek(&self.file, at, ARRAY_BYTES)?, self.is_compact)?;
        // What is added to a file is added behind: an array that points back would lead in circles.
        if array.next != 0 && array.next <= at {
            return Err(BadJournal::Offset { what: "an array of entries", offset: array.next }.into());
        }
        Ok(array)
    }

    /// Where the entry is that an array has in its `n`th place; 0 while it is being added.
    fn item(&self, array: u64, n: u64, scratch: &mut Scratch) -> Result<u64, Unreadable> {
        let bytes = EntryArray::item_bytes(self.is_compact);
        let at = array.saturating_add(ARRAY_BYTES as u64).saturating_add(n.saturating_mul(bytes));
        let item = scratch.window.peek(&self.file, at, usize::try_from(bytes).unwrap_or(8))?;
        let short = BadJournal::Short { what: "an array of entries" };
        Ok(journal::array_item(item, self.is_compact).ok_or(short)?)
    }

    fn time_of(&self, n: u64, arrays: &[(u64, u64)], scratch: &mut Scratch) -> Result<u64, Unreadable> {
        let mut n = n;
        for (array, len) in arrays {
            if n < *len {
                let offset = self.item(*array, n, scratch)?;
                let bytes = scratch.window.peek(&self.file, offset, ENTRY_BYTES)?;
                return Ok(journal::entry(bytes, self.is_compact)?.realtime_us);
            }
            n -= len;
        }
        Err(BadJournal::Short { what: "the list of entries" }.into())
    }

    /// Moves to the array that the next line stands in; `false` while it is not there.
    fn turn(&mut self, header: &Header, scratch: &mut Scratch) -> Result<bool, Unreadable> {
        while self.array == 0 || self.array_taken >= self.array_len {
            let next = match self.array {
                0 => header.entry_array_offset,
                at => self.array_at(at, scratch)?.next,
            };
            if next == 0 {
                return Ok(false);
            }
            (self.array, self.array_len, self.array_taken) = (next, self.array_at(next, scratch)?.len, 0);
        }
        Ok(true)
    }

    fn next_entry(&mut self, header: &Header, scratch: &mut Scratch) -> Result<Option<u64>, Unreadable> {
        if !self.turn(header, scratch)? {
            return Ok(None);
        }
        let offset = self.item(self.array, self.array_taken, scratch)?;
        if offset == 0 {
            return Ok(None);
        }
        self.array_taken += 1;
        self.taken += 1;
        Ok(Some(offset))
    }

    /// Passes over lines.
    fn pass(&mut self, lines: u64, header: &Header, scratch: &mut Scratch) -> Result<(), Unreadable> {
        let mut left = lines;
        while left > 0 && self.turn(header, scratch)? {
            let here = left.min(self.array_len - self.array_taken);
            self.array_taken += here;
            self.taken += here;
            left -= here;
        }
        Ok(())
    }

    /// Hands one line on.
    fn line(&mut self, offset: u64, look: Look, scratch: &mut Scratch, sink: &mut impl Sink) -> Result<(), Unreadable> {
        let Scratch { window, unpack, items, text } = scratch;
        let entry = journal::entry(window.read(&self.file, offset, ENTRY_BYTES_MAX)?, self.is_compact)?;
        let realtime_us = entry.realtime_us;
        items.clear();
        items.extend(entry.items());
        let (mut unit, mut is_kernel, mut facility, mut priority) = (None, false, None, 6);
        let mut message = None;
        for at in items.iter().copied() {
            match self.field(at, window, unpack)? {
                Known::Unit(name) => unit = name,
                Known::FromKernel => is_kernel = true,
                Known::Facility(n) => facility = Some(n),
                Known::Priority(n) => priority = n,
                Known::Message => message = Some(at),
                Known::Other => {}
            }
        }
        let source = match &unit {
            _ if is_kernel && facility.is_none_or(|facility| facility == 0) => Source::Kernel,
            Some(name) => Source::Unit(name),
            None => Source::Other,
        };
        let is_wanted = look == Look::Whole || source == Source::Kernel;
        text.clear();
        let is_read = match message.filter(|_| is_wanted) {
            Some(at) => self.text(at, window, unpack, text)?,
            None => false,
        };
        let message = is_read.then_some(text.as_slice());
        let wall_ms = i64::try_from(realtime_us / 1_000).unwrap_or(i64::MAX);
        sink.line(Line { wall_ms, source, priority, message });
        Ok(())
    }

    /// What the field at an offset says.
    fn field(&mut self, at: u64, window: &mut Window, unpack: &mut Unpack) -> Result<Known, Unreadable> {
        if let Some(known) = self.fields.get(&at) {
            return Ok(known.clone());
        }
        let bytes = window.peek(&self.file, at, DATA_BYTES + TEXT_BYTES)?;
        let data = journal::data(bytes, self.is_compact)?;
        let known = match data.packing {
            Packing::Plain => known(payload(bytes, &data)),
            Packing::Zstd => {
                let packed = usize::try_from(data.payload_len).unwrap_or(usize::MAX).min(PACKED_BYTES_MAX);
                let bytes = window.peek(&self.file, at + data.payload_at as u64, packed)?;
                unpack.begin(bytes, TEXT_BYTES).map_or(Known::Other, known)
            }
            // Nothing but a message is ever so long that it is packed, among what matters here.
            Packing::Other => Known::Other,
        };
        if data.is_shared {
            if self.fields.len() >= FIELDS_MAX {
                self.fields.clear();
            }
            self.fields.insert(at, known.clone());
        }
        Ok(known)
    }

    /// Puts the message at an offset into `to`, as far as it is of use.
    fn text(&self, at: u64, window: &mut Window, unpack: &mut Unpack, to: &mut Vec<u8>) -> Result<bool, Unreadable> {
        let bytes = window.peek(&self.file, at, DATA_BYTES + TEXT_BYTES)?;
        let data = journal::data(bytes, self.is_compact)?;
        let plain = match data.packing {
            Packing::Plain => Some(payload(bytes, &data)),
            Packing::Zstd => {
                let packed = usize::try_from(data.payload_len).unwrap_or(usize::MAX).min(PACKED_BYTES_MAX);
                let bytes = window.peek(&self.file, at + data.payload_at as u64, packed)?;
                unpack.begin(bytes, TEXT_BYTES)
            }
            Packing::Other => None,
        };
        match plain.map(journal::field) {
            Some(Field::Message(message)) => {
                to.extend_from_slice(message);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// The payload of a field, as far as its bytes were read.
fn payload<'a>(bytes: &'a [u8], data: &journal::Data) -> &'a [u8] {
    let rest = bytes.get(data.payload_at..).unwrap_or_default();
    &rest[..usize::try_from(data.payload_len).unwrap_or(usize::MAX).min(rest.len())]
}

fn known(payload: &[u8]) -> Known {
    match journal::field(payload) {
        Field::Unit(name) => Known::Unit(told_apart(name)),
        Field::FromKernel => Known::FromKernel,
        Field::Facility(n) => Known::Facility(n),
        Field::Priority(n) => Known::Priority(n),
        Field::Message(_) => Known::Message,
        Field::Other => Known::Other,
    }
}

/// The unit, if it is one that comes back: sessions and transient units have another name each time.
fn told_apart(name: &[u8]) -> Option<UnitName> {
    let name = std::str::from_utf8(name).ok()?;
    let is_transient = name.ends_with(".scope") || name.starts_with("run-");
    name.parse().ok().filter(|_| !is_transient)
}
