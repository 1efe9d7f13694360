//! A shard: one file of the ledger. A header says whose it is and where the chain stood when it was
//! begun, so that older shards can be dropped and the rest still verifies; then come frames.

use super::frame::{self, BadFrame, Read};
use super::{BrokenLink, Entry, Head};
use crate::id::HostId;

/// Size of a shard, given to it before the first write, so that a full disk cannot stop one.
pub const SHARD_BYTES: usize = 1024 * 1024;

/// What a shard begins with.
const MAGIC: [u8; 8] = *b"MSLEDGR1";

/// Bytes of the header: magic, host id, index and hash of the record before, CRC32C over these.
pub const HEADER_BYTES: usize = 8 + 16 + 8 + 32 + 4;

/// Bytes of an entry before its record: number and hash.
const ENTRY_HEADER_BYTES: usize = 8 + 32;

/// The header of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose ledger it is; zeros where the host was not enrolled.
    pub host: HostId,
    /// Where the chain stood when the shard was begun.
    pub after: Head,
}

impl Header {
    /// As it stands in the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.host.0);
        bytes.extend_from_slice(&self.after.index.to_le_bytes());
        bytes.extend_from_slice(&self.after.hash);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads it from the beginning of a shard; `None` if it is not one.
    #[must_use]
    pub fn decode(shard: &[u8]) -> Option<Self> {
        let header = shard.get(..HEADER_BYTES)?;
        let (body, crc) = header.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (magic, body) = body.split_first_chunk::<8>()?;
        let (host, body) = body.split_first_chunk::<16>()?;
        let (index, body) = body.split_first_chunk::<8>()?;
        let (hash, _) = body.split_first_chunk::<32>()?;
        let after = Head { index: u64::from_le_bytes(*index), hash: *hash };
        (*magic == MAGIC).then_some(Self { host: HostId(*host), after })
    }
}

/// Appends the frame of `entry`.
pub fn push_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut payload = Vec::with_capacity(ENTRY_HEADER_BYTES + entry.record.len());
    payload.extend_from_slice(&entry.index.to_le_bytes());
    payload.extend_from_slice(&entry.hash);
    payload.extend_from_slice(entry.record);
    frame::push(out, &payload);
}

/// Bytes that the frame of a record takes in a shard.
#[must_use]
pub fn entry_bytes(record: &[u8]) -> usize {
    frame::FRAME_HEADER_BYTES + ENTRY_HEADER_BYTES + record.len()
}

/// Reads the payload of an entry's frame.
#[must_use]
pub fn decode_entry(payload: &[u8]) -> Option<Entry<'_>> {
    let (index, rest) = payload.split_first_chunk::<8>()?;
    let (hash, record) = rest.split_first_chunk::<32>()?;
    Some(Entry { index: u64::from_le_bytes(*index), hash: *hash, record })
}

/// What is wrong with a ledger at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The header is not one.
    #[error("the header of the shard is damaged")]
    Header,
    /// The shard belongs to another host.
    #[error("the shard belongs to another ledger")]
    Host,
    /// The shard does not begin where the one before ended.
    #[error("the shard begins after record {found}, the one before ended with {expected}")]
    Begins {
        /// The last record of the one before.
        expected: u64,
        /// The record that this one says it follows.
        found: u64,
    },
    /// The frame is not good.
    #[error(transparent)]
    Frame(BadFrame),
    /// The frame is good and holds no entry.
    #[error("the frame holds no record")]
    Entry,
    /// The entry does not follow.
    #[error(transparent)]
    Link(BrokenLink),
}

/// The records of one shard, in order, each checked against the one before.
#[derive(Debug)]
pub struct Walk<'a> {
    shard: &'a [u8],
    at: usize,
    head: Head,
}

impl<'a> Walk<'a> {
    /// Starts behind the header of `shard`; `head` is where the chain stood before it.
    #[must_use]
    pub fn new(shard: &'a [u8], head: Head) -> Self {
        Self { shard, at: HEADER_BYTES, head }
    }

    /// Where the next frame begins, or would.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The end of the chain so far.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// If there is something else; the walk stays where it is.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, Fault> {
        match frame::read(self.shard, self.at) {
            Read::End => Ok(None),
            Read::Bad(bad) => Err(Fault::Frame(bad)),
            Read::Frame { payload, next } => {
                let entry = decode_entry(payload).ok_or(Fault::Entry)?;
                self.head = self.head.link(&entry).map_err(Fault::Link)?;
                self.at = next;
                Ok(Some(entry))
            }
        }
    }

    /// Goes on behind what is bad here, with the next good entry, trusting the hash that stands in
    /// it. Says whether there is one. For recovery only: verification ends at the first fault.
    pub fn skip_bad(&mut self) -> bool {
        let start = match frame::read(self.shard, self.at) {
            Read::Frame { .. } => Some(self.at),
            _ => frame::next_good(self.shard, self.at),
        };
        let Some(start) = start else { return false };
        let Read::Frame { payload, next } = frame::read(self.shard, start) else { return false };
        let Some(entry) = decode_entry(payload) else { return false };
        self.head = Head { index: entry.index, hash: entry.hash };
        self.at = next;
        true
    }
}
