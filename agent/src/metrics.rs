//! `/metrics`, `/-/healthy` and `/-/ready` over HTTP.
//!
//! Nothing is kept for it: at every request the loop is asked for its text. Series of the host carry
//! node_exporter's names, the agent's own begin with `mainstay_agent_`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mainstay_core::readings::{SeriesKind, readings};
use mainstay_core::sample::Sample;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

/// Most connections at once; further ones are closed at once.
const CONNECTIONS_MAX: usize = 16;

/// A client that does not send its request in this time is dropped.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// What is asked of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The text of `/metrics`.
    Metrics(Format),
    /// Whether everything that makes the agent useful works; if not, what is missing.
    Ready,
    /// What it sees and would do, for a person.
    Status,
}

/// The two forms that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The answer of the loop: `Err` says that something is missing.
pub type Answer = Result<String, String>;

/// A question on its way to the loop.
pub type Asked = (Question, oneshot::Sender<Answer>);

/// Listens on `address`.
///
/// # Errors
/// What the kernel says.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the loop is gone.
pub async fn serve(listener: TcpListener, questions: mpsc::Sender<Asked>) {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept on the metrics port");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let questions = questions.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, questions.clone()));
            // A client that breaks off is its own matter.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_DEADLINE)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(slot);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    questions: mpsc::Sender<Asked>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".to_owned()));
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let accepts = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let open = accepts.contains("application/openmetrics-text");
            let format = if open { Format::OpenMetrics } else { Format::Prometheus };
            match ask(&questions, Question::Metrics(format)).await {
                Ok(text) => response(StatusCode::OK, format.content_type(), text),
                Err(text) => response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text + "\n"),
            }
        }
        // Alive is whoever answers; the systemd watchdog watches the loop.
        "/-/healthy" => response(StatusCode::OK, "text/plain", "healthy\n".to_owned()),
        "/-/ready" => match ask(&questions, Question::Ready).await {
            Ok(text) => response(StatusCode::OK, "text/plain", text + "\n"),
            Err(text) => response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text + "\n"),
        },
        _ => response(StatusCode::NOT_FOUND, "text/plain", "see /metrics, /-/healthy and /-/ready\n".to_owned()),
    })
}

/// Asks the loop, which answers within a second or hangs.
pub(crate) async fn ask(questions: &mpsc::Sender<Asked>, question: Question) -> Answer {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        questions.send((question, answer)).await.ok()?;
        answered.await.ok()
    };
    match timeout(REQUEST_DEADLINE, asked).await {
        Ok(Some(answer)) => answer,
        Ok(None) => Err("the agent is stopping".to_owned()),
        Err(_) => Err("the agent does not answer".to_owned()),
    }
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Collects series and writes them out family by family, as both formats demand.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: SeriesKind,
    lines: String,
}

impl Exposition {
    /// Adds everything that a sample holds.
    pub fn sample(&mut self, sample: &Sample) {
        readings(sample, &mut |reading| self.add(reading.name, reading.labels, reading.kind, reading.value));
    }

    /// Adds a counter of the agent's own.
    pub fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        self.add(name, labels, SeriesKind::Counter, value as f64);
    }

    /// Adds a counter of the agent's own that does not count in ones.
    pub fn counter_f64(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, labels, SeriesKind::Counter, value);
    }

    /// Adds a gauge of the agent's own.
    pub fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, labels, SeriesKind::Gauge, value);
    }

    fn add(&mut self, name: &str, labels: &[(&str, &str)], kind: SeriesKind, value: f64) {
        if !self.families.contains_key(name) {
            self.families.insert(name.to_owned(), Family { kind, lines: String::new() });
        }
        let Some(family) = self.families.get_mut(name) else { return };
        let lines = &mut family.lines;
        lines.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(lines, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            push_escaped(lines, text);
            lines.push('"');
        }
        if !labels.is_empty() {
            lines.push('}');
        }
        let _ = writeln!(lines, " {value}");
    }

    /// The text.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let mut text = String::with_capacity(self.families.values().map(|family| family.lines.len() + 64).sum());
        for (name, family) in &self.families {
            // OpenMetrics knows a counter by the suffix of its samples, which its family lacks.
            let (family_name, kind) = match (format, family.kind, name.strip_suffix("_total")) {
                (_, SeriesKind::Gauge, _) => (name.as_str(), "gauge"),
                (Format::Prometheus, SeriesKind::Counter, _) => (name.as_str(), "counter"),
                (Format::OpenMetrics, SeriesKind::Counter, Some(stem)) => (stem, "counter"),
                (Format::OpenMetrics, SeriesKind::Counter, None) => (name.as_str(), "unknown"),
            };
            let _ = writeln!(text, "# TYPE {family_name} {kind}");
            text.push_str(&family.lines);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn push_escaped(to: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '"' => to.push_str("\\\""),
            '\n' => to.push_str("\\n"),
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn writes_families_together_in_both_formats() {
        let mut text = Exposition::default();
        text.counter("mainstay_agent_actions_total", &[("action", "unit.start")], 1);
        text.gauge("mainstay_agent_units", &[], 12.0);
        text.counter("mainstay_agent_actions_total", &[("action", "a\"b\\")], 2);
        assert_eq!(
            text.render(Format::OpenMetrics),
            "# TYPE mainstay_agent_actions counter\n\
             mainstay_agent_actions_total{action=\"unit.start\"} 1\n\
             mainstay_agent_actions_total{action=\"a\\\"b\\\\\"} 2\n\
             # TYPE mainstay_agent_units gauge\nmainstay_agent_units 12\n# EOF\n"
        );
        assert!(text.render(Format::Prometheus).starts_with("# TYPE mainstay_agent_actions_total counter\n"));
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "current_thread")]
    async fn asks_the_loop_and_passes_its_answer_on() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (questions, mut asked) = mpsc::channel::<Asked>(4);
        tokio::spawn(serve(listener, questions));
        tokio::spawn(async move {
            while let Some((question, answer)) = asked.recv().await {
                let _ = answer.send(match question {
                    Question::Metrics(_) => Ok("x 1\n".to_owned()),
                    _ => Err("no D-Bus".to_owned()),
                });
            }
        });
        let metrics = get(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("version=0.0.4") && metrics.ends_with("x 1\n"));
        let ready = get(address, "/-/ready").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("no D-Bus\n"), "{ready}");
        assert!(get(address, "/-/healthy").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/etc/passwd").await.starts_with("HTTP/1.1 404"));
    }
}
