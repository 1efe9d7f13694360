//! Series and summaries. On the wire a series has its key once a session, and a number after that.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey, Summary};

use super::{ConvertError, Problem, required};
use crate::v1;

/// Values of a gauge on the wire: last, min, max, mean.
const GAUGE_VALUES: usize = 4;

impl From<&SeriesKey> for v1::SeriesKey {
    fn from(key: &SeriesKey) -> Self {
        let label = |(name, value): &(String, String)| v1::Label { name: name.clone(), value: value.clone() };
        Self { name: key.name.clone(), labels: key.labels.iter().map(label).collect() }
    }
}

impl TryFrom<v1::SeriesKey> for SeriesKey {
    type Error = ConvertError;

    fn try_from(key: v1::SeriesKey) -> Result<Self, ConvertError> {
        if key.name.is_empty() {
            return Err(ConvertError::missing("name"));
        }
        let labels: Vec<_> = key.labels.into_iter().map(|label| (label.name, label.value)).collect();
        if labels.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            Ok(Self { name: key.name, labels })
        } else {
            Err(ConvertError::invalid("labels", "not sorted by name, or one stands twice"))
        }
    }
}

/// The series that a stream of summaries has named so far, by their numbers.
///
/// The sender asks it for the number of each series, and sends what it had to define; the reader
/// feeds it these definitions. Both start with an empty one.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    ids: BTreeMap<Arc<SeriesKey>, u32>,
    keys: BTreeMap<u32, Arc<SeriesKey>>,
}

impl Dictionary {
    /// How many series have a number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The series of a number.
    #[must_use]
    pub fn key(&self, id: u32) -> Option<&Arc<SeriesKey>> {
        self.keys.get(&id)
    }

    /// Takes a definition that was received. The same number for another series replaces it.
    ///
    /// # Errors
    /// If it has no usable key.
    pub fn define(&mut self, def: v1::SeriesDef) -> Result<(), ConvertError> {
        let key = Arc::new(required("key", def.key)?);
        if let Some(before) = self.keys.insert(def.id, Arc::clone(&key)) {
            self.ids.remove(&before);
        }
        self.ids.insert(key, def.id);
        Ok(())
    }

    /// The summary for the wire. Definitions that the reader needs first are added to `define`.
    pub fn summary(&mut self, summary: &Summary, define: &mut Vec<v1::SeriesDef>) -> v1::Summary {
        let mut wire = v1::Summary {
            at: Some(summary.at.into()),
            window_ms: summary.window_ms,
            samples: summary.samples,
            ..v1::Summary::default()
        };
        for (key, point) in &summary.points {
            let id = self.id(key, define);
            match point {
                Point::Counter(value) => {
                    wire.counter_ids.push(id);
                    wire.counters.push(*value);
                }
                Point::Gauge { last, min, max, mean } => {
                    wire.gauge_ids.push(id);
                    wire.gauges.extend([*last, *min, *max, *mean]);
                }
            }
        }
        wire
    }

    fn id(&mut self, key: &Arc<SeriesKey>, define: &mut Vec<v1::SeriesDef>) -> u32 {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = self.keys.last_key_value().map_or(1, |(last, _)| last + 1);
        self.ids.insert(Arc::clone(key), id);
        self.keys.insert(id, Arc::clone(key));
        define.push(v1::SeriesDef { id, key: Some((&**key).into()) });
        id
    }
}

/// Reads a summary, whose series `dictionary` knows.
///
/// # Errors
/// If a series is not known, or the lists do not run parallel.
pub fn summary_from_wire(summary: v1::Summary, dictionary: &Dictionary) -> Result<Summary, ConvertError> {
    parallel("counters", summary.counter_ids.len(), summary.counters.len())?;
    parallel("gauges", summary.gauge_ids.len() * GAUGE_VALUES, summary.gauges.len())?;
    let known = |field, id: &u32| {
        let unknown = || ConvertError::new(field, Problem::Unknown(id.to_string()));
        dictionary.key(*id).cloned().ok_or_else(unknown)
    };
    let mut points = Vec::with_capacity(summary.counter_ids.len() + summary.gauge_ids.len());
    for (id, value) in summary.counter_ids.iter().zip(&summary.counters) {
        points.push((known("counter_ids", id)?, Point::Counter(*value)));
    }
    for (id, values) in summary.gauge_ids.iter().zip(summary.gauges.chunks_exact(GAUGE_VALUES)) {
        let point = Point::Gauge { last: values[0], min: values[1], max: values[2], mean: values[3] };
        points.push((known("gauge_ids", id)?, point));
    }
    points.sort_by(|a, b| a.0.cmp(&b.0));
    let at = required("at", summary.at)?;
    Ok(Summary { at, window_ms: summary.window_ms, samples: summary.samples, points })
}

fn parallel(field: &'static str, expected: usize, found: usize) -> Result<(), ConvertError> {
    let problem = || Problem::Length { expected: expected.to_string().into(), found };
    if expected == found { Ok(()) } else { Err(ConvertError::new(field, problem())) }
}
