//! `/proc/vmstat`: the few counters that matter.

use super::{At, ParseError, known_values, lines, words};
use crate::sample::{Compaction, VmCounters};

/// Parses the file.
///
/// # Errors
/// Where a counter is missing (`oom_kill` is there since Linux 4.13; those of compaction may be missing) or no number.
pub fn parse(bytes: &[u8]) -> Result<VmCounters, ParseError> {
    let fields = [
        "pswpin",
        "pswpout",
        "pgmajfault",
        "pgsteal_kswapd",
        "pgsteal_direct",
        "pgscan_kswapd",
        "pgscan_direct",
        "oom_kill",
        "compact_stall",
        "compact_fail",
    ];
    let (found, line) = known_values("vmstat", bytes, fields)?;
    let one = |at: usize| found[at].ok_or(ParseError { file: "vmstat", line, field: fields[at], got: None });
    Ok(VmCounters {
        pswpin: one(0)?,
        pswpout: one(1)?,
        pgmajfault: one(2)?,
        pgsteal_kswapd: one(3)?,
        pgsteal_direct: one(4)?,
        pgscan_kswapd: one(5)?,
        pgscan_direct: one(6)?,
        oom_kill: one(7)?,
        compaction: found[8].zip(found[9]).map(|(stall, fail)| Compaction { stall, fail }),
    })
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
        assert_eq!(vm.compaction, Some(Compaction::default()));
    }

    #[test]
    fn takes_whole_names_only() {
        let reclaim =
            "pgsteal_kswapd 5\npgsteal_direct 6\npgscan_kswapd 7\npgscan_direct 8\npgscan_direct_throttle 9\n";
        let text = format!("pswpin 1\npswpout 2\npgmajfault 3\n{reclaim}oom_kill_disable 9\noom_kill 4\n");
        let expected = VmCounters {
            pswpin: 1,
            pswpout: 2,
            pgmajfault: 3,
            pgsteal_kswapd: 5,
            pgsteal_direct: 6,
            pgscan_kswapd: 7,
            pgscan_direct: 8,
            oom_kill: 4,
            compaction: None,
        };
        assert_eq!(parse(text.as_bytes()), Ok(expected), "a kernel without compaction");
        let text = format!("{text}compact_stall 10\ncompact_fail 11\ncompact_success 12\n");
        let compaction = Some(Compaction { stall: 10, fail: 11 });
        assert_eq!(parse(text.as_bytes()), Ok(VmCounters { compaction, ..expected }));
        assert_eq!(parse(reclaim.as_bytes()).unwrap_err().field, "pswpin");
    }

    #[test]
    fn lists_every_counter() {
        let all = super::all(include_bytes!("fixtures/vmstat.6.18.txt")).unwrap();
        assert!(all.len() > 100 && all.iter().any(|(name, value)| *name == "pgfault" && *value > 0.0));
        assert_eq!(super::all(b"pgfault\n").unwrap_err().field, "value");
    }
}
