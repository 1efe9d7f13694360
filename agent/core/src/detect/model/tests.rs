//! Synthetic hosts with known truth, through the whole host model.

use super::{AlarmState, HostModel, HostScore};
use crate::detect::codec::{Reader, Writer};
use crate::id::IdSource;

const MINUTE: f64 = 60.0;
const STEPS_PER_DAY: usize = 1_440;
const METRICS: usize = 20;

/// The default of the knob, in false alarms a week.
const KNOB: f64 = 0.5;

/// Numbers in (0, 1), the same every time.
#[allow(clippy::cast_precision_loss)]
fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut source = IdSource::new(seed);
    move || ((source.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// A host in steps of a minute: a common daily load with noise of its own, which the even metrics
/// follow; every third metric is heavy-tailed.
struct Host {
    uniform: Box<dyn FnMut() -> f64>,
    step: usize,
}

impl Host {
    fn new(seed: u64) -> Self {
        Self { uniform: Box::new(uniform(seed)), step: 0 }
    }

    #[allow(clippy::cast_precision_loss)]
    fn next(&mut self) -> Vec<f64> {
        let day = (self.step as f64 / STEPS_PER_DAY as f64 * std::f64::consts::TAU).sin();
        self.step += 1;
        let next = &mut self.uniform;
        let load = 1.0 + 0.5 * day + 0.05 * (next() + next() - 1.0);
        (0..METRICS)
            .map(|n| {
                let noise = -next().ln() * if n % 3 == 0 { -next().ln() } else { 1.0 };
                100.0 * if n % 2 == 0 { load } else { 1.0 } + 5.0 * noise
            })
            .collect()
    }
}

#[allow(clippy::cast_precision_loss)]
fn at(step: usize) -> f64 {
    step as f64 * MINUTE
}

/// Runs a host for so many days; `disturb` changes the values of a step. Gives the steps at which
/// an alarm opened, with what was said there.
fn opened(days: usize, seed: u64, mut disturb: impl FnMut(usize, &mut [f64])) -> Vec<(usize, HostScore)> {
    let (mut host, mut model) = (Host::new(seed), HostModel::default());
    let mut opened = Vec::new();
    for step in 0..days * STEPS_PER_DAY {
        let mut values = host.next();
        disturb(step, &mut values);
        let values: Vec<_> = values.into_iter().map(Some).collect();
        let score = model.observe(&values, at(step), MINUTE, KNOB);
        if score.alarm == AlarmState::Opened {
            opened.push((step, score));
        }
    }
    opened
}

#[test]
fn a_quiet_month_has_no_more_than_twice_the_accepted_alarms() {
    let alarms: usize = (0..3).map(|seed| opened(30, seed, |_, _| {}).len()).sum();
    // Three months of four weeks and a half, half an alarm a week each.
    assert!(alarms <= 13, "{alarms} in three months");
}

#[test]
fn a_shift_of_one_metric_of_twenty_is_one_alarm_that_blames_it() {
    let from = 7 * STEPS_PER_DAY + 200;
    let alarms = opened(8, 1, |step, values| {
        if (from..from + 90).contains(&step) {
            values[7] += 400.0;
        }
    });
    let [(step, score)] = alarms.as_slice() else { panic!("{alarms:?}") };
    assert!((from..=from + 2).contains(step), "{step}");
    assert_eq!(score.blame.first().map(|blame| blame.metric), Some(7));
    assert!((score.blame[0].expected - 105.0).abs() < 10.0, "{:?}", score.blame[0]);
}

#[test]
fn metrics_that_follow_the_load_of_the_day_are_no_trouble() {
    // A day with a tenth more load than the others, from its first minute to its last.
    let alarms = opened(8, 2, |step, values| {
        if step / STEPS_PER_DAY == 6 {
            values.iter_mut().step_by(2).for_each(|value| *value *= 1.1);
        }
    });
    assert_eq!(alarms, []);
}

#[test]
fn trouble_of_hours_is_not_learned_as_usual() {
    let (first, second) = (7 * STEPS_PER_DAY, 8 * STEPS_PER_DAY);
    let alarms = opened(9, 3, |step, values| {
        if (first..first + 480).contains(&step) || (second..second + 60).contains(&step) {
            values[3] += 400.0;
            values[4] += 400.0;
        }
    });
    let steps: Vec<_> = alarms.iter().map(|(step, _)| *step).collect();
    assert!(steps.iter().any(|step| (second..second + 3).contains(step)), "{steps:?}");
    assert!(!steps.iter().any(|step| (first + 3..second).contains(step)), "one alarm for eight hours: {steps:?}");
}

#[test]
fn a_new_level_that_stays_is_usual_after_two_days() {
    let from = 7 * STEPS_PER_DAY;
    let alarms = opened(14, 4, |step, values| {
        if step >= from {
            values[5] += 300.0;
        }
    });
    let steps: Vec<_> = alarms.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(steps[0] <= from + 2, "{steps:?}");
}

#[test]
fn nothing_is_said_while_learning() {
    let alarms = opened(1, 1, |step, values| {
        if step % 50 == 0 {
            values.fill(1e6);
        }
    });
    assert_eq!(alarms, []);
    assert!(HostModel::default().learning_seconds(MINUTE) > 86_400.0);
}

#[test]
fn what_is_no_number_or_missing_does_no_harm() {
    let (mut host, mut model) = (Host::new(5), HostModel::default());
    for step in 0..3 * STEPS_PER_DAY {
        let mut values: Vec<_> = host.next().into_iter().map(Some).collect();
        values[0] = [Some(f64::NAN), Some(f64::INFINITY), None, Some(f64::MAX), Some(-f64::MAX)][step % 5];
        if step % 7 == 0 {
            values.fill(None);
        }
        let score = model.observe(&values, at(step), MINUTE, KNOB);
        assert!(score.score.is_finite(), "{step}");
        assert!(score.blame.iter().all(|blame| blame.distance.is_finite()), "{step}: {:?}", score.blame);
    }
}

/// A host on which something runs at three every night from the tenth day on, so many minutes; `times` tells how large it is.
/// Gives the days on which alarms opened.
fn nightly(days: usize, minutes: usize, times: impl Fn(usize) -> f64) -> Vec<usize> {
    let opened = opened(days, 8, |step, values| {
        let (day, minute) = (step / STEPS_PER_DAY, step % STEPS_PER_DAY);
        if day >= 10 && (180..180 + minutes).contains(&minute) {
            values[1..8].iter_mut().for_each(|value| *value *= times(day));
        }
    });
    opened.into_iter().map(|(step, _)| step / STEPS_PER_DAY).filter(|day| *day >= 10).collect()
}

#[test]
fn an_hour_of_every_night_is_told_until_it_is_a_habit_and_when_it_grows() {
    let days = nightly(30, 60, |day| if day == 26 { 20.0 } else { 3.0 });
    let first: Vec<_> = days.iter().copied().take_while(|day| *day < 26).collect();
    assert!(first.first() == Some(&10) && first.iter().all(|day| *day <= 14), "{days:?}");
    assert_eq!(days[first.len()..], [26], "{days:?}");
}

#[test]
fn a_moment_of_every_night_is_no_habit() {
    let days = nightly(30, 2, |_| 3.0);
    assert!(days.len() >= 18, "{days:?}");
}

#[test]
fn what_was_saved_goes_on_with_the_very_same_answers() {
    let (mut host, mut model) = (Host::new(6), HostModel::default());
    let mut next = |step: usize| -> Vec<_> {
        // Seldom for a moment, and every night for half an hour.
        let gross = if step.is_multiple_of(97) || step % STEPS_PER_DAY < 30 { 3.0 } else { 1.0 };
        host.next().into_iter().map(|value| Some(value * gross)).collect()
    };
    for step in 0..8 * STEPS_PER_DAY + 20 {
        model.observe(&next(step), at(step), MINUTE, KNOB);
    }
    let mut writer = Writer::default();
    writer.section(1, 1, |w| model.save(w));
    let bytes = writer.finish();
    let mut reader = Reader::open(&bytes).unwrap();
    let mut again = HostModel::load(&mut reader.section().unwrap().body, true).unwrap();
    for step in 8 * STEPS_PER_DAY + 20..10 * STEPS_PER_DAY {
        let values = next(step);
        let want = model.observe(&values, at(step), MINUTE, KNOB);
        assert_eq!(again.observe(&values, at(step), MINUTE, KNOB), want, "{step}");
    }
}

#[test]
fn a_metric_that_never_moved_may_move_less_than_matters() {
    let alarms_with = |floor: f64| {
        let (mut host, mut model) = (Host::new(7), HostModel::default());
        model.set_floor(METRICS, floor);
        let mut alarms = 0;
        for step in 0..7 * STEPS_PER_DAY {
            let mut values: Vec<_> = host.next().into_iter().map(Some).collect();
            values.push(Some(if step == 6 * STEPS_PER_DAY { 0.03 } else { 0.0 }));
            let score = model.observe(&values, at(step), MINUTE, KNOB);
            alarms += usize::from(score.alarm == AlarmState::Opened && step == 6 * STEPS_PER_DAY);
        }
        alarms
    };
    assert_eq!((alarms_with(0.0), alarms_with(0.02)), (1, 0));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever comes, in whatever order of time: every score is a number and no step panics.
    #[test]
    fn any_values_at_any_times_give_finite_scores(
        steps in proptest::collection::vec(
            (proptest::collection::vec(proptest::option::of(proptest::num::f64::ANY), 0..6), -1e6..1e12f64, 0.0..1e5f64),
            1..200,
        ),
        knob in 0.01..100.0f64,
    ) {
        let mut model = HostModel::default();
        for (values, at, dt) in steps {
            let score = model.observe(&values, at, dt, knob);
            proptest::prop_assert!(score.score.is_finite() && score.limit.is_finite());
            proptest::prop_assert!(score.blame.iter().all(|blame| blame.distance.is_finite()));
        }
    }
}
