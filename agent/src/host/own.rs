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

/// Has all threads take memory from one heap. To be called before there is a second thread.
#[allow(unsafe_code)]
pub fn share_heap() {
    // SAFETY: a number is set, and nobody allocates beside us.
    // JUSTIFICATION: a heap for each of half a dozen threads that seldom allocate is memory that is held and not used.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives memory that the allocator keeps for later back to the kernel.
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: it touches nothing but free chunks, and takes the allocator's own locks.
    // JUSTIFICATION: the allocator keeps what was freed, so that a step down would free nothing that can be measured.
    unsafe { libc::malloc_trim(0) };
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
    fn a_line_without_the_number_is_unknown() {
        assert_eq!(resident_bytes(b"100 25 3 1 0 9 0\n"), Some(25 * rustix::param::page_size() as u64));
        for wrong in [&b""[..], b"100", b"100 x", b"100 99999999999999999999"] {
            assert_eq!(resident_bytes(wrong), None);
        }
    }
}
