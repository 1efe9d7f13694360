//! Disks whose truth is known, shown every five minutes.

use super::*;

const GB: f64 = 1e9;
const DAY_H: f64 = 24.0;

/// Shows `used` (GB after so many hours) for so many days.
fn shown(days: f64, used: impl Fn(f64) -> f64) -> Forecaster {
    let mut forecaster = Forecaster::new();
    show(&mut forecaster, 0.0, days, used);
    forecaster
}

#[allow(clippy::cast_possible_truncation)]
fn show(forecaster: &mut Forecaster, from_days: f64, to_days: f64, used: impl Fn(f64) -> f64) {
    let mut hour = from_days * DAY_H;
    while hour <= to_days * DAY_H {
        forecaster.observe((hour * HOUR as f64).round() as Millis, used(hour) * GB);
        hour += 1.0 / 12.0;
    }
}

/// The answer in hours.
fn hours_to(forecaster: &Forecaster, capacity_gb: f64) -> f64 {
    forecaster.forecast(capacity_gb * GB).expected / 3_600.0
}

/// Twice as much in the day as in the night, 24 GB a day.
fn daily(hour: f64) -> f64 {
    let turns = hour / DAY_H;
    hour - 0.33 * DAY_H / std::f64::consts::TAU * (turns * std::f64::consts::TAU).sin()
}

/// Written as by [`daily`], compressed to an eighth every night at two.
fn rotated(hour: f64) -> f64 {
    let last_night = ((hour - 2.0) / DAY_H).floor() * DAY_H + 2.0;
    daily(hour) - daily(last_night.max(0.0)) * 7.0 / 8.0
}

/// The first hour after `from` at which `used` reaches a level.
fn truth(from: f64, level: f64, used: impl Fn(f64) -> f64) -> f64 {
    let mut hour = from;
    while used(hour) < level {
        hour += 1.0 / 60.0;
    }
    hour - from
}

#[test]
fn steady_growth_is_followed_to_the_hour() {
    let forecaster = shown(5.0, |h| h);
    for hours in [0.5, 10.0, 100.0] {
        let said = hours_to(&forecaster, 120.0 + hours);
        assert!((said - hours).abs() < 0.1 * hours, "full in {hours}, said {said}");
    }
}

#[test]
fn the_habit_of_the_day_is_known() {
    let forecaster = shown(6.25, daily);
    for ahead in [3.0, 6.0, 12.0, 18.0] {
        let capacity = daily(150.0 + ahead);
        let said = hours_to(&forecaster, capacity);
        assert!((said - ahead).abs() < 0.1 * ahead, "full in {ahead}, said {said}");
    }
}

#[test]
fn a_disk_that_is_rotated_fills_by_what_rotation_leaves() {
    let forecaster = shown(9.0, rotated);
    // 3 GB a day stay; the peak of the fifth night from now.
    let capacity = rotated(14.0 * DAY_H + 1.5);
    let want = truth(9.0 * DAY_H, capacity, rotated);
    let said = hours_to(&forecaster, capacity);
    assert!((said - want).abs() < 0.1 * want, "full in {want}, said {said}");
}

#[test]
fn what_is_removed_after_four_days_never_fills() {
    let kept = |h: f64| daily(h) - daily((((h - 5.0) / DAY_H).floor() * DAY_H + 5.0 - 4.0 * DAY_H).max(0.0));
    let forecaster = shown(12.0, kept);
    assert_eq!(forecaster.forecast(kept(12.0 * DAY_H) * GB + 40.0 * GB), Forecast::NEVER);
}

#[test]
fn high_and_flat_never_fills() {
    let forecaster = shown(4.0, |h| 900.0 + 0.001 * (h * 7.0).sin());
    assert_eq!(hours_to(&forecaster, 901.0), f64::INFINITY);
}

#[test]
fn a_release_that_was_laid_out_is_no_speed() {
    let forecaster = shown(3.0, |h| 0.1 * h + if h > 71.7 { 20.0 } else { 0.0 });
    let said = hours_to(&forecaster, 27.2 + 2.0);
    assert!((said - 20.0).abs() < 4.0, "20 h at 0.1 GB an hour, said {said}");
}

#[test]
fn releases_that_come_every_few_days_count_in_the_long_run() {
    let releases = |h: f64| 0.1 * h + 10.0 * (h / 60.0).floor();
    let forecaster = shown(12.0, releases);
    let said = hours_to(&forecaster, releases(288.0) + 31.0);
    assert!((90.0..190.0).contains(&said), "31 GB are 118 h with releases and 310 without, said {said}");
}

#[test]
fn a_storm_is_believed_within_the_hour() {
    let storm = |h: f64| 0.2 * h + (h - 95.0).max(0.0) * 20.0;
    let forecaster = shown(4.0, storm);
    let said = hours_to(&forecaster, storm(98.0));
    assert!((said - 2.0).abs() < 0.5, "full in 2 h, said {said}");
}

#[test]
fn a_burst_of_an_hour_does_not_go_on_for_days() {
    let forecaster = shown(4.0, |h| h + (h - 95.0).clamp(0.0, 1.0) * 5.0);
    let said = hours_to(&forecaster, 101.0 + 48.0);
    assert!(said > 35.0, "48 h at the usual speed, said {said}");
}

#[test]
fn a_clock_of_a_disk_has_a_narrow_interval_and_bursts_a_wide_one() {
    let width = |f: &Forecaster, capacity: f64| {
        let forecast = f.forecast(capacity * GB);
        assert!(forecast.low <= forecast.expected && forecast.expected <= forecast.high, "{forecast:?}");
        forecast.high / forecast.low
    };
    let steady = shown(8.0, |h| h);
    // An hour of writing, at no fixed time, every eighteen on average.
    let bursts =
        |h: f64| (0..200).map(|n: i32| (h - f64::from(n * 18 + n * n % 13)).clamp(0.0, 1.0) * 18.0).sum::<f64>();
    let bursty = shown(8.0, bursts);
    assert!(width(&steady, 192.0 + 20.0) < 1.2);
    assert!(width(&bursty, bursts(192.0) + 20.0) > 2.0);
}

#[test]
fn a_gap_of_an_hour_changes_little_and_one_of_a_week_is_not_filled_in() {
    let mut forecaster = shown(4.0, |h| h);
    show(&mut forecaster, 4.05, 5.0, |h| h);
    assert!((hours_to(&forecaster, 130.0) - 10.0).abs() < 1.0);
    show(&mut forecaster, 12.0, 12.2, |h| h);
    let said = hours_to(&forecaster, 302.8);
    assert!((said - 10.0).abs() < 2.0, "it goes on as fast as before, said {said}");
}

#[test]
fn what_was_saved_goes_on_as_if_nothing_had_been() {
    let mut before = shown(9.0, rotated);
    let mut writer = Writer::default();
    writer.section(1, 1, |w| before.save(w));
    let bytes = writer.finish();
    let mut after = Forecaster::load(&mut Reader::open(&bytes).unwrap().section().unwrap().body).unwrap();
    for forecaster in [&mut before, &mut after] {
        show(forecaster, 9.1, 11.0, rotated);
    }
    // Bit by bit: what was not seen is not a number, and unequal to itself.
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!(before.forecast(40.0 * GB), after.forecast(40.0 * GB));
}

#[test]
fn it_takes_less_than_four_kilobytes() {
    let bytes = shown(40.0, rotated).state_bytes();
    assert!(bytes <= 4_096, "{bytes}");
}
