//! Asks journald to begin new files, as `journalctl --rotate` does, so that what it wrote so far can be reclaimed.
//!
//! Over journald's own socket (Varlink: one JSON object each way, ended by a NUL), which only root may use. The answer
//! comes when the files are archived.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for journald, which syncs its files first.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Has every journal file archived and a new one begun.
///
/// # Errors
/// When journald cannot be reached, does not answer in time, or answers with an error.
pub fn rotate(control: &Path) -> io::Result<()> {
    ask(control, "io.systemd.Journal.Rotate")
}

fn ask(control: &Path, method: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(format!("{{\"method\":\"{method}\"}}\0").as_bytes())?;
    let mut answer = Vec::new();
    BufReader::new(io::Read::take(&stream, ANSWER_BYTES_MAX)).read_until(0, &mut answer)?;
    let answer = String::from_utf8_lossy(answer.strip_suffix(b"\0").unwrap_or_default()).into_owned();
    // A call that succeeded answers with parameters alone.
    if answer.starts_with('{') && !answer.contains("\"error\"") {
        return Ok(());
    }
    Err(io::Error::other(format!("journald answered {answer:?} to {method}")))
}
