//! Exact bytes of our own for what is signed, hashed or kept: lengths first, everything big-endian, nothing optional.
//!
//! One value has one encoding, so a signature over bytes is a signature over the value, and there is no parser of a
//! general format in front of the check of a signature.

/// Bytes that end too early, or hold what no encoder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("encoded bytes are damaged at offset {at}")]
pub struct Truncated {
    /// Where reading stopped.
    pub at: usize,
}

/// Writes values one after the other.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts with a tag that says what the bytes are, so that one thing's bytes are never another's.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        let mut writer = Self::default();
        writer.text(tag);
        writer
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    /// Eight bytes: the bits of the number.
    pub fn f64(&mut self, value: f64) -> &mut Self {
        self.u64(value.to_bits())
    }

    /// Bytes whose number is known to the reader.
    pub fn fixed(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend(value);
        self
    }

    /// Their number, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len());
        self.fixed(value)
    }

    /// Text, as bytes.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// How many items follow.
    pub fn count(&mut self, value: usize) -> &mut Self {
        self.u64(value as u64)
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what a [`Writer`] wrote.
#[derive(Debug, Clone)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// Starts, and checks the tag.
    ///
    /// # Errors
    /// [`Truncated`] if the bytes begin with another tag.
    pub fn new(bytes: &'b [u8], tag: &str) -> Result<Self, Truncated> {
        let mut reader = Self { bytes, at: 0 };
        if reader.bytes()? == tag.as_bytes() { Ok(reader) } else { Err(Truncated { at: 0 }) }
    }

    /// As many bytes as there are in the array.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.damaged())
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        Ok(self.fixed::<1>()?[0])
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn i64(&mut self) -> Result<i64, Truncated> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn f64(&mut self) -> Result<f64, Truncated> {
        self.u64().map(f64::from_bits)
    }

    /// A number of bytes and the bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn bytes(&mut self) -> Result<&'b [u8], Truncated> {
        let len = self.u64()?;
        let len = usize::try_from(len).map_err(|_| self.damaged())?;
        self.take(len)
    }

    /// Text.
    ///
    /// # Errors
    /// [`Truncated`], also for bytes that are not UTF-8.
    pub fn text(&mut self) -> Result<String, Truncated> {
        let at = self.at;
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Truncated { at })
    }

    /// How many items follow. Each takes at least one byte, so a number that cannot be true is refused before anything
    /// is allocated for it.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn count(&mut self) -> Result<usize, Truncated> {
        let len = usize::try_from(self.u64()?).map_err(|_| self.damaged())?;
        if len <= self.bytes.len() - self.at { Ok(len) } else { Err(self.damaged()) }
    }

    /// Makes sure that nothing follows.
    ///
    /// # Errors
    /// [`Truncated`] if something does.
    pub fn finish(self) -> Result<(), Truncated> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.damaged()) }
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], Truncated> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| self.damaged())?;
        self.at += len;
        Ok(taken)
    }

    fn damaged(&self) -> Truncated {
        Truncated { at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let mut writer = Writer::new("t");
        writer.u8(7).u32(8).u64(9).i64(-10).f64(0.5).fixed(&[1, 2]).text("é").count(1);
        let mut bytes = writer.finish();
        // `count` counts items that are still to come.
        bytes.push(0xff);
        let mut reader = Reader::new(&bytes, "t").unwrap();
        assert_eq!((reader.u8(), reader.u32(), reader.u64(), reader.i64()), (Ok(7), Ok(8), Ok(9), Ok(-10)));
        assert_eq!(
            (reader.f64(), reader.fixed(), reader.text(), reader.count()),
            (Ok(0.5), Ok([1, 2]), Ok("é".into()), Ok(1))
        );
        assert!(reader.clone().finish().is_err());
        assert_eq!(reader.u8(), Ok(0xff));
        assert_eq!(reader.finish(), Ok(()));
        assert!(Reader::new(&bytes, "u").is_err());
    }

    #[test]
    fn a_length_that_cannot_be_true_is_refused() {
        let mut writer = Writer::new("t");
        writer.u64(u64::MAX);
        let bytes = writer.finish();
        assert!(Reader::new(&bytes, "t").unwrap().bytes().is_err());
        assert!(Reader::new(&bytes, "t").unwrap().count().is_err());
    }
}
