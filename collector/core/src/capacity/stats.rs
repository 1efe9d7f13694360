//! Medians and quantiles of small lists.

/// The middle of some numbers, which are put in another order; `None` of none.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    let len = values.len();
    if len == 0 {
        return None;
    }
    let (below, middle, _) = values.select_nth_unstable_by(len / 2, f64::total_cmp);
    let middle = *middle;
    if len % 2 == 1 {
        return Some(middle);
    }
    let below = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(f64::midpoint(below, middle))
}

/// The number below which lies so large a share of sorted ones.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(super) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let low = place as usize;
    let part = place - low as f64;
    Some(sorted[low] * (1.0 - part) + sorted[(low + 1).min(last)] * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between_the_two_of_an_even_number() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [9.0, 1.0, 2.0, 4.0]), Some(3.0));
        assert_eq!(quantile(&[0.0, 1.0, 2.0, 3.0, 4.0], 0.8), Some(3.2));
        assert_eq!(quantile(&[7.0], 0.95), Some(7.0));
    }
}
