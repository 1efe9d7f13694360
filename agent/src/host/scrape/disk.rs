//! Collectors of block devices and tapes: `diskstats`, `mdadm`, `nvme`, `tapestats`.

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::{diskstats as diskstats_file, mdstat, udev};

use super::tree::{ScrapeError, Tree, float};
use super::{Collected, Found};
use FamilyKind::{Counter, Gauge};

/// A column of the file in its order: what the family adds to `node_disk_`, help, factor.
const COLUMNS: [(&str, FamilyKind, &str, f64); 17] = [
    ("reads_completed_total", Counter, "Reads that were completed.", 1.0),
    ("reads_merged_total", Counter, "Reads that were joined with others.", 1.0),
    ("read_bytes_total", Counter, "Bytes read.", 512.0),
    ("read_time_seconds_total", Counter, "Time that reads took, summed over them.", 1e-3),
    ("writes_completed_total", Counter, "Writes that were completed.", 1.0),
    ("writes_merged_total", Counter, "Writes that were joined with others.", 1.0),
    ("written_bytes_total", Counter, "Bytes written.", 512.0),
    ("write_time_seconds_total", Counter, "Time that writes took, summed over them.", 1e-3),
    ("io_now", Gauge, "Requests under way.", 1.0),
    ("io_time_seconds_total", Counter, "Time in which some request was under way.", 1e-3),
    ("io_time_weighted_seconds_total", Counter, "Time, weighted by the requests under way.", 1e-3),
    ("discards_completed_total", Counter, "Discards that were completed.", 1.0),
    ("discards_merged_total", Counter, "Discards that were joined with others.", 1.0),
    ("discarded_sectors_total", Counter, "Sectors of 512 bytes discarded.", 1.0),
    ("discard_time_seconds_total", Counter, "Time that discards took, summed over them.", 1e-3),
    ("flush_requests_total", Counter, "Flushes that were completed.", 1.0),
    ("flush_requests_time_seconds_total", Counter, "Time that flushes took, summed over them.", 1e-3),
];

pub(super) fn diskstats(tree: &Tree, out: &mut Exposition) -> Collected {
    let path = "proc/diskstats";
    let Some(bytes) = tree.bytes(path)? else { return Ok(Found::Nothing) };
    let lines = diskstats_file::all(&bytes).map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })?;
    let lines: Vec<_> = lines.into_iter().filter(|line| !is_part(line.name)).collect();
    for (at, (name, kind, help, factor)) in COLUMNS.into_iter().enumerate() {
        let name = format!("node_disk_{name}");
        let mut family = out.family(&name, kind, help);
        for line in &lines {
            if let Some(value) = line.columns.get(at) {
                family.add(&[("device", line.name)], float(*value) * factor);
            }
        }
    }
    for line in &lines {
        describe(tree, line.name, line.device_number, out)?;
    }
    Ok(Found::Data)
}

/// Parts of a disk, and disks that stand for files or memory: those that node_exporter leaves out.
fn is_part(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    let is_letter_disk = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_lowercase())
    };
    let is_nvme_part = || {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parts = stem.strip_prefix("nvme").and_then(|rest| rest.strip_suffix('p')?.split_once('n'));
        parts.is_some_and(|(controller, namespace)| digits(controller) && digits(namespace))
    };
    matches!(stem, "ram" | "loop" | "fd") || ["hd", "sd", "vd", "xvd"].into_iter().any(is_letter_disk) || is_nvme_part()
}

/// What udev knows of a disk. Without udev only its numbers.
fn describe(tree: &Tree, device: &str, (major, minor): (u32, u32), out: &mut Exposition) -> Result<(), ScrapeError> {
    let bytes = tree.bytes(&format!("run/udev/data/b{major}:{minor}"))?.unwrap_or_default();
    let known = udev::properties(&bytes);
    let of = |key: &str| known.get(key).map_or("", String::as_str);
    let labels = [
        ("device", device),
        ("major", &major.to_string()),
        ("minor", &minor.to_string()),
        ("model", of("ID_MODEL")),
        ("path", of("ID_PATH")),
        ("revision", of("ID_REVISION")),
        ("serial", of("ID_SERIAL_SHORT")),
        ("wwn", of("ID_WWN")),
    ];
    out.family("node_disk_info", Gauge, "What is known of a disk in words.").add(&labels, 1.0);
    if !of("ID_FS_TYPE").is_empty() {
        let labels = [
            ("device", device),
            ("type", of("ID_FS_TYPE")),
            ("usage", of("ID_FS_USAGE")),
            ("uuid", of("ID_FS_UUID")),
            ("version", of("ID_FS_VERSION")),
        ];
        out.family("node_disk_filesystem_info", Gauge, "The filesystem on a disk.").add(&labels, 1.0);
    }
    if !of("DM_NAME").is_empty() {
        let labels = [
            ("device", device),
            ("lv_layer", of("DM_LV_LAYER")),
            ("lv_name", of("DM_LV_NAME")),
            ("name", of("DM_NAME")),
            ("uuid", of("DM_UUID")),
            ("vg_name", of("DM_VG_NAME")),
        ];
        out.family("node_disk_device_mapper_info", Gauge, "What the device mapper calls a disk.").add(&labels, 1.0);
    }
    if !of("ID_ATA").is_empty() {
        for (key, name, help) in [
            ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "1 if the disk has a write cache."),
            ("ID_ATA_WRITE_CACHE_ENABLED", "node_disk_ata_write_cache_enabled", "1 if its write cache is on."),
            (
                "ID_ATA_ROTATION_RATE_RPM",
                "node_disk_ata_rotation_rate_rpm",
                "How fast the disk turns; 0 if it does not.",
            ),
        ] {
            if let Ok(value) = of(key).parse() {
                out.family(name, Gauge, help).add(&[("device", device)], value);
            }
        }
    }
    Ok(())
}

pub(super) fn mdadm(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(arrays) = tree.parsed("proc/mdstat", mdstat::parse)? else { return Ok(Found::Nothing) };
    for array in arrays {
        let device = ("device", array.name.as_str());
        for (state, activity) in [
            ("active", mdstat::Activity::Active),
            ("check", mdstat::Activity::Checking),
            ("inactive", mdstat::Activity::Inactive),
            ("recovering", mdstat::Activity::Recovering),
            ("resync", mdstat::Activity::Resyncing),
        ] {
            let is = f64::from(u8::from(array.activity == activity));
            out.family("node_md_state", Gauge, "What an array does.").add(&[device, ("state", state)], is);
        }
        let mut disks = out.family("node_md_disks", Gauge, "Disks of an array, by state.");
        disks.add(&[device, ("state", "active")], float(array.disks_active));
        disks.add(&[device, ("state", "failed")], float(array.disks_failed));
        disks.add(&[device, ("state", "spare")], float(array.disks_spare));
        out.family("node_md_disks_required", Gauge, "Disks that an array is made for.")
            .add(&[device], float(array.disks_required));
        out.family("node_md_blocks", Gauge, "Size of an array in blocks of 1 KiB.").add(&[device], float(array.blocks));
        out.family("node_md_blocks_synced", Gauge, "Blocks of an array that are in sync.")
            .add(&[device], float(array.blocks_synced));
    }
    Ok(Found::Data)
}

pub(super) fn nvme(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/nvme";
    let Some(devices) = tree.names(CLASS) else { return Ok(Found::Nothing) };
    for device in devices {
        let text = |file: &str| tree.text(&format!("{CLASS}/{device}/{file}")).unwrap_or_default();
        let labels = [
            ("device", device.clone()),
            ("firmware_revision", text("firmware_rev")),
            ("model", text("model")),
            ("serial", text("serial")),
            ("state", text("state")),
        ];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        out.family("node_nvme_info", Gauge, "What is known of an NVMe controller in words.").add(&labels, 1.0);
    }
    Ok(Found::Data)
}

/// File below `stats/`, what the family adds to `node_tape_`, kind, help, factor.
const TAPE: [(&str, &str, FamilyKind, &str, f64); 10] = [
    ("in_flight", "io_now", Gauge, "Requests under way.", 1.0),
    ("io_ns", "io_time_seconds_total", Counter, "Time that all requests took, winding included.", 1e-9),
    ("other_cnt", "io_others_total", Counter, "Requests that were neither reads nor writes.", 1.0),
    ("read_byte_cnt", "read_bytes_total", Counter, "Bytes read.", 1.0),
    ("read_cnt", "reads_completed_total", Counter, "Reads that were completed.", 1.0),
    ("read_ns", "read_time_seconds_total", Counter, "Time that reads took.", 1e-9),
    ("resid_cnt", "residual_total", Counter, "Requests of another size than the block on the tape.", 1.0),
    ("write_byte_cnt", "written_bytes_total", Counter, "Bytes written.", 1.0),
    ("write_cnt", "writes_completed_total", Counter, "Writes that were completed.", 1.0),
    ("write_ns", "write_time_seconds_total", Counter, "Time that writes took.", 1e-9),
];

pub(super) fn tapestats(tree: &Tree, out: &mut Exposition) -> Collected {
    const CLASS: &str = "sys/class/scsi_tape";
    // `st0` is the drive, `nst0` and `st0a` are the same with other manners.
    let drives = tree.numbered(CLASS, "st");
    if !tree.has(CLASS) {
        return Ok(Found::Nothing);
    }
    for (file, name, kind, help, factor) in TAPE {
        let name = format!("node_tape_{name}");
        let mut family = out.family(&name, kind, help);
        for (drive, _) in &drives {
            if let Some(value) = tree.number(&format!("{CLASS}/{drive}/stats/{file}")) {
                family.add(&[("device", drive)], value * factor);
            }
        }
    }
    Ok(Found::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_partitions_and_disks_that_stand_for_files() {
        for part in ["sda1", "vda12", "xvdb3", "hdc1", "nvme0n1p2", "loop7", "ram0", "fd0"] {
            assert!(is_part(part), "{part}");
        }
        for whole in ["sda", "vda", "nvme0n1", "dm-0", "md127", "zram0", "sr0", "mmcblk0", "mmcblk0p1", "sdaa1", "nbd0"]
        {
            assert!(!is_part(whole), "{whole}");
        }
    }
}
