//! `/proc/net/stat/nf_conntrack`: counters of connection tracking, a line for each CPU.

use std::collections::BTreeMap;

use super::{At, ParseError, lines, words};

/// Sums every counter over the CPUs. Names are those of the heading, which differs between kernels.
///
/// # Errors
/// Where a line has fewer columns than the heading, or one is no hexadecimal number.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<&str, u64>, ParseError> {
    let mut rows = lines(bytes);
    let at = At { file: "net/stat/nf_conntrack", line: 1 };
    let (_, heading) = rows.next().ok_or_else(|| at.missing("heading"))?;
    let names: Vec<&str> = words(heading).map(|word| at.text("heading", Some(word))).collect::<Result<_, _>>()?;
    let mut sums = BTreeMap::new();
    for (line, text) in rows {
        let at = At { line, ..at };
        let mut values = words(text);
        for name in &names {
            let sum: &mut u64 = sums.entry(*name).or_default();
            *sum = sum.saturating_add(at.hex("counter", values.next())?);
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_cpus_whatever_columns_the_kernel_has() {
        let old = parse(include_bytes!("fixtures/conntrack.4.19.txt")).unwrap();
        assert_eq!((old["found"], old["insert_failed"], old["search_restart"]), (0x11, 3, 0));
        let new = parse(include_bytes!("fixtures/conntrack.6.1.txt")).unwrap();
        assert_eq!((new["clashres"], new["drop"], new["invalid"]), (1, 2, 0x2a));
        assert!(!new.contains_key("searched"));
    }

    #[test]
    fn refuses_a_line_that_is_cut() {
        assert_eq!(parse(b"entries found\n00000001\n").unwrap_err().line, 2);
        assert_eq!(parse(b"").unwrap_err().field, "heading");
    }
}
