//! How forecasts of capacity would have done on a history of your own.
//!
//! In: one value an hour on stdin, one a line, empty where there is none; days of history and days
//! ahead as arguments. From every third day on, a forecast is made from the days before. Out: the
//! share of hours that stayed below the high quantile, and of the times at which the greatest
//! demand of a stretch was met those within the interval.
//!
//! ```text
//! cargo run -p mainstay-fleet --example capacity_csv -- 30 14 < cpu-by-hour
//! ```

use std::io::Read as _;

use mainstay_fleet::capacity::{Hourly, outlook};

const DAY: usize = 24;

fn main() {
    #[allow(clippy::disallowed_methods, reason = "a program for people, not the crate")]
    let argument = |n: usize| std::env::args().nth(n).and_then(|text| text.parse::<usize>().ok());
    let (Some(history), Some(ahead)) = (argument(1), argument(2)) else {
        eprintln!("usage: capacity_csv DAYS_OF_HISTORY DAYS_AHEAD < VALUES");
        std::process::exit(2);
    };
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut text) {
        eprintln!("cannot read stdin: {error}");
        std::process::exit(2);
    }
    let values: Vec<Option<f64>> = text.lines().map(|line| line.trim().parse().ok()).collect();
    let (mut hours, mut below, mut level) = (0, 0, 0.0);
    let (mut asked, mut sooner, mut later) = (0, 0, 0);
    let mut end = history * DAY;
    while end + ahead * DAY <= values.len() {
        let past = Hourly { first: 0, values: values[end - history * DAY..end].to_vec() };
        let coming = &values[end..end + ahead * DAY];
        match outlook(&past, ahead * DAY) {
            Ok(outlook) => {
                for (at, value) in coming.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))) {
                    hours += 1;
                    below += usize::from(value <= outlook.high[at]);
                    level += if value <= outlook.expected[at] { 1.0 } else { 0.0 };
                }
                let (expected, high) = outlook.peaks();
                for share in [0.25, 0.5, 0.75, 1.0, 1.25] {
                    let met = outlook.meets(expected + (high - expected) * share);
                    let limit = expected + (high - expected) * share;
                    if high <= expected {
                        continue;
                    }
                    let never = i64::MAX;
                    let truth = coming.iter().position(|value| value.is_some_and(|value| value >= limit));
                    let truth = truth.map_or(never, |at| outlook.first + i64::try_from(at).unwrap_or(0));
                    asked += 1;
                    sooner += usize::from(truth < met.earliest.unwrap_or(never));
                    later += usize::from(truth > met.latest.unwrap_or(never));
                }
            }
            Err(why) => eprintln!("day {}: {why}", end / DAY),
        }
        end += 3 * DAY;
    }
    println!(
        "{hours} hours: {below} below the high quantile, {level} below the expected; {asked} limits: {sooner} sooner, {later} later"
    );
}
