//! Compares what two exporters show of one host at the same moment.
//!
//! In: the text of the peer, and the text of ours taken before and after it. Out: for every family of
//! the peer what can be said against ours. A counter of the peer must lie between our two readings;
//! so must a gauge, with some room, since it goes up and down in between. One round may be unlucky,
//! so a comparison takes several: what is wrong stays wrong, what just changed is right in another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Families that describe the exporter and not the host, and why ours has none or another value.
/// docs/metrics.md says the same.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("go_", "the runtime of the language that the peer is written in"),
    ("promhttp_", "the peer's own web server"),
    ("node_exporter_build_info", "the version of the peer"),
    ("node_systemd_", "units are shown as mainstay_unit_*, followed and not asked for at every scrape"),
    ("node_bcache_", "nobody has asked for it yet"),
];

/// Families that ours has under the same name and kind, while the value is that of another process.
const OTHER_PROCESS: &[&str] = &["process_", "node_scrape_collector_duration_seconds"];

/// Series of the peer whose value is not taken over, because the peer's is wrong.
const WRONG_IN_PEER: &[(&str, &str)] = &[
    // It counts operations 35 to 37 of NFSv4 under the names of 37 to 39.
    ("node_nfsd_requests_total", "method=\"RelLockOwner\""),
    ("node_nfsd_requests_total", "method=\"Verify\""),
    ("node_nfsd_requests_total", "method=\"Write\",proto=\"4\""),
];

/// Series of the peer that ours need not have.
const SERIES_LEFT_OUT: &[(&str, &str)] = &[
    ("node_scrape_collector_success", "collector=\"bcache\""),
    ("node_scrape_collector_success", "collector=\"systemd\""),
];

/// Room for a gauge that moved while three scrapes were taken: a hundredth, or so many pieces of what is counted. What is 0 or 1
/// may be a flag, and has none; what is not whole is no count.
const GAUGE_ROOM: f64 = 0.01;
const GAUGE_ROOM_PIECES: f64 = 3.0;

fn room(peer: f64, ours: (f64, f64)) -> f64 {
    let all = [peer, ours.0, ours.1];
    let is_count = all.iter().all(|value| value.fract() == 0.0) && all.iter().any(|value| *value > 1.0);
    (peer.abs() * GAUGE_ROOM).max(if is_count { GAUGE_ROOM_PIECES } else { 0.0 })
}

/// A page of an exporter, in the text form 0.0.4.
#[derive(Debug, Default)]
pub struct Page {
    /// By family: its kind, and its series by labels.
    pub families: BTreeMap<String, Family>,
}

/// One family of a page.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge`, `untyped`, …
    pub kind: String,
    /// Whether it has a help text.
    pub helped: bool,
    /// Value by name and labels, the labels sorted.
    pub series: BTreeMap<String, f64>,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// Where a line is none that the form knows.
    pub fn parse(text: &str) -> Result<Self> {
        let mut page = Self::default();
        let mut current = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(|| format!("no kind in {line:?}"))?;
                name.clone_into(&mut current);
                kind.clone_into(&mut page.families.entry(current.clone()).or_default().kind);
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let name = rest.split(' ').next().unwrap_or_default();
                page.families.entry(name.to_owned()).or_default().helped = true;
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value in {line:?}"))?;
                if !series.starts_with(&current) {
                    bail!("{line:?} stands below {current}");
                }
                let value = value.parse().with_context(|| format!("no number in {line:?}"))?;
                let family = page.families.entry(current.clone()).or_default();
                if family.series.insert(sorted(series)?, value).is_some() {
                    bail!("{series} stands there twice");
                }
            }
        }
        Ok(page)
    }
}

/// A series with its labels in the order of their names, those without text left out.
fn sorted(series: &str) -> Result<String> {
    let Some((name, rest)) = series.split_once('{') else { return Ok(series.to_owned()) };
    let mut labels = BTreeSet::new();
    let mut rest = rest;
    while !rest.starts_with('}') {
        let quote = rest.find("=\"").with_context(|| format!("no label in {series:?}"))?;
        let mut escaped = false;
        let end = rest[quote + 2..].find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = quote + 2 + end.with_context(|| format!("a label of {series:?} does not end"))?;
        if end > quote + 2 {
            labels.insert(&rest[..=end]);
        }
        rest = rest[end + 1..].trim_start_matches(',');
    }
    Ok(format!("{name}{{{}}}", labels.into_iter().collect::<Vec<_>>().join(",")))
}

/// What is to be said against a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing.
    Same,
    /// It is left out on purpose; why.
    LeftOut(&'static str),
    /// There is none.
    Missing,
    /// It is of another kind.
    OtherKind(String, String),
    /// These series of the peer are not there.
    SeriesMissing(Vec<String>),
    /// This series had another value in every round.
    Contradiction(String),
}

/// What several rounds have shown.
#[derive(Debug, Default)]
pub struct Parity {
    verdicts: BTreeMap<String, Verdict>,
    /// Series of the peer whose value was right in no round yet.
    unproven: BTreeMap<String, (String, String)>,
    proven: BTreeSet<String>,
    rounds: usize,
    /// Whether what both read stays as it is.
    is_still: bool,
}

impl Parity {
    /// Of files that nobody writes: no value may differ.
    #[must_use]
    pub fn of_still_files() -> Self {
        Self { is_still: true, ..Self::default() }
    }

    /// Takes one round: ours, the peer's, and ours again.
    pub fn round(&mut self, before: &Page, peer: &Page, after: &Page) {
        self.rounds += 1;
        for (name, family) in &peer.families {
            let verdict = self.family(name, family, before.families.get(name), after.families.get(name));
            let entry = self.verdicts.entry(name.clone()).or_insert(Verdict::Same);
            // Series that come and go may be missing in one round and there in the next.
            *entry = if self.rounds == 1 { verdict } else { verdict.min(entry.clone()) };
        }
    }

    /// Whether another round could change anything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unproven.is_empty() && self.verdicts.values().all(|verdict| !matches!(verdict, Verdict::SeriesMissing(_)))
    }

    fn family(&mut self, name: &str, peer: &Family, before: Option<&Family>, after: Option<&Family>) -> Verdict {
        if let Some((_, why)) = LEFT_OUT.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            return Verdict::LeftOut(why);
        }
        let (Some(before), Some(after)) = (before, after) else { return Verdict::Missing };
        if before.kind != peer.kind {
            return Verdict::OtherKind(peer.kind.clone(), before.kind.clone());
        }
        let other_process = OTHER_PROCESS.iter().any(|prefix| name.starts_with(prefix));
        let mut missing = Vec::new();
        for (series, value) in &peer.series {
            let mut excused = SERIES_LEFT_OUT.iter().chain(WRONG_IN_PEER);
            if excused.any(|(family, labels)| name == *family && series.contains(labels)) {
                continue;
            }
            match (before.series.get(series), after.series.get(series)) {
                _ if other_process && name.starts_with("node_scrape") => {}
                (Some(_), Some(_)) if other_process => {}
                (Some(before), Some(after)) => self.value(name, &peer.kind, series, *value, (*before, *after)),
                _ => missing.push(series.clone()),
            }
        }
        if missing.is_empty() { Verdict::Same } else { Verdict::SeriesMissing(missing) }
    }

    fn value(&mut self, family: &str, kind: &str, series: &str, peer: f64, ours: (f64, f64)) {
        if self.proven.contains(series) {
            return;
        }
        // Over files that nobody writes nothing moves.
        let room = if kind == "counter" || self.is_still { 0.0 } else { room(peer, ours) };
        // The peer adds up ticks in another order, so the last digits may differ.
        let room = room + peer.abs() * 1e-9;
        let same_nan = peer.is_nan() && ours.0.is_nan();
        if same_nan || (ours.0.min(ours.1) - room <= peer && peer <= ours.0.max(ours.1) + room) {
            self.proven.insert(series.to_owned());
            self.unproven.remove(series);
        } else {
            let text = format!("{series}: {peer} beside {} and {}", ours.0, ours.1);
            self.unproven.insert(series.to_owned(), (family.to_owned(), text));
        }
    }

    /// The verdict on every family of the peer.
    #[must_use]
    pub fn verdicts(&self) -> BTreeMap<&str, Verdict> {
        let mut verdicts: BTreeMap<&str, Verdict> =
            self.verdicts.iter().map(|(name, verdict)| (name.as_str(), verdict.clone())).collect();
        for (family, text) in self.unproven.values() {
            verdicts.insert(family, Verdict::Contradiction(text.clone()));
        }
        verdicts
    }

    /// Families of the peer's that ours has without fault, and all that are not left out.
    #[must_use]
    pub fn covered(&self) -> (usize, usize) {
        let verdicts = self.verdicts();
        let counted = verdicts.values().filter(|verdict| !matches!(verdict, Verdict::LeftOut(_))).count();
        (verdicts.values().filter(|verdict| **verdict == Verdict::Same).count(), counted)
    }
}

impl fmt::Display for Parity {
    /// A line for every family that has a fault, then the sums.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts = self.verdicts();
        for (name, verdict) in &verdicts {
            match verdict {
                Verdict::Same => {}
                Verdict::LeftOut(why) => writeln!(f, "left out       {name}: {why}")?,
                Verdict::Missing => writeln!(f, "missing        {name}")?,
                Verdict::OtherKind(peer, ours) => writeln!(f, "other kind     {name}: {ours} instead of {peer}")?,
                Verdict::SeriesMissing(series) => writeln!(f, "series missing {}", series.join(", "))?,
                Verdict::Contradiction(text) => writeln!(f, "contradiction  {text}")?,
            }
        }
        let (same, counted) = self.covered();
        write!(f, "{same} of {counted} families, {} left out, {} rounds", verdicts.len() - counted, self.rounds)
    }
}

/// Writes the files of a description below a folder: `@ PATH` begins a file, `@ PATH -> TARGET` is a
/// link, what follows is the content.
///
/// # Errors
/// Where a file cannot be written.
pub fn plant(description: &str, root: &Path) -> Result<()> {
    let entries = description.split("\n@ ").skip(1);
    for entry in entries {
        let (heading, content) = entry.split_once('\n').unwrap_or((entry, ""));
        let (path, target) = heading.split_once(" -> ").map_or((heading, None), |(path, to)| (path, Some(to)));
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        match target {
            Some(target) => symlink(target, &path),
            None => fs::write(&path, format!("{}\n", content.trim_end_matches('\n'))),
        }
        .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lines: &[&str]) -> Page {
        let mut text = String::new();
        for line in lines {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let (name, kind) = name.split_once(':').unwrap_or((name, "gauge"));
            text.push_str(&format!("# TYPE {name} {kind}\n{name}{rest}\n"));
        }
        Page::parse(&text).unwrap()
    }

    fn verdict(before: &[&str], peer: &[&str], after: &[&str]) -> Verdict {
        let mut parity = Parity::default();
        parity.round(&page(before), &page(peer), &page(after));
        let verdicts = parity.verdicts();
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        verdicts.into_values().next().unwrap()
    }

    #[test]
    fn a_counter_must_lie_between_our_two_readings() {
        assert_eq!(verdict(&["a:counter 5"], &["a:counter 6"], &["a:counter 7"]), Verdict::Same);
        for wrong in ["a:counter 4", "a:counter 8"] {
            let verdict = verdict(&["a:counter 5"], &[wrong], &["a:counter 7"]);
            assert!(matches!(verdict, Verdict::Contradiction(_)), "{wrong}: {verdict:?}");
        }
    }

    #[test]
    fn a_gauge_has_room_and_a_wrong_one_is_found() {
        assert_eq!(verdict(&["a 1000"], &["a 1009"], &["a 1000"]), Verdict::Same);
        assert!(matches!(verdict(&["a 1000"], &["a 1024"], &["a 1000"]), Verdict::Contradiction(_)));
        assert!(matches!(verdict(&["a 1"], &["a 1000"], &["a 1"]), Verdict::Contradiction(_)), "another unit");
        assert_eq!(verdict(&["a 2"], &["a 5"], &["a 3"]), Verdict::Same, "what is counted");
        for (ours, peer) in [("a 0", "a 1"), ("a 1", "a 0"), ("a 0.5", "a 0.52"), ("a 0.001", "a 1"), ("a -1", "a 1")] {
            let verdict = verdict(&[ours], &[peer], &[ours]);
            assert!(matches!(verdict, Verdict::Contradiction(_)), "{ours} beside {peer}: {verdict:?}");
        }
        let mut still = Parity::of_still_files();
        still.round(&page(&["a 1000"]), &page(&["a 1001"]), &page(&["a 1000"]));
        assert!(!still.is_settled(), "nothing moves there");
    }

    #[test]
    fn what_was_right_in_one_round_is_right() {
        let mut parity = Parity::default();
        parity.round(&page(&["a 5"]), &page(&["a 50"]), &page(&["a 5"]));
        assert!(!parity.is_settled());
        parity.round(&page(&["a 50"]), &page(&["a 50"]), &page(&["a 5"]));
        assert!(parity.is_settled());
        assert_eq!(parity.covered(), (1, 1));
    }

    #[test]
    fn names_kinds_and_labels_must_be_the_same() {
        assert_eq!(verdict(&["b 1"], &["a 1"], &["b 1"]), Verdict::Missing);
        assert!(matches!(verdict(&["a 1"], &["a:counter 1"], &["a 1"]), Verdict::OtherKind(..)));
        let ours = ["a{cpu=\"0\"} 1"];
        assert!(matches!(verdict(&ours, &["a{core=\"0\"} 1"], &ours), Verdict::SeriesMissing(_)));
        assert_eq!(verdict(&["a{x=\"1\",y=\"\"} 1"], &["a{y=\"\",x=\"1\"} 1"], &["a{x=\"1\"} 1"]), Verdict::Same);
        assert!(matches!(verdict(&[], &["go_threads 1"], &[]), Verdict::LeftOut(_)));
    }

    #[test]
    fn a_page_that_is_no_page_is_refused() {
        for text in ["# TYPE a gauge\nb 1\n", "# TYPE a gauge\na one\n", "# TYPE a gauge\na 1\na 2\n"] {
            assert!(Page::parse(text).is_err(), "{text}");
        }
    }
}
