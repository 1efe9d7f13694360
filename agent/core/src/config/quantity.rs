//! Durations and byte counts as people write them: `30s`, `1h30m`, `64MiB`.
//!
//! Whole numbers with a unit, no fractions and no bare numbers for durations, so that nothing has to be guessed.

use std::time::Duration;

/// Says why a quantity cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by one of the known units.
    #[error("must be a duration such as \"30s\", \"2m\", \"6h\" or \"3d\" (units ms, s, m, h, d, w), not {0:?}")]
    Duration(String),
    /// Not a number followed by one of the known units.
    #[error("must be a size such as \"512KiB\", \"64MiB\" or \"10GB\", not {0:?}")]
    Bytes(String),
    /// Not a number followed by `%`.
    #[error("must be a share such as \"10%\" or \"2.5%\", not {0:?}")]
    Share(String),
    /// More than fits.
    #[error("is too large: {0:?}")]
    TooLarge(String),
}

/// Largest units first, because they are also used to show a duration.
const DURATION_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const BYTE_UNITS: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

/// Reads `500ms`, `30s`, `2m`, `6h`, `3d`, `2w` and sums of them such as `1h30m`.
///
/// # Errors
/// [`QuantityError`] for anything else, and for more than a `u64` of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let wrong = || QuantityError::Duration(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let (number, unit, after) = split_term(rest).ok_or_else(wrong)?;
        let &(_, unit_ms) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(|| QuantityError::TooLarge(text.to_owned()))?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads `4096`, `512B`, `64KiB`, `64MiB`, `2GiB`, `1TiB` and the decimal `kB`, `MB`, `GB`, `TB`.
///
/// # Errors
/// [`QuantityError`] for anything else, and for more than a `u64`.
pub fn parse_bytes(text: &str) -> Result<u64, QuantityError> {
    let wrong = || QuantityError::Bytes(text.to_owned());
    let trimmed = text.trim();
    let digits_end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let number = parse_number(&trimmed[..digits_end]).ok_or_else(wrong)?;
    let unit = trimmed[digits_end..].trim_start();
    let &(_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(factor).ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
}

/// Reads `10%` and `2.5%` as 0.1 and 0.025.
///
/// # Errors
/// [`QuantityError`] for anything else.
pub fn parse_share(text: &str) -> Result<f64, QuantityError> {
    let digits = text.trim().strip_suffix('%').map(str::trim_end).unwrap_or_default();
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent = digits.parse::<f64>().ok().filter(|percent| is_number && percent.is_finite());
    percent.map(|percent| percent / 100.0).ok_or_else(|| QuantityError::Share(text.to_owned()))
}

/// Shows a duration in the form that [`parse_duration`] reads: `1h30m`, `500ms`, `0s`.
pub fn show_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS.into_iter().filter(|(unit, _)| *unit != "w") {
        if rest_ms >= unit_ms {
            text.push_str(&format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    text
}

/// Shows a size in the largest binary unit that divides it: `64MiB`, `1000B`.
pub fn show_bytes(bytes: u64) -> String {
    let unit = BYTE_UNITS[..4].iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Splits `30s…` into number, unit and the rest.
fn split_term(text: &str) -> Option<(u64, &str, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let number = parse_number(&text[..unit_at])?;
    let tail = &text[unit_at..];
    let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
    Some((number, &tail[..unit_end], &tail[unit_end..]))
}

/// Digits only: `u64::from_str` would take a `+`.
fn parse_number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}
