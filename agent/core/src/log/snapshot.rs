//! What was learned of the log, over a restart: units and their templates. Counters begin anew, as all of the agent's do.

use super::{Digest, Kept, Redaction, TEMPLATES_HOST_MAX, UNITS_MAX};
use crate::detect::BadSnapshot;
use crate::detect::codec::{Reader, Writer};

/// Tag of the one section.
const UNITS: u8 = 1;
/// Its version.
const VERSION: u8 = 1;

impl Digest {
    /// What was learned, to be restored after a restart: versioned, bounded, with a checksum.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.section(UNITS, VERSION, |w| {
            w.i64(self.seen_ms);
            w.len(self.units.len());
            for (name, kept) in &self.units {
                w.str(name.as_str());
                w.i64(kept.first_ms);
                w.i64(kept.last_ms);
                w.u64(kept.lines);
                w.option(kept.templates.evicted_ms, Writer::i64);
                w.len(kept.templates.len());
                for template in kept.templates.iter() {
                    w.str(&template.text());
                    w.u64(template.lines);
                    w.i64(template.first_ms);
                    w.i64(template.last_ms);
                    w.u8(u8::from(template.error) | u8::from(template.novel) << 1 | u8::from(template.told) << 2);
                }
            }
        });
        writer.finish()
    }

    /// Goes on from a [`Digest::snapshot`].
    ///
    /// # Errors
    /// Where the bytes are damaged or another version's: the caller says so and starts with [`Digest::new`].
    pub fn restore(bytes: &[u8], redaction: Redaction) -> Result<Self, BadSnapshot> {
        let mut digest = Self::new(redaction);
        let mut reader = Reader::open(bytes)?;
        let malformed = BadSnapshot::Malformed { part: "log" };
        let mut section = reader.section().ok_or_else(|| malformed.clone())?;
        if (section.tag, section.version) != (UNITS, VERSION) {
            return Err(BadSnapshot::Version { got: u16::from(section.version), have: u16::from(VERSION) });
        }
        digest.load(&mut section.body).ok_or(malformed)?;
        Ok(digest)
    }

    fn load(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let mut total = 0;
        self.seen_ms = reader.i64()?;
        for _ in 0..reader.len()?.min(UNITS_MAX) {
            let name = reader.unit()?;
            let mut kept =
                Kept { first_ms: reader.i64()?, last_ms: reader.i64()?, lines: reader.u64()?, ..Kept::default() };
            kept.templates.evicted_ms = reader.option(Reader::i64)?;
            for _ in 0..reader.len()? {
                let words: Vec<Box<str>> = reader.str()?.split(' ').map(Into::into).collect();
                let (lines, span, flags) = (reader.u64()?, (reader.i64()?, reader.i64()?), reader.u8()?);
                total += 1;
                if total <= TEMPLATES_HOST_MAX {
                    kept.templates.restore(words, lines, span, [flags & 1 != 0, flags & 2 != 0, flags & 4 != 0]);
                }
            }
            self.units.insert(name, kept);
        }
        Some(())
    }
}
