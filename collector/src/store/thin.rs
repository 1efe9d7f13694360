//! Thinning: hosts whose series are kept for a shorter time than others' go out of stretches that stay for the others.
//!
//! A stretch lies in the store piece by piece, and in each piece host by host, so that what goes is one deletion of a range
//! for each piece and each run of neighbours that go. How far a host is thinned is remembered ([`ThinnedKey`]), so that each
//! stretch is looked at once; the tables of a stretch are then written anew without what is gone.

use std::collections::BTreeMap;

use mainstay_fleet::rollup::Tier;

use super::columns::Column;
use super::keys::{BlockKey, PieceKey, RollupKey, ThinnedKey};
use super::retention::Retention;
use super::rollup::{number, stretch_of};
use super::values::ThinnedRow;
use super::view::View;
use super::{Batch, Store, StoreError, family};

/// Most ranges that one pass deletes; the next goes on.
const RANGES_MAX: usize = 5_000;

/// How long the series of each host are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ages {
    /// Of hosts that no override is about.
    pub default: Retention,
    /// By the hosts' numbers.
    pub of: BTreeMap<u32, Retention>,
}

impl From<Retention> for Ages {
    fn from(default: Retention) -> Self {
        Self { default, of: BTreeMap::new() }
    }
}

impl Ages {
    /// Those of a host.
    #[must_use]
    pub fn of(&self, host: u32) -> &Retention {
        self.of.get(&host).unwrap_or(&self.default)
    }

    /// The longest of all.
    #[must_use]
    pub fn longest(&self) -> Retention {
        self.of.values().fold(self.default, |ages, one| ages.with(one, Ord::max))
    }

    /// The shortest of all: what every host has.
    #[must_use]
    pub fn shortest(&self) -> Retention {
        self.of.values().fold(self.default, |ages, one| ages.with(one, Ord::min))
    }
}

/// A host and the stretches that are to go: from the first up to but without the second.
struct Going {
    host: u32,
    from: u32,
    to: u32,
}

impl Store {
    /// Removes what is too old of hosts whose series are kept for a shorter time than others', and gives its room back. On a
    /// thread that may wait. `hosts` are the numbers of all that have series. Says how many ranges went.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn thin(&self, hosts: &[u32], ages: &Ages, now_ms: i64) -> Result<usize, StoreError> {
        let mut ranges = 0;
        for tier in [None, Some(Tier::Minutes5), Some(Tier::Hour)] {
            ranges += self.thin_tier(tier, hosts, ages, now_ms)?;
        }
        Ok(ranges)
    }

    fn thin_tier(&self, tier: Option<Tier>, hosts: &[u32], ages: &Ages, now_ms: i64) -> Result<usize, StoreError> {
        let view = self.view();
        let first_kept = |retention: &Retention| match tier {
            None => retention.first_hour(None, now_ms),
            Some(tier) => stretch_of(tier, retention.first_hour(Some(tier), now_ms)),
        };
        let Some((first, last)) = view.stretches(tier) else { return Ok(0) };
        let begin = first.max(first_kept(&ages.longest()));
        let mut going = Vec::with_capacity(hosts.len());
        for host in hosts.iter().copied() {
            let to = first_kept(ages.of(host)).min(last.saturating_add(1));
            going.push(Going { host, from: self.thinned.stretch(tier, host).max(begin), to });
        }
        going.sort_unstable_by_key(|going| going.host);
        let is_due = |going: &&Going| going.from < going.to;
        let Some(from) = going.iter().filter(is_due).map(|going| going.from).min() else { return Ok(0) };
        let to = going.iter().filter(is_due).map(|going| going.to).max().unwrap_or(from);
        let (mut batch, mut ranges, mut done) = (Batch::default(), 0, from);
        while done < to && ranges < RANGES_MAX {
            ranges += view.thin_stretch(&mut batch, tier, done, &going);
            done += 1;
        }
        for Going { host, to, .. } in going.iter().filter(is_due) {
            let upto = (*to).min(done);
            batch.put(&ThinnedKey::of(tier, *host), &ThinnedRow { upto });
            // Before it is so: a question that comes meanwhile is not to count on what goes.
            self.thinned.note(tier, *host, upto);
        }
        if let Err(error) = self.commit_waiting(batch) {
            going.iter().filter(is_due).for_each(|Going { host, from, .. }| self.thinned.note(tier, *host, *from));
            return Err(error);
        }
        drop(view);
        if ranges > 0 {
            let (begin, end) = (stretch_key(tier, from), stretch_key(tier, done));
            self.give_back_range(Column::Series, &begin, &end);
        }
        Ok(ranges)
    }
}

impl View<'_> {
    /// Deletes the hosts that are to go out of a stretch. Says in how many ranges.
    fn thin_stretch(&self, batch: &mut Batch, tier: Option<Tier>, stretch: u32, going: &[Going]) -> usize {
        let runs = runs(going, stretch);
        let Some(pieces) = self.last_piece(tier, stretch) else { return 0 };
        // A run after the other: what is kept of it is let go once, not for each piece.
        for (first, last) in &runs {
            for piece in 0..=pieces {
                let key = |host| match tier {
                    None => PieceKey::of(stretch, piece, host),
                    Some(tier) => RollupKey::of(number(tier), stretch, piece, host),
                };
                batch.delete_range(Column::Series, key(*first), key(last.saturating_add(1)));
            }
        }
        if self.has_old && tier.is_none() {
            for (first, last) in &runs {
                let key = |host| BlockKey::of(stretch, host);
                batch.delete_range(Column::Series, key(*first), key(last.saturating_add(1)));
            }
        }
        runs.len() * (usize::from(pieces) + 1)
    }

    /// The last piece that a stretch has.
    fn last_piece(&self, tier: Option<Tier>, stretch: u32) -> Option<u8> {
        let prefix = stretch_key(tier, stretch);
        let mut end = self.snapshot.raw_iterator_cf(family(self.store.db(), Column::Series));
        end.seek_for_prev([prefix.as_slice(), &[u8::MAX; 8]].concat());
        if end.status().is_err() {
            // It cannot be seen.
            return Some(u8::MAX);
        }
        end.key().and_then(|key| key.strip_prefix(prefix.as_slice())?.first().copied())
    }
}

fn stretch_key(tier: Option<Tier>, stretch: u32) -> Vec<u8> {
    match tier {
        None => PieceKey::from_hour(stretch),
        Some(tier) => RollupKey::from_stretch(number(tier), stretch),
    }
}

/// Hosts next to each other that go out of a stretch, the first and the last of each run. What went before is as good as
/// gone, and what nobody knows of is nobody's.
fn runs(going: &[Going], stretch: u32) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut is_open = false;
    for Going { host, from, to } in going {
        if stretch >= *to {
            is_open = false;
        } else if stretch >= *from {
            match runs.last_mut().filter(|_| is_open) {
                Some((_, last)) => *last = *host,
                None => runs.push((*host, *host)),
            }
            is_open = true;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_go_together_and_nobody_else_with_them() {
        let going = |host, from, to| Going { host, from, to };
        let hosts = [going(1, 5, 9), going(2, 5, 9), going(5, 9, 9), going(6, 5, 5), going(7, 4, 9), going(900, 5, 9)];
        assert_eq!(runs(&hosts, 5), [(1, 2), (7, 900)], "5 went before, 6 stays");
        assert_eq!(runs(&hosts, 4), [(7, 7)]);
        assert_eq!(runs(&hosts, 9), []);
    }

    #[test]
    fn the_longest_and_the_shortest_are_of_each_tier() {
        let hour = std::time::Duration::from_secs(3_600);
        let default = Retention { series: 10 * hour, series_5m: 20 * hour, ..Retention::default() };
        let one = Retention { series: 5 * hour, series_5m: 30 * hour, ..default };
        let ages = Ages { default, of: [(7, one)].into() };
        assert_eq!((ages.longest().series, ages.longest().series_5m), (10 * hour, 30 * hour));
        assert_eq!((ages.shortest().series, ages.shortest().series_5m), (5 * hour, 20 * hour));
        assert_eq!((ages.of(7).series, ages.of(8).series), (5 * hour, 10 * hour));
    }
}
