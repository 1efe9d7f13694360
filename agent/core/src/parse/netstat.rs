//! `/proc/net/{snmp,netstat,snmp6}`: counters of IP, ICMP, TCP and UDP.

use super::{At, ParseError, lines, words};

/// One counter: protocol (`TcpExt`), name (`ListenDrops`), value. `MaxConn` is negative, so not all
/// are counts.
pub type Counter<'a> = (&'a str, &'a str, f64);

/// Parses `snmp` and `netstat`: a line of names and a line of values for each protocol.
///
/// # Errors
/// Where a line of values does not match the line of names before it.
pub fn pairs(bytes: &[u8]) -> Result<Vec<Counter<'_>>, ParseError> {
    let mut counters = Vec::with_capacity(256);
    let mut rows = lines(bytes);
    while let Some((line, names)) = rows.next() {
        let at = At { file: "net/netstat", line };
        let (_, values) = rows.next().ok_or_else(|| at.missing("values"))?;
        let (mut names, mut values) = (words(names), words(values));
        let protocol = names.next().ok_or_else(|| at.missing("protocol"))?;
        if values.next() != Some(protocol) {
            return Err(at.wrong("protocol", protocol));
        }
        let protocol = at.text("protocol", Some(protocol.strip_suffix(b":").unwrap_or(protocol)))?;
        for name in names {
            counters.push((protocol, at.text("name", Some(name))?, at.number("value", values.next())?));
        }
    }
    Ok(counters)
}

/// Picks some counters of one protocol, without looking at the others: for what is read at every
/// sample.
///
/// # Errors
/// Where a counter is missing or no number.
pub fn pick<const N: usize>(
    bytes: &[u8],
    protocol: &'static str,
    fields: [&'static str; N],
) -> Result<[u64; N], ParseError> {
    let is_ours = |text: &[u8]| text.strip_prefix(protocol.as_bytes()).is_some_and(|rest| rest.starts_with(b":"));
    let mut rows = lines(bytes).filter(|(_, text)| is_ours(text));
    let at = At { file: "net/netstat", line: 1 };
    let (Some((line, names)), Some((_, values))) = (rows.next(), rows.next()) else { return Err(at.missing(protocol)) };
    let at = At { line, ..at };
    let mut found = [None; N];
    for (name, value) in words(names).zip(words(values)) {
        if let Some(which) = fields.iter().position(|field| field.as_bytes() == name) {
            found[which] = Some(at.number(fields[which], Some(value))?);
        }
    }
    let mut picked = [0; N];
    for ((value, found), field) in picked.iter_mut().zip(found).zip(fields) {
        *value = found.ok_or_else(|| at.missing(field))?;
    }
    Ok(picked)
}

/// Parses `snmp6`: `Ip6InReceives 2` a line; the protocol ends with its `6`.
///
/// # Errors
/// Where a value is missing or no number.
pub fn snmp6(bytes: &[u8]) -> Result<Vec<Counter<'_>>, ParseError> {
    let mut counters = Vec::with_capacity(128);
    for (line, text) in lines(bytes) {
        let at = At { file: "net/snmp6", line };
        let mut words = words(text);
        let key = at.text("name", words.next())?;
        let Some(six) = key.find('6') else { continue };
        let (protocol, name) = key.split_at(six + 1);
        counters.push((protocol, name, at.number("value", words.next())?));
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(counters: &[Counter<'_>], protocol: &str, name: &str) -> Option<f64> {
        counters.iter().find(|(p, n, _)| (*p, *n) == (protocol, name)).map(|(.., value)| *value)
    }

    #[test]
    fn reads_the_counters_of_every_protocol_whatever_columns_the_kernel_has() {
        let old = pairs(include_bytes!("fixtures/netstat.4.19.txt")).unwrap();
        assert_eq!(value(&old, "Tcp", "MaxConn"), Some(-1.0));
        assert_eq!(value(&old, "Tcp", "RetransSegs"), Some(103.0));
        assert_eq!(value(&old, "Udp", "MemErrors"), None);
        let new = pairs(include_bytes!("fixtures/netstat.6.1.txt")).unwrap();
        assert_eq!(value(&new, "TcpExt", "ListenDrops"), Some(7.0));
        assert_eq!(value(&new, "IpExt", "OutOctets"), Some(15_739_683.0));
    }

    #[test]
    fn picks_counters_of_one_protocol() {
        let old = include_bytes!("fixtures/netstat.4.19.txt");
        assert_eq!(pick(old, "Tcp", ["RetransSegs", "CurrEstab"]).unwrap(), [103, 4]);
        let new = include_bytes!("fixtures/netstat.6.1.txt");
        assert_eq!(pick(new, "TcpExt", ["ListenOverflows", "ListenDrops"]).unwrap(), [6, 7]);
        assert_eq!(pick(new, "TcpExt", ["TCPMagic"]).unwrap_err().field, "TCPMagic");
        assert_eq!(pick(new, "Tcp", ["OutSegs"]).unwrap_err().field, "Tcp");
    }

    #[test]
    fn parts_protocol_and_name_of_ipv6() {
        let counters = snmp6(include_bytes!("fixtures/snmp6.txt")).unwrap();
        assert_eq!(value(&counters, "Ip6", "InReceives"), Some(2.0));
        assert_eq!(value(&counters, "UdpLite6", "InErrors"), Some(0.0));
        let counters = snmp6(include_bytes!("fixtures/snmp6.5.10.txt")).unwrap();
        assert_eq!(
            (value(&counters, "Ip6", "InReceives"), value(&counters, "Ip6", "OutRequests")),
            (Some(4.0), Some(7.0))
        );
    }

    #[test]
    fn refuses_values_that_do_not_match_their_names() {
        assert_eq!(pairs(b"Tcp: A B\nTcp: 1\n").unwrap_err().field, "value");
        assert_eq!(pairs(b"Tcp: A\nUdp: 1\n").unwrap_err().field, "protocol");
        assert_eq!(pairs(b"Tcp: A\n").unwrap_err().field, "values");
    }
}
