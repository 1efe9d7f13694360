//! Columns of numbers as they are kept for the next question: small, and any rows of them are had without those before.
//!
//! In: numbers as they were unpacked. Out: the same, bit by bit. What is stored takes less, but every number of it hangs on
//! the one before, and reading it was most of what a question took that is asked again.

use std::ops::Range;

use mainstay_fleet::block::Values;

/// Whole numbers.
#[derive(Debug, Clone)]
pub(super) enum Ints {
    /// Each is so much more than the one before.
    Even {
        first: i64,
        step: i64,
        len: usize,
    },
    /// Each is a little beside that.
    Near {
        first: i64,
        step: i64,
        beside: Box<[i16]>,
    },
    /// Each is so much more than the first.
    Far {
        first: i64,
        beyond: Box<[i32]>,
    },
    Any(Box<[i64]>),
}

impl Ints {
    pub(super) fn of(values: &[i64]) -> Self {
        let (Some(first), Some(last)) = (values.first().copied(), values.last()) else {
            return Self::Even { first: 0, step: 0, len: 0 };
        };
        let steps = i64::try_from(values.len() - 1).unwrap_or(i64::MAX).max(1);
        let step = last.wrapping_sub(first) / steps;
        let even = (0..).map(|n| first.wrapping_add(step.wrapping_mul(n)));
        let beside = values.iter().zip(even).map(|(value, even)| value.wrapping_sub(even));
        if let Some(beside) = beside.map(|beside| i16::try_from(beside).ok()).collect::<Option<Box<[i16]>>>() {
            if beside.iter().all(|beside| *beside == 0) {
                return Self::Even { first, step, len: values.len() };
            }
            return Self::Near { first, step, beside };
        }
        let beyond = values.iter().map(|value| i32::try_from(value.wrapping_sub(first)).ok());
        match beyond.collect::<Option<Box<[i32]>>>() {
            Some(beyond) => Self::Far { first, beyond },
            None => Self::Any(values.into()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Even { len, .. } => *len,
            Self::Near { beside, .. } => beside.len(),
            Self::Far { beyond, .. } => beyond.len(),
            Self::Any(values) => values.len(),
        }
    }

    /// Bytes besides itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Even { .. } => 0,
            Self::Near { beside, .. } => beside.len() * 2,
            Self::Far { beyond, .. } => beyond.len() * 4,
            Self::Any(values) => values.len() * 8,
        }
    }

    /// Hands some rows on.
    fn extend<T>(&self, rows: Range<usize>, out: &mut Vec<T>, of: impl Fn(i64) -> T) {
        match self {
            Self::Even { first, step, .. } => {
                let mut even = even(*first, *step, rows.start);
                out.extend(rows.map(|_| of(even())));
            }
            Self::Near { first, step, beside } => {
                let mut even = even(*first, *step, rows.start);
                out.extend(beside[rows].iter().map(|beside| of(even().wrapping_add(i64::from(*beside)))));
            }
            Self::Far { first, beyond } => {
                out.extend(beyond[rows].iter().map(|beyond| of(first.wrapping_add(i64::from(*beyond)))));
            }
            Self::Any(values) => out.extend(values[rows].iter().map(|value| of(*value))),
        }
    }

    /// Some rows.
    pub(super) fn rows(&self, rows: Range<usize>, out: &mut Vec<i64>) {
        out.clear();
        self.extend(rows, out, |value| value);
    }

    /// One of them, which has to be there.
    fn at(&self, n: usize) -> i64 {
        let place = i64::try_from(n).unwrap_or(i64::MAX);
        match self {
            Self::Even { first, step, .. } => first.wrapping_add(step.wrapping_mul(place)),
            Self::Near { first, step, beside } => {
                first.wrapping_add(step.wrapping_mul(place)).wrapping_add(i64::from(beside[n]))
            }
            Self::Far { first, beyond } => first.wrapping_add(i64::from(beyond[n])),
            Self::Any(values) => values[n],
        }
    }

    /// Where those lie that are within a span, if they are in order.
    pub(super) fn within(&self, (from, to): (i64, i64)) -> Range<usize> {
        let len = self.len();
        // Mostly all of them.
        if len == 0 || (self.at(0) >= from && self.at(len - 1) <= to) {
            return 0..len;
        }
        let before = |is_before: &dyn Fn(i64) -> bool| {
            let (mut low, mut high) = (0, len);
            while low < high {
                let middle = low.midpoint(high);
                if is_before(self.at(middle)) { low = middle + 1 } else { high = middle }
            }
            low
        };
        let start = before(&|at| at < from);
        start..before(&|at| at <= to).max(start)
    }
}

/// Each of even numbers from a place on, when it is called: added and not multiplied.
fn even(first: i64, step: i64, from: usize) -> impl FnMut() -> i64 {
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let mut next = first.wrapping_add(step.wrapping_mul(from));
    move || {
        let this = next;
        next = next.wrapping_add(step);
        this
    }
}

/// A value of each row, and the rows that have none.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    values: Body,
    absent: Box<[usize]>,
}

#[derive(Debug, Clone)]
enum Body {
    /// Whole numbers, and what they are divided by.
    Whole(Ints, f64),
    Any(Box<[f64]>),
}

impl Packed {
    /// Values of those of so many rows that are not absent.
    pub(super) fn of(values: &Values, absent: Vec<usize>, rows: usize) -> Self {
        let body = match values {
            Values::Whole(values, factor) => Body::Whole(Ints::of(&spread(values, &absent, rows)), *factor),
            Values::Any(values) => Body::Any(spread(values, &absent, rows).into()),
        };
        Self { values: body, absent: absent.into() }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let values = match &self.values {
            Body::Whole(values, _) => values.bytes(),
            Body::Any(values) => values.len() * 8,
        };
        size_of::<Self>() + values + size_of_val(&*self.absent)
    }

    /// Adds the values of some rows to others, if all rows have one; says whether they do.
    pub(super) fn add_whole(&self, rows: Range<usize>, out: &mut Vec<f64>) -> bool {
        let is_whole = self.absent.is_empty();
        if is_whole {
            self.add_values(rows, out);
        }
        is_whole
    }

    /// Hands the value of each of some rows that has one to `take`, with its number among them.
    pub(super) fn each(&self, rows: Range<usize>, take: &mut dyn FnMut(usize, f64)) {
        let start = rows.start;
        let mut absent = self.absent.iter().skip_while(|absent| **absent < start).peekable();
        let mut values = Vec::with_capacity(rows.len());
        self.add_values(rows, &mut values);
        for (n, value) in values.into_iter().enumerate() {
            if absent.next_if(|absent| **absent == start + n).is_none() {
                take(n, value);
            }
        }
    }

    #[allow(clippy::cast_precision_loss)] // whole numbers are within 2^53 where they were written
    fn add_values(&self, rows: Range<usize>, out: &mut Vec<f64>) {
        match &self.values {
            // Dividing takes longer than all else, and what most series count is whole.
            Body::Whole(values, 1.0) => values.extend(rows, out, |value| value as f64),
            Body::Whole(values, factor) => values.extend(rows, out, |value| value as f64 / factor),
            Body::Any(values) => out.extend_from_slice(&values[rows]),
        }
    }
}

/// Values by their rows: where a row has none, that of the one before.
fn spread<T: Copy + Default>(values: &[T], absent: &[usize], rows: usize) -> Vec<T> {
    if absent.is_empty() {
        return values.to_vec();
    }
    let (mut values, mut absent, mut last) = (values.iter(), absent.iter().peekable(), T::default());
    let of_row = |row| {
        if absent.next_if(|absent| **absent == row).is_none() {
            last = values.next().copied().unwrap_or_default();
        }
        last
    };
    (0..rows).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers() -> impl Strategy<Value = Vec<i64>> {
        let steps = prop_oneof![Just(0i64..1), Just(0..3), Just(-50_000..50_000), Just(-3_000_000_000..3_000_000_000)];
        let even = (any::<i64>(), -100_000i64..100_000, steps.prop_flat_map(|near| prop::collection::vec(near, 0..80)));
        let walk = |(first, step, beside): (i64, i64, Vec<i64>)| {
            (0..).zip(beside).map(|(n, beside)| first.wrapping_add(step * n).wrapping_add(beside)).collect()
        };
        prop_oneof![4 => even.prop_map(walk), 1 => prop::collection::vec(any::<i64>(), 0..80)]
    }

    proptest! {
        #[test]
        fn any_rows_come_back_bit_by_bit(
            wholes in numbers(),
            any in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..80),
            factor in prop::sample::select(vec![1.0, 100.0, 1e6]),
            has in prop::collection::vec(prop::bool::weighted(0.8), 80),
            cut in (0usize..80, 0usize..80),
        ) {
            for values in [Values::Whole(wholes, factor), Values::Any(any)] {
                let floats: Vec<f64> = match &values {
                    Values::Whole(values, factor) => values.iter().map(|value| *value as f64 / factor).collect(),
                    Values::Any(values) => values.clone(),
                };
                // As many rows as it takes for all values, and which of them have one.
                for is_whole in [true, false] {
                    let mut given = floats.iter();
                    let mut rows: Vec<Option<f64>> = Vec::new();
                    for has in has.iter().cycle().take(400) {
                        if given.len() > 0 {
                            rows.push(if *has || is_whole { given.next().copied() } else { None });
                        }
                    }
                    prop_assume!(given.len() == 0);
                    let absent: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].is_none()).collect();
                    let packed = Packed::of(&values, absent.clone(), rows.len());
                    let (from, to) = (cut.0.min(rows.len()), cut.1.min(rows.len()));
                    let cut = from.min(to)..from.max(to);
                    let expected: Vec<(usize, u64)> = rows[cut.clone()]
                        .iter()
                        .enumerate()
                        .filter_map(|(n, value)| Some((n, (*value)?.to_bits())))
                        .collect();
                    let mut found = Vec::new();
                    packed.each(cut.clone(), &mut |n, value| found.push((n, value.to_bits())));
                    prop_assert_eq!(&found, &expected);
                    let mut whole = vec![7.0];
                    prop_assert_eq!(packed.add_whole(cut, &mut whole), absent.is_empty());
                    let whole: Vec<u64> = whole.into_iter().map(f64::to_bits).collect();
                    let all = expected.iter().map(|(_, bits)| *bits).filter(|_| absent.is_empty());
                    prop_assert_eq!(whole, [7f64.to_bits()].into_iter().chain(all).collect::<Vec<_>>());
                }
            }
        }

        #[test]
        fn rows_of_a_span_are_found(mut times in numbers(), span in (any::<i64>(), any::<i64>()), at in (0usize..80, 0usize..80)) {
            times.sort_unstable();
            let near = |n: usize| times.get(n).copied();
            for (from, to) in [span, (near(at.0).unwrap_or(span.0), near(at.1).unwrap_or(span.1))] {
                let found = Ints::of(&times).within((from, to));
                let mut rows = Vec::new();
                Ints::of(&times).rows(found, &mut rows);
                let expected: Vec<i64> = times.iter().copied().filter(|at| (from..=to).contains(at)).collect();
                prop_assert_eq!(rows, expected);
            }
        }
    }
}
