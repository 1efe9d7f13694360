//! Randomness from the kernel: the only place of the collector that draws it.

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
