//! What root changes by hand: the hold file, local rules, the actuator's socket, the identity.
//!
//! The hold file is looked at once a second, whatever else is known. The rest is looked at when the kernel tells that
//! something happened in its folders, and every ten seconds in any case: a watch is lost when a folder above is replaced,
//! and does not see what another machine does to a folder that they share. A folder whose own `stat` says that no name in
//! it has changed is not listed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use mainstay_core::agent::SourceFile;
use tracing::error;

use crate::host::watched::Watched;

/// Most local policy files.
const FILES_MAX: usize = 256;

/// A file or folder as `stat` shows it: size, modification in seconds and nanoseconds, inode.
type Stamp = (u64, i64, i64, u64);

/// A file by its name.
type Seen = (PathBuf, Stamp);

/// So often a folder is listed after it has changed, once in a look: a change within the kernel's own tick of a listing has
/// the same time as what was listed.
const LISTED: u32 = 2;

/// Every so many seconds all of it is looked at, though nothing has happened as far as the kernel tells.
const LOOK_EVERY: u32 = 10;

/// What was seen last.
#[derive(Debug)]
pub(super) struct Watch {
    /// The folders that everything lies in.
    folders: BTreeSet<PathBuf>,
    watched: Watched,
    /// Seconds until everything is looked at, and whether it is now.
    look_in: u32,
    is_due: bool,
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
        let above = [identity.parent(), actuator.parent()].into_iter().flatten().map(Path::to_owned);
        Self {
            folders: above.chain([etc.to_owned(), policy_folder(etc)]).collect(),
            watched: Watched::default(),
            look_in: 0,
            is_due: true,
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

    /// Says whether anything but the hold file may have changed, and is to be looked at. To be asked once a second.
    pub(super) fn may_have_changed(&mut self) -> bool {
        self.look_in = self.look_in.saturating_sub(1);
        let news = self.watched.news();
        self.is_due = news.written || self.look_in == 0;
        if self.is_due {
            self.look_in = LOOK_EVERY;
            // A folder may be another one than the one that is watched. Before anything is looked at: what happens
            // afterwards is told the next time.
            if news.moved || !self.watched.is_whole() {
                self.watched = Watched::default();
                self.watched.watch(&self.folders.iter().filter_map(|folder| nearest(folder)).collect());
            }
        }
        self.is_due
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

    /// Whether the host was enrolled since, for the first time or anew, as far as that was to be looked at.
    pub(super) fn was_enrolled(&self) -> bool {
        if !self.is_due {
            return false;
        }
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

/// The folder itself, or the one above in which it would come.
fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
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
    fn everything_is_looked_at_when_something_happened_and_every_ten_seconds() {
        let host = tempfile::tempdir().unwrap();
        let below = |path: &str| host.path().join(path);
        for folder in ["etc/policy.d", "run", "state/identity"] {
            fs::create_dir_all(below(folder)).unwrap();
        }
        let mut watch = Watch::new(&below("etc"), &below("run/actuator.sock"), &below("state"));
        let looks = |watch: &mut Watch| (0..LOOK_EVERY).map(|_| watch.may_have_changed()).collect::<Vec<_>>();
        let quiet: Vec<bool> = (0..LOOK_EVERY).map(|n| n + 1 == LOOK_EVERY).collect();
        assert!(watch.may_have_changed(), "nobody has looked yet");
        assert_eq!(looks(&mut watch), quiet);
        for path in ["etc/policy.d/web.toml", "run/actuator.sock", "state/identity/about.json", "etc/hold"] {
            fs::write(below(path), "x").unwrap();
            assert!(watch.may_have_changed(), "{path}");
            assert_eq!(looks(&mut watch), quiet, "{path}");
        }
        // Another folder in the place of one that is watched is watched too.
        fs::rename(below("etc/policy.d"), below("etc/old")).unwrap();
        fs::create_dir(below("etc/policy.d")).unwrap();
        assert!(watch.may_have_changed());
        fs::write(below("etc/policy.d/db.toml"), "x").unwrap();
        assert!(watch.may_have_changed());
        // Of one that is not there it is told when it comes.
        fs::remove_dir_all(below("state/identity")).unwrap();
        assert!(watch.may_have_changed());
        assert_eq!(looks(&mut watch), quiet);
        fs::create_dir(below("state/identity")).unwrap();
        assert!(watch.may_have_changed());
        assert_eq!(looks(&mut watch), quiet);
        fs::write(below("state/identity/about.json"), "y").unwrap();
        assert!(watch.may_have_changed() && watch.was_enrolled());
        assert!(!watch.may_have_changed() && !watch.was_enrolled(), "looked at when there is something to see");
    }

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
