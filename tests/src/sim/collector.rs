//! A simulated collector: the real deduplication and the real leases around a store that commits
//! late and loses what it has not committed.

use std::collections::BTreeMap;

use mainstay_core::finding::FindingKind;
use mainstay_core::id::{Epoch, HostId, Seq};
use mainstay_core::record::Record;
use mainstay_core::time::Now;
use mainstay_fleet::dedup::{Admit, Gap, Marks};
use mainstay_fleet::lease::{LeaseAnswer, LeaseLimits, Leases};

use super::spool::Parcel;

/// What one host has stored here. Durable.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// What has been seen, in the same commit as the records.
    pub marks: Marks,
    /// Its records, in the order of their coming.
    pub records: Vec<Record>,
    /// How many items of other kinds.
    pub samples: u64,
    /// How many were declared lost.
    pub lost: u64,
}

/// A batch on its way to the disk.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Whose.
    pub host: HostId,
    /// Of which spool.
    pub epoch: Epoch,
    /// What.
    pub parcels: Vec<Parcel>,
}

/// The collector.
#[derive(Debug, Default)]
pub struct Collector {
    /// By host.
    pub stored: BTreeMap<HostId, Stored>,
    /// Who may act. Written with every grant.
    pub leases: Leases,
    /// Changes with every crash: what was on its way before is gone.
    pub life: u64,
    /// Whether it runs.
    pub up: bool,
    /// When the last commit that was begun is done.
    pub commits_at: u64,
}

impl Collector {
    /// Commits a batch: one durable write of marks and records. Says what may be acknowledged.
    pub fn commit(&mut self, batch: &Batch) -> Seq {
        let stored = self.stored.entry(batch.host).or_default();
        for parcel in &batch.parcels {
            match parcel {
                Parcel::Lost(first, last) => {
                    stored.lost += stored.marks.declare_lost(batch.epoch, Gap { first: *first, last: *last });
                }
                Parcel::Item(seq, record) => {
                    if stored.marks.admit(batch.epoch, *seq) == Admit::New {
                        stored.samples += u64::from(record.is_none());
                        stored.records.extend(record.clone());
                    }
                }
            }
        }
        stored.marks.acknowledged(batch.epoch)
    }

    /// What is stored of a spool: where the agent is to go on.
    #[must_use]
    pub fn acknowledged(&self, host: HostId, epoch: Epoch) -> Seq {
        self.stored.get(&host).map_or(Seq(0), |stored| stored.marks.acknowledged(epoch))
    }

    /// Answers a request for a lease.
    pub fn lease(&mut self, host: HostId, kind: FindingKind, hosts: usize, share: f64, now: Now) -> LeaseAnswer {
        self.leases.request(host, kind, hosts, &LeaseLimits { share, ..LeaseLimits::default() }, now)
    }
}
