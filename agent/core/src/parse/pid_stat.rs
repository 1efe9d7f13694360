//! `/proc/PID/stat`: one process.

use super::{At, ParseError, words};

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
    let open = bytes.iter().position(|b| *b == b'(').ok_or_else(|| at.missing("comm"))?;
    let close =
        bytes.iter().rposition(|b| *b == b')').filter(|close| *close > open).ok_or_else(|| at.missing("comm"))?;
    let rest = bytes[close + 1..].trim_ascii();
    let mut words = words(rest);
    let mut field = |name, skip: usize| words.nth(skip).ok_or_else(|| at.missing(name)).map(|word| (name, word));
    // (proc(5) numbers the fields from 1; state is 3.)
    let (_, state) = field("state", 0)?;
    let (_, ppid) = field("ppid", 0)?;
    let (_, utime) = field("utime", 9)?;
    let (_, stime) = field("stime", 0)?;
    let (_, cutime) = field("cutime", 0)?;
    let (_, cstime) = field("cstime", 0)?;
    let (_, threads) = field("num_threads", 2)?;
    let (_, starttime) = field("starttime", 1)?;
    let (_, rss) = field("rss", 1)?;
    Ok(PidStat {
        pid: at.number("pid", Some(bytes[..open].trim_ascii()))?,
        comm: &bytes[open + 1..close],
        state: state[0],
        ppid: at.number("ppid", Some(ppid))?,
        utime: at.number("utime", Some(utime))?,
        stime: at.number("stime", Some(stime))?,
        cutime: at.number("cutime", Some(cutime))?,
        cstime: at.number("cstime", Some(cstime))?,
        num_threads: at.number("num_threads", Some(threads))?,
        starttime: at.number("starttime", Some(starttime))?,
        rss_pages: at.number("rss", Some(rss))?,
    })
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
