//! Looks what was changed on the host: packages, files, the kernel.
//!
//! A thread of its own looks, mostly at sizes and times, and tells what is different from the look before, that of an agent
//! before this one included ([`Baseline`]). It does when the kernel tells that something happened in the folders of files and
//! packages ([`Watched`]), every ten seconds at most, and every minute in any case. Nothing here holds up the tick; a folder
//! that hangs holds up this thread and nothing else.

mod walk;

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_core::change::{Baseline, Change, PackagesOf, dpkg, rpm};
use tracing::{error, warn};

use super::rounds::{Pace, Round, Rounds};
use super::watched::Watched;
use super::{clock, facts};
use crate::{child, durable};

pub use walk::{PATTERNS_MAX, is_pattern};

/// How often the host is looked at where something happens.
const EVERY: Duration = Duration::from_secs(10);

/// How often all folders are gone through though nothing has happened in them, as far as the kernel tells.
const WALK_EVERY: Duration = Duration::from_secs(60);

/// Unit files that people write; those of packages change with their packages.
pub const UNIT_FILES: [&str; 2] = ["/etc/systemd/system/*", "/usr/local/lib/systemd/system/*"];

/// Where dpkg keeps its database.
const DPKG: &str = "var/lib/dpkg";

/// Most bytes of dpkg's database that are read.
const STATUS_BYTES_MAX: u64 = 64 << 20;

/// Bytes of apt's history that are read, from its end.
const HISTORY_BYTES_MAX: u64 = 64 << 10;

/// Where rpm keeps its database, and what is being added to it.
const RPM: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];
const RPM_FILES: [&str; 4] = ["rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db"];

/// What reads it. A fixed path: nothing is searched for.
const RPM_PROGRAM: &str = "usr/bin/rpm";

/// Longest that it may take, and most bytes that it may say: some hundred for each package.
const RPM_MAX: Duration = Duration::from_secs(60);
const RPM_BYTES_MAX: u64 = 4 << 20;

/// Looks at a host, again and again.
#[derive(Debug)]
pub struct Looker {
    root: PathBuf,
    state: PathBuf,
    patterns: Vec<String>,
    baseline: Baseline,
    /// Whether boot and kernel were looked at: they stay what they are as long as this runs.
    is_started: bool,
    /// What dpkg's database looked like when it was last read.
    status: Option<(u64, i64, u64)>,
    /// What rpm's database looked like at the last look, and whether rpm gave no answer about it.
    rpm_seen: Option<(u64, i64)>,
    rpm_is_silent: bool,
    /// Where files are, and when they were gone through; `None` where they are to be gone through again in any case.
    watched: Watched,
    walked: Option<Instant>,
    /// Whether there is anything to be kept.
    is_new: bool,
    saved: Vec<u8>,
}

/// The thread, as the loop has it: it ends when this is gone.
#[derive(Debug)]
pub struct Changes {
    rounds: Rounds,
}

impl Looker {
    /// Looks below `root`, `/` on a real host, at packages, the kernel and the files that match. What was seen is kept in
    /// `state`.
    #[must_use]
    pub fn new(root: &Path, state: &Path, files: &[String]) -> Self {
        let baseline = match fs::read(state) {
            Ok(bytes) => Baseline::load(&bytes).unwrap_or_else(|error| {
                warn!(path = %state.display(), %error, "what the host was like is not known: changes count from now on");
                Baseline::default()
            }),
            Err(_) => Baseline::default(),
        };
        let patterns = UNIT_FILES.iter().map(|pattern| (*pattern).to_owned()).chain(files.iter().cloned()).collect();
        let (root, state) = (root.to_owned(), state.to_owned());
        Self {
            root,
            state,
            patterns,
            baseline,
            is_started: false,
            status: None,
            rpm_seen: None,
            rpm_is_silent: false,
            watched: Watched::default(),
            walked: None,
            is_new: false,
            saved: Vec::new(),
        }
    }

    /// What is different from the look before.
    pub fn look(&mut self, now_ms: i64) -> Vec<Change> {
        let mut changes = self.started(now_ms);
        let is_due = self.walked.is_none_or(|walked| walked.elapsed() >= WALK_EVERY);
        if !is_due && self.watched.is_whole() && !self.watched.news().written {
            return changes;
        }
        // What happens from here on is told at the next look.
        self.watched.news();
        let rpm_was = self.rpm_seen;
        changes.extend(self.dpkg(now_ms));
        changes.extend(self.rpm(now_ms));
        changes.extend(self.files(now_ms));
        if self.rpm_seen != rpm_was {
            // It is asked when nothing more has happened at the next look.
            self.walked = None;
        }
        changes
    }

    /// What becomes readable when something happened; `None` where the host is to be looked at all the same.
    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.watched.events().filter(|_| self.is_started && self.watched.is_whole() && self.walked.is_some())
    }

    /// Goes through all folders, and has them watched with those of the packages.
    fn files(&mut self, now_ms: i64) -> Vec<Change> {
        let (walk, mut folders) = walk::walk(&self.root, &self.patterns, &self.baseline);
        let packages = RPM.iter().chain(&[DPKG]).map(|folder| self.root.join(folder));
        folders.extend(packages.filter(|folder| folder.is_dir()));
        // What is only watched from now on was not gone through while it was: once more.
        let is_watched = self.watched.is_whole() && self.watched.watches(&folders);
        self.watched.watch(&folders);
        self.walked = is_watched.then(Instant::now);
        self.is_new = true;
        self.baseline.files(&self.patterns, walk, now_ms)
    }

    /// Keeps what was seen, once what is different was told.
    fn keep(&mut self) {
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        let bytes = self.baseline.save();
        if bytes == self.saved {
            return;
        }
        match durable::write_atomic(&self.state, &bytes, 0o600) {
            Ok(()) => self.saved = bytes,
            Err(error) => error!(path = %self.state.display(), %error, "cannot be written"),
        }
    }

    fn started(&mut self, now_ms: i64) -> Vec<Change> {
        if self.is_started {
            return Vec::new();
        }
        let Ok(kernel) = fs::read_to_string(self.root.join("proc/sys/kernel/osrelease")) else { return Vec::new() };
        (self.is_started, self.is_new) = (true, true);
        #[allow(clippy::cast_possible_truncation, reason = "milliseconds since 1970 fit")]
        let booted_ms = (clock::boot_wall_seconds() * 1e3) as i64;
        self.baseline.started(facts::boot_id(&self.root), kernel.trim(), booted_ms, now_ms)
    }

    fn dpkg(&mut self, now_ms: i64) -> Vec<Change> {
        let path = self.root.join(DPKG).join("status");
        let Ok(metadata) = fs::metadata(&path) else { return Vec::new() };
        let seen = (metadata.len(), written_ms(&metadata), metadata.ino());
        if self.status == Some(seen) || metadata.len() > STATUS_BYTES_MAX {
            return Vec::new();
        }
        let Ok(bytes) = fs::read(&path) else { return Vec::new() };
        (self.status, self.is_new) = (Some(seen), true);
        let history = end_of(&self.root.join("var/log/apt/history.log")).unwrap_or_default();
        self.baseline.packages(PackagesOf::Dpkg, &dpkg::packages(&bytes), &history, seen.1, now_ms)
    }

    /// What is in rpm's database takes rpm to read. It is asked when the database has changed and was then left alone from one
    /// look to the next; where it gives no answer, only that something changed is told.
    fn rpm(&mut self, now_ms: i64) -> Vec<Change> {
        let mut folders = RPM.iter().map(|folder| self.root.join(folder)).filter(|folder| folder.is_dir());
        let found = folders.find_map(|folder| {
            let files = RPM_FILES.iter().filter_map(|file| fs::metadata(folder.join(file)).ok());
            let seen: Vec<(u64, i64)> = files.map(|file| (file.len(), written_ms(&file))).collect();
            let written_ms = seen.iter().map(|(_, written_ms)| *written_ms).max()?;
            Some((seen.iter().map(|(size, _)| size).sum(), written_ms))
        });
        let Some((size, written_ms)) = found else { return Vec::new() };
        let seen = Some((size, written_ms));
        let is_left_alone = std::mem::replace(&mut self.rpm_seen, seen) == seen;
        let was_known = self.baseline.knows(PackagesOf::Rpm);
        let is_told = self.baseline.opaque_seen() == seen && (was_known || self.rpm_is_silent);
        if !is_left_alone || is_told {
            return Vec::new();
        }
        self.is_new = true;
        let changed = self.baseline.opaque("rpm database", size, written_ms, now_ms);
        let asked = self.ask_rpm();
        self.rpm_is_silent = asked.is_err();
        match asked {
            Ok(packages) => {
                let told = self.baseline.packages(PackagesOf::Rpm, &packages, b"", written_ms, now_ms);
                if was_known { told } else { changed }
            }
            Err(error) => {
                warn!(error, "which packages rpm has is not known, only that they changed");
                changed
            }
        }
    }

    fn ask_rpm(&self) -> Result<BTreeMap<String, dpkg::Stand>, String> {
        let program = self.root.join(RPM_PROGRAM);
        let mut command = Command::new(&program);
        let said = child::said(command.args(["-qa", "--queryformat", rpm::FORMAT]), RPM_MAX, RPM_BYTES_MAX)?;
        rpm::packages(&said).ok_or_else(|| format!("{} did not give a list of packages", program.display()))
    }
}

/// What the thread does.
struct Following<T> {
    looker: Looker,
    tell: T,
}

impl<T: Fn(Vec<Change>) + Send + 'static> Round for Following<T> {
    fn look(&mut self) {
        let changes = self.looker.look(clock::now().wall_ms);
        if !changes.is_empty() {
            (self.tell)(changes);
        }
        // After it was told: what is told twice is known by its id, what is never told is lost.
        self.looker.keep();
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.looker.news()
    }
}

impl Changes {
    /// Starts the thread. `tell` is given what was changed; it may wait.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(looker: Looker, tell: impl Fn(Vec<Change>) + Send + 'static) -> io::Result<Self> {
        let rounds = Rounds::start("changes", Pace { often: EVERY, seldom: WALK_EVERY }, Following { looker, tell })?;
        Ok(Self { rounds })
    }

    /// Has the host not be looked at, to keep the agent's budget, or again: what was changed meanwhile is told then.
    pub fn set_resting(&mut self, is_resting: bool) {
        self.rounds.set_resting(is_resting);
    }
}

/// When a file was last written to, milliseconds since 1970.
fn written_ms(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000).saturating_add(metadata.mtime_nsec() / 1_000_000)
}

/// The last paragraphs of a file.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(HISTORY_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(HISTORY_BYTES_MAX).unwrap_or(0)];
    let read = file.read_at(&mut bytes, from)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const NOW: i64 = 4_000_000_000_000;

    fn host() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["proc/sys/kernel/random", "var/lib/dpkg", "var/log/apt", "etc/systemd/system", "etc/nginx"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        put(&root, "proc/sys/kernel/osrelease", "6.1.0-9\n");
        put(&root, "proc/sys/kernel/random/boot_id", "0f0e0d0c-0b0a-0908-0706-050403020100\n");
        root
    }

    fn put(root: &tempfile::TempDir, path: &str, text: &str) {
        fs::write(root.path().join(path), text).unwrap();
    }

    fn status(packages: &[(&str, &str)]) -> String {
        let one = |(name, version): &(&str, &str)| {
            format!("Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n")
        };
        packages.iter().map(one).collect()
    }

    fn said(changes: &[Change]) -> Vec<(&'static str, &str)> {
        changes.iter().map(|change| (change.kind.as_str(), change.subject.as_str())).collect()
    }

    #[test]
    fn everything_that_was_changed_is_told_once_also_by_the_next_agent() {
        let root = host();
        let state = root.path().join("changes");
        let looker = || Looker::new(root.path(), &state, &["/etc/nginx/*".to_owned()]);
        put(&root, "var/lib/dpkg/status", &status(&[("a", "1")]));
        put(&root, "etc/nginx/nginx.conf", "one");
        put(&root, "etc/systemd/system/app.service", "[Service]\n");
        let mut first = looker();
        assert_eq!(first.look(NOW), []);
        first.keep();
        // While no agent runs.
        put(&root, "var/lib/dpkg/status", &status(&[("a", "2"), ("b", "1")]));
        put(
            &root,
            "var/log/apt/history.log",
            "Commandline: apt install b\nRequested-By: jane (1000)\nInstall: b:all (1)\n",
        );
        put(&root, "etc/nginx/nginx.conf", "another");
        fs::remove_file(root.path().join("etc/systemd/system/app.service")).unwrap();
        put(&root, "proc/sys/kernel/random/boot_id", "1f0e0d0c-0b0a-0908-0706-050403020100\n");
        let mut second = looker();
        let told = second.look(NOW);
        let want = [
            ("host.booted", "6.1.0-9"),
            ("package.upgraded", "a"),
            ("package.installed", "b"),
            ("file.changed", "/etc/nginx/nginx.conf"),
            ("file.removed", "/etc/systemd/system/app.service"),
        ];
        assert_eq!(said(&told), want);
        assert_eq!(told[2].by.as_deref(), Some("jane"));
        assert!(told.iter().all(|change| change.at_ms <= NOW && change.seen_ms == NOW));
        assert_eq!(second.look(NOW), []);
        second.keep();
        assert_eq!(looker().look(NOW), []);
    }

    #[test]
    fn a_database_of_rpm_is_told_to_have_changed() {
        let root = host();
        fs::create_dir_all(root.path().join("usr/lib/sysimage/rpm")).unwrap();
        put(&root, "usr/lib/sysimage/rpm/rpmdb.sqlite", "one");
        let mut looker = Looker::new(root.path(), &root.path().join("changes"), &[]);
        assert_eq!(looker.look(NOW), []);
        assert_eq!(looker.look(NOW), [], "there is no rpm to ask");
        put(&root, "usr/lib/sysimage/rpm/rpmdb.sqlite-wal", "more");
        assert_eq!(looker.look(NOW), [], "it may be at work");
        assert_eq!(said(&looker.look(NOW)), [("packages.changed", "rpm database")]);
        assert_eq!(looker.look(NOW), []);
        // From when it can be asked packages are told by name.
        answer(&root, "bash 5.1");
        put(&root, "usr/lib/sysimage/rpm/rpmdb.sqlite-wal", "more and more");
        assert_eq!(looker.look(NOW), []);
        assert_eq!(said(&looker.look(NOW)), [("packages.changed", "rpm database")]);
        answer(&root, "bash 5.2");
        assert_eq!(looker.look(NOW), [], "the database is as it was");
        put(&root, "usr/lib/sysimage/rpm/rpmdb.sqlite-wal", "");
        assert_eq!(looker.look(NOW), []);
        let told = looker.look(NOW);
        assert_eq!(said(&told), [("package.upgraded", "bash")]);
        assert_eq!((told[0].from.as_deref(), told[0].to.as_deref()), (Some("5.1"), Some("5.2")));
        assert_eq!(looker.look(NOW), []);
    }

    /// An rpm that gives this list.
    fn answer(root: &tempfile::TempDir, packages: &str) {
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        let lines = packages.replace(' ', r"\t") + r"\tnoarch\n";
        // Made aside: a program that is open for writing cannot be run.
        let (aside, program) = (root.path().join("aside"), root.path().join(RPM_PROGRAM));
        let script = format!("#!/bin/sh\n[ \"$1\" = -qa ] && printf '{lines}'\n");
        let made = Command::new("/bin/sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\" && mv \"$2\" \"$3\"", "sh", &script])
            .args([aside, program])
            .status();
        assert!(made.unwrap().success());
    }

    #[test]
    fn where_nothing_happens_nothing_is_gone_through_and_what_happens_is_seen_at_the_next_look() {
        let root = host();
        put(&root, "etc/systemd/system/app.service", "[Service]\n");
        fs::create_dir_all(root.path().join("usr/local/lib/systemd/system")).unwrap();
        let mut looker = Looker::new(root.path(), &root.path().join("changes"), &["/etc/nginx/*".to_owned()]);
        assert_eq!((looker.look(NOW), looker.walked, looker.news().is_some()), (vec![], None, false));
        // Once more, as what was gone through first was not watched then.
        assert_eq!((looker.look(NOW), looker.news().is_some()), (vec![], true));
        let walked = looker.walked;
        assert_eq!((looker.look(NOW), walked.is_some(), looker.walked), (vec![], true, walked));
        put(&root, "etc/systemd/system/app.service", "[Service]\nRestart=no\n");
        assert_eq!(said(&looker.look(NOW)), [("file.changed", "/etc/systemd/system/app.service")]);
        assert!(looker.walked > walked);
        // A folder that comes, with a file in it, and what happens in it then.
        fs::create_dir(root.path().join("etc/systemd/system/app.service.d")).unwrap();
        put(&root, "etc/systemd/system/app.service.d/a.conf", "[Service]\n");
        assert_eq!(said(&looker.look(NOW)), [("file.added", "/etc/systemd/system/app.service.d/a.conf")]);
        put(&root, "etc/systemd/system/app.service.d/a.conf", "[Service]\nRestart=no\n");
        assert_eq!(said(&looker.look(NOW)), [("file.changed", "/etc/systemd/system/app.service.d/a.conf")]);
        fs::remove_dir_all(root.path().join("etc/nginx")).unwrap();
        looker.look(NOW);
        fs::create_dir(root.path().join("etc/nginx")).unwrap();
        put(&root, "etc/nginx/nginx.conf", "new");
        let told: Vec<Change> = (0..2).flat_map(|_| looker.look(NOW)).collect();
        assert_eq!(said(&told), [("file.added", "/etc/nginx/nginx.conf")]);
        assert_eq!((looker.look(NOW), looker.news().is_some()), (vec![], true));
        let walked = looker.walked.and_then(|walked| walked.checked_sub(WALK_EVERY)).unwrap();
        looker.walked = Some(walked);
        assert_eq!((looker.look(NOW), looker.walked > Some(walked)), (vec![], true), "in any case every minute");
    }

    #[test]
    fn the_thread_tells_and_ends() {
        let root = host();
        put(&root, "etc/systemd/system/app.service", "[Service]\n");
        let state = root.path().join("changes");
        let mut before = Looker::new(root.path(), &state, &[]);
        before.look(NOW);
        before.keep();
        put(&root, "etc/systemd/system/app.service", "[Service]\nRestart=no\n");
        let (tell, told) = mpsc::channel();
        let looker = Looker::new(root.path(), &state, &[]);
        let mut changes = Changes::start(looker, move |changes| drop(tell.send(changes))).unwrap();
        let first = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(said(&first), [("file.changed", "/etc/systemd/system/app.service")]);
        changes.set_resting(true);
        put(&root, "etc/systemd/system/other.service", "[Service]\n");
        changes.set_resting(false);
        let meanwhile = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(said(&meanwhile), [("file.added", "/etc/systemd/system/other.service")]);
        drop(changes);
        assert!(told.recv_timeout(Duration::from_secs(30)).is_err(), "its end of the channel is gone with it");
    }
}
