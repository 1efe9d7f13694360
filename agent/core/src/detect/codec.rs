//! Bytes of saved detector state: sections with a tag and a version each, behind one checksum.
//!
//! Everything is little-endian and bounded by its length. A reader never panics and never
//! believes a length that the bytes do not have.

use super::BadSnapshot;
use crate::subject::{PathBytes, Subject, UnitName};

/// First bytes of a snapshot.
const MAGIC: &[u8; 4] = b"MDET";

/// Version of the framing. Sections have versions of their own.
const FRAMING: u16 = 1;

/// Appends values.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

macro_rules! numbers {
    ($($name:ident: $ty:ty,)+) => {
        impl Writer {
            $(pub(crate) fn $name(&mut self, value: $ty) {
                self.0.extend_from_slice(&value.to_le_bytes());
            })+
        }

        impl Reader<'_> {
            $(pub(crate) fn $name(&mut self) -> Option<$ty> {
                let (bytes, rest) = self.0.split_first_chunk()?;
                self.0 = rest;
                Some(<$ty>::from_le_bytes(*bytes))
            })+
        }
    };
}

numbers! {
    u8: u8,
    u16: u16,
    u32: u32,
    u64: u64,
    i64: i64,
    f32: f32,
    f64: f64,
}

impl Writer {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A length or a count.
    pub(crate) fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).unwrap_or(u32::MAX));
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn subject(&mut self, subject: &Subject) {
        match subject {
            Subject::Host => self.u8(0),
            Subject::Unit(unit) => {
                self.u8(1);
                self.str(unit.as_str());
            }
            Subject::Mount(path) => {
                self.u8(2);
                self.bytes(&path.0);
            }
            Subject::Disk(name) => {
                self.u8(3);
                self.str(name);
            }
            Subject::Interface(name) => {
                self.u8(4);
                self.str(name);
            }
            Subject::Series(name) => {
                self.u8(5);
                self.str(name);
            }
        }
    }

    /// Appends a section, which can be skipped by who does not know it.
    pub(crate) fn section(&mut self, tag: u8, version: u8, write: impl FnOnce(&mut Self)) {
        let mut body = Self::default();
        write(&mut body);
        self.u8(tag);
        self.u8(version);
        self.bytes(&body.0);
    }

    /// The snapshot: magic, framing, checksum, sections.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + 10);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FRAMING.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&self.0).to_le_bytes());
        out.extend_from_slice(&self.0);
        out
    }
}

/// Takes values off the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// One section of a snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    pub(crate) tag: u8,
    pub(crate) version: u8,
    pub(crate) body: Reader<'a>,
}

impl<'a> Reader<'a> {
    /// Checks magic, framing and checksum; gives the reader of the sections.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, BadSnapshot> {
        if bytes.is_empty() {
            return Err(BadSnapshot::Empty);
        }
        let malformed = || BadSnapshot::Malformed { part: "header" };
        let mut reader = Self(bytes.strip_prefix(MAGIC).ok_or_else(malformed)?);
        let (version, rest) = reader.0.split_first_chunk().ok_or_else(malformed)?;
        let version = u16::from_le_bytes(*version);
        if version != FRAMING {
            return Err(BadSnapshot::Version { got: version, have: FRAMING });
        }
        reader.0 = rest;
        let expected = reader.u32().ok_or_else(malformed)?;
        let got = crc32c::crc32c(reader.0);
        if got != expected {
            return Err(BadSnapshot::Checksum { got, expected });
        }
        Ok(reader)
    }

    /// The next section.
    pub(crate) fn section(&mut self) -> Option<Section<'a>> {
        Some(Section { tag: self.u8()?, version: self.u8()?, body: Self(self.bytes()?) })
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A length or a count. Loops over it end where the bytes do, so a wrong one costs nothing.
    pub(crate) fn len(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }

    /// The outer option says whether it could be read.
    #[allow(clippy::option_option)]
    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    pub(crate) fn unit(&mut self) -> Option<UnitName> {
        self.str()?.parse().ok()
    }

    pub(crate) fn subject(&mut self) -> Option<Subject> {
        Some(match self.u8()? {
            0 => Subject::Host,
            1 => Subject::Unit(self.unit()?),
            2 => Subject::Mount(PathBytes(self.bytes()?.to_vec())),
            3 => Subject::Disk(self.str()?.to_owned()),
            4 => Subject::Interface(self.str()?.to_owned()),
            5 => Subject::Series(self.str()?.to_owned()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        let subjects = [
            Subject::Host,
            Subject::Unit("a.service".parse().unwrap()),
            Subject::Mount(PathBytes(vec![0xff, b'/'])),
            Subject::Disk("vda".into()),
            Subject::Interface("eth0".into()),
            Subject::Series("m".into()),
        ];
        let mut writer = Writer::default();
        writer.section(7, 2, |w| {
            w.f64(0.5);
            w.option(Some(3), Writer::u32);
            w.option(None, Writer::u32);
            subjects.iter().for_each(|subject| w.subject(subject));
        });
        let bytes = writer.finish();
        let mut sections = Reader::open(&bytes).unwrap();
        let mut section = sections.section().unwrap();
        assert_eq!((section.tag, section.version), (7, 2));
        let body = &mut section.body;
        assert_eq!(body.f64(), Some(0.5));
        assert_eq!((body.option(Reader::u32), body.option(Reader::u32)), (Some(Some(3)), Some(None)));
        for subject in subjects {
            assert_eq!(body.subject(), Some(subject));
        }
        assert!(body.is_at_end() && sections.is_at_end());
        assert_eq!(body.u8(), None);
    }

    #[test]
    fn damage_is_named() {
        let mut bytes = Writer::default().finish();
        assert!(Reader::open(&bytes).is_ok());
        bytes.push(0);
        assert!(matches!(Reader::open(&bytes), Err(BadSnapshot::Checksum { .. })));
        bytes[4] = 9;
        assert_eq!(Reader::open(&bytes).unwrap_err(), BadSnapshot::Version { got: 9, have: FRAMING });
        assert_eq!(Reader::open(b"").unwrap_err(), BadSnapshot::Empty);
        assert_eq!(Reader::open(b"MD").unwrap_err(), BadSnapshot::Malformed { part: "header" });
    }
}
