//! `/etc/os-release`: which system this is.

use std::collections::BTreeMap;

/// Parses `KEY=value` lines. Values may be quoted as a shell would; what is no assignment is
/// skipped, as os-release(5) asks for.
#[must_use]
pub fn parse(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let assignments = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    assignments.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), unquote(value))).collect()
}

fn unquote(value: &str) -> String {
    if let Some(plain) = value.strip_prefix('\'') {
        return plain.strip_suffix('\'').unwrap_or(plain).to_owned();
    }
    let inner = value.strip_prefix('"').map_or(value, |rest| rest.strip_suffix('"').unwrap_or(rest));
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_with_and_without_quotes() {
        let release = parse(include_bytes!("fixtures/os-release.txt"));
        assert_eq!(release["PRETTY_NAME"], "Example \"Server\" 4.2 (quiet)");
        assert_eq!((release["VERSION_ID"].as_str(), release["ID"].as_str()), ("4.2", "example"));
        assert_eq!(release["VARIANT"], "it's");
        assert!(!release.contains_key("# comment"));
    }
}
