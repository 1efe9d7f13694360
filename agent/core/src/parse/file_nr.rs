//! `/proc/sys/fs/file-nr`: open files of the whole machine.

use super::{At, ParseError, words};
use crate::sample::FileHandles;

/// Parses the file: allocated, unused (always 0 since Linux 2.6), maximum.
///
/// # Errors
/// Where a number is missing or none.
pub fn parse(bytes: &[u8]) -> Result<FileHandles, ParseError> {
    let at = At { file: "file-nr", line: 1 };
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut words = words(line);
    let allocated = at.number("allocated", words.next())?;
    words.next();
    Ok(FileHandles { allocated, maximum: at.number("maximum", words.next())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_numbers_between_tabs() {
        assert_eq!(parse(b"706\t0\t2466177\n"), Ok(FileHandles { allocated: 706, maximum: 2_466_177 }));
        // Where systemd raised the limit to the most that there is.
        assert_eq!(parse(b"1\t0\t9223372036854775807\n").unwrap().maximum, i64::MAX as u64);
        assert_eq!(parse(b"706\t0\n").unwrap_err().field, "maximum");
    }
}
