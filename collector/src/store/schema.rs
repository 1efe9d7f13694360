//! Schemas: the names of a block's series, stored once for all hosts that share them.
//!
//! Each knows the last day on which it was used, written once a day. When no series of that day are kept any more in any
//! tier, it goes. One that comes back at that very moment is written again with the next summary, under the same id.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use mainstay_core::series::{Point, SeriesKey};
use mainstay_fleet::cardinality::SeriesSet;
use mainstay_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use super::intern::Interner;
use super::keys::{Key as _, SchemaKey};
use super::names::AllNames;
use super::retention::Retention;
use super::values::SchemaRow;
use super::{Batch, Store, StoreError};

/// Most series of all schemas that are remembered, nine bytes each, and 32 for each name once it was asked for: 10,000 hosts of 800
/// that are not alike. Beyond it half of them are forgotten, and read again where nobody holds them. Keys are in memory once
/// whatever schemas have them.
const SERIES_MAX: usize = 8_000_000;
/// What is written once is packed well enough at this level.
const PACKED_LEVEL: i32 = 3;
const DAY_MS: i64 = 86_400_000;
/// Days that a schema is kept for beyond the series: hosts' clocks differ, and hours of rollups lie in blocks of days.
const DAYS_SPARE: u32 = 3;

/// The day of a moment, counted since 1970.
fn day_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.max(0) / DAY_MS).unwrap_or(u32::MAX)
}

/// The names of the series of a block, in their order.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The hash of the rest.
    pub id: [u8; 16],
    /// The series.
    pub keys: Vec<Arc<SeriesKey>>,
    /// Of each, whether it is a gauge.
    pub gauge: Vec<bool>,
    families: OnceLock<Vec<Family>>,
}

/// Series of a schema that have one name and are of one kind, and stand together. Most families of hosts are the same, though
/// few hosts have all series alike where each has containers of its own: what is worked out of one is worked out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The hash of its series: the same in any schema.
    pub id: [u8; 16],
    /// Of the name.
    hash: u64,
    from: u32,
    to: u32,
}

/// A name of a metric that is looked for in many schemas.
#[derive(Debug, Clone, Copy)]
pub struct Named<'n> {
    name: &'n str,
    hash: u64,
}

impl<'n> Named<'n> {
    /// This name.
    #[must_use]
    pub fn new(name: &'n str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self { name, hash: hasher.finish() }
    }
}

impl Family {
    /// Its places in the schema.
    #[must_use]
    pub fn places(&self) -> Range<usize> {
        self.from as usize..self.to as usize
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        (self.id, &self.keys, &self.gauge) == (other.id, &other.keys, &other.gauge)
    }
}

impl Schema {
    /// The schema of these series, which are sorted, so that hosts with the same series share it.
    #[must_use]
    pub fn of(series: &BTreeMap<Arc<SeriesKey>, bool>) -> Self {
        Self::of_set(SeriesSet::of(series.keys().cloned().collect(), series.values().copied().collect()))
    }

    fn of_set(series: SeriesSet) -> Self {
        let (keys, gauge) = series.into_parts();
        let mut schema = Self { id: [0; 16], keys, gauge, families: OnceLock::new() };
        let hash = Sha256::digest(schema.row().encode_to_vec());
        schema.id.copy_from_slice(&hash[..16]);
        schema
    }

    /// Its series, to be made others.
    #[must_use]
    pub fn series(&self) -> SeriesSet {
        SeriesSet::of(self.keys.clone(), self.gauge.clone())
    }

    /// Whether every one of these points, which are sorted, has its place here. Quick where the keys are the very ones.
    #[must_use]
    pub fn covers(&self, points: &[(Arc<SeriesKey>, Point)]) -> bool {
        let mut places = self.keys.iter().zip(&self.gauge);
        points.iter().all(|(key, point)| {
            let place = places.find(|(known, _)| *known == key);
            place.is_some_and(|(_, gauge)| *gauge == matches!(point, Point::Gauge { .. }))
        })
    }

    fn row(&self) -> SchemaRow {
        let label = |(name, value): &(String, String)| v1::Label { name: name.clone(), value: value.clone() };
        let series = self
            .keys
            .iter()
            .map(|key| v1::SeriesKey { name: key.name.clone(), labels: key.labels.iter().map(label).collect() });
        SchemaRow { series: series.collect(), gauge: self.gauge.clone(), ..SchemaRow::default() }
    }

    /// As it is stored: names are much alike, and nothing else packs this column.
    fn packed_row(&self, used_day: u32) -> Result<SchemaRow, StoreError> {
        let packed = zstd::bulk::compress(&self.row().encode_to_vec(), PACKED_LEVEL)
            .map_err(|error| StoreError::Database(format!("names of series cannot be packed: {error}")))?;
        Ok(SchemaRow { used_day, packed, ..SchemaRow::default() })
    }

    fn from_row(id: [u8; 16], row: SchemaRow, keys: &Interner) -> Result<Self, StoreError> {
        let row = if row.packed.is_empty() { row } else { unpacked(&row.packed, id)? };
        let key = |key: v1::SeriesKey| {
            keys.one(SeriesKey { name: key.name, labels: key.labels.into_iter().map(|l| (l.name, l.value)).collect() })
        };
        let keys = row.series.into_iter().map(key).collect();
        Ok(Self { id, keys, gauge: row.gauge, families: OnceLock::new() })
    }

    /// Its families, in their order; worked out when it is first asked for them.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        self.families.get_or_init(|| {
            let (mut families, mut text) = (Vec::new(), Vec::new());
            let mut from = 0;
            while let (Some(first), Some(gauge)) = (self.keys.get(from), self.gauge.get(from)) {
                let rest = self.keys[from..].iter().zip(&self.gauge[from..]);
                let to = from + rest.take_while(|(key, of)| key.name == first.name && *of == gauge).count();
                let part = |text: &mut Vec<u8>, part: &str| {
                    text.extend((part.len() as u64).to_le_bytes());
                    text.extend(part.as_bytes());
                };
                text.clear();
                text.push(u8::from(*gauge));
                part(&mut text, &first.name);
                for key in &self.keys[from..to] {
                    text.extend((key.labels.len() as u64).to_le_bytes());
                    key.labels.iter().flat_map(|(name, value)| [name, value]).for_each(|of| part(&mut text, of));
                }
                let mut id = [0; 16];
                id.copy_from_slice(&Sha256::digest(&text)[..16]);
                let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                let hash = Named::new(&first.name).hash;
                families.push(Family { id, hash, from: place(from), to: place(to) });
                from = to;
            }
            families.shrink_to_fit();
            families
        })
    }

    /// Whether a family of it has this name; several have where series of one name are of two kinds. Hashes are looked at first,
    /// as they lie behind one another, and names do not.
    #[must_use]
    pub fn is_named(&self, family: &Family, name: &Named<'_>) -> bool {
        family.hash == name.hash && self.keys[family.places().start].name == name.name
    }
}

/// A schema that is stored, and the last day on which it was used as it was read.
#[derive(Debug, Clone)]
struct Known {
    schema: Arc<Schema>,
    used_day: u32,
}

#[derive(Debug, Default)]
struct Remembered {
    by_id: HashMap<[u8; 16], Known>,
    /// Series of all of them.
    series: usize,
}

impl Remembered {
    /// Any of them.
    fn forget_half(&mut self) {
        let (mut left, most) = (self.series, self.series / 2);
        self.by_id.retain(|_, known| {
            let is_kept = left <= most;
            left -= if is_kept { 0 } else { known.schema.keys.len() };
            is_kept
        });
        self.series = left;
    }
}

/// Which schemas are stored, or will be: with those that were stored before, once they were looked for.
#[derive(Debug, Default)]
struct Ids {
    are_all: bool,
    ids: BTreeSet<[u8; 16]>,
    /// Those that came since all names were put together.
    came: Vec<[u8; 16]>,
    /// Whether any went since then.
    are_fewer: bool,
}

impl Ids {
    fn insert(&mut self, id: [u8; 16]) {
        if self.ids.insert(id) {
            self.came.push(id);
        }
    }
}

/// Schemas that are stored, with their names.
#[derive(Debug, Default)]
pub struct SchemaCache {
    known: Mutex<Remembered>,
    ids: Mutex<Ids>,
    names: Mutex<AllNames>,
    /// All that somebody holds, so that all who hold the same one hold it together.
    held: Mutex<HashMap<[u8; 16], Weak<Schema>>>,
    /// The day on which it was last looked for those that are not used.
    swept_day: AtomicU32,
}

impl SchemaCache {
    /// The one schema that equals this.
    fn one(&self, schema: Schema) -> Arc<Schema> {
        let mut held = lock(&self.held);
        if let Some(known) = held.get(&schema.id).and_then(Weak::upgrade) {
            return known;
        }
        if held.len() == held.capacity() {
            held.retain(|_, schema| schema.strong_count() > 0);
        }
        let schema = Arc::new(schema);
        held.insert(schema.id, Arc::downgrade(&schema));
        schema
    }

    fn get(&self, id: [u8; 16]) -> Option<Known> {
        lock(&self.known).by_id.get(&id).cloned()
    }

    /// One that is stored, or will be, and that somebody holds, such as a session.
    fn held(&self, id: [u8; 16]) -> Option<Arc<Schema>> {
        let is_stored = lock(&self.ids).ids.contains(&id);
        lock(&self.held).get(&id).filter(|_| is_stored).and_then(Weak::upgrade)
    }

    fn insert(&self, one: Known) {
        let mut known = lock(&self.known);
        if known.series >= SERIES_MAX {
            known.forget_half();
        }
        let series = one.schema.keys.len();
        let before = known.by_id.insert(one.schema.id, one).map_or(0, |before| before.schema.keys.len());
        known.series = (known.series + series).saturating_sub(before);
    }

    /// Those are read again when they are needed.
    pub(super) fn forget(&self, ids: &[[u8; 16]]) {
        let mut known = lock(&self.known);
        for id in ids {
            let series = known.by_id.remove(id).map_or(0, |gone| gone.schema.keys.len());
            known.series = known.series.saturating_sub(series);
        }
    }

    /// Those are not stored any more.
    pub(super) fn gone(&self, ids: &[[u8; 16]]) {
        self.forget(ids);
        let mut known = lock(&self.ids);
        for id in ids {
            known.are_fewer |= known.ids.remove(id);
        }
    }
}

fn unpacked(packed: &[u8], id: [u8; 16]) -> Result<SchemaRow, StoreError> {
    let key = || format!("{:02x?}", SchemaKey { id }.encode());
    let bytes = zstd::decode_all(packed).map_err(|error| StoreError::Value { key: key(), text: error.to_string() })?;
    super::decode(&SchemaKey { id }.encode(), &bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// The schema of these series: one for all who have the same.
    #[must_use]
    pub fn schema_of(&self, series: SeriesSet) -> Arc<Schema> {
        self.schemas.one(Schema::of_set(series))
    }

    /// The names of a stored schema.
    ///
    /// # Errors
    /// If it cannot be read; `None` if it is not there.
    pub fn schema(&self, id: [u8; 16]) -> Result<Option<Arc<Schema>>, StoreError> {
        // Whoever goes through all of them does not read again those that sessions hold.
        let known = self.schemas.get(id).map(|known| known.schema);
        if let Some(held) = known.or_else(|| self.schemas.held(id)) {
            return Ok(Some(held));
        }
        Ok(self.known_schema(id)?.map(|known| known.schema))
    }

    fn known_schema(&self, id: [u8; 16]) -> Result<Option<Known>, StoreError> {
        if let Some(known) = self.schemas.get(id) {
            return Ok(Some(known));
        }
        // Names that are damaged are written again by the next host that has such series.
        let Some(row) = self.get::<_, SchemaRow>(&SchemaKey { id })? else { return Ok(None) };
        let used_day = row.used_day;
        let known = Known { schema: self.schemas.one(Schema::from_row(id, row, &self.keys)?), used_day };
        self.schemas.insert(known.clone());
        // One that was stored again while it was being removed was taken for gone.
        lock(&self.schemas.ids).insert(id);
        Ok(Some(known))
    }

    /// Looks at the names of all stored schemas together. Those that came since the last time are added first.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn all_names<T>(&self, look: impl FnOnce(&AllNames) -> T) -> Result<T, StoreError> {
        let mut names = lock(&self.schemas.names);
        let came = {
            let mut known = lock(&self.schemas.ids);
            if !known.are_all {
                let prefix = SchemaKey::all();
                for item in self.scan::<SchemaKey>(&prefix, &prefix) {
                    known.insert(item?.0.id);
                }
                known.are_all = true;
            }
            let came = std::mem::take(&mut known.came);
            if std::mem::take(&mut known.are_fewer) {
                *names = AllNames::default();
                known.ids.iter().copied().collect()
            } else {
                came
            }
        };
        for (at, id) in came.iter().enumerate() {
            match self.schema(*id) {
                Ok(Some(schema)) => names.add(&schema),
                // It will be stored, or could not be.
                Ok(None) => lock(&self.schemas.ids).came.push(*id),
                Err(error) => {
                    lock(&self.schemas.ids).came.extend(&came[at..]);
                    return Err(error);
                }
            }
        }
        Ok(look(&names))
    }

    /// Writes a schema with the batch that first uses it, and with the first one of a day. It is remembered as known only
    /// when it is read back, so that a batch that fails does not lose it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn put_schema(&self, batch: &mut Batch, schema: &Schema, now_ms: i64) -> Result<(), StoreError> {
        let today = day_of(now_ms);
        if self.known_schema(schema.id)?.is_none_or(|known| known.used_day < today) {
            batch.put(&SchemaKey { id: schema.id }, &schema.packed_row(today)?);
            self.schemas.forget(&[schema.id]);
            lock(&self.schemas.ids).insert(schema.id);
        }
        Ok(())
    }

    /// Removes schemas whose last series are too old to be kept, once a day. Gives their ids, to be forgotten when the
    /// batch is durable. One that an older version has written counts as used today.
    pub(super) fn old_schemas(
        &self,
        batch: &mut Batch,
        retention: &Retention,
        now_ms: i64,
    ) -> Result<Vec<[u8; 16]>, StoreError> {
        let today = day_of(now_ms);
        if self.schemas.swept_day.swap(today, Ordering::Relaxed) == today {
            return Ok(Vec::new());
        }
        let longest = retention.series.max(retention.series_5m).max(retention.series_1h);
        let days = u32::try_from(longest.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX).saturating_add(DAYS_SPARE);
        let mut gone = Vec::new();
        for item in self.scan_values::<SchemaKey, SchemaRow>(&SchemaKey::all()) {
            let (key, row) = item?;
            if row.used_day == 0 {
                batch.put(&key, &SchemaRow { used_day: today, ..row });
            } else if row.used_day.saturating_add(days) < today {
                batch.delete(&key);
                gone.push(key.id);
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series: its name, its labels, and whether it is a gauge.
    type Of<'s> = (&'s str, &'s [(&'s str, &'s str)], bool);

    fn schema(series: &[Of<'_>]) -> Schema {
        let of = |(name, labels, gauge): &Of<'_>| (Arc::new(SeriesKey::new(name, labels)), *gauge);
        Schema::of(&series.iter().map(of).collect())
    }

    fn families_of<'s>(schema: &'s Schema, name: &str) -> Vec<&'s Family> {
        let name = Named::new(name);
        schema.families().iter().filter(|family| schema.is_named(family, &name)).collect()
    }

    #[test]
    fn families_are_the_series_of_one_name_and_kind_and_are_known_again_in_another_schema() {
        let of_unit = |unit: &'static str| -> (&str, Vec<(&str, &str)>) { ("tasks", vec![("unit", unit)]) };
        let (nginx, redis) = (of_unit("nginx"), of_unit("redis"));
        let one = schema(&[
            ("load1", &[], true),
            (nginx.0, &nginx.1, true),
            (redis.0, &redis.1, true),
            // A name that is of two kinds is told apart by its labels.
            ("z", &[("n", "1")], true),
            ("z", &[("n", "2")], false),
            ("z", &[("n", "3")], true),
        ]);
        let places: Vec<_> = one.families().iter().map(Family::places).collect();
        assert_eq!(places, [0..1, 1..3, 3..4, 4..5, 5..6]);
        let names = ["load1", "tasks", "z", "a", "tasksandmore"];
        assert_eq!(names.map(|name| families_of(&one, name).len()), [1, 1, 3, 0, 0]);
        let id = |schema: &Schema, name: &str| families_of(schema, name)[0].id;
        let other = schema(&[("load1", &[], true), (nginx.0, &nginx.1, true), ("z", &[("n", "1")], false)]);
        assert_eq!(id(&one, "load1"), id(&other, "load1"));
        assert_ne!(id(&one, "tasks"), id(&other, "tasks"), "one unit more");
        assert_ne!(id(&one, "z"), id(&other, "z"), "another kind");
        let [a, b] = [[("a", "bc")], [("ab", "c")]].map(|labels| id(&schema(&[("x", &labels, true)]), "x"));
        assert_ne!(a, b);
    }

    #[test]
    fn when_there_are_too_many_half_of_them_are_forgotten() {
        let mut remembered = Remembered::default();
        for n in 0..100u8 {
            let text = n.to_string();
            let schema = Arc::new(schema(&[("a", &[("n", &text)], true), ("b", &[], true)]));
            remembered.by_id.insert(schema.id, Known { schema, used_day: 0 });
            remembered.series += 2;
        }
        remembered.forget_half();
        assert_eq!((remembered.by_id.len(), remembered.series), (50, 100));
    }
}
