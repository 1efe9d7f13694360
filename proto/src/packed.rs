//! Compressed pushes: a whole push in one zstd frame, which takes its place.

use std::cell::RefCell;
use std::io::{self, Read as _};

use prost::Message as _;
use zstd::zstd_safe::{DCtx, ResetDirective};

use crate::{MESSAGE_BYTES_MAX, v1};

/// zstd's window: what a frame may ask for in memory.
const WINDOW_LOG_MAX: u32 = 23;

/// Why a push is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPush {
    /// More than a message may have comes out of it.
    #[error("a push is more than {MESSAGE_BYTES_MAX} bytes when unpacked")]
    TooLarge,
    /// What is wrong with it.
    #[error("{0}")]
    Malformed(String),
}

/// What a push has, unpacked if it is compressed. Never more than [`MESSAGE_BYTES_MAX`] come out of it.
///
/// # Errors
/// If it is compressed and something else too, broken, larger than a message may be, or compressed twice.
pub fn unpack(push: v1::Push) -> Result<v1::Push, BadPush> {
    if push.zstd.is_empty() {
        return Ok(push);
    }
    if !push.items.is_empty() || !push.define.is_empty() {
        return Err(BadPush::Malformed("a push is compressed or not, but not both".to_owned()));
    }
    let bytes = unzstd(&push.zstd).map_err(|error| BadPush::Malformed(format!("zstd: {error}")))?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(BadPush::TooLarge);
    }
    let inner = v1::Push::decode(&bytes[..]).map_err(|error| BadPush::Malformed(error.to_string()))?;
    if !inner.zstd.is_empty() {
        return Err(BadPush::Malformed("a push is compressed twice".to_owned()));
    }
    Ok(v1::Push { epoch: push.epoch, ..inner })
}

thread_local! {
    /// What zstd unpacks with: made once on each thread, for it is larger than most pushes.
    static UNPACKER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// What comes out of a frame, up to a byte more than a message may have.
fn unzstd(packed: &[u8]) -> io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|context| {
        // An earlier frame may have broken off.
        let reset = context.reset(ResetDirective::SessionOnly);
        reset.map_err(|code| io::Error::other(zstd::zstd_safe::get_error_name(code)))?;
        let mut decoder = zstd::Decoder::with_context(packed, context);
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        let mut bytes = Vec::new();
        decoder.take(MESSAGE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> v1::Push {
        v1::Push { epoch: 7, zstd: zstd::encode_all(bytes, 3).unwrap(), ..v1::Push::default() }
    }

    #[test]
    fn a_bomb_is_refused_without_unpacking_it() {
        let bomb = packed(&vec![0; 64 * MESSAGE_BYTES_MAX]);
        assert!(bomb.zstd.len() < 100_000, "{} bytes", bomb.zstd.len());
        assert_eq!(unpack(bomb).unwrap_err(), BadPush::TooLarge);
    }

    #[test]
    fn what_is_packed_comes_out_and_nothing_else() {
        let inner = v1::Push { items: vec![v1::Item { seq: 1, of: None }], ..v1::Push::default() };
        let out = unpack(packed(&inner.encode_to_vec())).unwrap();
        assert_eq!((out.epoch, out.items.len()), (7, 1));
        let twice = packed(&packed(&inner.encode_to_vec()).encode_to_vec());
        for bad in
            [twice, packed(b"no protobuf \xff\xff"), v1::Push { zstd: b"no zstd".to_vec(), ..v1::Push::default() }]
        {
            assert!(matches!(unpack(bad), Err(BadPush::Malformed(_))));
        }
        let whole = packed(&inner.encode_to_vec());
        let cut = v1::Push { zstd: whole.zstd[..whole.zstd.len() - 3].to_vec(), ..whole.clone() };
        assert!(matches!(unpack(cut), Err(BadPush::Malformed(_))));
        assert_eq!(unpack(whole).unwrap().items.len(), 1, "what broke off leaves nothing behind");
        let both = v1::Push { items: inner.items.clone(), ..packed(&inner.encode_to_vec()) };
        assert!(matches!(unpack(both), Err(BadPush::Malformed(_))));
    }
}
