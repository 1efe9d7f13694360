//! Files of a cgroup (v2): single values, flat keys, and `io.stat`.

use super::{At, ParseError, key_values, lines, value_of, words};

/// `memory.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryEvents {
    /// Times that `memory.high` throttled it.
    pub high: u64,
    /// Times that `memory.max` was about to be passed.
    pub max: u64,
    /// Processes killed for lack of memory.
    pub oom_kill: u64,
}

/// `cpu.stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuStat {
    /// CPU time used.
    pub usage_us: u64,
    /// Time throttled; `None` where the cpu controller is not enabled for this cgroup.
    pub throttled_us: Option<u64>,
}

/// `io.stat`, summed over devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoStat {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// Parses a file with one number, such as `memory.current`; `None` for `max`.
///
/// # Errors
/// Where it is neither.
pub fn value(bytes: &[u8]) -> Result<Option<u64>, ParseError> {
    match bytes.trim_ascii() {
        b"max" => Ok(None),
        number => At { file: "cgroup value", line: 1 }.number("value", Some(number)).map(Some),
    }
}

/// The processes that `cgroup.procs` lists. A line that is no number, of a process in another
/// namespace, is left out.
pub fn pids(bytes: &[u8]) -> impl Iterator<Item = u32> {
    lines(bytes).filter_map(|(_, line)| std::str::from_utf8(line).ok()?.parse().ok())
}

/// Parses `memory.events`.
///
/// # Errors
/// Where a key is missing or its value is no number.
pub fn memory_events(bytes: &[u8]) -> Result<MemoryEvents, ParseError> {
    let [high, max, oom_kill] = key_values("memory.events", bytes, ["high", "max", "oom_kill"])?;
    Ok(MemoryEvents { high, max, oom_kill })
}

/// Parses `memory.stat`, of which only `anon` is used: bytes that are no page cache.
///
/// # Errors
/// Where `anon` is missing or no number.
pub fn memory_stat_anon(bytes: &[u8]) -> Result<u64, ParseError> {
    let [anon] = key_values("memory.stat", bytes, ["anon"])?;
    Ok(anon)
}

/// Parses `cpu.stat`.
///
/// # Errors
/// Where `usage_usec` is missing or a value is no number.
pub fn cpu_stat(bytes: &[u8]) -> Result<CpuStat, ParseError> {
    let (mut usage_us, mut throttled_us) = (None, None);
    for (line, text) in lines(bytes) {
        let at = At { file: "cpu.stat", line };
        if let Some(value) = value_of(text, "usage_usec") {
            usage_us = Some(at.number("usage_usec", words(value).next())?);
        } else if let Some(value) = value_of(text, "throttled_usec") {
            throttled_us = Some(at.number("throttled_usec", words(value).next())?);
        }
    }
    let usage_us = usage_us.ok_or_else(|| At { file: "cpu.stat", line: 1 }.missing("usage_usec"))?;
    Ok(CpuStat { usage_us, throttled_us })
}

/// Parses `io.stat`. A device without traffic may stand there without any values.
///
/// # Errors
/// Where a value is no number.
pub fn io_stat(bytes: &[u8]) -> Result<IoStat, ParseError> {
    let mut sum = IoStat::default();
    for (line, text) in lines(bytes) {
        let at = At { file: "io.stat", line };
        for word in words(text) {
            if let Some(value) = word.strip_prefix(b"rbytes=") {
                sum.read_bytes = sum.read_bytes.saturating_add(at.number("rbytes", Some(value))?);
            } else if let Some(value) = word.strip_prefix(b"wbytes=") {
                sum.written_bytes = sum.written_bytes.saturating_add(at.number("wbytes", Some(value))?);
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group with `memory.max` and `cpu.max`, in which a process wrote to a disk and was killed for its memory.
    #[test]
    fn reads_what_a_kernel_of_debian_12_writes() {
        let events = memory_events(include_bytes!("fixtures/cgroup_memory_events.6.1.txt"));
        assert_eq!(events, Ok(MemoryEvents { high: 0, max: 227, oom_kill: 1 }));
        let cpu = cpu_stat(include_bytes!("fixtures/cgroup_cpu_stat.6.1.txt"));
        assert_eq!(cpu, Ok(CpuStat { usage_us: 1_875_919, throttled_us: Some(7_402_734) }));
        let io = io_stat(include_bytes!("fixtures/cgroup_io_stat.6.1.txt"));
        assert_eq!(io, Ok(IoStat { read_bytes: 2_048, written_bytes: 32_768_000 }));
        assert_eq!(memory_stat_anon(include_bytes!("fixtures/cgroup_memory_stat.6.1.txt")), Ok(135_168));
    }

    /// The same of Debian 11, whose `memory.events` and `cpu.stat` have less; the disk was read, and written past the group.
    #[test]
    fn reads_what_an_older_kernel_writes() {
        let events = memory_events(include_bytes!("fixtures/cgroup_memory_events.5.10.txt"));
        assert_eq!(events, Ok(MemoryEvents { high: 0, max: 144, oom_kill: 1 }));
        let cpu = cpu_stat(include_bytes!("fixtures/cgroup_cpu_stat.5.10.txt"));
        assert_eq!(cpu, Ok(CpuStat { usage_us: 2_947_821, throttled_us: Some(11_517_966) }));
        let io = io_stat(include_bytes!("fixtures/cgroup_io_stat.5.10.txt"));
        assert_eq!(io, Ok(IoStat { read_bytes: 513_024, written_bytes: 0 }));
        assert_eq!(memory_stat_anon(include_bytes!("fixtures/cgroup_memory_stat.5.10.txt")), Ok(0));
    }

    #[test]
    fn reads_a_single_value_and_max() {
        assert_eq!(value(b"1048576\n"), Ok(Some(1_048_576)));
        assert_eq!(value(b"max\n"), Ok(None));
        assert_eq!(value(b"").unwrap_err().field, "value");
    }

    #[test]
    fn reads_memory_events_with_and_without_group_kills() {
        let old = "low 0\nhigh 3\nmax 2\noom 1\noom_kill 1\n";
        let new = format!("{old}oom_group_kill 0\nsock_throttled 0\n");
        for text in [old, &new] {
            assert_eq!(memory_events(text.as_bytes()), Ok(MemoryEvents { high: 3, max: 2, oom_kill: 1 }));
        }
    }

    #[test]
    fn reads_cpu_stat_with_and_without_the_controller() {
        let bare = "usage_usec 10\nuser_usec 6\nsystem_usec 4\n";
        assert_eq!(cpu_stat(bare.as_bytes()), Ok(CpuStat { usage_us: 10, throttled_us: None }));
        let full = format!("{bare}nr_periods 0\nnr_throttled 0\nthrottled_usec 7\n");
        assert_eq!(cpu_stat(full.as_bytes()).unwrap().throttled_us, Some(7));
        assert!(cpu_stat(b"usage_usec 1\nthrottled_usec x\n").is_err());
    }

    #[test]
    fn sums_io_over_devices() {
        let text = b"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16\n8:32 rbytes=1 wbytes=2 rios=0 wios=0 dbytes=0 dios=0\n";
        assert_eq!(io_stat(text), Ok(IoStat { read_bytes: 11, written_bytes: 22 }));
        assert_eq!(io_stat(b""), Ok(IoStat::default()));
    }

    #[test]
    fn reads_anonymous_memory_and_not_its_huge_pages() {
        assert_eq!(memory_stat_anon(b"anon 4096\nfile 12\nanon_thp 7\n"), Ok(4_096));
        assert!(memory_stat_anon(b"anon_thp 7\n").is_err());
    }

    #[test]
    fn lists_processes() {
        assert_eq!(pids(b"").count(), 0);
        assert_eq!(pids(b"1\n2\nx\n30\n").collect::<Vec<_>>(), [1, 2, 30]);
    }
}
