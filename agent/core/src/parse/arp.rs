//! `/proc/net/arp`: the neighbours that IPv4 knows.

use std::collections::BTreeMap;

use super::{At, ParseError, lines, words};

/// Columns before the device: address, hardware type, flags, hardware address, mask.
const COLUMNS_BEFORE_DEVICE: usize = 5;

/// Counts the entries of every device.
///
/// # Errors
/// Where a line has too few columns.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<&str, u64>, ParseError> {
    let mut entries = BTreeMap::new();
    for (line, text) in lines(bytes).filter(|(line, _)| *line > 1) {
        let at = At { file: "net/arp", line };
        let device = at.text("device", words(text).nth(COLUMNS_BEFORE_DEVICE))?;
        *entries.entry(device).or_default() += 1;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_complete_and_incomplete_entries_by_device() {
        let entries = parse(include_bytes!("fixtures/arp.txt")).unwrap();
        assert_eq!(entries, BTreeMap::from([("br0", 1), ("eth0", 2)]));
        assert_eq!(parse(include_bytes!("fixtures/arp.5.10.txt")).unwrap(), BTreeMap::from([("dummy0", 1)]));
        assert!(parse(b"IP address HW type\n").unwrap().is_empty());
    }

    #[test]
    fn names_the_line_that_is_cut() {
        let error = parse(b"head\n192.0.2.1 0x1 0x2\n").unwrap_err();
        assert_eq!((error.line, error.field), (2, "device"));
    }
}
