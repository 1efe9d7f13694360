//! The last times at which something happened to a subject, counted over two windows: a short one for
//! what comes quickly and a long one for what comes all day.

use std::time::Duration;

use super::clock::{Millis, millis};
use super::codec::{Reader, Writer};
use super::lifecycle::Verdict;

/// Times that are remembered: the greatest count that a window can ask for.
const TIMES_MAX: usize = 32;

/// How often within how long is too often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) short: Duration,
    pub(crate) short_count: u32,
    pub(crate) long: Duration,
    pub(crate) long_count: u32,
}

/// A window that is full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TooOften {
    pub(crate) count: u32,
    pub(crate) limit: u32,
    pub(crate) window: Duration,
}

/// The last times, in detector time, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Times(Vec<Millis>);

impl Times {
    /// It happened `n` times at `t`.
    pub(crate) fn add(&mut self, t: Millis, n: usize) {
        self.0.extend(std::iter::repeat_n(t, n.min(TIMES_MAX)));
        let surplus = self.0.len().saturating_sub(TIMES_MAX);
        self.0.drain(..surplus);
    }

    pub(crate) fn last(&self) -> Option<Millis> {
        self.0.last().copied()
    }

    fn within(&self, window: Duration, t: Millis) -> u32 {
        let from = t.saturating_sub(millis(window));
        u32::try_from(self.0.iter().filter(|at| **at > from).count()).unwrap_or(u32::MAX)
    }

    /// The window that is full; else whether it is over: the short window is empty and the long one at
    /// most half so full as it may be.
    ///
    /// # Errors
    /// [`Verdict::Over`] or [`Verdict::Between`], where no window is full.
    pub(crate) fn judge(&self, windows: Windows, t: Millis) -> Result<TooOften, Verdict> {
        let Windows { short, short_count, long, long_count } = windows;
        let (in_short, in_long) = (self.within(short, t), self.within(long, t));
        if in_short >= short_count {
            Ok(TooOften { count: in_short, limit: short_count, window: short })
        } else if in_long >= long_count {
            Ok(TooOften { count: in_long, limit: long_count, window: long })
        } else if in_short == 0 && in_long <= long_count / 2 {
            Err(Verdict::Over)
        } else {
            Err(Verdict::Between)
        }
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.0.len());
        self.0.iter().for_each(|t| writer.i64(*t));
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Option<Self> {
        (0..reader.len()?.min(TIMES_MAX)).map(|_| reader.i64()).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows =
        Windows { short: Duration::from_secs(600), short_count: 3, long: Duration::from_secs(3_600), long_count: 6 };

    fn at(minutes: &[i64]) -> Times {
        let mut times = Times::default();
        minutes.iter().for_each(|minute| times.add(minute * 60_000, 1));
        times
    }

    #[test]
    fn quick_ones_fill_the_short_window_and_slow_ones_the_long() {
        let full = |times: &Times, minute: i64| times.judge(WINDOWS, minute * 60_000);
        let quick = at(&[0, 1, 2]);
        assert_eq!(full(&quick, 3), Ok(TooOften { count: 3, limit: 3, window: WINDOWS.short }));
        assert_eq!(full(&quick, 11), Err(Verdict::Between), "one is still in the short window");
        assert_eq!(full(&quick, 12), Err(Verdict::Over), "the long one is half full");
        let slow = at(&[0, 9, 18, 27, 36, 45]);
        assert_eq!(full(&slow, 46), Ok(TooOften { count: 6, limit: 6, window: WINDOWS.long }));
        assert_eq!(full(&slow, 61), Err(Verdict::Between), "five in the long window");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut times = Times::default();
        times.add(0, usize::MAX);
        times.add(1, 1);
        assert_eq!((times.0.len(), times.0[0], times.last()), (TIMES_MAX, 0, Some(1)));
    }
}
