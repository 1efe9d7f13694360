//! Opening a spool after whatever happened, and beginning one.
//!
//! A spool lives in a folder named by its generation and epoch, below one named after the host.
//! With a new epoch the next generation is written whole beside the old one before it takes its
//! place. Nothing that is found here keeps the agent from starting: an unreadable segment is set
//! aside, and what was in it becomes a gap.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_core::id::{Epoch, Seq};
use mainstay_core::time::Now;
use mainstay_proto::v1;
use prost::Message as _;

use super::cursor::{Cursor, Marks};
use super::item::{Body, Stored, SummaryBodies};
use super::lane::{Lane, LaneKind};
use super::runs::{Known, Run};
use super::{Reading, Spool, SpoolSettings};
use crate::durable;

/// Findings, references to records, gaps. A segment holds hundreds of them.
const KEEP: LaneKind = LaneKind { prefix: "keep-", segment_bytes: 256 * 1024, ahead: true };
/// Samples, those around findings included. What is dropped at once is dropped by the segment.
const SAMPLES: LaneKind = LaneKind { prefix: "samples-", segment_bytes: 1024 * 1024, ahead: false };

/// What was lost with a segment, or with the end of one when the machine went down.
const UNREADABLE: &str = "not readable on the agent's disk";

/// What opening saw of the items.
#[derive(Default)]
struct Seen {
    known: Known,
    last: u64,
    records: Vec<(u64, u64)>,
    gaps: Vec<(Seq, i64, v1::Gap)>,
}

impl Seen {
    fn item(&mut self, item: &Stored) {
        self.known.add(Run::one(item.seq.0, item.wall_ms));
        self.last = self.last.max(item.seq.0);
        match &item.body {
            Body::Record(index) => self.records.push((item.seq.0, *index)),
            Body::Gap(bytes) => {
                let Ok(gap) = v1::Gap::decode(&**bytes) else { return };
                self.known.add(covered(&gap));
                self.gaps.push((item.seq, item.wall_ms, gap));
            }
            Body::Finding(_) | Body::Change(_) | Body::Summary(_) | Body::Recording(_) | Body::Scene(_) => {}
        }
    }
}

fn covered(gap: &v1::Gap) -> Run {
    Run { first: gap.seq_from, last: gap.seq_to, wall_from_ms: gap.wall_from_ms, wall_to_ms: gap.wall_to_ms }
}

impl Spool {
    /// Opens the spool of a host, or begins it.
    ///
    /// # Errors
    /// If its folder or files cannot be read or made. What they say is never a reason.
    pub fn open(settings: SpoolSettings, now: Now) -> io::Result<Self> {
        let home = settings.root.join(settings.host.to_string());
        durable::make_dir(&home)?;
        forget_others(&settings.root, &home);
        let mut folders = generations(&home)?;
        let newest = folders.pop();
        for (_, _, stale) in folders {
            let _ = fs::remove_dir_all(stale);
        }
        let (epoch, dir) = match newest {
            Some((_, epoch, dir)) => (epoch, dir),
            None => {
                let dir = home.join(folder_name(1, settings.new_epoch));
                durable::make_dir(&dir)?;
                durable::sync_dir(&home)?;
                (settings.new_epoch, dir)
            }
        };
        Self::open_in(settings, &dir, epoch, now)
    }

    fn open_in(settings: SpoolSettings, dir: &Path, epoch: Epoch, now: Now) -> io::Result<Self> {
        let (mut seen, mut notes) = (Seen::default(), Vec::new());
        let keep = Lane::open(dir, KEEP, |item| seen.item(item), |note| notes.push(note))?;
        let samples = Lane::open(dir, SAMPLES, |item| seen.item(item), |note| notes.push(note))?;
        let new = Marks { acked: 0, next: seen.last + 1, record_acked: settings.countersigned };
        let (cursor, marks) = Cursor::open(dir, new)?;
        let mut marks = marks.unwrap_or(new);
        marks.next = marks.next.max(seen.last + 1).max(marks.acked + 1);
        notes.iter().for_each(|note| tracing::warn!(%note, "spool"));
        let mut spool = Self {
            settings,
            epoch,
            keep,
            samples,
            cursor,
            marks,
            gaps: BTreeMap::new(),
            lost: Vec::new(),
            records: VecDeque::new(),
            referred: marks.record_acked,
            refer_again: Vec::new(),
            reading: Reading { after: marks.acked, ..Reading::default() },
            bodies: SummaryBodies::default(),
            dropped: 0,
            notes,
        };
        spool.take_up(seen);
        spool.keep.make_spare();
        spool.make_room(now);
        Ok(spool)
    }

    /// Takes up what was seen beyond the cursor; what is missing between becomes a gap.
    fn take_up(&mut self, seen: Seen) {
        let Marks { acked, next, record_acked } = self.marks;
        let holes = seen.known.holes(acked, next);
        self.lost.extend(holes.into_iter().map(|run| (run, UNREADABLE)));
        for (seq, wall_ms, gap) in seen.gaps.into_iter().filter(|(seq, ..)| seq.0 > acked) {
            self.hold_gap(seq, wall_ms, gap);
        }
        let mut records = seen.records;
        records.sort_unstable();
        self.referred = records.iter().map(|(_, index)| *index).max().unwrap_or(0).max(record_acked);
        let present: BTreeSet<u64> = records.iter().map(|(_, index)| *index).collect();
        // What of the ledger has lost its number: it gets a new one with the next call of `refer`.
        self.refer_again = (record_acked + 1..=self.referred).filter(|index| !present.contains(index)).collect();
        self.records = records.into_iter().filter(|(seq, _)| *seq > acked).collect();
    }

    /// Reads again what is pending, after the cursor was set back.
    pub(super) fn read_pending(&mut self) -> io::Result<()> {
        let mut seen = Seen::default();
        for segment in &self.keep.segments {
            self.keep.items(segment)?.iter().for_each(|item| seen.item(item));
        }
        let (referred, acked) = (self.referred, self.marks.acked);
        self.gaps.clear();
        for (seq, wall_ms, gap) in seen.gaps.into_iter().filter(|(seq, ..)| seq.0 > acked) {
            self.hold_gap(seq, wall_ms, gap);
        }
        self.records = seen.records.into_iter().filter(|(seq, _)| *seq > acked).collect();
        let present: BTreeSet<u64> = self.records.iter().map(|(_, index)| *index).collect();
        self.refer_again = (self.marks.record_acked + 1..=referred).filter(|index| !present.contains(index)).collect();
        Ok(())
    }

    /// Begins a new numbering, because the collector has numbers of this one that were not given
    /// out here: the machine was set back to an earlier state. What waits is taken along.
    pub(super) fn begin_anew(&mut self, now: Now) -> io::Result<()> {
        let epoch = Epoch(self.settings.new_epoch.0 ^ self.epoch.0.rotate_left(17) ^ self.marks.next);
        self.notes.push(format!(
            "the collector has more of this spool than the spool itself ({} items): numbering starts anew",
            self.marks.next - 1
        ));
        tracing::warn!(next = self.marks.next, "the spool is behind the collector, numbering starts anew");
        let home = self.settings.root.join(self.settings.host.to_string());
        let last = generations(&home)?.last().map_or(0, |(generation, ..)| *generation);
        let building = home.join("building");
        let _ = fs::remove_dir_all(&building);
        durable::make_dir(&building)?;
        let settings = SpoolSettings { countersigned: self.marks.record_acked, ..self.settings.clone() };
        let mut new = Self::open_in(settings, &building, epoch, now)?;
        self.reading = Reading { after: self.marks.acked, ..Reading::default() };
        while let Some(item) = self.next_item()? {
            new.take_over(item)?;
        }
        new.referred = new.referred.max(self.referred);
        new.refer_again = std::mem::take(&mut self.refer_again);
        let dir = home.join(folder_name(last + 1, epoch));
        fs::rename(&building, &dir)?;
        durable::sync_dir(&home)?;
        for (_, _, old) in generations(&home)?.into_iter().filter(|(generation, ..)| *generation <= last) {
            let _ = fs::remove_dir_all(old);
        }
        let notes = std::mem::take(&mut self.notes);
        *self = Self::open_in(
            SpoolSettings { countersigned: self.marks.record_acked, ..self.settings.clone() },
            &dir,
            epoch,
            now,
        )?;
        self.notes.extend(notes);
        Ok(())
    }

    /// Takes an item of another spool, under a number of this one. A gap there is none here.
    fn take_over(&mut self, item: Stored) -> io::Result<()> {
        let stored = Stored { seq: Seq(self.marks.next), ..item };
        match stored.body {
            Body::Gap(_) => return Ok(()),
            Body::Summary(_) | Body::Recording(_) | Body::Scene(_) => {
                self.samples.append(std::slice::from_ref(&stored))?
            }
            Body::Finding(_) | Body::Change(_) | Body::Record(_) => self.keep.append(std::slice::from_ref(&stored))?,
        }
        self.marks.next += 1;
        Ok(())
    }
}

fn folder_name(generation: u64, epoch: Epoch) -> String {
    format!("{generation:06}-{:016x}", epoch.0)
}

/// The spools in a folder, oldest first.
fn generations(home: &Path) -> io::Result<Vec<(u64, Epoch, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('-'));
        let Some((generation, epoch)) = parts else { continue };
        if let (Ok(generation), Ok(epoch)) = (generation.parse(), u64::from_str_radix(epoch, 16)) {
            found.push((generation, Epoch(epoch), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Drops the spools of earlier enrolments: nobody takes them any more.
fn forget_others(root: &Path, home: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.path() != home && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tracing::info!(path = %entry.path().display(), "dropping the spool of an earlier enrolment");
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
