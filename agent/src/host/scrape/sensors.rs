//! Collectors of heat and power: `hwmon`, `thermal_zone`, `powersupplyclass`, `rapl`.

use std::collections::BTreeMap;

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::sensor;

use super::tree::Tree;
use super::{Collected, Found};
use FamilyKind::{Counter, Gauge};

const HWMON: &str = "sys/class/hwmon";

/// What hwmon chips measure. Other files are no sensors.
const SENSOR_KINDS: [&str; 13] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
];

pub(super) fn hwmon(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(chips) = tree.names(HWMON) else { return Ok(Found::Nothing) };
    for folder in chips {
        let path = format!("{HWMON}/{folder}");
        let chip = chip_name(tree, &folder);
        if let Some(name) = tree.text(&format!("{path}/name")).filter(|name| !name.is_empty()) {
            out.family("node_hwmon_chip_names", Gauge, "What a chip is called.")
                .add(&[("chip", &chip), ("chip_name", &sensor::clean(&name))], 1.0);
        }
        let mut sensors: BTreeMap<(&str, String), BTreeMap<String, String>> = BTreeMap::new();
        // Old drivers keep their files one folder below.
        for below in [path.clone(), format!("{path}/device")] {
            for file in tree.names(&below).unwrap_or_default() {
                let Some(parts) = sensor::split(&file) else { continue };
                let Some(kind) = SENSOR_KINDS.into_iter().find(|kind| *kind == parts.kind) else { continue };
                let Some(text) = tree.text(&format!("{below}/{file}")) else { continue };
                let name = format!("{kind}{}", parts.number);
                sensors.entry((kind, name)).or_default().insert(parts.property.to_owned(), text);
            }
        }
        for ((kind, name), values) in &sensors {
            show_sensor(&chip, kind, name, values, out);
        }
    }
    Ok(Found::Data)
}

/// A name for a chip that stays the same over boots: that of the device it stands on, else the one
/// that its driver gives.
fn chip_name(tree: &Tree, folder: &str) -> String {
    if let Some((bus, device)) = tree.real_place(&format!("{HWMON}/{folder}/device")) {
        let (bus, device) = (sensor::clean(&bus), sensor::clean(&device));
        match (bus.is_empty(), device.is_empty()) {
            (false, false) => return format!("{bus}_{device}"),
            (true, false) => return device,
            _ => {}
        }
    }
    let name = tree.text(&format!("{HWMON}/{folder}/name")).map(|name| sensor::clean(&name)).unwrap_or_default();
    if name.is_empty() { sensor::clean(folder) } else { name }
}

fn show_sensor(chip: &str, kind: &str, name: &str, values: &BTreeMap<String, String>, out: &mut Exposition) {
    let labels = [("chip", chip), ("sensor", name)];
    if let Some(label) = values.get("label").filter(|label| !sensor::clean(label).is_empty()) {
        let labels = [("chip", chip), ("label", label.as_str()), ("sensor", name)];
        out.family("node_hwmon_sensor_label", Gauge, "What a sensor is called.").add(&labels, 1.0);
    }
    for (property, text) in values.iter().filter(|(property, _)| *property != "label") {
        let Ok(value) = text.parse::<f64>() else { continue };
        let (family, family_kind, factor) = family_of(kind, property, values.contains_key(""));
        out.family(&family, family_kind, &format!("{kind} {property} of a sensor.").replace("  ", " "))
            .add(&labels, value * factor);
    }
}

/// Name, kind and factor of the family that a property of a sensor belongs to.
fn family_of(kind: &str, property: &str, has_plain: bool) -> (String, FamilyKind, f64) {
    match kind {
        "beep_enable" => return ("node_hwmon_beep_enabled".to_owned(), Gauge, 1.0),
        "vrm" => return ("node_hwmon_voltage_regulator_version".to_owned(), Gauge, 1.0),
        "update_interval" => return ("node_hwmon_update_interval_seconds".to_owned(), Gauge, 1e-3),
        _ => {}
    }
    let base = match property {
        "" => format!("node_hwmon_{kind}"),
        // The input is the value itself, unless there is a file without property beside it.
        "input" if !has_plain => format!("node_hwmon_{kind}"),
        property => format!("node_hwmon_{kind}_{}", sensor::clean(property)),
    };
    let (unit, family_kind, factor) = match (kind, property) {
        (_, "fault" | "alarm") => ("", Gauge, 1.0),
        (_, "beep") => ("_enabled", Gauge, 1.0),
        ("in" | "cpu", _) => ("_volts", Gauge, 1e-3),
        ("temp", "type") => ("", Gauge, 1.0),
        ("temp", _) => ("_celsius", Gauge, 1e-3),
        ("curr", _) => ("_amps", Gauge, 1e-3),
        ("energy", _) => ("_joule_total", Counter, 1e-6),
        ("power", "accuracy") => ("", Gauge, 1e-6),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => ("_seconds", Gauge, 1e-3),
        ("power", _) => ("_watt", Gauge, 1e-6),
        ("humidity", _) => ("", Gauge, 1e-6),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", Gauge, 1.0),
        _ => ("", Gauge, 1.0),
    };
    (base + unit, family_kind, factor)
}

pub(super) fn thermal_zone(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/thermal";
    for (folder, number) in tree.numbered(CLASS, "thermal_zone") {
        let kind = tree.text(&format!("{CLASS}/{folder}/type")).unwrap_or_default();
        if let Some(temperature) = tree.number(&format!("{CLASS}/{folder}/temp")) {
            out.family("node_thermal_zone_temp", Gauge, "Temperature of a zone in degrees Celsius.")
                .add(&[("type", &kind), ("zone", &number.to_string())], temperature / 1e3);
        }
    }
    for (folder, number) in tree.numbered(CLASS, "cooling_device") {
        let kind = tree.text(&format!("{CLASS}/{folder}/type")).unwrap_or_default();
        for (file, name, help) in [
            ("cur_state", "node_cooling_device_cur_state", "How hard a device cools now."),
            ("max_state", "node_cooling_device_max_state", "How hard a device can cool."),
        ] {
            if let Some(state) = tree.number(&format!("{CLASS}/{folder}/{file}")) {
                out.family(name, Gauge, help).add(&[("name", &number.to_string()), ("type", &kind)], state);
            }
        }
    }
    Ok(Found::Data)
}

/// File below the supply, and what its family adds to `node_power_supply_`, by the unit of the file.
const SUPPLY_PLAIN: [(&str, &str); 10] = [
    ("authentic", "authentic"),
    ("calibrate", "calibrate"),
    ("capacity", "capacity"),
    ("capacity_alert_max", "capacity_alert_max"),
    ("capacity_alert_min", "capacity_alert_min"),
    ("cycle_count", "cyclecount"),
    ("online", "online"),
    ("present", "present"),
    ("time_to_empty_now", "time_to_empty_seconds"),
    ("time_to_full_now", "time_to_full_seconds"),
];

/// Millionths of a volt, ampere, watt and their products with an hour.
const SUPPLY_MICRO: [(&str, &str); 31] = [
    ("charge_control_limit", "charge_control_limit"),
    ("charge_control_limit_max", "charge_control_limit_max"),
    ("charge_counter", "charge_counter"),
    ("charge_empty", "charge_empty"),
    ("charge_empty_design", "charge_empty_design"),
    ("charge_full", "charge_full"),
    ("charge_full_design", "charge_full_design"),
    ("charge_now", "charge_ampere"),
    ("charge_term_current", "charge_term_current"),
    ("constant_charge_current", "constant_charge_current"),
    ("constant_charge_current_max", "constant_charge_current_max"),
    ("constant_charge_voltage", "constant_charge_voltage"),
    ("constant_charge_voltage_max", "constant_charge_voltage_max"),
    ("current_boot", "current_boot"),
    ("current_max", "current_max"),
    ("current_now", "current_ampere"),
    ("energy_empty", "energy_empty"),
    ("energy_empty_design", "energy_empty_design"),
    ("energy_full", "energy_full"),
    ("energy_full_design", "energy_full_design"),
    ("energy_now", "energy_watthour"),
    ("input_current_limit", "input_current_limit"),
    ("power_now", "power_watt"),
    ("precharge_current", "precharge_current"),
    ("voltage_boot", "voltage_boot"),
    ("voltage_max", "voltage_max"),
    ("voltage_max_design", "voltage_max_design"),
    ("voltage_min", "voltage_min"),
    ("voltage_min_design", "voltage_min_design"),
    ("voltage_now", "voltage_volt"),
    ("voltage_ocv", "voltage_ocv"),
];

/// Tenths of a degree.
const SUPPLY_TENTH: [(&str, &str); 8] = [
    ("temp", "temp_celsius"),
    ("temp_alert_max", "temp_alert_max_celsius"),
    ("temp_alert_min", "temp_alert_min_celsius"),
    ("temp_ambient", "temp_ambient_celsius"),
    ("temp_ambient_alert_max", "temp_ambient_max_celsius"),
    ("temp_ambient_alert_min", "temp_ambient_min_celsius"),
    ("temp_max", "temp_max_celsius"),
    ("temp_min", "temp_min_celsius"),
];

/// Labels of the info series; those without text are left out.
const SUPPLY_WORDS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

pub(super) fn power_supply(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/power_supply";
    let Some(supplies) = tree.names(CLASS) else { return Ok(Found::Nothing) };
    for supply in supplies {
        let path = |file: &str| format!("{CLASS}/{supply}/{file}");
        for (table, factor) in [(&SUPPLY_PLAIN[..], 1.0), (&SUPPLY_MICRO[..], 1e-6), (&SUPPLY_TENTH[..], 0.1)] {
            for (file, name) in table {
                if let Some(value) = tree.number(&path(file)) {
                    let help = format!("{file} of a power supply.");
                    out.family(&format!("node_power_supply_{name}"), Gauge, &help)
                        .add(&[("power_supply", &supply)], value * factor);
                }
            }
        }
        let words = SUPPLY_WORDS.map(|word| (word, tree.text(&path(word)).unwrap_or_default()));
        let mut labels = vec![("power_supply", supply.as_str())];
        labels.extend(words.iter().map(|(word, text)| (*word, text.as_str())).filter(|(_, text)| !text.is_empty()));
        labels.sort_unstable();
        out.family("node_power_supply_info", Gauge, "What is known of a power supply in words.").add(&labels, 1.0);
    }
    Ok(Found::Data)
}

pub(super) fn rapl(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/powercap";
    let Some(zones) = tree.names(CLASS) else { return Ok(Found::Nothing) };
    let mut found = Found::Nothing;
    // `package-0` is the zone `package` with the index 0; zones without a number are counted.
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for zone in zones.iter().filter(|zone| zone.contains(':')) {
        let Some(name) = tree.text(&format!("{CLASS}/{zone}/name")) else { continue };
        let (name, index) = match name.rsplit_once('-').map(|(stem, index)| (stem, index.parse::<u64>())) {
            Some((stem, Ok(index))) => (stem.to_owned(), index),
            _ => {
                let count = counts.entry(name.clone()).or_default();
                *count += 1;
                (name, *count - 1)
            }
        };
        // Only root may read it since Linux 5.10.
        let Some(microjoules) = tree.number(&format!("{CLASS}/{zone}/energy_uj")) else { continue };
        found = Found::Data;
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        let path = format!("/{CLASS}/{zone}");
        out.family(&format!("node_rapl_{plain}_joules_total"), Counter, "Energy used.")
            .add(&[("index", &index.to_string()), ("path", &path)], microjoules / 1e6);
    }
    Ok(found)
}
