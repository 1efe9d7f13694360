//! The flight recorder's ring: minutes of samples in a file whose size never changes.
//!
//! The file has [`SLOTS`] places of [`SLOT_BYTES`]; the minute with the number n lies in place n modulo [`SLOTS`], so
//! that the newest takes the place of the oldest. Its room is taken once, so a full disk does not stop the recorder,
//! which is when it is wanted. Nothing is synced: what a power cut tears is known by its checksum and passed over.
//!
//! A place begins with a magic, the number, the length of what follows, and CRC32C over number, length and what follows:
//! a chunk ([`mainstay_core::recording`]) under zstd.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use mainstay_core::host_query::{RecordQuery, RecordReply};
use mainstay_core::recording::{Cut, Filling, Recording, Span, WINDOW_BYTES_MAX, WINDOW_SERIES_MAX, Window, shortened};
use mainstay_core::series::SeriesKey;

use crate::{durable, packing};

/// How many minutes are kept: an hour, and what stops of the agent cut short.
const SLOTS: u64 = 64;
/// Most bytes of one minute, its header included. All of them together are the 8 MiB that a host gives.
const SLOT_BYTES: usize = 128 * 1024;
const FILE_BYTES: u64 = SLOTS * SLOT_BYTES as u64;

const MAGIC: [u8; 8] = *b"MSRECOR1";
const HEADER_BYTES: usize = 8 + 8 + 4 + 4;

/// What higher levels save of these columns is little, and they take more memory while they run.
const ZSTD_LEVEL: i32 = 1;
/// Most bytes of a chunk when it is unpacked: 768 series of 60 samples that no column makes shorter, with their names.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of one answer to a question: it has to fit a reply with its names.
const REPLY_BYTES_MAX: usize = 768 * 1024;

/// The ring, open.
#[derive(Debug)]
pub struct Ring {
    file: File,
    /// The number of the next minute.
    next: u64,
}

/// What became of a minute that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Series that were left out because the minute did not fit its place.
    pub left_out: usize,
}

impl Ring {
    /// Opens the ring, or makes it. One that is not of this size is made anew.
    ///
    /// # Errors
    /// If it cannot be read, or there is no room for it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = match opened {
            Ok(file) if file.metadata()?.len() == FILE_BYTES => file,
            Ok(_) => durable::preallocate(path, SLOT_BYTES * usize::try_from(SLOTS).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                durable::preallocate(path, SLOT_BYTES * usize::try_from(SLOTS).unwrap_or_default())?
            }
            Err(error) => return Err(error),
        };
        let mut ring = Self { file, next: 0 };
        let numbers = (0..SLOTS).filter_map(|slot| ring.header(slot).map(|header| header.number));
        ring.next = numbers.max().map_or(0, |newest| newest + 1);
        Ok(ring)
    }

    /// Appends a minute in the place of the oldest. What does not fit is made smaller, its last series first.
    ///
    /// # Errors
    /// If it cannot be written, or is no chunk.
    pub fn append(&mut self, chunk: &[u8]) -> io::Result<Appended> {
        let (packed, left_out) = fitting(chunk)?;
        let number = self.next;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + packed.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(packed.len()).unwrap_or(u32::MAX).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[MAGIC.len()..]), &packed);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&packed);
        self.file.write_all_at(&bytes, offset(number))?;
        self.next += 1;
        Ok(Appended { left_out })
    }

    /// The minutes that can be read, oldest first, one at a time.
    pub fn chunks(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        (self.next.saturating_sub(SLOTS)..self.next).filter_map(|number| self.read(number))
    }

    fn read(&self, number: u64) -> Option<Vec<u8>> {
        let header = self.header(number % SLOTS).filter(|header| header.number == number)?;
        let mut packed = vec![0; header.len];
        self.file.read_exact_at(&mut packed, offset(number) + HEADER_BYTES as u64).ok()?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header.counted), &packed);
        if checksum != header.checksum {
            return None;
        }
        packing::unpack(&packed, CHUNK_BYTES_MAX).ok()
    }

    fn header(&self, slot: u64) -> Option<Header> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, offset(slot)).ok()?;
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (counted, checksum) = rest.split_first_chunk::<12>()?;
        let (number, len) = counted.split_first_chunk::<8>()?;
        let number = u64::from_le_bytes(*number);
        let len = usize::try_from(u32::from_le_bytes(len.try_into().ok()?)).ok()?;
        let is_possible = number % SLOTS == slot && len <= SLOT_BYTES - HEADER_BYTES;
        let checksum = u32::from_le_bytes(checksum.try_into().ok()?);
        is_possible.then_some(Header { number, len, checksum, counted: *counted })
    }
}

/// What stands before a minute.
struct Header {
    number: u64,
    len: usize,
    checksum: u32,
    /// The bytes that the checksum begins with.
    counted: [u8; 12],
}

fn offset(number: u64) -> u64 {
    (number % SLOTS) * SLOT_BYTES as u64
}

/// A chunk that fits a place, packed, and how many series it lost for that.
fn fitting(chunk: &[u8]) -> io::Result<(Vec<u8>, usize)> {
    let packed = packing::pack(chunk, ZSTD_LEVEL)?;
    let fits =
        |packed: &[u8], chunk: &[u8]| packed.len() <= SLOT_BYTES - HEADER_BYTES && chunk.len() <= CHUNK_BYTES_MAX;
    if fits(&packed, chunk) {
        return Ok((packed, 0));
    }
    let all = series_of(chunk)?;
    let mut keep = all;
    while keep > 0 {
        keep = keep * 3 / 4;
        let short = shortened(chunk, keep).map_err(io::Error::other)?;
        let packed = packing::pack(&short, ZSTD_LEVEL)?;
        if fits(&packed, &short) {
            return Ok((packed, all - keep));
        }
    }
    Err(io::Error::other("the times of a minute alone do not fit its place"))
}

fn series_of(chunk: &[u8]) -> io::Result<usize> {
    Recording::decode(chunk).map(|recording| recording.series.len()).map_err(io::Error::other)
}

/// Cuts the seconds around a finding out of the ring and what was recorded since its last minute.
#[must_use]
pub fn window(ring: Option<&Ring>, tail: Option<&[u8]>, window: &Window) -> Recording {
    let rank = |key: &SeriesKey| Some(window.about.rank(key));
    let cut = look(ring, tail, window.span, &rank);
    let mut recording = fill(ring, tail, cut.choose(0, WINDOW_SERIES_MAX));
    recording.fit(WINDOW_BYTES_MAX);
    recording
}

/// Answers what was recorded lately, page by page.
#[must_use]
pub fn page(ring: Option<&Ring>, tail: Option<&[u8]>, span: Span, query: &RecordQuery) -> RecordReply {
    let rank = |key: &SeriesKey| query.wants(key).then_some(0);
    let cut = look(ring, tail, span, &rank);
    let (from, matching) = (usize::try_from(query.from).unwrap_or(usize::MAX), cut.found());
    let limit = query.limit(cut.series_max());
    let mut recording = fill(ring, tail, cut.choose(from, limit));
    // What no column makes shorter may be too long for one answer: the rest is asked for again.
    recording.fit(REPLY_BYTES_MAX);
    let end = from.saturating_add(recording.series.len());
    let next = (end < matching && !recording.series.is_empty()).then(|| u32::try_from(end).unwrap_or(u32::MAX));
    RecordReply { recording, matching: u32::try_from(matching).unwrap_or(u32::MAX), next }
}

fn look(ring: Option<&Ring>, tail: Option<&[u8]>, span: Span, rank: &dyn Fn(&SeriesKey) -> Option<u16>) -> Cut {
    let mut cut = Cut::new(span);
    for chunk in ring.into_iter().flat_map(Ring::chunks) {
        if let Err(error) = cut.look(&chunk, rank) {
            tracing::warn!(%error, "a minute of the flight recorder is passed over");
        }
    }
    if let Some(Err(error)) = tail.map(|tail| cut.look(tail, rank)) {
        tracing::error!(%error, "the last minute of the flight recorder is passed over");
    }
    cut
}

/// What cannot be read was said when it was looked at.
fn fill(ring: Option<&Ring>, tail: Option<&[u8]>, mut filling: Filling) -> Recording {
    for chunk in ring.into_iter().flat_map(Ring::chunks) {
        let _ = filling.fill(&chunk);
    }
    if let Some(tail) = tail {
        let _ = filling.fill(tail);
    }
    filling.finish()
}

#[cfg(test)]
mod tests {
    use mainstay_core::id::{BootId, IdSource};
    use mainstay_core::readings::{SeriesKind, readings};
    use mainstay_core::recording::{ROWS_MAX, Recorded, Recorder, SERIES_MAX};
    use mainstay_core::sample::{Cgroup, Disk, Interface, Sample, Unit};
    use mainstay_core::time::Now;

    use super::*;

    fn at(second: u64) -> Now {
        Now { boot_ns: second * 1_000_000_000, wall_ms: i64::try_from(second).unwrap() * 1_000 }
    }

    /// A minute of so many series; `value` gives each by series and second.
    fn minute(number: u64, series: usize, value: impl Fn(usize, u64) -> f64) -> Vec<u8> {
        let seconds = number * ROWS_MAX as u64..(number + 1) * ROWS_MAX as u64;
        let one = |n: usize| Recorded {
            key: SeriesKey::new("m", &[("unit", &format!("u{n:03}.service"))]),
            kind: SeriesKind::Gauge,
            values: seconds.clone().map(|second| value(n, second)).collect(),
        };
        let series = (0..series).map(one).collect();
        Recording { boot: BootId([1; 16]), at: seconds.clone().map(at).collect(), series, left_out: 0 }.encode()
    }

    #[allow(clippy::cast_precision_loss)]
    fn second(_: usize, second: u64) -> f64 {
        second as f64
    }

    fn span(from: u64, to: u64) -> Span {
        Span { boot: BootId([1; 16]), from: at(from), to: at(to) }
    }

    fn all(ring: &Ring) -> RecordReply {
        page(Some(ring), None, span(0, 1_000_000), &RecordQuery::default())
    }

    #[test]
    fn the_last_hour_outlives_the_agent_and_older_minutes_give_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let mut ring = Ring::open(&path).unwrap();
        for number in 0..100 {
            assert_eq!(ring.append(&minute(number, 3, second)).unwrap(), Appended { left_out: 0 });
            if number == 70 {
                ring = Ring::open(&path).unwrap();
            }
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8 << 20);
        let ring = Ring::open(&path).unwrap();
        let reply = all(&ring);
        assert_eq!(reply.recording.at.len(), 64 * ROWS_MAX);
        assert_eq!(reply.recording.at[0], at(36 * 60));
        assert_eq!(reply.recording.series.len(), 3);
        assert_eq!(reply.recording.series[2].values.last(), Some(&5_999.0));
    }

    #[test]
    fn a_torn_minute_is_passed_over_and_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let mut ring = Ring::open(&path).unwrap();
        for number in 0..5 {
            ring.append(&minute(number, 3, second)).unwrap();
        }
        // The last write was cut short: what lies behind the header is of another minute.
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0x55; 40], offset(4) + HEADER_BYTES as u64 + 8).unwrap();
        let mut ring = Ring::open(&path).unwrap();
        assert_eq!(all(&ring).recording.at.len(), 4 * ROWS_MAX);
        ring.append(&minute(5, 3, second)).unwrap();
        assert_eq!(all(&ring).recording.at.last(), Some(&at(359)));
        // A file that is something else altogether is begun anew.
        std::fs::write(&path, b"no ring").unwrap();
        assert_eq!(all(&Ring::open(&path).unwrap()).recording.at.len(), 0);
        std::fs::write(&path, vec![0xff; usize::try_from(FILE_BYTES).unwrap()]).unwrap();
        assert_eq!(all(&Ring::open(&path).unwrap()).recording.at.len(), 0);
    }

    #[test]
    fn a_minute_of_noise_fits_its_place_without_its_last_series() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::open(&folder.path().join("recording")).unwrap();
        let noise = |n: usize, second: u64| {
            let mut ids = IdSource::new(second * 1_000 + n as u64);
            f64::from_bits(ids.next_u64() >> 2)
        };
        let appended = ring.append(&minute(0, SERIES_MAX, noise)).unwrap();
        assert!(appended.left_out > 0, "{appended:?}");
        let reply = all(&ring);
        let matching = usize::try_from(reply.matching).unwrap();
        assert_eq!(matching, SERIES_MAX - appended.left_out);
        assert!(matching > SERIES_MAX / 4, "{matching}");
        assert_eq!(usize::try_from(reply.recording.left_out).unwrap(), SERIES_MAX - reply.recording.series.len());
    }

    #[test]
    fn the_tail_follows_the_ring_and_pages_hold_everything() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::open(&folder.path().join("recording")).unwrap();
        for number in 0..10 {
            ring.append(&minute(number, 200, second)).unwrap();
        }
        let tail = minute(10, 200, second);
        let mut query = RecordQuery { limit: 64, ..RecordQuery::default() };
        let mut seen = Vec::new();
        loop {
            let reply = page(Some(&ring), Some(&tail), span(300, 10_000), &query);
            assert_eq!((reply.matching, reply.recording.at.len()), (200, 360));
            assert!(reply.recording.series.iter().all(|one| one.values.last() == Some(&659.0)));
            seen.extend(reply.recording.series.into_iter().map(|one| one.key));
            match reply.next {
                Some(from) => query.from = from,
                None => break,
            }
        }
        assert_eq!(seen.len(), 200);
        assert!(seen.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn without_a_ring_what_is_in_memory_is_told() {
        let reply = page(None, Some(&minute(0, 2, second)), span(0, 100), &RecordQuery::default());
        assert_eq!((reply.recording.at.len(), reply.matching, reply.next), (60, 2, None));
        let nothing = page(None, None, span(0, 100), &RecordQuery::default());
        assert_eq!((nothing.recording.at.len(), nothing.matching, nothing.next), (0, 0, None));
    }

    /// A second of a host on which everything is busy: 100 units, 8 disks, 4 interfaces.
    fn busy_second(second: u64, ids: &mut IdSource) -> Sample {
        let mut noise = |below: u64| ids.next_u64() % below;
        let unit = |n: u64, noise: &mut dyn FnMut(u64) -> u64| Unit {
            cgroup: Some(Cgroup {
                cpu_usage_us: Some(second * 50_000 + noise(20_000)),
                memory_current_bytes: Some((256 << 20) + 4_096 * noise(4_000)),
                tasks: Some(20 + noise(3)),
                fds: Some(64 + n + noise(4)),
                io_read_bytes: Some(second * 65_536 + 4_096 * noise(10)),
                io_written_bytes: Some(second * 65_536 + 4_096 * noise(10)),
                ..Cgroup::default()
            }),
            ..Unit::default()
        };
        let units = (0..100).map(|n| (format!("u{n:03}.service").parse().unwrap(), unit(n, &mut noise)));
        let units = units.collect();
        let disks = (0..8).map(|n| Disk {
            name: format!("sd{n}"),
            reads: second * 200 + noise(50),
            read_bytes: second * 1_000_000 + 512 * noise(500),
            writes: second * 300 + noise(50),
            written_bytes: second * 2_000_000 + 512 * noise(500),
            io_ms: second * 400 + noise(100),
            in_flight: noise(8),
            ..Disk::default()
        });
        let disks = disks.collect();
        let interfaces = (0..4).map(|n| Interface {
            name: format!("eth{n}"),
            receive_bytes: second * 5_000_000 + noise(100_000),
            receive_packets: second * 4_000 + noise(500),
            transmit_bytes: second * 5_000_000 + noise(100_000),
            transmit_packets: second * 4_000 + noise(500),
            ..Interface::default()
        });
        Sample { at: at(second), units: Some(units), disks, interfaces: interfaces.collect(), ..Sample::default() }
    }

    #[test]
    fn an_hour_of_a_host_on_which_everything_is_busy_fits_the_ring() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::open(&folder.path().join("recording")).unwrap();
        let (mut recorder, mut ids) = (Recorder::new(BootId([1; 16])), IdSource::new(7));
        let mut largest = 0;
        for second in 0..600 {
            let sample = busy_second(second, &mut ids);
            if let Some(chunk) = recorder.begin(&sample, 0) {
                let (packed, left_out) = fitting(&chunk).unwrap();
                largest = largest.max(packed.len());
                assert_eq!(left_out, 0, "{} bytes", packed.len());
                ring.append(&chunk).unwrap();
            }
            readings(&sample, &mut |reading| recorder.reading(None, &reading));
        }
        println!("a minute takes at most {largest} of {SLOT_BYTES} bytes");
        let reply = all(&ring);
        assert!(reply.matching > 500, "{}", reply.matching);
        assert_eq!(recorder.dropped(), 0);
    }
}
