//! What an agent tells and decides anew when it starts with trouble that it knew before.

use super::*;
use crate::policy::signed::TrustedKeys;
use crate::sample::{ActiveState, Unit};

fn settings(host: Option<HostId>) -> Settings {
    Settings {
        ids_seed: 1,
        host,
        facts: HostFacts::default(),
        detect: detect::Settings::default(),
        operator_keys: TrustedKeys::default(),
        fleet: [0; 16],
        observe_only: None,
    }
}

/// Everything that an agent wants done, its records taken at once.
fn effects(agent: &mut Agent, now: Now) -> Vec<Effect> {
    let mut all = Vec::new();
    while let Some(effect) = agent.poll_effect() {
        if let Effect::Persist { token, .. } = &effect {
            agent.handle(Input::Persisted { token: *token }, now);
        }
        all.push(effect);
    }
    all
}

fn records(effects: &[Effect]) -> Vec<Record> {
    let record = |effect: &Effect| match effect {
        Effect::Persist { record, .. } => Some(record.clone()),
        _ => None,
    };
    effects.iter().filter_map(record).collect()
}

fn tells_of_the_unit(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| {
        matches!(effect, Effect::Emit(Item::Finding(finding))
            if finding.kind == FindingKind::ServiceFailed && finding.subject.to_string() == "web.service")
    })
}

fn decides(effects: &[Effect]) -> bool {
    records(effects).iter().any(|record| matches!(record.body, Body::Decided(_)))
}

/// An agent that nobody has enrolled saw a service fail; what it learned and wrote is handed to the next one.
fn restarted(host: Option<HostId>, begins_ledger: bool) -> Vec<Effect> {
    let now = Now { boot_ns: 60_000_000_000, wall_ms: 60_000 };
    let mut before = Agent::new(settings(None), Restored::default(), now);
    let failed = Unit { active: ActiveState::Failed, result: "exit-code".to_owned(), ..Unit::default() };
    let name = "web.service".parse().expect("a unit name");
    before.handle(Input::UnitChanged { name, unit: Some(Box::new(failed)) }, now);
    let seen = effects(&mut before, now);
    assert!(tells_of_the_unit(&seen) && decides(&seen));
    let restored =
        Restored { detectors: Some(before.snapshot()), records: records(&seen), begins_ledger, ..Restored::default() };
    let mut after = Agent::new(settings(host), restored, now);
    effects(&mut after, now)
}

#[test]
fn trouble_from_before_the_start_is_told_again_and_not_decided_again() {
    let effects = restarted(None, false);
    assert!(tells_of_the_unit(&effects));
    assert!(!decides(&effects));
}

#[test]
fn trouble_from_before_the_enrolment_is_decided_anew_in_the_new_ledger() {
    let effects = restarted(Some(HostId([7; 16])), true);
    assert!(tells_of_the_unit(&effects));
    assert!(decides(&effects));
}
