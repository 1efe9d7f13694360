//! dpkg's database of packages, and apt's history of who asked for what.
//!
//! In: the bytes of `/var/lib/dpkg/status` and of `/var/log/apt/history.log`. Out: which packages are installed in which
//! version. While dpkg works a package is neither here nor there: then what was known of it still holds.

use std::collections::BTreeMap;

use super::named;

/// Most packages that are told apart.
pub const PACKAGES_MAX: usize = 20_000;

/// What dpkg says of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// It is installed in this version.
    Installed(String),
    /// It is being unpacked, configured or removed.
    Between,
}

/// Packages by name; those of another architecture than dpkg's own as `name:arch`. What is not installed is not there.
#[must_use]
pub fn packages(status: &[u8]) -> BTreeMap<String, Stand> {
    let mut found = Vec::new();
    let mut native = String::new();
    for paragraph in (Paragraphs { rest: status }) {
        let Some((name, arch, stand)) = package(paragraph) else { continue };
        if name == "dpkg" {
            arch.clone_into(&mut native);
        }
        if found.len() < PACKAGES_MAX {
            found.push((name.to_owned(), arch.to_owned(), stand));
        }
    }
    let one = |(name, arch, stand): (String, String, Stand)| (named(&name, &arch, &native, ':'), stand);
    found.into_iter().map(one).collect()
}

fn package(paragraph: &[u8]) -> Option<(&str, &str, Stand)> {
    let (mut name, mut arch, mut version, mut status) = ("", "", "", "");
    for line in paragraph.split(|b| *b == b'\n') {
        for (field, to) in [
            ("Package: ", &mut name),
            ("Architecture: ", &mut arch),
            ("Version: ", &mut version),
            ("Status: ", &mut status),
        ] {
            if let Some(value) = line.strip_prefix(field.as_bytes()) {
                *to = std::str::from_utf8(value).ok()?.trim();
            }
        }
    }
    // "install ok installed": what is wanted, whether it is broken, what it is.
    let stand = match status.rsplit(' ').next()? {
        "installed" | "triggers-pending" | "triggers-awaited" => Stand::Installed(version.to_owned()),
        "unpacked" | "half-configured" | "half-installed" => Stand::Between,
        _ => return None,
    };
    (!name.is_empty()).then_some((name, arch, stand))
}

/// Who had apt do something to a package in this version, and with which command: by the latest entry of the history
/// that names both.
#[must_use]
pub fn author(history: &[u8], package: &str, version: &str) -> Option<(String, String)> {
    let mut latest = None;
    for paragraph in (Paragraphs { rest: history }) {
        let text = String::from_utf8_lossy(paragraph);
        if !text.lines().any(|line| names(line, package, version)) {
            continue;
        }
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        // "Requested-By: jane (1000)" stands there unless root itself asked.
        let by = field("Requested-By: ").and_then(|by| by.split(' ').next()).unwrap_or("root");
        latest = Some((by.to_owned(), field("Commandline: ").unwrap_or_default().to_owned()));
    }
    latest
}

/// Whether a line of the history is about a package in a version: `Upgrade: nginx:amd64 (1.22.0, 1.22.1), …`.
fn names(line: &str, package: &str, version: &str) -> bool {
    let kinds = ["Install: ", "Upgrade: ", "Downgrade: ", "Remove: ", "Purge: ", "Reinstall: "];
    let Some(list) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else { return false };
    list.split(')').any(|one| {
        let Some((name, versions)) = one.trim_start_matches([',', ' ']).split_once(" (") else { return false };
        let is_it = name == package || name.split_once(':').is_some_and(|(bare, _)| bare == package);
        is_it && versions.split(", ").any(|one| one == version)
    })
}

/// Paragraphs of a file, which empty lines stand between.
struct Paragraphs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.windows(2).position(|two| two == b"\n\n").unwrap_or(self.rest.len());
        let paragraph = &self.rest[..end];
        self.rest = self.rest.get(end + 2..).unwrap_or_default();
        Some(paragraph)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &str = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21\n\n\
        Package: nginx\nStatus: install ok installed\nPriority: optional\nArchitecture: amd64\nVersion: 1.22.1-9\n\
        Description: small\n a server\n\n\
        Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36-9\n\n\
        Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
        Package: half\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 3\n";

    #[test]
    fn what_is_installed_is_told_from_what_is_not_and_what_is_being_done() {
        let found = packages(STATUS.as_bytes());
        let installed = |version: &str| Stand::Installed(version.to_owned());
        let want = BTreeMap::from([
            ("dpkg".to_owned(), installed("1.21")),
            ("nginx".to_owned(), installed("1.22.1-9")),
            ("libc6:i386".to_owned(), installed("2.36-9")),
            ("half".to_owned(), Stand::Between),
        ]);
        assert_eq!(found, want);
    }

    #[test]
    fn the_history_knows_who_asked() {
        let history = b"\nStart-Date: 2026-01-02  10:00:00\nCommandline: apt-get install nginx\nRequested-By: jane (1000)\n\
            Install: nginx:amd64 (1.22.1-9), nginx-common:amd64 (1.22.1-9, automatic)\nEnd-Date: 2026-01-02  10:00:05\n\n\
            Start-Date: 2026-01-03  10:00:00\nCommandline: apt-get upgrade\nUpgrade: nginx:amd64 (1.22.1-9, 1.22.1-10)\n\
            End-Date: 2026-01-03  10:00:05\n";
        let by = |package, version| author(history, package, version).map(|(by, _)| by);
        assert_eq!(by("nginx-common", "1.22.1-9").as_deref(), Some("jane"));
        assert_eq!(
            author(history, "nginx", "1.22.1-10"),
            Some(("root".to_owned(), "apt-get upgrade".to_owned())),
            "no name: root itself"
        );
        assert_eq!(by("nginx", "1.22.2"), None, "another one has installed that");
        assert_eq!(by("ngin", "1.22.1-9"), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[A-Za-z:,() \n.-]{0,200}") {
            let _ = packages(&bytes);
            let _ = packages(text.as_bytes());
            let _ = author(&bytes, "a", "1");
            let _ = author(format!("Install: {text}").as_bytes(), "a", "1");
        }
    }
}
