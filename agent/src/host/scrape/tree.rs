//! Reads kernel files below a root, for a scrape: once each, nothing kept open.
//!
//! A file that is not there is `None`. So is an attribute of a device that cannot be read just now:
//! drivers refuse what makes no sense (the speed of an interface that is down).

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use mainstay_core::parse::ParseError;
use rustix::fs::{Dir, Mode, OFlags, open, openat};

use super::super::file::read_below;

/// Most entries taken of one folder: interfaces, disks and zones of a large machine are fewer.
const ENTRIES_MAX: usize = 10_000;

/// Why a collector failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    /// A file that is there cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not what the kernel writes.
    #[error("cannot understand {path}: {source}")]
    Parse {
        /// Which.
        path: String,
        /// Why.
        source: ParseError,
    },
}

/// A folder that stands for `/`.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    scratch: RefCell<Vec<u8>>,
}

impl Tree {
    /// Reads below `root`.
    pub(super) fn at(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { path: root.to_owned(), root: open(root, flags, Mode::empty())?, scratch: RefCell::default() })
    }

    /// A whole file; `None` if it is not there. `path` has no leading slash.
    pub(super) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, ScrapeError> {
        let mut scratch = self.scratch.borrow_mut();
        let read = read_below(&self.root, path, &mut scratch);
        let bytes = read.map_err(|source| ScrapeError::Read { path: path.to_owned(), source })?;
        Ok(bytes.map(<[u8]>::to_vec))
    }

    /// Reads a file and hands it to a parser; `None` if it is not there.
    pub(super) fn parsed<T>(
        &self,
        path: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ScrapeError> {
        let mut scratch = self.scratch.borrow_mut();
        let read = read_below(&self.root, path, &mut scratch);
        let bytes = read.map_err(|source| ScrapeError::Read { path: path.to_owned(), source })?;
        bytes.map(parse).transpose().map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })
    }

    /// A short file without the white space around it; `None` if it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let mut scratch = self.scratch.borrow_mut();
        let bytes = read_below(&self.root, path, &mut scratch).ok()??;
        Some(String::from_utf8_lossy(bytes.trim_ascii()).into_owned())
    }

    /// A file that holds one number, decimal or with `0x`; `None` if it cannot be read or is none.
    pub(super) fn number(&self, path: &str) -> Option<f64> {
        let text = self.text(path)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(float),
            None => text.parse().ok(),
        }
    }

    /// The names in a folder, sorted; `None` if it is not there.
    pub(super) fn names(&self, folder: &str) -> Option<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&self.root, folder, flags, Mode::empty()).ok()?;
        let entries = Dir::new(folder).ok()?.flatten().take(ENTRIES_MAX);
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort();
        Some(names)
    }

    /// The names in a folder that are `prefix` and a number: name and number, by number.
    pub(super) fn numbered(&self, folder: &str, prefix: &str) -> Vec<(String, u64)> {
        let names = self.names(folder).unwrap_or_default().into_iter();
        let mut numbered: Vec<(String, u64)> =
            names.filter_map(|name| name.strip_prefix(prefix)?.parse().ok().map(|number| (name, number))).collect();
        numbered.sort_by_key(|(_, number)| *number);
        numbered
    }

    /// Whether something is there.
    pub(super) fn has(&self, path: &str) -> bool {
        rustix::fs::accessat(&self.root, path, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
    }

    /// The last two folders of where a path leads once its links are followed.
    pub(super) fn real_place(&self, path: &str) -> Option<(String, String)> {
        let real = std::fs::canonicalize(self.path.join(path)).ok()?;
        let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        Some((name(real.parent()?).unwrap_or_default(), name(&real)?))
    }

    /// When a file was last written, in seconds since 1970.
    pub(super) fn modified_seconds(&self, path: &str) -> Option<f64> {
        let stat = rustix::fs::statat(&self.root, path, rustix::fs::AtFlags::empty()).ok()?;
        #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 stay below 2^53")]
        Some(stat.st_mtime as f64)
    }
}

/// A count as a series has it: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reads_numbers_lists_names_and_takes_what_is_not_there_for_none() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("sys/cpu10/n", "12\n"), ("sys/cpu2/n", "0x1f\n"), ("sys/cpufreq/n", "many\n")] {
            fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
            fs::write(root.path().join(path), text).unwrap();
        }
        let tree = Tree::at(root.path()).unwrap();
        assert_eq!((tree.number("sys/cpu10/n"), tree.number("sys/cpu2/n")), (Some(12.0), Some(31.0)));
        assert_eq!((tree.number("sys/cpufreq/n"), tree.number("sys/none")), (None, None));
        assert_eq!(tree.numbered("sys", "cpu"), [("cpu2".to_owned(), 2), ("cpu10".to_owned(), 10)]);
        assert!(tree.names("none").is_none() && tree.has("sys/cpu2") && !tree.has("sys/cpu3"));
        assert!(tree.bytes("none").unwrap().is_none());
        assert_eq!(tree.text("sys/cpufreq/n").as_deref(), Some("many"));
    }
}
