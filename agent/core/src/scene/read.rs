//! What the kernel's files say of a process: `/proc/PID/{status,limits,stack}` and `/proc/PID/net/*`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{LIMITS_MAX, ProcessScene, STACK_MAX, SocketScene, word};

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text.trim_ascii()).ok()?.split(' ').next()?.parse().ok()
}

/// Takes name, state, threads and memory from `/proc/PID/status`.
pub fn status(text: &[u8], process: &mut ProcessScene) {
    for line in lines(text) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = &line[at + 1..];
        match &line[..at] {
            b"Name" => process.name = word(value),
            b"State" => process.state = word(value),
            b"Threads" => process.threads = u32::try_from(number(value).unwrap_or_default()).unwrap_or(u32::MAX),
            b"VmRSS" => process.rss_bytes = number(value).unwrap_or_default().saturating_mul(1_024),
            _ => {}
        }
    }
}

/// The limits in `/proc/PID/limits` that are any: `Max open files 1024 of 524288`.
#[must_use]
pub fn limits(text: &[u8]) -> Vec<String> {
    let read = |line: &[u8]| {
        // Columns of 26, 21 and 21 bytes.
        let (name, rest) = line.split_at_checked(26)?;
        let (soft, rest) = rest.split_at_checked(21)?;
        let hard = rest.get(..21).unwrap_or(rest);
        let (soft, hard) = (word(soft), word(hard));
        (soft != "unlimited").then(|| {
            if soft == hard { format!("{} {soft}", word(name)) } else { format!("{} {soft} of {hard}", word(name)) }
        })
    };
    lines(text).skip(1).filter_map(read).take(LIMITS_MAX).collect()
}

/// The calls in `/proc/PID/stack`, without their addresses.
#[must_use]
pub fn stack(text: &[u8]) -> Vec<String> {
    let call = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1);
        word(&line[at..])
    };
    lines(text).map(call).filter(|call| !call.is_empty()).take(STACK_MAX).collect()
}

/// States of TCP as `/proc/net/tcp` numbers them, from 1.
const TCP_STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// The sockets in `/proc/PID/net/{tcp,tcp6,udp,udp6}` that are among `inodes`. `protocol` is the file's name.
pub fn sockets<'t>(
    text: &'t [u8],
    protocol: &'t str,
    inodes: &'t BTreeSet<u64>,
) -> impl Iterator<Item = SocketScene> + 't {
    let is_tcp = protocol.starts_with("tcp");
    lines(text).skip(1).filter_map(move |line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).skip(1);
        let (local, remote, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let inode = number(fields.nth(4)?)?;
        if !inodes.contains(&inode) {
            return None;
        }
        let state = usize::try_from(hex(state)?).ok()?;
        let (unsent, unread) = queues.split_at_checked(8)?;
        let kind = match state.checked_sub(1).and_then(|at| TCP_STATES.get(at)) {
            Some(state) if is_tcp => format!("tcp {state}"),
            _ => protocol.trim_end_matches('6').to_owned(),
        };
        let remote = address(remote)?;
        Some(SocketScene {
            kind,
            local: address(local)?.to_string(),
            remote: if remote.port() == 0 { String::new() } else { remote.to_string() },
            unread: hex(unread.strip_prefix(b":")?)?,
            unsent: hex(unsent)?,
        })
    })
}

fn hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// `0100007F:0CEA`: words of four bytes in the machine's order, little-endian wherever Mainstay runs.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = text.split_at_checked(text.iter().position(|byte| *byte == b':')?)?;
    let port = u16::try_from(hex(&port[1..])?).ok()?;
    let word = |at: usize| Some(u32::try_from(hex(ip.get(at * 8..at * 8 + 8)?)?).ok()?.to_le_bytes());
    match ip.len() {
        8 => Some((Ipv4Addr::from(word(0)?), port).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, to) in bytes.chunks_exact_mut(4).enumerate() {
                to.copy_from_slice(&word(at)?);
            }
            Some((Ipv6Addr::from(bytes), port).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &[u8] = b"Name:\tapp worker\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t812\nThreads:\t7\n\
        VmHWM:\t    9120 kB\nVmRSS:\t    8944 kB\nCapEff:\t0000000000000000\n";
    const LIMITS: &[u8] = b"Limit                     Soft Limit           Hard Limit           Units     \n\
        Max cpu time              unlimited            unlimited            seconds   \n\
        Max processes             7823                 7823                 processes \n\
        Max open files            1024                 524288               files     \n";
    const STACK: &[u8] = b"[<0>] do_wait+0x5c/0xa0\n[<0>] kernel_wait4+0xa9/0x150\n[<0>] __do_sys_wait4+0x9a/0xa0\n";
    const TCP: &[u8] =
        b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 4711 1 ffff 100 0\n   \
        1: 0100007F:1F90 0100007F:C350 01 00000010:00000200 00:00000000 00000000  1000        0 4712 1 ffff 20 4\n   \
        2: 0100007F:1F90 0100007F:C351 01 00000000:00000000 00:00000000 00000000  1000        0 99 1 ffff 20 4\n";
    const TCP6: &[u8] = b"  sl  local_address                         remote_address                        st tx_queue\n   \
        0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4713 1 x\n";

    #[test]
    fn what_a_person_looks_at_is_read() {
        let mut process = ProcessScene::default();
        status(STATUS, &mut process);
        assert_eq!((process.name.as_str(), process.state.as_str()), ("app worker", "D (disk sleep)"));
        assert_eq!((process.threads, process.rss_bytes), (7, 8_944 * 1_024));
        assert_eq!(limits(LIMITS), ["Max processes 7823", "Max open files 1024 of 524288"]);
        assert_eq!(stack(STACK), ["do_wait+0x5c/0xa0", "kernel_wait4+0xa9/0x150", "__do_sys_wait4+0x9a/0xa0"]);
    }

    #[test]
    fn the_sockets_of_these_processes_are_listed_and_no_others() {
        let inodes = BTreeSet::from([4711, 4712, 4713]);
        let found: Vec<_> = sockets(TCP, "tcp", &inodes).chain(sockets(TCP6, "tcp6", &inodes)).collect();
        let socket = |kind: &str, local: &str, remote: &str, unread, unsent| SocketScene {
            kind: kind.to_owned(),
            local: local.to_owned(),
            remote: remote.to_owned(),
            unread,
            unsent,
        };
        assert_eq!(
            found,
            [
                socket("tcp LISTEN", "127.0.0.1:8080", "", 3, 0),
                socket("tcp ESTABLISHED", "127.0.0.1:8080", "127.0.0.1:50000", 512, 16),
                socket("tcp LISTEN", "[::1]:80", "", 0, 0),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left_alone(bytes: Vec<u8>, at in 0usize..300, byte: u8) {
            let inodes = BTreeSet::from([4711, 0]);
            let mut damaged = TCP.to_vec();
            damaged[at] = byte;
            for text in [&bytes, &damaged] {
                let mut process = ProcessScene::default();
                status(text, &mut process);
                let _ = (limits(text), stack(text), sockets(text, "udp6", &inodes).count());
            }
        }
    }
}
