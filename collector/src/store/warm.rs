//! What questions read lately, kept for those that ask again: columns of sealed blocks, unpacked, and columns of
//! open rows, which grow with every row that comes.
//!
//! In: what a reader has read of a host, and every group of changes as it is written. Out: the same to whoever asks for it
//! again, without a look into the store. Whatever changes anything else of a host than adding its newest row makes what
//! was kept of that go, before it is written. So a kept column is what the asker's snapshot holds; of open rows there may be
//! newer ones too, which came since.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_fleet::block::Loose;

use super::columns::Column;
use super::kept::{Blocks, COLUMNS_MAX, Gathered, Hour, Rows};
use super::keys::{Key, OpenRowKey, PieceKey};

/// Places that are locked by themselves, so that who asks and who writes seldom meet.
const SHARDS: u32 = 64;
/// Between two times that room is made.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The share of all room that there is then, for what is asked anew.
const ROOM_SHARE: usize = 8;
/// What nobody asked for while room was made more often than this goes. A question is under way when room is made, and has not come yet
/// to what it asks for again.
const UNUSED_MAX: u8 = 2;
/// What a change is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A row that came: of whom, when, and its bytes.
    Row(u32, i64, Vec<u8>),
    /// Open rows that go.
    Gone(u32),
    /// Blocks of an hour.
    Hour(u32, u32),
    /// Blocks that go: of which hours, and of which hosts.
    Blocks(RangeInclusive<u32>, RangeInclusive<u32>),
    /// More than is told.
    All,
}

impl Change {
    /// What writing a value under a key changes, or removing it where there is none.
    pub(super) fn of(column: Column, key: &[u8], value: Option<Vec<u8>>) -> Option<Self> {
        match (column, key.first().copied()) {
            (Column::Head, Some(OpenRowKey::ORDINAL)) => OpenRowKey::decode(key).ok().map(|key| match value {
                Some(value) => Self::Row(key.host, key.at_ms, value),
                None => Self::Gone(key.host),
            }),
            (Column::Series, Some(PieceKey::ORDINAL)) => {
                PieceKey::decode(key).ok().map(|key| Self::Hour(key.host, key.hour))
            }
            _ => None,
        }
    }

    /// What removing all keys from one up to but without another changes. What is rolled up or of version 1 is not kept.
    pub(super) fn of_range(column: Column, from: &[u8], to: &[u8]) -> Option<Self> {
        if column != Column::Series {
            return (column == Column::Head).then_some(Self::All);
        }
        let end = [PieceKey::ORDINAL + 1];
        let (from, to) = (from.max(&[PieceKey::ORDINAL]), to.min(&end));
        if from >= to {
            return None;
        }
        let within = |at: usize| {
            // A key that ends with the number lies before all that go on behind it.
            let last = number(to, at).checked_sub(u32::from(to.len() <= at + size_of::<u32>()))?;
            Some(number(from, at)).filter(|first| *first <= last).map(|first| first..=last)
        };
        let hours = if to == end { number(from, HOUR_AT)..=u32::MAX } else { within(HOUR_AT)? };
        let is_of_piece = to.len() > HOST_AT && from.get(..HOST_AT) == to.get(..HOST_AT);
        let hosts = if is_of_piece { within(HOST_AT)? } else { 0..=u32::MAX };
        Some(Self::Blocks(hours, hosts))
    }
}

/// Where in the key of a piece its hour is, and its host.
const HOUR_AT: usize = 1;
const HOST_AT: usize = 6;

/// The number at a place of a key, which ends with zeros if the key ends within it.
fn number(key: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|byte| key.get(at + byte).copied().unwrap_or(0)))
}

/// What is kept of a host.
#[derive(Debug, Default)]
struct Of {
    /// The last groups that change its rows, and its blocks.
    rows_changed: u64,
    blocks_changed: u64,
    rows: Option<Arc<Rows>>,
    hours: BTreeMap<u32, Arc<Hour>>,
    /// How often room was made since anybody asked for it.
    unused: u8,
}

impl Of {
    fn bytes(&self) -> usize {
        let rows = self.rows.as_ref().map_or(0, |rows| rows.bytes());
        rows + self.hours.values().map(|hour| hour.bytes()).sum::<usize>()
    }

    fn forget(&mut self) {
        self.rows = None;
        self.hours.clear();
    }
}

#[derive(Debug, Default)]
struct Shard {
    hosts: BTreeMap<u32, Of>,
    bytes: usize,
    /// The last group that changes more than is told.
    changed: u64,
    /// When room was made last.
    swept: Option<Instant>,
}

impl Shard {
    /// Changes what is kept of a host, and counts what it takes then.
    fn set(&mut self, host: u32, change: impl FnOnce(&mut Of)) {
        let of = self.hosts.entry(host).or_default();
        let before = of.bytes();
        change(of);
        self.bytes = (self.bytes + of.bytes()).saturating_sub(before);
    }

    /// Lets go what nobody asked for lately, and of the rest as much as leaves some room. Not more often than questions come
    /// again: whoever asks about more than fits is helped by what stays, and not at all if each part of it goes as the next
    /// comes. Says whether there is room.
    fn make_room(&mut self, bytes_max: usize) -> bool {
        if self.swept.is_some_and(|swept| swept.elapsed() < SWEEP_EVERY) {
            return false;
        }
        self.swept = Some(Instant::now());
        for of in self.hosts.values_mut() {
            of.unused = of.unused.saturating_add(1);
            if of.unused > UNUSED_MAX {
                of.forget();
            }
        }
        self.bytes = self.hosts.values().map(Of::bytes).sum();
        let enough = bytes_max - bytes_max / ROOM_SHARE;
        // First what was not asked for since room was made the last time.
        for unused in (1..=UNUSED_MAX).rev() {
            for of in self.hosts.values_mut().filter(|of| of.unused >= unused) {
                if self.bytes <= enough {
                    return true;
                }
                self.bytes = self.bytes.saturating_sub(of.bytes());
                of.forget();
            }
        }
        true
    }

    fn forget(&mut self) {
        self.hosts.values_mut().for_each(Of::forget);
        self.bytes = 0;
    }

    /// Lets blocks go that a group removes; nothing is kept that was read before it was written.
    fn cut(&mut self, hours: &RangeInclusive<u32>, hosts: &RangeInclusive<u32>, group: u64) {
        for (_, of) in self.hosts.range_mut(hosts.clone()) {
            let gone: usize = of.hours.extract_if(hours.clone(), |_, _| true).map(|(_, hour)| hour.bytes()).sum();
            self.bytes = self.bytes.saturating_sub(gone);
        }
        self.changed = self.changed.max(group);
    }

    /// Lets everything go, and nothing is kept that was read before a group was written.
    fn forget_until(&mut self, group: u64) {
        self.forget();
        self.changed = self.changed.max(group);
    }
}

/// What is kept of all hosts.
#[derive(Debug)]
pub struct Warm {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: usize,
    /// Groups that are written.
    written: AtomicU64,
}

impl Warm {
    /// Of so many bytes, about.
    pub(super) fn new(bytes_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, shard_bytes_max: bytes_max / SHARDS as usize, written: AtomicU64::new(0) }
    }

    /// Groups that are written: a snapshot that is taken afterwards holds them all.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Bytes of what is kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes).sum()
    }

    /// Makes room as soon as it is wanted, as after a while.
    #[cfg(test)]
    pub(super) fn pass_time(&self) {
        self.shards.iter().for_each(|shard| lock(shard).swept = None);
    }

    /// Lets everything go, as after a start: for measurements.
    pub fn forget(&self) {
        self.shards.iter().for_each(|shard| lock(shard).forget());
    }

    /// Lets everything go, also what those still read that have begun: something that was read before can be read no more,
    /// and every question is to be told alike.
    pub(super) fn forget_all(&self) {
        let group = self.written() + 1;
        for shard in &self.shards {
            lock(shard).forget_until(group);
        }
    }

    /// Lets all of a host go, also what those still read that have begun.
    pub(super) fn forget_host(&self, host: u32) {
        let group = self.written() + 1;
        self.shard(host).set(host, |of| {
            of.forget();
            (of.rows_changed, of.blocks_changed) = (of.rows_changed.max(group), of.blocks_changed.max(group));
        });
    }

    /// The open rows of a host as a snapshot has them that was taken when so many groups were written.
    pub(super) fn rows(&self, host: u32, written: u64) -> Option<Arc<Rows>> {
        let mut shard = self.shard(host);
        let of = shard.hosts.get_mut(&host)?;
        of.unused = 0;
        of.rows.as_ref().filter(|rows| rows.since <= written).cloned()
    }

    /// The blocks of an hour of a host as such a snapshot has them.
    pub(super) fn hour(&self, host: u32, hour: u32, written: u64) -> Option<Arc<Hour>> {
        let mut shard = self.shard(host);
        let of = shard.hosts.get_mut(&host)?;
        of.unused = 0;
        of.hours.get(&hour).filter(|hour| hour.since <= written).cloned()
    }

    /// Keeps open rows that such a snapshot has: all of the host's.
    pub(super) fn keep_rows(&self, host: u32, gathered: Gathered, written: u64) {
        let Some(mut rows) = gathered.done() else { return };
        rows.since = written;
        self.keep(
            host,
            written,
            |of| of.rows_changed,
            |of| {
                if let Some(known) = of.rows.take().filter(|known| known.times == rows.times) {
                    let room = COLUMNS_MAX.saturating_sub(rows.columns.len());
                    for (asked, column) in known.columns.iter().take(room) {
                        rows.columns.add_with(asked, || column.clone());
                    }
                }
                of.rows = Some(Arc::new(rows));
            },
        );
    }

    /// Keeps blocks that such a snapshot has: all of an hour of the host.
    pub(super) fn keep_hour(&self, host: u32, hour: u32, blocks: Blocks, written: u64) {
        let are_many = blocks.blocks.iter().any(|block| block.columns.len() > COLUMNS_MAX);
        if blocks.is_spoiled || are_many {
            return;
        }
        let mut kept = Hour { blocks: blocks.blocks, since: written };
        self.keep(
            host,
            written,
            |of| of.blocks_changed,
            |of| {
                if let Some(known) = of.hours.remove(&hour) {
                    kept.add(&known);
                }
                of.hours.insert(hour, Arc::new(kept));
            },
        );
    }

    fn keep(&self, host: u32, written: u64, changed: impl Fn(&Of) -> u64, change: impl FnOnce(&mut Of)) {
        let mut shard = self.shard(host);
        let is_as_it_was = shard.hosts.get(&host).is_none_or(|of| changed(of) <= written);
        // What was read may have changed since.
        let is_as_it_was = is_as_it_was && shard.changed <= written;
        if is_as_it_was && (shard.bytes <= self.shard_bytes_max || shard.make_room(self.shard_bytes_max)) {
            shard.set(host, change);
        }
    }

    /// Lets go what a group will change. Gives back those of its rows that are to be added to what is kept; the rest is
    /// of no use any more.
    pub(super) fn before(&self, mut changes: Vec<Change>) -> Vec<Change> {
        let group = self.written() + 1;
        changes.retain(|change| {
            let host = match change {
                Change::All => {
                    self.forget_all();
                    return false;
                }
                Change::Blocks(hours, hosts) => {
                    self.shards.iter().for_each(|shard| lock(shard).cut(hours, hosts, group));
                    return false;
                }
                Change::Row(host, ..) | Change::Gone(host) | Change::Hour(host, _) => *host,
            };
            let mut is_wanted = false;
            self.shard(host).set(host, |of| {
                match change {
                    Change::Hour(..) => of.blocks_changed = group,
                    _ => of.rows_changed = group,
                }
                match change {
                    Change::Row(_, at_ms, _) => {
                        is_wanted = of.rows.as_ref().is_some_and(|rows| rows.times.last() < Some(at_ms));
                        if !is_wanted {
                            of.rows = None;
                        }
                    }
                    Change::Gone(_) => of.rows = None,
                    Change::Hour(_, hour) => drop(of.hours.remove(hour)),
                    Change::Blocks(..) | Change::All => {}
                }
            });
            is_wanted
        });
        changes
    }

    /// Notes that a group is written, or could not be, with what [`Self::before`] gave back.
    pub(super) fn after(&self, rows: Vec<Change>, is_written: bool) {
        for change in rows {
            let Change::Row(host, _, bytes) = change else { continue };
            let row = Loose::open(&bytes).ok().filter(|_| is_written);
            self.shard(host).set(host, |of| {
                let fits = |(rows, row): (&mut Arc<Rows>, &Loose<'_>)| Arc::make_mut(rows).push(row);
                if !of.rows.as_mut().zip(row.as_ref()).is_some_and(fits) {
                    of.rows = None;
                }
            });
        }
        self.written.fetch_add(1, Ordering::Release);
    }

    fn shard(&self, host: u32) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(host % SHARDS) as usize])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
