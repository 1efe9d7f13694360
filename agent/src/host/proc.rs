//! Machine-wide files of `/proc`: CPU, load, memory, pressure, disks, network, file handles.
//!
//! In: a root folder. Out: the parts of a [`Sample`] that come from these files. A file that cannot
//! be read or understood leaves its part `None` and is named in [`ReadErrors`], and the others are
//! read all the same.

use std::path::Path;

use mainstay_core::parse::{self, ParseError};
use mainstay_core::sample::{Conntrack, Pressure, Sample, TcpCounters};

use super::ReadErrors;
use super::file::KeptFile;

/// Disks that stand for files, memory or a part of another disk, not for a device.
const DISK_PREFIXES_IGNORED: &[&[u8]] = &[b"loop", b"ram", b"zram", b"fd", b"sr", b"nbd"];

/// Interfaces made for containers and virtual machines: one for each, and named anew each time.
const INTERFACE_PREFIXES_IGNORED: &[&[u8]] = &[b"veth", b"cali", b"tap", b"vnet", b"lxc"];

/// Every so many samples what listeners lost is read; the last reading stands in between.
const LISTEN_EVERY: u64 = 5;

/// Every so many samples the limits on tasks are read: they hardly ever change.
const TASKS_MAX_EVERY: u64 = 60;

/// The files, each opened once.
#[derive(Debug)]
pub struct ProcReader {
    stat: KeptFile,
    each_cpu_up_to: usize,
    loadavg: KeptFile,
    meminfo: KeptFile,
    vmstat: KeptFile,
    pressure_cpu: KeptFile,
    pressure_memory: KeptFile,
    pressure_io: KeptFile,
    diskstats: KeptFile,
    net_dev: KeptFile,
    file_nr: KeptFile,
    snmp: KeptFile,
    netstat: KeptFile,
    listen: Option<[u64; 2]>,
    threads_max: KeptFile,
    pid_max: KeptFile,
    tasks_max: Option<u64>,
    round: u64,
    conntrack_count: KeptFile,
    conntrack_max: KeptFile,
    sys_block: std::path::PathBuf,
    whole_disks: Vec<Vec<u8>>,
    disk_lines: usize,
}

impl ProcReader {
    /// Reads below `root`: `/` on a real host.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        let kept = |path: &str| KeptFile::new(root.join("proc").join(path));
        Self {
            stat: kept("stat"),
            each_cpu_up_to: usize::MAX,
            loadavg: kept("loadavg"),
            meminfo: kept("meminfo"),
            vmstat: kept("vmstat"),
            pressure_cpu: kept("pressure/cpu"),
            pressure_memory: kept("pressure/memory"),
            pressure_io: kept("pressure/io"),
            diskstats: kept("diskstats"),
            net_dev: kept("net/dev"),
            file_nr: kept("sys/fs/file-nr"),
            snmp: kept("net/snmp"),
            netstat: kept("net/netstat"),
            listen: None,
            threads_max: kept("sys/kernel/threads-max"),
            pid_max: kept("sys/kernel/pid_max"),
            tasks_max: None,
            round: 0,
            conntrack_count: kept("sys/net/netfilter/nf_conntrack_count"),
            conntrack_max: kept("sys/net/netfilter/nf_conntrack_max"),
            sys_block: root.join("sys/block"),
            whole_disks: Vec::new(),
            disk_lines: usize::MAX,
        }
    }

    /// Of more CPUs than these, samples have only what they spent together.
    pub fn tell_each_cpu_up_to(&mut self, cpus: usize) {
        self.each_cpu_up_to = cpus;
    }

    /// Fills the machine-wide parts of a sample.
    pub fn read(&mut self, sample: &mut Sample, buffer: &mut Vec<u8>, errors: &mut ReadErrors) {
        if let Some(stat) = take(&mut self.stat, buffer, errors, parse::stat::parse) {
            (sample.cpu, sample.cpus, sample.kernel) = (Some(stat.cpu), Some(stat.cpus), Some(stat.kernel));
            sample.cpu_each = stat.cpu_each;
            if sample.cpu_each.len() > self.each_cpu_up_to {
                sample.cpu_each.clear();
            }
        }
        let load = take(&mut self.loadavg, buffer, errors, |bytes| {
            Ok((parse::loadavg::parse(bytes)?, parse::loadavg::tasks(bytes)?))
        });
        (sample.load, sample.tasks) = load.unzip();
        sample.memory = take(&mut self.meminfo, buffer, errors, parse::meminfo::parse);
        sample.vm = take(&mut self.vmstat, buffer, errors, parse::vmstat::parse);
        sample.pressure.cpu = pressure(&mut self.pressure_cpu, buffer, errors);
        sample.pressure.memory = pressure(&mut self.pressure_memory, buffer, errors);
        sample.pressure.io = pressure(&mut self.pressure_io, buffer, errors);
        self.read_disks(sample, buffer, errors);
        let keep = |name: &[u8]| name != b"lo" && !starts_with_any(name, INTERFACE_PREFIXES_IGNORED);
        let interfaces = take(&mut self.net_dev, buffer, errors, |bytes| parse::net_dev::parse(bytes, keep));
        sample.interfaces = interfaces.unwrap_or_default();
        sample.file_handles = take(&mut self.file_nr, buffer, errors, parse::file_nr::parse);
        sample.tcp = self.read_tcp(buffer, errors);
        sample.conntrack = self.read_conntrack(buffer, errors);
        sample.tasks_max = self.read_tasks_max(buffer, errors);
        self.round = self.round.wrapping_add(1);
    }

    fn read_tasks_max(&mut self, buffer: &mut Vec<u8>, errors: &mut ReadErrors) -> Option<u64> {
        if self.round.is_multiple_of(TASKS_MAX_EVERY) {
            let threads_max = take(&mut self.threads_max, buffer, errors, parse::number);
            let pid_max = take(&mut self.pid_max, buffer, errors, parse::number);
            self.tasks_max = threads_max.into_iter().chain(pid_max).min();
        }
        self.tasks_max
    }

    fn read_tcp(&mut self, buffer: &mut Vec<u8>, errors: &mut ReadErrors) -> Option<TcpCounters> {
        let tcp = ["CurrEstab", "OutSegs", "RetransSegs"];
        let [established, segments_sent, segments_retransmitted] =
            take(&mut self.snmp, buffer, errors, |bytes| parse::netstat::pick(bytes, "Tcp", tcp))?;
        // The kernel adds up a hundred counters of every CPU for these two: not at every sample.
        if self.round.is_multiple_of(LISTEN_EVERY) {
            let listen = ["ListenOverflows", "ListenDrops"];
            self.listen =
                take(&mut self.netstat, buffer, errors, |bytes| parse::netstat::pick(bytes, "TcpExt", listen));
        }
        let [listen_overflows, listen_drops] = self.listen?;
        Some(TcpCounters { established, segments_sent, segments_retransmitted, listen_overflows, listen_drops })
    }

    fn read_conntrack(&mut self, buffer: &mut Vec<u8>, errors: &mut ReadErrors) -> Option<Conntrack> {
        let entries = take(&mut self.conntrack_count, buffer, errors, parse::number)?;
        let limit = take(&mut self.conntrack_max, buffer, errors, parse::number)?;
        Some(Conntrack { entries, limit })
    }

    fn read_disks(&mut self, sample: &mut Sample, buffer: &mut Vec<u8>, errors: &mut ReadErrors) {
        // Partitions have lines too; whole devices are those in /sys/block, which is listed again
        // when the number of lines has changed.
        let (seen, known, sys_block) = (&mut self.disk_lines, &mut self.whole_disks, &self.sys_block);
        let disks = take(&mut self.diskstats, buffer, errors, |bytes| {
            let lines = bytes.iter().filter(|b| **b == b'\n').count();
            if lines != *seen {
                (*seen, *known) = (lines, whole_disks(sys_block));
            }
            parse::diskstats::parse(bytes, |name| known.iter().any(|disk| disk == name))
        });
        sample.disks = disks.unwrap_or_default();
    }
}

fn whole_disks(sys_block: &Path) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let entries = std::fs::read_dir(sys_block).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_vec());
    // The kernel writes `/` in the name of a device as `!` in the name of its folder.
    let names = names.map(|name| name.iter().map(|b| if *b == b'!' { b'/' } else { *b }).collect::<Vec<u8>>());
    names.filter(|name| !starts_with_any(name, DISK_PREFIXES_IGNORED)).collect()
}

/// Whether the name is one of the prefixes followed by a digit or nothing that makes a word.
fn starts_with_any(name: &[u8], prefixes: &[&[u8]]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads a pressure file. With `psi=0` the files are there but cannot be read: absent, no error.
fn pressure(file: &mut KeptFile, buffer: &mut Vec<u8>, errors: &mut ReadErrors) -> Option<Pressure> {
    take(file, buffer, errors, parse::pressure::parse)
}

/// Reads and parses one file; what goes wrong is noted under its path.
fn take<T>(
    file: &mut KeptFile,
    buffer: &mut Vec<u8>,
    errors: &mut ReadErrors,
    parse: impl FnOnce(&[u8]) -> Result<T, ParseError>,
) -> Option<T> {
    let parsed = match file.read(buffer) {
        Ok(Some(bytes)) => parse(bytes).map_err(|error| error.to_string()),
        Ok(None) => return None,
        Err(error) => Err(format!("cannot read it: {error}")),
    };
    match parsed {
        Ok(value) => Some(value),
        Err(text) => {
            errors.note(&file.path().to_string_lossy(), text);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A `/proc` with the files that are given.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn read(root: &Path) -> (Sample, ReadErrors) {
        let (mut sample, mut errors) = (Sample::default(), ReadErrors::default());
        ProcReader::at(root).read(&mut sample, &mut Vec::new(), &mut errors);
        (sample, errors)
    }

    #[test]
    fn cpus_are_told_one_by_one_up_to_so_many() {
        let stat = "cpu  3 0 0 9 0 0 0 0 0 0\ncpu0 1 0 0 4 0 0 0 0 0 0\ncpu1 2 0 0 5 0 0 0 0 0 0\nintr 1\nctxt 2\nbtime 3\n\
                    processes 4\nprocs_running 1\nprocs_blocked 0\n";
        let root = tree(&[("proc/stat", stat)]);
        let mut reader = ProcReader::at(root.path());
        let mut told = |up_to: usize| {
            reader.tell_each_cpu_up_to(up_to);
            let mut sample = Sample::default();
            reader.read(&mut sample, &mut Vec::new(), &mut ReadErrors::default());
            (sample.cpu.unwrap().user, sample.cpus, sample.cpu_each.len())
        };
        assert_eq!([told(2), told(1), told(0)], [(3, Some(2), 2), (3, Some(2), 0), (3, Some(2), 0)]);
    }

    #[test]
    fn a_wrong_file_is_named_and_the_others_are_read() {
        let root = tree(&[("proc/loadavg", "0.50 0.25 0.10 1/200 999\n"), ("proc/sys/fs/file-nr", "lots\t0\t100\n")]);
        let (sample, errors) = read(root.path());
        assert_eq!((sample.load.unwrap().one, sample.tasks), (0.5, Some(200)));
        assert_eq!(sample.file_handles, None);
        assert_eq!(sample.memory, None, "a file that is not there is unknown");
        let noted: Vec<_> = errors.iter().collect();
        assert_eq!(noted.len(), 1, "{noted:?}");
        assert!(noted[0].0.ends_with("proc/sys/fs/file-nr") && noted[0].1.contains("allocated"), "{noted:?}");
    }

    #[test]
    fn shows_whole_disks_and_real_interfaces() {
        let disk = |name| format!("   8 0 {name} 1 0 8 3 4 0 16 5 0 6 7\n");
        let diskstats = ["vda", "vda1", "loop0", "dm-0"].map(disk).concat();
        let line = |name| format!("  {name}: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n");
        let net = format!("h1\nh2\n{}{}{}", line("lo"), line("eth0"), line("veth12"));
        let root = tree(&[
            ("proc/diskstats", &diskstats),
            ("proc/net/dev", &net),
            ("sys/block/vda/size", ""),
            ("sys/block/dm-0/size", ""),
            ("sys/block/loop0/size", ""),
        ]);
        let (sample, _) = read(root.path());
        assert_eq!(sample.disks.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["vda", "dm-0"]);
        assert_eq!(sample.disks[0].read_bytes, 8 * 512);
        assert_eq!(sample.interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["eth0"]);
    }

    #[test]
    fn what_listeners_lost_is_read_at_every_fifth_sample() {
        let netstat = |drops: u32| format!("TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 {drops}\n");
        let snmp = "Tcp: CurrEstab OutSegs RetransSegs\nTcp: 4 100 7\n";
        let root = tree(&[("proc/net/snmp", snmp), ("proc/net/netstat", &netstat(2))]);
        let mut reader = ProcReader::at(root.path());
        let mut drops = Vec::new();
        for _ in 0..=LISTEN_EVERY {
            let mut sample = Sample::default();
            reader.read(&mut sample, &mut Vec::new(), &mut ReadErrors::default());
            let tcp = sample.tcp.unwrap();
            assert_eq!((tcp.established, tcp.segments_sent, tcp.segments_retransmitted), (4, 100, 7));
            drops.push(tcp.listen_drops);
            fs::write(root.path().join("proc/net/netstat"), netstat(3)).unwrap();
        }
        assert_eq!(drops, [2, 2, 2, 2, 2, 3]);
    }

    #[test]
    fn reads_the_machine_that_the_test_runs_on() {
        let (sample, errors) = read(Path::new("/"));
        assert!(sample.cpus.unwrap() > 0 && sample.memory.unwrap().total_bytes > 0);
        assert_eq!(errors.iter().count(), 0, "{errors:?}");
    }
}
