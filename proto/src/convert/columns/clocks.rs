//! When the summary before ended, and what it was like.

use mainstay_core::series::Summary;
use mainstay_core::time::Now;
use prost::encoding::encode_varint;

use super::super::ConvertError;
use super::reader::{Reader, bad, zigzag};

/// When the summary before ended, and what it was like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clocks {
    pub(super) at: Now,
    boot_step: i64,
    wall_step: i64,
    pub(super) window_ms: u32,
    pub(super) samples: u32,
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
        *self = Self { at: summary.at, boot_step, wall_step, window_ms: summary.window_ms, samples: summary.samples };
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
