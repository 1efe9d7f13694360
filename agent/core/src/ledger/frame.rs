//! Frames: a payload with its length and a CRC, one after the other, in a file that was filled
//! with zeros beforehand.
//!
//! `u32 length ‖ u32 CRC32C(length ‖ payload) ‖ payload`, little-endian. A length of 0 with only
//! zeros behind it is the end. A frame whose write was cut short by a crash is told from one that
//! went bad later: disks write sectors whole, so a torn frame has a sector that is still zeros.

/// Bytes before the payload.
pub const FRAME_HEADER_BYTES: usize = 8;

/// The unit in which disks write at once or not at all. Larger ones are multiples of it.
const SECTOR_BYTES: usize = 512;

/// Most bytes that are checksummed while looking for a good frame behind a bad one.
const SEARCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What stands at a place in a file of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read<'a> {
    /// A good frame.
    Frame {
        /// What it carries.
        payload: &'a [u8],
        /// Where the next one begins.
        next: usize,
    },
    /// The end: only zeros from here on, or nothing.
    End,
    /// Something else.
    Bad(BadFrame),
}

/// Why there is no good frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The length is greater than what may be, or than what is left of the file.
    #[error("the length of the frame is impossible")]
    Length,
    /// The checksum is that of other bytes.
    #[error("the checksum does not match")]
    Checksum,
    /// There should be zeros, and there are not.
    #[error("there are bytes after the end")]
    AfterEnd,
}

/// Appends a frame around `payload`, which must not be empty.
pub fn push(out: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(!payload.is_empty(), "an empty frame would read as the end");
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Reads what stands at `at`.
#[must_use]
pub fn read(bytes: &[u8], at: usize) -> Read<'_> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some((length, after)) = rest.split_first_chunk::<4>() else {
        return if is_zero(rest) { Read::End } else { Read::Bad(BadFrame::Length) };
    };
    let payload_bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if payload_bytes == 0 {
        return if is_zero(rest) { Read::End } else { Read::Bad(BadFrame::AfterEnd) };
    }
    let Some((crc, after)) = after.split_first_chunk::<4>() else { return Read::Bad(BadFrame::Length) };
    let Some(payload) = after.get(..payload_bytes) else { return Read::Bad(BadFrame::Length) };
    if checksum(*length, payload) != u32::from_le_bytes(*crc) {
        return Read::Bad(BadFrame::Checksum);
    }
    Read::Frame { payload, next: at + FRAME_HEADER_BYTES + payload_bytes }
}

/// Where the next good frame begins, behind a bad one at `at`, if there is one.
#[must_use]
pub fn next_good(bytes: &[u8], at: usize) -> Option<usize> {
    let last = last_written(bytes);
    let mut checksummed = 0;
    for start in at + 1..last {
        let Some(length) = bytes.get(start..).and_then(|rest| rest.first_chunk::<4>()) else { break };
        let payload_bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let end = start.saturating_add(FRAME_HEADER_BYTES).saturating_add(payload_bytes);
        if payload_bytes == 0 || end > bytes.len() {
            continue;
        }
        checksummed += payload_bytes;
        if checksummed > SEARCH_BYTES_MAX {
            break;
        }
        if matches!(read(bytes, start), Read::Frame { .. }) {
            return Some(start);
        }
    }
    None
}

/// Whether what stands at `at` is a write that a crash cut short: nothing good comes after it, and
/// the file ends before `full_bytes`, its size from the start, or a sector was never written.
#[must_use]
pub fn is_torn(bytes: &[u8], at: usize, full_bytes: usize) -> bool {
    let is_cut = bytes.len() < full_bytes && claimed_end(bytes, at) > bytes.len();
    next_good(bytes, at).is_none() && (is_cut || lacks_a_sector(bytes, at))
}

/// Where the frame at `at` ends, by its own word.
fn claimed_end(bytes: &[u8], at: usize) -> usize {
    let length = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |l| u32::from_le_bytes(*l));
    at.saturating_add(FRAME_HEADER_BYTES).saturating_add(usize::try_from(length).unwrap_or(usize::MAX))
}

/// Whether a sector, from `at` to where the frame there should end, is still zeros.
fn lacks_a_sector(bytes: &[u8], at: usize) -> bool {
    let written = last_written(bytes);
    let claimed = claimed_end(bytes, at);
    // A length that the file cannot hold says nothing about where the frame should end.
    let end = if claimed > bytes.len() { written } else { claimed.max(written) };
    let mut from = at;
    while from < end {
        let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if is_zero(&bytes[from..to]) {
            return true;
        }
        from = to;
    }
    false
}

/// One past the last byte that is not zero.
#[must_use]
pub fn last_written(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    while end > 0 {
        let from = end.saturating_sub(SECTOR_BYTES);
        if !is_zero(&bytes[from..end]) {
            return from + bytes[from..end].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        }
        end = from;
    }
    0
}

/// Whether there are only zeros, or nothing.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Compared in pieces: most of a shard is zeros for most of its life.
    bytes.chunks(SECTOR_BYTES).all(|piece| piece == &[0; SECTOR_BYTES][..piece.len()])
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(payloads: &[Vec<u8>], full_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            push(&mut bytes, payload);
        }
        bytes.resize(full_bytes, 0);
        bytes
    }

    /// The payloads up to the first that is not good, where that is, and what it is.
    fn walk(bytes: &[u8]) -> (Vec<Vec<u8>>, usize, Read<'_>) {
        let (mut found, mut at) = (Vec::new(), 0);
        loop {
            match read(bytes, at) {
                Read::Frame { payload, next } => {
                    found.push(payload.to_vec());
                    at = next;
                }
                other => return (found, at, other),
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..700), 1..6)
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_are_written(payloads in payloads()) {
            let bytes = file(&payloads, 8192);
            let (found, _, end) = walk(&bytes);
            prop_assert_eq!(found, payloads);
            prop_assert_eq!(end, Read::End);
        }

        #[test]
        fn a_flipped_bit_spoils_the_frame_that_it_is_in(payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = file(&payloads, 8192);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (found, place, end) = walk(&bytes);
            let is_bad = matches!(end, Read::Bad(_));
            prop_assert!(is_bad, "{:?}", end);
            prop_assert!(place <= at);
            prop_assert_eq!(&found[..], &payloads[..found.len()]);
            // Whatever comes after a spoiled frame shows that no crash did it.
            if found.len() + 1 < payloads.len() {
                prop_assert!(!is_torn(&bytes, place, 8192));
            }
        }

        #[test]
        fn a_write_that_lost_sectors_is_torn(payload in prop::collection::vec(1..=u8::MAX, 600..3000), lost in any::<prop::sample::Index>()) {
            let whole = file(&[b"before".to_vec(), payload.clone()], 8192);
            let start = FRAME_HEADER_BYTES + 6;
            let sectors = (start + FRAME_HEADER_BYTES + payload.len()).div_ceil(SECTOR_BYTES);
            let sector = lost.index(sectors);
            let mut bytes = whole.clone();
            let from = (sector * SECTOR_BYTES).max(start);
            bytes[from..(sector + 1) * SECTOR_BYTES].fill(0);
            let (found, place, end) = walk(&bytes);
            prop_assert_eq!((found.len(), place), (1, start));
            prop_assert!(matches!(end, Read::Bad(_)));
            prop_assert!(is_torn(&bytes, place, 8192));
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0..700usize) {
            let _ = read(&bytes, at);
            let _ = next_good(&bytes, at);
            let _ = is_torn(&bytes, at, 600);
        }
    }

    #[test]
    fn a_file_cut_anywhere_in_its_last_frame_is_torn() {
        let payloads = [b"one".to_vec(), vec![9; 700]];
        let whole = file(&payloads, 8192);
        let start = FRAME_HEADER_BYTES + 3;
        for len in start + 1..start + FRAME_HEADER_BYTES + 700 {
            let (found, place, end) = walk(&whole[..len]);
            assert_eq!((found.len(), place), (1, start));
            assert!(matches!(end, Read::Bad(_)), "cut to {len}");
            assert!(is_torn(&whole[..len], place, 8192), "cut to {len}");
        }
    }
}
