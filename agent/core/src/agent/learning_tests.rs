//! Orders about what was learned: taken once, recorded before they are carried out, and refused with
//! words otherwise.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;

use super::*;
use crate::detect::learned::{LearnedSubject, SnapshotWhy};
use crate::policy::Glob;
use crate::policy::order::Order;
use crate::policy::signed::{Signed, TrustedKeys};
use crate::record::{Author, LearningChange};
use crate::sample::{Filesystem, FilesystemUsage};

const HOST: HostId = HostId([7; 16]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn now(second: u64) -> Now {
    Now { boot_ns: second * 1_000_000_000, wall_ms: i64::try_from(second).unwrap_or(0) * 1_000 }
}

fn settings() -> Settings {
    Settings {
        ids_seed: 1,
        host: Some(HOST),
        facts: HostFacts::default(),
        detect: detect::Settings::default(),
        operator_keys: TrustedKeys(vec![key().verifying_key()]),
        fleet: [0; 16],
        budget: crate::budget::Limits::default(),
        observe_only: None,
    }
}

/// An agent that has watched two disks for a while.
fn agent(restored: Restored) -> Agent {
    let mut agent = Agent::new(settings(), restored, now(0));
    for second in (0..600).step_by(10) {
        let fs = |mount: &str| {
            let usage = FilesystemUsage { size_bytes: 1_000, avail_bytes: 500, free_bytes: 500, ..Default::default() };
            Filesystem { mount: mount.into(), usage: Some(usage), ..Filesystem::default() }
        };
        let sample = Sample { at: now(second), filesystems: vec![fs("/"), fs("/var")], ..Sample::default() };
        agent.handle(Input::Sample(Box::new(sample)), now(second));
    }
    settle(&mut agent, 600);
    agent
}

/// What the agent wants done, its records taken at once.
fn settle(agent: &mut Agent, second: u64) -> Vec<Effect> {
    let mut all = Vec::new();
    while let Some(effect) = agent.poll_effect() {
        if let Effect::Persist { token, .. } = &effect {
            agent.handle(Input::Persisted { token: *token }, now(second));
        }
        all.push(effect);
    }
    all
}

fn order(change: LearningChange, not_after: i64) -> Order {
    let by = Author { name: "ana@ops".into(), reason: "poisoned by the migration".into() };
    Order::Learning { host: HOST, change, not_after_ms: not_after * 1_000, by }
}

fn reset(metric: &str) -> LearningChange {
    LearningChange::Reset { metric: Glob::new(metric) }
}

fn submit(agent: &mut Agent, signed: Signed, second: u64) -> Vec<Effect> {
    agent.handle(Input::Order { id: OrderId(9), signed: Box::new(signed) }, now(second));
    settle(agent, second)
}

fn answer(effects: &[Effect]) -> (bool, String) {
    let answer = effects.iter().find_map(|effect| match effect {
        Effect::OrderDone { id: OrderId(9), done, text } => Some((*done, text.clone())),
        _ => None,
    });
    answer.expect("an order is answered")
}

fn records(effects: &[Effect]) -> Vec<Record> {
    let of_learning = |effect: &Effect| match effect {
        Effect::Persist { record, .. } if matches!(record.body, Body::Learning { .. }) => Some(record.clone()),
        _ => None,
    };
    effects.iter().filter_map(of_learning).collect()
}

fn kept(effects: &[Effect]) -> Option<(SnapshotWhy, Vec<u8>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::KeepSnapshot { why, bytes } => Some((*why, bytes.clone())),
        _ => None,
    })
}

fn disks(agent: &Agent) -> BTreeMap<String, LearnedSubject> {
    agent.learned().subjects.into_iter().map(|subject| (subject.name.clone(), subject)).collect()
}

#[test]
fn an_order_to_forget_is_recorded_kept_from_before_and_carried_out_once() {
    let mut agent = agent(Restored::default());
    assert_eq!(disks(&agent).len(), 2);
    let signed = order(reset("/v*"), 4_000).sign(&key());
    let effects = submit(&mut agent, signed.clone(), 700);
    assert_eq!(answer(&effects), (true, "1 learned subject forgotten; a snapshot from before is kept".to_owned()));
    let recorded = records(&effects);
    assert!(
        matches!(&recorded[..], [Record { body: Body::Learning { change, by, .. }, .. }]
            if *change == reset("/v*") && by.name == "ana@ops"),
        "{recorded:?}"
    );
    let at = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).expect("it is there");
    let persisted = at(|effect| matches!(effect, Effect::Persist { .. }));
    assert!(persisted < at(|effect| matches!(effect, Effect::StoreLearned(_))), "recorded before it is done");
    assert_eq!(disks(&agent).keys().collect::<Vec<_>>(), ["/"]);
    let (why, before) = kept(&effects).expect("the state from before is kept");
    assert_eq!(why, SnapshotWhy::Reset);
    assert_eq!(
        Detectors::restore(&before, detect::Settings::default(), 1, now(700)).unwrap().learned().subjects.len(),
        2
    );
    assert!(agent.learned().models.iter().all(|model| model.reset_ms == Some(700_000)));

    let again = submit(&mut agent, signed.clone(), 710);
    let (done, text) = answer(&again);
    assert!(!done && text.starts_with("this order was taken already"), "{text}");
    assert!(records(&again).is_empty());

    // Nor after a restart: the ledger knows it.
    let restored = Restored { records: recorded, ..Restored::default() };
    let mut restarted = self::agent(restored);
    let (done, text) = answer(&submit(&mut restarted, signed, 720));
    assert!(!done && text.starts_with("this order was taken already"), "{text}");
    assert_eq!(disks(&restarted).len(), 2);
}

#[test]
fn an_order_that_is_forged_late_for_another_host_or_about_nothing_changes_nothing() {
    let mut agent = agent(Restored::default());
    let stranger = SigningKey::from_bytes(&[2; 32]);
    let mut changed = order(reset("/var"), 4_000).sign(&key());
    *changed.bytes.last_mut().unwrap() ^= 1;
    let by = Author { name: "ana@ops".into(), reason: "x".into() };
    let elsewhere = Order::Learning { host: HostId([8; 16]), change: reset("*"), not_after_ms: 4_000_000, by };
    for (signed, says) in [
        (order(reset("*"), 4_000).sign(&stranger), "order is not believed"),
        (changed, "order is not believed"),
        (order(reset("*"), 600).sign(&key()), "order expired 100000 ms ago"),
        (elsewhere.sign(&key()), "order is for host"),
        (order(reset("/srv"), 4_000).sign(&key()), "nothing that was learned matches `/srv`"),
    ] {
        let effects = submit(&mut agent, signed, 700);
        let (done, text) = answer(&effects);
        assert!(!done && text.contains(says), "{says}: {text}");
        assert!(records(&effects).is_empty() && kept(&effects).is_none(), "{says}");
    }
    assert_eq!(disks(&agent).len(), 2);
}

#[test]
fn a_rollback_brings_back_what_was_known_before_and_can_itself_be_rolled_back() {
    let mut agent = agent(Restored::default());
    let known = disks(&agent);
    let everything = LearningChange::Reset { metric: None };
    let (_, before) = kept(&submit(&mut agent, order(everything, 4_000).sign(&key()), 700)).unwrap();
    assert!(disks(&agent).is_empty());

    let back = LearningChange::Rollback { to_ms: None };
    let effects = submit(&mut agent, order(back.clone(), 4_000).sign(&key()), 710);
    assert!(effects.contains(&Effect::ReadSnapshot { id: OrderId(9), at_ms: None }), "{effects:?}");
    assert!(records(&effects).is_empty(), "nothing is recorded before it is known to be possible");
    let other = submit(&mut agent, order(reset("*"), 4_001).sign(&key()), 711);
    assert!(answer(&other).1.contains("under way"), "one at a time");

    agent.handle(Input::SnapshotRead { id: OrderId(9), read: Ok((700_000, before)) }, now(712));
    let effects = settle(&mut agent, 712);
    assert_eq!(answer(&effects), (true, "went back to the snapshot".to_owned()));
    let recorded = records(&effects);
    assert!(
        matches!(&recorded[..], [Record { body: Body::Learning { change, .. }, .. }]
            if *change == LearningChange::Rollback { to_ms: Some(700_000) }),
        "{recorded:?}"
    );
    assert_eq!(disks(&agent).keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
    assert_eq!(kept(&effects).map(|(why, _)| why), Some(SnapshotWhy::Rollback));
    assert!(agent.learned().models.iter().all(|model| model.rolled_back_ms == Some(712_000)));
}

#[test]
fn a_snapshot_that_cannot_be_used_is_not_gone_back_to() {
    let mut agent = agent(Restored::default());
    for (not_after, read, says) in [
        (4_000, Err("no snapshot of what was learned was taken yet".to_owned()), "was taken yet"),
        (4_001, Ok((1, b"MDETnonsense".to_vec())), "the snapshot cannot be used: detector state is"),
    ] {
        let back = order(LearningChange::Rollback { to_ms: Some(1) }, not_after).sign(&key());
        submit(&mut agent, back, 700);
        agent.handle(Input::SnapshotRead { id: OrderId(9), read }, now(701));
        let effects = settle(&mut agent, 701);
        let (done, text) = answer(&effects);
        assert!(!done && text.contains(says), "{text}");
        assert!(records(&effects).is_empty() && kept(&effects).is_none());
    }
    assert_eq!(disks(&agent).len(), 2);
}

#[test]
fn an_order_that_cannot_be_recorded_is_not_carried_out_and_may_be_given_again() {
    let mut agent = agent(Restored::default());
    let signed = order(reset("/var"), 4_000).sign(&key());
    agent.handle(Input::Order { id: OrderId(9), signed: Box::new(signed.clone()) }, now(700));
    let mut answered = None;
    while let Some(effect) = agent.poll_effect() {
        match effect {
            Effect::Persist { token, .. } => {
                agent.handle(Input::PersistFailed { token, text: "no space left".into() }, now(700));
            }
            Effect::OrderDone { done, text, .. } => answered = Some((done, text)),
            _ => {}
        }
    }
    let (done, text) = answered.expect("it is answered");
    assert!(!done && text.contains("no space left"), "{text}");
    assert_eq!(disks(&agent).len(), 2);
    assert!(answer(&submit(&mut agent, signed, 720)).0, "and it was never taken");
}
