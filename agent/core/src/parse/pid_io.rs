//! `/proc/PID/io`, of which only what reached the disks is used.

use super::{ParseError, key_values};

/// Bytes that a process had read from disks, and written or to be written to them.
///
/// # Errors
/// Where one of them is missing or no number.
pub fn parse(bytes: &[u8]) -> Result<(u64, u64), ParseError> {
    let [read, written] = key_values("io", bytes, ["read_bytes", "write_bytes"])?;
    Ok((read, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_reached_the_disks_and_not_what_was_taken_back() {
        let (read, written) = parse(include_bytes!("fixtures/pid_io.6.18.txt")).unwrap();
        assert_eq!((read, written), (65536, 102400));
        assert_eq!(parse(include_bytes!("fixtures/pid_io.5.10.txt")), Ok((513_024, 19_660_800)));
        let text = b"rchar: 9\nwchar: 8\nsyscr: 7\nsyscw: 6\nread_bytes: 5\nwrite_bytes: 4\ncancelled_write_bytes: 3\n";
        assert_eq!(parse(text), Ok((5, 4)));
        assert_eq!(parse(b"rchar: 9\nread_bytes: 5\ncancelled_write_bytes: 3\n").unwrap_err().field, "write_bytes");
    }
}
