//! What the agent itself takes of the host.

use std::path::PathBuf;

use mainstay_core::budget::Usage;

use super::clock;
use super::file::KeptFile;

/// Reads what this process has used.
#[derive(Debug)]
pub struct OwnUse {
    statm: KeptFile,
    buffer: Vec<u8>,
}

impl Default for OwnUse {
    fn default() -> Self {
        Self { statm: KeptFile::new(PathBuf::from("/proc/self/statm")), buffer: Vec::new() }
    }
}

impl OwnUse {
    /// What was used until now.
    pub fn read(&mut self) -> Usage {
        let statm = self.statm.read(&mut self.buffer).ok().flatten();
        Usage { cpu: clock::cpu_time(), rss_bytes: statm.and_then(resident_bytes) }
    }
}

/// The second number of `/proc/self/statm`: pages that are resident.
fn resident_bytes(statm: &[u8]) -> Option<u64> {
    let word = statm.split(|byte| *byte == b' ').nth(1)?;
    let pages: u64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// What is at least so large is mapped by itself, and given back as soon as it is freed. Said aloud, or the allocator would
/// raise it to the largest that was ever freed, and keep twice as much for later.
const MAPPED_BYTES_MIN: i32 = 128 << 10;

/// Has all threads take memory from one heap, and large pieces from the kernel. To be called before there is a second thread.
#[allow(unsafe_code)]
pub fn set_up_heap() {
    // SAFETY: two numbers are set, and nobody allocates beside us.
    // JUSTIFICATION: a heap for each of half a dozen threads that seldom allocate is memory that is held and not used.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
}

/// Gives memory that the allocator keeps for later back to the kernel.
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: it touches nothing but free chunks, and takes the allocator's own locks.
    // JUSTIFICATION: the allocator keeps what was freed between pieces that are in use, so that nothing that can be measured
    // would become of a step down, or of what only the start needed.
    unsafe { libc::malloc_trim(0) };
}

/// Gives back what only the start or a rare piece of work needed: free memory, and pages of the program itself. They stay in
/// the kernel's cache as long as there is room, and what runs again is mapped again, some microseconds a piece.
#[allow(unsafe_code)]
pub fn settle() {
    unsafe extern "C" {
        // The linker puts them at the first byte of the program and behind the last one that can be run.
        static __executable_start: u8;
        static etext: u8;
    }
    give_back();
    let (begin, end) = (&raw const __executable_start, &raw const etext);
    let bytes = end.addr().saturating_sub(begin.addr());
    // SAFETY: what lies between the two is mapped from the program's file and never written to: it reads the same ever after.
    // JUSTIFICATION: half of what is resident is code, and a third of that nobody runs after the first minute.
    unsafe { libc::madvise(begin.cast_mut().cast(), bytes, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_this_process_has_used() {
        let mut own = OwnUse::default();
        let before = own.read();
        let held = vec![1u8; 64 << 20];
        let after = own.read();
        assert!(after.cpu >= before.cpu);
        let more = after.rss_bytes.unwrap().saturating_sub(before.rss_bytes.unwrap());
        assert!(more > 48 << 20, "{more} of {} bytes", held.len());
    }

    #[test]
    fn what_only_the_start_needed_is_given_back_and_the_program_goes_on() {
        let mut own = OwnUse::default();
        // Small pieces, so that they lie in the heap, and one in use behind them, so that it does not shrink by itself.
        let held: Vec<Vec<u8>> = (0..1_000).map(|_| vec![1u8; 32 << 10]).collect();
        let behind = vec![1u8; 1 << 10];
        let before = own.read().rss_bytes.unwrap();
        drop(held);
        settle();
        let after = own.read().rss_bytes.unwrap();
        assert!(after + (24 << 20) < before, "{before} to {after} with {} bytes behind", behind.len());
    }

    #[test]
    fn a_line_without_the_number_is_unknown() {
        assert_eq!(resident_bytes(b"100 25 3 1 0 9 0\n"), Some(25 * rustix::param::page_size() as u64));
        for wrong in [&b""[..], b"100", b"100 x", b"100 99999999999999999999"] {
            assert_eq!(resident_bytes(wrong), None);
        }
    }
}
