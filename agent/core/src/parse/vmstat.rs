//! `/proc/vmstat`: the few counters that matter.

use super::{ParseError, key_values};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_kernel_writes() {
        let vm = parse(include_bytes!("fixtures/vmstat.6.18.txt")).unwrap();
        assert!(vm.pgmajfault > 0);
    }

    #[test]
    fn takes_whole_names_only() {
        let text = b"pswpin 1\npswpout 2\npgmajfault 3\noom_kill_disable 9\noom_kill 4\n";
        assert_eq!(parse(text), Ok(VmCounters { pswpin: 1, pswpout: 2, pgmajfault: 3, oom_kill: 4 }));
    }
}
