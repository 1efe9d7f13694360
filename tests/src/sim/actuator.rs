//! A simulated actuator: steps are carried out at most once under their id, and remembered.

use std::collections::BTreeMap;

use mainstay_core::agent::StepStatus;
use mainstay_core::id::ActionId;
use mainstay_core::plan::Step;
use mainstay_core::record::{Ended, Outcome};

/// What stands in its journal about one action. Durable from the moment it is written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What was asked.
    pub step: Step,
    /// How it ended, once it did.
    pub outcome: Option<Outcome>,
    /// Whether the process that carries it out is still the one that began it.
    pub alive: bool,
}

/// The actuator of one host.
#[derive(Debug, Clone, Default)]
pub struct Actuator {
    /// Its journal.
    pub journal: BTreeMap<ActionId, Entry>,
    /// Whether root's own file allows nothing.
    pub allows_nothing: bool,
}

/// What the actuator does about a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It begins.
    Begun,
    /// It is being carried out already; the answer comes when it ends.
    Again,
    /// It ended before; this is the answer.
    Known(Outcome),
}

impl Actuator {
    /// Takes a request. `another_runs`: the unit is in another run than the one that was meant.
    pub fn take(&mut self, action: ActionId, step: &Step, another_runs: bool) -> Taken {
        match self.journal.get(&action) {
            None if self.allows_nothing => Taken::Known(refused("not allowed by actuator.toml")),
            None if another_runs => Taken::Known(refused("started anew since the decision")),
            None => {
                self.journal.insert(action, Entry { step: step.clone(), outcome: None, alive: true });
                Taken::Begun
            }
            Some(Entry { outcome: Some(outcome), .. }) => Taken::Known(outcome.clone()),
            Some(Entry { alive: true, .. }) => Taken::Again,
            Some(_) => Taken::Known(died()),
        }
    }

    /// Notes how an action ended.
    pub fn ended(&mut self, action: ActionId, outcome: Outcome) {
        if let Some(entry) = self.journal.get_mut(&action) {
            entry.outcome = Some(outcome);
        }
    }

    /// Answers a question.
    #[must_use]
    pub fn status(&self, action: ActionId) -> StepStatus {
        match self.journal.get(&action) {
            None => StepStatus::NeverSeen,
            Some(Entry { outcome: Some(outcome), .. }) => StepStatus::Ended(outcome.clone()),
            Some(Entry { alive: true, .. }) => StepStatus::Running,
            Some(_) => StepStatus::Ended(died()),
        }
    }

    /// Dies; systemd starts it again at the next request.
    pub fn crash(&mut self) {
        for entry in self.journal.values_mut() {
            entry.alive &= entry.outcome.is_some();
        }
    }
}

/// The answer to what is not begun.
fn refused(why: &str) -> Outcome {
    Outcome { ended: Ended::Refused, text: why.to_owned(), ..died() }
}

/// What is known of a step whose actuator died on the way.
fn died() -> Outcome {
    let text = "the actuator died on the way".to_owned();
    Outcome { ended: Ended::Unknown, text, elapsed_ms: 0, freed_bytes: None }
}
