//! Opening the last shard after whatever happened: finds the end of the chain, cuts off what a
//! crash tore, and leaves for verification what went bad.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use mainstay_core::id::HostId;
use mainstay_core::ledger::Head;
use mainstay_core::ledger::frame;
use mainstay_core::ledger::shard::{Header, SHARD_BYTES, Walk};

use super::{LedgerError, list_shards, shard_name};
use crate::durable;

/// Most files of evidence that are kept in a chain.
const EVIDENCE_MAX: usize = 4;

/// The shard that appending goes on in.
#[derive(Debug)]
pub(super) struct LastShard {
    pub(super) file: File,
    pub(super) at: usize,
    pub(super) head: Head,
}

/// Opens the last shard. `None`: there is none, a new chain begins.
pub(super) fn last_shard(dir: &Path, host: HostId, notes: &mut Vec<String>) -> Result<Option<LastShard>, LedgerError> {
    let shards = list_shards(dir)?;
    let Some(first) = shards.last().copied() else { return Ok(None) };
    let path = dir.join(shard_name(first));
    let mut bytes = fs::read(&path).map_err(LedgerError::file("read", &path))?;
    let start = match Header::decode(&bytes) {
        Some(header) if header.host == host => header.after,
        _ => {
            notes.push(format!("the header of {} is damaged", path.display()));
            begins_after(dir, &shards, host)
        }
    };
    bytes.resize(SHARD_BYTES.max(bytes.len()), 0);
    let (at, head) = end_of(&bytes, start, &path, notes);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(LedgerError::file("open", &path))?;
    file.set_len(SHARD_BYTES as u64).map_err(LedgerError::file("extend", &path))?;
    if !frame::is_zero(&bytes[at..]) {
        let torn = frame::is_torn(&bytes, at, SHARD_BYTES);
        let what = if torn { "a write cut short by a crash" } else { "a damaged end" };
        notes.push(format!("{}: {what} behind record {}, cut off at byte {at}", path.display(), head.index));
        keep_evidence(dir, &bytes[at..], head.index);
        let zeros = vec![0; SHARD_BYTES.saturating_sub(at)];
        file.write_all_at(&zeros, at as u64).map_err(LedgerError::file("write", &path))?;
        file.sync_data().map_err(LedgerError::file("sync", &path))?;
    }
    Ok(Some(LastShard { file, at, head }))
}

/// Walks to the end of a shard. Over bad records it goes on with the next good one.
fn end_of(bytes: &[u8], start: Head, path: &Path, notes: &mut Vec<String>) -> (usize, Head) {
    let mut walk = Walk::new(bytes, start);
    loop {
        match walk.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => return (walk.offset(), walk.head()),
            Err(fault) => {
                let (offset, index) = (walk.offset(), walk.head().index + 1);
                if !walk.skip_bad() {
                    return (offset, walk.head());
                }
                notes.push(format!("{}: record {index} at byte {offset}: {fault}", path.display()));
            }
        }
    }
}

/// Where the chain stood before the last shard, from the shard before it.
fn begins_after(dir: &Path, shards: &[u64], host: HostId) -> Head {
    let before = shards.len().checked_sub(2).map(|at| dir.join(shard_name(shards[at])));
    let Some(bytes) = before.and_then(|path| fs::read(path).ok()) else { return Head::genesis(host) };
    let start = Header::decode(&bytes).map_or_else(|| Head::genesis(host), |header| header.after);
    let mut walk = Walk::new(&bytes, start);
    while matches!(walk.next_entry(), Ok(Some(_))) || walk.skip_bad() {}
    walk.head()
}

/// Keeps a copy of what is cut off; if there is no room for it, the ledger is worth more.
fn keep_evidence(dir: &Path, bytes: &[u8], after: u64) {
    let end = frame::last_written(bytes);
    let count = fs::read_dir(dir).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "evidence")).count()
    });
    if count < EVIDENCE_MAX {
        let _ = durable::write_atomic(&dir.join(format!("{after:020}.evidence")), &bytes[..end], 0o600);
    }
}

/// The countersigned head as it stands in its file: index, hash, CRC32C.
pub(super) fn encode_countersigned(head: Head) -> Vec<u8> {
    let mut bytes = head.index.to_le_bytes().to_vec();
    bytes.extend_from_slice(&head.hash);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads it; `None` if there is none that can be read.
pub(super) fn countersigned(path: &Path) -> Option<Head> {
    let bytes = fs::read(path).ok()?;
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (index, hash) = body.split_first_chunk::<8>()?;
    let is_good = crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    is_good.then_some(Head { index: u64::from_le_bytes(*index), hash: hash.try_into().ok()? })
}
