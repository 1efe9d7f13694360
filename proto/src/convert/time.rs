//! Moments and durations.

use std::time::Duration;

use mainstay_core::time::Now;

use super::ConvertError;
use crate::v1;

impl From<Now> for v1::Now {
    fn from(now: Now) -> Self {
        Self { boot_ns: now.boot_ns, wall_ms: now.wall_ms }
    }
}

impl TryFrom<v1::Now> for Now {
    type Error = ConvertError;

    fn try_from(now: v1::Now) -> Result<Self, ConvertError> {
        Ok(Self { boot_ns: now.boot_ns, wall_ms: now.wall_ms })
    }
}

/// A duration in the wire's milliseconds. What is shorter than one is cut off.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
