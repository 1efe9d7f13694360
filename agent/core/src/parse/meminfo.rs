//! `/proc/meminfo`: memory of the whole machine.

use super::{At, ParseError, key_values, lines, words};
use crate::sample::Memory;

/// The fields that are read, as the kernel calls them. The file counts in KiB.
const FIELDS: [&str; 11] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "Shmem",
    "SReclaimable",
    "SUnreclaim",
    "Dirty",
    "SwapTotal",
    "SwapFree",
];

/// Parses the file.
///
/// # Errors
/// Where a field is missing or no number.
pub fn parse(bytes: &[u8]) -> Result<Memory, ParseError> {
    let kib = key_values("meminfo", bytes, FIELDS)?;
    let [total, free, available, buffers, cached, shmem, reclaimable, unreclaim, dirty, swap, swap_free] =
        kib.map(|kib| kib.saturating_mul(1024));
    Ok(Memory {
        total_bytes: total,
        free_bytes: free,
        available_bytes: available,
        buffers_bytes: buffers,
        cached_bytes: cached,
        shmem_bytes: shmem,
        slab_reclaimable_bytes: reclaimable,
        slab_unreclaimable_bytes: unreclaim,
        dirty_bytes: dirty,
        swap_total_bytes: swap,
        swap_free_bytes: swap_free,
    })
}

/// Every line of the file, as the kernel calls it: amounts in bytes, and counts of pages as they are.
///
/// # Errors
/// Where a value is missing or no number.
pub fn all(bytes: &[u8]) -> Result<Vec<(&str, Amount)>, ParseError> {
    let mut amounts = Vec::with_capacity(64);
    for (line, text) in lines(bytes) {
        let at = At { file: "meminfo", line };
        let mut words = words(text);
        let key = at.text("name", words.next())?;
        let key = key.strip_suffix(':').unwrap_or(key);
        let value: u64 = at.number("value", words.next())?;
        let is_kib = words.next() == Some(b"kB");
        amounts.push((key, if is_kib { Amount::Bytes(value.saturating_mul(1024)) } else { Amount::Count(value) }));
    }
    Ok(amounts)
}

/// What a line of the file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Pieces, such as huge pages.
    Count(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_kernel_writes_in_bytes() {
        let memory = parse(include_bytes!("fixtures/meminfo.6.18.txt")).unwrap();
        assert_eq!(memory.total_bytes % 1024, 0);
        assert!(memory.total_bytes > memory.available_bytes && memory.available_bytes > memory.free_bytes / 2);
        assert!(memory.total_bytes > 1 << 30, "KiB are made bytes");
        let memory = parse(include_bytes!("fixtures/meminfo.6.1.txt")).unwrap();
        assert_eq!((memory.total_bytes, memory.available_bytes), (351_004 * 1_024, 276_048 * 1_024));
    }

    #[test]
    fn does_not_mistake_swap_cached_for_cached() {
        let mut text = String::from("SwapCached: 999 kB\n");
        for (n, field) in (1..).zip(FIELDS) {
            text.push_str(&format!("{field}:   {n} kB\n"));
        }
        let memory = parse(text.as_bytes()).unwrap();
        assert_eq!((memory.cached_bytes, memory.swap_free_bytes), (5 * 1024, 11 * 1024));
    }

    #[test]
    fn lists_amounts_in_bytes_and_counts_as_they_are() {
        let all = super::all(include_bytes!("fixtures/meminfo.4.19.txt")).unwrap();
        assert!(all.contains(&("Active(anon)", Amount::Bytes(2_069_304 * 1024))));
        assert!(all.contains(&("HugePages_Total", Amount::Count(0))));
        assert_eq!(super::all(b"MemTotal: x kB\n").unwrap_err().field, "value");
    }
}
