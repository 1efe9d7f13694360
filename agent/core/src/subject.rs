//! What a finding or an action is about.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::ordered::Adopt;

/// Longest unit name that systemd takes, suffix included.
const UNIT_NAME_BYTES_MAX: usize = 255;

/// The suffixes of the unit types that exist.
const UNIT_SUFFIXES: [&str; 11] = [
    ".service",
    ".socket",
    ".target",
    ".timer",
    ".mount",
    ".automount",
    ".swap",
    ".path",
    ".slice",
    ".scope",
    ".device",
];

/// The name of a systemd unit, such as `nginx.service`: checked against systemd's own rules, so
/// that it can stand in a D-Bus call, a path below the cgroup tree or a log line as it is.
///
/// A dozen detectors know every unit and ask for it in every sample, so that copies share their text, and are known to be
/// the same without a look at it.
#[derive(Debug, Clone)]
pub struct UnitName(Arc<str>);

impl PartialEq for UnitName {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for UnitName {}

impl PartialOrd for UnitName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnitName {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl Hash for UnitName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Adopt for UnitName {
    fn adopt(&mut self, same: &Self) {
        if !Arc::ptr_eq(&self.0, &same.0) {
            self.0 = Arc::clone(&same.0);
        }
    }
}

impl UnitName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is no unit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a unit name (expected letters, digits and :-_.\\@ with a type, such as nginx.service)")]
pub struct BadUnitName(pub String);

impl FromStr for UnitName {
    type Err = BadUnitName;

    fn from_str(text: &str) -> Result<Self, BadUnitName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        let typed = UNIT_SUFFIXES.iter().any(|suffix| text.len() > suffix.len() && text.ends_with(suffix));
        if typed && text.len() <= UNIT_NAME_BYTES_MAX && text.bytes().all(allowed) && !text.starts_with('.') {
            Ok(Self(text.into()))
        } else {
            Err(BadUnitName(text.to_owned()))
        }
    }
}

/// A path as the kernel gives it: bytes, not text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PathBytes(pub Vec<u8>);

impl Adopt for PathBytes {}

impl From<&str> for PathBytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// What a finding or an action is about, on its host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The host as a whole.
    Host,
    /// A systemd unit.
    Unit(UnitName),
    /// A mounted filesystem, by its mount point.
    Mount(PathBytes),
    /// A block device, by its kernel name (`sda`).
    Disk(String),
    /// A network interface, by its kernel name (`eth0`).
    Interface(String),
    /// A series, by its name and labels as they are written in a query.
    Series(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Unit(unit) => unit.fmt(f),
            Self::Mount(path) => path.fmt(f),
            Self::Disk(name) => write!(f, "disk {name}"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Series(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_unit_names_that_systemd_takes() {
        for good in ["nginx.service", "app@7.service", "dev-sda1.device", r"home-a\x2db.mount"] {
            assert_eq!(good.parse::<UnitName>().unwrap().as_str(), good);
        }
        for bad in ["", "nginx", ".service", "a b.service", "../x.service", "nginx.service\n"] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
        assert!(format!("{}.service", "x".repeat(250)).parse::<UnitName>().is_err());
    }

    #[test]
    fn copies_of_a_unit_name_share_it_and_a_map_shares_that_of_whoever_asks() {
        let name = |text: &str| text.parse::<UnitName>().unwrap();
        let (a, again, b) = (name("a.service"), name("a.service"), name("b.service"));
        assert!(Arc::ptr_eq(&a.0, &a.clone().0) && !Arc::ptr_eq(&a.0, &again.0));
        assert!(
            a == again
                && a != b
                && a.cmp(&again).is_eq()
                && a < b
                && a.partial_cmp(&a.clone()) == Some(Ordering::Equal)
        );
        let hash = |name: &UnitName| {
            let mut hasher = std::hash::DefaultHasher::new();
            name.hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&a), hash(&again));
        let mut map = crate::ordered::Ordered::default();
        map.insert(a.clone(), 1);
        map.insert(b, 2);
        map.retain_among([&again].into_iter());
        let kept: Vec<_> = map.keys().collect();
        assert!(kept.len() == 1 && Arc::ptr_eq(&kept[0].0, &again.0), "{kept:?}");
    }
}
