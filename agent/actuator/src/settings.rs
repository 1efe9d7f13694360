//! Root's own file, `/etc/mainstay/actuator.toml` with drop-ins: what may be done on this host at all.
//!
//! In: a merged [`Document`]. Out: [`Settings`], or every mistake with its place. What the file does not allow stays
//! forbidden: with an empty file no unit and no place may be touched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::config::{Document, Problem, Problems, Spanned, TableReader};

use mainstay_core::policy::Glob;

/// Most actions of one verb in an hour, where root's file names no other number.
pub const PER_HOUR_DEFAULT: u32 = 30;

/// Largest number that root may name: the journal, by which actions are counted, holds all of an hour.
pub const PER_HOUR_MAX: u64 = 150;

/// Longest that a reclaimed file may be kept.
const UNDO_TIME_MAX: Duration = Duration::from_secs(30 * 86_400);

const HOUR: Duration = Duration::from_secs(3600);

/// The acting verbs, whose rate root can limit.
pub const LIMITED_VERBS: [&str; 6] = ["unit.start", "unit.restart", "unit.stop", "unit.reload", "disk.reclaim", "undo"];

/// What root allows on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The user whose process may ask, by name or number (default `mainstay`).
    pub agent_user: String,
    /// Ends after this long without a connection and without work (default 5 s).
    pub idle_exit: Duration,
    /// Units that may be touched.
    pub units_allow: Vec<Glob>,
    /// Units that may not be, besides what [`crate::protect`] always protects.
    pub units_protect: Vec<Glob>,
    /// Longest wait for one systemd job (default 3 min). Beyond it the action failed; the job goes on.
    pub job_deadline: Duration,
    /// Most actions in an hour, by verb.
    pub per_hour: BTreeMap<&'static str, u32>,
    /// What may be reclaimed.
    pub reclaim: ReclaimSettings,
    /// A folder on another filesystem that takes what can be undone. Without it files are compressed where they were.
    pub undo_dir: Option<PathBuf>,
    /// Longest that a policy may have files kept (default 7 days).
    pub undo_for_max: Duration,
    /// Longest run of one probe command (default 10 s).
    pub probe_deadline_max: Duration,
}

/// What may be reclaimed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReclaimSettings {
    /// Whether downloaded packages may go, and from which age on.
    pub apt_cache: Option<Duration>,
    /// Whether stored core dumps may go, and from which age on.
    pub core_dumps: Option<Duration>,
    /// Whether archived journal files may go, and from which age on.
    pub journal: Option<Duration>,
    /// Folders below which aged files may go.
    pub roots: Vec<ReclaimRoot>,
    /// Most files that one action takes (default 10 000).
    pub files_max: u64,
    /// Longest that one action takes (default 5 min).
    pub time_max: Duration,
    /// Deepest folder below a root that is looked into (default 16).
    pub depth_max: u32,
}

/// A folder below which aged files may go.
#[derive(Debug, Clone, PartialEq)]
pub struct ReclaimRoot {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Globs on file names; a file must match one of these and one of the policy's.
    pub files: Vec<Glob>,
    /// Least age by modification time. A policy may ask for more, never for less.
    pub older_than: Duration,
}

impl Settings {
    /// Reads the merged file.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn read(document: &Document) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new();
        let mut top = document.reader(&problems);
        let agent_user = top.opt_str("agent_user").map_or_else(|| "mainstay".to_owned(), Spanned::into_inner);
        let idle_exit = bounded(&mut top, "idle_exit", 5, 1, 3600);
        let (units_allow, units_protect, job_deadline) = read_units(&mut top);
        let per_hour = read_limits(&mut top);
        let reclaim = read_reclaim(&mut top);
        let (undo_dir, undo_for_max) = read_undo(&mut top);
        let probe_deadline_max = read_probe(&mut top);
        top.finish();
        problems.into_result(Self {
            agent_user,
            idle_exit,
            units_allow,
            units_protect,
            job_deadline,
            per_hour,
            reclaim,
            undo_dir,
            undo_for_max,
            probe_deadline_max,
        })
    }
}

fn read_units(top: &mut TableReader<'_>) -> (Vec<Glob>, Vec<Glob>, Duration) {
    let default_deadline = Duration::from_secs(180);
    let Some(mut units) = top.opt_table("units") else { return (Vec::new(), Vec::new(), default_deadline) };
    let read =
        (globs(&mut units, "allow"), globs(&mut units, "protect"), bounded(&mut units, "job_deadline", 180, 1, 3600));
    units.finish();
    read
}

fn read_limits(top: &mut TableReader<'_>) -> BTreeMap<&'static str, u32> {
    let mut per_hour: BTreeMap<_, _> = LIMITED_VERBS.into_iter().map(|verb| (verb, PER_HOUR_DEFAULT)).collect();
    if let Some(mut limits) = top.opt_table("per_hour") {
        for verb in LIMITED_VERBS {
            let value = limits.opt_u64(verb);
            if let Some(value) = limits.within(verb, value, 0..=PER_HOUR_MAX) {
                per_hour.insert(verb, u32::try_from(value.value).unwrap_or(0));
            }
        }
        limits.finish();
    }
    per_hour
}

fn read_reclaim(top: &mut TableReader<'_>) -> ReclaimSettings {
    let mut read = ReclaimSettings {
        apt_cache: None,
        core_dumps: None,
        journal: None,
        roots: Vec::new(),
        files_max: 10_000,
        time_max: Duration::from_secs(300),
        depth_max: 16,
    };
    let Some(mut reclaim) = top.opt_table("reclaim") else { return read };
    read.apt_cache = read_place(&mut reclaim, "apt_cache");
    read.core_dumps = read_place(&mut reclaim, "core_dumps");
    read.journal = read_place(&mut reclaim, "journal");
    read.roots = reclaim.tables("root").into_iter().filter_map(read_root).collect();
    let files_max = reclaim.opt_u64("files_max");
    read.files_max = reclaim.within("files_max", files_max, 1..=1_000_000).map_or(10_000, Spanned::into_inner);
    read.time_max = bounded(&mut reclaim, "time_max", 300, 1, 3600);
    let depth_max = reclaim.opt_u64("depth_max");
    let depth_max = reclaim.within("depth_max", depth_max, 0..=64).map_or(16, Spanned::into_inner);
    read.depth_max = u32::try_from(depth_max).unwrap_or(16);
    reclaim.finish();
    read
}

/// `journal = { older_than = "1h" }`: the place may be reclaimed, from that age on.
fn read_place(reclaim: &mut TableReader<'_>, key: &str) -> Option<Duration> {
    let mut place = reclaim.opt_table(key)?;
    let older_than = place.duration("older_than");
    place.finish();
    older_than.map(Spanned::into_inner)
}

fn read_root(mut root: TableReader<'_>) -> Option<ReclaimRoot> {
    let path = root.str("path");
    if let Some((path, why)) = path.as_ref().and_then(|path| Some((path, why_no_root(path)?))) {
        root.problem(&path.place, format!("`path` {why}"));
    }
    let is_given = root.has("files");
    let files = globs(&mut root, "files");
    if files.is_empty() {
        let place = root.place_of("files").clone();
        let text = if is_given { "`files` must name at least one glob" } else { "missing key `files` in `root`" };
        root.problem(&place, text);
    }
    let older_than = root.duration("older_than");
    root.finish();
    Some(ReclaimRoot { path: PathBuf::from(path?.value), files, older_than: older_than?.value })
}

/// Why a path cannot be a root; `None` if it can.
fn why_no_root(path: &str) -> Option<String> {
    if crate::gate::clean_components(path.as_bytes()).is_none() {
        return Some(format!("must be absolute, without `.`, `..` or double slashes, not {path:?}"));
    }
    let never =
        ["/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"];
    let own = ["/var/lib/mainstay", "/var/lib/mainstay-actuator", "/var/lib/mainstay-collector"];
    let lies_in = |parent: &&str| path == *parent || path.starts_with(&format!("{parent}/"));
    // `/` itself is no root, but everything lies in it.
    let forbidden = never[1..].iter().chain(&own).copied().find(lies_in).or_else(|| (path == "/").then_some("/"));
    forbidden.map(|parent| format!("may not lie in `{parent}`"))
}

fn read_undo(top: &mut TableReader<'_>) -> (Option<PathBuf>, Duration) {
    let default_max = Duration::from_secs(7 * 86_400);
    let Some(mut undo) = top.opt_table("undo") else { return (None, default_max) };
    let dir = undo.opt_str("dir");
    let is_wrong = |dir: &&Spanned<String>| crate::gate::clean_components(dir.as_bytes()).is_none();
    if let Some(dir) = dir.as_ref().filter(is_wrong) {
        let message = format!("`dir` must be absolute, without `.`, `..` or double slashes, not {:?}", dir.value);
        undo.problem(&dir.place, message);
    }
    let time = undo.opt_duration("for_max");
    let time = undo.within("for_max", time, HOUR..=UNDO_TIME_MAX).map_or(default_max, Spanned::into_inner);
    undo.finish();
    (dir.map(|dir| PathBuf::from(dir.value)), time)
}

fn read_probe(top: &mut TableReader<'_>) -> Duration {
    let Some(mut probe) = top.opt_table("probe") else { return Duration::from_secs(10) };
    let deadline = bounded(&mut probe, "deadline_max", 10, 1, 60);
    probe.finish();
    deadline
}

fn bounded(table: &mut TableReader<'_>, key: &str, default_s: u64, low_s: u64, high_s: u64) -> Duration {
    let value = table.opt_duration(key);
    let range = Duration::from_secs(low_s)..=Duration::from_secs(high_s);
    table.within(key, value, range).map_or_else(|| Duration::from_secs(default_s), Spanned::into_inner)
}

fn globs(table: &mut TableReader<'_>, key: &str) -> Vec<Glob> {
    let words = table.opt_strs(key).map_or_else(Vec::new, Spanned::into_inner);
    let mut read = Vec::with_capacity(words.len());
    for word in words {
        match Glob::new(&word.value) {
            Some(glob) => read.push(glob),
            None => table.problem(&word.place, format!("`{key}` holds an empty glob")),
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<String>> {
        let document = Document::parse("actuator.toml", text).unwrap();
        Settings::read(&document).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_empty_file_allows_nothing() {
        let settings = read("").unwrap();
        assert!(settings.units_allow.is_empty() && settings.reclaim.roots.is_empty());
        assert_eq!((settings.reclaim.apt_cache, settings.reclaim.journal), (None, None));
    }

    #[test]
    fn the_shipped_file_is_valid() {
        let shipped = include_str!("../../../packaging/actuator/etc/mainstay/actuator.toml");
        let settings = read(shipped).unwrap();
        assert!(settings.units_allow.iter().any(|glob| glob.matches(b"nginx.service")));
        assert!(settings.reclaim.roots.iter().any(|root| root.path == std::path::Path::new("/var/log")));
    }

    #[test]
    fn every_wrong_key_is_named_with_its_place() {
        let text = "idle_exit = \"1d\"\n[units]\nalow = []\n[[reclaim.root]]\npath = \"/etc/x\"\nfiles = []\nolder_than = \"1d\"\n[per_hour]\n\"unit.restrat\" = 3\n";
        assert_eq!(
            read(text).unwrap_err(),
            [
                "actuator.toml:1:13: `idle_exit` must be from 1s to 3600s, not 86400s",
                "actuator.toml:3:1: unknown key `alow`; did you mean `allow`?",
                "actuator.toml:5:8: `path` may not lie in `/etc`",
                "actuator.toml:6:9: `files` must name at least one glob",
                "actuator.toml:9:1: unknown key `unit.restrat`; did you mean `unit.restart`?",
            ]
        );
    }

    #[test]
    fn a_root_cannot_be_what_the_system_stands_on() {
        for path in ["/", "/usr/lib", "/var/../etc", "var/log", "/var//log", "/var/lib/mainstay/ledger"] {
            let text = format!("[[reclaim.root]]\npath = \"{path}\"\nfiles = [\"*\"]\nolder_than = \"1d\"\n");
            assert!(read(&text).is_err(), "{path}");
        }
        assert!(read("[[reclaim.root]]\npath = \"/srv/data\"\nfiles = [\"*.tmp\"]\nolder_than = \"1h\"\n").is_ok());
    }
}
