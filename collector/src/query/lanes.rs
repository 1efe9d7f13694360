//! Work in lanes: pieces of work go to some threads, their results come back in the order of the pieces.
//!
//! No more pieces than are allowed are under way or waiting at once, so what is held is bounded. The first error, in the
//! order of the pieces, ends all of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

/// How the work is laid out.
pub(super) struct Lanes<A> {
    /// How many threads work.
    pub(super) count: usize,
    /// How many pieces may be under way, or have results that wait for those before them: asked before each is begun.
    pub(super) ahead: A,
}

impl<A: Fn() -> usize> Lanes<A> {
    /// Works on every piece and hands the results to `take`, here and in order. `lane` makes what a thread works with.
    ///
    /// # Errors
    /// The first that a piece or `take` comes to.
    pub(super) fn each<P: Send, L, R: Send, E: Send>(
        &self,
        mut pieces: impl Iterator<Item = P>,
        lane: impl Fn() -> L + Sync,
        work: impl Fn(&mut L, P) -> Result<R, E> + Sync,
        mut take: impl FnMut(R) -> Result<(), E>,
    ) -> Result<(), E> {
        let (give, given) = channel::<(usize, P)>();
        let given = Mutex::new(given);
        let (results, done) = channel();
        std::thread::scope(|scope| {
            // Dropped when this ends, however it does: then the lanes end too.
            let (give, done) = (give, done);
            for results in std::iter::repeat_n(results, self.count) {
                let (given, lane, work) = (&given, &lane, &work);
                scope.spawn(move || {
                    let mut lane = lane();
                    loop {
                        let piece = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((number, piece)) = piece else { return };
                        let result = catch_unwind(AssertUnwindSafe(|| work(&mut lane, piece)));
                        if results.send((number, result)).is_err() {
                            return;
                        }
                    }
                });
            }
            let (mut begun, mut taken, mut waiting) = (0, 0, BTreeMap::new());
            loop {
                while begun - taken < (self.ahead)().max(1)
                    && let Some(piece) = pieces.next()
                {
                    if give.send((begun, piece)).is_err() {
                        return Ok(());
                    }
                    begun += 1;
                }
                if taken == begun {
                    return Ok(());
                }
                let Ok((number, result)) = done.recv() else { return Ok(()) };
                waiting.insert(number, result);
                while let Some(result) = waiting.remove(&taken) {
                    take(result.unwrap_or_else(|panic| resume_unwind(panic))?)?;
                    taken += 1;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn lanes(ahead: usize) -> Lanes<impl Fn() -> usize> {
        Lanes { count: 2, ahead: move || ahead }
    }

    #[test]
    fn results_come_in_order_whichever_is_done_first() {
        let slow = |_: &mut (), piece: u64| {
            // The first of every three is done last.
            (0..if piece.is_multiple_of(3) { 20_000 } else { 10 }).for_each(|n| assert!(std::hint::black_box(n) >= 0));
            Ok::<_, ()>(piece * 2)
        };
        for ahead in [0, 1, 2, 7] {
            let mut seen = Vec::new();
            lanes(ahead)
                .each(
                    0..500,
                    || (),
                    slow,
                    |result| {
                        seen.push(result);
                        Ok(())
                    },
                )
                .unwrap();
            assert_eq!(seen, (0..500).map(|n| n * 2).collect::<Vec<u64>>(), "{ahead} ahead");
        }
    }

    #[test]
    fn no_more_is_under_way_than_is_allowed() {
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let pieces = (0..300).inspect(|_| {
            most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        });
        let take = |_: u32| {
            under_way.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, ()>(())
        };
        lanes(5).each(pieces, || (), |(): &mut (), piece: u32| Ok(piece), take).unwrap();
        assert_eq!((most.into_inner(), under_way.into_inner()), (5, 0));
    }

    #[test]
    fn the_first_error_ends_it_and_nothing_after_it_is_taken() {
        let mut seen = Vec::new();
        let fails = |_: &mut (), piece: u64| if piece >= 7 { Err(piece) } else { Ok(piece) };
        let result = lanes(6).each(
            0..1_000_000,
            || (),
            fails,
            |result| {
                seen.push(result);
                Ok(())
            },
        );
        assert_eq!((result, seen), (Err(7), (0..7).collect()));
        let well = |_: &mut (), piece: u64| Ok(piece);
        let full = lanes(6).each(0..1_000_000, || (), well, |n| if n == 3 { Err("full") } else { Ok(()) });
        assert_eq!(full, Err("full"));
    }
}
