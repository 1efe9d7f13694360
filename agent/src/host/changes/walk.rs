//! Finds the files that are watched, and reads those that look different.
//!
//! A pattern is an absolute path in which `*` stands for any text, folders included, and `?` for one character. What it
//! begins with, up to its last `/` before these, is where the search begins. Links are not followed: where one
//! leads is its content, so that enabling a unit is a change.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mainstay_core::change::files::FileMark;
use mainstay_core::change::{Baseline, FILES_MAX, Walk};
use mainstay_core::policy::Glob;
use sha2::{Digest as _, Sha256};

/// Most patterns.
pub const PATTERNS_MAX: usize = 64;

/// Most files and folders that are looked at in one walk.
const ENTRIES_MAX: usize = 20_000;

/// How deep below its beginning a pattern is searched for.
const DEPTH_MAX: usize = 8;

/// Of a longer file size and time stand for its content.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Bytes that one walk reads; what is beyond is read by the next.
const READ_BYTES_MAX: u64 = 16 << 20;

/// Whether a text can be a pattern.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.starts_with('/') && beginning(text) != "/" && !text.split('/').any(|part| part == "..")
}

/// The folder that a pattern begins in, or the path itself if there is nothing to find.
fn beginning(pattern: &str) -> &str {
    match pattern.find(['*', '?']) {
        None => pattern,
        Some(at) => match pattern[..at].rfind('/') {
            Some(0) | None => "/",
            Some(slash) => &pattern[..slash],
        },
    }
}

/// One walk.
struct Walker<'a> {
    root: &'a Path,
    baseline: &'a Baseline,
    found: Walk,
    /// Folders in which something that is looked for could come or go.
    folders: BTreeSet<PathBuf>,
    entries: usize,
    read: u64,
}

/// Looks at every file that matches. Says besides in which folders something has to happen for it to be different.
pub(super) fn walk(root: &Path, patterns: &[String], baseline: &Baseline) -> (Walk, BTreeSet<PathBuf>) {
    let (found, folders) = (Walk::default(), BTreeSet::new());
    let mut walker = Walker { root, baseline, found, folders, entries: 0, read: 0 };
    for pattern in patterns {
        let Some(glob) = Glob::new(pattern) else { continue };
        let begin = PathBuf::from(beginning(pattern));
        walker.above(&begin);
        walker.at(begin, &glob, 0);
    }
    (walker.found, walker.folders)
}

impl Walker<'_> {
    /// Where a pattern begins may come and go too: what is nearest above it and there.
    fn above(&mut self, begin: &Path) {
        let below_root = |path: &Path| self.root.join(path.strip_prefix("/").unwrap_or(path));
        let there = begin.ancestors().skip(1).map(below_root).find(|path| path.is_dir());
        self.folders.extend(there);
    }

    /// Looks at what stands at a path of the host.
    fn at(&mut self, path: PathBuf, glob: &Glob, depth: usize) {
        if self.entries >= ENTRIES_MAX {
            self.found.is_cut = true;
            return;
        }
        self.entries += 1;
        let here = self.root.join(path.strip_prefix("/").unwrap_or(&path));
        let metadata = match fs::symlink_metadata(&here) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => return self.found.unread.push(path.into_os_string().into_vec()),
        };
        if metadata.is_dir() {
            if depth <= DEPTH_MAX {
                self.below(path, &here, glob, depth);
            }
        } else if glob.matches(path.as_os_str().as_bytes()) {
            self.file(path, &here, &metadata);
        }
    }

    fn below(&mut self, path: PathBuf, here: &Path, glob: &Glob, depth: usize) {
        self.folders.insert(here.to_owned());
        let Ok(entries) = fs::read_dir(here) else {
            return self.found.unread.push(path.into_os_string().into_vec());
        };
        let mut names: Vec<_> = entries.flatten().take(ENTRIES_MAX).map(|entry| entry.file_name()).collect();
        // What is left out for want of room is the same at every walk.
        names.sort();
        for name in names {
            self.at(path.join(name), glob, depth + 1);
        }
    }

    fn file(&mut self, path: PathBuf, here: &Path, metadata: &Metadata) {
        let path = path.into_os_string().into_vec();
        let is_link = metadata.is_symlink();
        if !(metadata.is_file() || is_link) || self.found.files.contains_key(&path) {
            return;
        }
        if self.found.files.len() >= FILES_MAX {
            self.found.is_cut = true;
            return;
        }
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        let mut mark = FileMark {
            size: metadata.len(),
            written_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
            hash: None,
        };
        mark.hash = match self.baseline.mark(&path) {
            Some(before) if before.hash.is_some() && before.looks_like(&mark) => before.hash,
            _ if is_link => fs::read_link(here).ok().map(|to| Sha256::digest(to.as_os_str().as_bytes()).into()),
            _ => self.hash(here, mark.size),
        };
        self.found.files.insert(path, mark);
    }

    fn hash(&mut self, here: &Path, size: u64) -> Option<[u8; 32]> {
        if size > FILE_BYTES_MAX || self.read.saturating_add(size) > READ_BYTES_MAX {
            return None;
        }
        self.read += size;
        // Whatever has taken its place meanwhile: no link is followed, and no pipe is waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file: File = OpenOptions::new().read(true).custom_flags(flags).open(here).ok()?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= FILE_BYTES_MAX).then(|| Sha256::digest(&bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(walk: &Walk) -> Vec<String> {
        walk.files.keys().map(|path| String::from_utf8(path.clone()).unwrap()).collect()
    }

    #[test]
    fn patterns_find_files_below_their_beginning() {
        let root = tempfile::tempdir().unwrap();
        for path in ["etc/app/a.conf", "etc/app/b.txt", "etc/app/sub/c.conf", "etc/other.conf", "etc/hosts"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("/usr/lib/x.conf", root.path().join("etc/app/link.conf")).unwrap();
        let patterns = ["/etc/app/*.conf", "/etc/hosts", "/nowhere/*"].map(str::to_owned);
        let (walk, folders) = walk(root.path(), &patterns, &Baseline::default());
        let folders: Vec<_> = folders.iter().filter_map(|path| path.strip_prefix(root.path()).ok()?.to_str()).collect();
        assert_eq!(folders, ["", "etc", "etc/app", "etc/app/sub"]);
        assert_eq!(paths(&walk), ["/etc/app/a.conf", "/etc/app/link.conf", "/etc/app/sub/c.conf", "/etc/hosts"]);
        assert!(walk.files.values().all(|mark| mark.hash.is_some()) && walk.unread.is_empty() && !walk.is_cut);
    }

    #[test]
    fn only_what_looks_different_is_read() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "one").unwrap();
        let patterns = ["/a".to_owned()];
        let mut baseline = Baseline::default();
        let walk = |baseline: &Baseline| walk(root.path(), &patterns, baseline).0;
        let first = walk(&baseline);
        let mut known = first.clone();
        // What stands in the baseline is believed of a file that looks the same.
        known.files.get_mut(&b"/a"[..]).unwrap().hash = Some([7; 32]);
        baseline.files(&patterns, known.clone(), 0);
        assert_eq!(walk(&baseline), known);
        fs::write(root.path().join("a"), "two!").unwrap();
        let third = walk(&baseline);
        assert_ne!(third.files[&b"/a"[..]].hash, Some([7; 32]));
        assert_ne!(third.files[&b"/a"[..]].hash, first.files[&b"/a"[..]].hash);
    }

    #[test]
    fn files_are_bounded_and_what_is_long_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..FILES_MAX + 5 {
            fs::write(root.path().join(format!("f{n:05}")), "x").unwrap();
        }
        fs::write(root.path().join("a-long"), vec![b'x'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]).unwrap();
        let (walk, _) = walk(root.path(), &["/*".to_owned()], &Baseline::default());
        assert!(walk.is_cut && walk.files.len() == FILES_MAX);
        assert_eq!(walk.files[&b"/a-long"[..]].hash, None);
    }

    #[test]
    fn a_pattern_is_an_absolute_path_below_a_folder() {
        for good in ["/etc/nginx/*", "/etc/hosts", "/etc/*.conf", "/srv/app/?/x"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["etc/*", "/*", "/", "", "/etc/../root/*", "/e*/x"] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }
}
