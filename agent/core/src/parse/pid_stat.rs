//! `/proc/PID/stat`: one process.

use super::{At, ParseError};

/// What the file says, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidStat<'a> {
    /// The process.
    pub pid: u32,
    /// Its name: up to 15 bytes of anything, parentheses and newlines included.
    pub comm: &'a [u8],
    /// `R`, `S`, `D`, `Z`, `T` …
    pub state: u8,
    /// Its parent.
    pub ppid: u32,
    /// Time in user mode, in clock ticks.
    pub utime: u64,
    /// Time in the kernel, in clock ticks.
    pub stime: u64,
    /// Time in user mode of children that ended and were waited for, and of theirs, in clock ticks.
    pub cutime: u64,
    /// The same in the kernel.
    pub cstime: u64,
    /// Its threads.
    pub num_threads: u32,
    /// When it started, in clock ticks after boot: with the pid, its identity.
    pub starttime: u64,
    /// Resident set, in pages.
    pub rss_pages: u64,
}

/// Parses the file.
///
/// # Errors
/// Where the name is not in parentheses, or a field is missing or no number.
pub fn parse(bytes: &[u8]) -> Result<PidStat<'_>, ParseError> {
    let at = At { file: "pid/stat", line: 1 };
    // The name may hold anything but NUL, so it ends at the last parenthesis of the file.
    let open = memchr::memchr(b'(', bytes).ok_or_else(|| at.missing("comm"))?;
    let close = memchr::memrchr(b')', bytes).filter(|close| *close > open).ok_or_else(|| at.missing("comm"))?;
    let fields = fields(bytes[close + 1..].trim_ascii());
    let field = |number: usize| fields[number - FIRST].filter(|field| !field.is_empty());
    Ok(PidStat {
        pid: at.number("pid", Some(bytes[..open].trim_ascii()))?,
        comm: &bytes[open + 1..close],
        state: *field(3).and_then(<[u8]>::first).ok_or_else(|| at.missing("state"))?,
        ppid: at.number("ppid", field(4))?,
        utime: at.number("utime", field(14))?,
        stime: at.number("stime", field(15))?,
        cutime: at.number("cutime", field(16))?,
        cstime: at.number("cstime", field(17))?,
        num_threads: at.number("num_threads", field(20))?,
        starttime: at.number("starttime", field(22))?,
        rss_pages: at.number("rss", field(24))?,
    })
}

/// The field that follows the name and the last one that is used, as proc(5) numbers them.
const FIRST: usize = 3;
const LAST: usize = 24;

/// The fields behind the name, each but the last followed by one blank. Hundreds of processes have some every few seconds, so
/// that this goes through the bytes once.
fn fields(rest: &[u8]) -> [Option<&[u8]>; LAST + 1 - FIRST] {
    let mut fields = [None; LAST + 1 - FIRST];
    let (mut begin, mut at) = (0, 0);
    for (end, byte) in rest.iter().enumerate() {
        if *byte == b' ' {
            fields[at] = Some(&rest[begin..end]);
            (begin, at) = (end + 1, at + 1);
            if at == fields.len() {
                return fields;
            }
        }
    }
    fields[at] = Some(&rest[begin..]);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_kernel_writes() {
        let process = parse(include_bytes!("fixtures/pid_stat.6.18.txt")).unwrap();
        assert_eq!(process.comm, b"cat");
        assert_eq!((process.state, process.num_threads), (b'R', 1));
        assert_eq!((process.starttime, process.rss_pages), (148_684, 414));
        let process = parse(include_bytes!("fixtures/pid_stat.6.1.txt")).unwrap();
        assert_eq!((process.pid, process.comm, process.ppid, process.num_threads), (113, b"cat".as_slice(), 1, 1));
        assert_eq!((process.starttime, process.rss_pages, process.cutime), (1_627, 1, 0));
    }

    #[test]
    fn reads_names_made_to_confuse() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21";
        for name in ["", ") R 1 2 (", "a b", "x\ny", "((", "))"] {
            let text = format!("42 ({name}) {tail}\n");
            let process = parse(text.as_bytes()).unwrap();
            assert_eq!(process.comm, name.as_bytes());
            assert_eq!((process.pid, process.ppid, process.utime, process.stime), (42, 1, 11, 12));
            assert_eq!((process.cutime, process.cstime), (13, 14));
            assert_eq!((process.num_threads, process.starttime, process.rss_pages), (17, 19, 21));
        }
        let raw = [b"42 (\xff\xfe) ".as_slice(), tail.as_bytes()].concat();
        assert_eq!(parse(&raw).unwrap().comm, b"\xff\xfe");
    }

    #[test]
    fn refuses_what_has_no_name() {
        for bad in ["", "42", "42 (x", "42 )x("] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().field, "comm", "{bad:?}");
        }
    }
}
