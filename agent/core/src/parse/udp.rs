//! `/proc/net/{udp,udp6}`: what waits in the queues of UDP sockets.

use super::{At, ParseError, lines, words};

/// Bytes that wait, over all sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queues {
    /// To be sent.
    pub transmit_bytes: u64,
    /// To be read.
    pub receive_bytes: u64,
}

/// Columns before `tx_queue:rx_queue`.
const COLUMNS_BEFORE: usize = 4;

/// Sums the queues of all sockets.
///
/// # Errors
/// Where a line has no queues, or they are no hexadecimal numbers.
pub fn parse(bytes: &[u8]) -> Result<Queues, ParseError> {
    let mut queues = Queues::default();
    for (line, text) in lines(bytes).filter(|(line, _)| *line > 1) {
        let at = At { file: "net/udp", line };
        let word = words(text).nth(COLUMNS_BEFORE).ok_or_else(|| at.missing("queues"))?;
        let mut sides = word.splitn(2, |b| *b == b':');
        queues.transmit_bytes = queues.transmit_bytes.saturating_add(at.hex("tx_queue", sides.next())?);
        queues.receive_bytes = queues.receive_bytes.saturating_add(at.hex("rx_queue", sides.next())?);
    }
    Ok(queues)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_queues_of_all_sockets() {
        let queues = parse(include_bytes!("fixtures/udp.txt")).unwrap();
        assert_eq!(queues, Queues { transmit_bytes: 21, receive_bytes: 0x300 });
        let newer = parse(include_bytes!("fixtures/udp.6.18.txt")).unwrap();
        assert_eq!(newer, Queues { transmit_bytes: 0, receive_bytes: 0x9C0 }, "three datagrams that wait");
        assert_eq!(parse(b"head\n 0: 1 2 3 12\n").unwrap_err().field, "rx_queue");
    }
}
