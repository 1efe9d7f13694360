//! A host made of files, of whatever size: what the agent reads below a root, without a kernel behind it.
//!
//! For tests and measurements of large hosts: what is read is the same at every reading, and no other process of the
//! machine is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mainstay_agent::host::systemd::UnitState;
use mainstay_core::sample::{ActiveState, Unit};
use mainstay_core::subject::UnitName;

/// Where files are in memory.
const MEMORY: &str = "/dev/shm";

/// How large a made host is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    pub(crate) processes: u32,
    pub(crate) units: u32,
    pub(crate) mounts: u32,
}

/// A root with a host below it; gone when it is dropped.
pub(crate) struct MadeHost {
    root: tempfile::TempDir,
    size: Size,
}

impl MadeHost {
    /// Writes the files of a host.
    pub(crate) fn new(size: Size) -> Self {
        // In memory where there is room for it, not on a disk that others write to.
        let root = if Path::new(MEMORY).is_dir() { tempfile::tempdir_in(MEMORY) } else { tempfile::tempdir() };
        let made = Self { root: root.expect("a folder for the made host"), size };
        made.machine();
        made.mounts();
        (1..=size.processes).for_each(|pid| made.process(pid));
        (0..size.units).for_each(|unit| made.cgroup(unit));
        made
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The units, as systemd would describe them.
    pub(crate) fn units(&self) -> BTreeMap<UnitName, UnitState> {
        (0..self.size.units).map(|unit| (unit_name(unit).parse().expect("a unit name"), unit_state(unit))).collect()
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a path below the root")).expect("a folder of the made host");
        fs::write(path, text).expect("a file of the made host");
    }

    fn machine(&self) {
        let size = self.size;
        self.put("proc/stat", "cpu  900 0 300 9000 5 0 2 0 0 0\ncpu0 450 0 150 4500 2 0 1 0 0 0\ncpu1 450 0 150 4500 3 0 1 0 0 0\nctxt 100000\nbtime 1700000000\nprocesses 5000\nprocs_running 1\nprocs_blocked 0\nintr 70000\n");
        self.put("proc/loadavg", &format!("0.50 0.25 0.10 1/{} 999\n", size.processes.max(1) * 2));
        self.put("proc/meminfo", "MemTotal: 4000000 kB\nMemFree: 1000000 kB\nMemAvailable: 2000000 kB\nBuffers: 1000 kB\nCached: 900000 kB\nShmem: 100 kB\nSReclaimable: 5000 kB\nSUnreclaim: 6000 kB\nDirty: 10 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
        let reclaim = "pgsteal_kswapd 90\npgsteal_direct 9\npgscan_kswapd 100\npgscan_direct 10\n";
        let vmstat =
            format!("pswpin 0\npswpout 0\npgmajfault 100\n{reclaim}oom_kill 0\ncompact_stall 2\ncompact_fail 1\n");
        self.put("proc/vmstat", &vmstat);
        let pressure =
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=10\n";
        ["cpu", "memory", "io"].iter().for_each(|of| self.put(&format!("proc/pressure/{of}"), pressure));
        self.put("proc/diskstats", "   8 0 vda 100 0 800 300 400 0 1600 500 0 600 700\n");
        self.put("sys/block/vda/size", "1000000\n");
        self.put("proc/net/dev", "h1\nh2\n  eth0: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n");
        self.put("proc/net/snmp", "Tcp: CurrEstab OutSegs RetransSegs\nTcp: 4 100 7\n");
        self.put("proc/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 2\n");
        self.put("proc/sys/fs/file-nr", "2000\t0\t400000\n");
        self.put("proc/sys/kernel/threads-max", "1000000\n");
        self.put("proc/sys/kernel/pid_max", "4194304\n");
        self.put("proc/self/fd/0", "");
    }

    fn mounts(&self) {
        let line = |n: u32| format!("{} 1 0:{} / /mnt/m{n:05} rw,relatime - tmpfs m{n:05} rw\n", n + 100, n + 100);
        let lines: String = (0..self.size.mounts).map(line).collect();
        self.put("proc/1/mountinfo", &format!("22 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n{lines}"));
    }

    fn process(&self, pid: u32) {
        let stat = format!(
            "{pid} (worker) S 1 1 1 0 -1 4194560 500 0 0 0 5 6 0 0 20 0 2 0 7700 41943040 600 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"
        );
        self.put(&format!("proc/{pid}/stat"), &stat);
    }

    fn cgroup(&self, unit: u32) {
        let files = [
            ("memory.current", "8388608\n"),
            ("memory.peak", "9388608\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
            ("memory.stat", "anon 4194304\nfile 4194304\nkernel 500000\n"),
            (
                "cpu.stat",
                "usage_usec 500000\nuser_usec 300000\nsystem_usec 200000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
            ),
            ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"),
            ("pids.current", "4\n"),
            ("pids.max", "1000\n"),
            ("cgroup.procs", ""),
        ];
        let folder = format!("sys/fs/cgroup/system.slice/{}", unit_name(unit));
        files.iter().for_each(|(file, text)| self.put(&format!("{folder}/{file}"), text));
    }
}

fn unit_name(unit: u32) -> String {
    format!("made-{unit:05}.service")
}

/// A unit that runs.
fn unit_state(unit: u32) -> UnitState {
    let text = |text: &str| text.to_owned();
    let unit_of = Unit {
        active: ActiveState::Active,
        sub: text("running"),
        result: text("success"),
        invocation: Some([u8::try_from(unit % 251).unwrap_or(0); 16]),
        main_pid: 1_000 + unit,
        restart: text("no"),
        service_type: text("simple"),
        enabled: true,
        ..Unit::default()
    };
    UnitState { unit: unit_of, control_group: format!("/system.slice/{}", unit_name(unit)) }
}
