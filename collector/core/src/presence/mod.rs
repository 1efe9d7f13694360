//! Who had which series when: of an hour, the schemas of each host's rows, and about when these rows were.
//!
//! In: rows as they come, and what was read of blocks. Out: of any span of the hour, for each schema the hosts that surely had
//! rows of it then, and the hosts of which it is not known. *Invariant:* what it is sure of is so, whatever came in which
//! order; what it cannot follow (a row that takes another's place, rows that go) makes a host unknown until it is read anew.
//!
//! Mostly all rows of a host are of one schema and come every few seconds: then a host is a bit ([`HostSet`]).

mod run;
mod set;

use std::collections::BTreeMap;

pub use run::{Is, Run};
pub use set::HostSet;

/// Length of an hour, in milliseconds.
pub const HOUR_MS: u32 = 3_600_000;
/// Rows that lie no further apart than this throughout the hour are not looked at one by one.
const WHOLE_GAP_MS: u32 = 60_000;
/// What an entry of a map takes, with what the map needs for it.
const ENTRY_BYTES: usize = 40;

/// The hosts that had rows in a span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// By the number of a schema: who surely had rows of it.
    pub sure: BTreeMap<u32, HostSet>,
    /// Who may have had rows of any.
    pub unknown: HostSet,
}

/// An hour. Schemas have numbers.
#[derive(Debug, Clone, Default)]
pub struct Hour {
    /// By host and schema.
    runs: BTreeMap<(u32, u32), Run>,
    /// By schema: hosts whose rows of it lie close together throughout the hour.
    whole: BTreeMap<u32, HostSet>,
    unknown: HostSet,
}

impl Hour {
    /// A row that was written, at so many milliseconds of the hour. One that may stand in the place of another's makes its
    /// host unknown.
    pub fn wrote(&mut self, host: u32, schema: u32, at: u32) {
        let of_others = self.runs_of(host).filter(|((_, other), _)| *other != schema);
        let newest = of_others.map(|(_, run)| run.last()).max();
        let is_whole_of_another = self.whole.iter().any(|(other, hosts)| *other != schema && hosts.contains(host));
        if is_whole_of_another || newest.is_some_and(|newest| at <= newest) {
            self.unknown.insert(host);
        }
        self.add(host, schema, Run::at(at));
    }

    /// Rows that there are.
    pub fn add(&mut self, host: u32, schema: u32, run: Run) {
        if self.whole.get(&schema).is_some_and(|hosts| hosts.contains(host)) {
            return;
        }
        self.runs.entry((host, schema)).and_modify(|known| known.add(run)).or_insert(run);
    }

    /// What is stored of a host is not followed.
    pub fn forget(&mut self, host: u32) {
        self.unknown.insert(host);
    }

    /// Nothing is stored of a host any more.
    pub fn remove(&mut self, host: u32) {
        self.runs.retain(|(of, _), _| *of != host);
        self.whole.values_mut().for_each(|hosts| hosts.remove(host));
        self.unknown.remove(host);
    }

    /// Takes in what was read of the same hour, as it was at some moment since this one is followed. What came since may stand
    /// in the place of what was read: then its host is unknown. Neither is settled.
    pub fn join(&mut self, read: Self) {
        let came_since = self.runs.clone();
        for ((host, schema), run) in read.runs {
            let mut others = came_since.range((host, 0)..=(host, u32::MAX)).filter(|((_, other), _)| *other != schema);
            if others.any(|(_, other)| other.first() <= run.last()) {
                self.unknown.insert(host);
            }
            self.add(host, schema, run);
        }
        self.unknown.add(&read.unknown);
    }

    /// Makes it as small as it can be: when the hour is over. A set of few hosts takes more than an entry for each.
    pub fn settle(&mut self) {
        let is_whole = |run: &Run| run.is_whole(HOUR_MS, WHOLE_GAP_MS);
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for ((_, schema), _) in self.runs.iter().filter(|(_, run)| is_whole(run)) {
            *counts.entry(*schema).or_default() += 1;
        }
        let most = self.runs.last_key_value().map_or(0, |((host, _), _)| *host);
        let set_bytes = ENTRY_BYTES + HostSet::bytes_up_to(most);
        let is_worth_it =
            |schema: &u32, count: usize| count * ENTRY_BYTES > set_bytes || self.whole.contains_key(schema);
        counts.retain(|schema, count| is_worth_it(schema, *count));
        let settled = self.runs.extract_if(.., |(_, schema), run| counts.contains_key(schema) && is_whole(run));
        for ((host, schema), _) in settled {
            self.whole.entry(schema).or_default().insert(host);
        }
    }

    /// Adds who had rows from one moment of the hour to another, both included.
    pub fn within(&self, from: u32, to: u32, present: &mut Present) {
        present.unknown.add(&self.unknown);
        let is_told = to.checked_sub(from).is_some_and(|length| length >= WHOLE_GAP_MS.min(HOUR_MS));
        for (schema, hosts) in &self.whole {
            if is_told {
                present.sure.entry(*schema).or_default().add(hosts);
            } else {
                present.unknown.add(hosts);
            }
        }
        for ((host, schema), run) in &self.runs {
            match run.within(from, to) {
                Is::No => {}
                Is::Yes => {
                    present.sure.entry(*schema).or_default().insert(*host);
                }
                Is::Perhaps => {
                    present.unknown.insert(*host);
                }
            }
        }
    }

    /// How many hosts are not known.
    #[must_use]
    pub fn unknown(&self) -> &HostSet {
        &self.unknown
    }

    /// What it takes in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let sets = self.whole.values().map(|hosts| ENTRY_BYTES + hosts.bytes()).sum::<usize>();
        size_of::<Self>() + self.runs.len() * ENTRY_BYTES + sets + self.unknown.bytes()
    }

    fn runs_of(&self, host: u32) -> impl Iterator<Item = (&(u32, u32), &Run)> {
        self.runs.range((host, 0)..=(host, u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What happens to a store, to two hosts of three schemas.
    #[derive(Debug, Clone)]
    enum Step {
        Write {
            host: u32,
            schema: u32,
            at: u32,
        },
        /// Rows of every ten seconds.
        WriteAll {
            host: u32,
            schema: u32,
        },
        /// It is read as it was some steps ago, and was followed from a moment before that on.
        Load {
            followed: usize,
            ago: usize,
        },
        Settle,
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = prop_oneof![0u32..20, 0u32..HOUR_MS];
        prop_oneof![
            6 => (1u32..3, 0u32..3, at).prop_map(|(host, schema, at)| Step::Write { host, schema, at }),
            1 => (1u32..3, 0u32..3).prop_map(|(host, schema)| Step::WriteAll { host, schema }),
            1 => (0usize..4, 0usize..4).prop_map(|(followed, ago)| Step::Load { followed, ago }),
            1 => Just(Step::Settle),
        ]
    }

    /// The plain way: every row, by host and time.
    type Rows = BTreeMap<(u32, u32), u32>;

    fn write(rows: &mut Rows, hour: &mut Hour, (host, schema, at): (u32, u32, u32)) {
        rows.insert((host, at), schema);
        hour.wrote(host, schema, at);
    }

    fn read(writes: &[Vec<(u32, u32, u32)>]) -> Hour {
        let (mut hour, mut rows) = (Hour::default(), Rows::new());
        writes.iter().flatten().for_each(|(host, schema, at)| {
            rows.insert((*host, *at), *schema);
        });
        rows.iter().for_each(|((host, at), schema)| hour.add(*host, *schema, Run::at(*at)));
        hour
    }

    proptest! {
        #[test]
        fn what_it_is_sure_of_is_so(
            steps in prop::collection::vec(step(), 1..25), spans in prop::collection::vec((0u32..HOUR_MS, 0u32..HOUR_MS), 1..8),
        ) {
            let (mut rows, mut hour, mut writes) = (Rows::new(), Hour::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Write { host, schema, at } => writes.push(vec![(host, schema, at)]),
                    Step::WriteAll { host, schema } => {
                        writes.push((0..HOUR_MS / 10_000).map(|n| (host, schema, n * 10_000 + 7)).collect());
                    }
                    Step::Load { followed, ago } => {
                        let read_at = writes.len().saturating_sub(ago);
                        let since = read_at.saturating_sub(followed);
                        let mut anew = Hour::default();
                        writes[since..].iter().flatten().for_each(|of| anew.wrote(of.0, of.1, of.2));
                        anew.join(read(&writes[..read_at]));
                        hour = anew;
                        continue;
                    }
                    Step::Settle => {
                        hour.settle();
                        continue;
                    }
                }
                writes.last().into_iter().flatten().for_each(|of| write(&mut rows, &mut hour, *of));
            }
            for (from, to) in spans.into_iter().chain([(0, HOUR_MS - 1)]) {
                let mut present = Present::default();
                hour.within(from, to, &mut present);
                for (host, schema) in (1..3).flat_map(|host| (0..3).map(move |schema| (host, schema))) {
                    if present.unknown.contains(host) {
                        continue;
                    }
                    let plain = rows.iter().any(|((of, at), is)| *of == host && *is == schema && (from..=to).contains(at));
                    let told = present.sure.get(&schema).is_some_and(|hosts| hosts.contains(host));
                    prop_assert_eq!(told, plain, "host {} schema {} from {} to {}", host, schema, from, to);
                }
            }
        }
    }

    #[test]
    fn what_is_plain_is_known() {
        let mut hour = Hour::default();
        for host in 1..=10_000 {
            hour.add(host, 7, Run::of((0..360).map(|n| n * 10_000)).unwrap());
        }
        let before = hour.bytes();
        hour.settle();
        assert!(hour.bytes() < 3_000 && before > 100 * hour.bytes(), "{before} and {} bytes", hour.bytes());
        let mut unlike = Hour::default();
        for host in 1..=10_000 {
            unlike.add(host, host, Run::of((0..360).map(|n| n * 10_000)).unwrap());
        }
        let before = unlike.bytes();
        unlike.settle();
        assert_eq!(unlike.bytes(), before, "a set for each host would take more");
        // What comes late changes nothing, and an upgrade at the end of the hour is followed.
        hour.wrote(5, 7, 1_234);
        (300..360).for_each(|n| hour.wrote(10_001, 8, n * 10_000));
        hour.wrote(10_001, 9, 3_599_999);
        for (from, to, sevens) in [(0, HOUR_MS - 1, 10_000), (100, 60_100, 10_000)] {
            let mut present = Present::default();
            hour.within(from, to, &mut present);
            assert_eq!((present.sure[&7].len(), present.unknown.len()), (sevens, 0), "{from} to {to}");
        }
        let mut present = Present::default();
        hour.within(3_200_000, HOUR_MS - 1, &mut present);
        let of = |schema: u32| present.sure[&schema].iter().collect::<BTreeSet<_>>();
        assert_eq!((of(8), of(9)), (BTreeSet::from([10_001]), BTreeSet::from([10_001])));
        hour.wrote(10_001, 8, 3_599_999);
        assert_eq!(hour.unknown().iter().collect::<Vec<_>>(), [10_001], "in the place of another");
    }
}
