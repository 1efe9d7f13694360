//! What somebody has changed on a host: packages, files, units, the kernel, the policy.
//!
//! In: what the shell reads of the host, again and again. Out: a [`Change`] for every difference, with its time and its
//! author where the host knows them. A change explains; nothing is ever done because of one. Whether something has
//! changed while no agent ran is known from the [`Baseline`], which is kept.

mod baseline;
pub mod dpkg;
pub mod files;
pub mod rpm;
pub mod units;

use std::fmt;

pub use baseline::{Baseline, FILES_MAX, PackagesOf, Walk};

/// Most changes that one look at the host tells one by one; the rest is told as a number.
pub const CHANGES_MAX: usize = 200;

/// Longest subject, value or text of a change.
pub const TEXT_BYTES_MAX: usize = 256;

/// Mainstay's name, with which those of its packages begin.
const OWN: &str = "mainstay";

/// Units that its packages start anew on a host that it looks after.
const OWN_UNITS: [&str; 2] = ["mainstay-agent.service", "mainstay-actuator.service"];

/// A package by its name, and by its architecture too where that is not the host's own.
fn named(name: &str, arch: &str, native: &str, between: char) -> String {
    let is_native = arch == native || matches!(arch, "" | "all" | "noarch");
    if is_native { name.to_owned() } else { format!("{name}{between}{arch}") }
}

/// What kind of thing was changed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// A package is there that was not.
    PackageInstalled,
    /// A package has another version: mostly a newer one.
    PackageUpgraded,
    /// A package is gone.
    PackageRemoved,
    /// The database of packages changed, and what in it cannot be told.
    PackagesChanged,
    /// A file is there that was not.
    FileAdded,
    /// A file has another content.
    FileChanged,
    /// A file is gone.
    FileRemoved,
    /// The kernel is another one than before.
    KernelChanged,
    /// The host was started.
    HostBooted,
    /// Another policy is in force.
    PolicyChanged,
    /// Somebody else than Mainstay and systemd itself restarted a unit.
    UnitRestarted,
    /// Somebody started a unit that had failed or been stopped.
    UnitStarted,
    /// Somebody stopped a unit.
    UnitStopped,
}

impl ChangeKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::PackageInstalled,
        Self::PackageUpgraded,
        Self::PackageRemoved,
        Self::PackagesChanged,
        Self::FileAdded,
        Self::FileChanged,
        Self::FileRemoved,
        Self::KernelChanged,
        Self::HostBooted,
        Self::PolicyChanged,
        Self::UnitRestarted,
        Self::UnitStarted,
        Self::UnitStopped,
    ];

    /// The dotted name, as it is shown and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PackageInstalled => "package.installed",
            Self::PackageUpgraded => "package.upgraded",
            Self::PackageRemoved => "package.removed",
            Self::PackagesChanged => "packages.changed",
            Self::FileAdded => "file.added",
            Self::FileChanged => "file.changed",
            Self::FileRemoved => "file.removed",
            Self::KernelChanged => "kernel.changed",
            Self::HostBooted => "host.booted",
            Self::PolicyChanged => "policy.changed",
            Self::UnitRestarted => "unit.restarted",
            Self::UnitStarted => "unit.started",
            Self::UnitStopped => "unit.stopped",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it was changed by the host's wall clock, or, where that is not known, when it was noticed.
    pub at_ms: i64,
    /// When it was noticed.
    pub seen_ms: i64,
    /// What was done.
    pub kind: ChangeKind,
    /// To what: a package, a path, a unit.
    pub subject: String,
    /// What it was before: a version, the beginning of a hash.
    pub from: Option<String>,
    /// What it is now.
    pub to: Option<String>,
    /// Who did it, where the host knows.
    pub by: Option<String>,
    /// More about it: the command that did it.
    pub text: String,
}

impl Change {
    /// A change with nothing but its kind, subject and times; all texts within their bounds.
    #[must_use]
    pub fn new(kind: ChangeKind, subject: &str, at_ms: i64, seen_ms: i64) -> Self {
        let (subject, text) = (bounded(subject), String::new());
        Self { at_ms, seen_ms, kind, subject, from: None, to: None, by: None, text }
    }

    /// The same, from one value to another.
    #[must_use]
    pub fn between(mut self, from: Option<&str>, to: Option<&str>) -> Self {
        self.from = from.map(bounded);
        self.to = to.map(bounded);
        self
    }

    /// The same, done by Mainstay where it is about Mainstay's own packages, or the units that these start anew, and nobody
    /// else is known to have done it.
    #[must_use]
    pub fn owned(self) -> Self {
        let subject = self.subject.as_str();
        let is_own = match self.kind {
            ChangeKind::PackageInstalled | ChangeKind::PackageUpgraded | ChangeKind::PackageRemoved => {
                subject == OWN || subject.strip_prefix(OWN).is_some_and(|rest| rest.starts_with('-'))
            }
            ChangeKind::UnitRestarted | ChangeKind::UnitStarted | ChangeKind::UnitStopped => {
                OWN_UNITS.contains(&subject)
            }
            _ => false,
        };
        if is_own && self.by.is_none() { self.done_by(OWN, "part of Mainstay itself") } else { self }
    }

    /// The same, with who did it and how.
    #[must_use]
    pub fn done_by(mut self, by: &str, text: &str) -> Self {
        self.by = Some(bounded(by));
        self.text = bounded(text);
        self
    }
}

/// Tells changes of one moment apart, the same whenever one is told again.
#[must_use]
pub fn id_of(kind: &str, subject: &str, from: Option<&str>, to: Option<&str>) -> u64 {
    // FNV-1a, with a byte between the parts that no text has.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in [kind, subject, from.unwrap_or("\0"), to.unwrap_or("\0")] {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
}

/// Text without control characters, within [`TEXT_BYTES_MAX`].
fn bounded(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if out.len() > TEXT_BYTES_MAX {
        let end = "…";
        let cut = (0..=TEXT_BYTES_MAX - end.len()).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(cut);
        out.push_str(end);
    }
    out
}

/// The first [`CHANGES_MAX`] changes, and of the rest how many there are of each kind.
fn capped(mut changes: Vec<Change>) -> Vec<Change> {
    let rest = changes.split_off(changes.len().min(CHANGES_MAX));
    for kind in ChangeKind::ALL {
        let mut of_kind = rest.iter().filter(|change| change.kind == kind);
        if let Some(first) = of_kind.next() {
            let more = 1 + of_kind.count();
            changes.push(Change::new(kind, &format!("{more} more"), first.at_ms, first.seen_ms));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_as_a_number() {
        let many: Vec<Change> = (0..CHANGES_MAX + 30)
            .map(|n| {
                let kind = if n % 3 == 0 { ChangeKind::FileAdded } else { ChangeKind::FileChanged };
                Change::new(kind, &format!("/etc/{n}"), 1, 2)
            })
            .collect();
        let told = capped(many);
        let last: Vec<(&str, ChangeKind)> =
            told[CHANGES_MAX..].iter().map(|change| (change.subject.as_str(), change.kind)).collect();
        assert_eq!(last, [("10 more", ChangeKind::FileAdded), ("20 more", ChangeKind::FileChanged)]);
    }

    #[test]
    fn the_same_change_has_the_same_id_and_another_one_another() {
        let id = |subject, to| id_of("file.changed", subject, None, to);
        assert_eq!(id("/etc/a", Some("1")), id("/etc/a", Some("1")));
        let ids = [id("/etc/a", Some("1")), id("/etc/a1", None), id("/etc/a", None), id("/etc/a", Some(""))];
        let unlike: std::collections::BTreeSet<u64> = ids.into_iter().collect();
        assert_eq!(unlike.len(), ids.len());
    }

    #[test]
    fn texts_are_bounded_and_without_control_characters() {
        let change = Change::new(ChangeKind::FileAdded, &format!("/etc/\x1b[31m{}", "ä".repeat(300)), 0, 0);
        assert!(change.subject.len() <= TEXT_BYTES_MAX && change.subject.ends_with('…'));
        assert!(!change.subject.contains('\x1b'));
    }

    #[test]
    fn what_is_mainstays_own_is_told_as_done_by_it_unless_somebody_is_known() {
        let by = |kind, subject: &str| Change::new(kind, subject, 1, 2).owned().by;
        assert_eq!(by(ChangeKind::PackageUpgraded, "mainstay-agent").as_deref(), Some("mainstay"));
        assert_eq!(by(ChangeKind::PackageInstalled, "mainstay").as_deref(), Some("mainstay"));
        assert_eq!(by(ChangeKind::UnitRestarted, "mainstay-actuator.service").as_deref(), Some("mainstay"));
        assert_eq!(by(ChangeKind::UnitRestarted, "mainstay-collector.service"), None, "somebody did that");
        assert_eq!(by(ChangeKind::PackageUpgraded, "mainstays"), None);
        assert_eq!(by(ChangeKind::FileChanged, "/etc/mainstay/agent.toml"), None);
        let jane = Change::new(ChangeKind::PackageUpgraded, "mainstay-agent", 1, 2).done_by("jane", "apt upgrade");
        assert_eq!(jane.owned().by.as_deref(), Some("jane"));
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<&str> = ChangeKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), ChangeKind::ALL.len());
    }
}
