//! The text of `/metrics`: series, family by family, in both forms that Prometheus reads.
//!
//! In: families with their help and kind, and the values of their series. Out: text in which every
//! family stands once, with all its series together, as both formats demand. A family belongs to
//! whoever named it first; it never changes its kind.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;

use crate::readings::{Reading, SeriesKind};
use crate::sample::BackgroundReading;
use crate::series::SeriesKey;

/// The two forms that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    /// The form that the `Accept` header of a request asks for: OpenMetrics if it is named there
    /// and not refused (`q=0`), else the older one, which everything reads.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let wanted = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
                && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
        });
        if wanted { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// What to call it in `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the series of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FamilyKind {
    /// It only rises.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Nobody says.
    Unknown,
    /// Buckets, sum and count.
    Histogram,
    /// Quantiles, sum and count.
    Summary,
}

impl From<SeriesKind> for FamilyKind {
    fn from(kind: SeriesKind) -> Self {
        match kind {
            SeriesKind::Counter => Self::Counter,
            SeriesKind::Gauge => Self::Gauge,
        }
    }
}

/// Collects series and writes them out family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
    /// What is added is also taken down here, where somebody wants it.
    readings: Option<Vec<BackgroundReading>>,
}

#[derive(Debug)]
struct Family {
    kind: FamilyKind,
    help: String,
    lines: String,
}

/// Where the series of one family go.
#[derive(Debug)]
pub struct Series<'e> {
    name: &'e str,
    kind: FamilyKind,
    lines: &'e mut String,
    readings: Option<&'e mut Vec<BackgroundReading>>,
}

impl Series<'_> {
    /// Adds the series with these labels.
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        self.add_part("", labels, value);
    }

    /// Adds a part of a histogram or summary: `_bucket`, `_sum`, `_count`.
    pub fn add_part(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        if let Some(readings) = self.readings.as_deref_mut().filter(|_| suffix.is_empty()) {
            let kind = if self.kind == FamilyKind::Gauge { SeriesKind::Gauge } else { SeriesKind::Counter };
            readings.push(BackgroundReading { key: SeriesKey::new(self.name, labels), kind, value });
        }
        let lines = &mut *self.lines;
        lines.push_str(self.name);
        lines.push_str(suffix);
        for (at, (label, text)) in labels.iter().enumerate() {
            lines.push(if at == 0 { '{' } else { ',' });
            lines.push_str(label);
            lines.push_str("=\"");
            push_escaped(lines, text);
            lines.push('"');
        }
        lines.push_str(if labels.is_empty() { " " } else { "} " });
        push_value(lines, value);
        lines.push('\n');
    }
}

impl Exposition {
    /// The series of a family, to add to. Help and kind are those of the first call for the name.
    pub fn family<'e>(&'e mut self, name: &'e str, kind: FamilyKind, help: &str) -> Series<'e> {
        if !self.families.contains_key(name) {
            let family = Family { kind, help: help.to_owned(), lines: String::new() };
            self.families.insert(name.to_owned(), family);
        }
        // Just made, if it was not there.
        let family = self.families.get_mut(name).unwrap_or_else(|| unreachable!("the family is there"));
        Series { name, kind: family.kind, lines: &mut family.lines, readings: self.readings.as_mut() }
    }

    /// One whose series are wanted as readings: of what nobody says how it behaves as of counters, as the kernel's mostly are.
    #[must_use]
    pub fn taken_down() -> Self {
        Self { readings: Some(Vec::new()), ..Self::default() }
    }

    /// What was taken down, in the order in which it was added, without what is of histograms and summaries.
    #[must_use]
    pub fn into_readings(self) -> Vec<BackgroundReading> {
        self.readings.unwrap_or_default()
    }

    /// Adds a counter that has no labels.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, FamilyKind::Counter, help).add(&[], value);
    }

    /// Adds a gauge that has no labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, FamilyKind::Gauge, help).add(&[], value);
    }

    /// Adds a reading of a sample.
    pub fn reading(&mut self, reading: Reading<'_>) {
        self.family(reading.name, reading.kind.into(), "").add(reading.labels, reading.value);
    }

    /// Whether a family of this name is there.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.families.contains_key(name)
    }

    /// Takes everything that `other` holds. The series of a family that is here already are added
    /// to it if it is of the same kind, else left out.
    pub fn absorb(&mut self, other: Self) {
        for (name, family) in other.families {
            match self.families.get_mut(&name) {
                Some(have) if have.kind == family.kind => have.lines.push_str(&family.lines),
                Some(_) => {}
                None => {
                    self.families.insert(name, family);
                }
            }
        }
    }

    /// Takes those families of `other` that are not here yet; says whether that were all of them.
    pub fn absorb_new(&mut self, other: Self) -> bool {
        let mut all = true;
        for (name, family) in other.families {
            match self.families.entry(name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(family);
                }
                Entry::Occupied(_) => all = false,
            }
        }
        all
    }

    /// The text.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let bytes = self.families.values().map(|family| family.lines.len() + family.help.len() + 96);
        let mut text = String::with_capacity(bytes.sum());
        for (name, family) in self.families.iter().filter(|(_, family)| !family.lines.is_empty()) {
            // OpenMetrics knows a counter by the suffix of its samples, which its family lacks.
            let (family_name, kind) = match (format, family.kind, name.strip_suffix("_total")) {
                (Format::OpenMetrics, FamilyKind::Counter, Some(stem)) => (stem, "counter"),
                (Format::OpenMetrics, FamilyKind::Counter, None) => (name.as_str(), "unknown"),
                (Format::OpenMetrics, FamilyKind::Unknown, _) => (name.as_str(), "unknown"),
                (Format::Prometheus, FamilyKind::Unknown, _) => (name.as_str(), "untyped"),
                (Format::Prometheus, FamilyKind::Counter, _) => (name.as_str(), "counter"),
                (_, FamilyKind::Gauge, _) => (name.as_str(), "gauge"),
                (_, FamilyKind::Histogram, _) => (name.as_str(), "histogram"),
                (_, FamilyKind::Summary, _) => (name.as_str(), "summary"),
            };
            if !family.help.is_empty() {
                let _ = write!(text, "# HELP {family_name} ");
                push_help(&mut text, &family.help, format);
                text.push('\n');
            }
            let _ = writeln!(text, "# TYPE {family_name} {kind}");
            text.push_str(&family.lines);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn push_value(to: &mut String, value: f64) {
    if value.is_infinite() {
        to.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let _ = write!(to, "{value}");
    }
}

fn push_escaped(to: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '"' => to.push_str("\\\""),
            '\n' => to.push_str("\\n"),
            c => to.push(c),
        }
    }
}

/// Quotes stand as they are in the help of the older format, and escaped in OpenMetrics.
fn push_help(to: &mut String, help: &str, format: Format) {
    for c in help.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if format == Format::OpenMetrics => to.push_str("\\\""),
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_families_together_in_both_formats() {
        let mut text = Exposition::default();
        text.family("actions_total", FamilyKind::Counter, "What was \"done\".").add(&[("action", "unit.start")], 1.0);
        text.gauge("units", "", 12.0);
        text.family("actions_total", FamilyKind::Counter, "").add(&[("action", "a\"b\\\n")], 2.0);
        text.family("odd", FamilyKind::Unknown, "").add(&[], f64::INFINITY);
        assert_eq!(
            text.render(Format::OpenMetrics),
            "# HELP actions What was \\\"done\\\".\n# TYPE actions counter\n\
             actions_total{action=\"unit.start\"} 1\nactions_total{action=\"a\\\"b\\\\\\n\"} 2\n\
             # TYPE odd unknown\nodd +Inf\n# TYPE units gauge\nunits 12\n# EOF\n"
        );
        assert_eq!(
            text.render(Format::Prometheus),
            "# HELP actions_total What was \"done\".\n# TYPE actions_total counter\n\
             actions_total{action=\"unit.start\"} 1\nactions_total{action=\"a\\\"b\\\\\\n\"} 2\n\
             # TYPE odd untyped\nodd +Inf\n# TYPE units gauge\nunits 12\n"
        );
    }

    #[test]
    fn a_family_without_series_is_not_named() {
        let mut text = Exposition::default();
        let _ = text.family("empty", FamilyKind::Gauge, "Nothing.");
        assert_eq!(text.render(Format::Prometheus), "");
    }

    #[test]
    fn what_is_absorbed_stands_in_one_family_and_never_under_another_kind() {
        let part = |name: &str, kind, label: &str| {
            let mut part = Exposition::default();
            part.family(name, kind, "").add(&[("l", label)], 1.0);
            part
        };
        let mut text = part("a", FamilyKind::Gauge, "1");
        text.absorb(part("a", FamilyKind::Gauge, "2"));
        text.absorb(part("a", FamilyKind::Counter, "3"));
        assert_eq!(text.render(Format::Prometheus), "# TYPE a gauge\na{l=\"1\"} 1\na{l=\"2\"} 1\n");
        assert!(!text.absorb_new(part("a", FamilyKind::Gauge, "4")));
        assert!(text.absorb_new(part("b", FamilyKind::Gauge, "5")));
        assert!(!text.render(Format::Prometheus).contains("\"4\""));
    }

    #[test]
    fn openmetrics_is_spoken_to_whoever_asks_for_it() {
        for (accept, want) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::Prometheus),
            ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5", Format::OpenMetrics),
            ("text/plain, application/OpenMetrics-Text", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), want, "{accept}");
        }
    }
}
