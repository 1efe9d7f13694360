//! Series and summaries. On the wire a series has its key once, and a number after that. What is gone gives its number to
//! others in time, so that a session goes on for ever where units and containers come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::series::{Point, SERIES_MAX, SeriesKey, Summary};

use super::columns::{Columns, Entry};
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

/// Series that are gone may keep their numbers until there are so many more than are in use.
const GONE_MAX: usize = 512;

/// The numbers that a sender has given to series.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    ids: BTreeMap<Arc<SeriesKey>, u32>,
    /// Numbers that were taken back.
    free: Vec<u32>,
}

impl Dictionary {
    /// The summary for the wire, each value as it is. Definitions that the reader needs first are added to `define`.
    pub fn summary(&mut self, summary: &Summary, define: &mut Vec<v1::SeriesDef>) -> v1::Summary {
        in_lists(summary, |_, key| self.id(key, define))
    }

    /// The number of a series; its definition is added to `define` if it has none yet.
    pub(super) fn id(&mut self, key: &Arc<SeriesKey>, define: &mut Vec<v1::SeriesDef>) -> u32 {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        // Where none is free all are in use, so that this is one more than the last.
        let next = || u32::try_from(self.ids.len()).unwrap_or(u32::MAX).saturating_add(1);
        let id = self.free.pop().unwrap_or_else(next);
        self.ids.insert(Arc::clone(key), id);
        define.push(v1::SeriesDef { id, key: Some((&**key).into()) });
        id
    }

    /// Takes back the numbers of series that are not among `used`, which is in the order of their keys.
    fn take_back(&mut self, used: &[Entry]) {
        if self.ids.len() <= used.len() + GONE_MAX {
            return;
        }
        let free = &mut self.free;
        self.ids.retain(|key, id| {
            let is_used = used.binary_search_by(|entry| entry.key().cmp(key)).is_ok();
            if !is_used {
                free.push(*id);
            }
            is_used
        });
    }
}

/// Definitions that give these series the numbers from one on.
#[must_use]
pub fn definitions(keys: &[Arc<SeriesKey>]) -> Vec<v1::SeriesDef> {
    (1..).zip(keys).map(|(id, key)| v1::SeriesDef { id, key: Some((&**key).into()) }).collect()
}

/// A summary for the wire whose series have the numbers that [`definitions`] gives to its keys.
#[must_use]
pub fn summary_by_place(summary: &Summary) -> v1::Summary {
    in_lists(summary, |place, _| place.saturating_add(1))
}

fn in_lists(summary: &Summary, mut id: impl FnMut(u32, &Arc<SeriesKey>) -> u32) -> v1::Summary {
    let mut wire = v1::Summary {
        at: Some(summary.at.into()),
        window_ms: summary.window_ms,
        samples: summary.samples,
        ..v1::Summary::default()
    };
    for (place, (key, point)) in (0..).zip(&summary.points) {
        let id = id(place, key);
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

/// The largest number that a series may have: numbers are given from one on, and to others when they are free again.
const SERIES_ID_MAX: u32 = 40_000;
const _: () = assert!(SERIES_ID_MAX as usize == 2 * SERIES_MAX);

/// The series that a reader has been told of, by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    keys: Vec<Option<Arc<SeriesKey>>>,
    known: usize,
}

impl Definitions {
    /// How many series have a number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// The series of a number.
    #[must_use]
    pub fn key(&self, id: u32) -> Option<&Arc<SeriesKey>> {
        self.keys.get(id as usize)?.as_ref()
    }

    /// Takes a definition that was received. The same number for another series replaces it. `keep` makes of the key what
    /// is kept: a reader of many sessions keeps each key once.
    ///
    /// # Errors
    /// If it has no usable key, or its number is too large.
    pub fn define(
        &mut self,
        def: v1::SeriesDef,
        keep: impl FnOnce(SeriesKey) -> Arc<SeriesKey>,
    ) -> Result<(), ConvertError> {
        if def.id > SERIES_ID_MAX {
            return Err(ConvertError::invalid("id", "larger than any number of a series"));
        }
        let key = keep(required("key", def.key)?);
        let at = def.id as usize;
        if at >= self.keys.len() {
            self.keys.reserve_exact((at + 1 - self.keys.len()).max(self.keys.len() / 8));
            self.keys.resize(at + 1, None);
        }
        self.known += usize::from(self.keys[at].replace(key).is_none());
        Ok(())
    }
}

/// How summaries are written on a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Each value as it is: what every version reads.
    #[default]
    Lists,
    /// What changed since the summary before, in columns: what a collector with the capability `columns` reads.
    Columns,
    /// The same, and what is a number of pages in pages: what a collector with the capability `units` reads too.
    Units,
    /// The same numbers at the price that was to be expected: what a collector with the capability `coded` reads too.
    Coded,
}

impl Form {
    /// The best one that a collector with these capabilities reads.
    #[must_use]
    pub fn of(capabilities: &[String]) -> Self {
        let says = |word: &str| capabilities.iter().any(|one| one == word);
        match (says("columns"), says("units"), says("coded")) {
            (false, ..) => Self::Lists,
            (true, _, true) => Self::Coded,
            (true, false, false) => Self::Columns,
            (true, true, false) => Self::Units,
        }
    }
}

/// Writes the summaries of one session.
#[derive(Debug, Clone, Default)]
pub struct SummaryWriter {
    form: Form,
    dictionary: Dictionary,
    columns: Columns,
}

impl SummaryWriter {
    /// Begins a session whose reader takes this form.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, ..Self::default() }
    }

    /// Begins a message, whose definitions are read before its summaries: numbers of series that came and went may be given to
    /// others now, and not within a message. A reader of lists is of a version that lets a session end instead.
    pub fn begin_message(&mut self) {
        if self.form != Form::Lists {
            self.dictionary.take_back(self.columns.entries());
        }
    }

    /// The next summary for the wire. Definitions that the reader needs first are added to `define`.
    pub fn write(&mut self, summary: &Summary, define: &mut Vec<v1::SeriesDef>) -> v1::Summary {
        match self.form {
            Form::Lists => self.dictionary.summary(summary, define),
            form => v1::Summary {
                columns: self.columns.write(summary, form, &mut self.dictionary, define),
                ..v1::Summary::default()
            },
        }
    }

    /// A push in as few bytes as it takes, if it is nothing but a coded summary that follows the item which was sent last in
    /// this session; else the push as it was.
    ///
    /// # Errors
    /// With the push that it is not.
    pub fn brief(&self, mut push: v1::Push, last_seq: Option<u64>) -> Result<v1::Push, v1::Push> {
        let follows = |seq: u64| last_seq.is_some_and(|last| last.checked_add(1) == Some(seq));
        match &mut push.items[..] {
            [v1::Item { seq, of: Some(v1::item::Of::Summary(summary)) }]
                if self.form == Form::Coded && push.define.is_empty() && follows(*seq) =>
            {
                Ok(v1::Push { next: std::mem::take(&mut summary.columns), ..v1::Push::default() })
            }
            _ => Err(push),
        }
    }
}

/// Reads the summaries of one session, in whichever form each of them is.
#[derive(Debug, Clone, Default)]
pub struct SummaryReader {
    /// The series that were defined so far.
    pub definitions: Definitions,
    columns: Columns,
}

impl SummaryReader {
    /// Reads the next summary. Each that was sent has to be read, in order; after an error the session has to end.
    ///
    /// # Errors
    /// If a series is not known, or the bytes are not what a writer makes.
    pub fn read(&mut self, summary: v1::Summary) -> Result<Summary, ConvertError> {
        if summary.columns.is_empty() {
            summary_from_wire(summary, &self.definitions)
        } else {
            self.columns.read(&summary.columns, &self.definitions)
        }
    }
}

/// Reads a summary in lists, whose series are defined.
///
/// # Errors
/// If a series is not known, or the lists do not run parallel.
pub fn summary_from_wire(summary: v1::Summary, definitions: &Definitions) -> Result<Summary, ConvertError> {
    parallel("counters", summary.counter_ids.len(), summary.counters.len())?;
    parallel("gauges", summary.gauge_ids.len() * GAUGE_VALUES, summary.gauges.len())?;
    let known = |field, id: &u32| {
        let unknown = || ConvertError::new(field, Problem::Unknown(id.to_string()));
        definitions.key(*id).cloned().ok_or_else(unknown)
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
