//! What wakes a thread that follows something: a bell that the loop rings, or the kernel, which tells those who watch a
//! folder when something happens in it. journald tells so too, though it writes through memory.
//!
//! A quiet host's journal is looked at every ten seconds instead of every second. Where its folders cannot be watched it is
//! looked at every second as if something had been written.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::host::watched::{News, Watched};

/// The loop's side: it rings.
#[derive(Debug, Clone)]
pub(in crate::host) struct Bell(Arc<OwnedFd>);

/// The thread's side: it waits.
#[derive(Debug)]
pub(in crate::host) struct Ear {
    bell: Bell,
    watched: Watched,
    /// What was heard since that was asked last.
    news: News,
}

/// A bell by itself.
///
/// # Errors
/// Where the kernel has no descriptor for it.
pub(in crate::host) fn bell() -> io::Result<Bell> {
    Ok(Bell(Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)))
}

/// A bell, and an ear that hears it.
///
/// # Errors
/// Where the kernel has no descriptor for it.
pub(in crate::host) fn bell_and_ear() -> io::Result<(Bell, Ear)> {
    let bell = bell()?;
    let ear = Ear { bell: bell.clone(), watched: Watched::default(), news: News::default() };
    Ok((bell, ear))
}

impl Bell {
    /// Wakes the thread.
    pub(in crate::host) fn ring(&self) {
        // It cannot be full before the thread has heard it.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until it rings or there are events, but no longer than this.
    pub(in crate::host) fn wait(&self, events: Option<BorrowedFd<'_>>, longest: Duration) -> Heard {
        let until = Instant::now() + longest;
        let mut fds = vec![PollFd::new(&*self.0, PollFlags::IN)];
        fds.extend(events.map(|events| PollFd::from_borrowed_fd(events, PollFlags::IN)));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            match poll(&mut fds, Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                // Nothing to wait with: the time passes all the same.
                Err(_) => {
                    std::thread::sleep(longest);
                    return Heard::default();
                }
                Ok(_) => break,
            }
        }
        let has = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let heard = Heard { bell: has(0), events: has(1) };
        if heard.bell {
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }
        heard
    }
}

impl Ear {
    /// Listens to what happens in these folders, and in no others from now on.
    pub(in crate::host) fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        self.watched.watch(folders);
    }

    /// Waits until somebody asks, and says that, or until the files are to be looked at again: `often` at most, after
    /// something was written, and `seldom` otherwise, both from `begun` on.
    pub(in crate::host) fn rest(&mut self, begun: Instant, often: Duration, seldom: Duration) -> bool {
        let seldom = if self.watched.is_whole() { seldom } else { often };
        let left = |longest: Duration| (begun + longest).saturating_duration_since(Instant::now());
        (!self.news.written && self.wait(true, left(seldom))) || (self.news.written && self.wait(false, left(often)))
    }

    /// Takes it that something was written.
    pub(in crate::host) fn expect_more(&mut self) {
        self.news.written = true;
    }

    /// What was heard since this was asked last.
    pub(in crate::host) fn news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Waits for a question, or for something that is written where it `listens`, but no longer than this. Says whether
    /// there is a question.
    fn wait(&mut self, listens: bool, longest: Duration) -> bool {
        let heard = self.bell.wait(self.watched.events().filter(|_| listens), longest);
        if heard.events {
            let news = self.watched.news();
            self.news = News { written: true, moved: news.moved || self.news.moved };
        }
        heard.bell
    }
}

/// What a thread woke up for; nothing where the time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::host) struct Heard {
    /// The bell was rung, and is silent again.
    pub(in crate::host) bell: bool,
    /// There are events to be read.
    pub(in crate::host) events: bool,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// What is heard in one rest that would last long.
    fn heard(ear: &mut Ear) -> News {
        assert!(!ear.rest(Instant::now(), Duration::ZERO, LONG), "nobody asked");
        ear.news()
    }

    #[test]
    fn what_is_written_and_what_comes_and_goes_is_heard_and_so_is_the_bell() {
        let folder = tempfile::tempdir().unwrap();
        let (bell, mut ear) = bell_and_ear().unwrap();
        ear.watch(&[folder.path().to_owned()].into());
        let path = folder.path().join("system.journal");
        let mut file = fs::File::create(&path).unwrap();
        assert_eq!(heard(&mut ear), News { written: true, moved: true });
        file.write_all(b"x").unwrap();
        assert_eq!(heard(&mut ear), News { written: true, moved: false });
        // A question comes between, and loses nothing.
        fs::remove_file(&path).unwrap();
        bell.ring();
        let begun = Instant::now();
        assert!(ear.rest(begun, LONG, LONG), "asked");
        assert_eq!(heard(&mut ear), News { written: true, moved: true });
        assert!(begun.elapsed() < LONG);
        assert!(!ear.rest(begun, Duration::ZERO, Duration::ZERO), "nothing more");
        assert_eq!(ear.news(), News::default());
    }

    #[test]
    fn much_that_is_written_is_looked_at_no_oftener_than_said() {
        let folder = tempfile::tempdir().unwrap();
        let (_bell, mut ear) = bell_and_ear().unwrap();
        ear.watch(&[folder.path().to_owned()].into());
        let (begun, often) = (Instant::now(), Duration::from_millis(200));
        fs::write(folder.path().join("x"), "x").unwrap();
        assert!(!ear.rest(begun, often, LONG));
        assert!(begun.elapsed() >= often && begun.elapsed() < LONG);
    }

    #[test]
    fn a_folder_that_cannot_be_watched_is_looked_at_often() {
        let folder = tempfile::tempdir().unwrap();
        let (_bell, mut ear) = bell_and_ear().unwrap();
        ear.watch(&[folder.path().to_owned(), folder.path().join("gone")].into());
        let begun = Instant::now();
        assert!(!ear.rest(begun, Duration::from_millis(10), LONG) && begun.elapsed() < LONG);
    }
}
