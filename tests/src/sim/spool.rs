//! A simulated spool and ledger: what is durable, and what a crash takes away.

use std::collections::VecDeque;

use mainstay_core::id::{Epoch, Seq};
use mainstay_core::record::Record;

/// Most items in a spool. Beyond this the oldest that is no record goes.
const ITEMS_MAX: usize = 400;

/// Something in the spool.
#[derive(Debug, Clone, PartialEq)]
pub enum Spooled {
    /// The record of this number in the ledger, from 0.
    Record(usize),
    /// A finding or a summary, of which only the number is of interest here.
    Sample,
}

/// One message to the collector.
#[derive(Debug, Clone, PartialEq)]
pub enum Parcel {
    /// An item.
    Item(Seq, Option<Record>),
    /// These were dropped, both ends included.
    Lost(Seq, Seq),
}

/// The disk of an agent: its ledger and its spool, both durable as far as they reach here. What
/// is on its way to the disk is an event of the world, and a crash drops that event.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The ledger.
    pub ledger: Vec<Record>,
    /// How many records of the ledger are in the spool.
    spooled: usize,
    epoch: Epoch,
    next: u64,
    items: VecDeque<(u64, Spooled)>,
    acked: u64,
    /// How many items were dropped for want of space.
    pub dropped: u64,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            ledger: Vec::new(),
            spooled: 0,
            epoch: Epoch(epoch),
            next: 1,
            items: VecDeque::new(),
            acked: 0,
            dropped: 0,
        }
    }

    /// The life of this spool.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Puts the records in the spool that are in the ledger and not yet there: after an append,
    /// and after a crash between the two.
    pub fn spool_records(&mut self) {
        while self.spooled < self.ledger.len() {
            self.put(Spooled::Record(self.spooled));
            self.spooled += 1;
        }
    }

    /// Puts something in the spool.
    pub fn put(&mut self, item: Spooled) {
        self.items.push_back((self.next, item));
        self.next += 1;
        if self.items.len() > ITEMS_MAX
            && let Some(at) = self.items.iter().position(|(_, item)| *item == Spooled::Sample)
        {
            self.items.remove(at);
            self.dropped += 1;
        }
    }

    /// Everything up to this is stored at the collector.
    pub fn acknowledged(&mut self, epoch: Epoch, upto: Seq) {
        if epoch == self.epoch && upto.0 > self.acked && upto.0 < self.next {
            self.acked = upto.0;
            self.items.retain(|(seq, _)| *seq > upto.0);
        }
    }

    /// What is to be sent next, after `after` and what is acknowledged: at most `many` items, and
    /// the holes between them.
    #[must_use]
    pub fn parcels(&self, after: Seq, many: usize) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        let mut next = after.0.max(self.acked) + 1;
        for (seq, item) in self.items.iter().filter(|(seq, _)| *seq >= next).take(many).collect::<Vec<_>>() {
            if *seq > next {
                parcels.push(Parcel::Lost(Seq(next), Seq(seq - 1)));
            }
            let record = match item {
                Spooled::Record(at) => self.ledger.get(*at).cloned(),
                Spooled::Sample => None,
            };
            parcels.push(Parcel::Item(Seq(*seq), record));
            next = seq + 1;
        }
        parcels
    }

    /// Whether the collector has acknowledged every record. Samples go on coming.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let is_record = |item: &Spooled| matches!(item, Spooled::Record(_));
        self.spooled == self.ledger.len() && !self.items.iter().any(|(_, item)| is_record(item))
    }
}
