//! Prometheus' HTTP API, so that Grafana and promtool work as they are.
//!
//! In: requests below `/api/v1/`, parameters in the URL or as a form. Out: Prometheus' JSON and error
//! types, with `mainstay` beside `data`: how complete the answer is. Read only; who reaches the port may ask.

mod form;
mod json;

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use mainstay_promql::{EvalError, Interrupted, Span, duration_ms, parse_selector};

use crate::clock;
use crate::hub::Hub;
use crate::query::names::{self, Names};
use crate::query::{self, QueryError, Stop};
use form::Form;

/// Where it lies.
pub const PREFIX: &str = "/api/v1/";
/// Most bytes of a form.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Without a start, names are looked for in the last hour.
const NAMES_MS: i64 = 3_600_000;
/// Most names of one answer if it does not ask for fewer.
const NAMES_MAX: usize = 100_000;

/// Why there is no answer, in Prometheus' words.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Refused {
    fn bad_data(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "bad_data", text: text.into() }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        respond(self.status, json::error(self.kind, &self.text))
    }
}

impl From<EvalError> for Refused {
    fn from(error: EvalError) -> Self {
        let (status, kind) = match &error {
            EvalError::NotOverRange(_) | EvalError::TooManySteps { .. } => (StatusCode::BAD_REQUEST, "bad_data"),
            EvalError::Execution(_) | EvalError::TooManySamples(_) | EvalError::TooManyValues(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "execution")
            }
            EvalError::Interrupted(Interrupted::TimedOut) => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            EvalError::Interrupted(Interrupted::Cancelled) => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
            EvalError::Source(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self { status, kind, text: error.to_string() }
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Parse(error) => Self::bad_data(format!("invalid parameter \"query\": {error}")),
            QueryError::Eval(error) => error.into(),
        }
    }
}

/// Answers one request.
pub async fn answer(hub: Arc<Hub>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match route(hub, request).await {
        Ok(body) => respond(StatusCode::OK, body),
        Err(refused) => refused.response(),
    }
}

fn respond(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

async fn route(hub: Arc<Hub>, request: Request<Incoming>) -> Result<String, Refused> {
    let is_post = request.method() == Method::POST;
    if !is_post && request.method() != Method::GET {
        let text = "only GET and POST are answered here".to_owned();
        return Err(Refused { status: StatusCode::METHOD_NOT_ALLOWED, kind: "bad_data", text });
    }
    let path = request.uri().path()[PREFIX.len()..].to_owned();
    let mut form = Form::default();
    form.read(request.uri().query().unwrap_or_default().as_bytes());
    if is_post {
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
        form.read(&body.map_err(|error| Refused::bad_data(format!("cannot read the form: {error}")))?.to_bytes());
    }
    match path.as_str() {
        "status/buildinfo" => return Ok(json::build_info()),
        "query_exemplars" => return Ok(json::nothing()),
        _ => {}
    }
    let stop = Stop::after(form.timeout()?);
    let answered = query::in_turn(&hub, &hub.turns.http, stop, move |hub, stop| ask(hub, &path, &form, stop)).await;
    answered.unwrap_or_else(|text| Err(Refused { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "internal", text }))
}

fn ask(hub: &Hub, path: &str, form: &Form, stop: &Stop) -> Result<String, Refused> {
    let now_ms = clock::wall_ms();
    match path {
        "query" => {
            let at_ms = form.time("time")?.unwrap_or(now_ms);
            let outcome = query::run(hub, form.required("query")?, Span::Instant { at_ms }, stop)?;
            Ok(json::outcome(&outcome, at_ms))
        }
        "query_range" => {
            let (start_ms, end_ms) = (form.required_time("start")?, form.required_time("end")?);
            let step = form.required("step")?;
            let step_ms = duration_ms(step).filter(|ms| *ms > 0).ok_or_else(|| {
                Refused::bad_data(
                    "invalid parameter \"step\": zero or negative query resolution step widths are not accepted",
                )
            })?;
            if end_ms < start_ms {
                return Err(Refused::bad_data(
                    "invalid parameter \"end\": end timestamp must not be before start time",
                ));
            }
            let outcome = query::run(hub, form.required("query")?, Span::Range { start_ms, end_ms, step_ms }, stop)?;
            Ok(json::outcome(&outcome, start_ms))
        }
        "series" => {
            let names = of_names(form, now_ms)?;
            if names.selectors.is_empty() {
                return Err(Refused::bad_data("no match[] parameter provided"));
            }
            Ok(json::series(&names::series(hub, &names, stop)?))
        }
        "labels" => Ok(json::strings(&names::labels(hub, &of_names(form, now_ms)?, stop)?)),
        "metadata" => Ok(json::metadata(&names::metrics(hub)?, form.get("metric"))),
        _ => match path.strip_prefix("label/").and_then(|rest| rest.strip_suffix("/values")) {
            Some(label) if !label.is_empty() && !label.contains('/') => {
                Ok(json::strings(&names::values(hub, &form::decoded(label), &of_names(form, now_ms)?, stop)?))
            }
            _ => {
                let text = format!("{PREFIX}{path} is not answered here");
                Err(Refused { status: StatusCode::NOT_FOUND, kind: "not_found", text })
            }
        },
    }
}

fn of_names(form: &Form, now_ms: i64) -> Result<Names, Refused> {
    let selectors = form.all("match[]").map(|text| {
        parse_selector(text).map_err(|error| Refused::bad_data(format!("invalid parameter \"match[]\": {error}")))
    });
    let to = form.time("end")?.unwrap_or(now_ms);
    let from = form.time("start")?.unwrap_or_else(|| to.saturating_sub(NAMES_MS));
    let limit = form.get("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0);
    Ok(Names {
        selectors: selectors.collect::<Result<_, _>>()?,
        span: (from, to),
        limit: limit.map_or(NAMES_MAX, |limit: usize| limit.min(NAMES_MAX)),
    })
}
