//! Our parsers beside those of procfs-core, which others have made and many use: of each recorded file both say the same.
//! Ours are what runs each second, because they take what is asked for and allocate nothing for the rest.

use mainstay_core::parse;
use procfs_core::process::{MountInfos, Stat};
use procfs_core::{DiskStats, FromBufRead as _, FromRead as _, LoadAverage, Meminfo, VmStat};

macro_rules! files {
    ($($name:literal),+) => {
        [$(&include_bytes!(concat!("../../src/parse/fixtures/", $name))[..]),+]
    };
}

#[test]
fn memory_is_what_procfs_reads() {
    for file in files!["meminfo.6.1.txt", "meminfo.6.18.txt"] {
        let (ours, theirs) = (parse::meminfo::parse(file).unwrap(), Meminfo::from_buf_read(file).unwrap());
        assert_eq!(
            [ours.total_bytes, ours.free_bytes, ours.buffers_bytes, ours.cached_bytes, ours.dirty_bytes],
            [theirs.mem_total, theirs.mem_free, theirs.buffers, theirs.cached, theirs.dirty]
        );
        assert_eq!(
            [Some(ours.available_bytes), Some(ours.shmem_bytes), Some(ours.slab_reclaimable_bytes)],
            [theirs.mem_available, theirs.shmem, theirs.s_reclaimable]
        );
        assert_eq!([ours.swap_total_bytes, ours.swap_free_bytes], [theirs.swap_total, theirs.swap_free]);
    }
}

#[test]
fn load_is_what_procfs_reads() {
    for file in files!["loadavg.6.1.txt", "loadavg.6.18.txt"] {
        let (ours, theirs) = (parse::loadavg::parse(file).unwrap(), LoadAverage::from_read(file).unwrap());
        for (ours, theirs) in [(ours.one, theirs.one), (ours.five, theirs.five), (ours.fifteen, theirs.fifteen)] {
            assert!((ours - f64::from(theirs)).abs() < 1e-3, "{ours} and {theirs}");
        }
    }
}

#[test]
fn disks_are_what_procfs_reads() {
    for file in files!["diskstats.6.1.txt", "diskstats.6.18.txt"] {
        let (ours, theirs) = (parse::diskstats::all(file).unwrap(), DiskStats::from_buf_read(file).unwrap().0);
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.name, theirs.name);
            let counted = [
                theirs.reads,
                theirs.merged,
                theirs.sectors_read,
                theirs.time_reading,
                theirs.writes,
                theirs.writes_merged,
                theirs.sectors_written,
                theirs.time_writing,
                theirs.in_progress,
                theirs.time_in_progress,
                theirs.weighted_time_in_progress,
            ];
            assert_eq!(ours.columns[..counted.len()], counted, "{}", ours.name);
        }
    }
}

#[test]
fn a_process_is_what_procfs_reads() {
    for file in files!["pid_stat.6.1.txt", "pid_stat.6.18.txt"] {
        let (ours, theirs) = (parse::pid_stat::parse(file).unwrap(), Stat::from_read(file).unwrap());
        assert_eq!((ours.comm, char::from(ours.state)), (theirs.comm.as_bytes(), theirs.state));
        assert_eq!((i64::from(ours.pid), i64::from(ours.ppid)), (theirs.pid.into(), theirs.ppid.into()));
        assert_eq!(
            [ours.utime, ours.stime, ours.starttime, ours.rss_pages],
            [theirs.utime, theirs.stime, theirs.starttime, theirs.rss]
        );
        let signed = [theirs.cutime, theirs.cstime, theirs.num_threads].map(|n| u64::try_from(n).unwrap());
        assert_eq!([ours.cutime, ours.cstime, ours.num_threads.into()], signed);
    }
}

#[test]
fn mounts_are_what_procfs_reads() {
    let [file, not_text] = files!["mountinfo.6.1.txt", "mountinfo.txt"];
    let (ours, theirs) = (parse::mountinfo::parse(file).unwrap(), MountInfos::from_buf_read(file).unwrap().0);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(i64::try_from(ours.id), Ok(theirs.mnt_id.into()));
        let number = format!("{}:{}", ours.device_number.0, ours.device_number.1);
        assert_eq!((&number, &ours.fstype), (&theirs.majmin, &theirs.fs_type));
        let is_read_only = theirs.mount_options.contains_key("ro") || theirs.super_options.contains_key("ro");
        assert_eq!(ours.read_only, is_read_only, "{:?}", ours.mount_point);
    }
    // A path that is no UTF-8 takes all mounts from procfs, and none from us.
    assert!(MountInfos::from_buf_read(not_text).is_err() && parse::mountinfo::parse(not_text).is_ok());
}

#[test]
fn counters_of_memory_are_what_procfs_reads() {
    for file in files!["vmstat.6.1.txt", "vmstat.6.18.txt"] {
        let (ours, theirs) = (parse::vmstat::all(file).unwrap(), VmStat::from_buf_read(file).unwrap().0);
        assert_eq!(ours.len(), theirs.len());
        for (name, value) in ours {
            #[allow(clippy::cast_precision_loss)] // ours are shown as numbers of that kind
            let theirs = theirs[name] as f64;
            assert_eq!(value.to_bits(), theirs.to_bits(), "{name}");
        }
    }
}
