//! `record`: the flight recorder's samples of the last minutes, page by page.

use std::time::Duration;

use crate::policy::Glob;
use crate::recording::Recording;
use crate::series::SeriesKey;

/// As far back as can be asked for: what the ring holds.
pub const LAST_MAX: Duration = Duration::from_secs(3_840);

/// Asks what was recorded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordQuery {
    /// From how long ago on; zero, or more than [`LAST_MAX`], is all there is.
    pub last: Duration,
    /// Only series that this matches, written with their labels as in a query.
    pub series: Option<Glob>,
    /// How many series of those that match are passed over: where the page begins.
    pub from: u32,
    /// How many are wanted at most; 0 is as many as fit.
    pub limit: u32,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordReply {
    /// The samples, with the series of this page.
    pub recording: Recording,
    /// How many series match in all.
    pub matching: u32,
    /// Where the next page begins; `None` on the last.
    pub next: Option<u32>,
}

impl RecordQuery {
    /// Whether a series is asked for.
    #[must_use]
    pub fn wants(&self, key: &SeriesKey) -> bool {
        self.series.as_ref().is_none_or(|glob| glob.matches(key.to_string().as_bytes()))
    }

    /// How many series one page may have, where no more than so many fit.
    #[must_use]
    pub fn limit(&self, fitting: usize) -> usize {
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if wanted == 0 { fitting } else { wanted.min(fitting) }
    }

    /// From how long ago on.
    #[must_use]
    pub fn last(&self) -> Duration {
        if self.last.is_zero() { LAST_MAX } else { self.last.min(LAST_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_glob_is_held_against_the_series_as_it_is_written() {
        let key = SeriesKey::new("mainstay_unit_tasks", &[("unit", "app.service")]);
        let query = |glob: &str| RecordQuery { series: Glob::new(glob), ..RecordQuery::default() };
        assert!(query("*app.service*").wants(&key) && query("mainstay_unit_*").wants(&key));
        assert!(!query("node_*").wants(&key));
        assert!(RecordQuery::default().wants(&key));
    }

    #[test]
    fn nothing_asked_for_is_all_there_is() {
        assert_eq!(RecordQuery::default().last(), LAST_MAX);
        assert_eq!(RecordQuery { last: Duration::from_secs(60), ..RecordQuery::default() }.last().as_secs(), 60);
        let limited = RecordQuery { limit: 5, ..RecordQuery::default() };
        assert_eq!((limited.limit(100), limited.limit(3), RecordQuery::default().limit(100)), (5, 3, 100));
    }
}
