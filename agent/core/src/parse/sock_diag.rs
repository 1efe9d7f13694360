//! `sock_diag` over netlink: the TCP sockets of the kernel, with their round-trip times and cgroups.
//!
//! [`request`] makes the bytes of a question, [`datagram`] reads one datagram of its answer. Both are in the byte order of
//! the machine, as netlink is; addresses and ports come in that of the network. Attributes that are not known are skipped,
//! those that an older kernel does not send are `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{At, ParseError};

/// What a question asks for, as bits of the kernel's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum States {
    /// Sockets that listen.
    Listening,
    /// Connections that are open, are being opened, or that only this side has not closed. Not those that have no owner
    /// any more, such as `TIME_WAIT`: there may be a hundred thousand.
    Connected,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Open.
    Established,
    /// Asked for; the other side has not answered yet.
    SynSent,
    /// The other side has closed it, this one has not.
    CloseWait,
    /// Waits for connections.
    Listen,
    /// Another one.
    Other,
}

/// The question as it was before there were others than of TCP. It is of both families at once: asked for each by itself,
/// the kernel goes through the table of all connections twice, and its tens of thousands of places are most of the work.
const TCPDIAG_GETSOCK: u16 = 18;
/// The question of one family. Its answers are as those of the other.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// Set in an answer while which sockets came or went: it may lack some.
const DUMP_INTERRUPTED: u16 = 0x10;
/// The kernel does not look at the family of this question.
const AF_INET: u8 = 2;

const HEADER_BYTES: usize = 16;
/// The header and `struct inet_diag_req`.
const REQUEST_BYTES: usize = HEADER_BYTES + 60;
const REQUEST_LENGTH: u32 = 76;
/// `struct inet_diag_msg`.
const MESSAGE_BYTES: usize = 72;
/// Attributes: `struct tcp_info`, and the id of the cgroup (since Linux 5.7).
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_CGROUP_ID: u16 = 21;

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Its state.
    pub state: State,
    /// Its own address; one of IPv4 is so, also on a socket of IPv6.
    pub local: SocketAddr,
    /// The other side's.
    pub remote: SocketAddr,
    /// Bytes that nobody has read; of a listening socket, connections that nobody has accepted.
    pub receive_queue: u32,
    /// Bytes that the other side has not acknowledged; of a listening socket, the most that may wait.
    pub send_queue: u32,
    /// The cgroup that it was made in.
    pub cgroup: Option<u64>,
    /// What TCP says of it; `None` where it has said nothing.
    pub info: Option<Info>,
}

/// `struct tcp_info`, as far as it is used. Later fields are 0 on kernels that do not have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Info {
    /// Smoothed round-trip time, in microseconds; 0 before the first.
    pub rtt_us: u32,
    /// Smallest round-trip time of late, in microseconds.
    pub min_rtt_us: Option<u32>,
    /// Segments that were sent again.
    pub retransmitted: u32,
    /// Segments sent.
    pub segments_sent: Option<u32>,
    /// Bytes that the other side has acknowledged.
    pub sent_bytes: Option<u64>,
    /// Bytes received.
    pub received_bytes: Option<u64>,
}

/// What a datagram ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// The answer is complete.
    pub is_done: bool,
    /// Sockets came and went meanwhile; some may be missing.
    pub is_interrupted: bool,
    /// The kernel refuses, with this `errno`.
    pub error: Option<i32>,
}

/// The question for the TCP sockets of both families.
#[must_use]
pub fn request(states: States) -> [u8; REQUEST_BYTES] {
    // Numbers of states as in `net/tcp_states.h`: 1 ESTABLISHED, 2 SYN_SENT, 8 CLOSE_WAIT, 10 LISTEN.
    let bits: u32 = match states {
        States::Listening => 1 << 10,
        States::Connected => (1 << 1) | (1 << 2) | (1 << 8),
    };
    let mut bytes = [0; REQUEST_BYTES];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &REQUEST_LENGTH.to_ne_bytes());
    put(4, &TCPDIAG_GETSOCK.to_ne_bytes());
    put(6, &DUMP.to_ne_bytes());
    put(16, &[AF_INET, 0, 0, 1 << (INET_DIAG_INFO - 1)]);
    put(68, &bits.to_ne_bytes());
    bytes
}

/// Reads one datagram; `take` is given every socket in it.
///
/// # Errors
/// Where a message is cut short or says something else than it can. Line is the message's number.
pub fn datagram(bytes: &[u8], mut take: impl FnMut(Socket)) -> Result<End, ParseError> {
    let mut end = End::default();
    let mut rest = bytes;
    let mut number = 0;
    while !rest.is_empty() && !end.is_done && end.error.is_none() {
        number += 1;
        let at = At { file: "sock_diag", line: number };
        let length = u32_at(rest, 0).ok_or_else(|| at.missing("length"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let message = rest.get(..length).filter(|_| length >= HEADER_BYTES).ok_or_else(|| at.missing("message"))?;
        let (kind, flags) = (u16_at(message, 4), u16_at(message, 6).unwrap_or(0));
        let body = message.get(HEADER_BYTES..).unwrap_or_default();
        end.is_interrupted |= flags & DUMP_INTERRUPTED != 0;
        match kind {
            Some(TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY) => take(socket(body, at)?),
            Some(NLMSG_DONE) => end.is_done = true,
            Some(NLMSG_ERROR) => {
                let code = u32_at(body, 0).ok_or_else(|| at.missing("error"))?;
                end.error = Some(code.cast_signed().wrapping_neg());
            }
            _ => {}
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok(end)
}

fn socket(body: &[u8], at: At) -> Result<Socket, ParseError> {
    let (fixed, attributes) = body.split_at_checked(MESSAGE_BYTES).ok_or_else(|| at.missing("inet_diag_msg"))?;
    let address = |from: usize| -> Option<IpAddr> {
        match fixed[0] {
            2 => fixed.get(from..from + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(|b| Ipv4Addr::from(b).into()),
            10 => fixed
                .get(from..from + 16)
                .and_then(|b| <[u8; 16]>::try_from(b).ok())
                .map(|b| IpAddr::from(Ipv6Addr::from(b)).to_canonical()),
            _ => None,
        }
    };
    let port = |from: usize| u16::from_be_bytes([fixed[from], fixed[from + 1]]);
    let end = |from: usize, port: u16| address(from).map(|address| SocketAddr::new(address, port));
    let mut socket = Socket {
        state: state(fixed[1]),
        local: end(8, port(4)).ok_or_else(|| at.wrong("family", &fixed[..1]))?,
        remote: end(24, port(6)).ok_or_else(|| at.wrong("family", &fixed[..1]))?,
        receive_queue: u32_at(fixed, 56).unwrap_or(0),
        send_queue: u32_at(fixed, 60).unwrap_or(0),
        cgroup: None,
        info: None,
    };
    let mut rest = attributes;
    while !rest.is_empty() {
        let length = usize::from(u16_at(rest, 0).ok_or_else(|| at.missing("attribute"))?);
        let value = rest.get(4..length).ok_or_else(|| at.missing("attribute"))?;
        match u16_at(rest, 2) {
            Some(INET_DIAG_CGROUP_ID) => socket.cgroup = u64_at(value, 0),
            Some(INET_DIAG_INFO) => socket.info = info(value),
            _ => {}
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok(socket)
}

fn state(number: u8) -> State {
    match number {
        1 => State::Established,
        2 => State::SynSent,
        8 => State::CloseWait,
        10 => State::Listen,
        _ => State::Other,
    }
}

/// Offsets as `struct tcp_info` has had them since each field was added: it only ever grew at its end.
fn info(value: &[u8]) -> Option<Info> {
    Some(Info {
        rtt_us: u32_at(value, 68)?,
        retransmitted: u32_at(value, 100)?,
        sent_bytes: u64_at(value, 120),
        received_bytes: u64_at(value, 128),
        segments_sent: u32_at(value, 136),
        // All ones where there was none yet.
        min_rtt_us: u32_at(value, 148).filter(|rtt| *rtt != u32::MAX),
    })
}

/// Messages and attributes begin at multiples of four.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<Socket>, End) {
        let mut sockets = Vec::new();
        let end = datagram(bytes, |socket| sockets.push(socket)).unwrap();
        (sockets, end)
    }

    const DONE: End = End { is_done: true, is_interrupted: false, error: None };

    #[test]
    fn reads_what_this_kernel_says_of_ipv4() {
        let (sockets, end) = read(include_bytes!("fixtures/sock_diag_tcp.6.18.bin"));
        assert_eq!((sockets.len(), end), (4, DONE));
        let listener = &sockets[0];
        assert_eq!((listener.state, listener.local), (State::Listen, "127.0.0.1:41075".parse().unwrap()));
        assert_eq!((listener.receive_queue, listener.send_queue, listener.cgroup), (0, 5, Some(1)));
        let client = &sockets[2];
        assert_eq!((client.state, client.remote), (State::Established, "127.0.0.1:41075".parse().unwrap()));
        let info = Info {
            rtt_us: 10,
            min_rtt_us: Some(7),
            retransmitted: 0,
            segments_sent: Some(23),
            sent_bytes: Some(20_001),
            received_bytes: Some(20),
        };
        assert_eq!(client.info, Some(info));
    }

    #[test]
    fn an_ipv4_connection_of_an_ipv6_socket_is_one_of_ipv4() {
        let (sockets, end) = read(include_bytes!("fixtures/sock_diag_tcp6.6.18.bin"));
        assert_eq!(end, DONE);
        let all: Vec<_> = sockets.iter().map(|s| (s.local.to_string(), s.remote.to_string())).collect();
        let want = [
            ("[::]:37565", "[::]:0"),
            ("127.0.0.1:37565", "127.0.0.1:43278"),
            ("[::1]:37565", "[::1]:39602"),
            ("[::1]:39602", "[::1]:37565"),
        ];
        assert_eq!(all, want.map(|(local, remote)| (local.to_owned(), remote.to_owned())));
    }

    #[test]
    fn an_older_kernel_says_less() {
        let (sockets, _) = read(include_bytes!("fixtures/sock_diag_tcp.4.19.bin"));
        assert_eq!(sockets.len(), 4);
        assert_eq!(sockets[2].cgroup, None);
        assert_eq!(sockets[2].info, Some(Info { rtt_us: 10, ..Info::default() }));
    }

    #[test]
    fn a_refusal_is_the_error_of_the_kernel() {
        let mut bytes = 36u32.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(&(-2i32).to_ne_bytes());
        bytes.extend_from_slice(&[0; 16]);
        assert_eq!(read(&bytes).1, End { error: Some(2), ..End::default() });
    }

    #[test]
    fn a_message_that_is_cut_short_is_named() {
        let whole = include_bytes!("fixtures/sock_diag_tcp.6.18.bin");
        let error = datagram(&whole[..500], |_| {}).unwrap_err();
        assert_eq!((error.line, error.field), (2, "message"));
        assert!(datagram(&[0; 40], |_| {}).is_err(), "a length of nothing would go round for ever");
        assert_eq!(datagram(&[], |_| {}), Ok(End::default()));
    }

    #[test]
    fn a_question_is_as_long_as_it_says() {
        let request = request(States::Connected);
        assert_eq!((u32_at(&request, 0), request.len()), (Some(REQUEST_LENGTH), 76));
        assert_eq!((request[4], request[16], request[19], u32_at(&request, 68)), (18, 2, 2, Some(0x106)));
    }
}
