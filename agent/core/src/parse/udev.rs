//! `/run/udev/data/b*`: what udev found out about a block device.

use std::collections::BTreeMap;

/// The properties: lines that begin with `E:`. Others (links, priorities, tags) are skipped.
#[must_use]
pub fn properties(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_properties_and_nothing_else() {
        let properties = properties(b"S:disk/by-id/x\nI:42\nE:ID_MODEL=A=B\nE:ID_SERIAL_SHORT=S1\nE:\nG:systemd\n");
        assert_eq!(properties.len(), 2);
        assert_eq!((properties["ID_MODEL"].as_str(), properties["ID_SERIAL_SHORT"].as_str()), ("A=B", "S1"));
    }
}
