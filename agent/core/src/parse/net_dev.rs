//! `/proc/net/dev`: counters of network interfaces.

use super::{At, ParseError, lines, words};
use crate::sample::Interface;

/// Two lines of headings come first.
const HEADING_LINES: usize = 2;

/// Parses the lines of the interfaces whose name `keep` accepts.
///
/// # Errors
/// Where a line that is kept has no name, or a column is missing or no number.
pub fn parse(bytes: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> Result<Vec<Interface>, ParseError> {
    let mut interfaces = Vec::new();
    for (line, text) in lines(bytes).filter(|(line, _)| *line > HEADING_LINES) {
        let at = At { file: "net/dev", line };
        // An alias has a colon in its name, and old kernels leave no space after the last one.
        let colon = text.iter().rposition(|b| *b == b':').ok_or_else(|| at.missing("name"))?;
        let name = text[..colon].trim_ascii();
        if !keep(name) {
            continue;
        }
        let mut columns = [0u64; 12];
        let mut words = words(&text[colon + 1..]);
        for (column, field) in columns.iter_mut().zip(COLUMNS) {
            *column = at.number(field, words.next())?;
        }
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped] =
            columns;
        interfaces.push(Interface {
            name: String::from_utf8_lossy(name).into_owned(),
            receive_bytes: rx_bytes,
            receive_packets: rx_packets,
            receive_errors: rx_errors,
            receive_dropped: rx_dropped,
            transmit_bytes: tx_bytes,
            transmit_packets: tx_packets,
            transmit_errors: tx_errors,
            transmit_dropped: tx_dropped,
        });
    }
    Ok(interfaces)
}

/// Every interface with all its columns, named as in [`COLUMNS_ALL`].
///
/// # Errors
/// As [`parse`].
pub fn all(bytes: &[u8]) -> Result<Vec<(&str, [u64; 16])>, ParseError> {
    let mut interfaces = Vec::new();
    for (line, text) in lines(bytes).filter(|(line, _)| *line > HEADING_LINES) {
        let at = At { file: "net/dev", line };
        let colon = text.iter().rposition(|b| *b == b':').ok_or_else(|| at.missing("name"))?;
        let name = at.text("name", Some(text[..colon].trim_ascii()))?;
        let mut columns = [0u64; 16];
        let mut words = words(&text[colon + 1..]);
        for (column, field) in columns.iter_mut().zip(COLUMNS_ALL) {
            *column = at.number(field, words.next())?;
        }
        interfaces.push((name, columns));
    }
    Ok(interfaces)
}

/// The columns of the file, as node_exporter calls them.
pub const COLUMNS_ALL: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

const COLUMNS: [&str; 12] = [
    "receive bytes",
    "receive packets",
    "receive errs",
    "receive drop",
    "receive fifo",
    "receive frame",
    "receive compressed",
    "receive multicast",
    "transmit bytes",
    "transmit packets",
    "transmit errs",
    "transmit drop",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_interfaces_that_are_kept() {
        let all = parse(include_bytes!("fixtures/net_dev.6.18.txt"), |name| name != b"lo").unwrap();
        let eth0 = all.iter().find(|interface| interface.name == "eth0").unwrap();
        assert!(all.iter().all(|interface| interface.name != "lo"));
        assert!(eth0.receive_bytes > 0 && eth0.transmit_packets > 0);
    }

    #[test]
    fn reads_numbers_that_stick_to_the_name_and_names_with_a_colon() {
        let text = b"head\nhead\neth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let interface = &parse(text, |_| true).unwrap()[0];
        assert_eq!((interface.receive_bytes, interface.transmit_bytes, interface.transmit_dropped), (1, 9, 12));
        let alias = b"head\nhead\neth0:0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        assert_eq!(parse(alias, |_| true).unwrap()[0].name, "eth0:0");
    }

    #[test]
    fn lists_every_column_of_every_interface() {
        let all = super::all(include_bytes!("fixtures/net_dev.4.19.txt")).unwrap();
        assert_eq!((all.len(), all[1].0), (2, "eth0"));
        assert_eq!(all[1].1[2..8], [1, 2, 3, 4, 5, 6]);
        assert_eq!(all[1].1[10..], [7, 8, 9, 10, 11, 12]);
    }
}
