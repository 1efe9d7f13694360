//! Collectors of interfaces: `netclass`, `netdev`, `bonding`, `arp`.

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::{arp as arp_file, net_dev};

use super::tree::{ScrapeError, Tree, float};
use super::{Collected, Found};

const CLASS: &str = "sys/class/net";

/// Bytes per second in the unit of `speed`, megabits per second.
const BYTES_PER_MEGABIT: f64 = 125_000.0;

/// File below the interface, what the family adds to `node_network_`, help, factor.
const GAUGES: [(&str, &str, &str, f64); 14] = [
    ("addr_assign_type", "address_assign_type", "How the address was given: 0 by the hardware, 1 random.", 1.0),
    ("carrier", "carrier", "1 if the link is there.", 1.0),
    ("dev_id", "device_id", "Number of the device among those that share an address.", 1.0),
    ("dormant", "dormant", "1 if the interface waits for something outside, such as a login.", 1.0),
    ("flags", "flags", "Flags of the interface, as netdevice(7) has them.", 1.0),
    ("ifindex", "iface_id", "Number of the interface.", 1.0),
    ("iflink", "iface_link", "Number of the interface that this one stands on.", 1.0),
    ("link_mode", "iface_link_mode", "0 if the link comes up by itself, 1 if it waits.", 1.0),
    ("mtu", "mtu_bytes", "Largest packet.", 1.0),
    ("name_assign_type", "name_assign_type", "How the name was given.", 1.0),
    ("netdev_group", "net_dev_group", "Group of the interface.", 1.0),
    ("speed", "speed_bytes", "Speed of the link per second; negative where it is unknown.", BYTES_PER_MEGABIT),
    ("tx_queue_len", "transmit_queue_length", "Most packets that wait to be sent.", 1.0),
    ("type", "protocol_type", "Kind of hardware, as if_arp.h has it.", 1.0),
];

const COUNTERS: [(&str, &str, &str); 3] = [
    ("carrier_changes", "carrier_changes_total", "How often the link came or went."),
    ("carrier_down_count", "carrier_down_changes_total", "How often the link went."),
    ("carrier_up_count", "carrier_up_changes_total", "How often the link came."),
];

pub(super) fn netclass(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(names) = tree.names(CLASS) else { return Ok(Found::Nothing) };
    // Beside the interfaces there may be files, such as bonding_masters.
    let interfaces: Vec<_> = names.iter().filter(|name| tree.has(&format!("{CLASS}/{name}/ifindex"))).collect();
    for (file, name, help, factor) in GAUGES {
        let name = format!("node_network_{name}");
        let mut family = out.family(&name, FamilyKind::Gauge, help);
        for device in &interfaces {
            if let Some(value) = tree.number(&format!("{CLASS}/{device}/{file}")) {
                family.add(&[("device", device)], value * factor);
            }
        }
    }
    for (file, name, help) in COUNTERS {
        let name = format!("node_network_{name}");
        let mut family = out.family(&name, FamilyKind::Counter, help);
        for device in &interfaces {
            if let Some(value) = tree.number(&format!("{CLASS}/{device}/{file}")) {
                family.add(&[("device", device)], value);
            }
        }
    }
    for device in interfaces {
        let text = |file: &str| tree.text(&format!("{CLASS}/{device}/{file}")).unwrap_or_default();
        let state = text("operstate");
        let up = f64::from(u8::from(state == "up"));
        out.family("node_network_up", FamilyKind::Gauge, "1 if the interface is up.").add(&[("device", device)], up);
        let labels = [
            ("address", text("address")),
            ("broadcast", text("broadcast")),
            ("device", device.clone()),
            ("duplex", text("duplex")),
            ("ifalias", text("ifalias")),
            ("operstate", state),
        ];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        out.family("node_network_info", FamilyKind::Gauge, "What is known of an interface in words.").add(&labels, 1.0);
    }
    Ok(Found::Data)
}

pub(super) fn netdev(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(bytes) = tree.bytes("proc/net/dev")? else { return Ok(Found::Nothing) };
    let interfaces =
        net_dev::all(&bytes).map_err(|source| ScrapeError::Parse { path: "proc/net/dev".to_owned(), source })?;
    let interfaces: Vec<_> = interfaces.into_iter().filter(|(device, _)| *device != "lo").collect();
    for (at, column) in net_dev::COLUMNS_ALL.iter().enumerate() {
        let (name, help) =
            (format!("node_network_{column}_total"), format!("{} of the interface.", column.replace('_', " ")));
        let mut family = out.family(&name, FamilyKind::Counter, &help);
        interfaces.iter().for_each(|(device, columns)| family.add(&[("device", device)], float(columns[at])));
    }
    let help = "Packets that nobody wanted.";
    let mut family = out.family("node_network_receive_nohandler_total", FamilyKind::Counter, help);
    for (device, _) in &interfaces {
        if let Some(count) = tree.number(&format!("{CLASS}/{device}/statistics/rx_nohandler")) {
            family.add(&[("device", device)], count);
        }
    }
    Ok(Found::Data)
}

pub(super) fn bonding(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(masters) = tree.text(&format!("{CLASS}/bonding_masters")) else { return Ok(Found::Nothing) };
    for master in masters.split_whitespace() {
        let Some(members) = tree.text(&format!("{CLASS}/{master}/bonding/slaves")) else { continue };
        // The link to a member is `lower_NAME`, before Linux 3.9 `slave_NAME`.
        let is_up = |member: &&str| {
            ["lower", "slave"].iter().any(|link| {
                let file = format!("{CLASS}/{master}/{link}_{member}/bonding_slave/mii_status");
                tree.text(&file).is_some_and(|status| status == "up")
            })
        };
        let (all, up) = (members.split_whitespace().count(), members.split_whitespace().filter(is_up).count());
        out.family("node_bonding_slaves", FamilyKind::Gauge, "Interfaces that were joined.")
            .add(&[("master", master)], float(all as u64));
        out.family("node_bonding_active", FamilyKind::Gauge, "Interfaces of the bond that are up.")
            .add(&[("master", master)], float(up as u64));
    }
    Ok(Found::Data)
}

pub(super) fn arp(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(bytes) = tree.bytes("proc/net/arp")? else { return Ok(Found::Nothing) };
    let entries =
        arp_file::parse(&bytes).map_err(|source| ScrapeError::Parse { path: "proc/net/arp".to_owned(), source })?;
    let mut family = out.family("node_arp_entries", FamilyKind::Gauge, "Neighbours that IPv4 knows, by interface.");
    entries.iter().for_each(|(device, count)| family.add(&[("device", device)], float(*count)));
    Ok(Found::Data)
}
