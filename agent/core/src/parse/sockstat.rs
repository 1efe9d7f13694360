//! `/proc/net/{sockstat,sockstat6}`: sockets in use.

use super::{At, ParseError, lines, words};

/// Parses the file: protocol (`TCP`), what is counted (`inuse`), how many.
///
/// # Errors
/// Where a number is missing or none.
pub fn parse(bytes: &[u8]) -> Result<Vec<(&str, &str, u64)>, ParseError> {
    let mut counts = Vec::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "net/sockstat", line };
        let mut words = words(text);
        let protocol = at.text("protocol", words.next())?;
        let protocol = protocol.strip_suffix(':').unwrap_or(protocol);
        while let Some(name) = words.next() {
            counts.push((protocol, at.text("name", Some(name))?, at.number("count", words.next())?));
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_families_of_addresses() {
        let v4 = parse(include_bytes!("fixtures/sockstat.4.19.txt")).unwrap();
        assert_eq!(v4[0], ("sockets", "used", 229));
        assert!(v4.contains(&("TCP", "mem", 1)) && v4.contains(&("FRAG", "memory", 0)));
        let v6 = parse(include_bytes!("fixtures/sockstat.6.1.txt")).unwrap();
        assert!(v6.contains(&("UDPLITE6", "inuse", 0)));
        assert_eq!(parse(b"TCP: inuse\n").unwrap_err().field, "count");
    }
}
