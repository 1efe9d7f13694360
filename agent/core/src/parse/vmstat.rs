//! `/proc/vmstat`: the few counters that matter.

use super::{At, ParseError, key_values, lines, words};
use crate::sample::VmCounters;

/// Parses the file.
///
/// # Errors
/// Where a counter is missing (`oom_kill` is there since Linux 4.13) or no number.
pub fn parse(bytes: &[u8]) -> Result<VmCounters, ParseError> {
    let fields = ["pswpin", "pswpout", "pgmajfault", "oom_kill"];
    let [pswpin, pswpout, pgmajfault, oom_kill] = key_values("vmstat", bytes, fields)?;
    Ok(VmCounters { pswpin, pswpout, pgmajfault, oom_kill })
}

/// Every line of the file.
///
/// # Errors
/// Where a value is missing or no number.
pub fn all(bytes: &[u8]) -> Result<Vec<(&str, f64)>, ParseError> {
    let mut counters = Vec::with_capacity(256);
    for (line, text) in lines(bytes) {
        let at = At { file: "vmstat", line };
        let mut words = words(text);
        counters.push((at.text("name", words.next())?, at.number("value", words.next())?));
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_kernel_writes() {
        let vm = parse(include_bytes!("fixtures/vmstat.6.18.txt")).unwrap();
        assert!(vm.pgmajfault > 0);
        let vm = parse(include_bytes!("fixtures/vmstat.6.1.txt")).unwrap();
        assert_eq!((vm.oom_kill, vm.pgmajfault, vm.pswpin), (1, 0, 0));
    }

    #[test]
    fn takes_whole_names_only() {
        let text = b"pswpin 1\npswpout 2\npgmajfault 3\noom_kill_disable 9\noom_kill 4\n";
        assert_eq!(parse(text), Ok(VmCounters { pswpin: 1, pswpout: 2, pgmajfault: 3, oom_kill: 4 }));
    }

    #[test]
    fn lists_every_counter() {
        let all = super::all(include_bytes!("fixtures/vmstat.6.18.txt")).unwrap();
        assert!(all.len() > 100 && all.iter().any(|(name, value)| *name == "pgfault" && *value > 0.0));
        assert_eq!(super::all(b"pgfault\n").unwrap_err().field, "value");
    }
}
