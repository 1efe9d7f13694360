//! Who had which series when: hours of [`Hour`]s in memory, kept true with every group that is written.
//!
//! In: every group of changes as it is written, and hours as they were read ([`super::tend`]). Out: of a span, the hosts that
//! surely had rows of each schema, without a look into the store. Hours that are not known, or of which there is no room for,
//! are not answered for, and whoever asks reads the hosts.
//!
//! Rows and blocks are added when their group is durable; what goes makes hosts, or hours, unknown before it is written. While
//! an hour is read all that comes is noted beside it, from a moment before on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mainstay_fleet::block::{self, Head};
use mainstay_fleet::presence::{HOUR_MS, HostSet, Hour, Present, Run};

use super::columns::Column;
use super::keys::{BlockKey, Key, OpenRowKey, PieceKey};
use super::series::hour_of;

/// Most schemas that are numbered; beyond it all is read anew.
const SCHEMAS_MAX: usize = 1 << 16;
/// Hours with hosts that are not known are read again after so many turns.
const AGAIN_TURNS: u64 = 6;
/// What a numbered schema takes.
const SCHEMA_BYTES: usize = 80;

/// The id of a schema.
type Id = [u8; 16];

/// Hosts that had rows in a span.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// Who surely had rows of each schema.
    pub sure: Vec<(Id, HostSet)>,
    /// Who may have had rows of any.
    pub unknown: HostSet,
}

/// What a group of changes means for who had which series.
#[derive(Debug, Default)]
pub(super) struct Notes {
    rows: Vec<(u32, i64, Option<Id>)>,
    blocks: Vec<(u32, u32, Id, Run)>,
    /// Hosts and hours of which something goes, or that cannot be followed.
    unknown: Vec<(u32, u32)>,
    /// Hours of which ranges go, from and to.
    ranges: Vec<(u32, u32)>,
    /// Of the batch that is being noted: hosts and hours of which blocks are written, and of which rows or blocks go.
    written: BTreeSet<(u32, u32)>,
    gone: BTreeSet<(u32, u32)>,
}

/// The milliseconds of a time in its hour.
fn in_hour(at_ms: i64) -> u32 {
    u32::try_from(at_ms.rem_euclid(i64::from(HOUR_MS))).unwrap_or(0)
}

/// The rows of a block, by the times in its head.
pub(super) fn run_of(head: &Head) -> Option<Run> {
    Run::of(head.times.iter().map(|at_ms| in_hour(*at_ms)))
}

impl Notes {
    pub(super) fn put(&mut self, column: Column, key: &[u8], value: &[u8]) {
        match (column, key.first().copied()) {
            (Column::Head, Some(OpenRowKey::ORDINAL)) => {
                if let Ok(key) = OpenRowKey::decode(key) {
                    self.rows.push((key.host, key.at_ms, block::schema_of(value)));
                }
            }
            (Column::Series, Some(PieceKey::ORDINAL)) => {
                let Some(key) = head_key(key) else { return };
                self.written.insert((key.host, key.hour));
                let head = Head::open(value).ok().and_then(|head| Some((head.schema, run_of(&head)?)));
                match head {
                    Some((schema, run)) => self.blocks.push((key.host, key.hour, schema, run)),
                    None => self.unknown.push((key.host, key.hour)),
                }
            }
            (Column::Series, Some(BlockKey::ORDINAL)) => self.old_block(key),
            _ => {}
        }
    }

    pub(super) fn delete(&mut self, column: Column, key: &[u8]) {
        match (column, key.first().copied()) {
            (Column::Head, Some(OpenRowKey::ORDINAL)) => {
                self.gone.extend(OpenRowKey::decode(key).ok().map(|key| (key.host, hour_of(key.at_ms))));
            }
            (Column::Series, Some(PieceKey::ORDINAL)) => {
                self.gone.extend(head_key(key).map(|key| (key.host, key.hour)));
            }
            (Column::Series, Some(BlockKey::ORDINAL)) => self.old_block(key),
            _ => {}
        }
    }

    pub(super) fn delete_range(&mut self, column: Column, from: &[u8], to: &[u8]) {
        let hour = |key: &[u8]| key.get(1..5)?.first_chunk().map(|hour| u32::from_be_bytes(*hour));
        match (column, from.first().copied()) {
            (Column::Series, Some(PieceKey::ORDINAL | BlockKey::ORDINAL)) => {
                self.ranges.push((hour(from).unwrap_or(0), hour(to).unwrap_or(u32::MAX)));
            }
            (Column::Head, _) => self.ranges.push((0, u32::MAX)),
            _ => {}
        }
    }

    /// Blocks of version 1 are not followed.
    fn old_block(&mut self, key: &[u8]) {
        self.unknown.extend(BlockKey::decode(key).ok().map(|key| (key.host, key.hour)));
    }

    /// What a batch takes away of an hour of a host and writes as a block is there as it was.
    pub(super) fn end_batch(&mut self) {
        let written = std::mem::take(&mut self.written);
        self.unknown.extend(std::mem::take(&mut self.gone).difference(&written));
    }
}

/// The key of a block's head, if it is one.
fn head_key(key: &[u8]) -> Option<PieceKey> {
    PieceKey::decode(key).ok().filter(|key| key.piece == PieceKey::HEAD)
}

/// What is known of an hour.
#[derive(Debug, Default)]
struct Known {
    /// What is answered from, once it was read.
    loaded: Option<Hour>,
    /// What came since it is being read.
    following: Option<Hour>,
    /// What both took when they were last looked at.
    bytes: usize,
    is_settled: bool,
    /// The turn in which it was read.
    turn: u64,
}

impl Known {
    fn each(&mut self, mut change: impl FnMut(&mut Hour)) {
        self.is_settled = false;
        self.loaded.iter_mut().chain(&mut self.following).for_each(&mut change);
    }
}

#[derive(Debug, Default)]
struct Inner {
    hours: BTreeMap<u32, Known>,
    ids: Vec<Id>,
    numbers: HashMap<Id, u32>,
    /// The first and the last hour that has anything, once they were looked for; and of what came since that began.
    range: Option<(u32, u32)>,
    came: Option<(u32, u32)>,
    /// Grows when hours are forgotten: what was being read then is not taken.
    forgot: u64,
    /// How much was forgotten when the range was looked for.
    ranged: u64,
    /// There was no room for hours before this one.
    full_before: u32,
    turn: u64,
}

impl Inner {
    fn number(&mut self, id: Id) -> u32 {
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        if self.ids.len() >= SCHEMAS_MAX {
            self.forget_all();
        }
        let number = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        self.ids.push(id);
        self.numbers.insert(id, number);
        number
    }

    fn forget_all(&mut self) {
        self.hours.clear();
        self.ids.clear();
        self.numbers.clear();
        self.forgot += 1;
    }

    fn reach(&mut self, hour: u32) {
        let wider = |range: &mut (u32, u32)| *range = (range.0.min(hour), range.1.max(hour));
        wider(self.came.get_or_insert((hour, hour)));
        self.range.as_mut().map(wider);
    }

    fn hour(&mut self, hour: u32) -> Option<&mut Known> {
        self.hours.get_mut(&hour)
    }

    fn bytes(&self) -> usize {
        self.hours.values().map(|known| known.bytes).sum::<usize>() + self.ids.len() * SCHEMA_BYTES
    }

    /// Settles hours that are over, counts what all take, and lets the oldest go where that is too much.
    fn look_over(&mut self, bytes_max: usize) {
        let newest = self.range.map_or(0, |(_, last)| last);
        for (hour, known) in &mut self.hours {
            if *hour < newest && !known.is_settled {
                known.loaded.iter_mut().for_each(Hour::settle);
                known.is_settled = true;
            }
            known.bytes = known.loaded.iter().chain(&known.following).map(Hour::bytes).sum();
        }
        if self.bytes() < bytes_max / 2 {
            self.full_before = 0;
        }
        while self.bytes() > bytes_max
            && let Some((hour, _)) = self.hours.pop_first()
        {
            self.full_before = hour.saturating_add(1);
        }
    }
}

/// Who had which series when.
#[derive(Debug)]
pub struct Presence {
    inner: Mutex<Inner>,
    bytes_max: usize,
}

impl Presence {
    /// Of so many bytes, about.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of what is kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// How many hours are known.
    #[must_use]
    pub fn hours(&self) -> usize {
        self.lock().hours.values().filter(|known| known.loaded.is_some()).count()
    }

    /// Who had rows in a span, both ends included; `None` if not all of it is known.
    #[must_use]
    pub(super) fn within(&self, from_ms: i64, to_ms: i64) -> Option<Hosts> {
        let inner = self.lock();
        let (first, last) = inner.range?;
        let mut present = Present::default();
        for hour in hour_of(from_ms).max(first)..=hour_of(to_ms).min(last) {
            let known = inner.hours.get(&hour)?.loaded.as_ref()?;
            let begin_ms = i64::from(hour) * i64::from(HOUR_MS);
            let place = |ms: i64| u32::try_from((ms - begin_ms).clamp(0, i64::from(HOUR_MS) - 1)).unwrap_or(0);
            known.within(place(from_ms.max(0)), place(to_ms.max(0)), &mut present);
        }
        let id = |number: u32| inner.ids.get(number as usize).copied();
        let sure = present.sure.into_iter().filter_map(|(number, hosts)| Some((id(number)?, hosts))).collect();
        Some(Hosts { sure, unknown: present.unknown })
    }

    /// Lets go what a group will change, before it is written.
    pub(super) fn before(&self, notes: &Notes) {
        let mut inner = self.lock();
        for (from, to) in &notes.ranges {
            inner.forgot += 1;
            inner.hours.retain(|hour, _| !(from..=to).contains(&hour));
        }
        for (host, hour) in &notes.unknown {
            if let Some(known) = inner.hour(*hour) {
                known.each(|of| of.forget(*host));
            }
        }
        // From here on somebody may read them.
        let rows = notes.rows.iter().map(|(_, at_ms, _)| hour_of(*at_ms));
        rows.chain(notes.blocks.iter().map(|(_, hour, ..)| *hour)).for_each(|hour| inner.reach(hour));
    }

    /// Adds what a group has written.
    pub(super) fn after(&self, notes: Notes) {
        let mut inner = self.lock();
        for (host, at_ms, schema) in notes.rows {
            if inner.hour(hour_of(at_ms)).is_none() {
                continue;
            }
            let number = schema.map(|schema| inner.number(schema));
            let Some(known) = inner.hour(hour_of(at_ms)) else { continue };
            known.each(|of| match number {
                Some(number) => of.wrote(host, number, in_hour(at_ms)),
                None => of.forget(host),
            });
        }
        for (host, hour, schema, run) in notes.blocks {
            if inner.hour(hour).is_none() {
                continue;
            }
            let number = inner.number(schema);
            if let Some(known) = inner.hour(hour) {
                known.each(|of| of.add(host, number, run));
            }
        }
    }

    /// A host of which nothing is stored any more.
    pub(super) fn without(&self, host: u32) {
        let mut inner = self.lock();
        // What is being read may have it still.
        inner.forgot += 1;
        inner.hours.values_mut().for_each(|known| known.each(|of| of.remove(host)));
    }

    /// Everything is to be read anew.
    pub(super) fn forget(&self) {
        self.lock().forget_all();
    }

    /// Hours before this one are removed.
    pub(super) fn forget_before(&self, hour: u32) {
        let mut inner = self.lock();
        inner.forgot += 1;
        inner.hours.retain(|known, _| *known >= hour);
    }

    /// Whether it is not known which hours have anything.
    pub(super) fn wants_range(&self) -> bool {
        let inner = self.lock();
        inner.range.is_none() || inner.ranged != inner.forgot
    }

    /// Begins to look for the first and the last hour that has anything.
    pub(super) fn begin_range(&self) {
        let mut inner = self.lock();
        (inner.came, inner.ranged) = (None, inner.forgot);
    }

    /// Takes what was found since [`Self::begin_range`].
    pub(super) fn set_range(&self, found: Option<(u32, u32)>) {
        let mut inner = self.lock();
        inner.range = match (found, inner.came) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        };
        let first = inner.range.map_or(0, |(first, _)| first);
        inner.hours.retain(|hour, _| *hour >= first);
    }

    /// The hours that are to be read next, the newest first: those that are not known, and the newest of those with hosts that
    /// are not, some turns after they were.
    pub(super) fn to_read(&self, most: usize) -> Vec<u32> {
        let mut inner = self.lock();
        inner.turn += 1;
        inner.look_over(self.bytes_max);
        let Some((first, last)) = inner.range else { return Vec::new() };
        let is_due = |hour: &u32| {
            let known = inner.hours.get(hour).and_then(|known| Some((known.loaded.as_ref()?, known.turn)));
            known.is_none_or(|(of, turn)| !of.unknown().is_empty() && inner.turn >= turn + AGAIN_TURNS)
        };
        // One more than has anything, so that an hour is known when it begins.
        (first.max(inner.full_before)..=last.saturating_add(1)).rev().filter(is_due).take(most).collect()
    }

    /// Begins to read some hours; what comes from now on is noted beside. Gives what [`Self::take`] wants to see again.
    pub(super) fn follow(&self, hours: &[u32]) -> u64 {
        let mut inner = self.lock();
        for hour in hours {
            inner.hours.entry(*hour).or_default().following = Some(Hour::default());
        }
        inner.forgot
    }

    /// Takes an hour that was read.
    pub(super) fn take(&self, hour: u32, read: Vec<(u32, Option<Id>, Run)>, forgot: u64) {
        let mut inner = self.lock();
        let mut of = Hour::default();
        for (host, schema, run) in read {
            match schema {
                Some(schema) => {
                    let number = inner.number(schema);
                    of.add(host, number, run);
                }
                None => of.forget(host),
            }
        }
        let (is_as_it_was, turn) = (inner.forgot == forgot, inner.turn);
        if let Some(known) = inner.hour(hour)
            && let Some(mut following) = known.following.take()
            && is_as_it_was
        {
            following.join(of);
            *known = Known { loaded: Some(following), turn, ..Known::default() };
        }
        inner.look_over(self.bytes_max);
    }
}
