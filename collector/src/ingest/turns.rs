//! Turns of long pushes, which are unpacked and laid out beside the threads that run tasks.
//!
//! Ten thousand agents that bring an hour each are more work than the cores do in half a minute. Done by the tasks of their sessions,
//! whatever becomes ready next (a sign of life, an acknowledgement, a question) would come after all of it. So such pushes wait
//! here, in their order, and a few threads work on them. A brief one, such as a summary as it comes about, is done at once.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use mainstay_proto::v1;
use prost::Message as _;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::block_in_place;
use zstd::zstd_safe::get_frame_content_size;

/// What is no longer than this when it is unpacked takes a fraction of a millisecond: a summary or a few, or a finding.
const BRIEF_BYTES_MAX: usize = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub struct PushTurns(Semaphore);

impl Default for PushTurns {
    /// One for each core.
    fn default() -> Self {
        Self(Semaphore::new(available_parallelism().map_or(1, NonZeroUsize::get)))
    }
}

impl PushTurns {
    /// Waits for the turn of a push.
    pub async fn take(&self, push: &v1::Push) -> Turn<'_> {
        // Nobody closes it.
        Turn(if is_brief(push) { None } else { self.0.acquire().await.ok() })
    }
}

/// Whether a push is short when it is unpacked, as far as it says so.
fn is_brief(push: &v1::Push) -> bool {
    let unpacked = if push.zstd.is_empty() {
        Some(push.encoded_len())
    } else {
        let says = get_frame_content_size(&push.zstd).ok().flatten();
        says.and_then(|bytes| usize::try_from(bytes).ok())
    };
    unpacked.is_some_and(|bytes| bytes <= BRIEF_BYTES_MAX)
}

/// The turn of a push, which ends when this is dropped.
#[derive(Debug)]
pub struct Turn<'t>(Option<SemaphorePermit<'t>>);

impl Turn<'_> {
    /// Does the work, beside the threads that run tasks if it is long.
    pub fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        let is_beside = self.0.is_some() && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if is_beside { block_in_place(work) } else { work() }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    /// Without a word of how much comes out of it.
    fn streamed(bytes: usize) -> v1::Push {
        v1::Push { zstd: zstd::encode_all(&vec![0; bytes][..], 3).unwrap(), ..v1::Push::default() }
    }

    fn packed(bytes: usize) -> v1::Push {
        v1::Push { zstd: zstd::bulk::compress(&vec![0; bytes], 3).unwrap(), ..v1::Push::default() }
    }

    #[test]
    fn what_is_brief_is_so_when_it_is_unpacked() {
        assert!(is_brief(&packed(BRIEF_BYTES_MAX)) && !is_brief(&packed(BRIEF_BYTES_MAX + 1)));
        assert!(packed(8 << 20).zstd.len() < BRIEF_BYTES_MAX, "it looks short");
        assert!(!is_brief(&packed(8 << 20)));
        assert!(!is_brief(&streamed(1)), "it does not say");
        let next = |bytes: usize| v1::Push { next: vec![0; bytes], ..v1::Push::default() };
        assert!(is_brief(&next(1_000)) && !is_brief(&next(BRIEF_BYTES_MAX)));
    }

    #[tokio::test]
    async fn what_is_long_comes_in_its_order_and_what_is_brief_does_not_wait_for_it() {
        let turns = PushTurns::default();
        let (long, brief) = (packed(BRIEF_BYTES_MAX + 1), packed(BRIEF_BYTES_MAX));
        let mut held = Vec::new();
        while turns.0.available_permits() > 0 {
            held.push(turns.take(&long).await);
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(turns.take(&long));
        let mut second = pin!(turns.take(&long));
        assert!(first.as_mut().poll(&mut context).is_pending() && second.as_mut().poll(&mut context).is_pending());
        assert_eq!(turns.take(&brief).await.work(|| 7), 7);
        drop(held.pop());
        assert!(second.as_mut().poll(&mut context).is_pending(), "the first has waited longer");
        let Poll::Ready(turn) = first.as_mut().poll(&mut context) else { panic!("it is its turn") };
        drop(turn);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn while_long_ones_are_worked_on_everything_else_goes_on() {
        let turns = Arc::new(PushTurns::default());
        let (begun, has_begun) = channel();
        let mut ends = Vec::new();
        let mut working = Vec::new();
        for _ in 0..turns.0.available_permits() {
            let (end, ended) = channel::<()>();
            ends.push(end);
            let (turns, begun) = (turns.clone(), begun.clone());
            working.push(tokio::spawn(async move {
                let turn = turns.take(&packed(BRIEF_BYTES_MAX + 1)).await;
                turn.work(|| {
                    begun.send(()).unwrap();
                    ended.recv().unwrap_err();
                });
            }));
        }
        let all = working.len();
        tokio::task::spawn_blocking(move || has_begun.iter().take(all).count()).await.unwrap();
        // The only thread that runs tasks is not one of those that work: else this hangs, and the runtime's clock with it.
        let (done, is_done) = channel();
        tokio::spawn(async move { turns.take(&packed(1)).await.work(|| done.send(()).unwrap()) });
        let other = tokio::task::spawn_blocking(move || is_done.recv_timeout(Duration::from_secs(60)).is_ok());
        assert!(other.await.unwrap(), "another one was done");
        drop(ends);
        for done in working {
            done.await.unwrap();
        }
    }
}
