//! Verification: walks a ledger from its first shard to its end and names the first bad record.
//!
//! Whoever holds the host can write a new history with right hashes, or cut the end off. Both are
//! found only against a head that somebody else keeps: the collector countersigns the heads it
//! has seen, and [`verify`] takes them as an argument.

use super::Head;
use super::frame;
use super::shard::{Fault, Header, SHARD_BYTES, Walk};
use crate::id::HostId;

/// A place in a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which shard, from 0, of those given.
    pub shard: usize,
    /// Where in it, in bytes.
    pub offset: usize,
}

/// The first bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    /// Where it stands.
    pub place: Place,
    /// Its number: the one after the last good record.
    pub index: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What a countersigned head shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The ledger ends before it.
    #[error("the ledger was cut: it ends with record {local}, the collector has seen {countersigned}")]
    Cut {
        /// The last record that is here.
        local: u64,
        /// The last one that was countersigned.
        countersigned: u64,
    },
    /// Another record stands at its number.
    #[error("history was rewritten: record {index} or one before it is not what the collector has seen")]
    Rewritten {
        /// The number.
        index: u64,
    },
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where the chain begins: genesis, or the last record of the shards that were dropped.
    pub begins_after: Head,
    /// How many records are good.
    pub records: u64,
    /// The last good one.
    pub head: Head,
    /// The first bad one.
    pub bad: Option<Bad>,
    /// Where a write was cut short by a crash. No record was lost by it: none is used before its
    /// write has succeeded.
    pub torn: Option<Place>,
    /// What the countersigned heads show.
    pub doubts: Vec<Doubt>,
}

impl Report {
    /// Whether every record is good and nothing speaks against the ledger.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.bad.is_none() && self.doubts.is_empty()
    }
}

/// Verifies the ledger of `host` in `shards`, oldest first, against the heads that the collector
/// countersigned.
pub fn verify<S: AsRef<[u8]>>(host: HostId, shards: impl IntoIterator<Item = S>, countersigned: &[Head]) -> Report {
    let mut verifier = Verifier::new(host, countersigned);
    let mut shards = shards.into_iter().enumerate().peekable();
    while let Some((at, shard)) = shards.next() {
        let is_last = shards.peek().is_none();
        if !verifier.shard(at, shard.as_ref(), is_last) {
            break;
        }
    }
    verifier.finish()
}

struct Verifier<'h> {
    host: HostId,
    countersigned: &'h [Head],
    report: Report,
}

impl<'h> Verifier<'h> {
    fn new(host: HostId, countersigned: &'h [Head]) -> Self {
        let genesis = Head::genesis(host);
        let report =
            Report { begins_after: genesis, records: 0, head: genesis, bad: None, torn: None, doubts: Vec::new() };
        Self { host, countersigned, report }
    }

    /// Takes one shard; says whether to go on.
    fn shard(&mut self, at: usize, bytes: &[u8], is_last: bool) -> bool {
        if let Err(fault) = self.header(at, bytes) {
            self.bad(Place { shard: at, offset: 0 }, fault);
            return false;
        }
        let mut walk = Walk::new(bytes, self.report.head);
        loop {
            match walk.next_entry() {
                Ok(Some(_)) => {
                    self.report.records += 1;
                    self.report.head = walk.head();
                    self.hold_against_heads();
                }
                Ok(None) => return true,
                Err(fault) => {
                    let place = Place { shard: at, offset: walk.offset() };
                    let is_frame = matches!(fault, Fault::Frame(_));
                    if is_last && is_frame && frame::is_torn(bytes, place.offset, SHARD_BYTES) {
                        self.report.torn = Some(place);
                    } else {
                        self.bad(place, fault);
                    }
                    return false;
                }
            }
        }
    }

    fn header(&mut self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        let header = Header::decode(bytes).ok_or(Fault::Header)?;
        if header.host != self.host {
            return Err(Fault::Host);
        }
        if at == 0 && header.after.index > 0 {
            // Older shards were dropped: the chain begins here.
            self.report.begins_after = header.after;
            self.report.head = header.after;
            self.hold_against_heads();
        }
        if header.after != self.report.head {
            return Err(Fault::Begins { expected: self.report.head.index, found: header.after.index });
        }
        Ok(())
    }

    fn bad(&mut self, place: Place, fault: Fault) {
        self.report.bad = Some(Bad { place, index: self.report.head.index + 1, fault });
    }

    /// Holds the record just read against what was countersigned at its number.
    fn hold_against_heads(&mut self) {
        let head = self.report.head;
        if self.countersigned.iter().any(|seen| seen.index == head.index && seen.hash != head.hash) {
            self.report.doubts.push(Doubt::Rewritten { index: head.index });
        }
    }

    fn finish(mut self) -> Report {
        let local = self.report.head.index;
        let furthest = self.countersigned.iter().map(|seen| seen.index).max().unwrap_or(0);
        // Behind a bad record nothing is known of the end.
        if self.report.bad.is_none() && furthest > local {
            self.report.doubts.push(Doubt::Cut { local, countersigned: furthest });
        }
        self.report
    }
}

#[cfg(test)]
mod tests;
