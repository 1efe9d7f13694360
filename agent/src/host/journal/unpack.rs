//! The first bytes of a field that journald has packed.
//!
//! journald packs what is longer than 512 bytes, with zstd since systemd 246. Only the beginning of a message is looked
//! at, so only that much is unpacked; lz4 and xz, which older ones use, are not: such a message counts as unread.

use zstd::stream::raw::{DParameter, Decoder, Operation as _};

/// Most bytes of a packed field that are read: its beginning cannot be had for less than its first block.
pub(super) const PACKED_BYTES_MAX: usize = 64 << 10;

/// Largest window of a frame, as a power of two: what journald's level needs, and no more memory than that.
const WINDOW_LOG_MAX: u32 = 21;

/// Unpacks zstd; made when it is first needed and dropped after a round.
#[derive(Default)]
pub(super) struct Unpack {
    decoder: Option<Decoder<'static>>,
    text: Vec<u8>,
}

impl std::fmt::Debug for Unpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unpack")
    }
}

impl Unpack {
    /// The first bytes of what is packed, at most `want`; `None` where they cannot be had.
    pub(super) fn begin(&mut self, packed: &[u8], want: usize) -> Option<&[u8]> {
        if self.decoder.is_none() {
            let mut decoder = Decoder::new().ok()?;
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).ok()?;
            self.decoder = Some(decoder);
        }
        let decoder = self.decoder.as_mut()?;
        decoder.reinit().ok()?;
        self.text.resize(want, 0);
        let (mut taken, mut given) = (0, 0);
        while given < want {
            let status = decoder.run_on_buffers(&packed[taken..], &mut self.text[given..]).ok()?;
            taken += status.bytes_read;
            given += status.bytes_written;
            if status.remaining == 0 || (status.bytes_read == 0 && status.bytes_written == 0) {
                break;
            }
        }
        (given > 0).then(|| &self.text[..given])
    }

    /// Gives its memory back.
    pub(super) fn rest(&mut self) {
        self.decoder = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_had_without_the_rest() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let packed = zstd::bulk::compress(&text, 3).unwrap();
        let mut unpack = Unpack::default();
        for _ in 0..2 {
            let cut = packed.len().min(PACKED_BYTES_MAX);
            assert_eq!(unpack.begin(&packed[..cut], 600), Some(&text[..600]));
            assert_eq!(unpack.begin(&zstd::bulk::compress(b"short", 3).unwrap(), 600), Some(&b"short"[..]));
            assert_eq!(unpack.begin(b"no frame at all", 600), None);
            assert_eq!(unpack.begin(&packed[..20], 600), None);
            unpack.rest();
        }
    }
}
