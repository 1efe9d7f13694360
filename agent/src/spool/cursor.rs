//! The cursor: how far the collector has everything. It may be a few acknowledgements behind after
//! a crash, which costs only what is sent twice and told apart there; it is synced before anything
//! is deleted because of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::durable;

const NAME: &str = "cursor";
const MAGIC: [u8; 8] = *b"MSCURSR1";

/// What is remembered of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// Everything up to and with this number is acknowledged.
    pub(super) acked: u64,
    /// The number that comes next, as it was when this was written.
    pub(super) next: u64,
    /// The last record of the ledger whose number in the spool is acknowledged.
    pub(super) record_acked: u64,
}

/// The file that holds them.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
}

impl Cursor {
    /// Opens the cursor of a spool, or makes it.
    pub(super) fn open(dir: &Path, new: Marks) -> io::Result<(Self, Option<Marks>)> {
        let path = dir.join(NAME);
        let read = fs::read(&path).ok().and_then(|bytes| decode(&bytes));
        if read.is_none() {
            durable::write_atomic(&path, &encode(new), 0o600)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok((Self { file }, read))
    }

    /// Writes them over the old ones: less than a sector, so whole or not at all.
    pub(super) fn write(&self, marks: Marks) -> io::Result<()> {
        self.file.write_all_at(&encode(marks), 0)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(marks: Marks) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for number in [marks.acked, marks.next, marks.record_acked] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Marks> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let body = body.strip_prefix(&MAGIC).filter(|_| crc32c::crc32c(body) == u32::from_le_bytes(*crc))?;
    let (acked, body) = body.split_first_chunk::<8>()?;
    let (next, body) = body.split_first_chunk::<8>()?;
    let record_acked: &[u8; 8] = body.try_into().ok()?;
    let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    Some(Marks { acked: number(acked), next: number(next), record_acked: number(record_acked) })
}
