//! `/proc/schedstat`: how long tasks ran and waited on each CPU.

use super::{At, ParseError, lines, words};

/// One CPU since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu<'a> {
    /// Its number.
    pub cpu: &'a str,
    /// Nanoseconds in which a task ran.
    pub running_ns: u64,
    /// Nanoseconds in which tasks waited for it, summed over the tasks.
    pub waiting_ns: u64,
    /// Time slices that were run.
    pub timeslices: u64,
}

/// Columns of a CPU before those that are read.
const COLUMNS_BEFORE: usize = 6;

/// Parses the lines of the CPUs; those of scheduling domains are skipped.
///
/// # Errors
/// Where a column is missing or no number.
pub fn parse(bytes: &[u8]) -> Result<Vec<Cpu<'_>>, ParseError> {
    let mut cpus = Vec::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "schedstat", line };
        let Some(rest) = text.strip_prefix(b"cpu") else { continue };
        let mut words = words(rest);
        let cpu = at.text("cpu", words.next())?;
        let mut words = words.skip(COLUMNS_BEFORE);
        let mut next = |field| at.number(field, words.next());
        cpus.push(Cpu {
            cpu,
            running_ns: next("running")?,
            waiting_ns: next("waiting")?,
            timeslices: next("timeslices")?,
        });
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_last_three_columns_of_every_cpu() {
        let cpus = parse(include_bytes!("fixtures/schedstat.txt")).unwrap();
        assert_eq!(cpus.len(), 2);
        let want = Cpu { cpu: "1", running_ns: 1_904_686_152_592, waiting_ns: 364_107_263_788, timeslices: 5_145_345 };
        assert_eq!(cpus[1], want);
        let cpus = parse(include_bytes!("fixtures/schedstat.6.1.txt")).unwrap();
        assert_eq!(cpus[1], Cpu { cpu: "1", running_ns: 4_344_796_556, waiting_ns: 5_417_171_406, timeslices: 864 });
        assert_eq!(parse(b"cpu0 1 2 3 4 5 6 7 8\n").unwrap_err().field, "timeslices");
    }
}
