//! Files that are watched: what was seen of each, and what has become of it.
//!
//! A file is another one when its content is: a touch or a rewrite with the same bytes is no change. Of one that cannot
//! be read its size and time stand for the content.

use super::{Change, ChangeKind};

/// Bytes of a hash that are shown.
const SHOWN_BYTES: usize = 4;

/// What was seen of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark {
    /// Its size.
    pub size: u64,
    /// When it was last written to, nanoseconds since 1970: whoever puts a file there can choose it.
    pub written_ns: i64,
    /// When it or its name here was last touched, which nobody can choose.
    pub changed_ns: i64,
    /// SHA-256 over its content; `None` where it cannot be read or is too long.
    pub hash: Option<[u8; 32]>,
}

impl FileMark {
    /// Whether it looks as it did, so that reading it again would tell nothing new.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        self.has_stamp_of(other) && self.changed_ns == other.changed_ns
    }

    fn has_stamp_of(&self, other: &Self) -> bool {
        (self.size, self.written_ns) == (other.size, other.written_ns)
    }

    /// Whether the content is the same as far as that can be known.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self.hash, other.hash) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => self.has_stamp_of(other),
        }
    }

    fn shown(&self) -> String {
        self.hash.map_or_else(
            || format!("{} bytes", self.size),
            |hash| {
                let hex: String = hash[..SHOWN_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
                format!("sha256 {hex}…")
            },
        )
    }
}

/// What has become of a file; `None` where it is the same.
#[must_use]
pub fn compare(path: &str, before: Option<&FileMark>, after: Option<&FileMark>, seen_ms: i64) -> Option<Change> {
    let at_ms = |mark: &FileMark| (mark.changed_ns / 1_000_000).min(seen_ms);
    let shown = |mark: Option<&FileMark>| mark.map(FileMark::shown);
    let (kind, at_ms) = match (before, after) {
        (None, Some(after)) => (ChangeKind::FileAdded, at_ms(after)),
        // When it was removed nobody has written down.
        (Some(_), None) => (ChangeKind::FileRemoved, seen_ms),
        (Some(before), Some(after)) if !before.is_same_as(after) => (ChangeKind::FileChanged, at_ms(after)),
        _ => return None,
    };
    let change = Change::new(kind, path, at_ms, seen_ms);
    Some(change.between(shown(before).as_deref(), shown(after).as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(size: u64, changed_ns: i64, hash: Option<u8>) -> FileMark {
        FileMark { size, written_ns: changed_ns, changed_ns, hash: hash.map(|byte| [byte; 32]) }
    }

    #[test]
    fn content_counts_and_not_the_time() {
        let kind = |before, after| compare("/etc/a", before, after, 9).map(|change| change.kind);
        let (a, touched, b) = (mark(1, 1, Some(1)), mark(1, 2, Some(1)), mark(1, 1, Some(2)));
        assert_eq!(kind(Some(&a), Some(&touched)), None);
        assert_eq!(kind(Some(&a), Some(&b)), Some(ChangeKind::FileChanged));
        assert_eq!(kind(None, Some(&a)), Some(ChangeKind::FileAdded));
        assert_eq!(kind(Some(&a), None), Some(ChangeKind::FileRemoved));
        let (hidden, hidden_touched) = (mark(1, 1, None), mark(1, 2, None));
        assert_eq!(kind(Some(&hidden), Some(&hidden)), None);
        assert_eq!(kind(Some(&hidden), Some(&hidden_touched)), Some(ChangeKind::FileChanged));
        assert_eq!(kind(Some(&a), Some(&hidden)), None, "what is no longer readable is not changed by that");
        let other_mode = FileMark { changed_ns: 7, ..hidden };
        assert_eq!(kind(Some(&hidden), Some(&other_mode)), None);
    }

    #[test]
    fn a_change_says_when_and_what() {
        let (before, after) = (mark(10, 0, Some(0xab)), mark(12, 5_000_000, Some(0xcd)));
        let change = compare("/etc/a", Some(&before), Some(&after), 9).unwrap();
        assert_eq!((change.at_ms, change.seen_ms), (5, 9));
        assert_eq!(change.from.as_deref(), Some("sha256 abababab…"));
        assert_eq!(change.to.as_deref(), Some("sha256 cdcdcdcd…"));
        let future = mark(12, i64::MAX, Some(1));
        assert_eq!(compare("/etc/a", None, Some(&future), 9).unwrap().at_ms, 9, "a time to come is none");
    }
}
