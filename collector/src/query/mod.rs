//! PromQL over the fleet: what operators and dashboards ask, answered from the host blocks.
//!
//! In: a query and when. Out: mainstay-promql's answer, with how much of what should be there was there.

mod choice;
pub mod demand;
pub mod fleet;
mod hosts;
mod lanes;
pub mod names;
mod question;
mod rolled;
pub(crate) mod roster;
pub mod standing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_promql::{Answer, EvalError, Interrupted, Limits, ParseError, Span, evaluate, parse};
use tokio::sync::Semaphore;

use crate::clock;
use crate::hub::Hub;
use fleet::{Fleet, Seen};

/// Longest that a query may take if it does not ask for less: Prometheus' default.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// Most questions that are answered at once, of each kind; the rest waits for its turn.
pub const AT_ONCE: usize = 4;

/// Turns of questions. An operator does not wait for dashboards, and who asks what is wrong does not wait for series.
#[derive(Debug)]
pub struct Turns {
    /// Of what asks over HTTP.
    pub http: Semaphore,
    /// About series, of operators.
    pub operators: Semaphore,
    /// About findings, incidents, decisions and changes.
    pub searches: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        let turns = || Semaphore::new(AT_ONCE);
        Self { http: turns(), operators: turns(), searches: turns() }
    }
}

/// When a query stops by itself, or because nobody waits for it any more.
#[derive(Debug, Clone)]
pub struct Stop {
    cancelled: Arc<AtomicBool>,
    until_boot_ns: u64,
}

impl Stop {
    /// After so long.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let until_boot_ns = clock::now().boot_ns.saturating_add(timeout);
        Self { cancelled: Arc::default(), until_boot_ns }
    }

    /// Whether to stop now.
    #[must_use]
    pub fn now(&self) -> Option<Interrupted> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Some(Interrupted::Cancelled);
        }
        (clock::now().boot_ns > self.until_boot_ns).then_some(Interrupted::TimedOut)
    }

    /// Stops the query when this is dropped: the connection that waits for it holds it.
    #[must_use]
    pub fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.cancelled.clone())
    }
}

/// See [`Stop::on_drop`].
#[derive(Debug)]
pub struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers a question when `turns` has one for it, on a thread that may wait for the disk. When nobody waits for this any more the
/// question is stopped.
///
/// # Errors
/// Why there is no answer, if that is not for the question to say.
pub async fn in_turn<A: Send + 'static>(
    hub: &Arc<Hub>,
    turns: &Semaphore,
    stop: Stop,
    answer: impl FnOnce(&Hub, &Stop) -> A + Send + 'static,
) -> Result<A, String> {
    // Held by this future, which is dropped when the client goes.
    let _gone = stop.on_drop();
    let turn = turns.acquire().await.map_err(|error| error.to_string())?;
    let of = hub.clone();
    let answered = tokio::task::spawn_blocking(move || answer(&of, &stop)).await;
    drop(turn);
    answered.map_err(|error| format!("the answer could not be made: {error}"))
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is none.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It could not be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// An answer, and what was seen of the fleet on the way.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// How complete it is.
    pub seen: Seen,
}

/// Asks the fleet.
///
/// # Errors
/// If it is no query, or cannot be evaluated.
pub fn run(hub: &Hub, text: &str, span: Span, stop: &Stop) -> Result<Outcome, QueryError> {
    let query = parse(text)?;
    let fleet = Fleet::of(hub, stop);
    let answer = evaluate(&query, span, &fleet, Limits::default(), &|| stop.now())?;
    Ok(Outcome { answer, seen: fleet.seen() })
}

#[cfg(test)]
mod tests;
