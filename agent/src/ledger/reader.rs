//! Reading the ledger while it is written to: single records for the uplink, the past for the
//! state after a restart, whole shards for verification.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_core::decision::Choice;
use mainstay_core::id::HostId;
use mainstay_core::ledger::frame::{self, Read};
use mainstay_core::ledger::shard::{HEADER_BYTES, decode_entry};
use mainstay_core::ledger::verify::{Report, verify};
use mainstay_core::record::{Body, Record};
use mainstay_proto::convert::decode_record;

use super::{COUNTERSIGNED, LedgerError, LedgerSettings, chain_name, last_change, list_shards, recover, shard_name};

/// Shards of the recent past of which everything is replayed. From older ones, what was held and
/// not acted on is left out: no budget and no cooldown hangs on it, and it is most of what there is.
const REPLAY_WHOLE_SHARDS: usize = 4;

/// One record as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number, from 1.
    pub index: u64,
    /// The chain hash up to and with it.
    pub hash: [u8; 32],
    /// Its exact bytes.
    pub record: Vec<u8>,
}

/// Reads one chain. Cheap to make and to clone; holds no file open.
#[derive(Debug, Clone)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The records `first..=last`, or fewer: at most about `bytes_max` bytes and none that is bad
    /// or was dropped.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn records(&self, first: u64, last: u64, bytes_max: usize) -> Result<Vec<StoredRecord>, LedgerError> {
        let shards = list_shards(&self.dir)?;
        let from = shards.partition_point(|shard| *shard <= first).saturating_sub(1);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for shard in shards.iter().skip(from).take_while(|shard| **shard <= last) {
            let path = self.dir.join(shard_name(*shard));
            let shard = fs::read(&path).map_err(LedgerError::file("read", &path))?;
            for entry in good_entries(&shard) {
                if entry.index > last || (bytes >= bytes_max && !found.is_empty()) {
                    return Ok(found);
                }
                if entry.index >= first {
                    bytes += entry.record.len();
                    found.push(entry);
                }
            }
        }
        Ok(found)
    }

    /// Holds the whole chain against what the collector countersigned.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn verify(&self, host: HostId) -> Result<Report, LedgerError> {
        let shards = list_shards(&self.dir)?;
        let mut unreadable = None;
        let bytes = shards.iter().map_while(|shard| {
            let path = self.dir.join(shard_name(*shard));
            fs::read(&path).map_err(|error| unreadable = Some(LedgerError::file("read", &path)(error))).ok()
        });
        let countersigned = recover::countersigned(&self.dir.join(COUNTERSIGNED));
        let report = verify(host, bytes, countersigned.as_slice());
        unreadable.map_or(Ok(report), Err)
    }

    /// The path of a shard by its place in a [`Report`].
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn shard_path(&self, at: usize) -> Result<Option<PathBuf>, LedgerError> {
        Ok(list_shards(&self.dir)?.get(at).map(|first| self.dir.join(shard_name(*first))))
    }
}

impl super::Ledger {
    /// The past, oldest first, for the state after a restart: of this chain and, where the host was
    /// enrolled anew, of the one before, so that no cooldown is forgotten by an enrolment. Records
    /// that this build cannot read are left out.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn replay(&self) -> Result<Vec<(u64, Record)>, LedgerError> {
        let root = self.dir.parent().unwrap_or(&self.dir);
        let mut records = Vec::new();
        if let Some(before) = chain_before(root, &self.dir) {
            replay_chain(&before, &mut records)?;
        }
        replay_chain(&self.dir, &mut records)?;
        Ok(records)
    }
}

/// Chains below a ledger's root, with the ids of their hosts, for `ledger verify` on the host.
///
/// # Errors
/// If the folder cannot be read.
pub fn chains(root: &Path) -> Result<Vec<(HostId, Reader)>, LedgerError> {
    let mut chains = Vec::new();
    for entry in fs::read_dir(root).map_err(LedgerError::file("read the folder", root))?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let host = if name == chain_name(HostId::default()) { Some(HostId::default()) } else { name.parse().ok() };
        if let Some(host) = host {
            chains.push((host, Reader::new(entry.path())));
        }
    }
    chains.sort_by_key(|(host, _)| *host);
    Ok(chains)
}

impl LedgerSettings {
    /// Reads the chain without opening it for writing.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.root.join(chain_name(self.host)))
    }
}

/// The chain that was written to last before this one.
fn chain_before(root: &Path, current: &Path) -> Option<PathBuf> {
    let chains = fs::read_dir(root).ok()?.flatten().map(|entry| entry.path());
    let others = chains.filter(|path| path != current);
    others.filter_map(|path| Some((last_change(&path)?, path))).max().map(|(_, path)| path)
}

fn replay_chain(dir: &Path, records: &mut Vec<(u64, Record)>) -> Result<(), LedgerError> {
    let shards = list_shards(dir)?;
    let whole_from = shards.len().saturating_sub(REPLAY_WHOLE_SHARDS);
    for (at, first) in shards.iter().enumerate() {
        let path = dir.join(shard_name(*first));
        let shard = fs::read(&path).map_err(LedgerError::file("read", &path))?;
        for entry in good_entries(&shard) {
            match decode_record(&entry.record) {
                Ok(record) if at >= whole_from || matters_for_long(&record) => records.push((entry.index, record)),
                Ok(_) => {}
                Err(error) => tracing::warn!(index = entry.index, %error, "record of another version left out"),
            }
        }
    }
    Ok(())
}

/// Whether budgets, cooldowns or holds can hang on a record that is long past.
fn matters_for_long(record: &Record) -> bool {
    !matches!(&record.body, Body::Decided(decision) if matches!(decision.choice, Choice::Hold { .. }))
}

/// The entries of a shard whose frames are good, over bad ones.
fn good_entries(shard: &[u8]) -> impl Iterator<Item = StoredRecord> + '_ {
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        loop {
            match frame::read(shard, at) {
                Read::Frame { payload, next } => {
                    at = next;
                    if let Some(entry) = decode_entry(payload) {
                        let record = entry.record.to_vec();
                        return Some(StoredRecord { index: entry.index, hash: entry.hash, record });
                    }
                }
                Read::End => return None,
                Read::Bad(_) => at = frame::next_good(shard, at)?,
            }
        }
    })
}
