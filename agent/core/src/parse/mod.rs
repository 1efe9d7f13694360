//! Parsers of kernel files, one per format: bytes in, a value out, nothing read and nothing kept.
//!
//! Input is bytes, because names of processes, devices and paths need not be UTF-8. Unknown lines
//! and columns are skipped, since kernels add some with every release; what is missing or no
//! number is an error that says file, line and field. No input makes a parser panic.

pub mod arp;
pub mod cgroup;
pub mod cgroup_path;
pub mod conntrack;
pub mod container;
pub mod cpu_list;
pub mod diskstats;
pub mod emmc;
pub mod fdinfo;
pub mod file_nr;
pub mod ipvs;
pub mod journal;
pub mod kmsg;
pub mod kstat;
pub mod limits;
pub mod loadavg;
pub mod mdstat;
pub mod meminfo;
pub mod mountinfo;
pub mod net_dev;
pub mod netstat;
pub mod nfs;
pub mod os_release;
pub mod pid_stat;
pub mod pressure;
pub mod schedstat;
pub mod sensor;
pub mod smartd;
pub mod sock_diag;
pub mod sockstat;
pub mod softnet;
pub mod stat;
pub mod textfile;
pub mod udev;
pub mod udp;
pub mod vmstat;
pub mod xfs;

use std::str::FromStr;

/// Bytes that are not what the kernel writes into this file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} line {line}: {field} is {}", got.as_ref().map_or_else(|| "missing".to_owned(), |got| format!("`{got}`, not a number")))]
pub struct ParseError {
    /// Which format was expected: `meminfo`.
    pub file: &'static str,
    /// The line, from 1; the last one where something is missing from the whole file.
    pub line: usize,
    /// The field, as the kernel calls it.
    pub field: &'static str,
    /// What stands there instead of a number; `None` where nothing does. Cut to a few bytes.
    pub got: Option<String>,
}

/// How much of a wrong field is quoted.
const QUOTE_BYTES_MAX: usize = 32;

/// Where a parser stands: for its errors.
#[derive(Debug, Clone, Copy)]
struct At {
    file: &'static str,
    line: usize,
}

impl At {
    fn missing(self, field: &'static str) -> ParseError {
        ParseError { file: self.file, line: self.line, field, got: None }
    }

    /// Reads `word` as a number.
    fn number<T: FromStr>(self, field: &'static str, word: Option<&[u8]>) -> Result<T, ParseError> {
        let word = word.ok_or_else(|| self.missing(field))?;
        std::str::from_utf8(word).ok().and_then(|text| text.parse().ok()).ok_or_else(|| self.wrong(field, word))
    }

    /// Reads `word` as a hexadecimal number without prefix.
    fn hex(self, field: &'static str, word: Option<&[u8]>) -> Result<u64, ParseError> {
        let word = word.ok_or_else(|| self.missing(field))?;
        let text = std::str::from_utf8(word).ok();
        text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or_else(|| self.wrong(field, word))
    }

    /// Takes `word` as text: names that the kernel itself gives are ASCII.
    fn text<'a>(self, field: &'static str, word: Option<&'a [u8]>) -> Result<&'a str, ParseError> {
        let word = word.ok_or_else(|| self.missing(field))?;
        std::str::from_utf8(word).map_err(|_| self.wrong(field, word))
    }

    fn wrong(self, field: &'static str, word: &[u8]) -> ParseError {
        let quoted = &word[..word.len().min(QUOTE_BYTES_MAX)];
        let got = Some(String::from_utf8_lossy(quoted).into_owned());
        ParseError { file: self.file, line: self.line, field, got }
    }
}

/// Parses a file that holds one number.
///
/// # Errors
/// Where it is none.
pub fn number(bytes: &[u8]) -> Result<u64, ParseError> {
    At { file: "number", line: 1 }.number("value", Some(bytes.trim_ascii()))
}

/// The lines of `bytes` with their numbers, without the newline, empty ones left out.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..).zip(bytes.split(|b| *b == b'\n')).filter(|(_, line)| !line.is_empty())
}

/// The words of a line.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| *b == b' ' || *b == b'\t').filter(|word| !word.is_empty())
}

/// Reads `key value` lines: `set` is given key and value and says which fields it has; what is
/// missing at the end is an error.
fn key_values<const N: usize>(
    file: &'static str,
    bytes: &[u8],
    fields: [&'static str; N],
) -> Result<[u64; N], ParseError> {
    let mut found = [None; N];
    let mut last = 1;
    for (line, text) in lines(bytes) {
        last = line;
        let mut words = words(text);
        let Some(key) = words.next() else { continue };
        let key = key.strip_suffix(b":").unwrap_or(key);
        if let Some(at) = fields.iter().position(|field| field.as_bytes() == key) {
            found[at] = Some(At { file, line }.number(fields[at], words.next())?);
        }
    }
    let mut values = [0; N];
    for ((value, found), field) in values.iter_mut().zip(found).zip(fields) {
        *value = found.ok_or(ParseError { file, line: last, field, got: None })?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_names_file_line_and_field() {
        let error = meminfo::parse(b"MemTotal: 10 kB\nMemFree: lots kB\n").unwrap_err();
        assert_eq!(error.to_string(), "meminfo line 2: MemFree is `lots`, not a number");
        let error = meminfo::parse(b"MemTotal: 10 kB\n").unwrap_err();
        assert_eq!(error.to_string(), "meminfo line 1: MemFree is missing");
    }

    /// Every parser on one input: they may refuse it, nothing else.
    fn parse_all(bytes: &[u8]) {
        let _ = arp::parse(bytes);
        let _ = conntrack::parse(bytes);
        let _ = cpu_list::parse(bytes);
        let _ = ipvs::stats(bytes);
        let _ = ipvs::backends(bytes);
        let _ = kstat::named(bytes);
        let _ = kstat::columns(bytes);
        let _ = limits::open_files(bytes);
        let _ = mdstat::parse(bytes);
        let _ = meminfo::all(bytes);
        let _ = net_dev::all(bytes);
        let _ = number(bytes);
        let _ = netstat::pairs(bytes);
        let _ = netstat::pick(bytes, "Tcp", ["OutSegs"]);
        let _ = netstat::snmp6(bytes);
        let _ = nfs::client(bytes);
        let _ = nfs::server(bytes);
        let _ = os_release::parse(bytes);
        let _ = schedstat::parse(bytes);
        let _ = sensor::split(&String::from_utf8_lossy(bytes));
        let _ = sensor::clean(&String::from_utf8_lossy(bytes));
        let _ = emmc::parse(bytes, bytes);
        let _ = smartd::parse(bytes);
        let _ = smartd::disk_of(&String::from_utf8_lossy(bytes));
        let _ = sock_diag::datagram(bytes, |_| {});
        let _ = sockstat::parse(bytes);
        let _ = softnet::parse(bytes);
        let _ = stat::guests(bytes);
        let _ = textfile::parse(bytes);
        let _ = udev::properties(bytes);
        let _ = udp::parse(bytes);
        let _ = vmstat::all(bytes);
        let _ = xfs::parse(bytes);
        let _ = diskstats::all(bytes);
        let _ = cgroup::cpu_stat(bytes);
        let _ = cgroup::io_stat(bytes);
        let _ = cgroup::memory_events(bytes);
        let _ = cgroup::memory_stat_anon(bytes);
        let _ = cgroup::value(bytes);
        let _ = cgroup::pids(bytes).count();
        let _ = cgroup_path::v2(bytes);
        let _ = cgroup_path::unit(&String::from_utf8_lossy(bytes));
        let _ = fdinfo::mount_id(bytes);
        let _ = diskstats::parse(bytes, |_| true);
        let _ = file_nr::parse(bytes);
        let _ = loadavg::parse(bytes);
        let _ = loadavg::tasks(bytes);
        let _ = meminfo::parse(bytes);
        let _ = mountinfo::parse(bytes);
        let _ = net_dev::parse(bytes, |_| true);
        let _ = pid_stat::parse(bytes);
        let _ = pressure::parse(bytes);
        let _ = stat::parse(bytes);
        let _ = vmstat::parse(bytes);
    }

    const FIXTURES: [&[u8]; 58] = [
        include_bytes!("fixtures/arp.txt"),
        include_bytes!("fixtures/conntrack.4.19.txt"),
        include_bytes!("fixtures/conntrack.6.1.txt"),
        include_bytes!("fixtures/ipvs.txt"),
        include_bytes!("fixtures/ipvs_stats.txt"),
        include_bytes!("fixtures/kstat_arc.txt"),
        include_bytes!("fixtures/kstat_io.txt"),
        include_bytes!("fixtures/limits.6.18.txt"),
        include_bytes!("fixtures/mdstat.4.19.txt"),
        include_bytes!("fixtures/mdstat.6.1.txt"),
        include_bytes!("fixtures/meminfo.4.19.txt"),
        include_bytes!("fixtures/net_dev.4.19.txt"),
        include_bytes!("fixtures/netstat.4.19.txt"),
        include_bytes!("fixtures/netstat.6.1.txt"),
        include_bytes!("fixtures/nfs.4.19.txt"),
        include_bytes!("fixtures/nfs.6.1.txt"),
        include_bytes!("fixtures/nfsd.4.19.txt"),
        include_bytes!("fixtures/nfsd.6.1.txt"),
        include_bytes!("fixtures/os-release.txt"),
        include_bytes!("fixtures/schedstat.txt"),
        include_bytes!("fixtures/snmp6.txt"),
        include_bytes!("fixtures/sock_diag_tcp.4.19.bin"),
        include_bytes!("fixtures/sock_diag_tcp.6.18.bin"),
        include_bytes!("fixtures/sock_diag_tcp6.6.18.bin"),
        include_bytes!("fixtures/sockstat.4.19.txt"),
        include_bytes!("fixtures/sockstat.6.1.txt"),
        include_bytes!("fixtures/softnet.4.19.txt"),
        include_bytes!("fixtures/softnet.6.1.txt"),
        include_bytes!("fixtures/textfile.prom"),
        include_bytes!("fixtures/udp.txt"),
        include_bytes!("fixtures/xfs.txt"),
        include_bytes!("fixtures/diskstats.6.18.txt"),
        include_bytes!("fixtures/fdinfo.6.18.txt"),
        include_bytes!("fixtures/loadavg.6.18.txt"),
        include_bytes!("fixtures/meminfo.6.18.txt"),
        include_bytes!("fixtures/mountinfo.txt"),
        include_bytes!("fixtures/net_dev.6.18.txt"),
        include_bytes!("fixtures/pid_cgroup.hybrid.txt"),
        include_bytes!("fixtures/pid_cgroup.v2.txt"),
        include_bytes!("fixtures/pid_stat.6.18.txt"),
        include_bytes!("fixtures/pressure.6.18.txt"),
        include_bytes!("fixtures/stat.6.18.txt"),
        include_bytes!("fixtures/vmstat.6.18.txt"),
        include_bytes!("fixtures/cgroup_cpu_stat.6.1.txt"),
        include_bytes!("fixtures/cgroup_io_stat.6.1.txt"),
        include_bytes!("fixtures/cgroup_memory_events.6.1.txt"),
        include_bytes!("fixtures/cgroup_memory_stat.6.1.txt"),
        include_bytes!("fixtures/diskstats.6.1.txt"),
        include_bytes!("fixtures/fdinfo.6.1.txt"),
        include_bytes!("fixtures/limits.6.1.txt"),
        include_bytes!("fixtures/loadavg.6.1.txt"),
        include_bytes!("fixtures/meminfo.6.1.txt"),
        include_bytes!("fixtures/mountinfo.6.1.txt"),
        include_bytes!("fixtures/pid_stat.6.1.txt"),
        include_bytes!("fixtures/pressure.6.1.txt"),
        include_bytes!("fixtures/schedstat.6.1.txt"),
        include_bytes!("fixtures/stat.6.1.txt"),
        include_bytes!("fixtures/vmstat.6.1.txt"),
    ];

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse_all(&bytes);
        }

        #[test]
        fn never_panics_on_damaged_files(
            which in 0..FIXTURES.len(),
            cut in any::<proptest::sample::Index>(),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = FIXTURES[which].to_vec();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            parse_all(&bytes);
        }
    }
}
