//! Sets of hosts, by their numbers: a bit for each, so that ten thousand are some twelve hundred bytes.
//!
//! Hosts are counted from one and sources from the upper half of all numbers on, so that both halves begin at their first bit.

/// The first number of the upper half.
const UPPER: u32 = 1 << 31;
/// Bits of a word.
const BITS: u32 = u64::BITS;

/// A set of numbers of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSet {
    halves: [Vec<u64>; 2],
}

fn place(host: u32) -> (usize, usize, u64) {
    let half = usize::from(host >= UPPER);
    let bit = host & (UPPER - 1);
    (half, (bit / BITS) as usize, 1 << (bit % BITS))
}

impl HostSet {
    /// Adds a host; says whether it is new.
    pub fn insert(&mut self, host: u32) -> bool {
        let (half, word, bit) = place(host);
        let words = &mut self.halves[half];
        if word >= words.len() {
            words.resize(word + 1, 0);
        }
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        is_new
    }

    /// Takes a host out.
    pub fn remove(&mut self, host: u32) {
        let (half, word, bit) = place(host);
        if let Some(word) = self.halves[half].get_mut(word) {
            *word &= !bit;
        }
    }

    /// Whether a host is in it.
    #[must_use]
    pub fn contains(&self, host: u32) -> bool {
        let (half, word, bit) = place(host);
        self.halves[half].get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.halves.iter().flatten().all(|word| *word == 0)
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.halves.iter().flatten().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        for (words, others) in self.halves.iter_mut().zip(&other.halves) {
            if words.len() < others.len() {
                words.resize(others.len(), 0);
            }
            words.iter_mut().zip(others).for_each(|(word, other)| *word |= other);
        }
    }

    /// Keeps those that are in another too.
    pub fn keep(&mut self, other: &Self) {
        for (words, others) in self.halves.iter_mut().zip(&other.halves) {
            words.truncate(others.len());
            words.iter_mut().zip(others).for_each(|(word, other)| *word &= other);
        }
    }

    /// Takes all of another out.
    pub fn without(&mut self, other: &Self) {
        for (words, others) in self.halves.iter_mut().zip(&other.halves) {
            words.iter_mut().zip(others).for_each(|(word, other)| *word &= !other);
        }
    }

    /// Whether any is in another too.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let pairs = |(words, others): (&Vec<u64>, &Vec<u64>)| words.iter().zip(others).any(|(a, b)| a & b != 0);
        self.halves.iter().zip(&other.halves).any(pairs)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.halves.iter().zip([0, UPPER]).flat_map(|(words, begin)| {
            (begin..).step_by(BITS as usize).zip(words).flat_map(|(first, word)| {
                let mut left = *word;
                std::iter::from_fn(move || {
                    let bit = (left != 0).then(|| left.trailing_zeros())?;
                    left &= left - 1;
                    Some(first + bit)
                })
            })
        })
    }

    /// What a set with this host, and none of a greater number, takes in memory, about.
    #[must_use]
    pub fn bytes_up_to(host: u32) -> usize {
        size_of::<Self>() + (place(host).1 + 1) * size_of::<u64>()
    }

    /// What it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.halves.iter().map(|words| words.capacity() * size_of::<u64>()).sum::<usize>()
    }
}

impl FromIterator<u32> for HostSet {
    fn from_iter<I: IntoIterator<Item = u32>>(hosts: I) -> Self {
        let mut set = Self::default();
        hosts.into_iter().for_each(|host| {
            set.insert(host);
        });
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn hosts() -> impl Strategy<Value = BTreeSet<u32>> {
        prop::collection::btree_set(prop_oneof![0u32..300, UPPER..UPPER + 200], 0..60)
    }

    proptest! {
        #[test]
        fn it_is_what_a_set_of_numbers_is(a in hosts(), b in hosts(), gone in hosts()) {
            let of = |set: &BTreeSet<u32>| set.iter().copied().collect::<HostSet>();
            let told = |set: &HostSet| set.iter().collect::<Vec<_>>();
            let plain = |set: BTreeSet<u32>| set.into_iter().collect::<Vec<_>>();
            let (mut both, mut shared, mut less, mut removed) = (of(&a), of(&a), of(&a), of(&a));
            both.add(&of(&b));
            shared.keep(&of(&b));
            less.without(&of(&b));
            gone.iter().for_each(|host| removed.remove(*host));
            prop_assert_eq!(told(&both), plain(&a | &b));
            prop_assert_eq!(told(&shared), plain(&a & &b));
            prop_assert_eq!(told(&less), plain(&a - &b));
            prop_assert_eq!(told(&removed), plain(&a - &gone));
            prop_assert_eq!(of(&a).meets(&of(&b)), !a.is_disjoint(&b));
            prop_assert_eq!((both.len(), shared.is_empty()), ((&a | &b).len(), a.is_disjoint(&b)));
            prop_assert!(gone.iter().all(|host| of(&a).contains(*host) == a.contains(host)));
        }
    }

    #[test]
    fn ten_thousand_hosts_take_little() {
        let all: HostSet = (1..=10_000).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.bytes() < 2_200, "{}", all.bytes());
        let mut sources = HostSet::default();
        assert!(sources.insert(UPPER + 5) && !sources.insert(UPPER + 5));
        assert!(sources.bytes() < 200, "{}", sources.bytes());
    }
}
