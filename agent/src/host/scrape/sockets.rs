//! Collectors of the network stack: `netstat`, `sockstat`, `softnet`, `udp_queues`, `conntrack`, `ipvs`.

use std::collections::BTreeMap;

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse;

use super::tree::{ScrapeError, Tree, float};
use super::{Collected, Found};

pub(super) fn netstat(tree: &Tree, out: &mut Exposition) -> Collected {
    let mut found = Found::Nothing;
    for path in ["proc/net/netstat", "proc/net/snmp", "proc/net/snmp6"] {
        let Some(bytes) = tree.bytes(path)? else { continue };
        found = Found::Data;
        let parsed = if path.ends_with('6') { parse::netstat::snmp6(&bytes) } else { parse::netstat::pairs(&bytes) };
        let counters = parsed.map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })?;
        for (protocol, name, value) in counters.into_iter().filter(|(protocol, name, _)| is_shown(protocol, name)) {
            let help = format!("{name} of {protocol} in /{path}.");
            let name = format!("node_netstat_{protocol}_{name}");
            out.family(&name, FamilyKind::Unknown, &help).add(&[], value);
        }
    }
    Ok(found)
}

/// What node_exporter shows by default: traffic, errors, connections and what was lost for want of room.
fn is_shown(protocol: &str, name: &str) -> bool {
    matches!(name, "InErrors" | "InErrs")
        || match protocol {
            "Ip" => name == "Forwarding",
            "Ip6" | "IpExt" => matches!(name, "InOctets" | "OutOctets"),
            "Icmp" | "Icmp6" => matches!(name, "InMsgs" | "OutMsgs"),
            "TcpExt" => {
                name.starts_with("Listen")
                    || name.starts_with("Syncookies")
                    || matches!(name, "TCPSynRetrans" | "TCPTimeouts")
            }
            "Tcp" => matches!(
                name,
                "ActiveOpens" | "InSegs" | "OutSegs" | "OutRsts" | "PassiveOpens" | "RetransSegs" | "CurrEstab"
            ),
            "Udp" | "Udp6" => {
                matches!(name, "InDatagrams" | "OutDatagrams" | "NoPorts" | "RcvbufErrors" | "SndbufErrors")
            }
            _ => false,
        }
}

pub(super) fn sockstat(tree: &Tree, out: &mut Exposition) -> Collected {
    let mut found = Found::Nothing;
    for path in ["proc/net/sockstat", "proc/net/sockstat6"] {
        let Some(bytes) = tree.bytes(path)? else { continue };
        found = Found::Data;
        let counts =
            parse::sockstat::parse(&bytes).map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })?;
        for (protocol, name, count) in counts {
            let help = format!("{name} of {protocol} in /{path}.");
            out.gauge(&format!("node_sockstat_{protocol}_{name}"), &help, float(count));
            // The kernel counts this one in pages.
            if name == "mem" {
                let bytes = count.saturating_mul(rustix::param::page_size() as u64);
                let help = format!("Memory of {protocol} sockets.");
                out.gauge(&format!("node_sockstat_{protocol}_mem_bytes"), &help, float(bytes));
            }
        }
    }
    Ok(found)
}

pub(super) fn softnet(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(cpus) = tree.parsed("proc/net/softnet_stat", parse::softnet::parse)? else { return Ok(Found::Nothing) };
    type Column = fn(&parse::softnet::Cpu) -> u64;
    let columns: [(&str, &str, Column); 3] = [
        ("node_softnet_processed_total", "Packets processed.", |cpu| cpu.processed),
        ("node_softnet_dropped_total", "Packets dropped because too many waited.", |cpu| cpu.dropped),
        ("node_softnet_times_squeezed_total", "How often packets were left for later.", |cpu| cpu.times_squeezed),
    ];
    for (name, help, column) in columns {
        let mut family = out.family(name, FamilyKind::Counter, help);
        cpus.iter().for_each(|cpu| family.add(&[("cpu", &cpu.cpu.to_string())], float(column(cpu))));
    }
    Ok(Found::Data)
}

pub(super) fn udp_queues(tree: &Tree, out: &mut Exposition) -> Collected {
    let mut found = Found::Nothing;
    for (ip, path) in [("v4", "proc/net/udp"), ("v6", "proc/net/udp6")] {
        let Some(queues) = tree.parsed(path, parse::udp::parse)? else { continue };
        found = Found::Data;
        let mut family = out.family("node_udp_queues", FamilyKind::Gauge, "Bytes that wait in UDP sockets.");
        family.add(&[("ip", ip), ("queue", "rx")], float(queues.receive_bytes));
        family.add(&[("ip", ip), ("queue", "tx")], float(queues.transmit_bytes));
    }
    Ok(found)
}

/// Counter in the kernel's file, help.
const CONNTRACK: [(&str, &str); 8] = [
    ("drop", "Packets dropped because they could not be tracked."),
    ("early_drop", "Connections forgotten to make room for new ones."),
    ("found", "Connections looked up and found."),
    ("ignore", "Packets that needed no tracking."),
    ("insert", "Connections added."),
    ("insert_failed", "Connections that could not be added."),
    ("invalid", "Packets that cannot be tracked."),
    ("search_restart", "Searches begun again because the table grew."),
];

pub(super) fn conntrack(tree: &Tree, out: &mut Exposition) -> Collected {
    let (count, max) = (
        tree.number("proc/sys/net/netfilter/nf_conntrack_count"),
        tree.number("proc/sys/net/netfilter/nf_conntrack_max"),
    );
    let (Some(count), Some(max)) = (count, max) else { return Ok(Found::Nothing) };
    out.gauge("node_nf_conntrack_entries", "Connections that are tracked.", count);
    out.gauge("node_nf_conntrack_entries_limit", "Most connections that can be tracked.", max);
    let path = "proc/net/stat/nf_conntrack";
    let Some(bytes) = tree.bytes(path)? else { return Ok(Found::Nothing) };
    let sums =
        parse::conntrack::parse(&bytes).map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })?;
    for (counter, help) in CONNTRACK {
        let value = sums.get(counter).copied().unwrap_or_default();
        out.gauge(&format!("node_nf_conntrack_stat_{counter}"), help, float(value));
    }
    Ok(Found::Data)
}

pub(super) fn ipvs(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(stats) = tree.parsed("proc/net/ip_vs_stats", parse::ipvs::stats)? else { return Ok(Found::Nothing) };
    out.counter("node_ipvs_connections_total", "Connections made.", float(stats.connections));
    out.counter("node_ipvs_incoming_packets_total", "Packets that came in.", float(stats.incoming_packets));
    out.counter("node_ipvs_outgoing_packets_total", "Packets that went out.", float(stats.outgoing_packets));
    out.counter("node_ipvs_incoming_bytes_total", "Bytes that came in.", float(stats.incoming_bytes));
    out.counter("node_ipvs_outgoing_bytes_total", "Bytes that went out.", float(stats.outgoing_bytes));
    let backends = tree.parsed("proc/net/ip_vs", parse::ipvs::backends)?.unwrap_or_default();
    // A server may stand below a service more than once, by different ways.
    let mut sums: BTreeMap<_, [u64; 3]> = BTreeMap::new();
    for backend in backends {
        let key = (
            backend.local_address,
            backend.local_mark,
            backend.local_port.to_string(),
            backend.protocol,
            backend.remote_address,
            backend.remote_port.to_string(),
        );
        let sum = sums.entry(key).or_default();
        for (sum, more) in sum.iter_mut().zip([backend.active, backend.inactive, backend.weight]) {
            *sum = sum.saturating_add(more);
        }
    }
    for (at, (name, help)) in [
        ("node_ipvs_backend_connections_active", "Connections in use, by service and server."),
        ("node_ipvs_backend_connections_inactive", "Connections that are ending, by service and server."),
        ("node_ipvs_backend_weight", "Weight of a server."),
    ]
    .into_iter()
    .enumerate()
    {
        let mut family = out.family(name, FamilyKind::Gauge, help);
        for ((local_address, local_mark, local_port, proto, remote_address, remote_port), sum) in &sums {
            let labels = [
                ("local_address", local_address.as_str()),
                ("local_mark", local_mark),
                ("local_port", local_port),
                ("proto", proto),
                ("remote_address", remote_address),
                ("remote_port", remote_port),
            ];
            family.add(&labels, float(sum[at]));
        }
    }
    Ok(Found::Data)
}
