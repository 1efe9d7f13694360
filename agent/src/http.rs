//! One HTTP/1.1 request over one connection, within a deadline. For probes, webhooks and exports.
//!
//! No redirects, no keep-alive, and of the body of an answer no more is read than is asked for: it may be endless, and
//! what a probe or a webhook says in it is of no interest.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Where distributions keep the certificates that are trusted: Debian, then Fedora.
const CA_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// An `http://` or `https://` URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether the connection is protected.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Url {
    /// Takes a URL apart. User names, fragments and other schemes are refused.
    ///
    /// # Errors
    /// Says what is wrong, as the end of a sentence that begins with the name of the setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("must begin with http:// or https://".to_owned()),
        };
        let slash = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        if authority.contains('@') || text.contains('#') || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("must have no user name, fragment, space or other unusual character".to_owned());
        }
        let (host, port) =
            split_port(authority).ok_or_else(|| format!("names no valid host and port: `{authority}`"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, host: host.to_owned(), port: port.unwrap_or(if tls { 443 } else { 80 }), path })
    }

    /// What goes into the `Host` header.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map(str::parse::<u16>).transpose().ok()?;
    (!host.is_empty() && port != Some(0)).then_some((host, port))
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be found or refuses.
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect {
        /// Whom.
        host: String,
        /// Where.
        port: u16,
        /// What the kernel or the resolver said.
        source: std::io::Error,
    },
    /// The certificate is not trusted, or the other side speaks no TLS.
    #[error("no TLS with {host}: {source}")]
    Tls {
        /// With whom.
        host: String,
        /// What rustls said.
        source: std::io::Error,
    },
    /// The trusted certificates cannot be read.
    #[error("cannot read trusted certificates: {0}")]
    Roots(String),
    /// It is no HTTP, or broke off.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// A header is not one that can be sent.
    #[error("cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// What is sent besides the URL.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Sent with `POST` when there is one, else with `GET`.
    pub body: Option<Bytes>,
    /// Name and value of further headers.
    pub headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Whether it went well.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// As much of its body as was asked for and came.
    pub body: Vec<u8>,
}

/// Sends one request and waits for the head of the answer. `roots` are for `https`.
///
/// # Errors
/// [`HttpError`].
pub async fn send(
    url: &Url,
    message: Message,
    roots: Option<Arc<rustls::ClientConfig>>,
    deadline: Duration,
) -> Result<StatusCode, HttpError> {
    Ok(ask(url, message, roots, deadline, 0).await?.status)
}

/// Sends one request and waits for the answer with as much of its body as `body_max` bytes.
///
/// # Errors
/// [`HttpError`].
pub async fn ask(
    url: &Url,
    message: Message,
    roots: Option<Arc<rustls::ClientConfig>>,
    deadline: Duration,
    body_max: usize,
) -> Result<Answer, HttpError> {
    let exchange = async {
        let stream = connect(&url.host, url.port).await?;
        if !url.tls {
            return exchange(stream, url, message, body_max).await;
        }
        let roots = roots.ok_or_else(|| HttpError::Roots("none were given".to_owned()))?;
        let tls = |source| HttpError::Tls { host: url.host.clone(), source };
        let name = ServerName::try_from(url.host.clone()).map_err(|error| tls(std::io::Error::other(error)))?;
        let stream = tokio_rustls::TlsConnector::from(roots).connect(name, stream).await.map_err(tls)?;
        exchange(stream, url, message, body_max).await
    };
    tokio::time::timeout(deadline, exchange).await.map_err(|_| HttpError::Late(deadline))?
}

/// Opens a TCP connection.
///
/// # Errors
/// [`HttpError::Connect`].
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, HttpError> {
    let wrong = |source| HttpError::Connect { host: host.to_owned(), port, source };
    TcpStream::connect((host, port)).await.map_err(wrong)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    url: &Url,
    message: Message,
    body_max: usize,
) -> Result<Answer, HttpError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(if message.body.is_some() { "POST" } else { "GET" })
        .uri(&url.path)
        .header("Host", url.authority())
        .header("User-Agent", concat!("mainstay-agent/", env!("CARGO_PKG_VERSION")))
        .header("Connection", "close");
    for (name, value) in &message.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(message.body.unwrap_or_default()))?;
    // The connection has to be driven while the answer is waited for, and ends with this function.
    let mut connection = Box::pin(connection);
    let answer = answer(&mut sender, request, body_max);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            // What had come by then is still there; nothing more will.
            drop(connection);
            match (answer.await, ended) {
                (Err(_), Err(error)) => Err(error.into()),
                (answer, _) => answer,
            }
        }
    }
}

async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    body_max: usize,
) -> Result<Answer, HttpError> {
    let (head, mut incoming) = sender.send_request(request).await?.into_parts();
    let mut body = Vec::new();
    // A body that breaks off is as much as came of it: the head has said how it went.
    while body.len() < body_max
        && let Some(Ok(frame)) = incoming.frame().await
    {
        let data = frame.into_data().unwrap_or_default();
        body.extend_from_slice(data.get(..body_max - body.len()).unwrap_or(&data));
    }
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// The certificates that are trusted: those of `file`, else the system's. Read when needed and
/// dropped afterwards, since they take more memory than all else.
///
/// # Errors
/// [`HttpError::Roots`] where there are none.
pub fn trust(file: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, HttpError> {
    let wrong = |error: &dyn std::fmt::Display| HttpError::Roots(error.to_string());
    let bundle = file.or_else(|| CA_BUNDLES.iter().map(Path::new).find(|path| path.exists()));
    let bundle = bundle.ok_or_else(|| wrong(&"this system has none; name a file with `ca_file`"))?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates(bundle)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(Arc::new(config.map_err(|error| wrong(&error))?.with_root_certificates(roots).with_no_client_auth()))
}

/// The certificates of a PEM file.
///
/// # Errors
/// [`HttpError::Roots`] where it cannot be read or holds none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let wrong = |error: &dyn std::fmt::Display| HttpError::Roots(format!("{}: {error}", file.display()));
    let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let certificates: Vec<_> = found.flatten().collect();
    if certificates.is_empty() { Err(wrong(&"no certificate in it")) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn takes_urls_apart_and_refuses_odd_ones() {
        let url = Url::parse("http://127.0.0.1:8080/health?x=1").unwrap();
        assert_eq!(
            (url.tls, url.host.as_str(), url.port, url.path.as_str()),
            (false, "127.0.0.1", 8080, "/health?x=1")
        );
        assert_eq!(
            Url::parse("https://a.example").unwrap(),
            Url { tls: true, host: "a.example".into(), port: 443, path: "/".into() }
        );
        assert_eq!(Url::parse("http://[::1]:81/").unwrap().authority(), "[::1]:81");
        assert_eq!(Url::parse("http://a?b").unwrap().path, "/?b");
        for bad in ["ftp://a", "http://", "http://a:0/", "http://a:x/", "http://u@a/", "http://a/#f", "http://a/ b"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    /// A server that reads one request and answers with `answer`; gives the request back.
    async fn server(answer: &'static str) -> (Url, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let bytes = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..bytes]).into_owned()
        });
        (url, served)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn gets_a_status_and_does_not_wait_for_the_body() {
        let (url, served) = server("HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\nx").await;
        let status = send(&url, Message::default(), None, Duration::from_secs(5)).await.unwrap();
        assert_eq!(status, 503);
        let request = served.await.unwrap();
        assert!(request.starts_with("GET /hook HTTP/1.1\r\n") && request.contains("connection: close"), "{request}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn reads_as_much_of_the_body_as_is_asked_for_and_comes() {
        for (body_max, want) in [(0, ""), (3, "abc"), (5, "abcde"), (100, "abcdef")] {
            let answer = "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 10\r\n\r\nabcdef";
            let (url, served) = server(answer).await;
            let message = Message { body: Some(Bytes::from_static(b"x")), headers: Vec::new() };
            let answer = ask(&url, message, None, Duration::from_secs(5), body_max).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.headers["retry-after"].to_str().unwrap()), (429, "7"));
            assert_eq!(String::from_utf8(answer.body).unwrap(), want, "{body_max}");
            assert!(served.await.unwrap().starts_with("POST /hook HTTP/1.1\r\n"));
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_that_accepts_and_says_nothing_is_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let error = send(&url, Message::default(), None, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, HttpError::Late(_)), "{error}");
    }
}
