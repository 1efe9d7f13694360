//! The distribution of what was seen, in a few hundred bytes: how probable is a value at least
//! this far out, on either side?
//!
//! A sorted list of means with weights, fine at both ends and coarse in the middle (the idea of
//! the t-digest; Dunning 2019), so it needs to know neither unit nor range. Within what was seen
//! the probability is counted, and one is added above and below, so it is never zero (conformal
//! prediction; Laxhammar 2014). Beyond it the tail goes on as an exponential law fitted to the
//! largest values (peaks over threshold; Pickands 1975), as the mean of fits to three shares of
//! them, because one share alone makes the answer depend on a single point.

use crate::detect::codec::{Reader, Writer};

/// Means kept. With 24 the tails have too few to be fitted, with more nothing is gained.
const MEANS: usize = 40;

/// When all are in use, about so many pairs of neighbours are joined at once.
const JOINED: usize = 8;

/// [`MEANS`] in lanes of so many.
const LANES: usize = 4;

/// The shares of the weight that count as tail, for the three fits.
const TAIL_SHARES: [f32; 3] = [0.01, 0.02, 0.04];

/// Where more than one value lies further out, the fit may exceed what is counted by this factor
/// (as logarithm) only: the count knows better.
const FIT_OVER_COUNT: f32 = 0.5;

/// How far the probability is believed beyond what can be counted: two decades.
const BEYOND: f32 = 2.0 * std::f32::consts::LN_10;

/// A distribution that forgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sketch {
    mean: [f32; MEANS],
    weight: [f32; MEANS],
    total: f32,
    len: u8,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { mean: [f32::INFINITY; MEANS], weight: [0.0; MEANS], total: 0.0, len: 0 }
    }
}

impl Sketch {
    /// How much has been seen and is not forgotten.
    pub(crate) fn total(&self) -> f32 {
        self.total
    }

    /// Takes a value; of what was seen before, no more than `memory` is kept.
    pub(crate) fn add(&mut self, x: f32, weight: f32, memory: f32) {
        if !x.is_finite() {
            return;
        }
        let len = usize::from(self.len);
        let at = self.rank(x);
        if at < len && self.mean[at] == x {
            self.weight[at] += weight;
        } else {
            self.mean.copy_within(at..len, at + 1);
            self.weight.copy_within(at..len, at + 1);
            (self.mean[at], self.weight[at]) = (x, weight);
            self.len += 1;
        }
        self.total += weight;
        if usize::from(self.len) == MEANS {
            self.squeeze();
        }
        if self.total > memory {
            let keep = memory / self.total;
            self.weight.iter_mut().for_each(|weight| *weight *= keep);
            self.total = memory;
        }
    }

    /// Joins the neighbours that matter least: weight is cheap in the middle and dear at an end.
    #[allow(clippy::cast_possible_truncation)]
    fn squeeze(&mut self) {
        let (mean, weight) = (self.mean, self.weight);
        let mut below = [0.0; MEANS];
        for i in 1..MEANS {
            below[i] = below[i - 1] + weight[i - 1];
        }
        let mut costs = [f32::INFINITY; MEANS];
        for i in 0..MEANS - 1 {
            let pair = weight[i] + weight[i + 1];
            let middle = below[i] + pair / 2.0;
            costs[i] = pair / (middle * (self.total - middle)).max(f32::MIN_POSITIVE);
        }
        let mut limit = 0.0;
        for _ in 0..JOINED {
            limit = least_above(&costs, limit);
        }
        let (mut from, mut to) = (0, 0);
        while from < MEANS {
            (self.mean[to], self.weight[to]) = (mean[from], weight[from]);
            if costs[from] <= limit {
                from += 1;
                self.weight[to] += weight[from];
                let share = weight[from] / self.weight[to].max(f32::MIN_POSITIVE);
                // Clamped: far apart, rounding could bring it out of order.
                let joined = mean[from - 1] + (mean[from] - mean[from - 1]) * share;
                self.mean[to] = joined.clamp(mean[from - 1], mean[from]);
            }
            from += 1;
            to += 1;
        }
        // Taken anew, for rounding would add up over the weeks.
        self.total = self.weight[..to].iter().sum();
        self.mean[to..].fill(f32::INFINITY);
        self.weight[to..].fill(0.0);
        self.len = to as u8;
    }

    /// How many means are below `x`. What is not in use is infinite.
    fn rank(&self, x: f32) -> usize {
        let mut below = [0_u32; LANES];
        for mean in self.mean.chunks_exact(LANES) {
            for lane in 0..LANES {
                below[lane] += u32::from(mean[lane] < x);
            }
        }
        below.iter().sum::<u32>() as usize
    }

    /// The weight below `x` and above it; what is at it counts half on either side. Neither is
    /// taken as what is left of the total: rounding would show where it matters, at the ends.
    fn weigh(&self, x: f32) -> (f32, f32) {
        // In lanes, so that they are added at once and always in the same order.
        let (mut below, mut above) = ([0.0; LANES], [0.0; LANES]);
        for (mean, weight) in self.mean.chunks_exact(LANES).zip(self.weight.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let half = weight[lane] / 2.0;
                below[lane] += if mean[lane] < x { half } else { 0.0 } + if mean[lane] <= x { half } else { 0.0 };
                above[lane] += if mean[lane] > x { half } else { 0.0 } + if mean[lane] >= x { half } else { 0.0 };
            }
        }
        (below.iter().sum(), above.iter().sum())
    }

    /// The share of what was seen that is below `x`, never 0 or 1. What is within `floor` of `x`
    /// counts half.
    pub(crate) fn share_below(&self, x: f32, floor: f32) -> f32 {
        let rank = (self.weight_below(x - floor) + self.weight_below(x + floor)) / 2.0;
        ((rank + 0.5) / (self.total + 1.0)).clamp(0.0, 1.0)
    }

    /// The weight below `x`, between two means by interpolation.
    fn weight_below(&self, x: f32) -> f32 {
        let (below, _) = self.weigh(x);
        let next = self.rank(x);
        if next == 0 || next == usize::from(self.len) || self.mean[next] == x {
            return below;
        }
        // From the middle of one neighbour to the middle of the other.
        let (low, high) = (self.mean[next - 1], self.mean[next]);
        let (from, to) = (below - self.weight[next - 1] / 2.0, below + self.weight[next] / 2.0);
        from + (to - from) * (x - low) / (high - low)
    }

    /// The value that this share of what was seen is below.
    pub(crate) fn quantile(&self, share: f32) -> f32 {
        let target = share * self.total;
        let (mut below, mut last) = (0.0, None);
        for (mean, weight) in self.mean.iter().zip(&self.weight).take(usize::from(self.len)) {
            let middle = below + weight / 2.0;
            if middle >= target {
                return match last {
                    Some((low, from)) if middle > from => low + (mean - low) * (target - from) / (middle - from),
                    _ => *mean,
                };
            }
            last = Some((*mean, middle));
            below += weight;
        }
        last.map_or(0.0, |(mean, _)| mean)
    }

    /// Minus the logarithm of the probability of a value at least as far out as `x`, on its side.
    /// `floor` is a distance too small to matter, however steady the values are.
    pub(crate) fn surprise(&self, x: f32, floor: f32) -> f32 {
        // What is hardly less far out is as far out.
        let (_, high) = self.weigh(x - floor);
        let (low, _) = self.weigh(x + floor);
        if high < low { self.beyond(x, high, floor, true) } else { self.beyond(x, low, floor, false) }
    }

    /// The same on one side, where the weight `outside` is further out than `x`.
    fn beyond(&self, x: f32, outside: f32, floor: f32, is_high: bool) -> f32 {
        let counted = ((self.total + 1.0) / (outside.max(0.0) + 1.0)).ln();
        let len = usize::from(self.len);
        if len == 0 || outside > TAIL_SHARES[TAIL_SHARES.len() - 1] * self.total {
            return counted;
        }
        let from_end = |n: usize| if is_high { len - 1 - n } else { n };
        let (mut share, mut moment, mut n) = (0.0, 0.0, 0);
        let mut sum = 0.0;
        for limit in TAIL_SHARES {
            let limit = limit * self.total;
            while n < len && (share + self.weight[from_end(n)] <= limit || n == 0) {
                let i = from_end(n);
                share += self.weight[i];
                moment += self.weight[i] * self.mean[i];
                n += 1;
            }
            let threshold = self.mean[from_end(n.min(len - 1))];
            let (excess, over) = (moment / share - threshold, x - threshold);
            let (excess, over) = if is_high { (excess, over) } else { (-excess, -over) };
            let fitted = if over > 0.0 { (self.total / share).ln() + over / excess.max(floor) } else { 0.0 };
            let fitted = if outside > 1.0 { fitted.min(counted + FIT_OVER_COUNT) } else { fitted };
            sum += fitted.max(counted);
        }
        (sum / 3.0).min((self.total + 1.0).ln() + BEYOND)
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.f32(self.total);
        writer.u8(self.len);
        for i in 0..usize::from(self.len) {
            writer.f32(self.mean[i]);
            writer.f32(self.weight[i]);
        }
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        let total = reader.f32().filter(|total| total.is_finite() && *total >= 0.0)?;
        let len = reader.u8().filter(|len| usize::from(*len) < MEANS)?;
        let mut sketch = Self { total, len, ..Self::default() };
        for i in 0..usize::from(len) {
            sketch.mean[i] = reader.f32().filter(|mean| mean.is_finite())?;
            sketch.weight[i] = reader.f32().filter(|weight| weight.is_finite() && *weight >= 0.0)?;
        }
        sketch.mean[..usize::from(len)].is_sorted().then_some(sketch)
    }
}

/// The least of them that is larger than `limit`.
fn least_above(costs: &[f32; MEANS], limit: f32) -> f32 {
    let mut least = [f32::INFINITY; LANES];
    for costs in costs.chunks_exact(LANES) {
        for lane in 0..LANES {
            let cost = if costs[lane] > limit { costs[lane] } else { f32::INFINITY };
            least[lane] = if cost < least[lane] { cost } else { least[lane] };
        }
    }
    least.into_iter().fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IdSource;

    /// As much memory as any of these tests needs.
    const ALL: f32 = 1e9;

    /// Numbers in (0, 1), the same every time.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    fn uniform(seed: u64) -> impl FnMut() -> f32 {
        let mut source = IdSource::new(seed);
        move || (((source.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64) as f32
    }

    fn sketch(n: u32, mut next: impl FnMut() -> f32) -> Sketch {
        let mut sketch = Sketch::default();
        (0..n).for_each(|_| sketch.add(next(), 1.0, ALL));
        sketch
    }

    #[test]
    fn quantiles_and_shares_are_those_of_the_distribution() {
        let mut next = uniform(1);
        let sketch = sketch(20_000, || next() * 1e9);
        // Exact towards the ends, coarse in the middle.
        for (share, within) in [(0.01, 0.002), (0.05, 0.01), (0.2, 0.04), (0.5, 0.06), (0.99, 0.002)] {
            assert!((sketch.quantile(share) / 1e9 - share).abs() < within, "{share}: {}", sketch.quantile(share));
            assert!((sketch.share_below(share * 1e9, 0.0) - share).abs() < within, "{share}");
        }
    }

    #[test]
    fn surprise_is_that_of_the_distribution_on_both_sides() {
        let mut next = uniform(2);
        // Of an exponential distribution, x is exceeded with probability e^-x.
        let sketch = sketch(20_000, || if next() < 0.5 { -next().ln() } else { next().ln() });
        for x in [2.0_f32, 4.0, 7.0, 10.0] {
            let expected = x + 2.0f32.ln();
            for x in [x, -x] {
                let surprise = sketch.surprise(x, 0.0);
                assert!((surprise - expected).abs() < 0.2 * expected, "{x}: {surprise}, not {expected}");
            }
        }
    }

    #[test]
    fn a_long_memory_does_not_round_the_tails_away() {
        let mut next = uniform(5);
        let (memory, mut sketch, mut rare) = (40_000.0_f32, Sketch::default(), 0.0);
        for n in 0..400_000 {
            let x = -next().ln();
            // One in some 5 400.
            if n >= 100_000 && sketch.surprise(x, 0.0) > memory.ln() - 2.0 {
                rare += 1.0;
            }
            sketch.add(x, 1.0, memory);
        }
        let nominal = 300_000.0 * (2.0f32 - memory.ln()).exp();
        assert!((nominal / 4.0..nominal * 4.0).contains(&rare), "{rare}, nominal are {nominal}");
    }

    #[test]
    fn what_was_not_seen_is_believed_two_decades_at_most() {
        let sketch = sketch(1_000, uniform(3));
        assert!(sketch.surprise(1e30, 0.0) <= 1_001f32.ln() + BEYOND);
        assert!(sketch.surprise(1e30, 0.0) > 1_001f32.ln());
        assert!(Sketch::default().surprise(5.0, 0.0) <= BEYOND, "without a past hardly anything is surprising");
    }

    #[test]
    fn a_constant_is_surprised_by_what_matters_and_not_by_less() {
        let sketch = sketch(1_000, || 100.0);
        let counted = 1_001f32.ln();
        assert!(sketch.surprise(100.1, 1.0) < counted + 0.2);
        assert!(sketch.surprise(150.0, 1.0) > counted + 2.0);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut sketch = sketch(1_000, || 1.0);
        (0..5_000).for_each(|_| sketch.add(2.0, 1.0, 1_000.0));
        assert!(sketch.total() <= 1_000.0);
        assert!((sketch.quantile(0.6) - 2.0).abs() < 1e-3);
        assert!(sketch.surprise(1.0, 0.1) > 4.0);
    }

    #[test]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn whatever_comes_it_stays_sorted_bounded_and_resumes() {
        let mut next = uniform(4);
        let mut sketch = Sketch::default();
        let wild = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 0.0, -0.0, 1e-40];
        for n in 0..4_000 {
            let x = if n % 7 == 0 { wild[(next() * 8.0) as usize % 8] } else { next() - 0.5 };
            sketch.add(x, 1.0, 500.0);
            for x in wild {
                let all = [sketch.surprise(x, 0.0), sketch.share_below(x, 0.0), sketch.quantile(next())];
                assert!(all.iter().all(|answer| !answer.is_nan()), "{x}: {all:?}");
            }
        }
        let mut writer = Writer::default();
        writer.section(1, 1, |writer| sketch.save(writer));
        let bytes = writer.finish();
        let mut section = Reader::open(&bytes).unwrap().section().unwrap();
        assert_eq!(Sketch::load(&mut section.body), Some(sketch));
        assert!(section.body.is_at_end());
    }
}
