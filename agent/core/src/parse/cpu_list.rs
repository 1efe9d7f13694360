//! `/sys/devices/system/cpu/isolated` and its like: a list of CPUs such as `0-3,8`.

use super::{At, ParseError};

/// Most CPUs of a list: twice what Linux can be built for.
const CPUS_MAX: usize = 16_384;

/// Parses the list; an empty one names no CPU.
///
/// # Errors
/// Where an item is neither a number nor a range, or names more CPUs than there can be.
pub fn parse(bytes: &[u8]) -> Result<Vec<u32>, ParseError> {
    let at = At { file: "cpu list", line: 1 };
    let mut cpus = Vec::new();
    for item in bytes.trim_ascii().split(|b| *b == b',').filter(|item| !item.is_empty()) {
        let mut ends = item.splitn(2, |b| *b == b'-');
        let first: u32 = at.number("cpu", ends.next())?;
        let last = ends.next().map_or(Ok(first), |last| at.number("cpu", Some(last)))?;
        let count = last.checked_sub(first).and_then(|more| usize::try_from(more).ok()).unwrap_or(usize::MAX);
        if count >= CPUS_MAX - cpus.len().min(CPUS_MAX) {
            return Err(at.wrong("cpu", item));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_ranges() {
        assert_eq!(parse(b"0-2,8,10-11\n").unwrap(), [0, 1, 2, 8, 10, 11]);
        assert!(parse(b"\n").unwrap().is_empty());
    }

    #[test]
    fn refuses_what_no_kernel_writes() {
        for text in ["x", "3-1", "0-4000000000", "1,,2-y"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
