//! `mainstay capacity`: what will be asked for, and when that meets a limit.

use std::time::Duration;

use clap::{Args, ValueEnum};
use mainstay_proto::v1::{CapacityRequest, CapacityResponse, CapacityView};
use serde::Serialize;

use crate::connect;
use crate::context::Context;
use crate::draw::sparkline;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, Row};
use crate::{view, words};

/// Arguments of `mainstay capacity`.
#[derive(Debug, Args)]
pub(crate) struct CapacityArgs {
    /// How far ahead, at most twice as far as the history goes back
    #[arg(long = "for", value_name = "DURATION", default_value = "30d", value_parser = crate::arguments::duration)]
    ahead: Duration,
    /// Add hosts up by the value of this label, such as role
    #[arg(long, value_name = "LABEL")]
    by: Option<String>,
    /// Only hosts with such a name; * and ? stand for any
    #[arg(long, value_name = "GLOB")]
    host: Option<String>,
    /// Only hosts with this label, as NAME=VALUE; may be given more than once, all must match
    #[arg(short, long = "selector", value_name = "NAME=VALUE", value_parser = super::label)]
    labels: Vec<(String, String)>,
    /// Only this; may be given more than once
    #[arg(long = "resource", value_enum, value_name = "RESOURCE")]
    resources: Vec<Resource>,
    /// The share of a limit at which it counts as met
    #[arg(long = "at", value_name = "PERCENT", default_value = "100%", value_parser = percent)]
    full_at: f64,
}

/// What can run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Resource {
    /// CPUs at work
    Cpu,
    /// Memory that is not available
    Memory,
    /// What filesystems hold
    Disk,
    /// What interfaces receive and send
    Net,
}

/// Reads `85%` or `85`.
fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    match number {
        Some(number) if number > 0.0 && number <= 100.0 => Ok(number / 100.0),
        _ => Err(format!("`{text}` is no percentage above 0 and up to 100, such as 85%")),
    }
}

/// One thing that can run short.
#[derive(Debug, Serialize)]
struct CapacityRow {
    subject: String,
    hosts: u32,
    resource: String,
    part: String,
    unit: String,
    now: f64,
    peak: f64,
    /// Absent: no known limit.
    limit: Option<f64>,
    expected: Option<f64>,
    high: Option<f64>,
    high_share: f64,
    headroom: Option<f64>,
    /// `no known limit`, `not within 30d`, a date, or why there is no forecast.
    verdict: String,
    chance: Option<f64>,
    met: Option<String>,
    earliest: Option<String>,
    latest: Option<String>,
    trend_per_day: Option<f64>,
    season: Option<String>,
    days: Vec<DayRow>,
    history_days: f64,
    completeness: f64,
    resolution_s: f64,
    /// Why there is no forecast.
    no_forecast: Option<String>,
}

/// The busiest hour of a day ahead.
#[derive(Debug, Serialize)]
struct DayRow {
    from: Option<String>,
    expected: f64,
    high: f64,
}

impl Row for CapacityRow {
    const HEADINGS: &'static [&'static str] = &[
        "SUBJECT",
        "RESOURCE",
        "NOW",
        "EXPECTED",
        "95%",
        "LIMIT",
        "HEADROOM",
        "LIMIT MET",
        "RESTS ON",
        "HOSTS",
        "PEAK",
        "TREND/DAY",
        "SEASON",
        "CHANCE",
    ];
    const WIDE_FROM: usize = 9;

    fn cells(&self) -> Vec<String> {
        let dash = || "–".to_owned();
        let amount = |value: Option<f64>| value.map_or_else(dash, |value| self.amount(value));
        vec![
            self.subject.clone(),
            self.named(),
            self.amount(self.now),
            amount(self.expected),
            amount(self.high),
            amount(self.limit),
            self.headroom.map_or_else(dash, painted_headroom),
            self.verdict.clone(),
            self.rests_on(),
            self.hosts.to_string(),
            self.amount(self.peak),
            self.trend_per_day.map_or_else(dash, |trend| self.signed(trend)),
            self.season.clone().unwrap_or_else(dash),
            self.chance.map_or_else(dash, |chance| format!("{:.0}%", chance * 100.0)),
        ]
    }
}

/// What is left above the high quantile, in the colour that fits it.
fn painted_headroom(share: f64) -> String {
    let text = format!("{:.0}%", share * 100.0);
    match share {
        _ if share < 0.0 => output::paint("31", &text),
        _ if share < 0.1 => output::paint("33", &text),
        _ => text,
    }
}

impl CapacityRow {
    fn new(row: &CapacityView, asked: Duration) -> Self {
        let is_fit = row.unfit.is_empty();
        let only = |value: f64| is_fit.then_some(value);
        let moment = |ms: Option<i64>| ms.and_then(view::moment);
        let days = row.days.iter().map(|day| DayRow {
            from: view::moment(day.from_ms),
            expected: day.expected,
            high: day.high,
        });
        Self {
            subject: if row.subject.is_empty() { "(none)".to_owned() } else { row.subject.clone() },
            hosts: row.hosts,
            resource: row.resource.clone(),
            part: row.part.clone(),
            unit: row.unit.clone(),
            now: row.now,
            peak: row.peak,
            limit: row.limit,
            expected: only(row.expected),
            high: only(row.high),
            high_share: row.high_share,
            headroom: row.headroom,
            verdict: verdict(row, asked),
            chance: row.chance,
            met: moment(row.met_ms),
            earliest: moment(row.earliest_ms),
            latest: moment(row.latest_ms),
            trend_per_day: only(row.trend_per_day),
            season: is_fit.then(|| row.season.clone()),
            days: days.collect(),
            history_days: hours(row.history_ms) / 24.0,
            completeness: row.completeness,
            resolution_s: f64::from(u32::try_from(row.resolution_ms).unwrap_or(u32::MAX)) / 1e3,
            no_forecast: (!is_fit).then(|| row.unfit.clone()),
        }
    }

    fn named(&self) -> String {
        if self.part.is_empty() { self.resource.clone() } else { format!("{} {}", self.resource, self.part) }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes, never negative")]
    fn amount(&self, value: f64) -> String {
        match self.unit.as_str() {
            "bytes" => words::bytes(value.max(0.0) as u64),
            "bytes/s" => format!("{}/s", words::bytes(value.max(0.0) as u64)),
            _ if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        }
    }

    fn signed(&self, value: f64) -> String {
        format!("{}{}", if value < 0.0 { "-" } else { "+" }, self.amount(value.abs()))
    }

    /// `28d, 99.7%, 10s`
    fn rests_on(&self) -> String {
        let span = if self.history_days < 2.0 {
            format!("{:.0}h", self.history_days * 24.0)
        } else {
            format!("{:.0}d", self.history_days.floor())
        };
        // What is missing is never rounded away.
        let share = match self.completeness * 100.0 {
            share if share < 100.0 => format!("{:.1}%", share.min(99.9)),
            _ => "100%".to_owned(),
        };
        format!("{span}, {share}, {:.0}s", self.resolution_s)
    }
}

#[allow(clippy::cast_precision_loss, reason = "hours of some months")]
fn hours(ms: u64) -> f64 {
    ms as f64 / 3_600_000.0
}

/// When the limit is met, in words.
fn verdict(row: &CapacityView, asked: Duration) -> String {
    if !row.unfit.is_empty() {
        return row.unfit.clone();
    }
    if row.limit.is_none() {
        return "no known limit".to_owned();
    }
    let or_later = |ms: Option<i64>| ms.map_or_else(|| "later".to_owned(), words::date_hour);
    match row.met_ms {
        Some(met) => {
            let interval = format!("({} … {})", or_later(row.earliest_ms), or_later(row.latest_ms));
            output::paint("31", &format!("{} {interval}", words::date_hour(met)))
        }
        None => {
            let within = words::short(u64::try_from(asked.as_millis()).unwrap_or(u64::MAX));
            let perhaps = row.earliest_ms.map(|ms| format!(" (1 in 10: {})", words::date_hour(ms)));
            format!("not within {within}{}", perhaps.unwrap_or_default())
        }
    }
}

/// Asks and prints.
pub(crate) async fn run(args: &CapacityArgs, context: &Context) -> Result<Exit, Failure> {
    let name = |resource: &Resource| resource.to_possible_value().map(|value| value.get_name().to_owned());
    let request = CapacityRequest {
        labels: super::labels(&args.labels),
        host_glob: args.host.clone().unwrap_or_default(),
        by: args.by.clone().unwrap_or_default(),
        resources: args.resources.iter().filter_map(name).collect(),
        horizon_ms: u64::try_from(args.ahead.as_millis()).unwrap_or(u64::MAX),
        full_at: args.full_at,
    };
    let answer = connect::queries(context).await?.capacity(request).await?.into_inner();
    let rows: Vec<_> = answer.rows.iter().map(|row| CapacityRow::new(row, args.ahead)).collect();
    if context.format == Format::Plot {
        plots(&rows)?;
    } else {
        output::rows(context, &rows)?;
    }
    if context.format.is_for_people() {
        footnotes(&answer);
    }
    Ok(Exit::Success)
}

/// What is expected of the busiest hour of each day ahead, and the high quantile, as lines of bars.
fn plots(rows: &[CapacityRow]) -> Result<(), Failure> {
    for row in rows {
        output::line_out(&format!("{} {}  {}", row.subject, row.named(), row.verdict))?;
        for (name, of) in [("expected", DayRow::expected as fn(&DayRow) -> f64), ("95%", DayRow::high)] {
            let values: Vec<f64> = row.days.iter().map(of).collect();
            let Some((first, last)) = values.first().zip(values.last()) else { continue };
            let ends = format!("{} … {}", row.amount(*first), row.amount(*last));
            output::line_out(&format!("  {name:<9} {}  {ends}", sparkline(&values)))?;
        }
    }
    Ok(())
}

impl DayRow {
    fn expected(&self) -> f64 {
        self.expected
    }

    fn high(&self) -> f64 {
        self.high
    }
}

fn footnotes(answer: &CapacityResponse) {
    if answer.rows.is_empty() {
        output::say("no host has sent any of it: `mainstay hosts` shows which are there");
    }
    if answer.truncated {
        output::say("cut short: narrow it down by --host, --selector or --resource");
    }
    for damaged in &answer.damaged {
        output::say(&format!("cannot be read and is missing: {damaged}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn row() -> CapacityView {
        CapacityView {
            subject: "web-1".into(),
            hosts: 1,
            resource: "disk".into(),
            part: "/var".into(),
            unit: "bytes".into(),
            now: 40.0 * 1024.0 * 1024.0,
            limit: Some(100.0 * 1024.0 * 1024.0),
            expected: 90.0 * 1024.0 * 1024.0,
            high: 95.0 * 1024.0 * 1024.0,
            headroom: Some(0.05),
            history_ms: 28 * 86_400_000,
            completeness: 0.999_99,
            resolution_ms: 10_000,
            ..CapacityView::default()
        }
    }

    #[test]
    fn a_percentage_is_of_the_limit() {
        assert_eq!(percent("85%"), Ok(0.85));
        assert_eq!(percent("85"), Ok(0.85));
        for bad in ["", "0", "101%", "-5", "x", "NaN"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_will_be_is_said_in_a_line() {
        let month = Duration::from_secs(30 * 86_400);
        let cells = |row: &CapacityView| CapacityRow::new(row, month).cells();
        let fine = cells(&row());
        assert_eq!(
            fine[1..9],
            ["disk /var", "40.0 MiB", "90.0 MiB", "95.0 MiB", "100.0 MiB", "5%", "not within 30d", "28d, 99.9%, 10s"]
        );
        let perhaps = CapacityView { earliest_ms: Some(20 * DAY_MS), ..row() };
        assert!(cells(&perhaps)[7].starts_with("not within 30d (1 in 10: 1970-01-"), "{}", cells(&perhaps)[7]);
        let met = CapacityView { met_ms: Some(25 * DAY_MS), ..perhaps };
        assert!(cells(&met)[7].ends_with("… later)"), "{}", cells(&met)[7]);
        let unlimited = CapacityView { limit: None, headroom: None, ..row() };
        assert_eq!(cells(&unlimited)[5..8], ["–", "–", "no known limit"]);
        let unfit = CapacityView { unfit: "5 h of history: no forecast".into(), headroom: None, ..row() };
        assert_eq!(cells(&unfit)[3..8], ["–", "–", "100.0 MiB", "–", "5 h of history: no forecast"]);
    }
}
