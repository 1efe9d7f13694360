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
pub mod pid_io;
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
    fn number<T: Number>(self, field: &'static str, word: Option<&[u8]>) -> Result<T, ParseError> {
        let word = word.ok_or_else(|| self.missing(field))?;
        let plain = || std::str::from_utf8(word).ok()?.parse().ok();
        digits(word).map_or_else(plain, T::of_digits).ok_or_else(|| self.wrong(field, word))
    }

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
    let (mut number, mut rest) = (0, Some(bytes));
    std::iter::from_fn(move || {
        loop {
            let all = rest?;
            number += 1;
            let line = match memchr::memchr(b'\n', all) {
                Some(end) => {
                    rest = Some(&all[end + 1..]);
                    &all[..end]
                }
                None => {
                    rest = None;
                    all
                }
            };
            if !line.is_empty() {
                return Some((number, line));
            }
        }
    })
}

/// The words of a line.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|byte| !is_blank(*byte))?;
        let word = &rest[begin..];
        let end = word.iter().position(|byte| is_blank(*byte)).unwrap_or(word.len());
        rest = &word[end..];
        Some(&word[..end])
    })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A number that fields hold.
trait Number: FromStr {
    /// The number that plain decimal digits say; `None` where it does not fit.
    fn of_digits(digits: u64) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Number for $number {
            fn of_digits(digits: u64) -> Option<Self> {
                digits.try_into().ok()
            }
        })*
    };
}
numbers!(u64, i64, u32, i32, u16, u8, usize);

impl Number for f64 {
    #[allow(clippy::cast_precision_loss, reason = "the nearest number, as when the text is parsed")]
    fn of_digits(digits: u64) -> Option<Self> {
        Some(digits as Self)
    }
}

/// What decimal digits say, if that is all that there is, and not more of them than always fit.
fn digits(word: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 19;
    if word.is_empty() || word.len() > DIGITS_MAX {
        return None;
    }
    word.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

/// Reads `key value` lines: `set` is given key and value and says which fields it has; what is
/// missing at the end is an error.
fn key_values<const N: usize>(
    file: &'static str,
    bytes: &[u8],
    fields: [&'static str; N],
) -> Result<[u64; N], ParseError> {
    let (found, last) = known_values(file, bytes, fields)?;
    let mut values = [0; N];
    for ((value, found), field) in values.iter_mut().zip(found).zip(fields) {
        *value = found.ok_or(ParseError { file, line: last, field, got: None })?;
    }
    Ok(values)
}

/// Those of some values that are there, and the last line that was read.
fn known_values<const N: usize>(
    file: &'static str,
    bytes: &[u8],
    fields: [&'static str; N],
) -> Result<([Option<u64>; N], usize), ParseError> {
    let mut found = [None; N];
    let (mut last, mut left) = (1, N);
    for (line, text) in lines(bytes) {
        last = line;
        let Some((at, value)) = fields.iter().enumerate().find_map(|(at, field)| Some((at, value_of(text, field)?)))
        else {
            continue;
        };
        left -= usize::from(found[at].is_none());
        found[at] = Some(At { file, line }.number(fields[at], words(value).next())?);
        // The rest is of no interest.
        if left == 0 {
            break;
        }
    }
    Ok((found, last))
}

/// What follows this key in a line that begins with it, with or without a colon behind it.
fn value_of<'a>(line: &'a [u8], key: &str) -> Option<&'a [u8]> {
    if line.first() != key.as_bytes().first() {
        return None;
    }
    let rest = line.strip_prefix(key.as_bytes())?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    rest.first().is_none_or(|byte| is_blank(*byte)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_say_what_the_standard_library_says() {
        let at = At { file: "x", line: 1 };
        let long = "9".repeat(20);
        for text in
            ["0", "7", "007", "4294967296", "9999999999999999999", "18446744073709551615", &long, "", "+5", "-5", "1x"]
        {
            let word = Some(text.as_bytes());
            assert_eq!(at.number::<u64>("f", word).ok(), text.parse().ok(), "{text}");
            assert_eq!(at.number::<u32>("f", word).ok(), text.parse().ok(), "{text}");
            assert_eq!(at.number::<i64>("f", word).ok(), text.parse().ok(), "{text}");
            assert_eq!(at.number::<f64>("f", word).ok(), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn a_key_is_a_whole_word_with_or_without_a_colon() {
        for (line, value) in
            [("a 1", Some(" 1")), ("a: 1", Some(": 1")), ("a\t1", Some("\t1")), ("a", Some("")), ("a:", Some(""))]
        {
            let value = value.map(|value| value.strip_prefix(':').unwrap_or(value).as_bytes());
            assert_eq!(value_of(line.as_bytes(), "a"), value, "{line}");
        }
        for line in ["ab 1", "a:1", "a:: 1", " a 1", "b 1", ""] {
            assert_eq!(value_of(line.as_bytes(), "a"), None, "{line}");
        }
    }

    #[test]
    fn lines_keep_their_numbers_and_words_have_no_blanks() {
        let bytes = b"\none\n\n two\tthree  \n\n";
        assert_eq!(lines(bytes).collect::<Vec<_>>(), [(2, &b"one"[..]), (4, b" two\tthree  ")]);
        assert_eq!(lines(b"").count() + lines(b"\n").count(), 0);
        assert_eq!(words(b" two\tthree  ").collect::<Vec<_>>(), [&b"two"[..], b"three"]);
        assert_eq!(words(b" \t ").count() + words(b"").count(), 0);
    }

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
        let _ = pid_io::parse(bytes);
        let _ = pid_stat::parse(bytes);
        let _ = pressure::parse(bytes);
        let _ = stat::parse(bytes);
        let _ = vmstat::parse(bytes);
    }

    const FIXTURES: [&[u8]; 69] = [
        include_bytes!("fixtures/arp.5.10.txt"),
        include_bytes!("fixtures/arp.txt"),
        include_bytes!("fixtures/cgroup_cpu_stat.5.10.txt"),
        include_bytes!("fixtures/cgroup_cpu_stat.6.1.txt"),
        include_bytes!("fixtures/cgroup_io_stat.5.10.txt"),
        include_bytes!("fixtures/cgroup_io_stat.6.1.txt"),
        include_bytes!("fixtures/cgroup_memory_events.5.10.txt"),
        include_bytes!("fixtures/cgroup_memory_events.6.1.txt"),
        include_bytes!("fixtures/cgroup_memory_stat.5.10.txt"),
        include_bytes!("fixtures/cgroup_memory_stat.6.1.txt"),
        include_bytes!("fixtures/conntrack.4.19.txt"),
        include_bytes!("fixtures/conntrack.6.1.txt"),
        include_bytes!("fixtures/diskstats.6.1.txt"),
        include_bytes!("fixtures/diskstats.6.18.txt"),
        include_bytes!("fixtures/fdinfo.6.1.txt"),
        include_bytes!("fixtures/fdinfo.6.18.txt"),
        include_bytes!("fixtures/ipvs.txt"),
        include_bytes!("fixtures/ipvs_stats.txt"),
        include_bytes!("fixtures/kstat_arc.txt"),
        include_bytes!("fixtures/kstat_io.txt"),
        include_bytes!("fixtures/limits.6.1.txt"),
        include_bytes!("fixtures/limits.6.18.txt"),
        include_bytes!("fixtures/loadavg.6.1.txt"),
        include_bytes!("fixtures/loadavg.6.18.txt"),
        include_bytes!("fixtures/mdstat.4.19.txt"),
        include_bytes!("fixtures/mdstat.6.1.txt"),
        include_bytes!("fixtures/meminfo.4.19.txt"),
        include_bytes!("fixtures/meminfo.6.1.txt"),
        include_bytes!("fixtures/meminfo.6.18.txt"),
        include_bytes!("fixtures/mountinfo.6.1.txt"),
        include_bytes!("fixtures/mountinfo.txt"),
        include_bytes!("fixtures/net_dev.4.19.txt"),
        include_bytes!("fixtures/net_dev.6.18.txt"),
        include_bytes!("fixtures/netstat.4.19.txt"),
        include_bytes!("fixtures/netstat.6.1.txt"),
        include_bytes!("fixtures/nfs.4.19.txt"),
        include_bytes!("fixtures/nfs.6.1.txt"),
        include_bytes!("fixtures/nfsd.4.19.txt"),
        include_bytes!("fixtures/nfsd.6.1.txt"),
        include_bytes!("fixtures/os-release.txt"),
        include_bytes!("fixtures/pid_cgroup.hybrid.txt"),
        include_bytes!("fixtures/pid_cgroup.v2.txt"),
        include_bytes!("fixtures/pid_io.5.10.txt"),
        include_bytes!("fixtures/pid_io.6.18.txt"),
        include_bytes!("fixtures/pid_stat.6.1.txt"),
        include_bytes!("fixtures/pid_stat.6.18.txt"),
        include_bytes!("fixtures/pressure.6.1.txt"),
        include_bytes!("fixtures/pressure.6.18.txt"),
        include_bytes!("fixtures/schedstat.6.1.txt"),
        include_bytes!("fixtures/schedstat.txt"),
        include_bytes!("fixtures/smartd.nvme.txt"),
        include_bytes!("fixtures/smartd_failing.ata.txt"),
        include_bytes!("fixtures/smartd_well.ata.txt"),
        include_bytes!("fixtures/snmp6.5.10.txt"),
        include_bytes!("fixtures/snmp6.txt"),
        include_bytes!("fixtures/sock_diag_tcp.4.19.bin"),
        include_bytes!("fixtures/sock_diag_tcp.6.18.bin"),
        include_bytes!("fixtures/sock_diag_tcp6.6.18.bin"),
        include_bytes!("fixtures/sockstat.4.19.txt"),
        include_bytes!("fixtures/sockstat.6.1.txt"),
        include_bytes!("fixtures/softnet.4.19.txt"),
        include_bytes!("fixtures/softnet.6.1.txt"),
        include_bytes!("fixtures/stat.6.1.txt"),
        include_bytes!("fixtures/stat.6.18.txt"),
        include_bytes!("fixtures/textfile.prom"),
        include_bytes!("fixtures/udp.txt"),
        include_bytes!("fixtures/vmstat.6.1.txt"),
        include_bytes!("fixtures/vmstat.6.18.txt"),
        include_bytes!("fixtures/xfs.txt"),
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
