//! How full a filesystem is, as `df` shows it: used of what an ordinary user could ever use.

use std::os::fd::AsFd;

use rustix::fs::fstatvfs;

/// One look at a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes free, those kept for root included.
    pub free_bytes: u64,
    /// Bytes that an ordinary user can still take.
    pub avail_bytes: u64,
}

impl Space {
    /// Looks at the filesystem of an open file.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        let stat = fstatvfs(file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self {
            used_bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            free_bytes: bytes(stat.f_bfree),
            avail_bytes: bytes(stat.f_bavail),
        })
    }

    /// Used share, 0 to 1; 1 for a filesystem of no size.
    #[must_use]
    pub fn used_ratio(&self) -> f64 {
        let usable = self.used_bytes.saturating_add(self.avail_bytes);
        if usable == 0 { 1.0 } else { self.used_bytes as f64 / usable as f64 }
    }

    /// Bytes that have to go until the used share is `until`, or less.
    #[must_use]
    pub fn excess_bytes(&self, until: f64) -> u64 {
        let usable = self.used_bytes.saturating_add(self.avail_bytes) as f64;
        let excess = self.used_bytes as f64 - until * usable;
        // Positive and below 2^64, as both terms are.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes = excess.max(0.0).ceil() as u64;
        bytes
    }

    /// Bytes more free than `before`.
    #[must_use]
    pub fn freed_since(&self, before: &Self) -> u64 {
        self.free_bytes.saturating_sub(before.free_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_df() {
        let space = Space { used_bytes: 90, free_bytes: 15, avail_bytes: 10 };
        assert!((space.used_ratio() - 0.9).abs() < 1e-9);
        assert_eq!(space.excess_bytes(0.8), 10);
        assert_eq!(space.excess_bytes(0.95), 0);
        let empty = Space { used_bytes: 0, free_bytes: 0, avail_bytes: 0 };
        assert!((empty.used_ratio() - 1.0).abs() < 1e-9);
    }
}
