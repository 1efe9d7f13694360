//! The model of one metric on series whose truth is known.

use proptest::prelude::*;

use super::AlarmState;
use super::single::Single;
use crate::detect::codec::{Reader, Writer};
use crate::id::IdSource;

/// False alarms accepted a week: the default.
const KNOB: f64 = 0.5;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// Randomness that is the same every time.
struct Noise(IdSource);

impl Noise {
    /// In (0, 1).
    #[allow(clippy::cast_precision_loss)]
    fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// About normal, with a standard deviation of 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// Exponential, with a mean of 1.
    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }
}

/// The times at which alarms open on a series of so many days with a sample every `dt` seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn alarms(days: f64, dt: f64, seed: u64, mut value: impl FnMut(f64, &mut Noise) -> Option<f64>) -> Vec<f64> {
    let mut noise = Noise(IdSource::new(seed));
    let mut single = Single::default();
    let times = (0..(days * DAY / dt) as u64).map(|step| step as f64 * dt);
    times.filter(|at| single.observe(value(*at, &mut noise), *at, dt, KNOB).alarm == AlarmState::Opened).collect()
}

/// A daily swing with noise.
fn daily(at: f64, noise: &mut Noise) -> f64 {
    100.0 + 30.0 * (at / DAY * std::f64::consts::TAU).sin() + 3.0 * noise.normal()
}

/// Busy from nine to five.
fn office(at: f64, noise: &mut Noise) -> f64 {
    (if (9.0..17.0).contains(&(at / HOUR % 24.0)) { 80.0 } else { 20.0 }) + noise.normal()
}

#[track_caller]
fn assert_first_within(alarms: &[f64], from: f64, seconds: f64) {
    let first = alarms.iter().find(|at| **at >= from).expect("an alarm");
    assert!(*first <= from + seconds, "{} h late, all: {alarms:?}", (first - from) / HOUR);
    let before = alarms.iter().filter(|at| **at < from).count();
    assert!(before <= 1, "{before} false alarms before: {alarms:?}");
}

#[test]
fn quiet_metrics_alarm_no_more_than_twice_as_often_as_accepted() {
    let kinds: [fn(f64, &mut Noise) -> f64; 6] = [
        |_, noise| 50.0 + noise.normal(),
        |_, noise| noise.exponential().powi(3),
        |_, noise| if noise.uniform() < 0.02 { noise.exponential() } else { 0.0 },
        |_, noise| noise.uniform().powf(-0.5),
        daily,
        office,
    ];
    let weeks = 5.0;
    let all: Vec<usize> = kinds
        .iter()
        .zip(1..)
        .map(|(kind, seed)| alarms(weeks * 7.0, 5.0 * MINUTE, seed, |at, noise| Some(kind(at, noise))).len())
        .collect();
    let accepted = KNOB * weeks * 6.0;
    assert!(all.iter().sum::<usize>() as f64 <= 2.0 * accepted, "{all:?}, accepted are {accepted}");
}

#[test]
fn a_spike_is_found_at_once_at_every_sampling_period() {
    for dt in [10.0, MINUTE, 5.0 * MINUTE] {
        let days = (2_000.0 * dt / DAY).max(4.0);
        let from = days * DAY - 50.0 * dt;
        let found = alarms(days, dt, 1, |at, noise| {
            Some(if (from..from + 3.0 * dt).contains(&at) { 300.0 } else { daily(at, noise) })
        });
        assert!(found.iter().any(|at| (from..=from + 2.0 * dt).contains(at)), "{dt}: {found:?}");
    }
}

#[test]
fn a_new_level_is_one_alarm_and_then_usual() {
    let from = 10.0 * DAY;
    let found = alarms(24.0, 5.0 * MINUTE, 2, |at, noise| Some(daily(at, noise) + if at >= from { 60.0 } else { 0.0 }));
    assert_first_within(&found, from, HOUR);
    let later = found.iter().filter(|at| **at > from + 3.0 * DAY).count();
    assert!(later <= 1, "{found:?}");
}

#[test]
fn a_peak_that_does_not_come_is_found_and_one_that_comes_is_not() {
    let missed = 14.0 * DAY + 9.0 * HOUR;
    let found = alarms(15.0, 5.0 * MINUTE, 3, |at, noise| {
        Some(if at >= missed { 20.0 + noise.normal() } else { office(at, noise) })
    });
    assert_first_within(&found, missed, 4.0 * HOUR);
}

#[test]
fn a_little_too_much_for_hours_is_found() {
    let from = 14.0 * DAY;
    let found =
        alarms(15.0, 5.0 * MINUTE, 4, |at, noise| Some(50.0 + noise.normal() + if at >= from { 1.5 } else { 0.0 }));
    assert_first_within(&found, from, 6.0 * HOUR);
}

#[test]
fn a_metric_that_begins_to_flutter_is_found() {
    // The same values as before, but they no longer follow each other smoothly.
    let from = 14.0 * DAY;
    let found = alarms(15.0, 5.0 * MINUTE, 5, |at, noise| {
        let phase = if at >= from { noise.uniform() * 40.0 } else { at / (6.0 * HOUR) };
        Some(50.0 + 10.0 * (phase * std::f64::consts::TAU).sin() + 0.5 * noise.normal())
    });
    assert_first_within(&found, from, 6.0 * HOUR);
}

#[test]
fn a_constant_is_silent_until_it_changes_by_what_matters() {
    let from = 7.0 * DAY;
    let change = |by: f64| move |at: f64, _: &mut Noise| Some(if at >= from { 1_000.0 + by } else { 1_000.0 });
    assert_eq!(alarms(9.0, 5.0 * MINUTE, 6, change(1.0)), [0.0; 0]);
    assert_first_within(&alarms(9.0, 5.0 * MINUTE, 6, change(-300.0)), from, 10.0 * MINUTE);
}

#[test]
fn what_grows_and_what_is_reset_is_usual() {
    let growing = alarms(35.0, 5.0 * MINUTE, 7, |at, noise| Some(at / 1e3 + noise.normal()));
    let sawtooth = alarms(35.0, 5.0 * MINUTE, 8, |at, noise| Some(at % (7.0 * HOUR) / 1e2 + noise.normal()));
    // Five weeks each: 2.5 are accepted, twice as many at most.
    assert!(growing.len() <= 5 && sawtooth.len() <= 5, "{growing:?} {sawtooth:?}");
}

#[test]
fn on_and_off_is_usual_and_staying_off_is_not() {
    let from = 21.0 * DAY;
    let mut until = 0.0;
    let mut is_on = false;
    let found = alarms(23.0, 5.0 * MINUTE, 9, |at, noise| {
        if at >= until {
            is_on = !is_on;
            until = at + 40.0 * MINUTE * (0.5 + noise.uniform());
        }
        Some(if is_on && at < from { 1.0 } else { 0.0 })
    });
    let first = found.iter().find(|at| **at >= from).expect("an alarm");
    assert!(*first <= from + 12.0 * HOUR, "{found:?}");
    assert!(found.len() <= 5, "{found:?}");
}

#[test]
fn gaps_and_uneven_steps_are_no_trouble() {
    let from = 20.0 * DAY;
    let mut single = Single::default();
    let mut noise = Noise(IdSource::new(10));
    let (mut at, mut found) = (0.0, Vec::new());
    while at < 21.0 * DAY {
        // Five hours are missing twice a week.
        at += 5.0 * MINUTE * (0.2 + 1.6 * noise.uniform());
        at += if at % (3.5 * DAY) < 10.0 * MINUTE { 5.0 * HOUR } else { 0.0 };
        let value = if at >= from { 200.0 } else { daily(at, &mut noise) };
        let seen = (noise.uniform() < 0.9).then_some(value);
        if single.observe(seen, at, 5.0 * MINUTE, KNOB).alarm == AlarmState::Opened {
            found.push(at);
        }
    }
    let first = found.iter().find(|at| **at >= from).expect("an alarm");
    assert!(*first <= from + HOUR && found.len() <= 4, "{found:?}");
}

#[test]
fn one_incident_is_one_alarm_and_the_next_is_another() {
    let incident = |at: f64, from: f64| (from..from + 2.0 * HOUR).contains(&at);
    let (first, second) = (10.0 * DAY, 12.0 * DAY);
    let found = alarms(13.0, 5.0 * MINUTE, 11, |at, noise| {
        let level = if incident(at, first) {
            100.0
        } else if incident(at, second) {
            200.0
        } else {
            0.0
        };
        Some(daily(at, noise) + level)
    });
    let found: Vec<_> = found.into_iter().filter(|at| *at >= first).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(incident(found[0], first) && incident(found[1], second), "{found:?}");
}

#[test]
fn nothing_is_said_on_the_first_two_days() {
    let found = alarms(2.0, 5.0 * MINUTE, 12, |at, _| Some(if at % HOUR < 1.0 { 1e6 } else { 1.0 }));
    assert_eq!(found, [0.0; 0]);
    let single = Single::default();
    assert!((single.learning_seconds(MINUTE) - 2.0 * DAY).abs() < 1.0);
    assert!((single.learning_seconds(2.0 * HOUR) - 200.0 * HOUR).abs() < 1.0);
}

fn saved(single: &Single) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.section(1, 1, |writer| single.save(writer));
    writer.finish()
}

fn resumed(bytes: &[u8]) -> Option<Single> {
    let mut section = Reader::open(bytes).ok()?.section()?;
    Single::load(&mut section.body).filter(|_| section.body.is_at_end())
}

#[test]
fn its_state_is_below_four_kibibytes() {
    assert!(size_of::<Single>() <= 4_096, "{}", size_of::<Single>());
    let mut single = Single::default();
    let mut noise = Noise(IdSource::new(13));
    (0..5_000).for_each(|step| drop(single.observe(Some(noise.normal()), f64::from(step) * 300.0, 300.0, KNOB)));
    assert!(saved(&single).len() <= 4_096, "{}", saved(&single).len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_comes_it_answers_in_numbers_and_goes_on_the_same_after_a_restart(
        seed in any::<u64>(),
        wild in prop::collection::vec(any::<f64>(), 1..40),
        dt in prop::sample::select(vec![1.0, 10.0, 300.0, 3_600.0, 1e6]),
    ) {
        let mut noise = Noise(IdSource::new(seed));
        let mut single = Single::default();
        let mut other = None;
        for step in 0..600 {
            let value = match noise.uniform() {
                u if u < 0.1 => wild.get(step % wild.len()).copied(),
                u if u < 0.2 => None,
                _ => Some(noise.normal()),
            };
            // Time may stand still and go back.
            let at = (step as f64 - 20.0 * noise.uniform().powi(8)) * dt;
            let score = single.observe(value, at, dt, KNOB);
            prop_assert!(score.score.is_finite() && score.limit.is_finite());
            if step == 300 {
                other = Some(resumed(&saved(&single)).expect("it is readable"));
            } else if let Some(other) = &mut other {
                let again = other.observe(value, at, dt, KNOB);
                prop_assert_eq!((again.score, again.alarm), (score.score, score.alarm));
            }
        }
        prop_assert_eq!(saved(&other.expect("resumed")), saved(&single));
    }
}
