//! The ticks of the loop: a timer of the kernel's own.
//!
//! The runtime keeps its timers in a wheel and wakes up to bring them nearer, so that a second took two or three wakes of a
//! thread that has nothing to do. The kernel wakes it once.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes of a reading: how many ticks have passed.
const READ_BYTES: usize = 8;

/// Comes round at once, and so often from then on. A late tick is followed by the next one at its own time: no bursts, no
/// drift.
#[derive(Debug)]
pub(super) struct Ticks {
    timer: AsyncFd<OwnedFd>,
}

impl Ticks {
    /// Begins.
    ///
    /// # Errors
    /// Where the kernel has no timer for us.
    #[allow(unsafe_code)]
    pub(super) fn every(every: Duration) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let it_interval = Timespec::try_from(every).map_err(io::Error::other)?;
        // Nothing at all would stop it.
        let it_value = Timespec { tv_sec: 0, tv_nsec: 1 };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        // SAFETY: the timer is owned by what is made here, and nobody else closes or replaces it.
        // JUSTIFICATION: the runtime cannot see that of a descriptor that is not its own, and its own timers wake too often.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { timer })
    }

    /// Waits for the next tick. Those that have passed meanwhile are one. Nothing is lost where it is not waited for to the
    /// end.
    pub(super) async fn next(&mut self) {
        loop {
            // It fails only with the runtime.
            let Ok(mut ready) = self.timer.readable().await else { return std::future::pending().await };
            let read = |timer: &AsyncFd<OwnedFd>| Ok(rustix::io::read(timer, &mut [0; READ_BYTES])?);
            if ready.try_io(read).is_ok_and(|read: io::Result<usize>| read.is_ok()) {
                // It has been read to its end: another reading that says so would be one more call in every tick.
                ready.clear_ready();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn ticks_come_at_their_own_time_and_those_that_were_missed_are_one() {
        let every = Duration::from_millis(50);
        let begun = Instant::now();
        let mut ticks = Ticks::every(every).unwrap();
        ticks.next().await;
        for n in 1..=3 {
            ticks.next().await;
            assert!(begun.elapsed() >= every * n, "tick {n} after {:?}", begun.elapsed());
        }
        // The loop is busy for many ticks, and has one of them to make up for.
        let until = Instant::now() + every * 6;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        ticks.next().await;
        let late = Instant::now();
        ticks.next().await;
        let of_one_tick = every + every / 2;
        assert!(late.elapsed() <= of_one_tick || begun.elapsed() > every * 12, "{:?}", late.elapsed());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_tick_that_was_not_waited_for_to_the_end_still_comes() {
        let mut ticks = Ticks::every(Duration::from_millis(5)).unwrap();
        ticks.next().await;
        let until = Instant::now() + Duration::from_secs(30);
        let mut dropped = 0;
        loop {
            tokio::select! {
                biased;
                () = ticks.next() => break,
                () = tokio::task::yield_now() => dropped += 1,
            }
            assert!(Instant::now() < until, "no tick after {dropped}");
        }
        assert!(dropped > 0);
    }
}
