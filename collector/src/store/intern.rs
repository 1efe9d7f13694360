//! Keys of series, each in memory once for all sessions: hosts that are alike name the same few thousand series.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_core::series::SeriesKey;

/// The keys that sessions and schemas hold.
#[derive(Debug, Default)]
pub struct Interner {
    known: Mutex<HashSet<Arc<SeriesKey>>>,
}

impl Interner {
    /// The one key that equals this.
    pub fn one(&self, key: SeriesKey) -> Arc<SeriesKey> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key) {
            return Arc::clone(found);
        }
        if known.len() == known.capacity() {
            // Before it grows, what nobody else holds any more goes. So it is at most twice what is held, and a key costs
            // one look at another on average.
            known.retain(|key| Arc::strong_count(key) > 1);
        }
        let key = Arc::new(key);
        known.insert(Arc::clone(&key));
        key
    }

    /// How many keys it holds, those included that nobody else holds any more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> SeriesKey {
        SeriesKey::new("x", &[("n", &n.to_string())])
    }

    #[test]
    fn equal_keys_are_one() {
        let interner = Interner::default();
        assert!(Arc::ptr_eq(&interner.one(key(1)), &interner.one(key(1))));
        assert_eq!(interner.one(key(2)).labels[0].1, "2");
    }

    #[test]
    fn what_nobody_holds_is_forgotten_and_what_somebody_holds_is_kept() {
        let interner = Interner::default();
        let held: Vec<_> = (0..10).map(|n| interner.one(key(n))).collect();
        (10..10_000).for_each(|n| drop(interner.one(key(n))));
        assert!(interner.len() < 100, "{} of 10 that are held", interner.len());
        assert!(held.iter().zip(0..).all(|(one, n)| Arc::ptr_eq(one, &interner.one(key(n)))));
    }
}
