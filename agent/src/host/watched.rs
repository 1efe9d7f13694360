//! Folders that the kernel watches, so that nobody has to look at them to see that nothing has changed.
//!
//! Only a hint: where a folder cannot be watched, or the kernel has lost count of what happened, it says that something may
//! have changed, and whoever looks does so every now and then in any case.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Most folders that are watched: each takes room in the kernel.
const FOLDERS_MAX: usize = 512;

/// Bytes of one reading of what happened.
const EVENTS_BYTES: usize = 4096;

/// Some folders, without what is below those in them.
#[derive(Debug, Default)]
pub struct Watched {
    events: Option<OwnedFd>,
    folders: BTreeSet<PathBuf>,
    is_whole: bool,
}

/// What happened in the folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// A file was written to or changed in another way, or may have been.
    pub written: bool,
    /// Files or folders came or went, or may have.
    pub moved: bool,
}

impl Watched {
    /// Watches these folders, and no others from now on. What happened before is forgotten where they are others than
    /// before, so look at them afterwards.
    pub fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        if self.is_whole && self.folders == *folders {
            return;
        }
        // Those that are no longer wanted are forgotten with all others.
        self.events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        let what = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let events = self.events.as_ref();
        let add = |folder: &PathBuf| events.is_some_and(|events| inotify::add_watch(events, folder, what).is_ok());
        let is_watchable = !folders.is_empty() && folders.len() <= FOLDERS_MAX;
        self.is_whole = is_watchable && folders.iter().all(add);
        self.folders.clone_from(folders);
    }

    /// Whether it is these folders.
    #[must_use]
    pub fn watches(&self, folders: &BTreeSet<PathBuf>) -> bool {
        self.folders == *folders
    }

    /// Whether all of them are watched.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// What becomes readable when something happens.
    #[must_use]
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// What happened since this was asked last.
    pub fn news(&mut self) -> News {
        let mut news = News { written: !self.is_whole, moved: !self.is_whole };
        let Some(events) = &self.events else { return news };
        let mut buffer = [MaybeUninit::<u8>::uninit(); EVENTS_BYTES];
        let mut events = inotify::Reader::new(events, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let is_written = ReadFlags::MODIFY | ReadFlags::ATTRIB;
                    news.written = true;
                    news.moved |= !is_written.contains(event.events());
                    // A folder that is gone, or events that were lost: all of it is to be watched anew.
                    let is_lost =
                        ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED | ReadFlags::UNMOUNT | ReadFlags::MOVE_SELF;
                    self.is_whole &= !event.events().intersects(is_lost);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return news,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    const NOTHING: News = News { written: false, moved: false };
    const WRITTEN: News = News { written: true, moved: false };
    const MOVED: News = News { written: true, moved: true };

    #[test]
    fn what_is_written_and_what_comes_and_goes_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut watched = Watched::default();
        assert_eq!((watched.news(), watched.is_whole()), (MOVED, false), "nobody watches");
        watched.watch(&[folder.path().to_owned()].into());
        assert_eq!((watched.news(), watched.is_whole()), (NOTHING, true));
        let path = folder.path().join("a");
        let mut file = fs::File::create(&path).unwrap();
        assert_eq!((watched.news(), watched.news()), (MOVED, NOTHING));
        file.write_all(b"x").unwrap();
        assert_eq!(watched.news(), WRITTEN);
        // As journald does it: what is written through memory, told by a change of the size that is none.
        file.set_len(1).unwrap();
        assert_eq!(watched.news(), WRITTEN);
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        assert_eq!(watched.news(), WRITTEN);
        fs::rename(&path, folder.path().join("b")).unwrap();
        assert_eq!(watched.news(), MOVED);
        fs::remove_file(folder.path().join("b")).unwrap();
        assert_eq!((watched.news(), watched.news(), watched.is_whole()), (MOVED, NOTHING, true));
    }

    #[test]
    fn what_cannot_be_watched_may_have_changed_at_any_time() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let both = [folder.path().to_owned(), gone.clone()].into();
        let mut watched = Watched::default();
        watched.watch(&both);
        assert_eq!((watched.is_whole(), watched.news(), watched.news()), (false, MOVED, MOVED));
        fs::create_dir(&gone).unwrap();
        watched.watch(&both);
        assert_eq!((watched.is_whole(), watched.news()), (true, NOTHING));
        // Others are no longer ours.
        watched.watch(&[gone.clone()].into());
        fs::write(folder.path().join("x"), "x").unwrap();
        assert_eq!(watched.news(), NOTHING);
        fs::remove_dir(&gone).unwrap();
        assert_eq!(
            (watched.news(), watched.is_whole()),
            (MOVED, false),
            "it would not be told of another in its place"
        );
        fs::create_dir(&gone).unwrap();
        watched.watch(&[gone].into());
        assert_eq!((watched.news(), watched.is_whole()), (NOTHING, true));
    }
}
