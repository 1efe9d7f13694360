//! Bytes that nobody vouches for, piece by piece.

use prost::encoding::decode_varint;

use super::super::{ConvertError, Problem};

/// Bytes that nobody vouches for.
pub(super) struct Reader<'b> {
    pub(super) rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) fn bytes(&mut self, field: &'static str, count: usize) -> Result<&'b [u8], ConvertError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| short(field))?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, ConvertError> {
        self.bytes(field, 1).map(|bytes| bytes[0])
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<u64, ConvertError> {
        decode_varint(&mut self.rest).map_err(|_| short(field))
    }

    pub(super) fn int(&mut self, field: &'static str) -> Result<i64, ConvertError> {
        self.varint(field).map(unzigzag)
    }

    /// How many of something follow. Each takes a byte at least.
    pub(super) fn count(&mut self, field: &'static str) -> Result<usize, ConvertError> {
        let count = usize::try_from(self.varint(field)?).unwrap_or(usize::MAX);
        if count > self.rest.len() { Err(short(field)) } else { Ok(count) }
    }

    /// A distance to a place, of which `within` are left.
    pub(super) fn gap(&mut self, field: &'static str, within: usize) -> Result<usize, ConvertError> {
        let gap = usize::try_from(self.varint(field)?).unwrap_or(usize::MAX);
        if gap < within { Ok(gap) } else { Err(bad(field, format!("place {gap} of {within}"))) }
    }

    /// So many whole numbers, the last one first.
    pub(super) fn row(&mut self, field: &'static str, count: usize) -> Result<Vec<i64>, ConvertError> {
        if count > self.rest.len() {
            return Err(short(field));
        }
        let mut row = (0..count).map(|_| self.int(field)).collect::<Result<Vec<_>, _>>()?;
        row.reverse();
        Ok(row)
    }

    /// So many words whose bytes lie in eight planes, the last one first.
    pub(super) fn planes(&mut self, field: &'static str, count: usize) -> Result<Vec<u64>, ConvertError> {
        let bytes = self.bytes(field, count.saturating_mul(8))?;
        let word = |at: usize| (0..8).fold(0, |word, byte| word << 8 | u64::from(bytes[byte * count + at]));
        Ok((0..count).rev().map(word).collect())
    }
}

pub(super) fn short(field: &'static str) -> ConvertError {
    bad(field, "the bytes end in it".to_owned())
}

pub(super) fn bad(field: &'static str, why: String) -> ConvertError {
    ConvertError::new(field, Problem::Invalid(why)).inside("columns")
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
