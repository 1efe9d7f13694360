//! Collectors that say what machine and system this is: `dmi`, `os`, `uname`.

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::os_release;

use super::tree::Tree;
use super::{Collected, Found};
use FamilyKind::Gauge;

/// Files below `/sys/class/dmi/id`, which are the labels too. What only root may read is left out.
const DMI: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];

pub(super) fn dmi(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/dmi/id";
    if !tree.has(CLASS) {
        return Ok(Found::Nothing);
    }
    let words: Vec<(&str, String)> =
        DMI.into_iter().filter_map(|file| Some((label_of(file), tree.text(&format!("{CLASS}/{file}"))?))).collect();
    let mut labels: Vec<(&str, &str)> = words.iter().map(|(label, text)| (*label, text.as_str())).collect();
    labels.sort_unstable();
    out.family("node_dmi_info", Gauge, "What the firmware says of the machine.").add(&labels, 1.0);
    Ok(Found::Data)
}

fn label_of(file: &'static str) -> &'static str {
    if file == "sys_vendor" { "system_vendor" } else { file }
}

/// Labels of the info series: keys of os-release in lower case.
const OS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];

pub(super) fn os(tree: &Tree, out: &mut Exposition) -> Collected {
    let bytes = match tree.bytes("etc/os-release") {
        Ok(Some(bytes)) => bytes,
        _ => tree.bytes("usr/lib/os-release")?.unwrap_or_default(),
    };
    if bytes.is_empty() {
        return Ok(Found::Nothing);
    }
    let release = os_release::parse(&bytes);
    let of = |label: &str| release.get(&label.to_ascii_uppercase()).map_or("", String::as_str);
    let labels = OS.map(|label| (label, of(label)));
    out.family("node_os_info", Gauge, "The system, as os-release(5) has it.").add(&labels, 1.0);
    // `12`, `22.04`, `7.9.2009`: the first two parts are a number.
    let mut parts = of("version_id").splitn(3, '.');
    let major_minor = match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}"),
        (Some(major), None) => major.to_owned(),
        _ => String::new(),
    };
    if let Ok(version) = major_minor.parse() {
        let labels = [("id", of("id")), ("id_like", of("id_like")), ("name", of("name"))];
        out.family("node_os_version", Gauge, "Major and minor version of the system.").add(&labels, version);
    }
    Ok(Found::Data)
}

pub(super) fn uname(_: &Tree, out: &mut Exposition) -> Collected {
    let uname = rustix::system::uname();
    let texts = [
        ("domainname", uname.domainname()),
        ("machine", uname.machine()),
        ("nodename", uname.nodename()),
        ("release", uname.release()),
        ("sysname", uname.sysname()),
        ("version", uname.version()),
    ];
    let texts = texts.map(|(label, text)| (label, text.to_string_lossy()));
    let labels = texts.each_ref().map(|(label, text)| (*label, &**text));
    out.family("node_uname_info", Gauge, "The kernel, as uname(2) has it.").add(&labels, 1.0);
    Ok(Found::Data)
}
