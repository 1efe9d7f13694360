//! The ledger's bytes: a hash chain over records, in framed shards, and how it is verified.
//!
//! Record `n` has the hash `h(n) = SHA-256("mainstay-ledger-1" ‖ h(n-1) ‖ record)`, where `record`
//! is the exact protobuf that the ledger, the wire and the collector keep. `h(0)` is the host's
//! id, sixteen bytes, followed by sixteen zero bytes, so that what is hashed before a record has
//! one length always. A host that is not enrolled writes under the id of zeros; with the
//! enrolment, or another one, a new chain begins, because the collector can only vouch for a chain
//! that starts with the identity it gave. Each chain has a folder of its own and stays verifiable.
//!
//! - [`frame`]: length and CRC around a payload; the spool uses it too.
//! - [`shard`]: a file of the ledger: a header that says where it continues, then frames.
//! - [`verify`]: names the first bad record, and holds a ledger against countersigned heads.

pub mod frame;
pub mod shard;
pub mod verify;

use sha2::{Digest, Sha256};

use crate::id::HostId;

/// What every hash of the chain begins with, so that it is the hash of nothing else.
const DOMAIN: &[u8] = b"mainstay-ledger-1";

/// Most bytes of one record. A decision with its evidence has a few thousand.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The end of a ledger: how many records it has had, and the hash of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head {
    /// Number of the last record, from 1; 0 is an empty ledger.
    pub index: u64,
    /// Its chain hash.
    pub hash: [u8; 32],
}

impl Head {
    /// The end of the empty ledger of `host`.
    #[must_use]
    pub fn genesis(host: HostId) -> Self {
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(&host.0);
        Self { index: 0, hash }
    }

    /// The end after one more record.
    #[must_use]
    pub fn after(self, record: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(DOMAIN).chain_update(self.hash).chain_update(record).finalize();
        Self { index: self.index.saturating_add(1), hash: hash.into() }
    }

    /// The end after `entry`, if it is the next record and its hash is right.
    ///
    /// # Errors
    /// If its number is not the next, or its hash does not follow from the records before.
    pub fn link(self, entry: &Entry<'_>) -> Result<Self, BrokenLink> {
        let expected = self.index.saturating_add(1);
        if entry.index != expected {
            return Err(BrokenLink::Order { expected, found: entry.index });
        }
        let next = self.after(entry.record);
        if next.hash == entry.hash { Ok(next) } else { Err(BrokenLink::Chain) }
    }
}

/// One record as the ledger keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number, from 1.
    pub index: u64,
    /// The chain hash up to and with it.
    pub hash: [u8; 32],
    /// The exact bytes of the record.
    pub record: &'a [u8],
}

/// Why an entry does not follow from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLink {
    /// Another number than the next.
    #[error("record {expected} is missing, record {found} stands in its place")]
    Order {
        /// The next number.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// The record, or one before it, is not what was hashed.
    #[error("the chain hash does not follow from the records before")]
    Chain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_what_its_definition_says() {
        let genesis = Head::genesis(HostId([7; 16]));
        let mut bytes = b"mainstay-ledger-1".to_vec();
        bytes.extend([7; 16]);
        bytes.extend([0; 16]);
        bytes.extend(b"record");
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(genesis.after(b"record"), Head { index: 1, hash });
    }

    #[test]
    fn only_the_next_record_with_the_right_hash_links() {
        let head = Head::genesis(HostId([7; 16]));
        let next = head.after(b"one");
        let entry = |index, record| Entry { index, hash: next.hash, record };
        assert_eq!(head.link(&entry(1, b"one")), Ok(next));
        assert_eq!(head.link(&entry(2, b"one")), Err(BrokenLink::Order { expected: 1, found: 2 }));
        assert_eq!(head.link(&entry(1, b"two")), Err(BrokenLink::Chain));
        assert_eq!(Head::genesis(HostId([8; 16])).link(&entry(1, b"one")), Err(BrokenLink::Chain));
    }
}
