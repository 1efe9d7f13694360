//! The files of journald: header, objects and fields, as systemd documents them (JOURNAL_FILE_FORMAT).
//!
//! In: the bytes at an offset that the shell has read. Out: what stands there. A file is written while it is read, by a
//! process that may die in between, so that nothing is believed: a length or an offset that cannot be is an error, and
//! every object says itself what it is.

/// Bytes of the header that are read: all that every version has.
pub const HEADER_BYTES: usize = 208;

/// Bytes before the payload of every object: type, flags, size.
pub const OBJECT_BYTES: usize = 16;

/// Bytes of an entry before its items.
pub const ENTRY_BYTES: usize = 64;

/// Bytes of a field before its payload, at most.
pub const DATA_BYTES: usize = 72;

/// Bytes of an array of entries before its items.
pub const ARRAY_BYTES: usize = 24;

/// Most items of one entry that are looked at: journald writes some thirty, a program can add a thousand of its own.
pub const ITEMS_MAX: usize = 128;

const SIGNATURE: &[u8; 8] = b"LPKSHHRH";
const COMPACT: u32 = 1 << 4;
/// Compressed with xz, lz4 or zstd, keyed hashes, compact: what changes how a file is to be read, up to systemd 257.
const FLAGS_KNOWN: u32 = 0b1_1111;

/// Bytes that are not what journald writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJournal {
    /// The file does not begin as a journal does.
    #[error("is no journal file")]
    Signature,
    /// A version after this one changed how files are to be read.
    #[error("is of a form that is not known (incompatible flags {0:#x})")]
    Flags(u32),
    /// Fewer bytes than the object says that it has, or than it must have.
    #[error("{what} is cut short")]
    Short {
        /// Which kind of object.
        what: &'static str,
    },
    /// Another kind of object stands at an offset.
    #[error("expected {expected}, found an object of type {got}")]
    Kind {
        /// What was to stand there.
        expected: &'static str,
        /// The type that it says.
        got: u8,
    },
    /// An offset or a size that cannot be.
    #[error("{what} points nowhere ({offset})")]
    Offset {
        /// In which kind of object.
        what: &'static str,
        /// What it says.
        offset: u64,
    },
}

/// What is needed of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether offsets have four bytes instead of eight.
    pub compact: bool,
    /// Whether the file is being written to.
    pub online: bool,
    /// Whether it was rotated away: nothing will be added.
    pub archived: bool,
    /// Names the file for as long as it lives, whatever it is called.
    pub file_id: [u8; 16],
    /// Entries that are there.
    pub n_entries: u64,
    /// Where the first array of entries is; 0 is none.
    pub entry_array_offset: u64,
    /// When the first entry was written, microseconds since 1970.
    pub head_realtime_us: u64,
    /// When the last one was.
    pub tail_realtime_us: u64,
}

/// Takes the header out of the first [`HEADER_BYTES`] of a file.
///
/// # Errors
/// Where they are not the beginning of a journal file that can be read.
pub fn header(bytes: &[u8]) -> Result<Header, BadJournal> {
    if bytes.len() < HEADER_BYTES {
        return Err(BadJournal::Short { what: "header" });
    }
    if !bytes.starts_with(SIGNATURE) {
        return Err(BadJournal::Signature);
    }
    let flags = le32(bytes, 12);
    if flags & !FLAGS_KNOWN != 0 {
        return Err(BadJournal::Flags(flags));
    }
    Ok(Header {
        compact: flags & COMPACT != 0,
        online: bytes[16] == 1,
        archived: bytes[16] == 2,
        file_id: bytes[24..40].try_into().unwrap_or_default(),
        n_entries: le64(bytes, 152),
        entry_array_offset: le64(bytes, 176),
        head_realtime_us: le64(bytes, 184),
        tail_realtime_us: le64(bytes, 192),
    })
}

/// An array of entries: where they are, and where the next array is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryArray {
    /// Offset of the next array; 0 is none (yet).
    pub next: u64,
    /// How many entries it has room for.
    pub len: u64,
}

impl EntryArray {
    /// Bytes of one item.
    #[must_use]
    pub fn item_bytes(compact: bool) -> u64 {
        if compact { 4 } else { 8 }
    }
}

/// Takes the head of an array out of the [`ARRAY_BYTES`] at its offset.
///
/// # Errors
/// Where no array stands there.
pub fn entry_array(bytes: &[u8], compact: bool) -> Result<EntryArray, BadJournal> {
    let what = "an array of entries";
    let size = object(bytes, 6, what)?;
    if bytes.len() < ARRAY_BYTES || size < ARRAY_BYTES as u64 {
        return Err(BadJournal::Short { what });
    }
    Ok(EntryArray { next: le64(bytes, 16), len: (size - ARRAY_BYTES as u64) / EntryArray::item_bytes(compact) })
}

/// One item of an array.
#[must_use]
pub fn array_item(bytes: &[u8], compact: bool) -> Option<u64> {
    if compact {
        bytes.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)))
    } else {
        bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// One line, but for its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When journald took it, microseconds since 1970.
    pub realtime_us: u64,
    items: &'a [u8],
    compact: bool,
}

impl Entry<'_> {
    /// The offsets of its fields.
    pub fn items(&self) -> impl Iterator<Item = u64> {
        let bytes = if self.compact { 4 } else { 16 };
        let compact = self.compact;
        self.items.chunks_exact(bytes).take(ITEMS_MAX).filter_map(move |item| array_item(item, compact))
    }
}

/// Takes an entry out of the bytes at its offset. They may end before it does: items beyond are left out.
///
/// # Errors
/// Where no entry stands there, or one that is not finished.
pub fn entry(bytes: &[u8], compact: bool) -> Result<Entry<'_>, BadJournal> {
    let what = "an entry";
    let size = object(bytes, 3, what)?;
    let end = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
    if bytes.len() < ENTRY_BYTES || end < ENTRY_BYTES {
        return Err(BadJournal::Short { what });
    }
    Ok(Entry { realtime_us: le64(bytes, 24), items: &bytes[ENTRY_BYTES..end], compact })
}

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Plain,
    /// By zstd.
    Zstd,
    /// By xz or lz4, which only journals of systemd before 246 and of few builds after it have.
    Other,
}

/// A field with its value: `PRIORITY=3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// How it is packed.
    pub packing: Packing,
    /// Where the payload begins, from the object's own offset.
    pub payload_at: usize,
    /// Bytes of the payload.
    pub payload_len: u64,
    /// Whether more than one entry has it: most fields are the same on many lines, and stand once in a file.
    pub is_shared: bool,
}

/// Takes the head of a field out of the bytes at its offset.
///
/// # Errors
/// Where no field stands there.
pub fn data(bytes: &[u8], compact: bool) -> Result<Data, BadJournal> {
    let what = "a field";
    let size = object(bytes, 1, what)?;
    let payload_at = if compact { 72 } else { 64 };
    let packing = match bytes[1] & 0b111 {
        0 => Packing::Plain,
        4 => Packing::Zstd,
        _ => Packing::Other,
    };
    match size.checked_sub(payload_at as u64) {
        Some(payload_len) => Ok(Data { packing, payload_at, payload_len, is_shared: le64(bytes, 56) > 1 }),
        None => Err(BadJournal::Short { what }),
    }
}

/// Checks that an object of this type begins here; gives its size.
fn object(bytes: &[u8], kind: u8, expected: &'static str) -> Result<u64, BadJournal> {
    if bytes.len() < OBJECT_BYTES {
        return Err(BadJournal::Short { what: expected });
    }
    if bytes[0] == kind { Ok(le64(bytes, 8)) } else { Err(BadJournal::Kind { expected, got: bytes[0] }) }
}

/// What a field says, as far as it matters. The names that begin with an underscore are journald's own: no client can
/// set them. All others are whatever the client likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// `_SYSTEMD_UNIT`: whose line it is.
    Unit(&'a [u8]),
    /// `_TRANSPORT=kernel`: it came through the kernel's log.
    FromKernel,
    /// `SYSLOG_FACILITY`. In the kernel's log 0 is the kernel itself: what user space writes there gets another one.
    Facility(u8),
    /// `PRIORITY`, 0 to 7.
    Priority(u8),
    /// `MESSAGE`.
    Message(&'a [u8]),
    /// One that is of no interest.
    Other,
}

/// Takes a field apart.
#[must_use]
pub fn field(payload: &[u8]) -> Field<'_> {
    let digit = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u8>().ok());
    let Some(at) = payload.iter().take(32).position(|b| *b == b'=') else { return Field::Other };
    let value = &payload[at + 1..];
    match &payload[..at] {
        b"_SYSTEMD_UNIT" => Field::Unit(value),
        b"_TRANSPORT" if value == b"kernel" => Field::FromKernel,
        b"SYSLOG_FACILITY" => digit(value).map_or(Field::Other, Field::Facility),
        b"PRIORITY" => digit(value).filter(|p| *p <= 7).map_or(Field::Other, Field::Priority),
        b"MESSAGE" => Field::Message(value),
        _ => Field::Other,
    }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header_bytes(flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(SIGNATURE);
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[152..160].copy_from_slice(&7u64.to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_says_how_to_read_on() {
        let read = header(&header_bytes(COMPACT | 8)).unwrap();
        assert!(read.compact && !read.online && read.n_entries == 7);
        assert_eq!(header(&header_bytes(1 << 9)), Err(BadJournal::Flags(1 << 9)));
        assert_eq!(header(&[0; HEADER_BYTES]), Err(BadJournal::Signature));
        assert_eq!(header(&header_bytes(0)[..100]), Err(BadJournal::Short { what: "header" }));
    }

    #[test]
    fn only_what_journald_itself_writes_decides_whose_line_it_is() {
        assert_eq!(field(b"_SYSTEMD_UNIT=a.service"), Field::Unit(b"a.service"));
        assert_eq!(field(b"UNIT=b.service"), Field::Other);
        assert_eq!(field(b"_TRANSPORT=kernel"), Field::FromKernel);
        assert_eq!(field(b"_TRANSPORT=syslog"), Field::Other);
        assert_eq!(field(b"TRANSPORT=kernel"), Field::Other);
        assert_eq!(field(b"PRIORITY=9"), Field::Other);
        assert_eq!(field(b"MESSAGE=a=b\n\xff"), Field::Message(b"a=b\n\xff"));
        assert_eq!(field(b"no field"), Field::Other);
    }

    #[test]
    fn an_object_of_another_type_is_named() {
        let mut bytes = vec![0; 64];
        bytes[0] = 2;
        bytes[8] = 64;
        assert_eq!(entry(&bytes, true), Err(BadJournal::Kind { expected: "an entry", got: 2 }));
        bytes[0] = 1;
        assert_eq!(data(&bytes, true), Err(BadJournal::Short { what: "a field" }));
        let want = Data { packing: Packing::Plain, payload_at: 64, payload_len: 0, is_shared: false };
        assert_eq!(data(&bytes, false), Ok(want));
        bytes[56] = 2;
        assert_eq!(data(&bytes, false), Ok(Data { is_shared: true, ..want }));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..8, compact: bool) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = entry_array(&bytes, compact);
            let _ = data(&bytes, compact);
            let _ = field(&bytes);
            let _ = array_item(&bytes, compact);
            if let Ok(entry) = entry(&bytes, compact) {
                prop_assert!(entry.items().count() <= ITEMS_MAX);
            }
            let mut head = header_bytes(0);
            let cut = bytes.len().min(HEADER_BYTES - 8);
            head[8..8 + cut].copy_from_slice(&bytes[..cut]);
            let _ = header(&head);
        }
    }
}
