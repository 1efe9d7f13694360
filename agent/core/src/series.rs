//! Series and summaries: what is stored and shown of a sample.
//!
//! Names and labels are those that node_exporter's users know. A counter travels as a counter; a
//! gauge carries its last value with the least, the greatest and the mean of the window.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::time::Now;

/// A series of values: a name and labels in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// Such as `node_cpu_seconds_total`.
    pub name: String,
    /// Sorted by label name, each name once.
    pub labels: Vec<(String, String)>,
}

impl SeriesKey {
    /// A series with these labels, in whatever order they come.
    #[must_use]
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        let mut labels: Vec<_> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        labels.sort();
        Self { name: name.to_owned(), labels }
    }

    /// Orders this key against a name and sorted labels, as it would be ordered against their key.
    fn cmp_parts(&self, name: &str, labels: &[(&str, &str)]) -> Ordering {
        let own = self.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        self.name.as_str().cmp(name).then_with(|| own.cmp(labels.iter().copied()))
    }
}

impl fmt::Display for SeriesKey {
    /// As it is written in a query: `node_filesystem_avail_bytes{mountpoint="/"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, (name, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at == 0 { "" } else { "," })?;
        }
        f.write_str("}")
    }
}

/// One value of a series over the window of a summary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// A counter, as it stood at the end of the window.
    Counter(f64),
    /// A gauge over the window.
    Gauge {
        /// Its last value.
        last: f64,
        /// Its least.
        min: f64,
        /// Its greatest.
        max: f64,
        /// Its mean over the samples of the window.
        mean: f64,
    },
}

/// What ten seconds of samples come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// The end of the window.
    pub at: Now,
    /// How long it is, in milliseconds.
    pub window_ms: u32,
    /// How many samples it holds.
    pub samples: u32,
    /// Sorted by series. A series without a reading in the window is absent.
    pub points: Vec<(Arc<SeriesKey>, Point)>,
}

/// Most series of one host. Those beyond are left out and counted; a host with a thousand units
/// and forty disks has some 11 000.
pub const SERIES_MAX: usize = 20_000;

/// Keys made once and found again without making them: every series has a slot.
///
/// Samples name their series in the same order again and again, so the slot that came after the
/// last one is tried first, and a search is needed only when something came or went.
#[derive(Debug, Default)]
pub struct SeriesTable {
    /// By slot.
    keys: Vec<Arc<SeriesKey>>,
    /// Slots in the order of their keys.
    sorted: Vec<usize>,
    /// Slots in the order in which they were last asked for, and where in it we are.
    order: Vec<usize>,
    cursor: usize,
    dropped: u64,
}

impl SeriesTable {
    /// The slot of a series; `labels` must be sorted by name. `None` when [`SERIES_MAX`] series
    /// are there already.
    pub fn slot(&mut self, name: &str, labels: &[(&str, &str)]) -> Option<usize> {
        debug_assert!(labels.is_sorted(), "labels of {name} are not sorted");
        if let Some(&slot) = self.order.get(self.cursor)
            && self.keys[slot].cmp_parts(name, labels) == Ordering::Equal
        {
            self.cursor += 1;
            return Some(slot);
        }
        let slot = match self.sorted.binary_search_by(|slot| self.keys[*slot].cmp_parts(name, labels)) {
            Ok(at) => self.sorted[at],
            Err(_) if self.keys.len() >= SERIES_MAX => {
                self.dropped += 1;
                return None;
            }
            Err(at) => {
                self.keys.push(Arc::new(SeriesKey::new(name, labels)));
                self.sorted.insert(at, self.keys.len() - 1);
                self.keys.len() - 1
            }
        };
        // From here on the order is another: what follows is asked for again.
        self.order.truncate(self.cursor);
        self.order.push(slot);
        self.cursor += 1;
        Some(slot)
    }

    /// Whether a series has a slot; `labels` must be sorted by name.
    #[must_use]
    pub fn contains(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.sorted.binary_search_by(|slot| self.keys[*slot].cmp_parts(name, labels)).is_ok()
    }

    /// Says that the next series asked for is the first of a sample.
    pub fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// The key in a slot.
    #[must_use]
    pub fn key(&self, slot: usize) -> &Arc<SeriesKey> {
        &self.keys[slot]
    }

    /// All slots, in the order of their keys.
    pub fn sorted(&self) -> impl Iterator<Item = usize> + '_ {
        self.sorted.iter().copied()
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How often a series was left out because of [`SERIES_MAX`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets every series whose slot `keep` does not accept. Slots are given anew.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let keys = std::mem::take(&mut self.keys);
        self.keys = (0..).zip(keys).filter(|(slot, _)| keep(*slot)).map(|(_, key)| key).collect();
        self.sorted = (0..self.keys.len()).collect();
        self.sorted.sort_by(|a, b| self.keys[*a].cmp(&self.keys[*b]));
        self.order.clear();
        self.cursor = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_keeps_its_slot_in_whatever_order_it_is_asked_for() {
        let mut table = SeriesTable::default();
        let ask = |table: &mut SeriesTable, names: &[&str]| {
            table.rewind();
            names.iter().map(|name| table.slot("m", &[("name", name)]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ask(&mut table, &["b", "a", "c"]), [0, 1, 2]);
        assert_eq!(ask(&mut table, &["b", "a", "c"]), [0, 1, 2]);
        assert_eq!(ask(&mut table, &["b", "x", "a", "c"]), [0, 3, 1, 2]);
        assert_eq!(ask(&mut table, &["c", "b"]), [2, 0]);
        let sorted: Vec<_> = table.sorted().map(|slot| table.key(slot).to_string()).collect();
        assert_eq!(sorted, [r#"m{name="a"}"#, r#"m{name="b"}"#, r#"m{name="c"}"#, r#"m{name="x"}"#]);
    }

    #[test]
    fn the_same_key_is_made_once() {
        let mut table = SeriesTable::default();
        let slot = table.slot("m", &[]).unwrap();
        let key = Arc::clone(table.key(slot));
        table.rewind();
        let again = table.slot("m", &[]).unwrap();
        assert!(Arc::ptr_eq(&key, table.key(again)));
    }

    #[test]
    fn series_beyond_the_bound_are_counted_and_room_is_made_by_forgetting() {
        let mut table = SeriesTable::default();
        for n in 0..SERIES_MAX {
            assert!(table.slot("m", &[("n", &n.to_string())]).is_some());
        }
        assert_eq!((table.slot("more", &[]), table.dropped()), (None, 1));
        table.retain(|slot| slot < 5);
        assert_eq!(table.len(), 5);
        assert_eq!(table.slot("m", &[("n", "3")]), Some(3));
        assert_eq!(table.slot("more", &[]), Some(5));
    }
}
