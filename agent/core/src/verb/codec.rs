//! Bytes in, bytes out: the primitives of the protocol, and its frame.
//!
//! Integers are big-endian, lists carry a `u16` count, byte strings a `u16` length. Reading never trusts a length before
//! that many bytes are there.

use crate::subject::PathBytes;

/// The version in every frame. An actuator refuses another one with words, it never guesses.
pub const PROTOCOL_VERSION: u8 = 2;

/// Most bytes of a frame's body.
pub const FRAME_BYTES_MAX: usize = 64 << 10;

/// Bytes before the body: its length.
pub const HEADER_BYTES: usize = 4;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the message does.
    #[error("message ends early at {field}")]
    Short {
        /// What was being read.
        field: &'static str,
    },
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// Too large to send or take.
    #[error("message is too large (got {0} bytes, at most {FRAME_BYTES_MAX})")]
    TooLarge(usize),
    /// Another protocol.
    #[error("protocol version mismatch (got {0}, have {PROTOCOL_VERSION})")]
    Version(u8),
    /// A value that cannot be.
    #[error("{field} is invalid: {why}")]
    Invalid {
        /// What was being read or written.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads the length in front of a frame.
///
/// # Errors
/// [`WireError::TooLarge`] beyond [`FRAME_BYTES_MAX`].
pub fn frame_len(header: [u8; HEADER_BYTES]) -> Result<usize, WireError> {
    let len = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if len > FRAME_BYTES_MAX { Err(WireError::TooLarge(len)) } else { Ok(len) }
}

/// Writes one message. The first error sticks and comes out of [`Writer::into_frame`].
#[derive(Debug)]
pub(super) struct Writer {
    body: Vec<u8>,
    error: Option<WireError>,
}

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Self { body: vec![PROTOCOL_VERSION, kind], error: None }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.body.push(value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.body.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.body.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.body.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.body.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub(super) fn bytes(&mut self, field: &'static str, value: &[u8]) {
        self.count(field, value.len());
        self.body.extend_from_slice(value);
    }

    /// Sixteen bytes that name something, without a length.
    pub(super) fn id(&mut self, value: &[u8; 16]) {
        self.body.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, field: &'static str, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn list<T>(&mut self, field: &'static str, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(field, items.len());
        for item in items {
            write(self, item);
        }
    }

    fn count(&mut self, field: &'static str, count: usize) {
        match u16::try_from(count) {
            Ok(count) => self.body.extend_from_slice(&count.to_be_bytes()),
            Err(_) => {
                let why = format!("has {count} items or bytes, at most {}", u16::MAX);
                self.error.get_or_insert(WireError::Invalid { field, why });
            }
        }
    }

    pub(super) fn into_frame(self) -> Result<Vec<u8>, WireError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let len = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        if self.body.len() > FRAME_BYTES_MAX {
            return Err(WireError::TooLarge(self.body.len()));
        }
        let mut frame = Vec::with_capacity(HEADER_BYTES + self.body.len());
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(&self.body);
        Ok(frame)
    }
}

/// Reads one message.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Begins a body, whose version and kind must be these.
    pub(super) fn new(body: &'b [u8], kind: u8) -> Result<Self, WireError> {
        if body.len() > FRAME_BYTES_MAX {
            return Err(WireError::TooLarge(body.len()));
        }
        let mut reader = Self { rest: body };
        match reader.u8("version")? {
            PROTOCOL_VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        match reader.u8("kind")? {
            got if got == kind => Ok(reader),
            got => Err(invalid("kind", format!("got {got}, have {kind}"))),
        }
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short { field })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.take::<1>(field).map(|[byte]| byte)
    }

    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(invalid(field, format!("{other} is neither 0 nor 1"))),
        }
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.take(field).map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, WireError> {
        self.take(field).map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.take(field).map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, WireError> {
        self.take(field).map(i64::from_be_bytes)
    }

    /// A share of a whole.
    pub(super) fn ratio(&mut self, field: &'static str) -> Result<f64, WireError> {
        let value = f64::from_bits(self.u64(field)?);
        if (0.0..=1.0).contains(&value) {
            Ok(value)
        } else {
            Err(invalid(field, format!("{value} is not from 0 to 1")))
        }
    }

    pub(super) fn bytes(&mut self, field: &'static str) -> Result<&'b [u8], WireError> {
        let len = usize::from(u16::from_be_bytes(self.take(field)?));
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short { field })?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn id(&mut self, field: &'static str) -> Result<[u8; 16], WireError> {
        self.take(field)
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<String, WireError> {
        let bytes = self.bytes(field)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| invalid(field, "not UTF-8".to_owned()))
    }

    pub(super) fn path(&mut self, field: &'static str) -> Result<PathBytes, WireError> {
        let bytes = self.bytes(field)?;
        if bytes.contains(&0) { Err(invalid(field, "holds a NUL".to_owned())) } else { Ok(PathBytes(bytes.to_vec())) }
    }

    pub(super) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.bool(field)? { read(self).map(Some) } else { Ok(None) }
    }

    /// A list grows as its items are read, so that a lying count costs nothing.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = u16::from_be_bytes(self.take(field)?);
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(super) fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }
}

pub(super) fn invalid(field: &'static str, why: String) -> WireError {
    WireError::Invalid { field, why }
}
