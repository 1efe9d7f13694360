//! Collectors of fabrics: `infiniband` and `fibrechannel`.

use mainstay_core::exposition::{Exposition, FamilyKind};

use super::tree::Tree;
use super::{Collected, Found};
use FamilyKind::{Counter, Gauge};

/// File below a port's `counters/`, what the family adds to `node_infiniband_`, factor: the
/// hardware counts data in words of four bytes.
const INFINIBAND: [(&str, &str, f64); 17] = [
    ("excessive_buffer_overrun_errors", "excessive_buffer_overrun_errors_total", 1.0),
    ("link_downed", "link_downed_total", 1.0),
    ("link_error_recovery", "link_error_recovery_total", 1.0),
    ("multicast_rcv_packets", "multicast_packets_received_total", 1.0),
    ("multicast_xmit_packets", "multicast_packets_transmitted_total", 1.0),
    ("port_rcv_constraint_errors", "port_constraint_errors_received_total", 1.0),
    ("port_xmit_constraint_errors", "port_constraint_errors_transmitted_total", 1.0),
    ("port_rcv_data", "port_data_received_bytes_total", 4.0),
    ("port_xmit_data", "port_data_transmitted_bytes_total", 4.0),
    ("port_rcv_discards", "port_discards_received_total", 1.0),
    ("port_xmit_discards", "port_discards_transmitted_total", 1.0),
    ("port_rcv_errors", "port_errors_received_total", 1.0),
    ("port_rcv_packets", "port_packets_received_total", 1.0),
    ("port_xmit_packets", "port_packets_transmitted_total", 1.0),
    ("port_xmit_wait", "port_transmit_wait_total", 1.0),
    ("unicast_rcv_packets", "unicast_packets_received_total", 1.0),
    ("unicast_xmit_packets", "unicast_packets_transmitted_total", 1.0),
];

/// The same of the older folder `counters_ext/`.
const INFINIBAND_LEGACY: [(&str, &str, f64); 8] = [
    ("port_multicast_rcv_packets", "legacy_multicast_packets_received_total", 1.0),
    ("port_multicast_xmit_packets", "legacy_multicast_packets_transmitted_total", 1.0),
    ("port_rcv_data_64", "legacy_data_received_bytes_total", 4.0),
    ("port_rcv_packets_64", "legacy_packets_received_total", 1.0),
    ("port_unicast_rcv_packets", "legacy_unicast_packets_received_total", 1.0),
    ("port_unicast_xmit_packets", "legacy_unicast_packets_transmitted_total", 1.0),
    ("port_xmit_data_64", "legacy_data_transmitted_bytes_total", 4.0),
    ("port_xmit_packets_64", "legacy_packets_transmitted_total", 1.0),
];

pub(super) fn infiniband(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/infiniband";
    let Some(devices) = tree.names(CLASS) else { return Ok(Found::Nothing) };
    for device in devices {
        let words = ["board_id", "fw_ver", "hca_type"].map(|file| tree.text(&format!("{CLASS}/{device}/{file}")));
        let [board, firmware, hca] = words.map(Option::unwrap_or_default);
        let labels =
            [("board_id", board.as_str()), ("device", &device), ("firmware_version", &firmware), ("hca_type", &hca)];
        out.family("node_infiniband_info", Gauge, "What is known of an adapter in words.").add(&labels, 1.0);
        for port in tree.names(&format!("{CLASS}/{device}/ports")).unwrap_or_default() {
            infiniband_port(
                tree,
                &format!("{CLASS}/{device}/ports/{port}"),
                &[("device", &device), ("port", &port)],
                out,
            );
        }
    }
    Ok(Found::Data)
}

fn infiniband_port(tree: &Tree, path: &str, labels: &[(&str, &str)], out: &mut Exposition) {
    // `4: ACTIVE`
    for (file, name, help) in [
        ("state", "node_infiniband_state_id", "State of a port: 1 down, 4 active."),
        ("phys_state", "node_infiniband_physical_state_id", "State of the link of a port: 3 disabled, 5 up."),
    ] {
        let text = tree.text(&format!("{path}/{file}")).unwrap_or_default();
        if let Some(Ok(state)) = text.split(':').next().map(str::parse) {
            out.family(name, Gauge, help).add(labels, state);
        }
    }
    // `40 Gb/sec (4X QDR)`
    let rate = tree.text(&format!("{path}/rate")).unwrap_or_default();
    if let Some(Ok(gigabits)) = rate.split(' ').next().map(str::parse::<f64>) {
        let help = "Most bytes that a port can carry in a second.";
        out.family("node_infiniband_rate_bytes_per_second", Gauge, help).add(labels, gigabits * 1e9 / 8.0);
    }
    for (folder, table) in [("counters", &INFINIBAND[..]), ("counters_ext", &INFINIBAND_LEGACY[..])] {
        for (file, name, factor) in table {
            if let Some(value) = tree.number(&format!("{path}/{folder}/{file}")) {
                let help = format!("{file} of a port.");
                out.family(&format!("node_infiniband_{name}"), Counter, &help).add(labels, value * factor);
            }
        }
    }
}

/// File below `statistics/`, and what the family adds to `node_fibrechannel_`. All are hexadecimal.
const FIBRECHANNEL: [(&str, &str); 14] = [
    ("dumped_frames", "dumped_frames_total"),
    ("error_frames", "error_frames_total"),
    ("fcp_packet_aborts", "fcp_packet_aborts_total"),
    ("invalid_crc_count", "invalid_crc_total"),
    ("invalid_tx_word_count", "invalid_tx_words_total"),
    ("link_failure_count", "link_failure_total"),
    ("loss_of_signal_count", "loss_of_signal_total"),
    ("loss_of_sync_count", "loss_of_sync_total"),
    ("nos_count", "nos_total"),
    ("rx_frames", "rx_frames_total"),
    ("rx_words", "rx_words_total"),
    ("seconds_since_last_reset", "seconds_since_last_reset_total"),
    ("tx_frames", "tx_frames_total"),
    ("tx_words", "tx_words_total"),
];

/// What an adapter says of a counter that it does not have.
const NOT_COUNTED: &str = "0xffffffffffffffff";

pub(super) fn fibrechannel(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/fc_host";
    let Some(hosts) = tree.names(CLASS) else { return Ok(Found::Nothing) };
    for host in hosts {
        let text = |file: &str| tree.text(&format!("{CLASS}/{host}/{file}")).unwrap_or_default();
        // Names are shown without the prefix of a number.
        let name = |file: &str| text(file).trim_start_matches("0x").to_owned();
        let labels = [
            ("dev_loss_tmo", text("dev_loss_tmo")),
            ("fabric_name", name("fabric_name")),
            ("fc_host", host.clone()),
            ("port_id", name("port_id")),
            ("port_name", name("port_name")),
            ("port_state", text("port_state")),
            ("port_type", text("port_type")),
            ("speed", text("speed")),
            ("supported_classes", text("supported_classes")),
            ("supported_speeds", text("supported_speeds")),
            ("symbolic_name", text("symbolic_name")),
        ];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        out.family("node_fibrechannel_info", Gauge, "What is known of an adapter in words.").add(&labels, 1.0);
        for (file, name) in FIBRECHANNEL {
            let path = format!("{CLASS}/{host}/statistics/{file}");
            if tree.text(&path).is_some_and(|text| text == NOT_COUNTED) {
                continue;
            }
            if let Some(value) = tree.number(&path) {
                let help = format!("{file} of an adapter.");
                out.family(&format!("node_fibrechannel_{name}"), Counter, &help).add(&[("fc_host", &host)], value);
            }
        }
    }
    Ok(Found::Data)
}
