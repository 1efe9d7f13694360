//! Journals made for tests, as journald lays its files out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mainstay_core::parse::journal::{ARRAY_BYTES, ENTRY_BYTES, HEADER_BYTES};

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// From this length on journald packs a field.
const PACKED_FROM: usize = 512;

/// A root with a journal below it.
pub(super) struct Made {
    root: tempfile::TempDir,
}

impl Made {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let made = Self { root };
        fs::create_dir_all(made.path("")).unwrap();
        fs::create_dir_all(made.root().join("etc")).unwrap();
        fs::write(made.root().join("etc/machine-id"), MACHINE).unwrap();
        made
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root().join("var/log/journal").join(MACHINE).join(name)
    }

    /// Writes a file as it is now, in place: it stays the same file.
    pub(super) fn put(&self, name: &str, file: &MadeFile) {
        use std::os::unix::fs::FileExt as _;
        let options = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name)).unwrap();
        options.write_all_at(&file.bytes, 0).unwrap();
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }
}

/// A file of the journal.
pub(super) struct MadeFile {
    pub(super) bytes: Vec<u8>,
    is_compact: bool,
    data: BTreeMap<Vec<u8>, u64>,
    /// Where the arrays are, and their lengths; the last one is being filled.
    arrays: Vec<(u64, u64)>,
    in_last: u64,
    lines: u64,
}

impl MadeFile {
    pub(super) fn new(is_compact: bool) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        // Packed by zstd, keyed hashes, and compact if so.
        bytes[12] = 8 | 4 | if is_compact { 16 } else { 0 };
        bytes[16] = 1;
        Self { bytes, is_compact, data: BTreeMap::new(), arrays: Vec::new(), in_last: 0, lines: 0 }
    }

    pub(super) fn unit(&mut self, unit: &str, priority: u8, message: &str, at_ms: i64) -> u64 {
        let unit = format!("_SYSTEMD_UNIT={unit}");
        let (priority, message) = (format!("PRIORITY={priority}"), format!("MESSAGE={message}"));
        self.line(&["_TRANSPORT=stdout", &unit, &priority, "_PID=7", &message], at_ms)
    }

    pub(super) fn kernel(&mut self, message: &str, at_ms: i64) -> u64 {
        let message = format!("MESSAGE={message}");
        self.line(&["_TRANSPORT=kernel", "SYSLOG_FACILITY=0", "PRIORITY=3", &message], at_ms)
    }

    /// Adds a line; gives its offset.
    pub(super) fn line(&mut self, fields: &[&str], at_ms: i64) -> u64 {
        let items: Vec<u64> = fields.iter().map(|field| self.field(field.as_bytes())).collect();
        let item_bytes = if self.is_compact { 4 } else { 16 };
        let at = self.object(3, ENTRY_BYTES + items.len() * item_bytes);
        let us = u64::try_from(at_ms).unwrap() * 1_000;
        self.put(at + 24, &us.to_le_bytes());
        for (n, item) in items.iter().enumerate() {
            self.put_offset(at + (ENTRY_BYTES + n * item_bytes) as u64, *item);
        }
        self.list(at);
        self.lines += 1;
        let (lines, offset) = (self.lines, self.arrays[0].0);
        self.put(152, &lines.to_le_bytes());
        self.put(176, &offset.to_le_bytes());
        at
    }

    /// Says that it was rotated away.
    pub(super) fn archive(&mut self) {
        self.bytes[16] = 2;
    }

    fn field(&mut self, payload: &[u8]) -> u64 {
        if let Some(at) = self.data.get(payload).copied() {
            let n = u64::from_le_bytes(self.bytes[usize::try_from(at).unwrap() + 56..][..8].try_into().unwrap());
            self.put(at + 56, &(n + 1).to_le_bytes());
            return at;
        }
        let before = if self.is_compact { 72 } else { 64 };
        let is_packed = payload.len() >= PACKED_FROM;
        let stored = if is_packed { zstd::bulk::compress(payload, 3).unwrap() } else { payload.to_vec() };
        let at = self.object(1, before + stored.len());
        self.bytes[usize::try_from(at).unwrap() + 1] = if is_packed { 4 } else { 0 };
        self.put(at + 56, &1u64.to_le_bytes());
        self.put(at + before as u64, &stored);
        self.data.insert(payload.to_vec(), at);
        at
    }

    fn list(&mut self, entry: u64) {
        let item_bytes = if self.is_compact { 4 } else { 8 };
        let last = self.arrays.last().copied();
        if last.is_none_or(|(_, len)| self.in_last == len) {
            let len = last.map_or(4, |(_, len)| len * 2);
            let at = self.object(6, ARRAY_BYTES + usize::try_from(len).unwrap() * item_bytes);
            if let Some((before, _)) = last {
                self.put(before + 16, &at.to_le_bytes());
            }
            self.arrays.push((at, len));
            self.in_last = 0;
        }
        let at =
            self.arrays.last().unwrap().0 + (ARRAY_BYTES + usize::try_from(self.in_last).unwrap() * item_bytes) as u64;
        self.put_offset(at, entry);
        self.in_last += 1;
    }

    fn object(&mut self, kind: u8, size: usize) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u64;
        self.bytes.resize(self.bytes.len() + size, 0);
        self.put(at, &[kind]);
        self.put(at + 8, &(size as u64).to_le_bytes());
        at
    }

    fn put_offset(&mut self, at: u64, offset: u64) {
        if self.is_compact {
            self.put(at, &u32::try_from(offset).unwrap().to_le_bytes());
        } else {
            self.put(at, &offset.to_le_bytes());
        }
    }

    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
