//! Room on the store's disk: what agents send is refused before there is none left.
//!
//! RocksDB needs room to give room back (a compaction writes before it deletes), and so do its log
//! and the commands of operators. So agents are told to keep what they have while less is free than
//! is reserved; they send it when there is room again. Nothing is dropped on either side.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::StoreError;

/// The disk that the store is on.
#[derive(Debug)]
pub struct Room {
    folder: PathBuf,
    min_free: AtomicU64,
    is_low: AtomicBool,
}

impl Room {
    /// For the disk of a folder, with `min_free` bytes kept free.
    #[must_use]
    pub fn new(folder: &Path, min_free: u64) -> Self {
        Self { folder: folder.to_owned(), min_free: AtomicU64::new(min_free), is_low: AtomicBool::new(false) }
    }

    /// Keeps another number of bytes free from now on.
    pub fn reserve(&self, min_free: u64) {
        self.min_free.store(min_free, Ordering::Relaxed);
    }

    /// Bytes that are free for the collector; none if the disk cannot be asked, which is no reason to fill it.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.folder).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    /// Whether more may be stored.
    ///
    /// # Errors
    /// [`StoreError::Full`] if less is free than is reserved.
    pub fn check(&self) -> Result<(), StoreError> {
        let (free, min_free) = (self.free_bytes(), self.min_free.load(Ordering::Relaxed));
        let is_low = free < min_free;
        if self.is_low.swap(is_low, Ordering::Relaxed) != is_low {
            if is_low {
                tracing::error!(free, min_free, folder = %self.folder.display(), "the disk is full: agents keep what they have");
            } else {
                tracing::info!(free, "the disk has room again");
            }
        }
        if !is_low {
            return Ok(());
        }
        let folder = self.folder.display();
        Err(StoreError::Full(format!("{free} bytes free under {folder}, {min_free} are reserved (`min_free`)")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_full_when_less_is_free_than_reserved() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path(), 0);
        assert!(room.check().is_ok() && room.free_bytes() > 0);
        room.reserve(u64::MAX);
        let error = room.check().unwrap_err();
        assert!(matches!(&error, StoreError::Full(text) if text.contains("min_free")), "{error}");
        room.reserve(0);
        assert!(room.check().is_ok());
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_not_filled() {
        let room = Room::new(Path::new("/nowhere/at/all"), 1);
        assert!(room.check().is_err());
    }
}
