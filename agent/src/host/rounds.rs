//! A thread that looks at the host every so often, for what must not hold up the tick.
//!
//! It ends when its handle is gone, and rests while it is told to, to keep the agent's budget. After a rest it looks at once.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

/// What a thread needs of stack: it parses and allocates on the heap.
const STACK_BYTES: usize = 256 << 10;

/// The thread, as the loop has it.
#[derive(Debug)]
pub struct Rounds {
    rest: Sender<bool>,
    is_resting: bool,
}

impl Rounds {
    /// Starts a thread of this name that does `round`, now and then every so often.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(name: &str, every: Duration, mut round: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (rest, told) = mpsc::channel();
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let mut is_resting = false;
            loop {
                if !is_resting {
                    round();
                }
                let next =
                    if is_resting { told.recv().map_err(RecvTimeoutError::from) } else { told.recv_timeout(every) };
                match next {
                    Ok(rest) => is_resting = rest,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { rest, is_resting: false })
    }

    /// Has it rest, or go on.
    pub fn set_resting(&mut self, is_resting: bool) {
        if self.is_resting != is_resting {
            self.is_resting = is_resting;
            // A thread that is gone rests.
            let _ = self.rest.send(is_resting);
        }
    }

    /// Whether it rests.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.is_resting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(30);

    #[test]
    fn it_looks_again_and_again_and_ends_with_its_handle() {
        let (looked, looks) = mpsc::channel();
        let rounds = Rounds::start("test", Duration::from_millis(1), move || _ = looked.send(())).unwrap();
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
        let mut rounds = Rounds::start("test", Duration::from_secs(3_600), move || _ = looked.send(())).unwrap();
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
