//! What root changes by hand: the hold file, local rules, the actuator's socket, the identity.
//!
//! Looked at once a second by `stat`: cheaper than it sounds, and it needs no watch that could be
//! lost when a folder is replaced.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use mainstay_core::agent::SourceFile;
use tracing::error;

/// Most local policy files.
const FILES_MAX: usize = 256;

/// A file as `stat` shows it: name, size, modification in seconds and nanoseconds, inode.
type Seen = (PathBuf, u64, i64, i64, u64);

/// What was seen last.
#[derive(Debug)]
pub(super) struct Watch {
    etc: PathBuf,
    actuator: PathBuf,
    held: bool,
    policy: Vec<Seen>,
    identity: PathBuf,
    enrolled: Option<Seen>,
    actuator_there: Option<bool>,
}

impl Watch {
    /// Begins with what is there now.
    pub(super) fn new(etc: &Path, actuator: &Path, state: &Path) -> Self {
        let identity = state.join("identity/about.json");
        Self {
            enrolled: seen_file(identity.clone()),
            identity,
            held: is_held(etc),
            policy: seen(&policy_folder(etc)),
            etc: etc.to_owned(),
            actuator: actuator.to_owned(),
            actuator_there: None,
        }
    }

    /// Whether the host is held now, if that has changed.
    pub(super) fn hold_file_changed(&mut self) -> Option<bool> {
        let held = is_held(&self.etc);
        (std::mem::replace(&mut self.held, held) != held).then_some(held)
    }

    /// The local rules as they are now, if they have changed.
    pub(super) fn local_policy_changed(&mut self) -> Option<Vec<SourceFile>> {
        let now = seen(&policy_folder(&self.etc));
        if now == self.policy {
            return None;
        }
        self.policy = now;
        Some(local_policy(&self.etc))
    }

    /// Whether the host was enrolled since, for the first time or anew.
    pub(super) fn was_enrolled(&self) -> bool {
        let now = seen_file(self.identity.clone());
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
    !matches!(fs::symlink_metadata(etc.join("hold")), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
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
    let mut seen: Vec<Seen> = files.take(FILES_MAX).filter_map(seen_file).collect();
    seen.sort();
    seen
}

fn seen_file(path: PathBuf) -> Option<Seen> {
    let file = fs::metadata(&path).ok()?;
    Some((path, file.len(), file.mtime(), file.mtime_nsec(), file.ino()))
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
        assert!(watch.local_policy_changed().is_none());

        assert!(!watch.was_enrolled());
        fs::create_dir(etc.path().join("identity")).unwrap();
        fs::write(etc.path().join("identity/about.json"), "{}").unwrap();
        assert!(watch.was_enrolled());

        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(watch.actuator_changed(), Some(true));
    }
}
