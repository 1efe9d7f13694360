//! HTTP as the benchmarks ask it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail};

/// Asks, each of `headers` ending its line; gives the status and the body. HTTP/1.0, so that the answer ends where the connection
/// ends.
///
/// # Errors
/// If the connection fails, or what comes is no answer.
pub(crate) fn http(at: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {at}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { bail!("{path}: no answer") };
    let status = std::str::from_utf8(&answer[..end])?.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.context("no status")?, answer.split_off(end + 4)))
}

/// For what stands in a path or query.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
