//! `/sys/fs/xfs/*/stats/stats`: statistics of an XFS filesystem.

use std::collections::BTreeMap;

use super::{At, ParseError, lines, words};

/// Parses the file: by group (`extent_alloc`), its counters.
///
/// # Errors
/// Where a counter is no number.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<&str, Vec<u64>>, ParseError> {
    let mut groups = BTreeMap::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "xfs stats", line };
        let mut words = words(text);
        let group = at.text("group", words.next())?;
        groups.insert(group, words.map(|word| at.number("counter", Some(word))).collect::<Result<_, _>>()?);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_counters_of_every_group() {
        let groups = parse(include_bytes!("fixtures/xfs.txt")).unwrap();
        assert_eq!(groups["extent_alloc"], [1, 2, 3, 4]);
        assert_eq!(groups["rw"], [28, 27]);
        assert_eq!(parse(b"rw 1 x\n").unwrap_err().field, "counter");
    }
}
