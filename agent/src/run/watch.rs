//! What root changes by hand: the hold file, local rules, the actuator's socket, the identity.
//!
//! Looked at once a second by `stat`: cheaper than it sounds, and it needs no watch that could be
//! lost when a folder is replaced. A folder whose own `stat` says that no name in it has changed is not listed.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use mainstay_core::agent::SourceFile;
use tracing::error;

/// Most local policy files.
const FILES_MAX: usize = 256;

/// A file or folder as `stat` shows it: size, modification in seconds and nanoseconds, inode.
type Stamp = (u64, i64, i64, u64);

/// A file by its name.
type Seen = (PathBuf, Stamp);

/// So often a folder is listed after it has changed, once in a look: a change within the kernel's own tick of a listing has
/// the same time as what was listed.
const LISTED: u32 = 2;

/// What was seen last.
#[derive(Debug)]
pub(super) struct Watch {
    etc: PathBuf,
    hold: PathBuf,
    actuator: PathBuf,
    held: bool,
    policy: Vec<Seen>,
    folder: PathBuf,
    /// The folder of local rules when it was last listed, and how often it was since it last changed.
    folder_seen: Option<Stamp>,
    listed: u32,
    identity: PathBuf,
    enrolled: Option<Stamp>,
    actuator_there: Option<bool>,
}

impl Watch {
    /// Begins with what is there now.
    pub(super) fn new(etc: &Path, actuator: &Path, state: &Path) -> Self {
        let identity = state.join("identity/about.json");
        Self {
            enrolled: stamp(&identity),
            identity,
            held: is_held(etc),
            hold: hold_file(etc),
            policy: seen(&policy_folder(etc)),
            folder: policy_folder(etc),
            folder_seen: None,
            listed: 0,
            etc: etc.to_owned(),
            actuator: actuator.to_owned(),
            actuator_there: None,
        }
    }

    /// Whether the host is held now, if that has changed.
    pub(super) fn hold_file_changed(&mut self) -> Option<bool> {
        let held = is_there(&self.hold);
        (std::mem::replace(&mut self.held, held) != held).then_some(held)
    }

    /// The local rules as they are now, if they have changed.
    pub(super) fn local_policy_changed(&mut self) -> Option<Vec<SourceFile>> {
        let folder = stamp(&self.folder);
        if folder != self.folder_seen {
            (self.folder_seen, self.listed) = (folder, 0);
        }
        if self.listed < LISTED {
            self.listed += 1;
            let now = seen(&self.folder);
            if now != self.policy {
                self.policy = now;
                return Some(local_policy(&self.etc));
            }
            return None;
        }
        // The names are those that were listed.
        if self.policy.iter().all(|(path, was)| stamp(path) == Some(*was)) {
            return None;
        }
        self.policy = seen(&self.folder);
        Some(local_policy(&self.etc))
    }

    /// Whether the host was enrolled since, for the first time or anew.
    pub(super) fn was_enrolled(&self) -> bool {
        let now = stamp(&self.identity);
        now.is_some() && now != self.enrolled
    }

    /// Whether the actuator's socket is there, if that has changed or was never looked at.
    pub(super) fn actuator_changed(&mut self) -> Option<bool> {
        let there = fs::metadata(&self.actuator).is_ok_and(|file| file.file_type().is_socket());
        (self.actuator_there.replace(there) != Some(there)).then_some(there)
    }
}

/// Whether root's hold file is there. If that cannot be told, it is taken to be there.
pub(super) fn is_held(etc: &Path) -> bool {
    is_there(&hold_file(etc))
}

fn hold_file(etc: &Path) -> PathBuf {
    etc.join("hold")
}

/// Whether something is there, or that cannot be told.
fn is_there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

/// Root's local policy files, in the order of their names.
pub(super) fn local_policy(etc: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (path, ..) in seen(&policy_folder(etc)) {
        match fs::read(&path) {
            Ok(bytes) => files.push(SourceFile { name: path.to_string_lossy().into_owned(), bytes }),
            Err(error) => error!(path = %path.display(), %error, "local rules cannot be read"),
        }
    }
    files
}

fn policy_folder(etc: &Path) -> PathBuf {
    etc.join("policy.d")
}

fn seen(folder: &Path) -> Vec<Seen> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "toml"));
    let of = |path: PathBuf| stamp(&path).map(|stamp| (path, stamp));
    let mut seen: Vec<Seen> = files.take(FILES_MAX).filter_map(of).collect();
    seen.sort();
    seen
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((file.len(), file.mtime(), file.mtime_nsec(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn changes_are_told_once() {
        let etc = tempfile::tempdir().unwrap();
        let socket = etc.path().join("actuator.sock");
        let mut watch = Watch::new(etc.path(), &socket, etc.path());
        assert_eq!((watch.hold_file_changed(), watch.local_policy_changed()), (None, None));
        assert_eq!((watch.actuator_changed(), watch.actuator_changed()), (Some(false), None));

        fs::write(etc.path().join("hold"), "").unwrap();
        assert_eq!((watch.hold_file_changed(), watch.hold_file_changed()), (Some(true), None));
        fs::remove_file(etc.path().join("hold")).unwrap();
        assert_eq!(watch.hold_file_changed(), Some(false));

        fs::create_dir(etc.path().join("policy.d")).unwrap();
        fs::write(etc.path().join("policy.d/web.toml"), "version = 1").unwrap();
        fs::write(etc.path().join("policy.d/web.toml.bak"), "").unwrap();
        let files = watch.local_policy_changed().unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].bytes, b"version = 1");
        for _ in 0..=LISTED {
            assert!(watch.local_policy_changed().is_none());
        }
        // Without a listing: what is in a file, one more, one less, and the folder itself.
        fs::write(etc.path().join("policy.d/web.toml"), "version = 1\n").unwrap();
        assert_eq!(watch.local_policy_changed().unwrap()[0].bytes, b"version = 1\n");
        let names = |files: Option<Vec<SourceFile>>| files.map(|files| files.len());
        fs::write(etc.path().join("policy.d/db.toml"), "").unwrap();
        assert_eq!(names(watch.local_policy_changed()), Some(2));
        (0..=LISTED).for_each(|_| assert!(watch.local_policy_changed().is_none()));
        fs::remove_file(etc.path().join("policy.d/web.toml")).unwrap();
        assert_eq!(names(watch.local_policy_changed()), Some(1));
        (0..=LISTED).for_each(|_| assert!(watch.local_policy_changed().is_none()));
        fs::remove_dir_all(etc.path().join("policy.d")).unwrap();
        assert_eq!(names(watch.local_policy_changed()), Some(0));
        (0..=LISTED).for_each(|_| assert!(watch.local_policy_changed().is_none()));

        assert!(!watch.was_enrolled());
        fs::create_dir(etc.path().join("identity")).unwrap();
        fs::write(etc.path().join("identity/about.json"), "{}").unwrap();
        assert!(watch.was_enrolled());

        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(watch.actuator_changed(), Some(true));
    }
}
