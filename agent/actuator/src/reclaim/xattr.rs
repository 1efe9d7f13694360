//! Extended attributes of a file that is taken: read before, written back on undo.
//!
//! Those that say who may read a file (`system.posix_acl_access`, `security.selinux`) and those of users. What needs rights
//! that the actuator does not have (`trusted.*`, file capabilities) is left out.

use std::fs::File;
use std::io;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

use super::manifest::Xattr;

/// Most bytes of one value, and of all names: what the kernel allows.
const BYTES_MAX: usize = 64 << 10;

/// Most attributes kept of one file.
const COUNT_MAX: usize = 64;

/// Reads the attributes of an open file; none where the filesystem has none.
#[must_use]
pub fn read(file: &File) -> Vec<Xattr> {
    let mut names = vec![0; BYTES_MAX];
    let Ok(len) = flistxattr(file, &mut names[..]) else { return Vec::new() };
    let names = names[..len].split(|byte| *byte == 0).filter(|name| is_kept(name));
    names.take(COUNT_MAX).filter_map(|name| Some((name.to_vec(), value(file, name)?))).collect()
}

fn value(file: &File, name: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; BYTES_MAX];
    let len = fgetxattr(file, name, &mut bytes[..]).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

/// Writes attributes to a file that is being brought back.
///
/// # Errors
/// What the kernel says. A filesystem without attributes takes the file without them.
pub fn write(file: &File, xattrs: &[Xattr]) -> io::Result<()> {
    for (name, value) in xattrs {
        match fsetxattr(file, &name[..], value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"system.posix_acl_access" || name == b"security.selinux"
}
