//! One table per guard: what it lets pass and what not, and in which words.

use super::*;
use crate::decide::{Fleet, asks_approval};

/// Asks once and gives one guard's answer.
fn says(host: &mut Host, finding: &Finding, now: Now, guard: Guard) -> (bool, String) {
    let decision = host.ask(finding, now);
    let verdict = verdict(&decision, guard);
    (verdict.pass, verdict.text.clone())
}

fn pass(text: &str) -> (bool, String) {
    (true, text.to_owned())
}

fn refuse(text: &str) -> (bool, String) {
    (false, text.to_owned())
}

#[test]
fn every_guard_is_asked_in_order_and_all_pass_on_a_quiet_host() {
    let mut host = Host::new(auto(""));
    let decision = host.ask(&finding("nginx.service"), at(100));
    assert_eq!(told(&decision), "unit.restart nginx.service");
    let asked: Vec<Guard> = decision.verdicts.iter().map(|verdict| verdict.guard).collect();
    assert_eq!(asked, Guard::ALL);
    assert!(
        decision.verdicts.iter().all(|verdict| verdict.pass && !verdict.text.is_empty()),
        "{:#?}",
        decision.verdicts
    );
}

#[test]
fn evidence_needs_an_open_finding() {
    let mut host = Host::new(auto(""));
    let mut nginx = finding("nginx.service");
    assert_eq!(says(&mut host, &nginx, at(100), Guard::Evidence), pass("open"));
    nginx.state = FindingState::Unknown;
    assert_eq!(says(&mut host, &nginx, at(100), Guard::Evidence), refuse("what would show it can no longer be read"));
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::SubjectUnknown));
    nginx.state = FindingState::Cleared;
    assert_eq!(says(&mut host, &nginx, at(100), Guard::Evidence), refuse("the finding has cleared"));
}

#[test]
fn mode_says_how_far_a_rule_goes() {
    let cases = [
        ("observe", Some(HoldReason::ObserveOnly)),
        ("suggest", Some(HoldReason::SuggestOnly)),
        ("approve", Some(HoldReason::NeedsApproval)),
        ("auto", None),
    ];
    for (mode, expected) in cases {
        let mut host = Host::new(policy(&format!("mode = \"{mode}\"\nladder = [{{ do = \"unit.restart\" }}]")));
        let decision = host.ask(&finding("nginx.service"), at(100));
        assert_eq!(reason(&decision), expected, "{mode}");
        assert_eq!(asks_approval(&decision), mode == "approve");
        if let Choice::Hold { would, .. } = &decision.choice {
            assert_eq!(
                would.as_ref().unwrap().steps[0].step.to_string(),
                "unit.restart nginx.service",
                "says what it would do"
            );
        }
    }
    let mut host = Host::new(auto(""));
    host.facts.observe_only = Some("the agent crashed 5 times".into());
    assert_eq!(
        says(&mut host, &finding("nginx.service"), at(100), Guard::Mode),
        refuse("observing only: the agent crashed 5 times")
    );
}

#[test]
fn an_approval_lets_one_plan_pass_once_and_until_its_end() {
    let text = "mode = \"approve\"\ncooldown = \"0s\"\nladder = [{ do = \"unit.restart\" }]";
    let mut host = Host::new(policy(text));
    let nginx = finding("nginx.service");
    let asking = host.decide(&nginx, at(100));
    host.answered(asking.id, true, at(200), at(110));
    assert_eq!(says(&mut host, &nginx, at(120), Guard::Mode), pass("mode approve, approved by ana: because"));
    assert_eq!(reason(&host.ask(&nginx, at(200))), Some(HoldReason::NeedsApproval), "it has ended");
    let other = Finding { id: FindingId(2), ..nginx.clone() };
    assert_eq!(reason(&host.ask(&other, at(120))), Some(HoldReason::NeedsApproval), "another finding");
    let acting = host.decide(&nginx, at(120));
    assert_eq!(told(&acting), "unit.restart nginx.service");
    host.ended(&acting, Ended::Failed, at(121));
    assert_ne!(reason(&host.ask(&nginx, at(122))), None, "an approval is for one time");
    let mode = host.ask(&nginx, at(122));
    assert!(!verdict(&mode, Guard::Mode).pass);
}

#[test]
fn an_approval_of_another_plan_counts_for_nothing() {
    let restart = "mode = \"approve\"\nladder = [{ do = \"unit.restart\" }]";
    let mut host = Host::new(policy(restart));
    let nginx = finding("nginx.service");
    let asking = host.decide(&nginx, at(100));
    host.answered(asking.id, true, at(200), at(110));
    host.policy = policy(&restart.replace("unit.restart", "unit.start"));
    assert_eq!(reason(&host.ask(&nginx, at(120))), Some(HoldReason::NeedsApproval));
}

#[test]
fn a_denial_holds() {
    let mut host = Host::new(policy("mode = \"approve\"\nladder = [{ do = \"unit.restart\" }]"));
    let nginx = finding("nginx.service");
    let asking = host.decide(&nginx, at(100));
    host.answered(asking.id, false, at(200), at(110));
    let decision = host.ask(&nginx, at(120));
    assert_eq!(reason(&decision), Some(HoldReason::Denied));
    assert!(!asks_approval(&decision));
    assert_eq!(verdict(&decision, Guard::Mode).text, "mode approve, denied by ana: because");
}

#[test]
fn roots_hold_file_holds() {
    let mut host = Host::new(auto(""));
    let nginx = finding("nginx.service");
    assert_eq!(says(&mut host, &nginx, at(100), Guard::HoldFile), pass("no hold file"));
    host.facts.hold_file = Some("/etc/mainstay/hold".into());
    assert_eq!(says(&mut host, &nginx, at(100), Guard::HoldFile), refuse("/etc/mainstay/hold is there"));
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::HoldFile));
}

#[test]
fn an_operators_hold_is_for_its_scope_and_until_its_end() {
    let hold = |scope: &str, until: Option<Now>, held: bool| Body::Hold {
        scope: scope.into(),
        until_ms: until.map(|until| until.wall_ms),
        held,
        by: by("ana"),
    };
    for (scope, nginx_held, app_held) in [("fleet", true, true), ("host", true, true), ("nginx.service", true, false)] {
        let mut host = Host::new(auto(""));
        host.record(at(100), hold(scope, Some(at(200)), true));
        for (unit, held) in [("nginx.service", nginx_held), ("app.service", app_held)] {
            let expected = held.then_some(HoldReason::OperatorHold);
            assert_eq!(reason(&host.ask(&finding(unit), at(199))), expected, "{scope} {unit}");
            assert_eq!(reason(&host.ask(&finding(unit), at(200))), None, "{scope} {unit}: over");
        }
        host.record(at(150), hold(scope, None, false));
        assert_eq!(reason(&host.ask(&finding("nginx.service"), at(150))), None, "{scope}: lifted");
    }
    let mut host = Host::new(auto(""));
    host.record(at(100), hold("host", Some(at(220)), true));
    let text = refuse("host held for another 2m by ana: because");
    assert_eq!(says(&mut host, &finding("nginx.service"), at(100), Guard::OperatorHold), text);
    host.record(at(100), hold("host", None, true));
    let text = refuse("host held without end by ana: because");
    assert_eq!(says(&mut host, &finding("nginx.service"), at(9000), Guard::OperatorHold), text);
}

#[test]
fn protected_units_are_left_alone() {
    let mut host = Host::new(auto(""));
    assert_eq!(
        says(&mut host, &finding("nginx.service"), at(100), Guard::Protected),
        pass("nginx.service is not protected")
    );
    assert_eq!(says(&mut host, &finding("dbus.socket"), at(100), Guard::Protected), refuse("dbus.socket is protected"));
    assert_eq!(reason(&host.ask(&finding("systemd-logind.service"), at(100))), Some(HoldReason::Protected));
    let added = "version = 1\nprotected = [\"nginx*\"]";
    host.policy.files.extend(Policy::parse(&[("p.toml", added)]).unwrap().files);
    assert_eq!(reason(&host.ask(&finding("nginx.service"), at(100))), Some(HoldReason::Protected));
}

#[test]
fn one_plan_at_a_time_for_a_subject() {
    let mut host = Host::new(auto("cooldown = \"0s\"\nstart_over = \"1s\""));
    let nginx = finding("nginx.service");
    let acting = host.decide(&nginx, at(100));
    let decision = host.ask(&nginx, at(105));
    assert_eq!(reason(&decision), Some(HoldReason::Busy));
    let text = format!("unit.restart of {} is under way or being proved", acting.id);
    assert_eq!(verdict(&decision, Guard::Busy).text, text);
    assert_eq!(reason(&host.ask(&finding("app.service"), at(105))), None, "another subject");
    // Whoever carried it out never came back: 15 min for the steps, 5 min and 30 s for the proof.
    assert!(!verdict(&host.ask(&nginx, at(100 + 1229)), Guard::Busy).pass);
    assert!(verdict(&host.ask(&nginx, at(100 + 1230)), Guard::Busy).pass);
    host.verified(&acting, true, at(140));
    assert_eq!(reason(&host.ask(&nginx, at(141))), None);
}

#[test]
fn confidence_must_reach_the_rules() {
    let mut host = Host::new(auto("confidence = 0.9"));
    for (confidence, expected) in [
        (1.0, pass("confidence 1.00 ≥ 0.90")),
        (0.9, pass("confidence 0.90 ≥ 0.90")),
        (0.89, refuse("confidence 0.89 < 0.90")),
        (f64::NAN, refuse("confidence NaN < 0.90")),
    ] {
        let finding = Finding { confidence, ..finding("nginx.service") };
        assert_eq!(says(&mut host, &finding, at(100), Guard::Confidence), expected);
    }
}

#[test]
fn a_finding_must_have_held_for_long_enough() {
    let mut host = Host::new(auto("for = \"30s\""));
    let nginx = finding("nginx.service");
    assert_eq!(says(&mut host, &nginx, at(129), Guard::Duration), refuse("held 29s < 30s"));
    assert_eq!(reason(&host.ask(&nginx, at(129))), Some(HoldReason::TooYoung));
    assert_eq!(says(&mut host, &nginx, at(130), Guard::Duration), pass("held 30s ≥ 30s"));
}

#[test]
fn cooldown_grows_with_failures_and_is_over_after_a_success() {
    let mut host =
        Host::new(auto("cooldown = \"1m\"\ncooldown_max = \"3m\"\nbudget = \"100 per 1h\"\nstart_over = \"1s\""));
    let nginx = finding("nginx.service");
    let cooldown = |host: &mut Host, now| says(host, &nginx, now, Guard::Cooldown);
    assert_eq!(cooldown(&mut host, at(100)), pass("cooldown: last never"));
    let first = host.decide(&nginx, at(100));
    host.verified(&first, true, at(110));
    assert_eq!(cooldown(&mut host, at(159)), refuse("cooldown: last 59s ago < 1m"));
    assert_eq!(cooldown(&mut host, at(160)), pass("cooldown: last 1m ago ≥ 1m"));
    let second = host.decide(&nginx, at(160));
    host.verified(&second, false, at(161));
    assert_eq!(cooldown(&mut host, at(279)), refuse("cooldown: last 1m59s ago < 2m after 1 failure"));
    let third = host.decide(&nginx, at(280));
    host.ended(&third, Ended::Failed, at(281));
    let capped = refuse("cooldown: last 2m59s ago < 3m after 2 failures in a row");
    assert_eq!(cooldown(&mut host, at(459)), capped, "4m, but no more than 3m");
    let fourth = host.decide(&nginx, at(460));
    host.verified(&fourth, true, at(461));
    assert_eq!(cooldown(&mut host, at(520)), pass("cooldown: last 1m ago ≥ 1m"));
    assert_eq!(says(&mut host, &finding("app.service"), at(461), Guard::Cooldown), pass("cooldown: last never"));
}

#[test]
fn budget_counts_every_subject_of_a_rule() {
    let mut host = Host::new(auto("budget = \"2 per 1h\""));
    let budget = |host: &mut Host, unit: &str, now| says(host, &finding(unit), now, Guard::Budget);
    assert_eq!(budget(&mut host, "a.service", at(100)), pass("budget 1 of 2 per 1h"));
    host.decide(&finding("a.service"), at(100));
    assert_eq!(budget(&mut host, "b.service", at(110)), pass("budget 2 of 2 per 1h"));
    host.decide(&finding("b.service"), at(110));
    assert_eq!(budget(&mut host, "c.service", at(120)), refuse("budget 2 of 2 per 1h spent, free in 59m40s"));
    assert_eq!(reason(&host.ask(&finding("c.service"), at(120))), Some(HoldReason::BudgetSpent));
    assert_eq!(budget(&mut host, "c.service", at(3700)), pass("budget 2 of 2 per 1h"));
}

#[test]
fn windows_hold_outside_and_say_when_they_open() {
    let mut host =
        Host::new(auto("windows = [{ days = \"mon-fri\", from = \"22:00\", to = \"05:00\", tz = \"Europe/Berlin\" }]"));
    let nginx = finding("nginx.service");
    let text = refuse("outside mon,tue,wed,thu,fri 22:00–05:00 Europe/Berlin, opens Mon 22:00");
    assert_eq!(says(&mut host, &nginx, at(100), Guard::Window), text);
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::OutsideWindow));
    // Noon UTC is 13:00 in Berlin; nine hours later it is 22:00.
    assert_eq!(says(&mut host, &nginx, at(9 * 3600), Guard::Window), pass("window open"));
    assert_eq!(says(&mut Host::new(auto("")), &nginx, at(100), Guard::Window), pass("any time"));
}

#[test]
fn effects_of_our_own_actions_are_no_reason_to_act() {
    let mut host = Host::new(auto(""));
    let effect = Finding { effect_of: Some(crate::id::ActionId(7)), ..finding("nginx.service") };
    assert_eq!(says(&mut host, &effect, at(100), Guard::OwnEffect), refuse("an effect of our own a-0000000000000007"));
    assert_eq!(reason(&host.ask(&effect, at(100))), Some(HoldReason::OwnEffect));
}

#[test]
fn risk_must_be_within_what_the_rule_allows() {
    let mut host = Host::new(auto(""));
    assert_eq!(says(&mut host, &finding("nginx.service"), at(100), Guard::Risk), pass("risk low ≤ medium"));
    let hung = Finding { kind: FindingKind::ServiceHung, ..finding("nginx.service") };
    assert_eq!(says(&mut host, &hung, at(100), Guard::Risk), pass("risk medium ≤ medium"), "it is running");
    // Root's local file lowers what the signed rule allows.
    let local = "version = 1\n[[rule]]\nname = \"l\"\non = [\"service.hung\"]\nall_units = true\nmode = \"auto\"\nrisk = \"low\"\nladder = [{ do = \"notify\", to = \"x\" }]";
    host.policy = host.policy.clone().narrowed_by(Policy::parse(&[("l.toml", local)]).unwrap().files);
    assert_eq!(says(&mut host, &hung, at(100), Guard::Risk), refuse("risk medium > low"));
    assert_eq!(reason(&host.ask(&hung, at(100))), Some(HoldReason::TooRisky));
}

#[test]
fn without_actuator_or_ledger_nothing_is_done() {
    let mut host = Host::new(auto(""));
    let nginx = finding("nginx.service");
    assert_eq!(says(&mut host, &nginx, at(100), Guard::Actuator), pass("actuator and ledger ready"));
    host.facts.actuator_down = Some("connection refused".into());
    assert_eq!(
        says(&mut host, &nginx, at(100), Guard::Actuator),
        refuse("the actuator cannot be reached: connection refused")
    );
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::ActuatorUnavailable));
    host.facts.ledger_down = Some("no space".into());
    assert_eq!(says(&mut host, &nginx, at(100), Guard::Actuator), refuse("the ledger cannot be written: no space"));
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::LedgerUnavailable));
}

#[test]
fn a_fleet_lease_is_asked_for_last_and_counts_for_its_time() {
    let mut host = Host::new(auto("budget = \"3 per 1h\""));
    let nginx = finding("nginx.service");
    let kind = nginx.kind;
    assert_eq!(says(&mut host, &nginx, at(100), Guard::Lease), pass("not enrolled, a fleet of one"));
    host.facts.fleet = Fleet::Connected;
    assert_eq!(reason(&host.ask(&nginx, at(100))), Some(HoldReason::LeasePending));
    host.book.lease_denied(kind, seconds(60), "2 of 2 hosts are acting", at(100));
    assert_eq!(says(&mut host, &nginx, at(110), Guard::Lease), refuse("2 of 2 hosts are acting, asked again in 50s"));
    assert_eq!(reason(&host.ask(&nginx, at(110))), Some(HoldReason::LeaseDenied));
    assert_eq!(reason(&host.ask(&nginx, at(160))), Some(HoldReason::LeasePending), "the denial is over");
    host.book.lease_granted(kind, seconds(60), at(160));
    assert_eq!(says(&mut host, &nginx, at(170), Guard::Lease), pass("lease for service.failed, 50s left"));
    let hung = Finding { kind: FindingKind::ServiceHung, ..nginx.clone() };
    assert_eq!(reason(&host.ask(&hung, at(170))), Some(HoldReason::LeasePending), "of another kind");
    host.facts.fleet = Fleet::Away;
    assert_eq!(reason(&host.ask(&nginx, at(170))), None, "a lease holds while the collector is away");
}

#[test]
fn without_a_collector_half_the_budget_counts() {
    let mut host = Host::new(auto("budget = \"3 per 1h\""));
    host.facts.fleet = Fleet::Away;
    let lease = |host: &mut Host, unit: &str, now| says(host, &finding(unit), now, Guard::Lease);
    assert_eq!(lease(&mut host, "a.service", at(100)), pass("without a collector 1 of 1 per 1h"));
    host.decide(&finding("a.service"), at(100));
    assert_eq!(
        lease(&mut host, "b.service", at(110)),
        refuse("without a collector 1 of 1 per 1h spent, free in 59m50s")
    );
    let decision = host.ask(&finding("b.service"), at(110));
    assert!(verdict(&decision, Guard::Budget).pass, "the rule's own budget has room");
    assert_eq!(reason(&decision), Some(HoldReason::LeaseDenied));
}

#[test]
fn the_first_guard_that_refuses_gives_the_reason() {
    let mut host = Host::new(auto("confidence = 0.9\nfor = \"1h\""));
    host.facts.actuator_down = Some("x".into());
    let weak = Finding { confidence: 0.5, ..finding("nginx.service") };
    let decision = host.ask(&weak, at(100));
    assert_eq!(reason(&decision), Some(HoldReason::LowConfidence));
    let refusing: Vec<Guard> =
        decision.verdicts.iter().filter(|verdict| !verdict.pass).map(|verdict| verdict.guard).collect();
    assert_eq!(refusing, [Guard::Confidence, Guard::Duration, Guard::Actuator], "all are asked all the same");
}

#[test]
fn a_message_is_not_held_up_by_what_keeps_the_host_from_harm() {
    let mut host = Host::new(policy("mode = \"suggest\"\nladder = [{ do = \"notify\", to = \"oncall\" }]"));
    host.facts.hold_file = Some("/etc/mainstay/hold".into());
    host.facts.actuator_down = Some("x".into());
    host.facts.fleet = Fleet::Connected;
    assert_eq!(told(&host.ask(&finding("systemd-logind.service"), at(100))), "notify oncall");
    host.facts.ledger_down = Some("no space".into());
    assert_eq!(reason(&host.ask(&finding("nginx.service"), at(100))), Some(HoldReason::LedgerUnavailable));
    let mut host = Host::new(policy("mode = \"observe\"\nladder = [{ do = \"notify\", to = \"oncall\" }]"));
    assert_eq!(reason(&host.ask(&finding("nginx.service"), at(100))), Some(HoldReason::ObserveOnly));
}
