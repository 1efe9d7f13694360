//! Bits at the price that was to be expected: an arithmetic coder whose probabilities learn.
//!
//! In: decisions, each with the place where its chance is kept. Out: bytes, and from them the same decisions again, if they
//! are asked for in the same order at the same places. What a decision costs is the logarithm of how unlikely it was. Both
//! directions are one trait, so that what is written with it is told once for both. The reader believes nothing: any bytes
//! give decisions for ever, and [`BitReader::end`] says whether a writer would have written just these.

/// One more than the largest probability.
const ALL: u32 = 1 << 16;
/// What a chance takes of each error, in parts of [`ALL`], by how often it was met: it learns quickly at first.
const RATES: [u32; 16] = [
    32_768, 21_845, 16_384, 13_107, 10_923, 8_192, 6_554, 5_461, 4_681, 4_096, 3_641, 3_277, 2_979, 2_731, 2_521, 2_341,
];

/// How likely a decision is to be yes: twelve bits of probability, and four that count how often it was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chance(u16);

impl Chance {
    /// Nothing is known of it.
    pub(super) const EVEN: Self = Self(0x8000);

    /// In parts of [`ALL`]: never none, and never all of it.
    fn of_yes(self) -> u32 {
        u32::from(self.0 & 0xfff0) + 8
    }

    fn learn(&mut self, yes: bool) {
        let (chance, met) = (u32::from(self.0 >> 4), self.0 & 15);
        let share = |of: u32| (of * RATES[usize::from(met)] + ALL / 2 - 1) / ALL;
        let moved = if yes { chance + share(0xfff - chance) } else { chance - share(chance) };
        // Within twelve bits, as it only moves towards their ends.
        let [.., high, low] = moved.to_be_bytes();
        self.0 = u16::from_be_bytes([high, low]) << 4 | (met + 1).min(15);
    }
}

/// A writer or a reader of bits. A writer gives back what it is given; a reader gives what was written, whatever it is given.
pub(super) trait Bits {
    /// Whether more was asked of a reader than any writer put into its bytes.
    fn is_past_end(&self) -> bool {
        false
    }

    /// The next decision, which is yes in so many of 65,536 cases.
    fn decide(&mut self, of_yes: u32, yes: bool) -> bool;

    /// The next decision, by a chance that learns from it.
    fn bit(&mut self, chance: &mut Chance, yes: bool) -> bool {
        let yes = self.decide(chance.of_yes(), yes);
        chance.learn(yes);
        yes
    }

    /// A number below `count`, each as likely as any other.
    fn even(&mut self, count: u64, value: u64) -> u64 {
        let (mut from, mut left) = (0, count);
        while left > 1 {
            let (lower, upper) = (left - left / 2, left / 2);
            // Of more than two either half is as good as even.
            let of_yes = if left < ALL.into() { u64::from(ALL) * upper / left } else { u64::from(ALL) / 2 };
            let is_upper = self.decide(u32::try_from(of_yes).unwrap_or(ALL / 2), value.wrapping_sub(from) >= lower);
            if is_upper {
                from += lower;
            }
            left = if is_upper { upper } else { lower };
        }
        from
    }
}

/// Writes bits.
#[derive(Debug)]
pub(super) struct BitWriter {
    low: u64,
    high: u64,
    out: Vec<u8>,
}

impl BitWriter {
    /// Behind bytes that are there already.
    pub(super) fn behind(out: Vec<u8>) -> Self {
        Self { low: 0, high: u64::MAX, out }
    }

    /// All bytes. Behind the last one a reader reads zeros.
    pub(super) fn end(mut self) -> Vec<u8> {
        let (count, last) = shortest(self.low, self.high);
        self.out.extend(&last.to_be_bytes()[..count]);
        self.out
    }
}

impl Bits for BitWriter {
    fn decide(&mut self, of_yes: u32, yes: bool) -> bool {
        narrow(&mut self.low, &mut self.high, of_yes, |_| yes);
        while let Some(byte) = settled(&mut self.low, &mut self.high) {
            self.out.push(byte);
        }
        yes
    }
}

/// Reads bits.
#[derive(Debug)]
pub(super) struct BitReader<'b> {
    low: u64,
    high: u64,
    value: u64,
    bytes: &'b [u8],
    /// How many bytes both bounds have left behind.
    passed: usize,
}

impl<'b> BitReader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
        Self { low: 0, high: u64::MAX, value: (0..8).fold(0, |value, at| value << 8 | byte(at)), bytes, passed: 0 }
    }

    /// Whether a writer of just these decisions would have written these bytes; else how many there are too many.
    pub(super) fn end(&self) -> Result<(), isize> {
        let (count, last) = shortest(self.low, self.high);
        let over = self.bytes.len().cast_signed() - (self.passed + count).cast_signed();
        if over == 0 && last == self.value { Ok(()) } else { Err(over) }
    }
}

impl Bits for BitReader<'_> {
    fn is_past_end(&self) -> bool {
        self.passed > self.bytes.len()
    }

    fn decide(&mut self, of_yes: u32, _: bool) -> bool {
        let value = self.value;
        let yes = narrow(&mut self.low, &mut self.high, of_yes, |middle| value <= middle);
        while settled(&mut self.low, &mut self.high).is_some() {
            let next = self.bytes.get(self.passed.saturating_add(8)).copied().unwrap_or(0);
            self.value = self.value << 8 | u64::from(next);
            self.passed += 1;
        }
        yes
    }
}

/// Takes the part of the bounds that belongs to a decision, by where they are divided.
fn narrow(low: &mut u64, high: &mut u64, of_yes: u32, decide: impl FnOnce(u64) -> bool) -> bool {
    let (range, part) = (*high - *low, u64::from(of_yes));
    let middle = *low + (range >> 16) * part + (((range & 0xffff) * part) >> 16);
    let yes = decide(middle);
    if yes {
        *high = middle;
    } else {
        *low = middle + 1;
    }
    yes
}

/// The next byte, if both bounds agree on it; they then go on behind it.
fn settled(low: &mut u64, high: &mut u64) -> Option<u8> {
    let byte = high.to_be_bytes()[0];
    (low.to_be_bytes()[0] == byte).then(|| {
        *low <<= 8;
        *high = *high << 8 | 0xff;
        byte
    })
}

/// How few bytes lie within bounds with zeros behind them, and which.
fn shortest(low: u64, high: u64) -> (usize, u64) {
    let cut = |count: u32| high & !u64::MAX.checked_shr(8 * count).unwrap_or(0);
    let count = (0..8).find(|count| cut(*count) >= low).unwrap_or(8);
    (count as usize, cut(count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A decision that learns, one of fixed odds, and a number below another.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Told {
        Bit(usize, bool),
        Fixed(u32, bool),
        Even(u64, u64),
    }

    fn told() -> impl Strategy<Value = Told> {
        prop_oneof![
            (0..4usize, any::<bool>()).prop_map(|(at, yes)| Told::Bit(at, yes)),
            (1..ALL, any::<bool>()).prop_map(|(of_yes, yes)| Told::Fixed(of_yes, yes)),
            (1..u64::MAX, any::<u64>()).prop_map(|(count, value)| Told::Even(count, value % count)),
            (1..300u64, any::<u64>()).prop_map(|(count, value)| Told::Even(count, value % count)),
        ]
    }

    fn tell(bits: &mut impl Bits, chances: &mut [Chance; 4], one: Told) -> Told {
        match one {
            Told::Bit(at, yes) => Told::Bit(at, bits.bit(&mut chances[at], yes)),
            Told::Fixed(of_yes, yes) => Told::Fixed(of_yes, bits.decide(of_yes, yes)),
            Told::Even(count, value) => Told::Even(count, bits.even(count, value)),
        }
    }

    fn nothing_of(one: Told) -> Told {
        match one {
            Told::Bit(at, _) => Told::Bit(at, false),
            Told::Fixed(of_yes, _) => Told::Fixed(of_yes, false),
            Told::Even(count, _) => Told::Even(count, 0),
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_heard_and_its_end_is_known(all in prop::collection::vec(told(), 0..200)) {
            let (mut writer, mut chances) = (BitWriter::behind(Vec::new()), [Chance::EVEN; 4]);
            for one in &all {
                tell(&mut writer, &mut chances, *one);
            }
            let bytes = writer.end();
            let (mut reader, mut chances) = (BitReader::new(&bytes), [Chance::EVEN; 4]);
            for one in &all {
                prop_assert_eq!(tell(&mut reader, &mut chances, nothing_of(*one)), *one);
                prop_assert!(!reader.is_past_end());
            }
            prop_assert_eq!(reader.end(), Ok(()));
            let longer = [&bytes[..], &[0]].concat();
            let mut reader = BitReader::new(&longer);
            let mut chances = [Chance::EVEN; 4];
            all.iter().for_each(|one| { tell(&mut reader, &mut chances, nothing_of(*one)); });
            prop_assert_eq!(reader.end(), Err(1));
        }
    }

    #[test]
    fn what_is_always_the_same_costs_next_to_nothing() {
        let (mut writer, mut chance) = (BitWriter::behind(Vec::new()), Chance::EVEN);
        (0..8_000).for_each(|_| {
            writer.bit(&mut chance, true);
        });
        let bytes = writer.end().len();
        assert!(bytes < 8, "{bytes}");
    }

    #[test]
    fn a_reader_that_goes_on_behind_the_end_is_told_so() {
        let mut reader = BitReader::new(&[7]);
        (0..32).for_each(|_| {
            reader.even(256, 0);
        });
        assert!(reader.is_past_end());
        assert!(reader.end().is_err_and(|over| over < 0));
    }
}
