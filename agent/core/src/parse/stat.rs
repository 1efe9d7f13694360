//! `/proc/stat`: CPU time, context switches, forks and the run queue.

use super::{At, ParseError, lines, words};
use crate::sample::{CpuTimes, KernelCounters};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stat {
    /// All CPUs together.
    pub cpu: CpuTimes,
    /// CPUs that are online.
    pub cpus: u32,
    /// Each of them, with its number.
    pub cpu_each: Vec<(u32, CpuTimes)>,
    /// The rest.
    pub kernel: KernelCounters,
}

/// Parses the file.
///
/// # Errors
/// Where the first line or one of the counters is missing or no number.
pub fn parse(bytes: &[u8]) -> Result<Stat, ParseError> {
    let mut stat = Stat::default();
    let mut seen = [false; SCALARS.len() + 1];
    let mut last = At { file: "stat", line: 1 };
    for (line, text) in lines(bytes) {
        let at = At { file: "stat", line };
        last = at;
        let mut words = words(text);
        match words.next() {
            Some(b"cpu") => {
                stat.cpu = cpu_times(at, words)?;
                seen[SCALARS.len()] = true;
            }
            Some([b'c', b'p', b'u', number @ ..]) => {
                let number = at.number("cpu", Some(number))?;
                stat.cpu_each.push((number, cpu_times(at, words)?));
                stat.cpus = stat.cpus.saturating_add(1);
            }
            Some(key) => {
                let Some(which) = SCALARS.iter().position(|name| name.as_bytes() == key) else { continue };
                *scalar(&mut stat.kernel, which) = at.number(SCALARS[which], words.next())?;
                seen[which] = true;
            }
            None => {}
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(which) => Err(last.missing(SCALARS.get(which).copied().unwrap_or("cpu"))),
        None => Ok(stat),
    }
}

/// The lines with one number that matter (`intr` has more; its first is the sum).
const SCALARS: [&str; 6] = ["intr", "ctxt", "btime", "processes", "procs_running", "procs_blocked"];

fn scalar(kernel: &mut KernelCounters, which: usize) -> &mut u64 {
    match which {
        0 => &mut kernel.interrupts,
        1 => &mut kernel.context_switches,
        2 => &mut kernel.boot_time_seconds,
        3 => &mut kernel.forks,
        4 => &mut kernel.procs_running,
        _ => &mut kernel.procs_blocked,
    }
}

fn cpu_times<'a>(at: At, mut words: impl Iterator<Item = &'a [u8]>) -> Result<CpuTimes, ParseError> {
    let mut next = |field| at.number(field, words.next());
    Ok(CpuTimes {
        user: next("user")?,
        nice: next("nice")?,
        system: next("system")?,
        idle: next("idle")?,
        iowait: next("iowait")?,
        irq: next("irq")?,
        softirq: next("softirq")?,
        steal: next("steal")?,
    })
}

/// Ticks that every CPU spent in guests, and in guests that are nice: number, both. They are part
/// of `user` and `nice` too.
///
/// # Errors
/// Where a number is none.
pub fn guests(bytes: &[u8]) -> Result<Vec<(u32, u64, u64)>, ParseError> {
    let mut guests = Vec::new();
    for (line, text) in lines(bytes) {
        let at = At { file: "stat", line };
        let mut words = words(text);
        let Some([b'c', b'p', b'u', number @ ..]) = words.next() else { continue };
        if number.is_empty() {
            continue;
        }
        let mut words = words.skip(8);
        let mut next = |field| words.next().map_or(Ok(0), |word| at.number(field, Some(word)));
        guests.push((at.number("cpu", Some(number))?, next("guest")?, next("guest_nice")?));
    }
    Ok(guests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_kernel_writes() {
        let stat = parse(include_bytes!("fixtures/stat.6.18.txt")).unwrap();
        assert_eq!(stat.cpus, 2);
        assert_eq!(stat.cpu.user, 46_159);
        assert_eq!(stat.cpu_each[1].0, 1);
        assert_eq!(stat.cpu_each[0].1.user + stat.cpu_each[1].1.user, stat.cpu.user);
        assert_eq!(stat.cpu.steal, 111);
        assert_eq!(stat.kernel.context_switches, 2_043_897);
        assert_eq!(stat.kernel.procs_running, 3);
    }

    #[test]
    fn reads_what_a_kernel_of_debian_12_writes() {
        let stat = parse(include_bytes!("fixtures/stat.6.1.txt")).unwrap();
        assert_eq!((stat.cpus, stat.cpu.user, stat.cpu.system, stat.cpu_each[1].1.user), (2, 91, 461, 52));
        assert_eq!((stat.kernel.context_switches, stat.kernel.forks, stat.kernel.interrupts), (3_317, 119, 3_915));
    }

    #[test]
    fn reads_a_kernel_without_guest_columns() {
        let text = b"cpu 1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\nintr 9 1\nctxt 10\nbtime 11\nprocesses 12\nprocs_running 13\nprocs_blocked 14\n";
        let stat = parse(text).unwrap();
        assert_eq!(stat.cpu.steal, 8);
        assert_eq!(stat.kernel.interrupts, 9);
        assert_eq!(stat.kernel.procs_blocked, 14);
    }

    #[test]
    fn refuses_a_file_without_its_first_line() {
        let error = parse(b"intr 9\nctxt 10\nbtime 11\nprocesses 12\nprocs_running 13\nprocs_blocked 14\n");
        assert_eq!(error.unwrap_err().field, "cpu");
    }

    #[test]
    fn time_in_guests_is_zero_where_the_kernel_does_not_count_it() {
        let text = b"cpu 1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu3 1 2 3 4 5 6 7 8\nintr 1\n";
        assert_eq!(guests(text).unwrap(), [(0, 9, 10), (3, 0, 0)]);
    }
}
