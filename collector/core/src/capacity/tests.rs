//! Histories with a known truth: what is said is held against what came.

use super::*;

/// Numbers without a pattern, the same in every run.
struct Noise(u64);

impl Noise {
    #[allow(clippy::cast_precision_loss)]
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }
}

/// Monday the 1st of January 2024.
const START: i64 = 473_352;
const KINDS: [&str; 8] = ["flat", "seasonal", "trending", "step", "bursty", "gap", "wandering", "growing disk"];

/// Demand of one kind, hour by hour, before and after the moment of asking.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn demand(kind: &str, seed: u64, hours: usize) -> Vec<f64> {
    let mut noise = Noise(seed * 7919 + kind.len() as u64);
    let mut walk = 0.0;
    let mut burst = 0;
    // The number of hours that a step is before the asking at the latest: 12 days.
    let step = (10.0 + 6.0 * noise.even()) * 24.0;
    let slope = 0.5 + noise.even();
    let mut used = 100.0;
    (0..hours)
        .map(|at| {
            let hour = START + at as i64;
            let (of_day, day) = (phase(hour, DAY) as f64, phase(hour - 96, WEEK) / DAY);
            let work = (-((of_day - 14.0) / 4.0).powi(2)).exp();
            let season = 20.0 * work * if day < 5 { 1.0 } else { 0.3 };
            let days = at as f64 / 24.0;
            walk += 0.15 * noise.normal();
            used += slope / 24.0 * (0.2 + work * 3.0) + 0.02 * noise.normal().abs();
            if noise.even() < 0.01 {
                burst = 2 + (noise.even() * 4.0) as usize;
            }
            burst = burst.saturating_sub(1);
            let value = match kind {
                "flat" => 50.0 + noise.normal(),
                "seasonal" | "gap" => 30.0 + season + noise.normal() * (1.0 + season / 20.0),
                "trending" => 30.0 + slope * days + season + noise.normal() * 2.0,
                "step" => 30.0 + if at as f64 > step { 25.0 } else { 0.0 } + season + noise.normal(),
                "bursty" => 20.0 + noise.normal() + if burst > 0 { 40.0 } else { 0.0 },
                "wandering" => 50.0 + walk + season + noise.normal(),
                _ => used,
            };
            value.max(0.0)
        })
        .collect()
}

#[allow(clippy::cast_possible_wrap)]
fn history(kind: &str, values: &[f64]) -> Hourly {
    let seen = |at: usize| kind != "gap" || !(24 * 9..24 * 12).contains(&at) && !at.is_multiple_of(17);
    let values = values.iter().enumerate().map(|(at, value)| seen(at).then_some(*value)).collect();
    Hourly { first: START, values }
}

/// Share of the hours to come that stay below the high quantile.
#[allow(clippy::cast_precision_loss)]
fn below_high(kind: &str, seed: u64, days: usize, ahead: usize) -> f64 {
    let values = demand(kind, seed, (days + ahead) * DAY);
    let (past, coming) = values.split_at(days * DAY);
    let outlook = outlook(&history(kind, past), ahead * DAY).unwrap();
    let below = coming.iter().zip(&outlook.high).filter(|(value, high)| *value <= high).count();
    below as f64 / coming.len() as f64
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn nineteen_of_twenty_hours_stay_below_the_high_quantile() {
    const SEEDS: u64 = 6;
    let mut all = 0.0;
    for (days, ahead) in [(28, 14), (30, 30), (60, 30)] {
        for kind in KINDS {
            let share = (0..SEEDS).map(|seed| below_high(kind, seed, days, ahead)).sum::<f64>() / SEEDS as f64;
            println!("{days} d, {ahead} d ahead, {kind}: {share:.3}");
            // The hours of one series err together: six of a kind tell little.
            assert!(share >= 0.80, "{kind} of {days} d: {share}");
            all += share / (3 * KINDS.len()) as f64;
        }
    }
    println!("all {all:.3}");
    assert!((0.93..=0.99).contains(&all), "{all}");
}

#[test]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap, clippy::cast_possible_truncation)]
fn a_limit_is_met_within_the_interval_that_is_said() {
    const SEEDS: u64 = 20;
    let (mut sooner, mut later, mut cases) = (0, 0, 0);
    for kind in ["trending", "growing disk", "wandering", "bursty", "seasonal"] {
        for seed in 0..SEEDS {
            let values = demand(kind, seed, 60 * DAY);
            let (past, coming) = values.split_at(30 * DAY);
            let outlook = outlook(&history(kind, past), 30 * DAY).unwrap();
            // A limit between what is expected of the busiest hour, and more than was ever asked for.
            let (expected, high) = outlook.peaks();
            let most = past.iter().copied().fold(high, f64::max);
            let limit = expected + (most - expected) * (3 + seed % 10) as f64 / 10.0;
            let never = outlook.first + 30 * DAY as i64;
            let truth = coming.iter().position(|value| *value >= limit).map_or(never, |at| outlook.first + at as i64);
            let met = outlook.meets(limit);
            cases += 1;
            sooner += usize::from(truth < met.earliest.unwrap_or(never));
            later += usize::from(truth > met.latest.unwrap_or(never));
        }
    }
    println!("of {cases}: {sooner} sooner, {later} later");
    // One in ten each, and the interval is not so wide that nothing ever lies outside.
    assert!(
        sooner <= cases / 6 && later <= cases / 6 && sooner + later >= cases / 50,
        "{sooner} and {later} of {cases}"
    );
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn the_day_that_a_growing_disk_is_full_is_near_the_day_that_is_said() {
    for seed in 0..12 {
        let values = demand("growing disk", seed, 60 * DAY);
        let (past, coming) = values.split_at(30 * DAY);
        let outlook = outlook(&history("growing disk", past), 30 * DAY).unwrap();
        let met = outlook.meets(coming[14 * DAY]).at.unwrap() - outlook.first;
        assert!((met as f64 / (14.0 * 24.0) - 1.0).abs() < 0.15, "{seed}: 336 hours, said {met}");
    }
}

#[test]
fn a_flat_demand_never_meets_a_limit_above_it_and_one_above_its_limit_has_met_it() {
    let outlook = outlook(&history("flat", &demand("flat", 1, 30 * DAY)), 30 * DAY).unwrap();
    let never = outlook.meets(200.0);
    assert_eq!((never.at, never.earliest, never.latest), (None, None, None));
    assert!(never.chance < 1e-9);
    let met = outlook.meets(20.0);
    assert_eq!((met.at, met.latest), (Some(outlook.first), Some(outlook.first)));
    assert!((met.chance - 1.0).abs() < 1e-9);
}

#[test]
fn seasons_are_found_where_there_are_any() {
    for (kind, expected) in [
        ("flat", &[Season::None][..]),
        ("seasonal", &[Season::Week, Season::Weekday]),
        ("growing disk", &[Season::Day]),
    ] {
        let outlook = outlook(&history(kind, &demand(kind, 1, 35 * DAY)), 7 * DAY).unwrap();
        assert!(expected.contains(&outlook.season), "{kind}: {:?}", outlook.season);
    }
}

#[test]
fn a_step_is_no_trend() {
    for seed in 0..6 {
        let outlook = outlook(&history("step", &demand("step", seed, 30 * DAY)), 30 * DAY).unwrap();
        let (expected, _) = outlook.peaks();
        assert!(outlook.slope.abs() < 0.1 && (expected - 75.0).abs() < 5.0, "{seed}: {} to {expected}", outlook.slope);
    }
}

#[test]
fn too_little_history_is_no_forecast() {
    let of = |hours: usize| history("seasonal", &demand("seasonal", 1, hours));
    let why = |history: &Hourly, horizon: usize| outlook(history, horizon).unwrap_err().to_string();
    assert_eq!(why(&Hourly::default(), 24), "no history: no forecast");
    assert_eq!(why(&of(5), 24), "5 h of history: no forecast; a week is needed for a season by day");
    assert_eq!(why(&of(9 * DAY), 30 * DAY), "9 d of history reach 18 d ahead: no forecast for 30 d");
    let mut sparse = of(20 * DAY);
    for value in sparse.values.iter_mut().skip(2 * DAY).take(12 * DAY) {
        *value = None;
    }
    assert_eq!(why(&sparse, 24), "40% of the hours of 20 d are there: no forecast; half of them are needed");
    // Unseen hours at the ends are no history.
    let mut late = of(10 * DAY);
    for value in late.values.iter_mut().take(9 * DAY) {
        *value = None;
    }
    assert!(matches!(outlook(&late, 24), Err(Unfit::Short { hours: 24 })));
    assert_eq!(outlook(&of(7 * DAY), 14 * DAY).unwrap().expected.len(), 14 * DAY);
}

#[test]
fn whatever_comes_is_an_outlook_or_a_reason() {
    let spans = [WEEK, WEEK + 5, 3 * WEEK, 200 * DAY];
    for hours in spans {
        for values in [vec![Some(0.0); hours], vec![Some(1e300); hours], vec![Some(f64::NAN); hours], vec![None; hours]]
        {
            let said = outlook(&Hourly { first: -5, values }, 2 * DAY);
            if let Ok(outlook) = said {
                let _ = outlook.meets(0.0);
                assert!(outlook.meets(f64::INFINITY).at.is_none());
                assert_eq!(outlook.high.len(), 2 * DAY);
            }
        }
    }
}

#[test]
fn hosts_share_a_peak_and_one_that_is_missing_for_an_hour_is_not_gone() {
    let one = Hourly { first: 10, values: vec![Some(8.0), Some(0.0), Some(8.0), Some(0.0)] };
    let other = Hourly { first: 10, values: vec![Some(0.0), Some(8.0), Some(0.0), Some(8.0)] };
    assert_eq!(shared(&[one.clone(), other.clone()]).values, vec![Some(8.0); 4]);
    // The third came later; before, the others had its work.
    let third = Hourly { first: 12, values: vec![Some(1.0), Some(1.0)] };
    assert_eq!(shared(&[one, other, third]).values, [Some(8.0), Some(8.0), Some(9.0), Some(9.0)]);
    let five: Vec<Hourly> = (0..5)
        .map(|n| Hourly {
            first: 0,
            values: vec![Some(2.0), (n > 0).then_some(2.0), (n > 1).then_some(2.0), Some(2.0)],
        })
        .collect();
    assert_eq!(shared(&five).values, [Some(10.0), Some(10.0), None, Some(10.0)]);
    assert_eq!(shared(&[]), Hourly::default());
}
