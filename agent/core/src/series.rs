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

    fn has_labels(&self, labels: &[(&str, &str)]) -> bool {
        self.labels.len() == labels.len()
            && self.labels.iter().zip(labels).all(|((k, v), label)| v == label.1 && k == label.0)
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

/// How far ahead a series is looked for when it is not the one that followed last time: so many may be absent this time.
const AHEAD: usize = 24;

/// Nobody's number.
const NO_SUBJECT: u32 = u32::MAX;

/// Keys made once and found again without making them: every series has a slot.
///
/// Samples name their series in the same order again and again, so the one that came after the last one is tried first. Its
/// name is known by where its text lies, and its labels are compared once for all series of one subject that follow each
/// other. What is absent this time keeps its place in the order; a search is needed only for what came.
#[derive(Debug)]
pub struct SeriesTable {
    /// By slot.
    keys: Vec<Arc<SeriesKey>>,
    /// Slots in the order of their keys.
    sorted: Vec<usize>,
    /// The order in which they are asked for, and where in it we are.
    order: Vec<Place>,
    cursor: usize,
    /// The subject whose labels are those of the series before the cursor.
    subject: u32,
    /// How many were asked for, and how often the order has become another.
    passed: u64,
    edits: u64,
    room: usize,
    dropped: u64,
}

/// A moment while series are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    cursor: usize,
    passed: u64,
    edits: u64,
}

/// Series that were asked for one after the other, without any between them that was not.
#[derive(Debug, Clone)]
pub struct Stretch {
    places: std::ops::Range<usize>,
    edits: u64,
    /// Their slots by themselves: who asks for them again touches nothing else.
    slots: Box<[u32]>,
}

impl Stretch {
    /// The slots of its series, in their order: the same as long as the table keeps all of its series.
    pub fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots.iter().map(|slot| *slot as usize)
    }
}

/// One series in the order in which they are asked for.
#[derive(Debug, Clone, Copy)]
struct Place {
    slot: usize,
    /// As it was asked for last.
    name: &'static str,
    /// Whether its labels are those of the place before.
    is_like_before: bool,
}

impl Default for SeriesTable {
    fn default() -> Self {
        Self::with_room(SERIES_MAX)
    }
}

impl SeriesTable {
    /// A table for so many series.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        let (keys, sorted, order) = (Vec::new(), Vec::new(), Vec::new());
        Self { keys, sorted, order, cursor: 0, subject: NO_SUBJECT, passed: 0, edits: 0, room, dropped: 0 }
    }

    /// The slot of a series; `labels` must be sorted by name. `subject` is the number of what the series is about: series
    /// that are asked for under one number, one after the other, have the same labels. `None` when the table is full.
    pub fn slot(&mut self, name: &'static str, labels: &[(&str, &str)], subject: u32) -> Option<usize> {
        debug_assert!(labels.is_sorted(), "labels of {name} are not sorted");
        if let Some(place) = self.order.get(self.cursor)
            && std::ptr::eq(place.name, name)
            && ((place.is_like_before && subject == self.subject) || self.keys[place.slot].has_labels(labels))
        {
            let slot = place.slot;
            debug_assert!(self.keys[slot].cmp_parts(name, labels) == Ordering::Equal, "{name} of {subject} is another");
            return Some(self.passed(slot, subject));
        }
        if let Some(at) = self.ahead(name, labels) {
            self.cursor = at;
            self.order[at].name = name;
            return Some(self.passed(self.order[at].slot, subject));
        }
        let slot = self.add(name, labels)?;
        self.put(Place { slot, name, is_like_before: false });
        Some(self.passed(slot, subject))
    }

    /// The slot of a series that nobody asks for yet, as when it is read from where it was kept; made where there is none.
    /// `None` when the table is full.
    pub fn add(&mut self, name: &str, labels: &[(&str, &str)]) -> Option<usize> {
        let place = self.sorted.binary_search_by(|slot| self.keys[*slot].cmp_parts(name, labels));
        self.add_at(place, || SeriesKey::new(name, labels))
    }

    /// The same of a key.
    pub fn add_key(&mut self, key: &SeriesKey) -> Option<usize> {
        let place = self.sorted.binary_search_by(|slot| (*self.keys[*slot]).cmp(key));
        self.add_at(place, || key.clone())
    }

    fn add_at(&mut self, place: Result<usize, usize>, key: impl FnOnce() -> SeriesKey) -> Option<usize> {
        match place {
            Ok(at) => Some(self.sorted[at]),
            Err(_) if self.keys.len() >= self.room => {
                self.dropped += 1;
                None
            }
            Err(at) => {
                self.keys.push(Arc::new(key()));
                self.sorted.insert(at, self.keys.len() - 1);
                Some(self.keys.len() - 1)
            }
        }
    }

    /// Where a series stands in the order from here on.
    fn ahead(&self, name: &str, labels: &[(&str, &str)]) -> Option<usize> {
        let places = self.order.iter().enumerate().skip(self.cursor).take(AHEAD);
        let is = |place: &Place| place.name == name && self.keys[place.slot].has_labels(labels);
        places.filter(|(_, place)| is(place)).map(|(at, _)| at).next()
    }

    fn passed(&mut self, slot: usize, subject: u32) -> usize {
        self.cursor += 1;
        self.passed += 1;
        self.subject = subject;
        slot
    }

    /// Where we are, to ask later what was asked for since ([`Self::since`]).
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { cursor: self.cursor, passed: self.passed, edits: self.edits }
    }

    /// What was asked for since `mark`, if each followed the one before as it does in the order.
    #[must_use]
    pub fn since(&self, mark: Mark) -> Option<Stretch> {
        let places = mark.cursor..self.cursor;
        let is_all = places.len() as u64 == self.passed - mark.passed && mark.edits == self.edits;
        let slots = self.order.get(places.clone()).filter(|_| is_all)?.iter().map(|place| u32::try_from(place.slot));
        Some(Stretch { places, edits: self.edits, slots: slots.collect::<Result<_, _>>().ok()? })
    }

    /// Goes through a stretch as if each of its series were asked for again; says whether it could, or the order has become
    /// another since.
    pub fn again(&mut self, stretch: &Stretch) -> bool {
        if stretch.edits != self.edits {
            return false;
        }
        self.passed += stretch.places.len() as u64;
        (self.cursor, self.subject) = (stretch.places.end, NO_SUBJECT);
        true
    }

    /// Puts a series into the order where we are.
    fn put(&mut self, place: Place) {
        self.edits += 1;
        // An order that changes all the time is not worth keeping.
        let most = 2 * self.keys.len() + AHEAD;
        if self.order.len() > most {
            self.order.truncate(self.cursor);
        }
        if self.order.len() > most {
            self.order.clear();
            self.cursor = 0;
        }
        self.order.insert(self.cursor, place);
        self.compare_with_before(self.cursor);
        self.compare_with_before(self.cursor + 1);
    }

    fn compare_with_before(&mut self, at: usize) {
        let before = at.checked_sub(1).and_then(|before| self.order.get(before)).map(|place| place.slot);
        let Some(place) = self.order.get_mut(at) else { return };
        let labels = |slot: usize| &self.keys[slot].labels;
        place.is_like_before = before.is_some_and(|before| labels(before) == labels(place.slot));
    }

    /// Says that the next series asked for is the first of a sample.
    pub fn rewind(&mut self) {
        (self.cursor, self.subject) = (0, NO_SUBJECT);
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

    /// How often a series was left out because the table was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets every series whose slot `keep` does not accept. Slots are given anew, in the order that they had.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        self.edits += 1;
        let mut next = 0..;
        let new: Vec<Option<usize>> =
            (0..self.keys.len()).map(|slot| keep(slot).then(|| next.next()).flatten()).collect();
        let keys = std::mem::take(&mut self.keys);
        self.keys = keys.into_iter().zip(&new).filter(|(_, new)| new.is_some()).map(|(key, _)| key).collect();
        self.sorted = self.sorted.iter().filter_map(|slot| new[*slot]).collect();
        let places = std::mem::take(&mut self.order).into_iter();
        self.order = places.filter_map(|place| Some(Place { slot: new[place.slot]?, ..place })).collect();
        (0..self.order.len()).for_each(|at| self.compare_with_before(at));
        self.rewind();
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
            (0..).zip(names).map(|(n, name)| table.slot("m", &[("name", name)], n).unwrap()).collect::<Vec<_>>()
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
        let slot = table.slot("m", &[], 0).unwrap();
        let key = Arc::clone(table.key(slot));
        table.rewind();
        let again = table.slot("m", &[], 0).unwrap();
        assert!(Arc::ptr_eq(&key, table.key(again)));
    }

    #[test]
    fn series_beyond_the_bound_are_counted_and_room_is_made_by_forgetting() {
        let mut table = SeriesTable::with_room(100);
        for n in 0..100 {
            assert!(table.slot("m", &[("n", &n.to_string())], n).is_some());
        }
        assert_eq!((table.slot("more", &[], 100), table.dropped()), (None, 1));
        table.retain(|slot| slot < 5);
        assert_eq!(table.len(), 5);
        assert_eq!(table.slot("m", &[("n", "3")], 3), Some(3));
        assert_eq!(table.slot("more", &[], 100), Some(5));
        assert_eq!(SeriesTable::default().room, SERIES_MAX);
    }

    /// What is asked for in one pass: the subjects that are there, and which of the names each has.
    type Pass = Vec<(u8, [bool; 3])>;

    proptest::proptest! {
        #[test]
        fn a_slot_is_always_that_of_the_series_that_was_asked_for(
            passes in proptest::collection::vec(
                proptest::collection::vec((0u8..12, proptest::array::uniform3(proptest::bool::weighted(0.8))), 0..12),
                0..12,
            ),
            forget in 0usize..8,
        ) {
            let mut table = SeriesTable::with_room(20);
            for (at, pass) in passes.iter().enumerate() {
                if at == forget {
                    table.retain(|slot| slot % 3 != 0);
                }
                asks(&mut table, pass);
                proptest::prop_assert!(table.sorted().map(|slot| &**table.key(slot)).is_sorted());
                // Until something comes after some were forgotten, there are as many places as before.
                proptest::prop_assert!(table.order.len() <= 2 * table.room + AHEAD + 1);
            }
        }
    }

    fn asks(table: &mut SeriesTable, pass: &Pass) {
        table.rewind();
        for (number, (subject, names)) in (0..).zip(pass) {
            let text = subject.to_string();
            let labels = [("subject", text.as_str())];
            for (name, _) in ["a", "b", "c"].into_iter().zip(names).filter(|(_, is_there)| **is_there) {
                let want = SeriesKey::new(name, &labels);
                match table.slot(name, &labels, number) {
                    Some(slot) => assert_eq!(**table.key(slot), want),
                    None => assert!(table.len() == table.room && table.keys.iter().all(|key| **key != want)),
                }
            }
        }
    }

    #[test]
    fn what_is_absent_for_once_keeps_its_place() {
        let mut table = SeriesTable::default();
        let pass = |table: &mut SeriesTable, names: &[&'static str]| {
            table.rewind();
            names.iter().for_each(|name| assert!(table.slot(name, &[], 0).is_some()));
            table.order.iter().map(|place| place.name).collect::<Vec<_>>()
        };
        let whole = pass(&mut table, &["a", "b", "c", "d"]);
        assert_eq!(pass(&mut table, &["a", "c", "d"]), whole);
        assert_eq!(pass(&mut table, &["a", "b", "c", "d"]), whole);
        assert_eq!(pass(&mut table, &["a", "b", "new", "c", "d"]), ["a", "b", "new", "c", "d"]);
    }
}
