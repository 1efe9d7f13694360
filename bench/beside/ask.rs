//! The same questions, asked of all over HTTP in turn.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::http::escaped;
use super::{HOUR_MS, Plan, Side, call, name};

/// Never more than twice behind, and ahead at questions about the whole fleet.
const GOAL: &str = "at most 2";
const GOAL_OF_FLEETS: &str = "less than 1";

/// A question and how long its answers took.
pub(crate) struct Row {
    pub(crate) question: String,
    /// Milliseconds of the first answer, the middle one and the 99th of 100, of each side.
    pub(crate) took: Vec<[f64; 3]>,
    /// What [`Row::ratio`] is to be.
    pub(crate) goal: &'static str,
    /// Whether prometheus answers the same; `None` where nothing was compared.
    pub(crate) is_same: Option<bool>,
}

impl Row {
    /// The middle of the first side over that of the better other one.
    pub(crate) fn ratio(&self) -> f64 {
        self.took[0][1] / self.took[1..].iter().map(|took| took[1]).fold(f64::INFINITY, f64::min)
    }
}

/// Asks what holds `only`, each so many times.
pub(super) fn questions(plan: &Plan, rounds: u32, only: &str, sides: &[Side]) -> Result<Vec<Row>> {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    // Answers that were kept from before are no answers to these questions.
    let at = format!("&time={}&nocache=1", seconds(plan.to_ms));
    let span = format!("&start={}&end={}", seconds(plan.to_ms - HOUR_MS), seconds(plan.to_ms));
    let range = |step: u32| format!("{span}&step={step}&nocache=1");
    let all = [
        ("topk(10, avg_over_time(node_load1[1h]))", at.clone()),
        ("sum by (role) (rate(node_network_receive_bytes_total{device=\"00\"}[5m]))", at.clone()),
        ("count(node_load1 > 0.5)", at.clone()),
        ("quantile by (role) (0.99, max_over_time(mainstay_unit_memory_current_bytes[1h]))", at.clone()),
        ("topk(5, sum by (instance) (rate(node_cpu_seconds_total[5m])))", at.clone()),
        ("sum by (role) (rate(node_context_switches_total[5m]))", range(60)),
        ("avg_over_time(node_load1{instance=\"HOST:9100\"}[1h])", at),
        ("sum by (cpu) (rate(node_cpu_seconds_total{instance=\"HOST:9100\"}[5m]))", range(15)),
        ("{instance=\"HOST:9100\",__name__=~\"node_memory.*\"}", range(15)),
    ];
    let mut rows = Vec::new();
    for (query, how) in all.into_iter().filter(|(query, _)| query.contains(only)) {
        let path = if how.contains("step") { "/api/v1/query_range" } else { "/api/v1/query" };
        let url = |round: u32| {
            let host = name(1 + round * 7_919 % plan.hosts);
            format!("{path}?query={}{how}", escaped(&query.replace("HOST", &host)))
        };
        let took = took(rounds, sides, url)?;
        let question = format!("`{query}`{}", if how.contains("step") { " over 1 h" } else { "" });
        let goal = if query.contains("HOST") { GOAL } else { GOAL_OF_FLEETS };
        rows.push(Row { question, took, goal, is_same: Some(same(sides, &url(0))?) });
    }
    for label in ["__name__", "instance"] {
        let took = took(rounds, sides, |_| format!("/api/v1/label/{label}/values?{}", &span[1..]))?;
        rows.push(Row { question: format!("values of `{label}`"), took, goal: GOAL, is_same: None });
    }
    Ok(rows)
}

/// What a question took on each side: the first time, in the middle, and the 99th of 100.
fn took(rounds: u32, sides: &[Side], url: impl Fn(u32) -> String) -> Result<Vec<[f64; 3]>> {
    let mut took = vec![Vec::new(); sides.len()];
    for round in 0..rounds {
        for (side, took) in sides.iter().zip(&mut took) {
            let started = Instant::now();
            let (status, said) = call(side.at, "GET", &url(round), &[])?;
            ensure!(status == 200, "{}: {}: {status} {}", side.name, url(round), String::from_utf8_lossy(&said));
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    let of = |mut took: Vec<f64>| {
        let first = took[0];
        took.sort_by(f64::total_cmp);
        let at = |percent: usize| took[((took.len() - 1) * percent).div_ceil(100)];
        [first, at(50), at(99)]
    };
    Ok(took.into_iter().map(of).collect())
}

/// Whether mainstay and prometheus answer the same, up to the order in which decimals are added.
fn same(sides: &[Side], url: &str) -> Result<bool> {
    let answer = |side: &Side| -> Result<Vec<(String, Vec<f64>)>> {
        let document: Value = serde_json::from_slice(&call(side.at, "GET", url, &[])?.1)?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        let series =
            document["data"]["result"].as_array().context("an answer without a result")?.iter().map(|series| {
                let one = std::slice::from_ref(&series["value"]);
                let pairs = series["values"].as_array().map_or(one, Vec::as_slice);
                (series["metric"].to_string(), pairs.iter().map(|pair| number(&pair[1])).collect())
            });
        let mut series: Vec<(String, Vec<f64>)> = series.collect();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(series)
    };
    let (ours, theirs) = (answer(&sides[0])?, answer(&sides[1])?);
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    Ok(!ours.is_empty()
        && ours.len() == theirs.len()
        && ours
            .iter()
            .zip(&theirs)
            .all(|(a, b)| a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(near)))
}
