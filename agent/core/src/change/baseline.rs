//! What a host was like when it was last looked at, to tell what has changed since; kept over restarts.
//!
//! The first look at anything is the beginning and no change. What cannot be read now stays as it was known.

use std::collections::BTreeMap;

use super::dpkg::{self, Stand};
use super::files::{FileMark, compare};
use super::{Change, ChangeKind, capped};
use crate::detect::BadSnapshot;
use crate::detect::codec::{Reader, Writer};
use crate::id::BootId;

/// Most files that are watched.
pub const FILES_MAX: usize = 2_048;

/// Tags of the sections, and the version of each.
const HOST: u8 = 1;
const PACKAGES: u8 = 2;
const FILES: u8 = 3;
const RPM: u8 = 4;
const VERSION: u8 = 1;

/// What was found where files are watched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walk {
    /// Files by their paths.
    pub files: BTreeMap<Vec<u8>, FileMark>,
    /// Folders that could not be listed: nothing is known of what is below them.
    pub unread: Vec<Vec<u8>>,
    /// Whether there are more than [`FILES_MAX`]: what is missing may be there.
    pub is_cut: bool,
}

/// Whose packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackagesOf {
    /// dpkg's.
    Dpkg,
    /// rpm's.
    Rpm,
}

/// What is known of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baseline {
    host: Option<(BootId, String)>,
    packages: Option<BTreeMap<String, String>>,
    rpms: Option<BTreeMap<String, String>>,
    /// What a database that cannot be read looked like: size and time.
    opaque: Option<(u64, i64)>,
    /// Where files are watched, and what was there.
    patterns: Vec<String>,
    files: Option<BTreeMap<Vec<u8>, FileMark>>,
}

impl Baseline {
    /// The host as it was started, and by which kernel.
    pub fn started(&mut self, boot: BootId, kernel: &str, booted_ms: i64, now_ms: i64) -> Vec<Change> {
        let Some((before, old)) = self.host.replace((boot, kernel.to_owned())) else { return Vec::new() };
        let mut changes = Vec::new();
        if before != boot {
            changes.push(Change::new(ChangeKind::HostBooted, kernel, booted_ms, now_ms));
        }
        if old != kernel {
            let change = Change::new(ChangeKind::KernelChanged, "kernel", booted_ms, now_ms);
            changes.push(change.between(Some(&old), Some(kernel)));
        }
        changes
    }

    /// The packages as they are now; their database was written at `at_ms`. apt's history says who asked.
    pub fn packages(
        &mut self,
        of: PackagesOf,
        found: &BTreeMap<String, Stand>,
        history: &[u8],
        at_ms: i64,
        now_ms: i64,
    ) -> Vec<Change> {
        let known = match of {
            PackagesOf::Dpkg => &mut self.packages,
            PackagesOf::Rpm => &mut self.rpms,
        };
        let before = known.take();
        let is_first = before.is_none();
        let mut before = before.unwrap_or_default();
        let mut after = BTreeMap::new();
        let mut changes = Vec::new();
        for (name, stand) in found {
            let old = before.remove(name);
            let version = match stand {
                Stand::Installed(version) => version.clone(),
                // Still being worked on: the next look tells.
                Stand::Between => {
                    after.extend(old.map(|old| (name.clone(), old)));
                    continue;
                }
            };
            let kind = if old.is_some() { ChangeKind::PackageUpgraded } else { ChangeKind::PackageInstalled };
            if old.as_ref() != Some(&version) {
                changes.push(package(kind, name, (old.as_deref(), Some(version.as_str())), history, (at_ms, now_ms)));
            }
            after.insert(name.clone(), version);
        }
        for (name, old) in before {
            let values = (Some(old.as_str()), None);
            changes.push(package(ChangeKind::PackageRemoved, &name, values, history, (at_ms, now_ms)));
        }
        *known = Some(after);
        if is_first { Vec::new() } else { capped(changes) }
    }

    /// Whether it is known what is installed.
    #[must_use]
    pub fn knows(&self, of: PackagesOf) -> bool {
        match of {
            PackagesOf::Dpkg => self.packages.is_some(),
            PackagesOf::Rpm => self.rpms.is_some(),
        }
    }

    /// What a database that cannot be read looked like when it was last told of: size, and when it was written.
    #[must_use]
    pub fn opaque_seen(&self) -> Option<(u64, i64)> {
        self.opaque
    }

    /// A database of packages that cannot be read: its size, and when it was written.
    pub fn opaque(&mut self, name: &str, size: u64, at_ms: i64, now_ms: i64) -> Vec<Change> {
        match self.opaque.replace((size, at_ms)) {
            Some(before) if before != (size, at_ms) => {
                vec![Change::new(ChangeKind::PackagesChanged, name, at_ms.min(now_ms), now_ms)]
            }
            _ => Vec::new(),
        }
    }

    /// What was seen of a file that is watched.
    #[must_use]
    pub fn mark(&self, path: &[u8]) -> Option<&FileMark> {
        self.files.as_ref()?.get(path)
    }

    /// The files that are there now. Other patterns than before begin anew.
    pub fn files(&mut self, patterns: &[String], walk: Walk, now_ms: i64) -> Vec<Change> {
        let before = self.files.take().filter(|_| self.patterns == patterns);
        self.patterns = patterns.to_vec();
        let Some(before) = before else {
            self.files = Some(walk.files);
            return Vec::new();
        };
        let mut after = walk.files;
        let mut changes = Vec::new();
        for (path, mark) in &mut after {
            let old = before.get(path);
            changes.extend(compare(&String::from_utf8_lossy(path), old, Some(mark), now_ms));
            // One that can no longer be read is compared with what was read of it.
            if let Some(old) = old.filter(|old| mark.hash.is_none() && mark.is_same_as(old)) {
                mark.hash = old.hash;
            }
        }
        for (path, old) in before {
            if after.contains_key(&path) {
                continue;
            }
            let is_unknown = walk.is_cut || walk.unread.iter().any(|folder| is_below(&path, folder));
            if is_unknown && after.len() < 2 * FILES_MAX {
                after.insert(path, old);
            } else if !is_unknown {
                changes.extend(compare(&String::from_utf8_lossy(&path), Some(&old), None, now_ms));
            }
        }
        self.files = Some(after);
        capped(changes)
    }

    /// What is to be kept: versioned, bounded, with a checksum. The same state gives the same bytes.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        if let Some((boot, kernel)) = &self.host {
            writer.section(HOST, VERSION, |w| {
                w.bytes(&boot.0);
                w.str(kernel);
            });
        }
        writer.section(PACKAGES, VERSION, |w| {
            w.option(self.packages.as_ref(), save_packages);
            w.option(self.opaque, |w, (size, at_ms)| {
                w.u64(size);
                w.i64(at_ms);
            });
        });
        if let Some(rpms) = &self.rpms {
            writer.section(RPM, VERSION, |w| save_packages(w, rpms));
        }
        if let Some(files) = &self.files {
            writer.section(FILES, VERSION, |w| {
                w.len(self.patterns.len());
                self.patterns.iter().for_each(|pattern| w.str(pattern));
                w.len(files.len());
                for (path, mark) in files {
                    w.bytes(path);
                    w.u64(mark.size);
                    w.i64(mark.written_ns);
                    w.i64(mark.changed_ns);
                    w.option(mark.hash, |w, hash| w.bytes(&hash));
                }
            });
        }
        writer.finish()
    }

    /// Goes on from a [`Baseline::save`].
    ///
    /// # Errors
    /// Where the bytes are damaged: the caller says so and begins anew.
    pub fn load(bytes: &[u8]) -> Result<Self, BadSnapshot> {
        let mut loaded = Self::default();
        let mut reader = Reader::open(bytes)?;
        while !reader.is_at_end() {
            let mut section = reader.section().ok_or(BadSnapshot::Malformed { part: "sections" })?;
            let body = &mut section.body;
            let (part, read) = match (section.tag, section.version) {
                (HOST, VERSION) => ("host", loaded.load_host(body)),
                (PACKAGES, VERSION) => ("packages", loaded.load_packages(body)),
                (RPM, VERSION) => ("packages of rpm", loaded.load_rpms(body)),
                (FILES, VERSION) => ("files", loaded.load_files(body)),
                // Another version's: that part begins anew.
                _ => continue,
            };
            read.ok_or(BadSnapshot::Malformed { part })?;
        }
        Ok(loaded)
    }

    fn load_host(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let boot = BootId(reader.bytes()?.try_into().ok()?);
        self.host = Some((boot, reader.str()?.to_owned()));
        Some(())
    }

    fn load_packages(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.packages = reader.option(load_names)?;
        self.opaque = reader.option(|reader| Some((reader.u64()?, reader.i64()?)))?;
        Some(())
    }

    fn load_rpms(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.rpms = Some(load_names(reader)?);
        Some(())
    }

    fn load_files(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        for _ in 0..reader.len()? {
            self.patterns.push(reader.str()?.to_owned());
        }
        let mut files = BTreeMap::new();
        for _ in 0..reader.len()?.min(2 * FILES_MAX) {
            let path = reader.bytes()?.to_vec();
            let (size, written_ns, changed_ns) = (reader.u64()?, reader.i64()?, reader.i64()?);
            let hash = reader.option(|reader| reader.bytes()?.try_into().ok())?;
            files.insert(path, FileMark { size, written_ns, changed_ns, hash });
        }
        self.files = Some(files);
        Some(())
    }
}

fn save_packages(writer: &mut Writer, packages: &BTreeMap<String, String>) {
    writer.len(packages.len());
    for (name, version) in packages {
        writer.str(name);
        writer.str(version);
    }
}

fn load_names(reader: &mut Reader<'_>) -> Option<BTreeMap<String, String>> {
    let one = |reader: &mut Reader<'_>| Some((reader.str()?.to_owned(), reader.str()?.to_owned()));
    (0..reader.len()?.min(dpkg::PACKAGES_MAX)).map(|_| one(reader)).collect()
}

fn package(
    kind: ChangeKind,
    name: &str,
    (from, to): (Option<&str>, Option<&str>),
    history: &[u8],
    (at_ms, now_ms): (i64, i64),
) -> Change {
    let change = Change::new(kind, name, at_ms.min(now_ms), now_ms).between(from, to);
    match dpkg::author(history, name, to.or(from).unwrap_or_default()) {
        Some((by, command)) => change.done_by(&by, &command),
        None => change,
    }
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/") || folder.ends_with(b"/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packages(list: &[(&str, &str)]) -> BTreeMap<String, Stand> {
        let stand = |version: &str| match version {
            "" => Stand::Between,
            version => Stand::Installed(version.to_owned()),
        };
        list.iter().map(|(name, version)| ((*name).to_owned(), stand(version))).collect()
    }

    fn walk(list: &[(&str, u8)]) -> Walk {
        let at = |byte: u8| i64::from(byte);
        let mark = |byte: u8| FileMark { size: 1, written_ns: at(byte), changed_ns: at(byte), hash: Some([byte; 32]) };
        let files = list.iter().map(|(path, byte)| (path.as_bytes().to_vec(), mark(*byte))).collect();
        Walk { files, ..Walk::default() }
    }

    fn said(changes: Vec<Change>) -> Vec<(&'static str, String)> {
        changes.into_iter().map(|change| (change.kind.as_str(), change.subject)).collect()
    }

    #[test]
    fn packages_are_told_when_dpkg_is_done_with_them() {
        let mut host = Baseline::default();
        let mut look = |list: &[(&str, &str)]| host.packages(PackagesOf::Dpkg, &packages(list), b"", 5, 9);
        assert_eq!(look(&[("a", "1"), ("b", "1"), ("c", "1")]), [], "the first look is the beginning");
        assert_eq!(look(&[("a", ""), ("b", "1"), ("c", "1"), ("d", "")]), []);
        let told = look(&[("a", "2"), ("b", "1"), ("d", "1")]);
        let want = [("package.upgraded", "a"), ("package.installed", "d"), ("package.removed", "c")];
        assert_eq!(said(told.clone()), want.map(|(kind, name)| (kind, name.to_owned())));
        assert_eq!((told[0].from.as_deref(), told[0].to.as_deref()), (Some("1"), Some("2")));
        assert_eq!((told[0].at_ms, told[0].seen_ms, &told[0].by), (5, 9, &None));
        let history = b"Commandline: apt-get install a\nRequested-By: jane (1000)\nUpgrade: a:amd64 (2, 3)\n";
        let told = host.packages(PackagesOf::Dpkg, &packages(&[("a", "3"), ("b", "1"), ("d", "1")]), history, 5, 9);
        assert_eq!((told[0].by.as_deref(), told[0].text.as_str()), (Some("jane"), "apt-get install a"));
    }

    #[test]
    fn packages_of_dpkg_and_of_rpm_are_told_apart() {
        let mut host = Baseline::default();
        assert_eq!(host.packages(PackagesOf::Dpkg, &packages(&[("a", "1")]), b"", 5, 9), []);
        assert!(!host.knows(PackagesOf::Rpm));
        assert_eq!(host.packages(PackagesOf::Rpm, &packages(&[("a", "7")]), b"", 5, 9), []);
        assert!(host.knows(PackagesOf::Rpm));
        assert_eq!(host.packages(PackagesOf::Dpkg, &packages(&[("a", "1")]), b"", 5, 9), []);
        let told = host.packages(PackagesOf::Rpm, &packages(&[("a", "8")]), b"", 5, 9);
        assert_eq!((told[0].from.as_deref(), told[0].to.as_deref()), (Some("7"), Some("8")));
    }

    #[test]
    fn files_that_cannot_be_seen_now_are_not_gone() {
        let mut host = Baseline::default();
        let patterns = ["/etc/*".to_owned()];
        assert_eq!(host.files(&patterns, walk(&[("/etc/a", 1), ("/etc/x/b", 1), ("/etc/xy", 1)]), 9), []);
        let unread = Walk { unread: vec![b"/etc/x".to_vec()], ..walk(&[("/etc/a", 2)]) };
        let told = said(host.files(&patterns, unread, 9));
        assert_eq!(told, [("file.changed", "/etc/a".to_owned()), ("file.removed", "/etc/xy".to_owned())]);
        assert_eq!(host.files(&patterns, Walk { is_cut: true, ..walk(&[]) }, 9), []);
        let told = said(host.files(&patterns, walk(&[("/etc/c", 1)]), 9));
        let want = [("file.added", "/etc/c"), ("file.removed", "/etc/a"), ("file.removed", "/etc/x/b")];
        assert_eq!(told, want.map(|(kind, path)| (kind, path.to_owned())));
        assert_eq!(host.files(&["/srv/*".to_owned()], walk(&[("/srv/a", 1)]), 9), [], "other patterns begin anew");
    }

    #[test]
    fn a_boot_and_another_kernel_are_told_once() {
        let mut host = Baseline::default();
        assert_eq!(host.started(BootId([1; 16]), "6.1.0-9", 1, 9), []);
        let mut host = Baseline::load(&host.save()).unwrap();
        assert_eq!(host.started(BootId([1; 16]), "6.1.0-9", 1, 9), []);
        let told = said(host.started(BootId([2; 16]), "6.1.0-10", 5, 9));
        assert_eq!(told, [("host.booted", "6.1.0-10".to_owned()), ("kernel.changed", "kernel".to_owned())]);
    }

    #[test]
    fn a_database_that_cannot_be_read_is_told_to_have_changed() {
        let mut host = Baseline::default();
        assert_eq!(host.opaque("rpm", 10, 1, 9), []);
        assert_eq!(host.opaque("rpm", 10, 1, 9), []);
        assert_eq!(said(host.opaque("rpm", 12, 5, 9)), [("packages.changed", "rpm".to_owned())]);
    }

    #[test]
    fn what_is_known_survives_a_restart() {
        let mut host = Baseline::default();
        host.started(BootId([7; 16]), "6.1", 1, 9);
        host.packages(PackagesOf::Dpkg, &packages(&[("a", "1")]), b"", 5, 9);
        host.packages(PackagesOf::Rpm, &packages(&[("b", "1")]), b"", 5, 9);
        host.opaque("rpm", 10, 1, 9);
        host.files(&["/etc/*".to_owned()], walk(&[("/etc/a", 1)]), 9);
        let bytes = host.save();
        assert_eq!(Baseline::load(&bytes).unwrap(), host);
        for at in 0..bytes.len() {
            assert!(Baseline::load(&bytes[..at]).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_told_leads_from_one_look_to_the_next(
            before in prop::collection::btree_map("[a-f]", 0u8..3, 0..6),
            after in prop::collection::btree_map("[a-f]", 0u8..3, 0..6),
        ) {
            let seen = |files: &BTreeMap<String, u8>| {
                walk(&files.iter().map(|(path, byte)| (path.as_str(), *byte)).collect::<Vec<_>>())
            };
            let mut host = Baseline::default();
            host.files(&[], seen(&before), 1);
            let mut now = before;
            for change in host.files(&[], seen(&after), 1) {
                match change.kind {
                    ChangeKind::FileRemoved => prop_assert!(now.remove(&change.subject).is_some()),
                    kind => {
                        let was = now.insert(change.subject.clone(), after[&change.subject]);
                        prop_assert_eq!(was.is_none(), kind == ChangeKind::FileAdded);
                    }
                }
            }
            prop_assert_eq!(now, after);
        }
    }
}
