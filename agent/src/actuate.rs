//! The actuator's client: steps and questions out, outcomes in words back.
//!
//! Every call blocks in a thread of its own, so that a restart that takes a minute holds up
//! nothing. An answer that never came is [`Ended::Unknown`], never "failed": the actuator may have
//! done it.

use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_actuator::client::{Client, ClientError};
use mainstay_core::agent::StepStatus;
use mainstay_core::id::{ActionId, DecisionId};
use mainstay_core::plan::Step;
use mainstay_core::processes::Inspected;
use mainstay_core::record::{Ended, Outcome};
use mainstay_core::scene::UnitScene;
use mainstay_core::subject::UnitName;
use mainstay_core::verb::{ActionStatus, Detail, Reply, Request, Verb};

use crate::scene::Before;

/// Where the actuator listens on an installed host.
pub const SOCKET: &str = mainstay_actuator::client::SOCKET_PATH;

/// Longest wait for a unit's job: the actuator itself gives up after 5 min, unless root says otherwise.
const UNIT_DEADLINE: Duration = Duration::from_secs(330);

/// Longest wait for a reclaim or an undo: they copy and compress files.
const DISK_DEADLINE: Duration = Duration::from_secs(900);

/// Longest wait for an answer to a question.
const QUESTION_DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait for counts of all processes: whoever asked for them waits twice as long, and the session 15 s.
const LOOK_DEADLINE: Duration = Duration::from_secs(4);

/// The way to the actuator.
#[derive(Debug, Clone)]
pub struct Actuator {
    client: Client,
}

impl Actuator {
    /// The actuator behind this socket.
    #[must_use]
    pub fn at(socket: impl AsRef<Path>) -> Self {
        Self { client: Client::at(socket) }
    }

    /// Carries out a step and waits for its end. Where it is about one run of a unit (`invocation`) and another one runs
    /// by then, the actuator refuses.
    pub async fn run(
        &self,
        action: ActionId,
        decision: DecisionId,
        step: &Step,
        invocation: Option<[u8; 16]>,
    ) -> Outcome {
        let Some(verb) = Verb::from_step(step) else {
            return ended(Ended::Refused, format!("{} is not for the actuator", step.kind()), Duration::ZERO);
        };
        let deadline = if matches!(step, Step::DiskReclaim(_)) { DISK_DEADLINE } else { UNIT_DEADLINE };
        self.act(Request { action, decision: Some(decision), invocation, verb }, deadline).await
    }

    /// Undoes an earlier action, under an id of its own.
    pub async fn undo(&self, action: ActionId, of: ActionId) -> Outcome {
        self.act(Request::new(action, Verb::Undo { action: of }), DISK_DEADLINE).await
    }

    async fn act(&self, request: Request, deadline: Duration) -> Outcome {
        let begun = Instant::now();
        match self.call(request, deadline).await {
            Ok(reply) => reply.outcome(),
            Err(error) if error.nothing_begun() => ended(Ended::Failed, chain(&error), begun.elapsed()),
            Err(error) => ended(Ended::Unknown, chain(&error), begun.elapsed()),
        }
    }

    /// Asks what became of an action. `Err` when the actuator cannot be asked: then nothing is known.
    ///
    /// # Errors
    /// The reason in words.
    pub async fn status(&self, action: ActionId) -> Result<StepStatus, String> {
        let request = Request::new(action, Verb::Status { action });
        match self.call(request, QUESTION_DEADLINE).await.map_err(|error| chain(&error))? {
            Reply::Status(ActionStatus::NotSeen) => Ok(StepStatus::NeverSeen),
            Reply::Status(ActionStatus::Running) => Ok(StepStatus::Running),
            Reply::Status(ActionStatus::Interrupted) => {
                let text = "the actuator ended while it was being carried out".to_owned();
                Ok(StepStatus::Ended(ended(Ended::Unknown, text, Duration::ZERO)))
            }
            Reply::Status(ActionStatus::Finished(reply)) => Ok(StepStatus::Ended(reply.outcome())),
            other => Err(format!("unexpected reply to status: {other:?}")),
        }
    }

    /// Whether the actuator can be reached and is not held.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn ping(&self) -> Result<(), String> {
        let request = Request::new(ActionId::default(), Verb::Ping);
        match self.call(request, QUESTION_DEADLINE).await.map_err(|error| chain(&error))? {
            Reply::Done(Detail::Pong(_)) => Ok(()),
            Reply::Refused(refusal) => Err(refusal.text),
            other => Err(format!("unexpected reply to ping: {other:?}")),
        }
    }

    /// Looks at the processes of a unit, before an action that wipes them away.
    ///
    /// # Errors
    /// Why they cannot be seen, in words.
    pub async fn scene(&self, unit: &UnitName, before: Before, deadline: Duration) -> Result<UnitScene, String> {
        let Before { action, decision, invocation } = before;
        let verb = Verb::Scene { unit: unit.clone() };
        let request = Request { decision: Some(decision), invocation, ..Request::new(action, verb) };
        match self.call(request, deadline).await.map_err(|error| chain(&error))? {
            Reply::Done(Detail::Scene(scene)) => Ok(scene),
            Reply::Refused(refusal) => Err(refusal.text),
            Reply::Failed(failure) => Err(failure.text),
            other => Err(format!("unexpected reply to scene: {other:?}")),
        }
    }

    /// Counts process by process what only root may read.
    ///
    /// # Errors
    /// Why it is not known, in words.
    pub async fn processes(&self) -> Result<Inspected, String> {
        let request = Request::new(ActionId::default(), Verb::Processes);
        match self.call(request, LOOK_DEADLINE).await.map_err(|error| chain(&error))? {
            Reply::Done(Detail::Processes(inspected)) => Ok(inspected),
            Reply::Refused(refusal) => Err(refusal.text),
            Reply::Failed(failure) => Err(failure.text),
            other => Err(format!("unexpected reply to processes: {other:?}")),
        }
    }

    /// Runs a command that root defined as a probe; says how it went in words.
    ///
    /// # Errors
    /// The command failed, or could not be run, in words.
    pub async fn probe(&self, name: &str, deadline: Duration) -> Result<String, String> {
        let verb = Verb::ProbeCommand { name: name.to_owned() };
        let request = Request::new(ActionId::default(), verb);
        let reply = self.call(request, deadline).await.map_err(|error| chain(&error))?;
        let outcome = reply.outcome();
        match outcome.ended {
            Ended::Done => Ok(outcome.text),
            _ => Err(outcome.text),
        }
    }

    async fn call(&self, request: Request, deadline: Duration) -> Result<Reply, ClientError> {
        let client = self.client.clone();
        let called = tokio::task::spawn_blocking(move || client.call(&request, deadline)).await;
        called.unwrap_or_else(|lost| {
            let source = std::io::Error::other(lost);
            Err(ClientError::Unanswered { waited_ms: 0, source })
        })
    }
}

fn ended(ended: Ended, text: String, elapsed: Duration) -> Outcome {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    Outcome { ended, text, elapsed_ms, freed_bytes: None }
}

/// An error with all its causes, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use mainstay_core::plan::ResetFailed;

    use super::*;

    fn step() -> Step {
        Step::UnitStart { unit: "app.service".parse().unwrap(), reset_failed: ResetFailed::Keep }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_step_that_never_left_failed_and_one_without_an_answer_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("actuator.sock");
        let outcome = Actuator::at(&path).run(ActionId(1), DecisionId(2), &step(), None).await;
        assert_eq!(outcome.ended, Ended::Failed);
        assert!(outcome.text.contains("cannot reach the actuator"), "{}", outcome.text);

        let listener = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut header = [0; 4];
            stream.read_exact(&mut header).unwrap();
            // Hangs up after it has taken the request.
            stream.write_all(&[0]).unwrap();
        });
        let outcome = Actuator::at(&path).run(ActionId(1), DecisionId(2), &step(), None).await;
        served.join().unwrap();
        assert_eq!(outcome.ended, Ended::Unknown, "{}", outcome.text);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_message_is_not_for_the_actuator() {
        let notify = Step::Notify { to: "ops".to_owned() };
        let outcome = Actuator::at("/nonexistent").run(ActionId(1), DecisionId(2), &notify, None).await;
        assert_eq!(outcome.ended, Ended::Refused);
    }
}
