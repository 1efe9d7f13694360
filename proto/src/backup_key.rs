//! The key that backups are encrypted with, as a line of text: made by the command line, read by it and by the collector.

use std::fmt::Write as _;

/// What the line begins with; the number is its version.
const PREFIX: &str = "mainstay-backup-key-1:";

/// The line.
#[must_use]
pub fn write(key: &[u8; 32]) -> String {
    key.iter().fold(PREFIX.to_owned(), |mut text, byte| {
        // Writing to a String never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The key in a line. White space around it does not count.
///
/// # Errors
/// If it is none.
pub fn read(text: &str) -> Result<[u8; 32], &'static str> {
    const NONE: &str = "this is no key for backups (`mainstay backup keygen` makes one)";
    let digits = text.trim().strip_prefix(PREFIX).filter(|digits| digits.len() == 64).ok_or(NONE)?;
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit =
            |at: usize| pair.get(at).and_then(|c| char::from(*c).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        *byte = digit(0).zip(digit(1)).map(|(high, low)| high << 4 | low).ok_or(NONE)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_nothing_else_is() {
        let mut key = [0; 32];
        (0..).zip(&mut key).for_each(|(n, byte)| *byte = n * 8 + 7);
        let line = write(&key);
        assert_eq!(read(&format!(" {line}\n")), Ok(key));
        for bad in [
            "",
            PREFIX,
            &line[..line.len() - 1],
            &line.replace("07", "0g"),
            &line.replace("-1:", "-2:"),
            &format!("{line}0"),
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
