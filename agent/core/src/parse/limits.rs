//! `/proc/PID/limits`: what one process may use at most.

use super::{At, ParseError, lines, words};

/// The line of the limit on open file descriptors begins so.
const OPEN_FILES: &[u8] = b"Max open files";

/// Parses the soft limit on open file descriptors, which is what counts; `None` where there is none.
///
/// # Errors
/// Where the line is missing or its limit is no number.
pub fn open_files(bytes: &[u8]) -> Result<Option<u64>, ParseError> {
    let mut last = 1;
    for (line, text) in lines(bytes) {
        last = line;
        if let Some(rest) = text.strip_prefix(OPEN_FILES) {
            let at = At { file: "limits", line };
            return match words(rest).next() {
                Some(b"unlimited") => Ok(None),
                soft => at.number("Max open files", soft).map(Some),
            };
        }
    }
    Err(At { file: "limits", line: last }.missing("Max open files"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_soft_limit() {
        assert_eq!(open_files(include_bytes!("fixtures/limits.6.18.txt")), Ok(Some(20_000)));
        assert_eq!(open_files(include_bytes!("fixtures/limits.6.1.txt")), Ok(Some(1_024)));
        assert_eq!(
            open_files(b"Max open files            unlimited            unlimited            files\n"),
            Ok(None)
        );
        assert_eq!(open_files(b"Max cpu time 1 1 seconds\n").unwrap_err().field, "Max open files");
        assert_eq!(open_files(b"Max open files  few  9 files\n").unwrap_err().got, Some("few".into()));
    }
}
