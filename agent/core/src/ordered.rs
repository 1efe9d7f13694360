//! A map whose keys are asked for in their order again and again, as units are at every sample.
//!
//! What came after the key that was found last is tried first, so that going through all of them takes one comparison each,
//! without a search. A search is needed only for a key out of turn.

use std::borrow::Borrow;
use std::cell::Cell;
use std::cmp::Ordering;

/// A key whose copies may share what they are made of.
pub trait Adopt {
    /// Shares from now on what the same key is made of, where that is possible, so that the next comparison need not look
    /// at it.
    fn adopt(&mut self, _same: &Self) {}
}

/// A map that is sorted by its keys. Values lie where they are until they are removed.
#[derive(Debug, Clone)]
pub struct Ordered<K, V> {
    entries: Vec<(K, Box<V>)>,
    /// Where the key is that is asked for next, if all goes on as before.
    next: Cell<usize>,
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: Cell::new(0) }
    }
}

impl<K: Ord, V> Ordered<K, V> {
    /// Where a key is, or where it would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        let found = self.near(self.next.get(), key).or_else(|| self.near(0, key));
        let found = found.unwrap_or_else(|| self.entries.binary_search_by(|(known, _)| known.borrow().cmp(key)));
        self.next.set(found.map_or_else(|at| at, |at| at + 1));
        found
    }

    /// Where a key is, if that is here or just before, or where it would be, if that is here.
    fn near<Q: Ord + ?Sized>(&self, at: usize, key: &Q) -> Option<Result<usize, usize>>
    where
        K: Borrow<Q>,
    {
        let compare = |at: usize| self.entries.get(at).map(|(known, _)| known.borrow().cmp(key));
        match compare(at) {
            Some(Ordering::Equal) => Some(Ok(at)),
            Some(Ordering::Less) => None,
            Some(Ordering::Greater) | None => match at.checked_sub(1).map(|before| (before, compare(before))) {
                None | Some((_, Some(Ordering::Less))) => Some(Err(at)),
                Some((before, Some(Ordering::Equal))) => Some(Ok(before)),
                Some((_, Some(Ordering::Greater) | None)) => None,
            },
        }
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &*self.entries[at].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut *self.entries[at].1)
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Puts a value in the place of a key.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => *self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (key, Box::new(value))),
        }
    }

    /// Removes a key; says whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let found = self.find(key);
        found.is_ok_and(|at| {
            self.entries.remove(at);
            self.next.set(at);
            true
        })
    }

    /// Keeps what `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.entries.retain(|(key, value)| keep(key, value));
    }

    /// Keeps what is among `keys`, which come in their order: both are gone through once, without a search.
    pub fn retain_among<'k>(&mut self, keys: impl Iterator<Item = &'k K>)
    where
        K: Adopt + 'k,
    {
        let mut keys = keys.peekable();
        self.entries.retain_mut(|(known, _)| {
            while let Some(key) = keys.next_if(|key| *key <= known) {
                if key == known {
                    known.adopt(key);
                    return true;
                }
            }
            false
        });
    }

    /// Keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, &**value))
    }

    /// The keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Adopt for u8 {}

    /// What is done to a map.
    #[derive(Debug, Clone)]
    enum Deed {
        Insert(u8, u32),
        Remove(u8),
        Get(u8),
        All,
        Among(Vec<u8>),
        Odd,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let key = || 0u8..24;
        prop_oneof![
            4 => (key(), any::<u32>()).prop_map(|(key, value)| Deed::Insert(key, value)),
            2 => key().prop_map(Deed::Remove),
            2 => key().prop_map(Deed::Get),
            2 => Just(Deed::All),
            1 => proptest::collection::vec(key(), 0..24).prop_map(Deed::Among),
            1 => Just(Deed::Odd),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_whatever_is_asked_in_whatever_order(deeds in proptest::collection::vec(deed(), 0..60)) {
            let (mut ours, mut theirs) = (Ordered::default(), BTreeMap::new());
            for deed in deeds {
                match deed {
                    Deed::Insert(key, value) => {
                        ours.insert(key, value);
                        theirs.insert(key, value);
                    }
                    Deed::Remove(key) => prop_assert_eq!(ours.remove(&key), theirs.remove(&key).is_some()),
                    Deed::Get(key) => prop_assert_eq!(ours.get(&key), theirs.get(&key)),
                    Deed::All => {
                        for (key, value) in &mut theirs {
                            prop_assert!(ours.contains_key(key));
                            prop_assert_eq!(ours.get_mut(key), Some(value));
                        }
                    }
                    Deed::Among(mut keys) => {
                        keys.sort_unstable();
                        ours.retain_among(keys.iter());
                        theirs.retain(|key, _| keys.contains(key));
                    }
                    Deed::Odd => {
                        ours.retain(|_, value| value % 2 == 1);
                        theirs.retain(|_, value| *value % 2 == 1);
                    }
                }
                prop_assert!(ours.iter().eq(theirs.iter()));
                prop_assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
                prop_assert!(ours.keys().eq(theirs.keys()));
            }
        }
    }

    #[test]
    fn keys_in_their_order_are_found_without_a_search() {
        let mut map: Ordered<u32, u32> = Ordered::default();
        (0..100).for_each(|key| map.insert(key, key));
        for key in (0..100).chain(0..100) {
            assert!(map.contains_key(&key));
            assert_eq!(map.next.get(), usize::try_from(key).unwrap() + 1);
            assert_eq!(map.get(&key), Some(&key), "the same again");
        }
    }
}
