//! A lane: segments of one sort of items, oldest first. Samples and what must not be lost lie in
//! lanes of their own, so that making room is deleting a file, which works on a full disk too.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mainstay_core::ledger::frame::{self, FRAME_HEADER_BYTES, Read};

use super::item::{Body, Stored};
use super::runs::{self, Run};
use crate::durable;

/// What a segment begins with: magic, then its first number.
const MAGIC: [u8; 8] = *b"MSSPOOL1";
pub(super) const HEADER_BYTES: usize = 16;

/// Most segments that are set aside because something in them is unreadable.
const SET_ASIDE_MAX: usize = 4;

/// How much is read at once while sending.
const READ_BYTES: usize = 64 * 1024;

/// How a lane keeps its segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneKind {
    /// What the names of its files begin with.
    pub(super) prefix: &'static str,
    /// When the next segment is begun.
    pub(super) segment_bytes: usize,
    /// Whether segments, and a spare one, are made of zeros ahead, so that a full disk cannot stop
    /// a write.
    pub(super) ahead: bool,
}

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) runs: Vec<Run>,
    /// Where the next frame goes, or would.
    pub(super) end: usize,
    /// How many findings and changes it holds: what may go when there is no room.
    pub(super) findings: usize,
    /// When all of it was acknowledged, on the boot clock.
    pub(super) acked_at_ns: Option<u64>,
}

impl Segment {
    pub(super) fn last(&self) -> u64 {
        self.runs.last().map_or_else(|| self.first.saturating_sub(1), |run| run.last)
    }

    fn count(&mut self, item: &Stored) {
        runs::push(&mut self.runs, item.seq.0, item.wall_ms);
        self.findings += usize::from(matches!(item.body, Body::Finding(_) | Body::Change(_)));
    }
}

/// Segments of one sort.
#[derive(Debug)]
pub(super) struct Lane {
    dir: PathBuf,
    pub(super) kind: LaneKind,
    pub(super) segments: VecDeque<Segment>,
    /// The last segment, open for writing.
    file: Option<File>,
    /// Up to where a failed write may have left bytes.
    dirty_to: usize,
}

/// Where reading goes on in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// The segment, by its first number.
    segment: u64,
    offset: usize,
}

impl Lane {
    /// Opens a lane; gives each good item to `each`. What is unreadable is set aside and told to
    /// `note`.
    pub(super) fn open(
        dir: &Path,
        kind: LaneKind,
        mut each: impl FnMut(&Stored),
        mut note: impl FnMut(String),
    ) -> io::Result<Self> {
        let mut lane = Self { dir: dir.to_owned(), kind, segments: VecDeque::new(), file: None, dirty_to: 0 };
        let mut firsts = lane.list()?;
        firsts.sort_unstable();
        let newest = firsts.last().copied();
        for first in firsts {
            lane.load(first, Some(first) == newest, &mut each, &mut note)?;
        }
        Ok(lane)
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(self.kind.prefix)?.strip_suffix(".segment"));
            firsts.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(firsts)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{}{first:020}.segment", self.kind.prefix))
    }

    fn spare(&self) -> PathBuf {
        self.dir.join(format!("{}spare", self.kind.prefix))
    }

    fn load(
        &mut self,
        first: u64,
        is_newest: bool,
        each: &mut impl FnMut(&Stored),
        note: &mut impl FnMut(String),
    ) -> io::Result<()> {
        let path = self.path(first);
        let bytes = fs::read(&path)?;
        let mut segment = Segment { first, runs: Vec::new(), end: HEADER_BYTES, findings: 0, acked_at_ns: None };
        let mut is_good = bytes.get(..HEADER_BYTES) == Some(&header(first)[..]);
        let mut good = header(first).to_vec();
        let mut at = HEADER_BYTES;
        loop {
            match frame::read(&bytes, at) {
                Read::End => break,
                Read::Frame { payload, next } => {
                    // Numbers rise: anything else was not written here.
                    if let Some(item) = Stored::decode(payload).filter(|item| item.seq.0 > segment.last()) {
                        segment.count(&item);
                        each(&item);
                        frame::push(&mut good, payload);
                    } else {
                        is_good = false;
                    }
                    at = next;
                }
                Read::Bad(_) => match frame::next_good(&bytes, at) {
                    Some(next) => {
                        is_good = false;
                        at = next;
                    }
                    // The end of the newest segment is where a crash tears; nothing of it was sent.
                    None if is_newest && is_good => break,
                    None => {
                        is_good = false;
                        break;
                    }
                },
            }
        }
        segment.end = good.len();
        if is_good {
            self.reopen(&path, &segment, &bytes, is_newest)?;
        } else {
            note(format!("{} was damaged: {} items of it are readable", path.display(), count(&segment)));
            self.set_aside(&path);
            if segment.runs.is_empty() {
                return Ok(());
            }
            if self.kind.ahead {
                good.resize(self.kind.segment_bytes.max(good.len()), 0);
            }
            durable::write_atomic(&path, &good, 0o600)?;
            self.file = Some(OpenOptions::new().read(true).write(true).open(&path)?);
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Opens a good segment, and makes the newest end where its last good frame does.
    fn reopen(&mut self, path: &Path, segment: &Segment, bytes: &[u8], is_newest: bool) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let full = if self.kind.ahead { self.kind.segment_bytes.max(segment.end) } else { segment.end };
        let is_whole = bytes.len() == full && frame::is_zero(&bytes[segment.end..]);
        if is_newest && !is_whole {
            file.set_len(full as u64)?;
            file.write_all_at(&vec![0; full - segment.end], segment.end as u64)?;
            file.sync_data()?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Keeps a damaged segment for who wants to look into it; the oldest of those goes first.
    fn set_aside(&self, path: &Path) {
        let mut aside: Vec<_> = fs::read_dir(&self.dir)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        aside.retain(|path: &PathBuf| path.extension().is_some_and(|ext| ext == "damaged"));
        aside.sort();
        for old in aside.iter().rev().skip(SET_ASIDE_MAX - 1) {
            let _ = fs::remove_file(old);
        }
        let _ = fs::rename(path, path.with_extension("damaged"));
    }

    /// Bytes that its files take.
    pub(super) fn bytes(&self) -> usize {
        let last = self.segments.len().saturating_sub(1);
        let size = |(at, segment): (usize, &Segment)| {
            if self.kind.ahead && at == last { self.kind.segment_bytes.max(segment.end) } else { segment.end }
        };
        self.segments.iter().enumerate().map(size).sum()
    }

    /// Appends items whose numbers rise, and waits for the disk.
    pub(super) fn append(&mut self, items: &[Stored]) -> io::Result<()> {
        let mut frames = Vec::new();
        let mut from = 0;
        for (at, item) in items.iter().enumerate() {
            let payload = item.encode();
            let end = self.segments.back().map_or(usize::MAX, |segment| segment.end);
            let needed = frames.len() + FRAME_HEADER_BYTES + payload.len();
            let is_empty = frames.is_empty() && end == HEADER_BYTES;
            if end.saturating_add(needed) > self.kind.segment_bytes && !is_empty {
                self.write(&frames, &items[from..at])?;
                (frames, from) = (Vec::new(), at);
                self.rotate(item.seq.0)?;
            }
            frame::push(&mut frames, &payload);
        }
        self.write(&frames, &items[from..])
    }

    fn write(&mut self, frames: &[u8], items: &[Stored]) -> io::Result<()> {
        if frames.is_empty() {
            return Ok(());
        }
        self.clean()?;
        let (Some(file), Some(segment)) = (&self.file, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment is open"));
        };
        self.dirty_to = segment.end + frames.len();
        file.write_all_at(frames, segment.end as u64)?;
        file.sync_data()?;
        segment.end = self.dirty_to;
        self.dirty_to = 0;
        items.iter().for_each(|item| segment.count(item));
        segment.acked_at_ns = None;
        Ok(())
    }

    /// Takes back what a failed write left.
    fn clean(&mut self) -> io::Result<()> {
        let (Some(file), Some(segment)) = (&self.file, self.segments.back()) else { return Ok(()) };
        if self.dirty_to > segment.end {
            if self.kind.ahead {
                file.write_all_at(&vec![0; self.dirty_to - segment.end], segment.end as u64)?;
            } else {
                file.set_len(segment.end as u64)?;
            }
            file.sync_data()?;
        }
        self.dirty_to = 0;
        Ok(())
    }

    /// Begins a segment.
    pub(super) fn rotate(&mut self, first: u64) -> io::Result<()> {
        self.clean()?;
        let path = self.path(first);
        let file = if self.kind.ahead {
            let spare = self.spare();
            let file = match OpenOptions::new().read(true).write(true).open(&spare) {
                Ok(file) if file.metadata()?.len() == self.kind.segment_bytes as u64 => file,
                _ => durable::preallocate(&spare, self.kind.segment_bytes)?,
            };
            file.write_all_at(&header(first), 0)?;
            file.sync_data()?;
            fs::rename(&spare, &path)?;
            file
        } else {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all_at(&header(first), 0)?;
            file.sync_data()?;
            file
        };
        durable::sync_dir(&self.dir)?;
        self.file = Some(file);
        self.segments.push_back(Segment { first, runs: Vec::new(), end: HEADER_BYTES, findings: 0, acked_at_ns: None });
        self.make_spare();
        Ok(())
    }

    /// Makes the next segment ahead, if there is room.
    pub(super) fn make_spare(&self) {
        if self.kind.ahead
            && !self.spare().exists()
            && let Err(error) = durable::preallocate(&self.spare(), self.kind.segment_bytes)
        {
            tracing::warn!(%error, "cannot set space aside for the spool");
        }
    }

    /// Deletes the oldest segment; the last one is kept, because it is being written to.
    pub(super) fn drop_oldest(&mut self) -> Option<Segment> {
        if self.segments.len() < 2 {
            return None;
        }
        let path = self.path(self.segments.front()?.first);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot delete a segment of the spool");
            return None;
        }
        self.segments.pop_front()
    }

    /// Every item of a segment.
    pub(super) fn items(&self, segment: &Segment) -> io::Result<Vec<Stored>> {
        let bytes = fs::read(self.path(segment.first))?;
        let mut at = HEADER_BYTES;
        let mut items = Vec::new();
        while let Read::Frame { payload, next } = frame::read(&bytes, at) {
            items.extend(Stored::decode(payload));
            at = next;
        }
        Ok(items)
    }

    /// Behind the last item.
    pub(super) fn end(&self) -> Position {
        let last = self.segments.back();
        last.map_or_else(Position::default, |last| Position { segment: last.first, offset: last.end })
    }

    /// Whether nothing is left to be read from a position.
    pub(super) fn is_end(&self, position: Position) -> bool {
        position == self.end()
    }

    /// Reads on from a position, about 64 KiB at a time. Empty at the end.
    pub(super) fn read(&self, from: &mut Position) -> io::Result<Vec<Stored>> {
        let mut items = Vec::new();
        let start = from.segment;
        for segment in self.segments.iter().skip_while(|segment| segment.first < start) {
            if segment.first != from.segment {
                *from = Position { segment: segment.first, offset: HEADER_BYTES };
            }
            if from.offset >= segment.end {
                continue;
            }
            let file = File::open(self.path(segment.first))?;
            let mut bytes = vec![0; (segment.end - from.offset).min(READ_BYTES)];
            file.read_exact_at(&mut bytes, from.offset as u64)?;
            if matches!(frame::read(&bytes, 0), Read::Bad(_)) {
                // Longer than what was read, or damaged since it was written.
                bytes = vec![0; segment.end - from.offset];
                file.read_exact_at(&mut bytes, from.offset as u64)?;
            }
            let mut at = 0;
            while let Read::Frame { payload, next } = frame::read(&bytes, at) {
                items.extend(Stored::decode(payload));
                at = next;
            }
            if at == 0 {
                let skip = frame::next_good(&bytes, 0).unwrap_or(bytes.len());
                tracing::error!(path = %self.path(segment.first).display(), offset = from.offset, "damaged item skipped");
                from.offset += skip;
                continue;
            }
            from.offset += at;
            if !items.is_empty() {
                break;
            }
        }
        Ok(items)
    }
}

fn header(first: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&first.to_le_bytes());
    header
}

fn count(segment: &Segment) -> u64 {
    segment.runs.iter().map(|run| run.last - run.first + 1).sum()
}
