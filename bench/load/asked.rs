//! Questions to the collector's own program over HTTP, while its hosts send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mainstay_collector::clock;

use super::http::{escaped, http};

const HOUR_MS: i64 = 3_600_000;
/// Between two points of a panel.
const PANEL_STEP_SECONDS: u32 = 15;

/// A question, and how long its answers took.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: &'static str,
    /// Within which 99 of 100 answers are to be there, in milliseconds.
    pub(crate) goal_ms: u32,
    /// Each of them, as they were asked.
    took: Vec<Duration>,
}

impl Asked {
    /// Within which so many of a hundred answers were there.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took[((took.len() - 1) * percent).div_ceil(100)]
    }

    /// The first answer.
    pub(crate) fn first(&self) -> Duration {
        self.took[0]
    }

    /// Those that took longest, with which of all each was.
    pub(crate) fn slowest(&self, count: usize) -> Vec<(usize, Duration)> {
        let mut took: Vec<(usize, Duration)> = (1..).zip(self.took.iter().copied()).collect();
        took.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        took.truncate(count);
        took
    }
}

/// What is asked for.
enum Of {
    /// An expression now.
    Now,
    /// An expression over the last hour.
    Panel,
    /// The values of a label, of what a selector means.
    Label(&'static str),
}

/// Questions of a goal: about all hosts, about one, and what there is to choose from. HOST stands for one or another.
const QUESTIONS: [(&str, Of, u32); 6] = [
    ("topk(10, avg_over_time(node_load1[1h]))", Of::Now, 500),
    ("avg_over_time(node_load1{host=\"HOST\"}[1h])", Of::Now, 50),
    ("sum by (cpu) (rate(node_cpu_seconds_total{host=\"HOST\"}[5m]))", Of::Panel, 50),
    ("mainstay_unit_memory_current_bytes:max{host=\"HOST\"}", Of::Panel, 50),
    ("{__name__=\"mainstay_unit_memory_current_bytes\"}", Of::Label("unit"), 20),
    ("{host=\"HOST\"}", Of::Label("__name__"), 20),
];

/// Asks each question so often; `hosts` are there, called host-00000 and on.
///
/// # Errors
/// If an answer is none, or empty.
pub(crate) fn ask(at: SocketAddr, hosts: usize, rounds: usize) -> Result<Vec<Asked>> {
    ensure!(hosts > 0 && rounds > 0, "nobody to ask about, or nothing to ask");
    QUESTIONS.iter().map(|(question, of, goal_ms)| ask_one(at, question, of, *goal_ms, hosts, rounds)).collect()
}

fn ask_one(
    at: SocketAddr,
    question: &'static str,
    of: &Of,
    goal_ms: u32,
    hosts: usize,
    rounds: usize,
) -> Result<Asked> {
    let mut took = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let text = escaped(&question.replace("HOST", &format!("host-{:05}", round * 7_919 % hosts)));
        let now_ms = clock::wall_ms();
        let seconds = |ms: i64| ms as f64 / 1e3;
        let (from, to) = (seconds(now_ms - HOUR_MS), seconds(now_ms));
        let path = match of {
            Of::Now => format!("/api/v1/query?query={text}&time={to}"),
            Of::Panel => format!("/api/v1/query_range?query={text}&start={from}&end={to}&step={PANEL_STEP_SECONDS}"),
            Of::Label(label) => format!("/api/v1/label/{label}/values?match[]={text}&start={from}&end={to}"),
        };
        let started = Instant::now();
        let (status, answer) = http(at, "GET", &path, "", &[])?;
        took.push(started.elapsed());
        let answer = String::from_utf8_lossy(&answer);
        let document: serde_json::Value =
            serde_json::from_str(&answer).with_context(|| format!("{question}: {status}: {answer}"))?;
        let data = &document["data"];
        let answers = data.as_array().or_else(|| data["result"].as_array());
        ensure!(answers.is_some_and(|answers| !answers.is_empty()), "{question} has no answer: {status}: {answer}");
    }
    Ok(Asked { question, goal_ms, took })
}
