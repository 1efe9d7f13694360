//! Carries out what the core wants done.

use std::time::Duration;

use mainstay_core::agent::{Effect, Item, StepStatus};
use mainstay_core::finding::FindingState;
use mainstay_core::id::{ActionId, DecisionId};
use mainstay_core::plan::Step;
use mainstay_core::record::{Body, Ended, Outcome};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, info};

use super::{Event, Shell, restore};
use crate::failpoint;
use crate::host::clock;
use crate::notify::Message;
use crate::scene::{self, Before};

/// How often an action that is still being carried out is asked after.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long the question about an action is repeated while the actuator cannot be asked.
const ASK_ATTEMPTS_MAX: u32 = 30;

impl Shell {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { token, record } => {
                if let Body::Decided(decision) = &record.body {
                    self.said.decided(decision);
                }
                self.keeper.record(token, record);
            }
            Effect::Run { action, decision, step, invocation } => self.run_step(action, decision, step, invocation),
            Effect::Notify { action, to, decision, text } => self.put_message(action, to, decision, text),
            Effect::AskStatus { action, step } => self.ask_after(action, step),
            Effect::Undo { action, of } => self.undo(action, of),
            Effect::Emit(item) => self.emit(item),
            Effect::SetProbes(specs) => {
                let beyond = specs.len().saturating_sub(crate::host::probes::PROBES_MAX);
                if beyond > 0 {
                    tracing::warn!(beyond, "more probes than one host runs; the last ones are left out");
                }
                self.probes.set(specs);
                let probes = &self.probes;
                self.host.keep_probes(|name| probes.runs(name));
            }
            Effect::Read(reading) => self.read_only(reading),
            Effect::StorePolicy(bytes) => {
                self.keeper.file(restore::policy_file(&self.settings.state.dir), bytes);
            }
            Effect::Status(_) => self.tell_status(),
            Effect::PolicyState(state) => {
                if let Some(refused) = &state.refused {
                    tracing::warn!(refused, "policy refused; the one before stays in force");
                }
                info!(generation = state.effective.generation, confirmed = state.confirmed, "policy");
                self.policy_in_force(state.effective.generation);
                self.said.policy(&state);
                self.uplink.policy(state);
            }
            Effect::RequestLease { decision, kind, subject, share } => {
                self.uplink.lease(decision, kind, subject, share);
            }
            Effect::ReadSnapshot { id, at_ms } => self.read_snapshot(id, at_ms),
            Effect::KeepSnapshot { why, bytes } => self.keep_snapshot(why, bytes),
            Effect::StoreLearned(bytes) => self.store_learned(bytes),
            Effect::StoreChunk(chunk) => self.keeper.chunk(chunk),
            Effect::CutRecording { window, tail } => self.keeper.cut(window, tail),
            Effect::OrderDone { id, done, text } => self.uplink.order_done(id, done, text),
        }
    }

    fn run_step(&mut self, action: ActionId, decision: DecisionId, step: Step, invocation: Option<[u8; 16]>) {
        info!(%action, %decision, %step, "step begins");
        self.acting(action, &step);
        self.in_hand.insert(action, step.kind());
        let (actuator, events) = (self.actuator.clone(), self.events.clone());
        let redaction = self.settings.journal.redaction();
        // Nobody takes a scene before the host is enrolled.
        let is_enrolled = self.uplink.is_enrolled();
        tokio::spawn(async move {
            let (ended, has_ended) = oneshot::channel::<()>();
            if let Some(unit) = scene::wiped_by(&step).filter(|_| is_enrolled) {
                let before = Before { action, decision, invocation };
                let (begun, events) = (scene::begin(&actuator, unit, before, clock::now()).await, events.clone());
                tokio::spawn(async move {
                    let _ = timeout(scene::JOURNAL_AFTER, has_ended).await;
                    let scene = begun.with_journal(redaction).await;
                    let _ = events.send(Event::Scene(Box::new(scene))).await;
                });
            }
            failpoint::pass("before_step");
            let outcome = actuator.run(action, decision, &step, invocation).await;
            drop(ended);
            failpoint::pass("after_step");
            let _ = events.send(Event::StepDone { action, outcome }).await;
        });
    }

    fn undo(&self, action: ActionId, of: ActionId) {
        info!(%action, %of, "undo begins");
        let (actuator, events) = (self.actuator.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = actuator.undo(action, of).await;
            let _ = events.send(Event::UndoDone { action, outcome }).await;
        });
    }

    fn put_message(&mut self, action: ActionId, to: String, decision: DecisionId, text: String) {
        self.in_hand.insert(action, "notify");
        let (sender, events) = (self.sender.clone(), self.events.clone());
        let message = Message {
            action: action.to_string(),
            decision: decision.to_string(),
            text,
            hostname: self.hostname.clone(),
            created_ms: clock::now().wall_ms,
            to,
        };
        tokio::spawn(async move {
            let to = message.to.clone();
            let (ended, text) = match sender.put(action, message).await {
                Ok(_) => (Ended::Done, format!("queued for {to}")),
                Err(text) => (Ended::Failed, text),
            };
            let outcome = Outcome { ended, text, elapsed_ms: 0, freed_bytes: None };
            let _ = events.send(Event::StepDone { action, outcome }).await;
        });
    }

    fn ask_after(&mut self, action: ActionId, step: Step) {
        debug!(%action, %step, "asking what became of it");
        self.acting(action, &step);
        self.in_hand.insert(action, step.kind());
        let (actuator, events, sender) = (self.actuator.clone(), self.events.clone(), self.sender.clone());
        tokio::spawn(async move {
            if matches!(step, Step::Notify { .. }) {
                let outcome = Outcome {
                    ended: Ended::Done,
                    text: "queued before the restart".to_owned(),
                    elapsed_ms: 0,
                    freed_bytes: None,
                };
                let known = sender.outbox().await.holds(action);
                let status = if known { StepStatus::Ended(outcome) } else { StepStatus::NeverSeen };
                let _ = events.send(Event::StepStatus { action, status }).await;
                return;
            }
            let mut told_running = false;
            for _ in 0..ASK_ATTEMPTS_MAX {
                match actuator.status(action).await {
                    Ok(StepStatus::Running) => {
                        if !told_running {
                            told_running = true;
                            let status = StepStatus::Running;
                            let _ = events.send(Event::StepStatus { action, status }).await;
                        }
                    }
                    Ok(StepStatus::Ended(outcome)) if told_running => {
                        let _ = events.send(Event::StepDone { action, outcome }).await;
                        return;
                    }
                    Ok(status) => {
                        let _ = events.send(Event::StepStatus { action, status }).await;
                        return;
                    }
                    Err(error) => debug!(%action, error, "cannot ask"),
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        });
    }

    fn emit(&mut self, item: Item) {
        if let Item::Finding(finding) = &item {
            let (id, subject) = (finding.id, &finding.subject);
            let known = self.findings.get(&id).map(|known| known.state);
            if known != Some(finding.state) {
                let evidence = finding.evidence.first().map(|e| e.text.as_str()).unwrap_or_default();
                let opened_ms = finding.opened.wall_ms;
                info!(%id, kind = %finding.kind, %subject, state = ?finding.state, opened_ms, evidence, "finding");
            }
            if finding.state == FindingState::Cleared {
                self.findings.remove(&id);
            } else {
                self.findings.insert(id, finding.clone());
            }
        }
        self.keeper.item(item);
    }
}
