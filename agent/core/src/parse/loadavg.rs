//! `/proc/loadavg`: load averages.

use super::{At, ParseError, words};
use crate::sample::LoadAverage;

/// Parses the file.
///
/// # Errors
/// Where one of the three averages is missing or no number.
pub fn parse(bytes: &[u8]) -> Result<LoadAverage, ParseError> {
    let at = At { file: "loadavg", line: 1 };
    let mut words = words(bytes);
    let mut next = |field| at.number(field, words.next());
    Ok(LoadAverage { one: next("1 min")?, five: next("5 min")?, fifteen: next("15 min")? })
}

/// Threads and processes of the machine: what stands behind the `/` of the fourth word.
///
/// # Errors
/// Where that is missing or no number.
pub fn tasks(bytes: &[u8]) -> Result<u64, ParseError> {
    let at = At { file: "loadavg", line: 1 };
    let word = words(bytes).nth(3).and_then(|word| word.split(|byte| *byte == b'/').nth(1));
    at.number("tasks", word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_kernel_writes() {
        let load = parse(include_bytes!("fixtures/loadavg.6.18.txt")).unwrap();
        assert!(load.one > 0.0 && load.fifteen > 0.0);
        assert_eq!(tasks(include_bytes!("fixtures/loadavg.6.1.txt")).unwrap(), 58);
        assert_eq!(parse(include_bytes!("fixtures/loadavg.6.1.txt")).unwrap().one, 0.0);
        assert_eq!(parse(b"0.00 0.01 12.50 1/99 1234\n").unwrap().fifteen, 12.5);
        assert!(tasks(include_bytes!("fixtures/loadavg.6.18.txt")).unwrap() > 0);
        assert_eq!(tasks(b"0.00 0.01 12.50 1/99 1234\n").unwrap(), 99);
    }

    #[test]
    fn tasks_are_missing_where_they_are() {
        for text in [&b"0.00 0.01 12.50"[..], b"0.00 0.01 12.50 99 1234\n", b"0.00 0.01 12.50 1/x 1234\n"] {
            assert_eq!(tasks(text).unwrap_err().field, "tasks");
        }
    }

    #[test]
    fn refuses_two_averages() {
        assert_eq!(parse(b"0.00 0.01").unwrap_err().field, "15 min");
    }
}
