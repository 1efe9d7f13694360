//! From a request to rows: series checked, and their samples put together by whose they are and by their times.
//!
//! In: a decoded request. Out: for each source the points of each moment, and what was dropped with the reason. A scrape
//! has one moment for all of its series, so it comes out as one row again, however a sender has split it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey};
use mainstay_promql::NAME;

use super::message::{Label, TimeSeries, WriteRequest};
use crate::ingest::summary::{AHEAD_MS_MAX, KEY_BYTES_MAX};
use crate::store::intern::Interner;

/// Most labels of a series.
const LABELS_MAX: usize = 64;
/// Most bytes of a name or value that are shown.
const SHOWN_BYTES_MAX: usize = 120;

/// Why something is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Labels that are none, or longer than they may be.
    Labels,
    /// Older than series are kept, or too far ahead of the clock.
    Time,
    /// A native histogram.
    Histogram,
    /// More series than a source may have, or more sources than are kept.
    Series,
    /// More moments than a source may have in ten minutes.
    Moments,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Labels, Self::Time, Self::Histogram, Self::Series, Self::Moments];

    /// As it is written in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Time => "time",
            Self::Histogram => "histogram",
            Self::Series => "series",
            Self::Moments => "moments",
        }
    }
}

/// What was not stored of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Samples, by reason.
    pub samples: [u64; Reason::ALL.len()],
    /// The first of it, in words.
    pub first: Option<String>,
}

impl Dropped {
    /// Counts samples, and remembers why if they are the first.
    pub fn add(&mut self, reason: Reason, samples: usize, why: impl FnOnce() -> String) {
        if samples > 0 {
            self.samples[reason as usize] += samples as u64;
            self.first.get_or_insert_with(why);
        }
    }

    /// Takes what another counted.
    pub fn append(&mut self, other: Self) {
        self.samples.iter_mut().zip(other.samples).for_each(|(own, more)| *own += more);
        if self.first.is_none() {
            self.first = other.first;
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.samples.iter().sum()
    }
}

/// The labels by which a source is known: `job` and `instance`, or `job` and `host` of series without an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceKey {
    /// In the order of their names.
    pub labels: Vec<(String, String)>,
}

impl SourceKey {
    /// Whether a label of its series is in here, or is not there at all.
    #[must_use]
    pub fn decides(&self, label: &str) -> bool {
        matches!(label, "job" | "instance") || (label == "host" && !self.has("instance"))
    }

    fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|(name, _)| name == label)
    }
}

impl std::fmt::Display for SourceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", labels.join(","))
    }
}

/// Points of one moment.
pub type Points = Vec<(Arc<SeriesKey>, Point)>;

/// A request, put together.
#[derive(Debug, Default)]
pub struct Gathered {
    /// By source and moment.
    pub sources: BTreeMap<SourceKey, BTreeMap<i64, Points>>,
    /// What is not in it.
    pub dropped: Dropped,
}

/// Puts a request together. Samples from before `oldest_ms` are dropped, and those from too far ahead of `now_ms`.
#[must_use]
pub fn gather(request: WriteRequest, keys: &Interner, oldest_ms: i64, now_ms: i64) -> Gathered {
    let mut gathered = Gathered::default();
    for series in request.timeseries {
        let TimeSeries { labels, samples, histograms } = series;
        let Gathered { sources, dropped } = &mut gathered;
        let (source, key) = match named(labels) {
            Ok(named) => named,
            Err(why) => {
                dropped.add(Reason::Labels, samples.len() + histograms.len(), || why);
                continue;
            }
        };
        dropped.add(Reason::Histogram, histograms.len(), || format!("{key} is a native histogram"));
        if samples.is_empty() {
            continue;
        }
        let key = keys.one(key);
        let is_counter = is_counter(&key.name);
        let moments = sources.entry(source).or_default();
        for sample in samples {
            let at_ms = sample.timestamp;
            if !(oldest_ms..=now_ms.saturating_add(AHEAD_MS_MAX)).contains(&at_ms) {
                dropped.add(Reason::Time, 1, || {
                    format!("{key} at {at_ms} ms is older than series are kept, or more than an hour ahead")
                });
                continue;
            }
            let value = sample.value;
            let point = match is_counter {
                true => Point::Counter(value),
                false => Point::Gauge { last: value, min: value, max: value, mean: value },
            };
            moments.entry(at_ms).or_default().push((key.clone(), point));
        }
    }
    for moments in gathered.sources.values_mut() {
        for points in moments.values_mut() {
            // Stable, so that of a series named twice the later sample stays behind the earlier.
            points.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
    }
    gathered.sources.retain(|_, moments| !moments.is_empty());
    gathered
}

/// Names say what a series is: metadata comes at another time, if at all.
fn is_counter(name: &str) -> bool {
    ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end))
}

/// Whose a series is, and what it is called there; or what is wrong with its labels.
fn named(labels: Vec<Label>) -> Result<(SourceKey, SeriesKey), String> {
    let show = || {
        let all: Vec<String> = labels.iter().map(|l| format!("{}={:?}", l.name, l.value)).collect();
        shown(&format!("{{{}}}", all.join(",")))
    };
    if labels.len() > LABELS_MAX {
        return Err(format!("{} has {} labels (at most {LABELS_MAX})", show(), labels.len()));
    }
    let bytes: usize = labels.iter().map(|label| label.name.len() + label.value.len()).sum();
    if bytes > KEY_BYTES_MAX {
        return Err(format!("{} has labels of {bytes} bytes (at most {KEY_BYTES_MAX})", show()));
    }
    if labels.iter().any(|label| label.name.is_empty()) {
        return Err(format!("{} has a label without a name", show()));
    }
    let mut names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
        return Err(format!("{} has the label {} twice", show(), twice[0]));
    }
    if labels.iter().all(|label| label.name != NAME || label.value.is_empty()) {
        return Err(format!("{} has no {NAME}", show()));
    }
    let has_instance = labels.iter().any(|label| label.name == "instance" && !label.value.is_empty());
    let (mut source, mut key) = (SourceKey::default(), SeriesKey { name: String::new(), labels: Vec::new() });
    for Label { name, value } in labels {
        match name.as_str() {
            NAME => key.name = value,
            // A label that is empty is a label that is not there.
            _ if value.is_empty() => {}
            "job" | "instance" => source.labels.push((name, value)),
            "host" if !has_instance => source.labels.push((name, value)),
            _ => key.labels.push((name, value)),
        }
    }
    source.labels.sort();
    key.labels.sort();
    Ok((source, key))
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Passed, Sample};
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
        TimeSeries {
            labels: labels.iter().map(|(n, v)| Label { name: (*n).to_owned(), value: (*v).to_owned() }).collect(),
            samples: samples.iter().map(|(at, value)| Sample { value: *value, timestamp: *at }).collect(),
            histograms: Vec::new(),
        }
    }

    fn of(timeseries: Vec<TimeSeries>) -> Gathered {
        gather(WriteRequest { timeseries }, &Interner::default(), NOW - 1_000_000, NOW)
    }

    #[test]
    fn a_scrape_is_one_row_of_its_target_and_labels_are_the_rest() {
        let gathered = of(vec![
            series(&[("__name__", "up"), ("instance", "a:1"), ("job", "node")], &[(NOW, 1.0)]),
            series(
                &[("job", "node"), ("instance", "a:1"), ("__name__", "x_total"), ("z", "1"), ("host", "h")],
                &[(NOW, 7.0)],
            ),
            series(&[("__name__", "cpu"), ("host", "h"), ("empty", "")], &[(NOW - 1, 2.0), (NOW, 3.0)]),
        ]);
        assert_eq!(gathered.dropped, Dropped::default());
        let sources: Vec<String> = gathered.sources.keys().map(ToString::to_string).collect();
        assert_eq!(sources, [r#"{host="h"}"#, r#"{instance="a:1",job="node"}"#]);
        let target = gathered.sources.values().nth(1).unwrap();
        let row: Vec<String> = target[&NOW].iter().map(|(key, point)| format!("{key} {point:?}")).collect();
        assert_eq!(row[1], r#"x_total{host="h",z="1"} Counter(7.0)"#);
        assert!(row[0].starts_with("up Gauge"), "{row:?}");
        assert_eq!(gathered.sources.values().next().unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_stored_is_counted_with_its_reason_and_the_rest_is_kept() {
        let long = "v".repeat(KEY_BYTES_MAX);
        let many: Vec<String> = (0..=LABELS_MAX).map(|n| format!("l{n}")).collect();
        let mut many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "v")).collect();
        many.push(("__name__", "x"));
        let mut histogram = series(&[("__name__", "h")], &[]);
        histogram.histograms = vec![Passed {}; 3];
        for (bad, reason, samples, says) in [
            (series(&[("a", "b")], &[(NOW, 1.0)]), Reason::Labels, 1, "no __name__"),
            (series(&[("__name__", ""), ("a", "b")], &[(NOW, 1.0)]), Reason::Labels, 1, "no __name__"),
            (series(&[("__name__", "x"), ("a", "b"), ("a", "c")], &[(NOW, 1.0)]), Reason::Labels, 1, "label a twice"),
            (series(&[("__name__", "x"), ("", "c")], &[(NOW, 1.0)]), Reason::Labels, 1, "without a name"),
            (series(&[("__name__", "x"), ("a", &long)], &[(NOW, 1.0); 2]), Reason::Labels, 2, "at most 4096"),
            (series(&many, &[(NOW, 1.0)]), Reason::Labels, 1, "66 labels"),
            (series(&[("__name__", "x")], &[(NOW - 1_000_001, 1.0)]), Reason::Time, 1, "older"),
            (series(&[("__name__", "x")], &[(NOW + 3_600_001, 1.0)]), Reason::Time, 1, "ahead"),
            (histogram, Reason::Histogram, 3, "native histogram"),
        ] {
            let gathered = of(vec![bad, series(&[("__name__", "good")], &[(NOW, 1.0)])]);
            assert_eq!(gathered.dropped.samples[reason as usize], samples, "{says}");
            assert_eq!(gathered.dropped.total(), samples, "{says}");
            let first = gathered.dropped.first.unwrap();
            assert!(first.contains(says) && first.len() < 400, "{first}");
            assert_eq!(gathered.sources[&SourceKey::default()][&NOW].len(), 1, "{says}");
        }
    }
}
