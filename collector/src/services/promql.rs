//! PromQL for operators: the same engine as the HTTP API's, behind the same check of who asks as every
//! other question.

use mainstay_fleet::rollup::Tier;
use mainstay_promql::{EvalError, Interrupted, Labels, NAME, Point, Span, Value};
use mainstay_proto::v1;
use tonic::Status;

use crate::clock;
use crate::hub::Hub;
use crate::query::standing::{NAMED_MAX, Standing};
use crate::query::{self, Outcome, QueryError, Stop};

/// Answers `QueryRange` where it holds PromQL.
///
/// # Errors
/// If it is no query, or cannot be evaluated.
pub fn query(hub: &Hub, request: &v1::QueryRangeRequest, stop: &Stop) -> Result<v1::QueryRangeResponse, Status> {
    let span = match i64::from(request.step_ms) {
        0 => Span::Instant { at_ms: request.to_ms },
        step_ms => Span::Range { start_ms: request.from_ms, end_ms: request.to_ms, step_ms },
    };
    let outcome = query::run(hub, &request.promql, span, stop).map_err(|error| status(&error))?;
    let completeness = outcome.seen.completeness();
    let resolution = outcome.seen.tier.map_or("raw", Tier::name).to_owned();
    let damaged = outcome.seen.damaged.clone();
    let hosts: Vec<v1::HostView> = outcome.seen.standing().take(NAMED_MAX).map(Standing::view).collect();
    let hosts_more = (outcome.seen.standing().count() - hosts.len()) as u64;
    // What earlier versions of the command line know of it.
    let truncated = !damaged.is_empty();
    Ok(v1::QueryRangeResponse {
        series: series(outcome, request.to_ms)?,
        completeness,
        truncated,
        resolution,
        damaged,
        hosts,
        hosts_more,
        now_ms: clock::wall_ms(),
        ..Default::default()
    })
}

fn status(error: &QueryError) -> Status {
    let text = error.to_string();
    match error {
        QueryError::Parse(_)
        | QueryError::Eval(EvalError::Execution(_) | EvalError::NotOverRange(_) | EvalError::TooManySteps { .. }) => {
            Status::invalid_argument(text)
        }
        QueryError::Eval(EvalError::TooManySamples(_) | EvalError::TooManyValues(_)) => {
            Status::resource_exhausted(text)
        }
        QueryError::Eval(EvalError::Interrupted(why)) => interrupted(*why),
        QueryError::Eval(EvalError::Source(_)) => Status::internal(text),
    }
}

/// Why a question was not answered to its end.
pub(crate) fn interrupted(why: Interrupted) -> Status {
    let text = EvalError::Interrupted(why).to_string();
    match why {
        Interrupted::TimedOut => Status::deadline_exceeded(text),
        Interrupted::Cancelled => Status::cancelled(text),
    }
}

fn series(outcome: Outcome, at_ms: i64) -> Result<Vec<v1::SeriesPoints>, Status> {
    Ok(match outcome.answer.value {
        Value::Text(_) => return Err(Status::invalid_argument("a text alone is no question about series")),
        Value::Scalar(value) => vec![points(&Labels::none(), vec![(at_ms, value)])],
        Value::Vector(all) => all.iter().map(|(labels, value)| points(labels, vec![(at_ms, *value)])).collect(),
        Value::Matrix(all) => all.into_iter().map(|(labels, of)| points(&labels, of)).collect(),
    })
}

fn points(labels: &Labels, points: Vec<Point>) -> v1::SeriesPoints {
    let own = labels.iter().filter(|(name, _)| *name != NAME);
    let own = own.map(|(name, value)| v1::Label { name: name.to_owned(), value: value.to_owned() }).collect();
    let key = v1::SeriesKey { name: labels.get(NAME).to_owned(), labels: own };
    let (at_ms, values) = points.into_iter().unzip();
    v1::SeriesPoints { key: Some(key), at_ms, values }
}
