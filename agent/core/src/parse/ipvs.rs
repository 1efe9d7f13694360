//! `/proc/net/ip_vs_stats` and `/proc/net/ip_vs`: the kernel's load balancer.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{At, ParseError, lines, words};

/// Counters of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections made.
    pub connections: u64,
    /// Packets that came in.
    pub incoming_packets: u64,
    /// Packets that went out.
    pub outgoing_packets: u64,
    /// Bytes that came in.
    pub incoming_bytes: u64,
    /// Bytes that went out.
    pub outgoing_bytes: u64,
}

/// A server behind a virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backend {
    /// `TCP`, `UDP`, `SCTP`, `FWM`.
    pub protocol: String,
    /// Address of the service; empty where it is known by a firewall mark.
    pub local_address: String,
    /// Its port.
    pub local_port: u16,
    /// The firewall mark, as it stands there; empty where the service has an address.
    pub local_mark: String,
    /// Address of the server.
    pub remote_address: String,
    /// Its port.
    pub remote_port: u16,
    /// Its weight.
    pub weight: u64,
    /// Connections in use.
    pub active: u64,
    /// Connections that are ending.
    pub inactive: u64,
}

/// Parses `ip_vs_stats`: two headings, then the sums.
///
/// # Errors
/// Where the third line is missing, or a number of it is none.
pub fn stats(bytes: &[u8]) -> Result<Stats, ParseError> {
    let at = At { file: "net/ip_vs_stats", line: 3 };
    let (_, text) = lines(bytes).nth(2).ok_or_else(|| at.missing("totals"))?;
    let mut words = words(text);
    let mut next = |field| at.hex(field, words.next());
    Ok(Stats {
        connections: next("connections")?,
        incoming_packets: next("incoming packets")?,
        outgoing_packets: next("outgoing packets")?,
        incoming_bytes: next("incoming bytes")?,
        outgoing_bytes: next("outgoing bytes")?,
    })
}

/// Parses `ip_vs`: services, each with its servers below it.
///
/// # Errors
/// Where a line lacks a column, an address or number is none, or a server stands below no service.
pub fn backends(bytes: &[u8]) -> Result<Vec<Backend>, ParseError> {
    let mut service: Option<Backend> = None;
    let mut backends = Vec::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "net/ip_vs", line };
        let mut words = words(text);
        match words.next() {
            Some(b"IP" | b"Prot") | None => {}
            Some(b"->") => {
                let remote = at.text("remote address", words.next())?;
                if remote.starts_with("RemoteAddress") {
                    continue;
                }
                let (remote_address, remote_port) = address(at, remote)?;
                words.next();
                let backend = Backend {
                    remote_address,
                    remote_port,
                    weight: at.number("weight", words.next())?,
                    active: at.number("active connections", words.next())?,
                    inactive: at.number("inactive connections", words.next())?,
                    ..service.clone().ok_or_else(|| at.missing("service"))?
                };
                backends.push(backend);
            }
            Some(protocol) => {
                let protocol = at.text("protocol", Some(protocol))?.to_owned();
                let local = at.text("local address", words.next())?;
                let mut new = Backend { protocol, ..Backend::default() };
                if new.protocol == "FWM" {
                    new.local_mark = local.to_owned();
                } else {
                    (new.local_address, new.local_port) = address(at, local)?;
                }
                service = Some(new);
            }
        }
    }
    Ok(backends)
}

/// Parses `C0A80016:0CEA` or `[2001:0db8:…]:0050`.
fn address(at: At, text: &str) -> Result<(String, u16), ParseError> {
    let wrong = || at.wrong("address", text.as_bytes());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = u16::from_str_radix(port, 16).map_err(|_| wrong())?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.trim_end_matches(']').parse::<Ipv6Addr>().map_err(|_| wrong())?.to_string(),
        None => Ipv4Addr::from_bits(u32::from_str_radix(host, 16).map_err(|_| wrong())?).to_string(),
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_sums() {
        let stats = stats(include_bytes!("fixtures/ipvs_stats.txt")).unwrap();
        assert_eq!((stats.connections, stats.incoming_packets, stats.outgoing_bytes), (0x1A2B, 0xE3365, 0x10));
    }

    #[test]
    fn reads_services_by_address_and_by_mark_with_their_servers() {
        let backends = backends(include_bytes!("fixtures/ipvs.txt")).unwrap();
        assert_eq!(backends.len(), 4);
        assert_eq!((backends[0].local_address.as_str(), backends[0].local_port), ("192.0.2.22", 3306));
        assert_eq!((backends[1].remote_address.as_str(), backends[1].active), ("198.51.100.12", 1499));
        assert_eq!((backends[2].protocol.as_str(), backends[2].local_mark.as_str()), ("FWM", "10001000"));
        assert_eq!((backends[2].local_address.as_str(), backends[2].local_port), ("", 0));
        assert_eq!(backends[3].remote_address, "2001:db8::2");
    }

    #[test]
    fn refuses_a_server_without_a_service() {
        assert_eq!(super::backends(b"  -> C0A80016:0CEA Route 1 0 0\n").unwrap_err().field, "service");
    }
}
