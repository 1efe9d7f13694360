//! CPU time of processes that are no more: the kernel adds it to their parent when that waits for them.
//!
//! In: CPU times from before, and the processes as they are now. Out: by process, what children of it that ended in between
//! used in between, so that a loop that starts a thousand short programs is seen to use what they used. A child that was
//! there before brings along what it had used by then, its own ended children's included; that is taken off the nearest
//! process above it that is still there. Where that was never given it (it did not wait, or the child had lost its
//! parent), it is taken off further up. *Invariant:* what is told of all is never more than what was used in between and
//! given to a parent.

use std::collections::{BTreeMap, BTreeSet};

use super::ProcessSeen;
use crate::time::Now;

/// CPU times of processes at an earlier moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Before {
    /// When.
    pub at: Now,
    /// By process.
    pub times: BTreeMap<u32, Times>,
}

/// CPU times of one process, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Its parent.
    pub ppid: u32,
    /// When it began, after boot.
    pub started: u64,
    /// Its own.
    pub own: u64,
    /// Of its children that ended and were waited for, and of theirs.
    pub ended: u64,
}

/// Most generations that are gone through.
const GENERATIONS_MAX: usize = 64;

/// The process whose parent nobody is, and that takes those whose parents have ended.
const FIRST: u32 = 1;

impl Before {
    /// What was known of a process that is there now; `None` where it is another one under the same number, or new.
    #[must_use]
    pub fn of(&self, process: &ProcessSeen) -> Option<&Times> {
        self.times.get(&process.pid).filter(|times| times.started == process.started_ticks)
    }
}

/// By process, what its children that ended since then have used since then, in clock ticks.
#[must_use]
pub fn ended(before: &Before, seen: &[ProcessSeen]) -> BTreeMap<u32, u64> {
    let rise = |process: &ProcessSeen| process.ended_ticks.saturating_sub(before.of(process).map_or(0, |t| t.ended));
    let mut given: BTreeMap<u32, u64> = seen.iter().map(|process| (process.pid, rise(process))).collect();
    let stayed: BTreeSet<u32> = seen.iter().filter(|p| before.of(p).is_some()).map(|p| p.pid).collect();
    let parents: BTreeMap<u32, u32> = seen.iter().map(|process| (process.pid, process.ppid)).collect();
    let above = |pid: u32| {
        let known = before.times.get(&pid).map(|times| times.ppid);
        let now = parents.get(&pid).copied().filter(|_| stayed.contains(&pid));
        now.or(known).unwrap_or(if pid == FIRST { 0 } else { FIRST })
    };
    for (pid, times) in before.times.iter().filter(|(pid, _)| !stayed.contains(pid)) {
        let (mut brought, mut at) = (times.own.saturating_add(times.ended), above(*pid));
        for _ in 0..GENERATIONS_MAX {
            if brought == 0 || at == 0 {
                break;
            }
            if let Some(given) = given.get_mut(&at).filter(|_| stayed.contains(&at)) {
                let taken = brought.min(*given);
                *given -= taken;
                brought -= taken;
            }
            at = above(at);
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A process that began at the tick of its own number.
    fn seen(pid: u32, ppid: u32, own: u64, ended: u64) -> ProcessSeen {
        ProcessSeen { pid, ppid, ticks: own, ended_ticks: ended, started_ticks: pid.into(), ..ProcessSeen::default() }
    }

    fn before(all: &[ProcessSeen]) -> Before {
        let times =
            |p: &ProcessSeen| Times { ppid: p.ppid, started: p.started_ticks, own: p.ticks, ended: p.ended_ticks };
        Before { at: Now::default(), times: all.iter().map(|p| (p.pid, times(p))).collect() }
    }

    #[test]
    fn children_that_come_and_go_in_between_count_whole() {
        let was = before(&[seen(1, 0, 5, 0), seen(10, 1, 5, 100)]);
        let now = [seen(1, 0, 5, 0), seen(10, 1, 6, 180)];
        assert_eq!(ended(&was, &now), BTreeMap::from([(1, 0), (10, 80)]));
    }

    #[test]
    fn a_child_that_was_there_before_counts_from_then_on() {
        // 11 had used 70, and 20 more by children of its own, when it was first seen; it used 30 more and ended.
        let was = before(&[seen(10, 1, 5, 0), seen(11, 10, 70, 20)]);
        assert_eq!(ended(&was, &[seen(10, 1, 5, 120)]), BTreeMap::from([(10, 30)]));
        // Not waited for yet: nobody was given anything.
        assert_eq!(ended(&was, &[seen(10, 1, 5, 0), seen(11, 10, 100, 20)]), BTreeMap::from([(10, 0), (11, 0)]));
    }

    #[test]
    fn a_whole_branch_that_is_gone_counts_once_at_who_is_left() {
        // 12 ended, 11 waited for it and ended, 10 waited for 11: 50 + 40 from before, 10 since.
        let was = before(&[seen(10, 1, 5, 7), seen(11, 10, 50, 0), seen(12, 11, 40, 0)]);
        assert_eq!(ended(&was, &[seen(10, 1, 5, 107)]), BTreeMap::from([(10, 10)]));
    }

    #[test]
    fn what_lost_its_parent_is_taken_off_who_took_it() {
        // 11 ended before 12, which then belonged to 1 and brought it 40 from before and 5 since.
        let was = before(&[seen(1, 0, 0, 0), seen(10, 1, 0, 0), seen(11, 10, 50, 0), seen(12, 11, 40, 0)]);
        let now = [seen(1, 0, 0, 45), seen(10, 1, 0, 52)];
        let told = ended(&was, &now);
        assert_eq!(told.values().sum::<u64>(), 7, "{told:?}");
    }

    #[test]
    fn another_process_under_the_number_of_one_that_is_gone_begins_anew() {
        let was = before(&[seen(10, 1, 5, 0), seen(11, 10, 70, 0)]);
        let now = [seen(10, 1, 5, 75), ProcessSeen { started_ticks: 900, ..seen(11, 10, 3, 8) }];
        assert_eq!(ended(&was, &now), BTreeMap::from([(10, 5), (11, 8)]));
    }

    #[test]
    fn parents_that_make_no_sense_end_somewhere() {
        let was = before(&[seen(10, 11, 5, 0), seen(11, 10, 70, 0)]);
        assert_eq!(ended(&was, &[]), BTreeMap::new());
        assert_eq!(ended(&Before::default(), &[seen(10, 1, 5, 9)]), BTreeMap::from([(10, 9)]));
    }

    proptest! {
        /// Processes fork, work, end and are waited for at random; what is told of ended ones is what they really used since
        /// the first look, to the tick.
        #[test]
        fn what_is_told_is_what_was_used_since_then(steps in prop::collection::vec((0usize..64, 0u8..4), 0..200), look in 0usize..200) {
            let mut all = vec![seen(1, 0, 0, 0)];
            let mut since: BTreeMap<u32, u64> = BTreeMap::new();
            let (mut ended_since, mut was, mut next) = (0, before(&all), 2);
            for (n, (which, what)) in steps.iter().enumerate() {
                if n == look {
                    (was, ended_since) = (before(&all), 0);
                    since.clear();
                }
                let at = which % all.len();
                let pid = all[at].pid;
                match what {
                    0 => {
                        all.push(seen(next, pid, 0, 0));
                        next += 1;
                    }
                    // A process with children does not end before them, and is waited for at once.
                    1 if pid != 1 && all.iter().all(|p| p.ppid != pid) => {
                        let gone = all.remove(at);
                        let parent = all.iter_mut().find(|p| p.pid == gone.ppid).unwrap();
                        parent.ended_ticks += gone.ticks + gone.ended_ticks;
                        ended_since += since.remove(&pid).unwrap_or(0);
                    }
                    _ => {
                        all[at].ticks += 3;
                        *since.entry(pid).or_default() += 3;
                    }
                }
            }
            prop_assert_eq!(ended(&was, &all).values().sum::<u64>(), ended_since);
        }
    }
}
