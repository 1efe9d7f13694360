//! Which metrics are forgotten, so that units which come once do not keep those that stay out of the table.
//!
//! A metric that is gone is kept for a week: a job of the week is known when it comes again. One of which hardly anything was
//! seen has nothing to be kept, and where there is no room for what is there, what is gone makes room as long as it is not
//! known well enough to be judged.

/// A metric that has not been seen for this many steps is forgotten: a unit that is no more.
const FORGET_STEPS: u32 = 7 * 8_640;

/// Seen for less than this in all, it is forgotten when it is gone for so many steps: ten minutes.
const FLEETING_SECONDS: f64 = 60.0;
const FLEETING_STEPS: u32 = 60;

/// Where there is no room, this long it has to be gone: a minute, in which a unit is restarted.
const GONE_STEPS: u32 = 6;

/// Where there is no room, so many make room at once, so that it is not looked for at every step.
const ROOM: usize = 64;

/// What counts of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Known {
    /// Steps since it was last seen.
    pub(super) unseen_steps: u32,
    /// For how long it was learned.
    pub(super) seen_seconds: f64,
    /// Whether something may be said of it.
    pub(super) is_warm: bool,
}

/// What is to be thought of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    /// Whether a metric that is there had no room.
    pub(super) is_crowded: bool,
    /// Whether what was learned is to stay as it is.
    pub(super) is_frozen: bool,
}

/// Says of each metric whether it is kept; `None` where all of them are.
pub(super) fn kept(metrics: impl Iterator<Item = Known> + Clone, table: Table) -> Option<Vec<bool>> {
    let is_over = |known: &Known| known.is_over(table);
    let makes_room = |known: &Known| table.is_crowded && known.makes_room();
    if !metrics.clone().any(|known| is_over(&known) || makes_room(&known)) {
        return None;
    }
    let mut keep: Vec<_> = metrics.clone().map(|known| !is_over(&known)).collect();
    let forgotten = keep.iter().filter(|keep| !**keep).count();
    let mut gone: Vec<_> = metrics
        .enumerate()
        .filter(|(at, known)| keep[*at] && makes_room(known))
        .map(|(at, known)| (known, at))
        .collect();
    // Those of which least is known go first; of the same, the one that is gone for longest.
    gone.sort_by(|(a, _), (b, _)| {
        a.seen_seconds.total_cmp(&b.seen_seconds).then_with(|| b.unseen_steps.cmp(&a.unseen_steps))
    });
    gone.iter().take(ROOM.saturating_sub(forgotten)).for_each(|(_, at)| keep[*at] = false);
    Some(keep)
}

impl Known {
    fn is_over(&self, table: Table) -> bool {
        let is_fleeting = self.seen_seconds < FLEETING_SECONDS && self.unseen_steps >= FLEETING_STEPS;
        is_fleeting || (!table.is_frozen && self.unseen_steps >= FORGET_STEPS)
    }

    fn makes_room(&self) -> bool {
        !self.is_warm && self.unseen_steps >= GONE_STEPS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOMY: Table = Table { is_crowded: false, is_frozen: false };
    const CROWDED: Table = Table { is_crowded: true, is_frozen: false };

    fn known(unseen_steps: u32, seen_seconds: f64) -> Known {
        Known { unseen_steps, seen_seconds, is_warm: seen_seconds >= 86_400.0 }
    }

    fn kept_of(metrics: &[Known], table: Table) -> Vec<bool> {
        kept(metrics.iter().copied(), table).unwrap_or_else(|| vec![true; metrics.len()])
    }

    #[test]
    fn what_was_hardly_seen_is_kept_for_ten_minutes_and_all_else_for_a_week() {
        let metrics = [
            known(FLEETING_STEPS - 1, 10.0),
            known(FLEETING_STEPS, 10.0),
            known(FLEETING_STEPS, 60.0),
            known(FORGET_STEPS - 1, 60.0),
            known(FORGET_STEPS, 1e6),
            known(0, 0.0),
        ];
        assert_eq!(kept_of(&metrics, ROOMY), [true, false, true, true, false, true]);
        let frozen = Table { is_frozen: true, ..ROOMY };
        assert_eq!(kept_of(&metrics, frozen), [true, false, true, true, true, true], "what is frozen stays");
        assert_eq!(kept(metrics.iter().copied().skip(5), ROOMY), None);
    }

    #[test]
    fn where_there_is_no_room_what_is_gone_and_least_known_makes_some() {
        let there = [known(0, 0.0), known(GONE_STEPS - 1, 10.0)];
        let warm = [known(GONE_STEPS, 86_400.0), known(FORGET_STEPS - 1, 86_400.0)];
        let gone: Vec<_> =
            (0..u32::try_from(ROOM).unwrap() + 8).map(|n| known(GONE_STEPS, 100.0 + f64::from(n))).collect();
        let metrics = [&there[..], &warm, &gone].concat();
        assert_eq!(kept(metrics.iter().copied(), ROOMY), None);
        let keep = kept_of(&metrics, CROWDED);
        assert!(keep[..4].iter().all(|keep| *keep), "what is there, and what is known well: {keep:?}");
        assert_eq!(keep[4..].iter().position(|keep| *keep), Some(ROOM), "the least known");
        assert_eq!(keep[4..].iter().filter(|keep| **keep).count(), 8);
        // Of those of which as much is known, the one that is gone for longest.
        let same: Vec<_> =
            (0..ROOM + 1).map(|n| known(if n == 3 { GONE_STEPS } else { GONE_STEPS + 1 }, 100.0)).collect();
        assert_eq!(kept_of(&same, CROWDED).iter().position(|keep| *keep), Some(3));
        assert_eq!(kept(there.iter().chain(&warm).copied(), CROWDED), None, "nobody is left to go");
    }

    proptest! {
        #[test]
        fn what_is_there_stays_and_no_more_go_than_have_to(
            metrics in prop::collection::vec((0..2 * FORGET_STEPS, 0.0..2e5f64), 0..200),
            is_crowded: bool,
            is_frozen: bool,
        ) {
            let metrics: Vec<_> = metrics.into_iter().map(|(unseen, seen)| known(unseen % 100_000, seen)).collect();
            let table = Table { is_crowded, is_frozen };
            let keep = kept_of(&metrics, table);
            prop_assert_eq!(keep.len(), metrics.len());
            let over = metrics.iter().filter(|known| known.is_over(table)).count();
            let gone = keep.iter().filter(|keep| !**keep).count();
            prop_assert!(gone <= over.max(if is_crowded { ROOM } else { 0 }), "{} of {}", gone, over);
            for (known, keep) in metrics.iter().zip(keep) {
                prop_assert!(keep || known.unseen_steps >= GONE_STEPS);
                prop_assert!(keep || !known.is_warm || known.unseen_steps >= FORGET_STEPS);
            }
        }
    }
}
