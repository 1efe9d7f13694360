//! zstd, with one context for all threads.
//!
//! What zstd works with is some hundred KiB. To make it for every summary meant to map that much, to have the kernel clear it
//! page by page, and to give it back, all of it dearer than the packing. What is large for once has a context of its own, so
//! that the common one stays small.

use std::io;
use std::sync::{Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};

/// What is packed with the common context: summaries and pushes of a live session are below it.
const COMMON_BYTES_MAX: usize = 256 << 10;

static PACKS: Mutex<Option<Compressor<'static>>> = Mutex::new(None);
static UNPACKS: Mutex<Option<Decompressor<'static>>> = Mutex::new(None);

/// Packs bytes at a level of zstd's.
///
/// # Errors
/// What zstd says.
pub fn pack(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    if bytes.len() > COMMON_BYTES_MAX {
        return zstd::bulk::compress(bytes, level);
    }
    let mut context = PACKS.lock().unwrap_or_else(PoisonError::into_inner);
    let context = match &mut *context {
        Some(context) => context,
        none => none.insert(Compressor::new(level)?),
    };
    context.set_compression_level(level)?;
    context.compress(bytes)
}

/// Unpacks bytes that come to no more than `bytes_max`.
///
/// # Errors
/// What zstd says, also where they come to more.
pub fn unpack(packed: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut context = UNPACKS.lock().unwrap_or_else(PoisonError::into_inner);
    let context = match &mut *context {
        Some(context) => context,
        none => none.insert(Decompressor::new()?),
    };
    context.decompress(packed, bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_at_any_level_and_of_any_size_comes_back_from_any_thread() {
        let texts = [0, 1, 1_000, 100_000, COMMON_BYTES_MAX, COMMON_BYTES_MAX + 1].map(|bytes| vec![b'x'; bytes]);
        std::thread::scope(|threads| {
            for level in [1, 3, 1] {
                threads.spawn({
                    let texts = &texts;
                    move || {
                        for text in texts {
                            let packed = pack(text, level).unwrap();
                            assert!(unpack(&packed, text.len()).unwrap() == *text, "{} at {level}", text.len());
                            assert!(zstd::bulk::decompress(&packed, text.len()).unwrap() == *text);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_damaged_or_too_large_is_refused_and_the_next_is_not() {
        let packed = pack(b"something that is longer than ten bytes", 1).unwrap();
        assert!(unpack(&packed, 10).is_err());
        assert!(unpack(&packed[..packed.len() - 3], 1_000).is_err());
        assert!(unpack(b"", 1_000).is_err() || unpack(b"", 1_000).unwrap().is_empty());
        assert!(unpack(b"no frame of zstd at all", 1_000).is_err());
        assert_eq!(unpack(&packed, 1_000).unwrap(), b"something that is longer than ten bytes");
    }
}
