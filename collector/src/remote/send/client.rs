//! One connection to a target, kept from request to request.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE as TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};

use crate::notify::{PostError, Target, connect};
use crate::remote::target::RemoteWrite;
use crate::remote::{CONTENT_TYPE, ENCODING, VERSION};

/// Longest for one request with its answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read, and most characters of it that are told.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const SAID_MAX: usize = 300;

/// What a target says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// How long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) said: String,
}

/// See above.
#[derive(Debug)]
pub(super) struct Client {
    to: RemoteWrite,
    target: Target,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(super) fn new(to: RemoteWrite) -> Result<Self, PostError> {
        Ok(Self { target: Target::parse(&to.url)?, to, connection: None })
    }

    /// Sends one body, compressed as it is. After anything but an answer the connection is made anew.
    pub(super) async fn send(&mut self, body: Bytes) -> Result<Answer, PostError> {
        let connection = self.connection.take().filter(|connection| !connection.is_closed());
        match tokio::time::timeout(DEADLINE, self.exchange(connection, body)).await {
            Ok(Ok((connection, answer))) => {
                self.connection = connection;
                Ok(answer)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PostError::Deadline(self.target.place(), DEADLINE.as_secs())),
        }
    }

    async fn exchange(
        &self,
        connection: Option<SendRequest<Full<Bytes>>>,
        body: Bytes,
    ) -> Result<(Option<SendRequest<Full<Bytes>>>, Answer), PostError> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => connect(&self.target, &self.to.roots).await?,
        };
        let reach = |error: hyper::Error| PostError::Reach(self.target.place(), error.to_string());
        connection.ready().await.map_err(reach)?;
        let answer = connection.send_request(self.request(body)?).await.map_err(reach)?;
        let status = answer.status();
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        // What is not read to its end leaves a connection that cannot be used again.
        let (connection, said) = match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => (Some(connection), String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()),
            Err(_) => (None, String::new()),
        };
        Ok((connection, Answer { status, retry_after, said: said.chars().take(SAID_MAX).collect() }))
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, PostError> {
        let mut request = Request::post(self.target.path())
            .header(HOST, self.target.authority())
            .header(USER_AGENT, concat!("mainstay-collector/", env!("CARGO_PKG_VERSION")))
            .header(TYPE, CONTENT_TYPE)
            .header(CONTENT_ENCODING, ENCODING)
            .header("x-prometheus-remote-write-version", VERSION);
        for (name, value) in &self.to.headers.0 {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).map_err(|_| PostError::Url)
    }
}
