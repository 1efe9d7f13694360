//! How many answers are the same.

use std::collections::BTreeMap;
use std::fmt;

use super::compare::Answer;
use super::earlier::Excuse;

/// Differences that are printed in full.
const SHOWN_MAX: usize = 20;
/// Most of all answers that may be excused; measured of the queries that are always asked: 1.21 %.
const EXCUSED_MAX: f64 = 0.015;
/// Most of them of which only the query says that they may differ, not the difference: 0.08 %, and 0.10 % where series are added
/// up in another order.
const UNSHOWN_MAX: f64 = 0.0012;

/// What came of all questions.
pub(crate) struct Tally {
    version: String,
    queries: usize,
    /// Those of prometheus that are errors, and those without a series.
    errors: usize,
    empty: usize,
    agreeing: usize,
    /// Values of answers that agree.
    values: usize,
    excused: BTreeMap<Excuse, usize>,
    differing: Vec<String>,
}

impl Tally {
    pub(super) fn new(version: &str, queries: usize) -> Self {
        let version = version.to_owned();
        let excused = BTreeMap::new();
        Self { version, queries, errors: 0, empty: 0, agreeing: 0, values: 0, excused, differing: Vec::new() }
    }

    /// Counts one answer: how many values agree, or what differs.
    pub(super) fn count(
        &mut self,
        theirs: &Answer,
        difference: Result<usize, String>,
        excuse: Option<Excuse>,
        question: impl FnOnce() -> String,
    ) {
        self.errors += usize::from(matches!(theirs, Answer::Error(..)));
        self.empty += usize::from(matches!(theirs, Answer::Series { series, .. } if series.is_empty()));
        match (difference, excuse) {
            (Ok(values), _) => {
                self.agreeing += 1;
                self.values += values;
            }
            (Err(_), Some(excuse)) => *self.excused.entry(excuse).or_default() += 1,
            (Err(difference), None) => self.differing.push(format!("{}\n  {difference}", question())),
        }
    }

    fn excused(&self, is_of: impl Fn(&Excuse) -> bool) -> usize {
        self.excused.iter().filter(|(excuse, _)| is_of(excuse)).map(|(_, count)| count).sum()
    }

    fn answers(&self) -> usize {
        self.agreeing + self.excused(|_| true) + self.differing.len()
    }

    /// Nothing may differ, and little may be excused.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let answers = self.answers();
        anyhow::ensure!(self.differing.is_empty(), "{} of {answers} answers differ", self.differing.len());
        for (excused, share_max) in
            [(self.excused(|_| true), EXCUSED_MAX), (self.excused(|excuse| !excuse.is_shown), UNSHOWN_MAX)]
        {
            let most = answers as f64 * share_max;
            anyhow::ensure!(
                excused as f64 <= most,
                "{excused} of {answers} answers are excused, not {most:.0} at most"
            );
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answers, excused) = (self.answers(), self.excused(|_| true));
        let share = |part: usize, all: usize| 100.0 * part as f64 / all.max(1) as f64;
        writeln!(
            f,
            "prometheus {}: {} queries, {answers} answers ({} errors, {} empty)",
            self.version, self.queries, self.errors, self.empty
        )?;
        writeln!(f, "agreeing / excused / differing: {} / {excused} / {}", self.agreeing, self.differing.len())?;
        writeln!(
            f,
            "agreement {:.3} % (goal 100 %) of the {} that are not excused, {} values; excused {:.2} % of all",
            share(self.agreeing, answers - excused),
            answers - excused,
            self.values,
            share(excused, answers)
        )?;
        for (excuse, count) in &self.excused {
            writeln!(f, "  excused {count}: {excuse}")?;
        }
        for difference in self.differing.iter().take(SHOWN_MAX) {
            writeln!(f, "{difference}")?;
        }
        Ok(())
    }
}
