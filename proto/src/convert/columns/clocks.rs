//! When the summary before ended, and what it was like.

use mainstay_core::series::Summary;
use mainstay_core::time::Now;
use prost::encoding::encode_varint;

use super::super::ConvertError;
use super::chance::Bits;
use super::odds::{Kind, Odds, learn};
use super::reader::{Reader, bad, zigzag};

/// The expected lengths, in quarters, of what is not what the clock of the boot says. Each has chances of its own.
const WALL_LENGTH: u8 = 4;
const WINDOW_LENGTH: u8 = 8;
const SAMPLES_LENGTH: u8 = 12;
const NS_PER_MS: i64 = 1_000_000;

/// When the summary before ended, and what it was like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clocks {
    pub(super) at: Now,
    boot_step: i64,
    wall_step: i64,
    pub(super) window_ms: u32,
    pub(super) samples: u32,
    /// How long what is left of the time between two summaries mostly is, in quarters of a bit.
    length: u8,
}

impl Clocks {
    pub(super) fn write(&mut self, summary: &Summary, out: &mut Vec<u8>) {
        let boot_step = summary.at.boot_ns.wrapping_sub(self.at.boot_ns).cast_signed();
        let wall_step = summary.at.wall_ms.wrapping_sub(self.at.wall_ms);
        let differences = [
            boot_step.wrapping_sub(self.boot_step),
            wall_step.wrapping_sub(self.wall_step),
            i64::from(summary.window_ms) - i64::from(self.window_ms),
            i64::from(summary.samples) - i64::from(self.samples),
        ];
        differences.into_iter().for_each(|value| encode_varint(zigzag(value), out));
        let Summary { at, window_ms, samples, .. } = *summary;
        *self = Self { at, boot_step, wall_step, window_ms, samples, ..*self };
    }

    /// Writes those of a summary that is told, or reads those of the next: what the clock of the boot says, and how the
    /// rest differs from it.
    pub(super) fn code<B: Bits>(
        &mut self,
        bits: &mut B,
        odds: &mut Odds,
        told: Option<&Summary>,
    ) -> Result<(), ConvertError> {
        let (at, window_ms, samples) = told.map_or((self.at, 0, 0), |s| (s.at, s.window_ms, s.samples));
        let turn = at.boot_ns.wrapping_sub(self.at.boot_ns).cast_signed().wrapping_sub(self.boot_step);
        let turn = odds.number(bits, Kind::Clock, self.length, 0, turn);
        learn(&mut self.length, turn.unsigned_abs());
        self.boot_step = self.boot_step.wrapping_add(turn);
        let passed_ms = self.boot_step / NS_PER_MS;
        let mut beside = |length, before: i64, now: i64| {
            before.wrapping_add(odds.number(bits, Kind::Rare, length, 0, now.wrapping_sub(before)))
        };
        self.wall_step = beside(WALL_LENGTH, passed_ms, at.wall_ms.wrapping_sub(self.at.wall_ms));
        self.window_ms = narrow("window_ms", beside(WINDOW_LENGTH, passed_ms, window_ms.into()))?;
        self.samples = narrow("samples", beside(SAMPLES_LENGTH, self.samples.into(), samples.into()))?;
        self.at.boot_ns = self.at.boot_ns.wrapping_add_signed(self.boot_step);
        self.at.wall_ms = self.at.wall_ms.wrapping_add(self.wall_step);
        Ok(())
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), ConvertError> {
        self.boot_step = self.boot_step.wrapping_add(reader.int("at")?);
        self.wall_step = self.wall_step.wrapping_add(reader.int("at")?);
        self.at.boot_ns = self.at.boot_ns.wrapping_add_signed(self.boot_step);
        self.at.wall_ms = self.at.wall_ms.wrapping_add(self.wall_step);
        self.window_ms = moved("window_ms", self.window_ms, reader.int("window_ms")?)?;
        self.samples = moved("samples", self.samples, reader.int("samples")?)?;
        Ok(())
    }
}

fn moved(field: &'static str, before: u32, by: i64) -> Result<u32, ConvertError> {
    let now = i64::from(before).checked_add(by).and_then(|now| u32::try_from(now).ok());
    now.ok_or_else(|| bad(field, format!("{before} moved by {by}")))
}

fn narrow(field: &'static str, value: i64) -> Result<u32, ConvertError> {
    u32::try_from(value).map_err(|_| bad(field, format!("{value} is none")))
}
