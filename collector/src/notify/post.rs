//! One HTTP POST, with a deadline, and connections for many. Plain or over TLS.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest for everything together.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why it was not taken. Never holds the path, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No URL that can be posted to.
    #[error("is not a URL such as https://host/path")]
    Url,
    /// Nobody answers.
    #[error("cannot reach {0}: {1}")]
    Reach(String, String),
    /// It said no.
    #[error("{0} answered {1}")]
    Answer(String, u16),
    /// It took too long.
    #[error("{0} did not answer within {1} s")]
    Deadline(String, u64),
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// If it is not http or https with a host.
    pub fn parse(url: &str) -> Result<Self, PostError> {
        let uri: hyper::Uri = url.parse().map_err(|_| PostError::Url)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(PostError::Url),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(PostError::Url)?.to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok(Self { tls, host, port, path })
    }

    /// Host and port, as they are told.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What the header `host` says: no port where it is the usual one.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { self.place() }
    }

    /// The path with its query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Posts a body; anything but a 2xx is an error.
///
/// # Errors
/// Why it was not taken.
pub async fn post(url: &str, content_type: &str, body: String) -> Result<(), PostError> {
    let target = Target::parse(url)?;
    let place = target.place();
    match tokio::time::timeout(DEADLINE, send(&target, content_type, body)).await {
        Ok(sent) => sent,
        Err(_) => Err(PostError::Deadline(place, DEADLINE.as_secs())),
    }
}

async fn send(target: &Target, content_type: &str, body: String) -> Result<(), PostError> {
    let reach = |error: hyper::Error| PostError::Reach(target.place(), error.to_string());
    let mut connection = connect(target, &[]).await?;
    let request = Request::post(&target.path)
        .header("host", target.authority())
        .header("content-type", content_type)
        .header("user-agent", concat!("mainstay-collector/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| PostError::Url)?;
    let answer = connection.send_request(request).await.map_err(reach)?;
    let status = answer.status();
    // Read to the end, so that the other side sees an orderly close.
    let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    if status.is_success() { Ok(()) } else { Err(PostError::Answer(target.place(), status.as_u16())) }
}

/// A connection to a target, which ends when this is dropped. `roots` are the only certificates that its own may be signed
/// by; the machine's without any.
///
/// # Errors
/// If nobody answers, or it is somebody else.
pub async fn connect(target: &Target, roots: &[Vec<u8>]) -> Result<SendRequest<Full<Bytes>>, PostError> {
    let reach = |error: &dyn std::error::Error| PostError::Reach(target.place(), error.to_string());
    let host = target.host.trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, target.port)).await.map_err(|e| reach(&e))?;
    let _ = tcp.set_nodelay(true);
    if !target.tls {
        return speak(target, tcp).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| PostError::Url)?;
    let tls = TlsConnector::from(client_config(roots).map_err(|e| reach(&e))?);
    let stream = tls.connect(name, tcp).await.map_err(|e| reach(&e))?;
    speak(target, stream).await
}

fn client_config(own: &[Vec<u8>]) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    // What cannot be read of them is left out: the check then fails closed.
    if own.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        roots.add_parsable_certificates(own.iter().map(|der| CertificateDer::from(der.as_slice())));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

async fn speak<S>(target: &Target, stream: S) -> Result<SendRequest<Full<Bytes>>, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let reach = |error: hyper::Error| PostError::Reach(target.place(), error.to_string());
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(reach)?;
    // It ends with the sender.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("https://hooks.example/a?b=c").unwrap();
        assert_eq!((target.tls, target.port, target.path.as_str()), (true, 443, "/a?b=c"));
        assert_eq!(Target::parse("http://127.0.0.1:9/").unwrap().place(), "127.0.0.1:9");
        for bad in ["", "ftp://x/", "/path", "http://"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
