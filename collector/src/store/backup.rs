//! Backup: a consistent copy of the store and of the CA, made while everything runs.
//!
//! The store is copied as a checkpoint (hard links where the filesystem is the same), the CA as
//! files that only the owner may read. The folder must not exist before, so that two backups never
//! mix; what is left of one that failed is removed.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use super::{Store, StoreError};

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::File { what, path, text: error.to_string() }
}

impl Store {
    /// Copies the store and the folder of the CA into `to`. Says how many bytes the copy has.
    ///
    /// # Errors
    /// If `to` exists or cannot be written.
    pub fn backup(&self, ca: &Path, to: &Path) -> Result<u64, StoreError> {
        fs::DirBuilder::new().mode(0o700).create(to).map_err(failed("make the folder", to))?;
        let copied = self.copy_all(ca, to);
        if copied.is_err() {
            let _ = fs::remove_dir_all(to);
        }
        copied
    }

    fn copy_all(&self, ca: &Path, to: &Path) -> Result<u64, StoreError> {
        Checkpoint::new(self.db())?.create_checkpoint(to.join("db"))?;
        let keys = to.join("ca");
        fs::DirBuilder::new().mode(0o700).create(&keys).map_err(failed("make the folder", &keys))?;
        for entry in fs::read_dir(ca).map_err(failed("read", ca))? {
            let entry = entry.map_err(failed("read", ca))?;
            let target = keys.join(entry.file_name());
            fs::copy(entry.path(), &target).map_err(failed("copy", &entry.path()))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).map_err(failed("protect", &target))?;
        }
        bytes_of(to)
    }
}

fn bytes_of(folder: &Path) -> Result<u64, StoreError> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        let meta = entry.metadata().map_err(failed("read", &entry.path()))?;
        sum += if meta.is_dir() { bytes_of(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}
