//! A message as an HTTP POST of a JSON object.

use std::time::Duration;

use serde_json::json;

use super::outbox::Message;
use crate::config::WebhookTarget;
use crate::http::{self, Url};

/// Longest wait for the answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// Sends the message; an answer in the 200s is a success.
///
/// # Errors
/// Why it was not delivered, in words without secrets.
pub(super) async fn send(target: &WebhookTarget, message: &Message) -> Result<(), String> {
    let url = Url::parse(&target.url)?;
    let mut headers = match &target.headers_file {
        Some(file) => file.headers()?,
        None => Vec::new(),
    };
    headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    // A receiver that has seen this key before can drop the repetition.
    headers.push(("Idempotency-Key".to_owned(), message.action.clone()));
    let roots = if url.tls { Some(http::trust(target.ca_file.as_deref()).map_err(|e| e.to_string())?) } else { None };
    let request = http::Message { body: Some(body(message).into()), headers };
    let status = http::send(&url, request, roots, DEADLINE).await.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
}

/// `text` alone is what common chat systems show.
fn body(message: &Message) -> Vec<u8> {
    let object = json!({
        "subject": message.subject(),
        "text": message.text,
        "host": message.hostname,
        "decision": message.decision,
        "action": message.action,
        "created_ms": message.created_ms,
        "sender": "mainstay",
    });
    object.to_string().into_bytes()
}
