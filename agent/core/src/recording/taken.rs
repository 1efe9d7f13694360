//! What is taken down of a sample: for the summary and for the recorder, which knows series by the summary's numbers.

use crate::readings::{Reading, Take};
use crate::recording::Recorder;
use crate::subject::UnitName;
use crate::summary::SummaryBuilder;

/// The summary and the recorder, both in the same sample.
#[derive(Debug)]
pub struct TakenDown<'a> {
    /// Begun with the sample.
    pub summary: &'a mut SummaryBuilder,
    /// Begun with the sample, by the layout of the summary.
    pub recorder: &'a mut Recorder,
}

impl Take for TakenDown<'_> {
    fn reading(&mut self, reading: &Reading<'_>) {
        self.recorder.reading(self.summary.reading(reading), reading);
    }

    fn unit_begins(&mut self, at: usize, unit: &UnitName, is_same: bool) -> bool {
        let Self { summary, recorder } = self;
        if is_same && recorder.may_repeat() && summary.unit_again(at, unit, |series| recorder.again(series)) {
            return true;
        }
        summary.unit_begins(at, unit);
        false
    }

    fn unit_ends(&mut self, at: usize, unit: &UnitName) {
        self.summary.unit_ends(at, unit);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::readings::readings_after;
    use crate::sample::{Cgroup, Sample, Unit};
    use crate::time::Now;

    /// Counts what is told reading by reading.
    struct Counted<'a>(TakenDown<'a>, usize);

    impl Take for Counted<'_> {
        fn reading(&mut self, reading: &Reading<'_>) {
            self.1 += 1;
            self.0.reading(reading);
        }

        fn unit_begins(&mut self, at: usize, unit: &UnitName, is_same: bool) -> bool {
            self.0.unit_begins(at, unit, is_same)
        }

        fn unit_ends(&mut self, at: usize, unit: &UnitName) {
            self.0.unit_ends(at, unit);
        }
    }

    #[test]
    fn a_unit_that_has_not_changed_is_not_told_again() {
        let (mut summary, mut recorder) = (SummaryBuilder::default(), Recorder::default());
        let sample = |second: u64, tasks: [u64; 3]| {
            let unit = |tasks| Unit {
                cgroup: Some(Cgroup { tasks: Some(tasks), memory_current_bytes: Some(9), ..Cgroup::default() }),
                ..Unit::default()
            };
            let units = (0..3).zip(tasks).map(|(n, tasks)| (format!("u{n}.service").parse().unwrap(), unit(tasks)));
            let units: BTreeMap<_, _> = units.collect();
            let at = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            Sample { at, units: Some(units), ..Sample::default() }
        };
        let mut before = None;
        let mut told = Vec::new();
        for (second, tasks) in (0..).zip([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 5, 3], [1, 5, 3]]) {
            let sample = sample(second, tasks);
            summary.begin(sample.at);
            recorder.begin(&sample, summary.layout());
            let mut take = Counted(TakenDown { summary: &mut summary, recorder: &mut recorder }, 0);
            readings_after(before.as_ref(), &sample, &mut take);
            told.push(take.1);
            before = Some(sample);
        }
        // Two states, restarts, memory and tasks, each. In the first second the order of series becomes another with each.
        assert_eq!(told, [15, 15, 0, 5, 0]);
    }

    #[test]
    fn summaries_are_the_same_whether_units_are_told_again_or_reading_by_reading() {
        let (mut summary, mut recorder, mut plain) =
            (SummaryBuilder::default(), Recorder::default(), SummaryBuilder::default());
        let mut before: Option<Sample> = None;
        // Units that stay, change for a second, come, go and so move to other places; 0 is one that is not there.
        let tasks = |second: u64| match second % 20 {
            4 => [1, 7, 3, 4],
            7..9 => [0, 7, 3, 4],
            9..11 => [2, 0, 3, 5],
            13 => [2, 9, 0, 5],
            16.. => [2, 9, 8, 0],
            _ => [1, 2, 3, 4],
        };
        for second in 0..60 {
            let unit = |tasks| Unit {
                cgroup: Some(Cgroup { tasks: Some(tasks), cpu_usage_us: Some(tasks * 1_000), ..Cgroup::default() }),
                ..Unit::default()
            };
            let units = (0..4).zip(tasks(second)).filter(|(_, tasks)| *tasks > 0);
            let units = units.map(|(n, tasks)| (format!("u{n}.service").parse().unwrap(), unit(tasks)));
            let at = Now { boot_ns: second * 1_000_000_000, wall_ms: 0 };
            let sample = Sample { at, units: Some(units.collect()), ..Sample::default() };
            plain.add(&sample);
            summary.begin(sample.at);
            recorder.begin(&sample, summary.layout());
            let mut take = TakenDown { summary: &mut summary, recorder: &mut recorder };
            readings_after(before.as_ref(), &sample, &mut take);
            if summary.is_due(at) {
                let (told, again) = (plain.take(at), summary.take(at));
                assert_eq!(again, told, "the summary at {second} s");
                assert!(!told.points.is_empty());
            }
            before = Some(sample);
        }
    }
}
