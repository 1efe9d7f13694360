//! Stories of more than one decision: ladders, memory, narrowing.

use super::*;
use crate::decide::says_the_same;
use crate::policy::builtin;

const LADDER: &str = "mode = \"auto\"\ntries = 1\ncooldown = \"1m\"\nbudget = \"5 per 1h\"\nladder = [\n{ do = \"unit.restart\" },\n{ do = \"unit.restart\", after = \"5m\", reset_failed = true },\n{ do = \"notify\", after = \"10m\", to = \"oncall\" },\n]";

#[test]
fn climbs_the_ladder_rung_by_rung_and_then_holds() {
    let mut host = Host::new(policy(LADDER));
    let nginx = finding("nginx.service");
    let first = host.decide(&nginx, at(100));
    assert_eq!((told(&first).as_str(), plan(&first).unwrap().rung), ("unit.restart nginx.service", 0));
    host.verified(&first, false, at(130));
    let waiting = host.ask(&nginx, at(200));
    assert_eq!(reason(&waiting), Some(HoldReason::RungNotDue));
    assert_eq!(verdict(&waiting, Guard::Ladder).text, "rung 2 of 3 is due in 3m20s");
    let second = host.decide(&nginx, at(400));
    assert_eq!(plan(&second).unwrap().rung, 1);
    host.verified(&second, false, at(430));
    assert_eq!(reason(&host.ask(&nginx, at(600))), Some(HoldReason::RungNotDue));
    assert_eq!(told(&host.decide(&nginx, at(700))), "notify oncall");
    for later in [701, 4_000, 100_000] {
        let held = host.decide(&nginx, at(later));
        assert_eq!(reason(&held), Some(HoldReason::LadderExhausted), "{later}");
    }
}

#[test]
fn a_service_that_fails_again_under_another_finding_is_the_same_trouble() {
    let mut host = Host::new(policy(LADDER));
    let first = host.decide(&finding("nginx.service"), at(100));
    host.verified(&first, false, at(105));
    let again = Finding { id: FindingId(2), opened: at(104), ..finding("nginx.service") };
    assert_eq!(reason(&host.ask(&again, at(250))), Some(HoldReason::RungNotDue));
    let second = host.decide(&again, at(400));
    assert_eq!(plan(&second).unwrap().rung, 1, "five minutes after the trouble began");
    host.verified(&second, false, at(430));
    let last = Finding { id: FindingId(3), opened: at(420), ..finding("nginx.service") };
    assert_eq!(told(&host.decide(&last, at(700))), "notify oncall");
    assert_eq!(reason(&host.ask(&last, at(5000))), Some(HoldReason::LadderExhausted));
    // A day later it is new trouble.
    let new = Finding { id: FindingId(4), opened: at(90_000), ..finding("nginx.service") };
    assert_eq!(plan(&host.ask(&new, at(90_000))).unwrap().rung, 0);
}

#[test]
fn a_proved_recovery_ends_the_trouble() {
    let mut host = Host::new(policy(LADDER));
    let first = host.decide(&finding("nginx.service"), at(100));
    host.verified(&first, true, at(140));
    let again = Finding { id: FindingId(2), opened: at(200), ..finding("nginx.service") };
    assert_eq!(plan(&host.ask(&again, at(200))).unwrap().rung, 0);
}

#[test]
fn a_held_action_does_not_hold_up_the_escalation() {
    let mut host = Host::new(policy(LADDER));
    host.facts.actuator_down = Some("gone".into());
    let nginx = finding("nginx.service");
    assert_eq!(reason(&host.decide(&nginx, at(600))), Some(HoldReason::ActuatorUnavailable));
    assert_eq!(told(&host.decide(&nginx, at(700))), "notify oncall");
    assert_eq!(reason(&host.decide(&nginx, at(701))), Some(HoldReason::ActuatorUnavailable), "told once");
    host.facts.actuator_down = None;
    assert_eq!(plan(&host.decide(&nginx, at(800))).unwrap().rung, 0, "the first rung was never tried");
}

#[test]
fn the_last_rung_that_is_due_is_tried_again_under_cooldown_and_budget() {
    let mut host = Host::new(policy(
        &LADDER
            .replace("tries = 1", "tries = 3")
            .replace("5 per 1h", "9 per 1h")
            .replace("cooldown = \"1m\"", "cooldown = \"1m\"\nbackoff = 1"),
    ));
    let nginx = finding("nginx.service");
    let mut told_at = Vec::new();
    for second in 100..2_000 {
        let decision = host.decide(&nginx, at(second));
        if let Some(plan) = plan(&decision) {
            told_at.push((second - 100, plan.rung));
            host.verified(&decision, false, at(second));
        }
    }
    // Every minute the first, from the fifth on the second, three times each at most, and one message.
    assert_eq!(
        told_at,
        [(0, 0), (60, 0), (120, 0), (300, 1), (360, 1), (420, 1), (600, 2)].map(|pair: (u64, u32)| pair)
    );
    assert_eq!(reason(&host.ask(&nginx, at(90_000))), Some(HoldReason::LadderExhausted));
}

#[test]
fn without_a_number_of_tries_the_budget_is_the_bound() {
    let mut host = Host::new(auto("cooldown = \"1s\"\nbackoff = 1\nbudget = \"3 per 1h\""));
    let nginx = finding("nginx.service");
    let mut acted = 0;
    for second in 100..1_000 {
        let decision = host.decide(&nginx, at(second));
        if plan(&decision).is_some() {
            acted += 1;
            host.verified(&decision, false, at(second));
        }
    }
    assert_eq!(acted, 3);
    assert_eq!(reason(&host.ask(&nginx, at(1_000))), Some(HoldReason::BudgetSpent));
}

#[test]
fn a_message_above_an_action_goes_first() {
    let mut host = Host::new(policy(
        "mode = \"approve\"\nladder = [{ do = \"notify\", to = \"dba\" }, { do = \"unit.restart\" }]",
    ));
    let nginx = finding("nginx.service");
    assert_eq!(told(&host.decide(&nginx, at(100))), "notify dba");
    let asking = host.decide(&nginx, at(101));
    assert_eq!(reason(&asking), Some(HoldReason::NeedsApproval));
    host.answered(asking.id, true, at(200), at(110));
    assert_eq!(told(&host.decide(&nginx, at(111))), "unit.restart nginx.service");
}

#[test]
fn starts_over_where_the_rule_says_so() {
    let mut host = Host::new(auto("tries = 1\ncooldown = \"1m\"\nstart_over = \"2h\"\nbudget = \"9 per 1h\""));
    let nginx = finding("nginx.service");
    let first = host.decide(&nginx, at(100));
    host.verified(&first, false, at(130));
    assert_eq!(reason(&host.ask(&nginx, at(7299))), Some(HoldReason::LadderExhausted));
    let second = host.decide(&nginx, at(7300));
    assert_eq!(plan(&second).unwrap().rung, 0);
    host.verified(&second, false, at(7330));
    assert_eq!(reason(&host.ask(&nginx, at(7400))), Some(HoldReason::LadderExhausted));
}

#[test]
fn an_unknown_outcome_frees_the_subject_and_counts_as_a_failure() {
    let mut host = Host::new(auto("cooldown = \"1m\"\nstart_over = \"1s\""));
    let nginx = finding("nginx.service");
    let first = host.decide(&nginx, at(100));
    host.ended(&first, Ended::Unknown, at(101));
    assert_eq!(reason(&host.ask(&nginx, at(161))), Some(HoldReason::Cooldown));
    assert_eq!(reason(&host.ask(&nginx, at(220))), None);
}

#[test]
fn a_plan_that_was_never_begun_occupies_nothing_after_a_crash_but_counts() {
    let start = |host: &mut Host| host.record(at(150), Body::Started { boot: BOOT, version: "1".into() });
    let mut host = Host::new(auto("cooldown = \"0s\"\nstart_over = \"1s\"\nbudget = \"2 per 1h\""));
    let nginx = finding("nginx.service");
    host.decide(&nginx, at(100));
    start(&mut host);
    let again = host.decide(&nginx, at(151));
    assert_eq!(reason(&again), None);
    assert_eq!(verdict(&again, Guard::Budget).text, "budget 2 of 2 per 1h");
    let step = plan(&again).unwrap().steps[0].clone();
    host.record(at(153), Body::Intent { decision: again.id, action: step.action, step: step.step });
    start(&mut host);
    assert_eq!(reason(&host.ask(&nginx, at(154))), Some(HoldReason::Busy), "it may have been handed over");
}

#[test]
fn with_the_builtin_policy_nothing_is_ever_done_and_it_says_what_would_be() {
    let mut host = Host::new(builtin());
    let decision = host.ask(&finding("nginx.service"), at(100));
    assert_eq!(reason(&decision), Some(HoldReason::ObserveOnly));
    let Choice::Hold { would: Some(would), .. } = &decision.choice else { panic!() };
    assert_eq!(would.steps[0].step.to_string(), "unit.restart nginx.service");
    let mut host = Host::new(Policy::default());
    let decision = host.ask(&finding("nginx.service"), at(100));
    assert_eq!((reason(&decision), decision.verdicts.len()), (Some(HoldReason::NoRule), 0));
}

#[test]
fn disks_are_reclaimed_and_hosts_only_reported() {
    let text = "version = 1\n[[rule]]\nname = \"d\"\non = [\"disk.full\"]\nmounts = [\"/var\"]\nmode = \"auto\"\nwhen = \"used > 90%\"\nladder = [{ do = \"disk.reclaim\", from = [\"journal\"], until = \"used < 80%\" }]\n[[rule]]\nname = \"h\"\non = [\"memory.pressure\"]\nmode = \"suggest\"\nladder = [{ do = \"notify\", to = \"oncall\" }]";
    let mut host = Host::new(Policy::parse(&[("p.toml", text)]).unwrap());
    let used = |value| crate::finding::Evidence {
        text: String::new(),
        measure: Some(crate::finding::Measure { name: "used_ratio".into(), value, limit: None, expected: None }),
    };
    let full = |value| Finding {
        kind: FindingKind::DiskFull,
        subject: Subject::Mount("/var".into()),
        evidence: vec![used(value)],
        ..finding("x.service")
    };
    assert_eq!(told(&host.ask(&full(0.95), at(100))), "disk.reclaim /var");
    assert_eq!(reason(&host.ask(&full(0.85), at(100))), Some(HoldReason::NoRule), "the condition does not hold");
    let pressure = Finding { kind: FindingKind::MemoryPressure, subject: Subject::Host, ..finding("x.service") };
    assert_eq!(told(&host.ask(&pressure, at(100))), "notify oncall");
}

#[test]
fn roots_local_rules_only_take_away() {
    let local = |text: &str| Policy::parse(&[("local.toml", text)]).unwrap().files;
    let rule = "version = 1\n[[rule]]\nname = \"mine\"\non = [\"service.failed\"]\nunits = [\"nginx.service\"]\n";
    let signed = auto("budget = \"4 per 1h\"\ncooldown = \"1m\"");
    let nginx = finding("nginx.service");

    let mut host = Host::new(signed.clone().narrowed_by(local(&format!("{rule}mode = \"observe\""))));
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::ObserveOnly));
    assert_eq!(reason(&host.ask(&finding("app.service"), at(100))), None, "not about it");

    let wide = "mode = \"auto\"\nbudget = \"2 per 2h\"\ncooldown = \"10s\"\nladder = [{ do = \"unit.stop\" }]\nrisk = \"high\"\nconfidence = 0.1";
    let mut host = Host::new(signed.clone().narrowed_by(local(&format!("{rule}{wide}"))));
    let decision = host.ask(&nginx, at(100));
    assert_eq!(told(&decision), "unit.restart nginx.service", "what is done stays");
    assert_eq!(verdict(&decision, Guard::Budget).text, "budget 1 of 2 per 2h");
    assert_eq!(verdict(&decision, Guard::Confidence).text, "confidence 1.00 ≥ 0.90");
    assert_eq!(verdict(&decision, Guard::Risk).text, "risk low ≤ medium");

    let only_local = Policy::default().narrowed_by(local(&format!("{rule}{wide}")));
    assert_eq!(reason(&Host::new(only_local).ask(&nginx, at(100))), Some(HoldReason::NoRule), "no rule of its own");
    let protected = signed.narrowed_by(local("version = 1\nprotected = [\"nginx.service\"]"));
    assert_eq!(reason(&Host::new(protected).ask(&nginx, at(100))), Some(HoldReason::Protected));
}

#[test]
fn a_repeated_decision_says_the_same_until_something_changes() {
    let mut host = Host::new(auto("confidence = 0.9"));
    let weak = Finding { confidence: 0.5, ..finding("nginx.service") };
    let (a, b) = (host.ask(&weak, at(100)), host.ask(&weak, at(200)));
    assert!(a.id != b.id && says_the_same(&a, &b));
    host.facts.hold_file = Some("/etc/mainstay/hold".into());
    assert!(!says_the_same(&a, &host.ask(&weak, at(300))));
}

#[test]
fn a_rule_for_some_hosts_is_none_for_others() {
    let mut host = Host::new(auto("labels = { role = \"web\" }"));
    let nginx = finding("nginx.service");
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::NoRule));
    host.facts.labels.insert("role".into(), "web".into());
    assert_eq!(reason(&host.ask(&nginx, at(100))), None);
}
