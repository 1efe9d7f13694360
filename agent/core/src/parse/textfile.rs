//! Files that others write for node_exporter's textfile collector: series in Prometheus' text form.
//!
//! In: the bytes of a `.prom` file, which anybody may have written. Out: its families, or the first
//! mistake. A file with a mistake is refused as a whole, as node_exporter does: half of it would
//! look like all of it.

use std::collections::BTreeMap;

use super::{At, ParseError, lines};
use crate::exposition::FamilyKind;

/// Most series taken of one file.
pub const SERIES_MAX: usize = 10_000;

/// A family as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TextFamily {
    /// Its name.
    pub name: String,
    /// Its kind; [`FamilyKind::Unknown`] where the file does not say.
    pub kind: FamilyKind,
    /// Its help; empty where the file has none.
    pub help: String,
    /// Its series.
    pub series: Vec<TextSeries>,
}

/// One series of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSeries {
    /// What its name has more than that of the family (`_bucket`, `_sum`, `_count`).
    pub suffix: &'static str,
    /// Its labels, in the order of the file.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

/// Parses a file.
///
/// # Errors
/// Where a name, label or value is not what the form allows, a series stands there twice, or one
/// has a time of its own.
pub fn parse(bytes: &[u8]) -> Result<Vec<TextFamily>, ParseError> {
    let mut families: BTreeMap<String, TextFamily> = BTreeMap::new();
    let mut count = 0;
    for (line, text) in lines(bytes) {
        let at = At { file: "textfile", line };
        let text = std::str::from_utf8(text).map_err(|_| at.wrong("line", text))?.trim();
        if let Some(comment) = text.strip_prefix('#') {
            describe(at, comment.trim_start(), &mut families)?;
        } else if !text.is_empty() {
            count += 1;
            if count > SERIES_MAX {
                return Err(at.wrong("series beyond the bound", text.as_bytes()));
            }
            add(at, text, &mut families)?;
        }
    }
    let families: Vec<_> = families.into_values().filter(|family| !family.series.is_empty()).collect();
    for family in &families {
        let mut seen: Vec<_> = family.series.iter().map(|series| (series.suffix, sorted(&series.labels))).collect();
        seen.sort();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(At { file: "textfile", line: 1 }.wrong("series twice", family.name.as_bytes()));
        }
    }
    Ok(families)
}

fn sorted(labels: &[(String, String)]) -> Vec<&(String, String)> {
    let mut sorted: Vec<_> = labels.iter().collect();
    sorted.sort();
    sorted
}

fn family<'f>(families: &'f mut BTreeMap<String, TextFamily>, name: &str) -> &'f mut TextFamily {
    families.entry(name.to_owned()).or_insert_with(|| TextFamily {
        name: name.to_owned(),
        kind: FamilyKind::Unknown,
        help: String::new(),
        series: Vec::new(),
    })
}

/// Takes `HELP name text` and `TYPE name kind`; any other comment is one.
fn describe(at: At, comment: &str, families: &mut BTreeMap<String, TextFamily>) -> Result<(), ParseError> {
    let Some((keyword, rest)) = comment.split_once([' ', '\t']) else { return Ok(()) };
    let rest = rest.trim_start();
    let (name, rest) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    match keyword {
        "HELP" if is_name(name) => family(families, name).help = unescape(rest.trim_start()),
        "TYPE" if is_name(name) => {
            family(families, name).kind = match rest.trim() {
                "counter" => FamilyKind::Counter,
                "gauge" => FamilyKind::Gauge,
                "histogram" => FamilyKind::Histogram,
                "summary" => FamilyKind::Summary,
                "untyped" => FamilyKind::Unknown,
                other => return Err(at.wrong("type", other.as_bytes())),
            }
        }
        "HELP" | "TYPE" => return Err(at.wrong("name", name.as_bytes())),
        _ => {}
    }
    Ok(())
}

fn add(at: At, text: &str, families: &mut BTreeMap<String, TextFamily>) -> Result<(), ParseError> {
    let name_end = text.find(|c: char| c == '{' || c.is_whitespace()).ok_or_else(|| at.missing("value"))?;
    let (name, rest) = text.split_at(name_end);
    if !is_name(name) {
        return Err(at.wrong("name", name.as_bytes()));
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inside) => labels(at, inside)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = value(at, words.next())?;
    if let Some(timestamp) = words.next() {
        // It would stay in the file and be served as new for ever.
        return Err(at.wrong("end of line", timestamp.as_bytes()));
    }
    let (name, suffix) = owner(name, families);
    family(families, name).series.push(TextSeries { suffix, labels, value });
    Ok(())
}

/// The family that a series belongs to, and what its name has more than that.
fn owner<'n>(name: &'n str, families: &BTreeMap<String, TextFamily>) -> (&'n str, &'static str) {
    for suffix in ["_bucket", "_sum", "_count"] {
        let Some(stem) = name.strip_suffix(suffix) else { continue };
        let kind = families.get(stem).map(|family| family.kind);
        if kind == Some(FamilyKind::Histogram) || (kind == Some(FamilyKind::Summary) && suffix != "_bucket") {
            return (stem, suffix);
        }
    }
    (name, "")
}

/// Labels, and what follows their closing brace.
type Labelled<'t> = (Vec<(String, String)>, &'t str);

fn labels(at: At, inside: &str) -> Result<Labelled<'_>, ParseError> {
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut rest = inside.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or_else(|| at.missing("label value"))?;
        let name = name.trim();
        if !is_label(name) || labels.iter().any(|(have, _)| have == name) {
            return Err(at.wrong("label", name.as_bytes()));
        }
        let quoted = after.trim_start().strip_prefix('"').ok_or_else(|| at.missing("quote"))?;
        let end = end_of_quote(quoted).ok_or_else(|| at.missing("quote"))?;
        labels.push((name.to_owned(), unescape(&quoted[..end])));
        rest = quoted[end + 1..].trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
}

fn end_of_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

fn value(at: At, word: Option<&str>) -> Result<f64, ParseError> {
    // Rust reads `inf`, `+Inf` and `NaN`, and nothing that Prometheus does not.
    at.number("value", word.map(str::as_bytes))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

fn is_name(name: &str) -> bool {
    is_word(name, |c| c == ':' || c == '_')
}

fn is_label(name: &str) -> bool {
    is_word(name, |c| c == '_')
}

fn is_word(word: &str, also: impl Fn(char) -> bool) -> bool {
    let fits = |(at, c): (usize, char)| c.is_ascii_alphabetic() || also(c) || (at > 0 && c.is_ascii_digit());
    !word.is_empty() && word.char_indices().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_families_of_every_kind() {
        let families = parse(include_bytes!("fixtures/textfile.prom")).unwrap();
        let named = |name: &str| families.iter().find(|family| family.name == name).unwrap();
        let upgrades = named("apt_upgrades_pending");
        assert_eq!((upgrades.kind, upgrades.help.as_str()), (FamilyKind::Gauge, "Packages \"to\" upgrade."));
        assert_eq!(upgrades.series[1].labels[0], ("origin".to_owned(), "a \"b\" \\ c\nd".to_owned()));
        let seconds = named("backup_seconds");
        assert_eq!(seconds.kind, FamilyKind::Histogram);
        assert_eq!(
            seconds.series.iter().map(|s| s.suffix).collect::<Vec<_>>(),
            ["_bucket", "_bucket", "_sum", "_count"]
        );
        assert_eq!(named("bare").kind, FamilyKind::Unknown);
        assert!(named("bare").series[0].value.is_infinite());
    }

    #[test]
    fn refuses_a_file_with_a_mistake_and_names_its_line() {
        for (text, field) in [
            ("ok 1\n2bad 1\n", "name"),
            ("a{b=\"c} 1\n", "quote"),
            ("a{b=\"1\",b=\"2\"} 1\n", "label"),
            ("a one\n", "value"),
            ("a 1 1395066363000\n", "end of line"),
            ("# TYPE a sometimes\n", "type"),
            ("a{x=\"1\"} 1\na{x=\"1\"} 2\n", "series twice"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().field, field, "{text}");
        }
        assert_eq!(parse(b"ok 1\n2bad 1\n").unwrap_err().line, 2);
        let many: String = (0..=SERIES_MAX).map(|n| format!("m{{n=\"{n}\"}} 1\n")).collect();
        assert_eq!(parse(many.as_bytes()).unwrap_err().field, "series beyond the bound");
    }
}
