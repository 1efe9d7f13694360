//! Columns of numbers as bytes: varints, deltas, and the scale that makes decimals whole.
//!
//! In: numbers. Out: bytes, and the same numbers again, bit by bit. Reading never trusts a length:
//! what does not fit is `None`. The collector's blocks and the recordings of hosts are made of these.

const MODE_XOR: u8 = 0;
const MODE_DELTA: u8 = 1;
const MODE_DELTA2: u8 = 2;
const MODE_SAME: u8 = 3;
/// Powers of ten that are tried: /proc prints hundredths, PSI hundredths, load averages too.
const SCALES: [f64; 5] = [1.0, 10.0, 100.0, 1000.0, 10_000.0];
/// Whole numbers up to here are exact as `f64`.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Writes a number in as many bytes as it needs, seven bits in each.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Reads what [`write_varint`] wrote, and moves on behind it.
#[inline]
pub fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    // Most are small.
    if let Some((byte @ 0..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some(u64::from(*byte));
    }
    read_long(bytes)
}

fn read_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Small numbers of either sign as small numbers.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Undoes [`zigzag`].
#[must_use]
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Writes whole numbers, in the shorter of two ways.
pub fn write_ints(out: &mut Vec<u8>, values: &[i64], scale: u8) {
    let Some(first) = values.first() else { return };
    let head = |mode: u8| scale << 4 | mode;
    if values.iter().all(|v| v == first) {
        out.push(head(MODE_SAME));
        write_varint(out, zigzag(*first));
        return;
    }
    let deltas = differences(values);
    let again = differences(&deltas);
    let (mode, list) = if cost(&again) < cost(&deltas) { (MODE_DELTA2, again) } else { (MODE_DELTA, deltas) };
    out.push(head(mode));
    for value in list {
        write_varint(out, zigzag(value));
    }
}

/// Reads `count` whole numbers.
pub fn read_ints(bytes: &mut &[u8], count: usize) -> Option<Vec<i64>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    read_ints_of(bytes, head & 0x0f, count)
}

fn read_ints_of(bytes: &mut &[u8], mode: u8, count: usize) -> Option<Vec<i64>> {
    if mode == MODE_SAME {
        return Some(vec![unzigzag(read_varint(bytes)?); count]);
    }
    // A number takes a byte at least.
    if count > bytes.len() {
        return None;
    }
    let mut values = Vec::with_capacity(count);
    loop {
        // Most are a byte long, and come in runs.
        let run = bytes.iter().take(count - values.len()).take_while(|byte| **byte < 0x80).count();
        let (short, rest) = bytes.split_at(run);
        values.extend(short.iter().map(|byte| unzigzag(u64::from(*byte))));
        *bytes = rest;
        if values.len() == count {
            break;
        }
        values.push(unzigzag(read_long(bytes)?));
    }
    match mode {
        MODE_DELTA => sum_up(&mut values),
        MODE_DELTA2 => {
            sum_up(&mut values);
            sum_up(&mut values);
        }
        _ => return None,
    }
    Some(values)
}

/// Each less the one before it; the first less zero.
#[must_use]
pub fn differences(values: &[i64]) -> Vec<i64> {
    let mut before = 0;
    values.iter().map(|v| v.wrapping_sub(std::mem::replace(&mut before, *v))).collect()
}

/// Undoes [`differences`].
pub fn sum_up(values: &mut [i64]) {
    let mut sum = 0i64;
    for value in values {
        sum = sum.wrapping_add(*value);
        *value = sum;
    }
}

/// Bits that numbers take, roughly: which of two ways to write them is shorter.
#[must_use]
pub fn cost(values: &[i64]) -> u32 {
    values.iter().map(|v| 64 - zigzag(*v).leading_zeros()).sum()
}

/// Writes numbers so that each comes back with the same bits.
pub fn write_column(out: &mut Vec<u8>, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    if let Some(same) = same(values) {
        if let Some((scale, whole)) = scale_of(same) {
            return write_ints(out, &[whole], scale);
        }
    } else if let Some((scale, whole)) = scaled(values) {
        return write_ints(out, &whole, scale);
    }
    out.push(MODE_XOR);
    write_xor(out, values);
}

/// Writes the bits of numbers of any kind, eight bytes each: those that hardly change stand together for zstd.
pub fn write_xor(out: &mut Vec<u8>, values: &[f64]) {
    let mut before = 0;
    let mixed: Vec<[u8; 8]> =
        values.iter().map(|v| (v.to_bits() ^ std::mem::replace(&mut before, v.to_bits())).to_be_bytes()).collect();
    for byte in 0..8 {
        out.extend(mixed.iter().map(|bytes| bytes[byte]));
    }
}

/// Reads `count` numbers.
pub fn read_column(bytes: &mut &[u8], count: usize) -> Option<Vec<f64>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    let (scale, mode) = (head >> 4, head & 0x0f);
    if mode != MODE_XOR {
        let scale = SCALES.get(usize::from(scale))?;
        let whole = read_ints_of(bytes, mode, count)?;
        return Some(whole.into_iter().map(|v| v as f64 / scale).collect());
    }
    read_xor(bytes, count)
}

/// Reads `count` numbers that [`write_xor`] wrote, and moves on behind them.
pub fn read_xor(bytes: &mut &[u8], count: usize) -> Option<Vec<f64>> {
    let mixed = bytes.get(..count.checked_mul(8)?)?;
    *bytes = &bytes[mixed.len()..];
    let mut before = 0;
    let value = |n: usize| {
        let mut bits = [0; 8];
        for (byte, to) in bits.iter_mut().enumerate() {
            *to = mixed[byte * count + n];
        }
        before ^= u64::from_be_bytes(bits);
        f64::from_bits(before)
    };
    Some((0..count).map(value).collect())
}

/// Whether one of the scales makes all of these whole, so that [`write_column`] writes them short.
#[must_use]
pub fn has_scale(values: &[f64]) -> bool {
    same(values).map_or_else(|| scaled(values).is_some(), |same| scale_of(same).is_some())
}

/// The number that all of these are, as in most columns.
fn same(values: &[f64]) -> Option<f64> {
    let first = values.first()?;
    values.iter().all(|value| value.to_bits() == first.to_bits()).then_some(*first)
}

/// The first scale that makes all of these whole, by its number, and what they are then.
fn scaled(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    (0u8..).zip(SCALES).find_map(|(n, scale)| Some((n, wholes(values, scale)?)))
}

/// The first scale that makes this one whole.
fn scale_of(value: f64) -> Option<(u8, i64)> {
    (0u8..).zip(SCALES).find_map(|(n, scale)| Some((n, whole(value, scale)?)))
}

fn wholes(values: &[f64], scale: f64) -> Option<Vec<i64>> {
    values.iter().map(|value| whole(*value, scale)).collect()
}

/// The value times `scale`, if that is a whole number that comes back with the same bits.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // within WHOLE_MAX by the comparison before it
pub fn whole(value: f64, scale: f64) -> Option<i64> {
    if scale == 1.0 {
        // Without rounding, as nothing but a whole number is one.
        let is_whole = value.abs() < WHOLE_MAX && (value as i64 as f64).to_bits() == value.to_bits();
        return is_whole.then_some(value as i64);
    }
    let whole = (value * scale).round();
    let fits = whole.abs() < WHOLE_MAX;
    (fits && (whole as i64 as f64 / scale).to_bits() == value.to_bits()).then_some(whole as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-1_000_000i64..1_000_000).prop_map(|n| n as f64),
            (0i64..1_000_000).prop_map(|n| n as f64 / 100.0),
            Just(-0.0),
        ]
    }

    proptest! {
        #[test]
        fn every_bit_comes_back(values in prop::collection::vec(value(), 0..80), ints: Vec<i64>) {
            let mut bytes = Vec::new();
            write_column(&mut bytes, &values);
            write_ints(&mut bytes, &ints, 0);
            let mut rest = &bytes[..];
            let back = read_column(&mut rest, values.len()).unwrap();
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&values));
            prop_assert_eq!(read_ints(&mut rest, ints.len()), Some(ints));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_column_of_one_number_is_written_as_any_other(value in value(), count in 2usize..80) {
            let values = vec![value; count];
            let (mut bytes, mut plain) = (Vec::new(), Vec::new());
            write_column(&mut bytes, &values);
            match scaled(&values) {
                Some((scale, whole)) => write_ints(&mut plain, &whole, scale),
                None => {
                    plain.push(MODE_XOR);
                    write_xor(&mut plain, &values);
                }
            }
            prop_assert_eq!(bytes, plain);
            prop_assert_eq!(has_scale(&values), scaled(&values).is_some());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0usize..4_000) {
            let _ = read_column(&mut &bytes[..], count);
            let _ = read_ints(&mut &bytes[..], count);
            let _ = read_varint(&mut &bytes[..]);
        }
    }
}
