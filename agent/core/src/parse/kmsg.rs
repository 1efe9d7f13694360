//! Lines of the kernel's log that say that something is broken.
//!
//! In: the text of one line that the kernel itself wrote. Out: what it says, or nothing. The wording differs between
//! kernels (4.18 to 6.x were looked at), so each is known by what has stayed. Names in a line are those of processes
//! and cgroups, which users choose: what is matched begins the line and is longer than the 15 bytes that a process'
//! name can have, or is followed by what no name allows: `name[7]: segfault at … in file` must not become another line
//! by the choice of `name` and `file`.

use super::words;

/// Longest name or text that is taken out of a line.
const TEXT_BYTES_MAX: usize = 160;

/// Longest name of a device.
const DEVICE_BYTES_MAX: usize = 64;

/// Longest name of a task in a line: 15 bytes, and what a kernel worker adds of its work.
const TASK_BYTES_MAX: usize = 32;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// The kernel has chosen whom to kill for lack of memory: the cgroup that it is in (4.20 and later).
    OomChosen {
        /// Path of the victim's cgroup.
        cgroup: String,
        /// Its process.
        pid: u32,
    },
    /// It has killed it.
    OomKilled {
        /// Its process.
        pid: u32,
        /// Its name, as the process chose it.
        process: String,
        /// Whether a cgroup's own limit was the reason.
        in_cgroup: bool,
        /// Anonymous memory that it held.
        anon_rss_bytes: Option<u64>,
    },
    /// A task has waited without an end.
    HungTask {
        /// Its name.
        process: String,
        /// For how long at least.
        seconds: u32,
    },
    /// A block device could not read or write.
    IoError {
        /// Kernel name of the device.
        device: String,
    },
    /// A filesystem found itself damaged.
    FilesystemError {
        /// Kernel name of the device.
        device: String,
        /// The line.
        text: String,
    },
    /// A filesystem was made read-only because of an error.
    ReadOnly {
        /// Kernel name of the device.
        device: String,
        /// The line.
        text: String,
    },
    /// The machine reported an error of its hardware (MCE, EDAC).
    Hardware {
        /// Whether it could not be corrected.
        fatal: bool,
        /// The line.
        text: String,
    },
    /// The kernel itself is in trouble: a lockup, an oops, a stall of RCU.
    Kernel {
        /// The line.
        text: String,
    },
}

/// What a line of the kernel says; `None` for all that is no trouble.
#[must_use]
pub fn parse(line: &[u8]) -> Option<KernelEvent> {
    oom(line).or_else(|| disk(line)).or_else(|| hardware(line)).or_else(|| kernel(line))
}

fn oom(line: &[u8]) -> Option<KernelEvent> {
    if let Some(rest) = line.strip_prefix(b"oom-kill:constraint=") {
        // task_memcg comes before the name of the task, which could hold anything.
        let cgroup = between(rest, b",task_memcg=", b",task=")?;
        let after = after(rest, b",task=")?;
        let pid = last_number(after, b",pid=")?;
        return Some(KernelEvent::OomChosen { cgroup: text(cgroup), pid });
    }
    // Before 4.20: "Kill process 7 (name) score …" is only the choice; "Killed process" is the deed in all of them.
    let (in_cgroup, rest) = [
        (false, b"Out of memory: Killed process ".as_slice()),
        (true, b"Memory cgroup out of memory: Killed process "),
        (false, b"Killed process "),
        (false, b"Out of memory (oom_kill_allocating_task): Killed process "),
    ]
    .into_iter()
    .find_map(|(in_cgroup, prefix)| line.strip_prefix(prefix).map(|rest| (in_cgroup, rest)))?;
    let (digits, rest) = rest.split_at(rest.iter().position(|b| !b.is_ascii_digit())?);
    let pid = number(digits)?;
    let rest = rest.strip_prefix(b" (")?;
    // The name may hold brackets, what follows the last one of them is the kernel's.
    let end = find(rest, b") total-vm:").or_else(|| find(rest, b"), UID")).or_else(|| find(rest, b") "))?;
    let figures = &rest[end..];
    let anon_kib: Option<u64> = after(figures, b"anon-rss:").and_then(|rest| number(leading_digits(rest)));
    Some(KernelEvent::OomKilled {
        pid,
        process: text(&rest[..end]),
        in_cgroup,
        anon_rss_bytes: anon_kib.map(|kib| kib.saturating_mul(1_024)),
    })
}

fn disk(line: &[u8]) -> Option<KernelEvent> {
    // "blk_update_request: I/O error, dev sda, sector 8 op …" up to 5.16, without the first word since.
    let io = line.strip_prefix(b"blk_update_request: ").unwrap_or(line);
    if let Some(rest) = io
        .strip_prefix(b"I/O error, dev ")
        .or_else(|| io.strip_prefix(b"critical medium error, dev "))
        .or_else(|| io.strip_prefix(b"critical target error, dev "))
        .or_else(|| io.strip_prefix(b"critical nexus error, dev "))
    {
        let (device, rest) = device(rest, b", sector ")?;
        return rest.first()?.is_ascii_digit().then_some(KernelEvent::IoError { device });
    }
    if let Some(rest) = line.strip_prefix(b"Buffer I/O error on dev ") {
        let (device, _) = device(rest, b", logical block ")?;
        return Some(KernelEvent::IoError { device });
    }
    filesystem(line)
}

fn filesystem(line: &[u8]) -> Option<KernelEvent> {
    let said = |device| Some(KernelEvent::FilesystemError { device, text: text(line) });
    let read_only = |device| Some(KernelEvent::ReadOnly { device, text: text(line) });
    for ext in [b"EXT4-fs ".as_slice(), b"EXT3-fs ", b"EXT2-fs "] {
        let Some(rest) = line.strip_prefix(ext) else { continue };
        // "EXT4-fs error (device sda1): function:7: …", "EXT4-fs (sda1): Remounting filesystem read-only"
        if let Some(rest) = rest.strip_prefix(b"error (device ") {
            return said(device(rest, b"): ")?.0);
        }
        let (device, says) = device(rest.strip_prefix(b"(")?, b"): ")?;
        return says.starts_with(b"Remounting filesystem read-only").then(|| read_only(device)).flatten();
    }
    if let Some(rest) = line.strip_prefix(b"XFS (") {
        let (device, says) = device(rest, b"): ")?;
        let begins: [&[u8]; 7] = [
            b"Corruption detected",
            b"Metadata corruption detected",
            b"Metadata CRC error detected",
            b"metadata I/O error",
            b"log I/O error",
            b"Log I/O Error",
            b"Filesystem has been shut down",
        ];
        return begins.iter().any(|begin| says.starts_with(begin)).then(|| said(device)).flatten();
    }
    // "BTRFS error (device sda1): …", "BTRFS critical (device sda1: state A): …", "BTRFS info (device sda1: …): forced readonly"
    for (class, is_error) in [
        (b"BTRFS error (device ".as_slice(), true),
        (b"BTRFS critical (device ", true),
        (b"BTRFS warning (device ", false),
        (b"BTRFS info (device ", false),
    ] {
        let Some(rest) = line.strip_prefix(class) else { continue };
        let (device, _) = device(rest, b")").or_else(|| device(rest, b": "))?;
        if contains(rest, b"): forced readonly") {
            return read_only(device);
        }
        return is_error.then(|| said(device)).flatten();
    }
    None
}

/// The device that a line begins with, and what follows `end`. What is none cannot be a device of the kernel's.
fn device<'a>(rest: &'a [u8], end: &[u8]) -> Option<(String, &'a [u8])> {
    let at = find(&rest[..rest.len().min(DEVICE_BYTES_MAX + end.len())], end)?;
    let name = &rest[..at];
    let is_name = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"-_!.".contains(b));
    is_name.then(|| (text(name), &rest[at + end.len()..]))
}

fn hardware(line: &[u8]) -> Option<KernelEvent> {
    let said = |fatal| Some(KernelEvent::Hardware { fatal, text: text(line) });
    if line.starts_with(b"mce: [Hardware Error]:") || line.starts_with(b"[Hardware Error]: ") {
        // An event has several lines; one begins it.
        let begins: [&[u8]; 4] =
            [b"Machine check events logged", b"Machine Check Exception", b"Machine Check:", b"Uncorrected error"];
        if !begins.iter().any(|word| contains(line, word)) {
            return None;
        }
        return said(!contains(line, b"events logged"));
    }
    if let Some(rest) = line.strip_prefix(b"EDAC MC") {
        // "EDAC MC0: 1 CE memory read error on …", "EDAC MC0: 1 UE …"; "EDAC MC: Ver: 3.0.0" is no error.
        let mut words = words(rest);
        let (_, count, class) = (words.next()?, words.next()?, words.next()?);
        // A process' name ends before its "[pid]:".
        let is_error = number::<u32>(count).is_some_and(|n| n > 0) && words.next().is_some_and(|w| w[0] != b'[');
        return match class {
            b"CE" if is_error => said(false),
            b"UE" if is_error => said(true),
            _ => None,
        };
    }
    None
}

fn kernel(line: &[u8]) -> Option<KernelEvent> {
    if let Some(rest) = line.strip_prefix(b"INFO: task ") {
        // "INFO: task name:7 blocked for more than 120 seconds."
        let at = find(rest, b" blocked for more than ")?;
        let name = &rest[..at];
        let colon = name.iter().rposition(|b| *b == b':')?;
        if colon > TASK_BYTES_MAX {
            return None;
        }
        number::<u32>(&name[colon + 1..])?;
        let seconds = number(leading_digits(&rest[at + b" blocked for more than ".len()..]))?;
        return Some(KernelEvent::HungTask { process: text(&name[..colon]), seconds });
    }
    let begins: [&[u8]; 10] = [
        b"watchdog: BUG: soft lockup - CPU#",
        b"NMI watchdog: BUG: soft lockup - CPU#",
        b"watchdog: Watchdog detected hard LOCKUP on cpu",
        b"BUG: kernel NULL pointer dereference",
        b"BUG: unable to handle ",
        b"Kernel panic - not syncing",
        b"rcu: INFO: rcu_sched ",
        b"rcu: INFO: rcu_preempt ",
        b"INFO: rcu_sched ",
        b"INFO: rcu_preempt ",
    ];
    let is_trouble = begins.iter().any(|prefix| line.starts_with(prefix));
    // "kernel BUG at fs/ext4/inode.c:2721!" is shorter than a process' name until the path, and ends as no other line.
    let is_bug = line.starts_with(b"kernel BUG at ") && line.ends_with(b"!");
    (is_trouble || is_bug).then(|| KernelEvent::Kernel { text: text(line) })
}

fn text(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    String::from_utf8_lossy(cut).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    find(bytes, what).is_some()
}

fn after<'a>(bytes: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    find(bytes, what).map(|at| &bytes[at + what.len()..])
}

fn between<'a>(bytes: &'a [u8], from: &[u8], to: &[u8]) -> Option<&'a [u8]> {
    let rest = after(bytes, from)?;
    find(rest, to).map(|at| &rest[..at])
}

fn leading_digits(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len())]
}

/// The number after the last `what`: what is before it may hold anything.
fn last_number(bytes: &[u8], what: &[u8]) -> Option<u32> {
    let at = bytes.windows(what.len()).rposition(|window| window == what)?;
    number(leading_digits(&bytes[at + what.len()..]))
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHOSEN: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
        oom_memcg=/system.slice/app.service,task_memcg=/system.slice/app.service,task=eater,pid=4127,uid=998";

    /// Lines as 4.18, 5.10 and 6.x write them.
    const LINES: [&str; 24] = [
        CHOSEN,
        "Memory cgroup out of memory: Killed process 4127 (eater) total-vm:514732kB, anon-rss:499712kB, file-rss:1536kB, shmem-rss:0kB, UID:998 pgtables:1024kB oom_score_adj:0",
        "Out of memory: Killed process 812 (java) total-vm:8123456kB, anon-rss:6123456kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:12588kB oom_score_adj:0",
        "Killed process 812 (a) (b) total-vm:10kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB",
        "Out of memory: Kill process 812 (java) score 912 or sacrifice child",
        "INFO: task kworker/u8:2:311 blocked for more than 120 seconds.",
        "INFO: task jbd2/sda1-8:209 blocked for more than 241 seconds.",
        "blk_update_request: I/O error, dev sdb, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 0",
        "I/O error, dev nvme0n1, sector 123456 op 0x1:(WRITE) flags 0x0 phys_seg 1 prio class 2",
        "critical medium error, dev sdc, sector 77 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
        "Buffer I/O error on dev sdb1, logical block 0, async page read",
        "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm systemd: reading directory lblock 0",
        "EXT4-fs (sda1): Remounting filesystem read-only",
        "EXT4-fs (sda1): mounted filesystem with ordered data mode. Opts: (null)",
        "XFS (dm-0): log I/O error -5",
        "XFS (dm-0): Ending clean mount",
        "BTRFS error (device sdb1: state EA): parent transid verify failed",
        "BTRFS info (device sdb1: state E): forced readonly",
        "mce: [Hardware Error]: Machine check events logged",
        "mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 4: be00000000800400",
        "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#0_DIMM#0 (channel:0 slot:0 page:0x1 offset:0x0)",
        "EDAC MC0: 2 UE memory scrubbing error on unknown memory",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [kworker/1:0:17]",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    ];

    fn said(line: &str) -> Option<KernelEvent> {
        parse(line.as_bytes())
    }

    #[test]
    fn a_kill_has_its_victim() {
        let chosen = KernelEvent::OomChosen { cgroup: "/system.slice/app.service".into(), pid: 4127 };
        assert_eq!(said(LINES[0]), Some(chosen));
        let killed = |pid, process: &str, in_cgroup, kib: u64| {
            Some(KernelEvent::OomKilled { pid, process: process.into(), in_cgroup, anon_rss_bytes: Some(kib * 1_024) })
        };
        assert_eq!(said(LINES[1]), killed(4127, "eater", true, 499_712));
        assert_eq!(said(LINES[2]), killed(812, "java", false, 6_123_456));
        assert_eq!(said(LINES[3]), killed(812, "a) (b", false, 4));
        assert_eq!(said(LINES[4]), None, "the choice alone is no kill");
    }

    #[test]
    fn disks_tasks_hardware_and_the_kernel_itself_are_told_apart() {
        let kinds: Vec<String> = LINES[5..]
            .iter()
            .map(|line| match said(line) {
                None => "-".to_owned(),
                Some(KernelEvent::HungTask { process, seconds }) => format!("hung {process} {seconds}"),
                Some(KernelEvent::IoError { device }) => format!("io {device}"),
                Some(KernelEvent::FilesystemError { device, .. }) => format!("fs {device}"),
                Some(KernelEvent::ReadOnly { device, .. }) => format!("ro {device}"),
                Some(KernelEvent::Hardware { fatal, .. }) => format!("hw {fatal}"),
                Some(KernelEvent::Kernel { .. }) => "kernel".to_owned(),
                Some(oom) => format!("{oom:?}"),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "hung kworker/u8:2 120",
                "hung jbd2/sda1-8 241",
                "io sdb",
                "io nvme0n1",
                "io sdc",
                "io sdb1",
                "fs sda1",
                "ro sda1",
                "-",
                "fs dm-0",
                "-",
                "fs sdb1",
                "ro sdb1",
                "hw false",
                "hw true",
                "hw false",
                "hw true",
                "kernel",
                "kernel"
            ]
        );
    }

    #[test]
    fn a_process_that_is_named_like_trouble_makes_none() {
        // A process can be called by any 15 bytes, and its name begins some lines of the kernel.
        let names = [
            "Out of memory: ",
            "Killed process ",
            "I/O error, dev ",
            "EXT4-fs error (",
            "EXT4-fs (a): Re",
            "XFS (a): Corrup",
            "EDAC MC0: 1 UE ",
            "INFO: task x:1 ",
            "rcu: INFO: rcu_",
            "kernel BUG at x",
            "mce: [Hardware ",
        ];
        // So can the file that it is run from, which stands at the end of some lines.
        let files = [
            ", sector 7",
            "(device sda1): x",
            "): Remounting filesystem read-only",
            "y:5 blocked for more than 9 s",
            " detected page:0x1 on",
            "1 (x) total-vm:1kB",
        ];
        for (name, file) in names.iter().flat_map(|name| files.iter().map(move |file| (name, file))) {
            for line in [
                format!("{name}[77]: segfault at 0 ip 0000000000401000 sp 00007ffd error 4 in {file}[401000+1000]"),
                format!("traps: {name}[77] trap invalid opcode ip:401000 sp:7ffd error:0 in {file}[401000+1000]"),
            ] {
                assert_eq!(said(&line), None, "{line}");
            }
        }
        let forged = CHOSEN.replace("task=eater", "task=x,pid=1,task_memcg=/y,task=z");
        let Some(KernelEvent::OomChosen { cgroup, pid }) = said(&forged) else { panic!("{forged}") };
        assert_eq!((cgroup.as_str(), pid), ("/system.slice/app.service", 4127));
    }

    proptest! {
        #[test]
        fn never_panics(line in 0..LINES.len(), cut in 0usize..200, junk in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&junk);
            let line = LINES[line].as_bytes();
            let mut mixed = line[..cut.min(line.len())].to_vec();
            mixed.extend_from_slice(&junk);
            let _ = parse(&mixed);
            mixed.extend_from_slice(&line[cut.min(line.len())..]);
            let _ = parse(&mixed);
        }
    }
}
