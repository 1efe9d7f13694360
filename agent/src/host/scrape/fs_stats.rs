//! Collectors of filesystems' own statistics: `xfs`, `btrfs`, `zfs`.

use std::collections::BTreeMap;

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::{kstat, xfs as xfs_file};

use super::tree::{ScrapeError, Tree, float};
use super::{Collected, Found};
use FamilyKind::{Counter, Gauge, Unknown};

/// Group and place of a counter in the kernel's file, and what its family adds to `node_xfs_`.
const XFS: [(&str, usize, &str); 39] = [
    ("extent_alloc", 0, "extent_allocation_extents_allocated_total"),
    ("extent_alloc", 1, "extent_allocation_blocks_allocated_total"),
    ("extent_alloc", 2, "extent_allocation_extents_freed_total"),
    ("extent_alloc", 3, "extent_allocation_blocks_freed_total"),
    ("abt", 0, "allocation_btree_lookups_total"),
    ("abt", 1, "allocation_btree_compares_total"),
    ("abt", 2, "allocation_btree_records_inserted_total"),
    ("abt", 3, "allocation_btree_records_deleted_total"),
    ("blk_map", 0, "block_mapping_reads_total"),
    ("blk_map", 1, "block_mapping_writes_total"),
    ("blk_map", 2, "block_mapping_unmaps_total"),
    ("blk_map", 3, "block_mapping_extent_list_insertions_total"),
    ("blk_map", 4, "block_mapping_extent_list_deletions_total"),
    ("blk_map", 5, "block_mapping_extent_list_lookups_total"),
    ("blk_map", 6, "block_mapping_extent_list_compares_total"),
    ("bmbt", 0, "block_map_btree_lookups_total"),
    ("bmbt", 1, "block_map_btree_compares_total"),
    ("bmbt", 2, "block_map_btree_records_inserted_total"),
    ("bmbt", 3, "block_map_btree_records_deleted_total"),
    ("dir", 0, "directory_operation_lookup_total"),
    ("dir", 1, "directory_operation_create_total"),
    ("dir", 2, "directory_operation_remove_total"),
    ("dir", 3, "directory_operation_getdents_total"),
    ("ig", 0, "inode_operation_attempts_total"),
    ("ig", 1, "inode_operation_found_total"),
    ("ig", 2, "inode_operation_recycled_total"),
    ("ig", 3, "inode_operation_missed_total"),
    ("ig", 4, "inode_operation_duplicates_total"),
    ("ig", 5, "inode_operation_reclaims_total"),
    ("ig", 6, "inode_operation_attribute_changes_total"),
    ("rw", 0, "write_calls_total"),
    ("rw", 1, "read_calls_total"),
    ("vnodes", 0, "vnode_active_total"),
    ("vnodes", 1, "vnode_allocate_total"),
    ("vnodes", 2, "vnode_get_total"),
    ("vnodes", 3, "vnode_hold_total"),
    ("vnodes", 4, "vnode_release_total"),
    ("vnodes", 5, "vnode_reclaim_total"),
    ("vnodes", 6, "vnode_remove_total"),
];

pub(super) fn xfs(tree: &Tree, out: &mut Exposition) -> Collected {
    const FOLDER: &str = "sys/fs/xfs";
    for device in tree.names(FOLDER).unwrap_or_default() {
        let path = format!("{FOLDER}/{device}/stats/stats");
        // `stats` there are the sums over all filesystems.
        let Some(bytes) = tree.bytes(&path)?.filter(|_| device != "stats") else { continue };
        let groups = xfs_file::parse(&bytes).map_err(|source| ScrapeError::Parse { path, source })?;
        for (group, at, name) in XFS {
            if let Some(value) = groups.get(group).and_then(|counters| counters.get(at)) {
                let help = format!("Counter {} of {group} in the statistics of XFS.", at + 1);
                out.family(&format!("node_xfs_{name}"), Counter, &help).add(&[("device", &device)], float(*value));
            }
        }
    }
    Ok(Found::Data)
}

const BTRFS: &str = "sys/fs/btrfs";

pub(super) fn btrfs(tree: &Tree, out: &mut Exposition) -> Collected {
    for uuid in tree.names(BTRFS).unwrap_or_default() {
        let path = format!("{BTRFS}/{uuid}");
        // Beside the filesystems there is `features`.
        if !tree.has(&format!("{path}/allocation")) {
            continue;
        }
        let id = ("uuid", uuid.as_str());
        let label = tree.text(&format!("{path}/label")).unwrap_or_default();
        out.family("node_btrfs_info", Gauge, "What is known of a filesystem in words.")
            .add(&[("label", &label), id], 1.0);
        if let Some(size) = tree.number(&format!("{path}/allocation/global_rsv_size")) {
            out.family("node_btrfs_global_rsv_size_bytes", Gauge, "Size of the global reserve.").add(&[id], size);
        }
        let devices = tree.names(&format!("{path}/devices")).unwrap_or_default();
        for device in &devices {
            if let Some(sectors) = tree.number(&format!("{path}/devices/{device}/size")) {
                out.family("node_btrfs_device_size_bytes", Gauge, "Size of a device of the filesystem.")
                    .add(&[("device", device), id], sectors * 512.0);
            }
        }
        for kind in ["data", "metadata", "system"] {
            btrfs_allocation(tree, &uuid, kind, float(devices.len() as u64), out);
        }
    }
    Ok(Found::Data)
}

fn btrfs_allocation(tree: &Tree, uuid: &str, kind: &str, devices: f64, out: &mut Exposition) {
    let path = format!("{BTRFS}/{uuid}/allocation/{kind}");
    let (kind, id) = (("block_group_type", kind), ("uuid", uuid));
    if let Some(reserved) = tree.number(&format!("{path}/bytes_reserved")) {
        out.family("node_btrfs_reserved_bytes", Gauge, "Space that is reserved.").add(&[kind, id], reserved);
    }
    for mode in tree.names(&path).unwrap_or_default() {
        let Some(used) = tree.number(&format!("{path}/{mode}/used_bytes")) else { continue };
        let size = tree.number(&format!("{path}/{mode}/total_bytes")).unwrap_or_default();
        // How many bytes of devices a byte of the filesystem takes.
        let ratio = match mode.as_str() {
            "dup" | "raid1" | "raid10" => 2.0,
            "raid1c3" => 3.0,
            "raid1c4" => 4.0,
            "raid5" => devices / (devices - 1.0),
            "raid6" => devices / (devices - 2.0),
            _ => 1.0,
        };
        let labels = [kind, ("mode", mode.as_str()), id];
        out.family("node_btrfs_used_bytes", Gauge, "Space in use.").add(&labels, used);
        out.family("node_btrfs_size_bytes", Gauge, "Space that is set aside.").add(&labels, size);
        out.family("node_btrfs_allocation_ratio", Gauge, "Bytes of devices for each byte.").add(&labels, ratio);
    }
}

const ZFS: &str = "proc/spl/kstat/zfs";

/// File of the kernel module, and what its families begin with.
const ZFS_FILES: [(&str, &str); 11] = [
    ("abdstats", "zfs_abd"),
    ("arcstats", "zfs_arc"),
    ("dbufstats", "zfs_dbuf"),
    ("dmu_tx", "zfs_dmu_tx"),
    ("dnodestats", "zfs_dnode"),
    ("fm", "zfs_fm"),
    ("vdev_cache_stats", "zfs_vdev_cache"),
    ("vdev_mirror_stats", "zfs_vdev_mirror"),
    ("xuio_stats", "zfs_xuio"),
    ("zfetchstats", "zfs_zfetch"),
    ("zil", "zfs_zil"),
];

const POOL_STATES: [&str; 7] = ["degraded", "faulted", "offline", "online", "removed", "suspended", "unavail"];

pub(super) fn zfs(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(names) = tree.names(ZFS) else { return Ok(Found::Nothing) };
    for (file, prefix) in ZFS_FILES {
        for (name, value) in named(tree, &format!("{ZFS}/{file}"))? {
            let help = format!("{name} of {file} of ZFS.");
            out.family(&format!("node_{prefix}_{}", name.replace('-', "_")), Unknown, &help).add(&[], value);
        }
    }
    for pool in names.iter().filter(|name| tree.has(&format!("{ZFS}/{name}/state"))) {
        zfs_pool(tree, pool, out)?;
    }
    Ok(Found::Data)
}

/// The numbers of a file, and under the name `dataset_name` nothing.
fn named(tree: &Tree, path: &str) -> Result<BTreeMap<String, f64>, ScrapeError> {
    let Some(bytes) = tree.bytes(path)? else { return Ok(BTreeMap::new()) };
    let values = kstat::named(&bytes).map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })?;
    let numbers = values.into_iter().filter_map(|(name, value)| match value {
        kstat::Value::Number(number) => Some((name.to_owned(), number)),
        kstat::Value::Text(_) => None,
    });
    Ok(numbers.collect())
}

fn zfs_pool(tree: &Tree, pool: &str, out: &mut Exposition) -> Result<(), ScrapeError> {
    let state = tree.text(&format!("{ZFS}/{pool}/state")).unwrap_or_default().to_lowercase();
    let mut family = out.family("node_zfs_zpool_state", Gauge, "State of a pool.");
    for name in POOL_STATES {
        family.add(&[("state", name), ("zpool", pool)], f64::from(u8::from(state == name)));
    }
    let path = format!("{ZFS}/{pool}/io");
    if let Some(bytes) = tree.bytes(&path)? {
        let columns = kstat::columns(&bytes).map_err(|source| ScrapeError::Parse { path, source })?;
        for (name, value) in columns {
            let help = format!("{name} of the I/O of a pool.");
            out.family(&format!("node_zfs_zpool_{name}"), Unknown, &help).add(&[("zpool", pool)], value);
        }
    }
    for set in tree.names(&format!("{ZFS}/{pool}")).unwrap_or_default() {
        if !set.starts_with("objset-") {
            continue;
        }
        let path = format!("{ZFS}/{pool}/{set}");
        let Some(bytes) = tree.bytes(&path)? else { continue };
        let values = kstat::named(&bytes).map_err(|source| ScrapeError::Parse { path, source })?;
        let mut dataset = "";
        for (name, value) in values {
            match value {
                kstat::Value::Text(text) => dataset = text,
                kstat::Value::Number(number) => {
                    let help = format!("{name} of a dataset.");
                    out.family(&format!("node_zfs_zpool_dataset_{name}"), Unknown, &help)
                        .add(&[("dataset", dataset), ("zpool", pool)], number);
                }
            }
        }
    }
    Ok(())
}
