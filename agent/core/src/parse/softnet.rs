//! `/proc/net/softnet_stat`: packets received, a line for each CPU.

use super::{At, ParseError, lines, words};

/// One CPU since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cpu {
    /// Its number.
    pub cpu: u64,
    /// Packets processed.
    pub processed: u64,
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    /// How often work was left over when the time or budget was spent.
    pub times_squeezed: u64,
}

/// The column of the CPU's number, since Linux 5.14.
const COLUMN_CPU: usize = 12;

/// Parses the file. Before Linux 5.14 a line does not say whose it is: they are counted.
///
/// # Errors
/// Where one of the first three columns is missing, or one is no hexadecimal number.
pub fn parse(bytes: &[u8]) -> Result<Vec<Cpu>, ParseError> {
    let mut cpus = Vec::new();
    for ((line, text), row) in lines(bytes).zip(0..) {
        let at = At { file: "net/softnet_stat", line };
        let mut words = words(text);
        let mut next = |field| at.hex(field, words.next());
        let mut cpu = Cpu {
            cpu: row,
            processed: next("processed")?,
            dropped: next("dropped")?,
            times_squeezed: next("time_squeeze")?,
        };
        if let Some(number) = words.nth(COLUMN_CPU - 3) {
            cpu.cpu = at.hex("cpu", Some(number))?;
        }
        cpus.push(cpu);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kernels_that_name_the_cpu_and_those_that_do_not() {
        let old = parse(include_bytes!("fixtures/softnet.4.19.txt")).unwrap();
        assert_eq!(old[1], Cpu { cpu: 1, processed: 0x461fb, dropped: 2, times_squeezed: 0x10 });
        let new = parse(include_bytes!("fixtures/softnet.6.1.txt")).unwrap();
        assert_eq!((new[1].cpu, new[1].processed), (3, 0x29), "CPUs 1 and 2 are offline");
        assert_eq!(parse(b"1 2\n").unwrap_err().field, "time_squeeze");
    }
}
