//! What rpm says is installed.
//!
//! rpm's database takes rpm to read, so that it is asked: `rpm -qa` with [`FORMAT`]. Out: packages by name, as of dpkg.

use std::collections::BTreeMap;

use super::dpkg::{PACKAGES_MAX, Stand};
use super::named;

/// What a line says of a package.
pub const FORMAT: &str = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{ARCH}\n";

/// Keys that packages are signed with stand among them.
const KEY: &str = "gpg-pubkey";

/// Packages by name; those of another architecture than most of them as `name.arch`. Of one that is there in several versions, as
/// kernels are, all of them stand in one text. `None` where it is not what [`FORMAT`] gives, or too much.
#[must_use]
pub fn packages(said: &[u8]) -> Option<BTreeMap<String, Stand>> {
    let said = std::str::from_utf8(said).ok()?;
    let mut found: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for line in said.lines() {
        let mut parts = line.split('\t');
        let (name, version, arch) = (parts.next()?, parts.next()?, parts.next()?);
        if name.is_empty() || parts.next().is_some() {
            return None;
        }
        if name != KEY {
            found.entry((name, arch)).or_default().push(version);
        }
    }
    if found.len() > PACKAGES_MAX {
        return None;
    }
    // The host's own architecture is that of most of its packages; rpm itself need not be among them.
    let mut by_arch: BTreeMap<&str, usize> = BTreeMap::new();
    found.keys().filter(|(_, arch)| *arch != "noarch").for_each(|(_, arch)| *by_arch.entry(arch).or_default() += 1);
    let native = by_arch.into_iter().max_by_key(|(_, packages)| *packages).map_or("", |(arch, _)| arch);
    let one = |((name, arch), mut versions): ((&str, &str), Vec<&str>)| {
        versions.sort_unstable();
        (named(name, arch, native, '.'), Stand::Installed(versions.join(" ")))
    };
    Some(found.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_installed_is_read_by_name() {
        let said = "rpm\t4.18.0-1\tx86_64\nbash\t5.2-3\tx86_64\nglibc\t2.38-1\ti686\ntzdata\t2:2024a-1\tnoarch\n\
            kernel\t6.9.1-2\tx86_64\nkernel\t6.8.0-1\tx86_64\ngpg-pubkey\tabc-1\t(none)\n";
        let installed = |version: &str| Stand::Installed(version.to_owned());
        let want = BTreeMap::from([
            ("rpm".to_owned(), installed("4.18.0-1")),
            ("bash".to_owned(), installed("5.2-3")),
            ("glibc.i686".to_owned(), installed("2.38-1")),
            ("tzdata".to_owned(), installed("2:2024a-1")),
            ("kernel".to_owned(), installed("6.8.0-1 6.9.1-2")),
        ]);
        assert_eq!(packages(said.as_bytes()), Some(want));
        assert_eq!(packages(b""), Some(BTreeMap::new()));
        let alone = packages(b"bash\t5.2-3\taarch64\ntzdata\t1\tnoarch\n").unwrap();
        assert!(alone.keys().eq(["bash", "tzdata"]), "{alone:?}");
    }

    #[test]
    fn what_is_no_list_is_none() {
        for other in ["error: cannot open Packages database\n", "a\t1\n", "\t1\tx86_64\n", "a\t1\tx\ty\n"] {
            assert_eq!(packages(other.as_bytes()), None, "{other:?}");
        }
        let many: String = (0..=PACKAGES_MAX).map(|n| format!("p{n}\t1\tnoarch\n")).collect();
        assert_eq!(packages(many.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = packages(&bytes);
        }
    }
}
