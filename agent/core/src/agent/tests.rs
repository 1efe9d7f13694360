//! What an agent tells and decides anew when it starts with trouble that it knew before.

use super::*;
use crate::finding::Finding;
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
        budget: crate::budget::Limits::default(),
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

const POLICY: &str = "version = 1\n[[rule]]\nname = \"restart\"\non = [\"service.failed\"]\nunits = [\"web.service\"]\n\
    mode = \"auto\"\nladder = [{ do = \"unit.restart\" }]\n";

/// The unit in the run of this number, failed or running.
fn unit(run: u8, active: ActiveState) -> Input {
    let unit = Unit { active, invocation: Some([run; 16]), result: "signal".to_owned(), ..Unit::default() };
    Input::UnitChanged { name: "web.service".parse().expect("a unit name"), unit: Some(Box::new(unit)) }
}

/// An agent under root's own rule whose unit failed in its first run: the decision to restart it is on its way into
/// the ledger. With it, what has to be answered.
fn about_to_restart(now: Now) -> (Agent, Vec<Token>) {
    let mut agent = Agent::new(settings(None), Restored::default(), now);
    agent.handle(Input::ActuatorAvailable(true), now);
    let file = SourceFile { name: "restart.toml".to_owned(), bytes: POLICY.as_bytes().to_vec() };
    agent.handle(Input::LocalPolicyChanged(vec![file]), now);
    effects(&mut agent, now);
    agent.handle(unit(1, ActiveState::Failed), now);
    let mut tokens = Vec::new();
    while let Some(effect) = agent.poll_effect() {
        if let Effect::Persist { token, .. } = effect {
            tokens.push(token);
        }
    }
    (agent, tokens)
}

fn restarts(effects: &[Effect]) -> Vec<Option<[u8; 16]>> {
    let run = |effect: &Effect| match effect {
        Effect::Run { invocation, .. } => Some(*invocation),
        _ => None,
    };
    effects.iter().filter_map(run).collect()
}

#[test]
fn a_restart_is_for_the_run_that_failed_and_no_other() {
    let now = Now { boot_ns: 60_000_000_000, wall_ms: 60_000 };
    let (mut agent, tokens) = about_to_restart(now);
    tokens.into_iter().for_each(|token| agent.handle(Input::Persisted { token }, now));
    assert_eq!(restarts(&effects(&mut agent, now)), [Some([1; 16])]);
}

#[test]
fn what_somebody_mended_while_the_intent_was_written_is_left_alone() {
    let now = Now { boot_ns: 60_000_000_000, wall_ms: 60_000 };
    let (mut agent, tokens) = about_to_restart(now);
    agent.handle(unit(2, ActiveState::Active), now);
    let later = now.plus(std::time::Duration::from_secs(10));
    agent.handle(unit(2, ActiveState::Active), later);
    tokens.into_iter().for_each(|token| agent.handle(Input::Persisted { token }, later));
    let effects = effects(&mut agent, later);
    assert_eq!(restarts(&effects), []);
    let why = records(&effects).into_iter().find_map(|record| match record.body {
        Body::Outcome { outcome, .. } => Some(outcome.text),
        _ => None,
    });
    assert_eq!(why.as_deref(), Some("not carried out: the finding has cleared meanwhile"));
}

/// Tells the agent once a second what it has used, for so long; gives what it wants done.
fn uses(agent: &mut Agent, from: Now, seconds: u64, cpu: f64, used: &mut f64) -> (Vec<Effect>, Now) {
    let (mut all, mut now) = (Vec::new(), from);
    for _ in 0..seconds {
        now = now.plus(std::time::Duration::from_secs(1));
        *used += cpu;
        let usage = crate::budget::Usage { cpu: std::time::Duration::from_secs_f64(*used), rss_bytes: Some(1 << 20) };
        agent.handle(Input::Used(usage), now);
        all.extend(effects(agent, now));
    }
    (all, now)
}

fn read(effects: &[Effect]) -> Vec<crate::budget::Reading> {
    let reading = |effect: &Effect| match effect {
        Effect::Read(reading) => Some(reading.clone()),
        _ => None,
    };
    effects.iter().filter_map(reading).collect()
}

#[test]
fn over_its_budget_the_agent_reads_less_says_so_and_still_heals() {
    use crate::budget::Depth;
    let start = Now { boot_ns: 60_000_000_000, wall_ms: 60_000 };
    let mut agent = Agent::new(settings(None), Restored::default(), start);
    agent.handle(Input::ActuatorAvailable(true), start);
    let leaks = POLICY.replace("service.failed", "service.failed\", \"fd.leak");
    let file = |text: &str| SourceFile { name: "restart.toml".to_owned(), bytes: text.as_bytes().to_vec() };
    agent.handle(Input::LocalPolicyChanged(vec![file(POLICY)]), start);
    assert_eq!(read(&effects(&mut agent, start)), [], "everything is read as it is");

    let mut used = 0.0;
    let (seen, now) = uses(&mut agent, start, 40, 0.5, &mut used);
    let depths: Vec<Depth> = read(&seen).iter().map(|reading| reading.depth).collect();
    assert_eq!(depths, [Depth::WithoutProcesses, Depth::Slower, Depth::CoreOnly]);
    let told = |effects: &[Effect]| -> Vec<Finding> {
        let finding = |effect: &Effect| match effect {
            Effect::Emit(Item::Finding(finding)) if finding.kind == FindingKind::AgentDegraded => Some(finding.clone()),
            _ => None,
        };
        effects.iter().filter_map(finding).collect()
    };
    let findings = told(&seen);
    assert_eq!(findings.len(), 3, "each step is told");
    assert!(findings[2].evidence.iter().any(|evidence| evidence.text.contains("step 3 of 3")), "{findings:?}");
    assert!(agent.status().to_string().contains("over its budget: reads less (step 3 of 3)"));

    // A rule that heals a leak makes its unit be read again, on the lowest step.
    agent.handle(Input::LocalPolicyChanged(vec![file(&leaks)]), now);
    let readings = read(&effects(&mut agent, now));
    assert_eq!(readings.len(), 1);
    assert_eq!((readings[0].depth, readings[0].healed.len()), (Depth::CoreOnly, 1));

    agent.handle(unit(1, ActiveState::Failed), now);
    assert_eq!(restarts(&effects(&mut agent, now)), [Some([1; 16])], "a killed service is healed all the same");

    let (seen, now) = uses(&mut agent, now, 1_200, 0.01, &mut used);
    assert_eq!(read(&seen).last().map(|reading| reading.depth), Some(Depth::Whole));
    let cleared = told(&seen).len();
    assert_eq!(cleared, 2, "two steps up are told, the last by the end of the finding");
    // Which takes its ten seconds of samples.
    let mut states = Vec::new();
    for second in 0..15 {
        let at = now.plus(std::time::Duration::from_secs(second));
        let sample = Sample {
            at,
            units: Some(BTreeMap::new()),
            memory: Some(crate::sample::Memory::default()),
            cpu: Some(crate::sample::CpuTimes::default()),
            filesystems: vec![crate::sample::Filesystem::default()],
            ..Sample::default()
        };
        agent.handle(Input::Sample(Box::new(sample)), at);
        states.extend(told(&effects(&mut agent, at)).iter().map(|finding| finding.state));
    }
    assert_eq!(states, [crate::finding::FindingState::Cleared]);
}
