//! Runs programs of this machine and keeps what they said. In: argv. Out: [`Output`], or an error that names the command.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a finished command left: exit code and both streams as text.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command as it was asked for, for error texts.
    pub what: String,
    /// Exit code; 128 + signal when it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// True when the exit code is 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == 0
    }

    /// Standard output of a command that must have succeeded, without trailing white space.
    ///
    /// # Errors
    /// Names the command, its exit code and both streams when it failed.
    pub fn ok(self) -> Result<String> {
        if !self.is_success() {
            bail!(
                "`{}` ended with {}\nstdout: {}\nstderr: {}",
                self.what,
                self.code,
                self.stdout.trim(),
                self.stderr.trim()
            );
        }
        Ok(self.stdout.trim_end().to_owned())
    }

    /// Both streams of a command that must have been refused.
    ///
    /// # Errors
    /// When the command succeeded after all.
    pub fn refused(self) -> Result<String> {
        if self.is_success() {
            bail!("`{}` succeeded, a refusal was expected\nstdout: {}", self.what, self.stdout.trim());
        }
        Ok(format!("{}{}", self.stdout, self.stderr))
    }
}

/// Runs `command` to its end with no input.
///
/// # Errors
/// When it cannot be started; a bad exit code is in the output.
pub fn run(command: &mut Command) -> Result<Output> {
    let what = describe(command);
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{what}`"))?;
    Ok(output(what, &done))
}

/// Runs `command` to its end with `input` on its standard input.
///
/// # Errors
/// When it cannot be started or closes its input early.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    use std::io::Write as _;
    let what = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{what}`"))?;
    let mut stdin = child.stdin.take().context("stdin was piped")?;
    let fed = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || stdin.write_all(input));
        let done = child.wait_with_output();
        (feeder.join(), done)
    });
    let done = fed.1.with_context(|| format!("cannot wait for `{what}`"))?;
    Ok(output(what, &done))
}

/// Runs `program args…` of this machine and asks for success.
///
/// # Errors
/// Names the command and what it said when it failed.
pub fn must<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    run(Command::new(program).args(args))?.ok()
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

fn output(what: String, done: &std::process::Output) -> Output {
    use std::os::unix::process::ExitStatusExt as _;
    let code = done.status.code().unwrap_or_else(|| 128 + done.status.signal().unwrap_or(0));
    Output {
        what,
        code,
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}
