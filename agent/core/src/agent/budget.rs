//! Keeping the agent's own budget: reading less of the host while it takes too much, and saying so.

use super::{Agent, Effect};
use crate::budget::{self, Depth, Reading, Usage};
use crate::time::Now;

/// The part of the agent that `agent.degraded` names.
const PART: &str = "budget";

impl Agent {
    /// Takes what the agent has used until now.
    pub(super) fn used(&mut self, usage: Usage, now: Now) {
        if !self.budget.observe(usage, now) {
            return;
        }
        let depth = self.budget.depth();
        // Units that are not read make the host look calm, which it may not be.
        self.detectors.set_partial(depth == Depth::CoreOnly);
        self.tell_reading();
        let events = self.detectors.degraded_says(PART, budget::evidence(&self.budget), now);
        self.found(events, now);
        self.advance(now);
    }

    /// Says what is to be read from now on, if that is something else.
    pub(super) fn tell_reading(&mut self) {
        let reading = Reading::on(self.budget.depth(), &self.policy.effective);
        if reading != self.reading {
            self.reading = reading.clone();
            self.effects.push_back(Effect::Read(reading));
        }
    }
}
