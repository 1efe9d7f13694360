//! Checked records for the files that the actuator keeps: fields big-endian, each record with its length and CRC32C.
//!
//! A record is `length u32, crc32c u32, body`. Reading is total: a torn or damaged record ends the reading, it is never
//! half believed.

/// Bytes before a record's body.
pub const RECORD_HEADER_BYTES: usize = 8;

/// Writes the fields of one record.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Starts an empty record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Adds a 32-bit number.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds a 64-bit number.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds a signed 64-bit number.
    #[must_use]
    pub fn i64(mut self, value: i64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds a byte string with its length.
    #[must_use]
    pub fn bytes(self, value: &[u8]) -> Self {
        let mut with_len = self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        with_len.0.extend_from_slice(value);
        with_len
    }

    /// The whole record: length, checksum, body.
    #[must_use]
    pub fn into_record(self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(RECORD_HEADER_BYTES + self.0.len());
        record.extend_from_slice(&len.to_be_bytes());
        record.extend_from_slice(&crc32c::crc32c(&self.0).to_be_bytes());
        record.extend_from_slice(&self.0);
        record
    }
}

/// Reads the fields of one record; `None` when they end early.
#[derive(Debug, Clone, Copy)]
pub struct FieldReader<'b>(&'b [u8]);

impl<'b> FieldReader<'b> {
    /// Begins a body that [`split_record`] has checked.
    #[must_use]
    pub fn new(body: &'b [u8]) -> Self {
        Self(body)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// The next 32-bit number.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// The next 64-bit number.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// The next signed 64-bit number.
    pub fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// The next byte string.
    pub fn bytes(&mut self) -> Option<&'b [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
}

/// Splits the first whole record off; `None` when there is none, or it is damaged.
#[must_use]
pub fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (body, rest) = rest.split_at_checked(len)?;
    // An empty body would make a run of zeros a run of valid records.
    let is_whole = !body.is_empty() && crc32c::crc32c(body) == u32::from_be_bytes(*crc);
    is_whole.then_some((body, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back_and_a_damaged_one_does_not(a in any::<u64>(), b in any::<i64>(), c in any::<Vec<u8>>(), at in any::<usize>()) {
            let mut record = Fields::new().u8(7).u32(9).u64(a).i64(b).bytes(&c).into_record();
            let (body, rest) = split_record(&record).unwrap();
            prop_assert!(rest.is_empty());
            let mut fields = FieldReader::new(body);
            prop_assert_eq!((fields.u8(), fields.u32(), fields.u64(), fields.i64()), (Some(7), Some(9), Some(a), Some(b)));
            prop_assert_eq!(fields.bytes(), Some(&c[..]));
            prop_assert_eq!(fields.u8(), None);
            let at = at % record.len();
            record[at] ^= 1;
            prop_assert!(split_record(&record).is_none());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(data in any::<Vec<u8>>()) {
            if let Some((body, _)) = split_record(&data) { FieldReader::new(body).bytes(); }
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert!(split_record(&[0; 64]).is_none());
    }
}
