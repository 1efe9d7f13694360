//! `POST /hooks/deploy`: how a pipeline says that it has deployed something.
//!
//! In: JSON of at most [`BODY_BYTES_MAX`] bytes with a bearer token that root has put in a file. Out: a mark among the
//! changes of the hosts that it names, recorded as a command of `deploy-hook@local`. Without a token in the settings there
//! is no such door. It can leave marks and nothing else.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};
use mainstay_proto::v1;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::enrol::identity::Role;
use crate::hub::Hub;
use crate::services::changes;
use crate::services::command::Commands;
use crate::words;

/// Where it is.
pub const PATH: &str = "/hooks/deploy";

/// Longest body.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Shortest token: 128 bits in hexadecimal.
pub const TOKEN_BYTES_MIN: usize = 32;

/// Who leaves these marks. Operators cannot have such a name.
const OPERATOR: &str = "deploy-hook@local";

/// What is posted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deployment {
    /// What was deployed: `shop 1.42`.
    name: String,
    /// One host, by name or id.
    #[serde(default)]
    host: String,
    /// Hosts with all of these labels; every host without any.
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    /// More about it: a commit, a link.
    #[serde(default)]
    text: String,
    /// Who or what deployed it.
    #[serde(default)]
    by: String,
}

/// Answers one request: what to say, and how.
pub async fn answer(hub: &Arc<Hub>, request: Request<Incoming>) -> (StatusCode, String) {
    match take(hub, request).await {
        Ok(hosts) => (StatusCode::OK, format!("marked on {}\n", words::hosts(hosts))),
        Err((status, why)) => (status, why + "\n"),
    }
}

async fn take(hub: &Arc<Hub>, request: Request<Incoming>) -> Result<u32, (StatusCode, String)> {
    let refuse = |status, why: &str| Err((status, why.to_owned()));
    let Some(token) = hub.settings().deploy_token else {
        return refuse(StatusCode::NOT_FOUND, "no deploy_token_file is set in collector.toml");
    };
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is answered here");
    }
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Hashes of a secret: nothing is learned from how long comparing them takes.
    if given.map(hash) != Some(token) {
        return refuse(StatusCode::UNAUTHORIZED, "a bearer token is needed, that of deploy_token_file");
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let Ok(body) = body else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body cannot be read, or has more than 16384 bytes");
    };
    let deployment: Deployment = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("not a deployment: {error}")))?;
    let name = deployment.name.clone();
    let by = if deployment.by.is_empty() { "deploy hook".to_owned() } else { deployment.by.clone() };
    let labels = deployment.labels.into_iter().map(|(name, value)| v1::Label { name, value }).collect();
    let mark = v1::MarkEventRequest {
        kind: "deploy".to_owned(),
        name: deployment.name,
        selector: Some(v1::Selector { labels, host: deployment.host }),
        text: deployment.text,
        at_ms: 0,
    };
    let marked = if changes::is_author(&by) {
        changes::mark(hub, mark, &by).await
    } else {
        Err(tonic::Status::invalid_argument("`by` has at most 128 bytes of one line"))
    };
    let said = marked.as_ref().map(|answer| format!("marked on {}", words::hosts(answer.hosts)));
    let recorded = said.as_ref().map(String::as_str).map_err(|status| *status);
    Commands::new(hub.clone()).record_of(OPERATOR, Role::Operator, &format!("event deploy {name}"), recorded).await;
    marked.map(|answer| answer.hosts).map_err(|status| (http_status(status.code()), status.message().to_owned()))
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is kept of a token.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim().as_bytes()).into()
}
