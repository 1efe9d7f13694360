//! Turns of pushes: how many are unpacked and laid out at once.
//!
//! Ten thousand agents that bring an hour each are more work than the cores do in half a minute. Were all of it ready to run,
//! whatever becomes ready next (a sign of life, an acknowledgement, a question) would come after all of it. So pushes wait here,
//! in their order, and are ready a few at a time. A summary as it comes about does not wait for what others bring of hours.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, SemaphorePermit};

/// What is no longer than this takes a fraction of a millisecond: a summary or two, or a finding.
const BRIEF_BYTES_MAX: usize = 4 * 1024;
/// Turns for each core, so that the next is at hand when one ends.
const TURNS_PER_CORE: usize = 2;

/// See the module.
#[derive(Debug)]
pub struct PushTurns {
    brief: Semaphore,
    long: Semaphore,
}

impl Default for PushTurns {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let turns = || Semaphore::new(cores * TURNS_PER_CORE);
        Self { brief: turns(), long: turns() }
    }
}

impl PushTurns {
    /// Waits for the turn of a push of so many bytes as it was sent; it ends when what this gives is dropped. `None` when the
    /// collector ends.
    pub async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let turns = if bytes <= BRIEF_BYTES_MAX { &self.brief } else { &self.long };
        turns.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn what_is_long_comes_in_its_order_and_what_is_brief_does_not_wait_for_it() {
        let turns = PushTurns::default();
        let mut held = Vec::new();
        while turns.long.available_permits() > 0 {
            held.push(turns.take(BRIEF_BYTES_MAX + 1).await.unwrap());
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(turns.take(usize::MAX));
        let mut second = pin!(turns.take(BRIEF_BYTES_MAX + 1));
        assert!(first.as_mut().poll(&mut context).is_pending() && second.as_mut().poll(&mut context).is_pending());
        assert!(turns.take(BRIEF_BYTES_MAX).await.is_some());
        drop(held.pop());
        assert!(second.as_mut().poll(&mut context).is_pending(), "the first has waited longer");
        let Poll::Ready(Some(turn)) = first.as_mut().poll(&mut context) else { panic!("it is its turn") };
        drop(turn);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
