//! `/metrics`, `/-/healthy` and `/-/ready` over HTTP.
//!
//! Nothing is kept for it: at every request the loop is asked for what it knows, and the host is read
//! ([`crate::host::scrape`]), one request after the other. Series of the host carry node_exporter's
//! names, those of units and probes begin with `mainstay_`, the agent's own with `mainstay_agent_`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mainstay_core::exposition::{Exposition, FamilyKind, Format};
use mainstay_core::host_query::{ConnectionsQuery, TopQuery};
use mainstay_core::policy::Glob;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use crate::host::filesystems::FilesystemSettings;
use crate::host::scrape::Scraper;

/// Most connections at once; further ones are closed at once.
const CONNECTIONS_MAX: usize = 16;

/// A client that does not send its request in this time is dropped.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// What is asked of the loop, and where its answer goes.
#[derive(Debug)]
pub enum Asked {
    /// What `/metrics` shows of the agent, its units and probes.
    Metrics(oneshot::Sender<Own>),
    /// Whether everything that makes the agent useful works; if not, what is missing.
    Ready(oneshot::Sender<Answer>),
    /// What it sees and would do, for a person.
    Status(oneshot::Sender<Answer>),
    /// What it has learned, of the subjects that a glob matches, for a person.
    Models(Option<Glob>, oneshot::Sender<Answer>),
    /// Who talks to whom, for a person.
    Connections(ConnectionsQuery, oneshot::Sender<Answer>),
    /// Who uses most, for a person.
    Top(TopQuery, oneshot::Sender<Answer>),
}

/// What the loop adds to a scrape.
#[derive(Debug, Default)]
pub struct Own {
    /// The agent, its units and probes.
    pub text: Exposition,
    /// Which filesystems are to be left out.
    pub filesystems: FilesystemSettings,
}

/// The answer of the loop: `Err` says that something is missing.
pub type Answer = Result<String, String>;

/// Listens on `address`.
///
/// # Errors
/// What the kernel says.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the loop is gone.
pub async fn serve(listener: TcpListener, questions: mpsc::Sender<Asked>, scraper: Scraper) {
    let scraper = Arc::new(Mutex::new(scraper));
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
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
        let (questions, scraper) = (questions.clone(), Arc::clone(&scraper));
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, questions.clone(), Arc::clone(&scraper)));
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
    scraper: Arc<Mutex<Scraper>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".to_owned()));
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let format = Format::accepted(accept);
            match metrics(&questions, &scraper).await {
                Ok(text) => response(StatusCode::OK, format.content_type(), text.render(format)),
                Err(text) => response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text + "\n"),
            }
        }
        // Alive is whoever answers; the systemd watchdog watches the loop.
        "/-/healthy" => response(StatusCode::OK, "text/plain", "healthy\n".to_owned()),
        "/-/ready" => match ask(&questions, Asked::Ready).await.and_then(|answer| answer) {
            Ok(text) => response(StatusCode::OK, "text/plain", text + "\n"),
            Err(text) => response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text + "\n"),
        },
        _ => response(StatusCode::NOT_FOUND, "text/plain", "see /metrics, /-/healthy and /-/ready\n".to_owned()),
    })
}

/// The agent and the host as they are now.
async fn metrics(questions: &mpsc::Sender<Asked>, scraper: &Mutex<Scraper>) -> Result<Exposition, String> {
    let own = ask(questions, Asked::Metrics).await?;
    let mut scraper = scraper.lock().await;
    let mut text = scraper.scrape(&own.filesystems).await;
    expose_stuck(&mut text, &scraper);
    drop(scraper);
    text.absorb(own.text);
    Ok(text)
}

/// What `/metrics` shows, read now: the host, and behind it what the running agent says of itself, in Prometheus' form.
pub async fn once(mut scraper: Scraper, filesystems: &FilesystemSettings, own: &str) -> String {
    let mut text = scraper.scrape(filesystems).await;
    expose_stuck(&mut text, &scraper);
    text.render(Format::Prometheus) + &besides(own, |family| text.contains(family))
}

/// The families of a text that are not there yet. What stands before the first is no family.
fn besides(text: &str, have: impl Fn(&str) -> bool) -> String {
    let mut rest = String::new();
    let mut is_wanted = false;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")) {
            is_wanted = !have(described.split(' ').next().unwrap_or(described));
        }
        if is_wanted {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    rest
}

fn expose_stuck(text: &mut Exposition, scraper: &Scraper) {
    let stuck = u32::try_from(scraper.stuck()).map_or(f64::INFINITY, f64::from);
    let help = "Collectors and mounts that were asked for /metrics and do not come back.";
    text.family("mainstay_agent_scrape_stuck", FamilyKind::Gauge, help).add(&[], stuck);
}

/// Asks the loop, which answers within a second or hangs.
pub(crate) async fn ask<T>(
    questions: &mpsc::Sender<Asked>,
    question: impl FnOnce(oneshot::Sender<T>) -> Asked,
) -> Result<T, String> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        questions.send(question(answer)).await.ok()?;
        answered.await.ok()
    };
    match timeout(REQUEST_DEADLINE, asked).await {
        Ok(Some(answer)) => Ok(answer),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "current_thread")]
    async fn read_once_it_shows_the_host_and_what_the_agent_says_and_no_family_twice() {
        let own = "agent 0.1\n# HELP mainstay_agent_units Units.\n# TYPE mainstay_agent_units gauge\n\
                   mainstay_agent_units 3\n# TYPE node_load1 gauge\nnode_load1 99\n# TYPE z gauge\nz 1\n";
        let text = once(Scraper::at("/".into()), &FilesystemSettings::default(), own).await;
        assert!(text.contains("\nnode_load1 ") && !text.contains("node_load1 99"), "{text}");
        assert!(text.contains("\n# TYPE mainstay_agent_units gauge\nmainstay_agent_units 3\n"), "{text}");
        assert!(text.ends_with("z 1\n") && !text.contains("agent 0.1"), "{text}");
        assert_eq!(text.matches("# TYPE node_load1 ").count(), 1);
        let status = "host web-1\nfindings none\n";
        assert_eq!(besides(status, |_| false), "", "an older agent answers something else");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn asks_the_loop_and_passes_its_answer_on() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (questions, mut asked) = mpsc::channel::<Asked>(4);
        tokio::spawn(serve(listener, questions, Scraper::at("/".into())));
        tokio::spawn(async move {
            while let Some(question) = asked.recv().await {
                match question {
                    Asked::Metrics(answer) => {
                        let mut own = Own::default();
                        own.text.gauge("mainstay_agent_units", "Units that are followed.", 3.0);
                        answer.send(own).unwrap();
                    }
                    Asked::Ready(answer)
                    | Asked::Status(answer)
                    | Asked::Models(_, answer)
                    | Asked::Connections(_, answer)
                    | Asked::Top(_, answer) => answer.send(Err("no D-Bus".to_owned())).unwrap(),
                }
            }
        });
        let metrics = get(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\nmainstay_agent_units 3\n") && metrics.contains("\nnode_load1 "), "{metrics}");
        let ready = get(address, "/-/ready").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("no D-Bus\n"), "{ready}");
        assert!(get(address, "/-/healthy").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/etc/passwd").await.starts_with("HTTP/1.1 404"));
    }
}
