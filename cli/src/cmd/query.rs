//! `mainstay query`: series by name and label matchers over a range of time, or PromQL.

use std::time::Duration;

use clap::Args;
use mainstay_proto::v1::{Matcher, QueryRangeRequest, QueryRangeResponse, SeriesPoints};
use serde::Serialize;

use super::host::series_name;
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::Completeness;
use crate::output::{self, Format};
use crate::{draw, view, words};

/// Most points that are asked for at once.
const POINTS_MAX: u32 = 1_000_000;

/// Arguments of `mainstay query`.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// A metric and label matchers, such as node_filesystem_avail_bytes{mountpoint="/",host=~"web-.*"}, whose stored
    /// points are shown; or any PromQL, such as 'topk(5, rate(node_network_receive_bytes_total[5m]))'.
    /// NAME:min, NAME:max and NAME:mean stand beside NAME for gauges
    expression: String,
    /// How far back (default: 5m; PromQL is evaluated now if neither this nor --step is given)
    #[arg(long, value_parser = crate::arguments::duration)]
    range: Option<Duration>,
    /// One point every STEP (default: every point that is stored; of PromQL 60 points of the range)
    #[arg(long, value_parser = crate::arguments::duration)]
    step: Option<Duration>,
}

/// How far back without --range.
const RANGE: Duration = Duration::from_secs(300);
/// Points of a PromQL range without --step.
const STEPS: u32 = 60;

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    seen: Completeness,
    truncated: bool,
    series: Vec<SeriesDoc>,
}

#[derive(Debug, Serialize)]
struct SeriesDoc {
    name: String,
    labels: std::collections::BTreeMap<String, String>,
    points: Vec<(Option<String>, f64)>,
}

/// Asks and prints.
pub(crate) async fn run(args: &QueryArgs, context: &Context) -> Result<Exit, Failure> {
    let request = request(args);
    let from_ms = request.from_ms;
    let answer = connect::queries(context).await?.query_range(request).await?.into_inner();
    match context.format {
        Format::Json | Format::Yaml => output::document(context, &document(&answer, from_ms))?,
        Format::Plot => plots(&answer)?,
        Format::Table | Format::Wide => tables(&answer)?,
    }
    if context.format.is_for_people() {
        footnotes(&answer, from_ms);
    }
    Ok(Exit::Success)
}

/// A name with matchers is asked for its stored points; everything else is PromQL, and the collector
/// says what is wrong with it.
fn request(args: &QueryArgs) -> QueryRangeRequest {
    let range = args.range.unwrap_or(RANGE);
    let millis = |step: Duration| u32::try_from(step.as_millis()).unwrap_or(u32::MAX);
    let request = QueryRangeRequest {
        from_ms: super::since(range),
        to_ms: super::wall_ms(),
        step_ms: args.step.map_or(0, millis),
        points_max: POINTS_MAX,
        ..Default::default()
    };
    match parse(&args.expression) {
        Ok((name, matchers)) => QueryRangeRequest { name, matchers, ..request },
        Err(_) => {
            let step_ms = match (args.step, args.range) {
                (None, None) => 0,
                (None, Some(_)) => millis(range / STEPS).max(1),
                (Some(step), _) => millis(step),
            };
            QueryRangeRequest { promql: args.expression.clone(), step_ms, ..request }
        }
    }
}

fn document(answer: &QueryRangeResponse, from_ms: i64) -> Answer {
    let series = answer
        .series
        .iter()
        .map(|series| {
            let key = series.key.clone().unwrap_or_default();
            SeriesDoc {
                name: key.name,
                labels: key.labels.into_iter().map(|label| (label.name, label.value)).collect(),
                points: points(series).map(|(at_ms, value)| (view::moment(at_ms), value)).collect(),
            }
        })
        .collect();
    Answer { seen: Completeness::of_answer(answer, from_ms), truncated: answer.truncated, series }
}

fn points(series: &SeriesPoints) -> impl Iterator<Item = (i64, f64)> {
    series.at_ms.iter().copied().zip(series.values.iter().copied())
}

fn tables(answer: &QueryRangeResponse) -> Result<(), Failure> {
    for series in &answer.series {
        output::line_out(&series_name(&series.key.clone().unwrap_or_default()))?;
        for (at_ms, value) in points(series) {
            output::line_out(&format!("  {}  {value}", words::date_time(at_ms)))?;
        }
    }
    Ok(())
}

fn footnotes(answer: &QueryRangeResponse, from_ms: i64) {
    if answer.series.is_empty() {
        output::say("no series by this name and these labels in that range");
    }
    Completeness::of_answer(answer, from_ms).footnotes();
    if answer.truncated && answer.damaged.is_empty() {
        output::say("cut short: ask for a shorter range or a longer --step");
    }
}

fn plots(answer: &QueryRangeResponse) -> Result<(), Failure> {
    for series in &answer.series {
        output::line_out(&series_name(&series.key.clone().unwrap_or_default()))?;
        let values: Vec<_> = points(series).map(|(_, value)| value).filter(|value| value.is_finite()).collect();
        let (least, greatest) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
        if values.is_empty() {
            output::line_out("  no points")?;
            continue;
        }
        output::line_out(&format!("  {}  {least} … {greatest}", draw::sparkline(&values)))?;
        if let (Some(first), Some(last)) = (series.at_ms.first(), series.at_ms.last()) {
            output::line_out(&format!("  {} … {}", words::date_time(*first), words::date_time(*last)))?;
        }
    }
    Ok(())
}

/// Reads `name{label="value",other=~"regex"}`.
fn parse(text: &str) -> Result<(String, Vec<Matcher>), String> {
    let text = text.trim();
    let name_end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    if name.is_empty() {
        return Err(format!("expected a metric name at the beginning of `{text}`"));
    }
    let mut rest = rest.trim();
    let mut matchers = Vec::new();
    if rest.is_empty() {
        return Ok((name.to_owned(), matchers));
    }
    rest = rest.strip_prefix('{').ok_or_else(|| format!("expected {{ after `{name}`, found `{rest}`"))?;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            let after = after.trim();
            return if after.is_empty() {
                Ok((name.to_owned(), matchers))
            } else {
                Err(format!("`{after}` after the closing brace"))
            };
        }
        let (matcher, after) = parse_matcher(rest)?;
        matchers.push(matcher);
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None if rest.starts_with('}') => rest,
            None => return Err(format!("expected , or }} before `{rest}`")),
        };
    }
}

fn parse_matcher(text: &str) -> Result<(Matcher, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (label, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let op = ["=~", "!~", "!=", "="]
        .into_iter()
        .find(|op| rest.starts_with(op))
        .filter(|_| !label.is_empty())
        .ok_or_else(|| format!("expected LABEL=\"VALUE\" at `{text}`"))?;
    let quoted = rest[op.len()..].trim_start();
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    if chars.next().is_none_or(|(_, quote)| quote != '"') {
        return Err(format!("expected a value in double quotes at `{quoted}`"));
    }
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let matcher = Matcher { label: label.to_owned(), op: op.to_owned(), value };
                return Ok((matcher, &quoted[at + 1..]));
            }
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(format!("the quote at `{quoted}` is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_with_matchers() {
        let (name, matchers) =
            parse(r#"node_filesystem_avail_bytes:min{mountpoint="/a\"b", host=~"web-.*",}"#).unwrap();
        assert_eq!(name, "node_filesystem_avail_bytes:min");
        let read: Vec<_> = matchers.iter().map(|m| (m.label.as_str(), m.op.as_str(), m.value.as_str())).collect();
        assert_eq!(read, [("mountpoint", "=", "/a\"b"), ("host", "=~", "web-.*")]);
        assert_eq!(parse("node_load1").unwrap(), ("node_load1".to_owned(), vec![]));
    }

    #[test]
    fn says_what_was_expected_where() {
        for (text, says) in [
            ("", "expected a metric name"),
            ("rate(x[5m])", "expected {"),
            ("x{a}", "expected LABEL"),
            ("x{a=b}", "double quotes"),
            (r#"x{a="b}"#, "not closed"),
            (r#"x{a="b" c="d"}"#, "expected , or }"),
            (r#"x{a="b"} + 1"#, "after the closing brace"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }

    #[test]
    fn what_is_no_name_with_matchers_is_promql() {
        let args = |expression: &str, range: Option<u64>, step: Option<u64>| QueryArgs {
            expression: expression.to_owned(),
            range: range.map(Duration::from_secs),
            step: step.map(Duration::from_secs),
        };
        let stored = request(&args("node_load1{host=\"a\"}", None, None));
        assert_eq!((stored.name.as_str(), stored.promql.as_str(), stored.step_ms), ("node_load1", "", 0));
        assert!((stored.to_ms - stored.from_ms - 300_000).abs() < 10_000);
        for (range, step, step_ms) in [(None, None, 0), (Some(3600), None, 60_000), (None, Some(10), 10_000)] {
            let asked = request(&args("sum(node_load1)", range, step));
            assert_eq!((asked.name.as_str(), asked.promql.as_str(), asked.step_ms), ("", "sum(node_load1)", step_ms));
        }
    }
}
