//! One column of numbers as bytes, bit by bit the same again.
//!
//! ```text
//! column = head | whole numbers | exceptions, if the head says so       head = scale << 4 | is patched << 3 | mode
//!          mode 0: bits xor the bits before, bytes transposed   1: deltas   2: deltas of deltas   3: one value for all
//!               4: the numbers themselves
//! exceptions = their number varint | of each: places since the one before varint, bits [8]
//! ```
//!
//! Whole numbers (zigzag varints) are the values times ten to the power of `scale`, taken only where the value comes back
//! with the same bits. They are written in planes: the first bytes of all, then the second bytes of those that have one,
//! and so on, because the first are noise and the others hardly change, which zstd packs the better for it (by 6 % of
//! what a busy host sends). A few values that do not are exceptions, so that one odd window in an hour costs nine bytes and
//! not the whole column.

use mainstay_core::columns::{
    cost, differences, read_varint, read_xor, sum_up, unzigzag, whole, write_varint, write_xor, zigzag,
};

const XOR: u8 = 0;
const DELTA: u8 = 1;
const DELTA2: u8 = 2;
const SAME: u8 = 3;
const PLAIN: u8 = 4;
const PATCHED: u8 = 8;
/// Powers of ten that are tried: /proc prints hundredths and thousandths of seconds, PSI millionths.
pub(super) const SCALES: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Of so many values one may be an exception: beyond that exclusive-or is as short.
const ONE_IN: usize = 8;

/// Values as whole numbers, and the places at which they are not.
pub(super) struct Wholes {
    pub(super) scale: u8,
    pub(super) values: Vec<i64>,
    pub(super) exceptions: Vec<(usize, u64)>,
}

/// The smallest scale at which all values are whole numbers but for a few.
pub(super) fn wholes(values: &[f64]) -> Option<Wholes> {
    (0u8..).zip(SCALES).find_map(|(scale, factor)| {
        let list = values.iter().map(|value| (whole(*value, factor), value.to_bits()));
        Some(Wholes { scale, ..patched(list)? })
    })
}

/// Whole numbers, with what is none as an exception that stands in the row as the number before it.
pub(super) fn patched(list: impl ExactSizeIterator<Item = (Option<i64>, u64)>) -> Option<Wholes> {
    let most = list.len() / ONE_IN;
    let mut values = Vec::with_capacity(list.len());
    let mut exceptions = Vec::new();
    for (at, (value, bits)) in list.enumerate() {
        if value.is_none() {
            if exceptions.len() == most {
                return None;
            }
            exceptions.push((at, bits));
        }
        values.push(value.unwrap_or_else(|| values.last().copied().unwrap_or(0)));
    }
    Some(Wholes { scale: 0, values, exceptions })
}

/// Writes numbers.
pub(super) fn write(out: &mut Vec<u8>, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    match wholes(values) {
        Some(wholes) => write_wholes(out, &wholes),
        None => {
            out.push(XOR);
            write_xor(out, values);
        }
    }
}

/// Writes whole numbers in the shortest of the ways.
pub(super) fn write_wholes(out: &mut Vec<u8>, wholes: &Wholes) {
    let values = &wholes.values;
    let Some(first) = values.first() else { return };
    let patched = if wholes.exceptions.is_empty() { 0 } else { PATCHED };
    let head = |mode: u8| wholes.scale << 4 | patched | mode;
    if values.iter().all(|v| v == first) {
        out.push(head(SAME));
        write_varint(out, zigzag(*first));
    } else {
        let deltas = differences(values);
        let again = differences(&deltas);
        let ways = [(DELTA, &deltas), (DELTA2, &again), (PLAIN, values)];
        let (mode, list) = ways.into_iter().min_by_key(|(_, list)| cost(list)).unwrap_or((PLAIN, values));
        out.push(head(mode));
        write_planes(out, list);
    }
    if !wholes.exceptions.is_empty() {
        write_varint(out, wholes.exceptions.len() as u64);
        let mut before = 0;
        for (at, bits) in &wholes.exceptions {
            write_varint(out, (at - std::mem::replace(&mut before, *at)) as u64);
            out.extend(bits.to_le_bytes());
        }
    }
}

fn write_planes(out: &mut Vec<u8>, values: &[i64]) {
    let mut rest: Vec<u64> = values.iter().map(|value| zigzag(*value)).collect();
    while !rest.is_empty() {
        rest.retain_mut(|value| {
            let [low, ..] = value.to_le_bytes();
            let goes_on = *value >= 0x80;
            out.push(if goes_on { low | 0x80 } else { low });
            *value >>= 7;
            goes_on
        });
    }
}

/// Bytes of the longest number.
const PLANES: usize = 10;

fn read_planes(bytes: &mut &[u8], count: usize) -> Option<Vec<i64>> {
    // Of each plane, what was not taken yet; a plane is as long as the one before says.
    let mut planes = [&[][..]; PLANES];
    let mut rest = count;
    for plane in &mut planes {
        *plane = bytes.get(..rest)?;
        *bytes = &bytes[rest..];
        rest = plane.iter().filter(|byte| **byte >= 0x80).count();
    }
    let (first, planes) = planes.split_first_mut().filter(|_| rest == 0)?;
    let number = |byte: &u8| {
        let (mut byte, mut value, mut shift) = (*byte, 0, 0);
        for plane in &mut *planes {
            if byte < 0x80 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            (byte, *plane) = plane.split_first().map_or((0, *plane), |(byte, rest)| (*byte, rest));
        }
        unzigzag(value | u64::from(byte) << shift)
    };
    Some(first.iter().map(number).collect())
}

/// What [`write_wholes`] wrote, read back.
pub(super) struct Ints {
    pub(super) factor: f64,
    pub(super) values: Vec<i64>,
    pub(super) exceptions: Vec<(usize, u64)>,
}

/// Reads `count` whole numbers; `None` of a column that has none, which is one of mode 0, or is malformed.
pub(super) fn read_wholes(bytes: &mut &[u8], count: usize) -> Option<Ints> {
    if count == 0 {
        return Some(Ints { factor: 1.0, values: Vec::new(), exceptions: Vec::new() });
    }
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    let factor = *SCALES.get(usize::from(head >> 4))?;
    let values = read_ints(bytes, head & 7, count)?;
    let exceptions = if head & PATCHED == 0 { Vec::new() } else { read_exceptions(bytes, count)? };
    Some(Ints { factor, values, exceptions })
}

fn read_ints(bytes: &mut &[u8], mode: u8, count: usize) -> Option<Vec<i64>> {
    if mode == SAME {
        return Some(vec![unzigzag(read_varint(bytes)?); count]);
    }
    let mut values = read_planes(bytes, count)?;
    match mode {
        PLAIN => {}
        DELTA => sum_up(&mut values),
        DELTA2 => {
            sum_up(&mut values);
            sum_up(&mut values);
        }
        _ => return None,
    }
    Some(values)
}

fn read_exceptions(bytes: &mut &[u8], count: usize) -> Option<Vec<(usize, u64)>> {
    let some = usize::try_from(read_varint(bytes)?).ok().filter(|some| *some <= count / ONE_IN)?;
    let mut exceptions = Vec::with_capacity(some);
    let mut at = 0usize;
    for _ in 0..some {
        at = at.checked_add(usize::try_from(read_varint(bytes)?).ok()?).filter(|at| *at < count)?;
        let (bits, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        exceptions.push((at, u64::from_le_bytes(*bits)));
    }
    Some(exceptions)
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Whole numbers, and what each is divided by.
    Whole(Vec<i64>, f64),
    /// Numbers of any kind.
    Any(Vec<f64>),
}

impl Values {
    #[allow(clippy::cast_precision_loss)] // whole numbers are within 2^53 where they were written
    pub(super) fn floats(self) -> Vec<f64> {
        match self {
            Self::Whole(values, factor) => values.into_iter().map(|value| value as f64 / factor).collect(),
            Self::Any(values) => values,
        }
    }
}

/// Reads `count` numbers.
pub(super) fn read(bytes: &mut &[u8], count: usize) -> Option<Values> {
    if count == 0 {
        return Some(Values::Any(Vec::new()));
    }
    if bytes.first()? & 7 == XOR {
        *bytes = &bytes[1..];
        return read_xor(bytes, count).map(Values::Any);
    }
    let ints = read_wholes(bytes, count)?;
    let whole = Values::Whole(ints.values, ints.factor);
    if ints.exceptions.is_empty() {
        return Some(whole);
    }
    let mut values = whole.floats();
    for (at, bits) in ints.exceptions {
        values[at] = f64::from_bits(bits);
    }
    Some(Values::Any(values))
}
