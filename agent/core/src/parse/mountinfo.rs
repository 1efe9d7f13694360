//! `/proc/self/mountinfo`: what is mounted where.

use super::{At, ParseError, lines, words};
use crate::subject::PathBytes;

/// Filesystems that another machine answers for; those of a program (`fuse`) may be that too. Who asks them may wait for ever.
pub const REMOTE_TYPES: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
    "virtiofs",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id in this mount namespace.
    pub id: u64,
    /// The mount that it is mounted on.
    pub parent: u64,
    /// Device number of the filesystem: the same for bind mounts of one filesystem.
    pub device_number: (u32, u32),
    /// The folder within the filesystem that is mounted here: `/` unless it is a bind mount.
    pub root: PathBytes,
    /// Where.
    pub mount_point: PathBytes,
    /// Its type (`ext4`, `fuse.sshfs`).
    pub fstype: String,
    /// What is mounted.
    pub source: PathBytes,
    /// Whether this mount or the whole filesystem is read-only.
    pub read_only: bool,
}

impl Mount {
    /// Whether another machine or a program answers for it, so that asking it may never end.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.fstype.starts_with("fuse") || REMOTE_TYPES.contains(&self.fstype.as_str())
    }
}

/// Parses the file. Paths come without the kernel's escapes (`\040` for a space).
///
/// # Errors
/// Where a line lacks a field, or a number is none.
pub fn parse(bytes: &[u8]) -> Result<Vec<Mount>, ParseError> {
    lines(bytes).map(|(line, text)| mount(At { file: "mountinfo", line }, text)).collect()
}

fn mount(at: At, text: &[u8]) -> Result<Mount, ParseError> {
    // `22 27 0:21 /root /point rw,opts shared:1 master:2 - fstype source rw,super_opts`
    let mut words = words(text);
    let id = at.number("mount id", words.next())?;
    let parent = at.number("parent id", words.next())?;
    let device = words.next().ok_or_else(|| at.missing("device"))?;
    let colon = device.iter().position(|b| *b == b':').ok_or_else(|| at.missing("device"))?;
    let device_number =
        (at.number("device", Some(&device[..colon]))?, at.number("device", Some(&device[colon + 1..]))?);
    let root = unescape(words.next().ok_or_else(|| at.missing("root"))?);
    let mount_point = unescape(words.next().ok_or_else(|| at.missing("mount point"))?);
    let options = words.next().ok_or_else(|| at.missing("options"))?;
    words.find(|word| *word == b"-").ok_or_else(|| at.missing("separator"))?;
    let fstype = unescape(words.next().ok_or_else(|| at.missing("fstype"))?);
    // An empty source is written as nothing at all, so that the options follow at once.
    let first = words.next().ok_or_else(|| at.missing("source"))?;
    let (source, super_options) = match words.next() {
        Some(options) => (unescape(first), options),
        None => (PathBytes::default(), first),
    };
    Ok(Mount {
        id,
        parent,
        device_number,
        root,
        mount_point,
        fstype: String::from_utf8_lossy(&fstype.0).into_owned(),
        source,
        read_only: is_read_only(options) || is_read_only(super_options),
    })
}

fn is_read_only(options: &[u8]) -> bool {
    options.split(|b| *b == b',').any(|option| option == b"ro")
}

/// Undoes the kernel's octal escapes of space, tab, newline, backslash and hash.
fn unescape(escaped: &[u8]) -> PathBytes {
    let mut path = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&first, after)) = rest.split_first() {
        let octal = |b: u8| (b'0'..=b'7').contains(&b).then(|| u32::from(b - b'0'));
        let code = match (first, after) {
            (b'\\', [a, b, c, ..]) => match (octal(*a), octal(*b), octal(*c)) {
                (Some(a), Some(b), Some(c)) => u8::try_from(a * 64 + b * 8 + c).ok(),
                _ => None,
            },
            _ => None,
        };
        path.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBytes(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_kernel_of_debian_12_writes() {
        let mounts = parse(include_bytes!("fixtures/mountinfo.6.1.txt")).unwrap();
        assert_eq!(mounts.len(), 6);
        let last = &mounts[5];
        assert_eq!((last.mount_point.0.as_slice(), last.fstype.as_str()), (b"/mnt".as_slice(), "ext4"));
        assert_eq!((last.id, last.device_number, last.read_only), (26, (254, 0), false));
    }

    #[test]
    fn reads_mounts_with_escapes_and_optional_fields() {
        let mounts = parse(include_bytes!("fixtures/mountinfo.txt")).unwrap();
        let at = |point: &[u8]| mounts.iter().find(|mount| mount.mount_point.0 == point).unwrap();
        assert_eq!((at(b"/").fstype.as_str(), at(b"/").device_number), ("ext4", (254, 0)));
        assert_eq!(at(b"/").source, PathBytes::from("/dev/vda"));
        assert!(!at(b"/").read_only);
        assert_eq!(at(b"/mnt/my disk\tone").source, PathBytes::from("/dev/disk#1"));
        assert!(at(b"/mnt/ro").read_only, "the mount is read-only");
        assert!(at(b"/mnt/broken").read_only, "the filesystem went read-only after an error");
        assert_eq!(at(b"/srv/data").root, PathBytes::from("/data"), "a bind mount");
        assert_eq!(at(b"/mnt/\xff\xfe").fstype, "xfs");
        assert_eq!(at(b"/mnt/nameless").source, PathBytes::default());
        assert!(!at(b"/").is_remote());
        assert!(
            ["nfs4", "fuse.sshfs", "fuseblk"]
                .map(str::to_owned)
                .into_iter()
                .all(|fstype| { Mount { fstype, ..at(b"/").clone() }.is_remote() })
        );
    }

    #[test]
    fn leaves_a_backslash_that_is_no_escape() {
        for (escaped, plain) in [(r"a\040b", "a b"), (r"a\134040", r"a\040"), (r"a\9", r"a\9"), (r"a\", r"a\")] {
            assert_eq!(unescape(escaped.as_bytes()), PathBytes::from(plain));
        }
        assert_eq!(unescape(br"\777"), PathBytes::from(r"\777"), "more than a byte holds");
    }

    #[test]
    fn names_the_line_and_the_field_that_is_missing() {
        let error = parse(b"22 27 0:21 / /proc rw - proc proc rw\n23 27 0:22 / /sys rw\n").unwrap_err();
        assert_eq!((error.line, error.field), (2, "separator"));
    }
}
