//! A program that is asked something and has to answer in time: its answer is bounded, and it is ended either way.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What a program says on its standard output, as far as the bound on bytes goes. It gets no input and no environment but
/// `LC_ALL=C`.
///
/// # Errors
/// In words, where it cannot be run, is not done in time, or fails without having said anything.
pub(crate) fn said(command: &mut Command, at_most: Duration, bytes_max: u64) -> Result<Vec<u8>, String> {
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
    let said = output(&mut child, at_most, bytes_max);
    // Over its time, or done: it ends either way, and leaves no zombie.
    let _ = child.kill();
    let status = child.wait();
    let said = said.ok_or_else(|| format!("{program} did not end within {} ms", at_most.as_millis()))?;
    match status {
        Ok(status) if said.is_empty() && !status.success() => Err(format!("{program} ended with {status}")),
        _ => Ok(said),
    }
}

/// All that a child says, within the bound, if it is done in time.
fn output(child: &mut Child, at_most: Duration, bytes_max: u64) -> Option<Vec<u8>> {
    let stdout = child.stdout.take()?;
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if stdout.take(bytes_max).read_to_end(&mut bytes).is_ok() {
            // Nobody listens any more when it took too long.
            let _ = sender.send(bytes);
        }
    });
    said.recv_timeout(at_most).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn sh(script: &str, at_most: Duration, bytes_max: u64) -> Result<Vec<u8>, String> {
        said(Command::new("/bin/sh").args(["-c", script]), at_most, bytes_max)
    }

    #[test]
    fn what_it_says_is_taken_within_the_bounds() {
        assert_eq!(sh("echo hello; exit 3", LONG, 100).unwrap(), b"hello\n");
        assert_eq!(sh("yes", LONG, 10).unwrap(), b"y\ny\ny\ny\ny\n");
        assert_eq!(sh("echo ${HOME-none}$LC_ALL", LONG, 100).unwrap(), b"noneC\n");
    }

    #[test]
    fn one_that_fails_or_never_ends_is_told() {
        assert_eq!(sh("exit 3", LONG, 100).unwrap_err(), "/bin/sh ended with exit status: 3");
        let stuck = sh("exec /bin/sleep 1000", Duration::from_millis(50), 100).unwrap_err();
        assert_eq!(stuck, "/bin/sh did not end within 50 ms");
        let error = said(&mut Command::new("/nonexistent/rpm"), LONG, 100).unwrap_err();
        assert!(error.starts_with("cannot run /nonexistent/rpm: "), "{error}");
    }
}
