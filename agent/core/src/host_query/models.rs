//! `models`: what the detectors of a host have learned, page by page.

use crate::detect::learned::{LearnedModel, LearnedSubject, SnapshotInfo};
use crate::policy::Glob;

/// Most subjects of one page: some 100 KiB on the wire.
pub const SUBJECTS_MAX: u32 = 512;

/// Longest glob that is asked with, in bytes.
pub const GLOB_BYTES_MAX: usize = 256;

/// Asks what was learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelsQuery {
    /// Only subjects (a metric with its labels, a mount point, a unit) that this matches.
    pub metric: Option<Glob>,
    /// How many of those that match are passed over: where the page begins.
    pub from: u32,
    /// How many are wanted at most; 0, or more than [`SUBJECTS_MAX`], is that many.
    pub limit: u32,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelsReply {
    /// Every model, by name. The same on every page.
    pub models: Vec<LearnedModel>,
    /// The page of what they know.
    pub subjects: Vec<LearnedSubject>,
    /// How many match in all.
    pub matching: u32,
    /// Where the next page begins; `None` on the last.
    pub next: Option<u32>,
    /// Whether the policy has frozen learning.
    pub is_frozen: bool,
    /// What [`crate::policy::order::Order`] can roll back to, newest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// What had to be learned anew at the last start, and why.
    pub relearning: Vec<String>,
}

impl ModelsQuery {
    /// Cuts the page out of everything that was learned. `subjects` come in the order in which they
    /// are to be shown.
    #[must_use]
    pub fn page(&self, subjects: impl IntoIterator<Item = LearnedSubject>) -> (Vec<LearnedSubject>, u32, Option<u32>) {
        let is_meant =
            |subject: &LearnedSubject| self.metric.as_ref().is_none_or(|glob| glob.matches(subject.name.as_bytes()));
        let limit = if self.limit == 0 { SUBJECTS_MAX } else { self.limit.min(SUBJECTS_MAX) };
        let (mut page, mut matching) = (Vec::new(), 0u32);
        for subject in subjects.into_iter().filter(is_meant) {
            if matching >= self.from && matching - self.from < limit {
                page.push(subject);
            }
            matching = matching.saturating_add(1);
        }
        let end = self.from.saturating_add(limit);
        (page, matching, (matching > end).then_some(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(count: usize) -> Vec<LearnedSubject> {
        (0..count).map(|n| LearnedSubject { name: format!("m{n:04}"), ..LearnedSubject::default() }).collect()
    }

    #[test]
    fn pages_hold_everything_once() {
        let all = subjects(1_300);
        let (mut from, mut seen) = (Some(0), Vec::new());
        while let Some(begin) = from {
            let query = ModelsQuery { from: begin, ..ModelsQuery::default() };
            let (page, matching, next) = query.page(all.clone());
            assert_eq!(matching, 1_300);
            seen.extend(page);
            from = next;
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn only_what_the_glob_matches_is_counted_and_shown() {
        let query = ModelsQuery { metric: Glob::new("m00?0"), limit: 4, ..ModelsQuery::default() };
        let (page, matching, next) = query.page(subjects(200));
        assert_eq!(
            page.iter().map(|subject| subject.name.as_str()).collect::<Vec<_>>(),
            ["m0000", "m0010", "m0020", "m0030"]
        );
        assert_eq!((matching, next), (10, Some(4)));
        let beyond = ModelsQuery { from: 90, ..query };
        assert_eq!(beyond.page(subjects(200)), (Vec::new(), 10, None));
    }
}
