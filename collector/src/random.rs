//! Randomness from the kernel: the only place of the collector that draws it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Random bytes.
///
/// # Panics
/// If the kernel gives none: there is then no way to make a key or a secret, and nothing should go on.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// A random number.
#[must_use]
pub fn number() -> u64 {
    u64::from_be_bytes(bytes())
}

/// A number that no other process is likely to draw, and greater than those that this one drew before.
#[must_use]
pub fn ascending() -> u64 {
    // From the lower half: there is room above for more than a process will ever draw.
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(number() >> 1));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A secret of 256 bits, in hex.
#[must_use]
pub fn secret() -> String {
    hex(&bytes::<32>())
}

/// Bytes in lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
