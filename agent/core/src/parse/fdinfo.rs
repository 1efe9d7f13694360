//! `/proc/PID/fdinfo/FD`, of which only the mount is used.

use super::{ParseError, key_values};

/// The id of the mount that an open file lies on, as in `mountinfo`.
///
/// # Errors
/// Where it is missing, as before Linux 3.15, or no number.
pub fn mount_id(bytes: &[u8]) -> Result<u64, ParseError> {
    let [mount_id] = key_values("fdinfo", bytes, ["mnt_id"])?;
    Ok(mount_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_mount_with_and_without_the_inode() {
        assert_eq!(mount_id(b"pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"), Ok(29));
        assert_eq!(mount_id(include_bytes!("fixtures/fdinfo.6.18.txt")), Ok(27));
        assert_eq!(mount_id(include_bytes!("fixtures/fdinfo.6.1.txt")), Ok(1));
        assert!(mount_id(b"pos:\t0\n").is_err());
    }
}
