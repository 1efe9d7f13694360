//! A thread that looks at the host every so often, for what must not hold up the tick.
//!
//! Where the kernel tells when something happens it is asked for as long as nothing does, so that a quiet host costs no look.
//! The thread ends when its handle is gone, and rests while it is told to, to keep the agent's budget. After a rest it looks at once.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bell::{Bell, bell};

/// What a thread needs of stack: it parses and allocates on the heap.
const STACK_BYTES: usize = 256 << 10;

/// The turn after the last one.
const OVER: u64 = u64::MAX;

/// Longer than anybody waits.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What is done in a round.
pub trait Round: Send + 'static {
    /// Looks at the host.
    fn look(&mut self);

    /// What becomes readable when there is something to look at, so that nobody has to look for that; `None` where nothing
    /// tells so.
    fn news(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// How often a round is made.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From one to the next, when there is news or nothing would tell.
    pub often: Duration,
    /// When there is none.
    pub seldom: Duration,
}

impl Pace {
    /// Always the same.
    #[must_use]
    pub fn every(time: Duration) -> Self {
        Self { often: time, seldom: time }
    }
}

impl<F: FnMut() + Send + 'static> Round for F {
    fn look(&mut self) {
        self();
    }
}

/// The thread, as the loop has it.
#[derive(Debug)]
pub struct Rounds {
    told: Arc<Told>,
    is_resting: bool,
}

/// What the thread is told to do.
#[derive(Debug)]
struct Told {
    /// Even while it looks, odd while it rests.
    turn: AtomicU64,
    bell: Bell,
}

impl Told {
    fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Waits until a moment in a turn, as long as that lasts, or for events; says whether the turn lasts.
    fn wait(&self, turn: u64, events: Option<BorrowedFd<'_>>, until: Instant) -> bool {
        while self.turn() == turn {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.bell.wait(events, left).bell {
                return true;
            }
        }
        false
    }

    /// Makes rounds until it is over.
    fn follow(&self, pace: Pace, mut round: impl Round) {
        loop {
            let turn = self.turn();
            if turn == OVER {
                return;
            }
            if turn % 2 == 1 {
                self.wait(turn, None, Instant::now() + DAY);
                continue;
            }
            let begun = Instant::now();
            round.look();
            let news = round.news();
            if news.is_none() || self.wait(turn, news, begun + pace.seldom) {
                self.wait(turn, None, begun + pace.often);
            }
        }
    }
}

impl Rounds {
    /// Starts a thread of this name that makes rounds: now, and again at this pace.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(name: &str, pace: Pace, round: impl Round) -> io::Result<Self> {
        let told = Arc::new(Told { turn: AtomicU64::new(0), bell: bell()? });
        let of_thread = Arc::clone(&told);
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || of_thread.follow(pace, round))?;
        Ok(Self { told, is_resting: false })
    }

    /// Has it rest, or go on.
    pub fn set_resting(&mut self, is_resting: bool) {
        if self.is_resting != is_resting {
            self.is_resting = is_resting;
            self.told.turn.fetch_add(1, Ordering::Release);
            self.told.bell.ring();
        }
    }

    /// Whether it rests.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.is_resting
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.told.turn.store(OVER, Ordering::Release);
        self.told.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::sync::mpsc::{self, RecvTimeoutError};

    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(30);

    /// Takes what a pipe has, and tells of each look how much that was.
    struct Listens(io::PipeReader, mpsc::Sender<usize>);

    impl Round for Listens {
        fn look(&mut self) {
            let _ = self.1.send(self.0.read(&mut [0; 8]).unwrap_or(0));
        }

        fn news(&self) -> Option<BorrowedFd<'_>> {
            Some(self.0.as_fd())
        }
    }

    #[test]
    fn it_looks_when_there_is_news_and_else_seldom() {
        let (looked, looks) = mpsc::channel();
        let (reader, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let pace = Pace { often: Duration::from_millis(1), seldom: DAY };
        let _rounds = Rounds::start("test", pace, Listens(reader, looked)).unwrap();
        let mut seen = vec![looks.recv_timeout(TIME_MAX).unwrap()];
        for bytes in [b"ab".as_slice(), b"c"] {
            writer.write_all(bytes).unwrap();
            seen.push(looks.recv_timeout(TIME_MAX).unwrap());
        }
        assert_eq!((seen, looks.try_recv()), (vec![0, 2, 1], Err(mpsc::TryRecvError::Empty)));
    }

    #[test]
    fn it_looks_again_and_again_and_ends_with_its_handle() {
        let (looked, looks) = mpsc::channel();
        let rounds = Rounds::start("test", Pace::every(Duration::from_millis(1)), move || _ = looked.send(())).unwrap();
        for _ in 0..3 {
            looks.recv_timeout(TIME_MAX).unwrap();
        }
        drop(rounds);
        // What it has looked meanwhile is there; then its end of the channel is gone.
        while looks.recv_timeout(TIME_MAX) == Ok(()) {}
        assert_eq!(looks.recv_timeout(TIME_MAX), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn it_rests_while_it_is_told_to_and_looks_at_once_afterwards() {
        let (looked, looks) = mpsc::channel();
        let mut rounds = Rounds::start("test", Pace::every(DAY), move || _ = looked.send(())).unwrap();
        looks.recv_timeout(TIME_MAX).unwrap();
        // Only when it goes on it looks again: the next look is an hour away.
        rounds.set_resting(true);
        rounds.set_resting(true);
        assert!(rounds.is_resting());
        rounds.set_resting(false);
        looks.recv_timeout(TIME_MAX).unwrap();
        assert_eq!(looks.try_recv(), Err(mpsc::TryRecvError::Empty));
        rounds.set_resting(true);
        drop(rounds);
        assert_eq!(looks.recv_timeout(TIME_MAX), Err(RecvTimeoutError::Disconnected), "one that rests ends too");
    }
}
