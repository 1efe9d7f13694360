//! The manifest: every file of a backup with its size and hash, as text that a person can read.
//!
//! Its last line is the hash of those before it. The CA is encrypted together with the hash of what stands before its
//! own line, so whoever has the key sees that nobody else has changed the list of the store's files.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::random::hex;

/// Its name in a backup.
pub const FILE: &str = "MANIFEST";
/// What it begins with; the number is its version.
const MAGIC: &str = "mainstay backup 1";
/// Most bytes of one: several hundred thousand files, of 64 MiB each.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest name of a file.
const NAME_BYTES_MAX: usize = 255;

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// SHA-256 over it.
    pub hash: [u8; 32],
    /// Its size.
    pub bytes: u64,
    /// When the store changed it last, in nanoseconds since 1970: tables are never changed, so one of the same name, size
    /// and time is the same.
    pub changed_ns: i64,
    /// Its name, without folders.
    pub name: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// When it was made.
    pub made_ms: i64,
    /// The version of the collector that made it.
    pub version: String,
    /// The fleet that it is of.
    pub fleet: [u8; 16],
    /// The store's files, by name.
    pub files: Vec<Entry>,
}

/// The manifest with the line for the CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The rest.
    pub manifest: Manifest,
    /// The encrypted CA.
    pub keys: Entry,
}

impl Manifest {
    /// The bytes of the store.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The store's file of a name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Entry> {
        let at = self.files.binary_search_by(|file| file.name.as_str().cmp(name)).ok()?;
        self.files.get(at)
    }

    /// What the CA is bound to.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.lines()).into()
    }

    fn lines(&self) -> String {
        let Self { made_ms, version, fleet, files } = self;
        let mut text = format!("{MAGIC}\nmade {made_ms}\nversion {version}\nfleet {}\n", hex(fleet));
        files.iter().for_each(|file| line(&mut text, "file", file));
        text
    }
}

impl Whole {
    /// The text of the file.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = self.manifest.lines();
        line(&mut text, "keys", &self.keys);
        let end = hex(&Sha256::digest(&text));
        text + "end " + &end + "\n"
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn read(text: &str) -> Result<Self, String> {
        let Some((body, end)) = text.strip_suffix('\n').and_then(|text| text.rsplit_once("\nend ")) else {
            return Err("it has no last line `end`: it was not written to its end".to_owned());
        };
        let body = &text[..=body.len()];
        if hex(&Sha256::digest(body)) != end {
            return Err("it does not match the hash in its last line: it was changed or damaged".to_owned());
        }
        let mut lines = (1..).zip(body.lines());
        let (_, first) = lines.next().ok_or_else(|| "it is empty".to_owned())?;
        if first != MAGIC {
            return Err(format!(
                "line 1: `{MAGIC}` is expected, not `{}`; is it of a newer version?",
                first.escape_debug()
            ));
        }
        let mut value = |key: &str| {
            let (no, line) = lines.next().ok_or_else(|| format!("`{key}` is missing"))?;
            let rest = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
            rest.map(|rest| (no, rest.to_owned())).ok_or_else(|| format!("line {no}: `{key}` is expected"))
        };
        let (no, made) = value("made")?;
        let made_ms = made.parse().map_err(|_| format!("line {no}: `made` is not a number"))?;
        let (_, version) = value("version")?;
        let (no, fleet) = value("fleet")?;
        let fleet = unhex(&fleet).ok_or_else(|| format!("line {no}: `fleet` is not 16 bytes in hex"))?;
        let (mut files, mut keys) = (Vec::<Entry>::new(), None);
        for (no, line) in lines {
            let (kind, entry) = entry(line).ok_or_else(|| format!("line {no}: a file is expected"))?;
            match kind {
                _ if keys.is_some() => return Err(format!("line {no}: `keys` is the last of the files")),
                "keys" => keys = Some(entry),
                "file" if files.last().is_none_or(|last| last.name < entry.name) => files.push(entry),
                "file" => return Err(format!("line {no}: the names of files are not in their order")),
                _ => return Err(format!("line {no}: `file` or `keys` is expected")),
            }
        }
        let keys = keys.ok_or_else(|| "the line `keys` is missing".to_owned())?;
        Ok(Self { manifest: Manifest { made_ms, version, fleet, files }, keys })
    }
}

fn line(text: &mut String, kind: &str, Entry { hash, bytes, changed_ns, name }: &Entry) {
    // Writing to a String never fails.
    let _ = writeln!(text, "{kind} {} {bytes} {changed_ns} {name}", hex(hash));
}

fn entry(line: &str) -> Option<(&str, Entry)> {
    let mut parts = line.splitn(5, ' ');
    let (kind, hash) = (parts.next()?, unhex(parts.next()?)?);
    let (bytes, changed_ns) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let name = parts.next()?.to_owned();
    // A name that leads elsewhere is none of ours.
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(good);
    fits.then_some((kind, Entry { hash, bytes, changed_ns, name }))
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(names: &[&str]) -> Whole {
        let entry = |n: u64, name: &str| {
            let changed_ns = n.cast_signed() - 1;
            Entry { hash: [u8::try_from(n).unwrap(); 32], bytes: n * 1_000, changed_ns, name: name.to_owned() }
        };
        let files = (0..).zip(names).map(|(n, name)| entry(n, name)).collect();
        let manifest = Manifest { made_ms: 1_800_000_000_000, version: "0.1.0".to_owned(), fleet: [0xab; 16], files };
        Whole { manifest, keys: entry(9, "keys.sealed") }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        for names in [&[][..], &["000001.sst"], &["000001.sst", "CURRENT", "MANIFEST-000005"]] {
            assert_eq!(Whole::read(&one(names).write()), Ok(one(names)));
        }
        let whole = one(&["000001.sst", "CURRENT"]);
        assert_eq!(whole.manifest.file("CURRENT").map(|file| file.bytes), Some(1_000));
        assert_eq!(whole.manifest.file("000002.sst"), None);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../ca.key", "/etc/passwd", ".hidden", "a b", ""] {
            let said = Whole::read(&one(&[name]).write()).unwrap_err();
            assert!(said.contains("line 5"), "{name}: {said}");
        }
        let said = Whole::read(&one(&["b", "a"]).write()).unwrap_err();
        assert!(said.contains("line 6") && said.contains("order"), "{said}");
    }

    #[test]
    fn what_is_cut_off_or_changed_is_seen() {
        let text = one(&["000001.sst", "CURRENT"]).write();
        for length in 0..text.len() {
            assert!(Whole::read(&text[..length]).is_err(), "cut at {length}");
        }
        let said = Whole::read(&text.replace("000001.sst", "000002.sst")).unwrap_err();
        assert!(said.contains("changed or damaged"), "{said}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in "\\PC{0,200}") {
            let _ = Whole::read(&text);
        }
    }
}
