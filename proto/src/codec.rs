//! How messages of the services become bytes: as `tonic-prost` has it, with buffers that begin small.
//!
//! Each stream holds a buffer in either direction for as long as it lasts, of 8 KiB by default. A collector has ten thousand
//! sessions whose messages are of some hundred bytes; where one is longer its buffer grows. What it grew to for a message that
//! names series, or that catches up on an hour, is given back with the next message.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// Bytes of a buffer that holds nothing.
const BUFFER_BYTES: usize = 512;
/// What is put together before it is passed on, as is the default.
const YIELD_BYTES: usize = 32 * 1024;
/// A buffer that grew for a longer message than this is given back.
const KEPT_BYTES: usize = 1024;

/// Encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> Codec for SmallBuffers<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = SmallDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        SmallDecoder { large: None, of: PhantomData }
    }
}

/// Decodes `U`.
#[derive(Debug)]
pub struct SmallDecoder<U> {
    /// The last message, if it was a large one. While it is held the stream's buffer is not the stream's alone, so that the next
    /// message gets another, of its own size.
    large: Option<Bytes>,
    of: PhantomData<U>,
}

impl<U: Message + Default> Decoder for SmallDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.large = None;
        let decoded = if message.remaining() > KEPT_BYTES {
            let bytes = message.copy_to_bytes(message.remaining());
            self.large = Some(bytes.clone());
            U::decode(bytes)
        } else {
            U::decode(message)
        };
        decoded.map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
