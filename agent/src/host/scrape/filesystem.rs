//! Collector `filesystem`: which mounts are shown, and how full they are.
//!
//! Every mount is asked in a job of its own, because `statfs` on a dead one never returns. One that
//! does not answer is shown with `node_filesystem_device_error` 1 and without sizes.

use std::collections::BTreeSet;

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::mountinfo::{self, Mount};
use mainstay_core::sample::FilesystemUsage;

use super::super::filesystems::FilesystemSettings;
use super::tree::{ScrapeError, Tree, float};

/// Most mounts that are shown.
const MOUNTS_MAX: usize = 512;

/// Types that node_exporter leaves out.
const TYPES_IGNORED: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Mounts at these folders and below them are left out.
const FOLDERS_IGNORED: &[&str] = &["/dev", "/proc", "/sys", "/run/credentials", "/run/host", "/run/user"];

/// Mounts below these folders are left out, but not one at the folder itself.
const BELOW_IGNORED: &[&str] = &["/var/lib/docker", "/var/lib/containers/storage"];

/// The mounts that are shown, in the order of their paths.
pub(super) fn mounts(tree: &Tree, settings: &FilesystemSettings) -> Result<Vec<Mount>, ScrapeError> {
    // The agent's own table shows the view that its sandbox has; PID 1 sees the host's.
    let table = match tree.bytes("proc/1/mountinfo") {
        Ok(Some(bytes)) => bytes,
        _ => tree.bytes("proc/self/mountinfo")?.unwrap_or_default(),
    };
    let parsed = mountinfo::parse(&table)
        .map_err(|source| ScrapeError::Parse { path: "proc/1/mountinfo".to_owned(), source })?;
    let mut mounts: Vec<Mount> = parsed.into_iter().filter(|mount| is_shown(mount, settings)).collect();
    // The same device twice on the same path is one series.
    let mut seen = BTreeSet::new();
    mounts.reverse();
    mounts.retain(|mount| seen.insert((mount.mount_point.clone(), mount.source.clone(), mount.fstype.clone())));
    mounts.sort_by(|a, b| (&a.mount_point, &a.source).cmp(&(&b.mount_point, &b.source)));
    mounts.truncate(MOUNTS_MAX);
    Ok(mounts)
}

fn is_shown(mount: &Mount, settings: &FilesystemSettings) -> bool {
    let fstype = mount.fstype.as_str();
    let below = |folder: &str| mount.mount_point.0.strip_prefix(folder.as_bytes());
    let at_or_below = |folder: &str| below(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    let strictly_below = |folder: &str| below(folder).is_some_and(|rest| rest.first() == Some(&b'/'));
    // The layers of containers come by the hundred; the root of this host may be one too.
    let is_layer = fstype == "overlay" && mount.mount_point.0 != b"/";
    !(is_layer
        || TYPES_IGNORED.contains(&fstype)
        || FOLDERS_IGNORED.iter().any(|folder| at_or_below(folder))
        || BELOW_IGNORED.iter().any(|folder| strictly_below(folder))
        || settings.ignore_types.iter().any(|ignored| ignored == fstype)
        || settings.ignore_mounts.iter().any(|folder| at_or_below(folder.trim_end_matches('/'))))
}

/// Adds the series of one mount. `usage` is `None` where it did not answer.
pub(super) fn show(mount: &Mount, usage: Option<FilesystemUsage>, out: &mut Exposition) {
    let (device, point) = (String::from_utf8_lossy(&mount.source.0), String::from_utf8_lossy(&mount.mount_point.0));
    let labels = [("device", &*device), ("fstype", mount.fstype.as_str()), ("mountpoint", &*point)];
    let mut gauge = |name, help, value| out.family(name, FamilyKind::Gauge, help).add(&labels, value);
    let flag = |is: bool| f64::from(u8::from(is));
    gauge("node_filesystem_device_error", "1 if a filesystem does not answer.", flag(usage.is_none()));
    gauge("node_filesystem_readonly", "1 if a filesystem is read-only.", flag(mount.read_only));
    let Some(usage) = usage else { return };
    gauge("node_filesystem_avail_bytes", "Space that everybody can use.", float(usage.avail_bytes));
    gauge("node_filesystem_files", "Inodes, used and free.", float(usage.files));
    gauge("node_filesystem_files_free", "Free inodes.", float(usage.files_free));
    gauge("node_filesystem_free_bytes", "Free space, what is reserved for root included.", float(usage.free_bytes));
    gauge("node_filesystem_size_bytes", "Size of a filesystem.", float(usage.size_bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str, fstype: &str) -> Mount {
        Mount {
            id: 1,
            parent: 0,
            device_number: (8, 1),
            root: "/".into(),
            mount_point: point.into(),
            fstype: fstype.to_owned(),
            source: "/dev/sda1".into(),
            read_only: false,
        }
    }

    #[test]
    fn shows_what_holds_data_and_leaves_out_what_the_kernel_makes() {
        let settings =
            FilesystemSettings { ignore_mounts: vec!["/scratch/".to_owned()], ..FilesystemSettings::default() };
        for (point, fstype, shown) in [
            ("/", "overlay", true),
            ("/", "ext4", true),
            ("/mnt/usb", "vfat", true),
            ("/srv", "nfs4", true),
            ("/var/lib/docker", "xfs", true),
            ("/var/lib/docker/overlay2/x/merged", "overlay", false),
            ("/var/lib/docker/btrfs/x", "btrfs", false),
            ("/run", "tmpfs", true),
            ("/run/user/0", "tmpfs", false),
            ("/developer", "ext4", true),
            ("/dev/shm", "tmpfs", false),
            ("/boot", "squashfs", false),
            ("/scratch/a", "ext4", false),
        ] {
            assert_eq!(is_shown(&mount(point, fstype), &settings), shown, "{fstype} at {point}");
        }
    }

    #[test]
    fn a_mount_that_does_not_answer_has_an_error_and_no_sizes() {
        let mut text = Exposition::default();
        show(&mount("/dead", "nfs"), None, &mut text);
        let text = text.render(mainstay_core::exposition::Format::Prometheus);
        assert!(
            text.contains("node_filesystem_device_error{device=\"/dev/sda1\",fstype=\"nfs\",mountpoint=\"/dead\"} 1")
        );
        assert!(!text.contains("size_bytes"));
    }
}
