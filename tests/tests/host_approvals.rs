//! Plans that ask first: nothing is done before an operator's signed word, and only that word about that plan counts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use mainstay_core::id::DecisionId;
use mainstay_core::policy::order::Order;
use mainstay_core::policy::signed::Signed;
use mainstay_core::record::Author;
use mainstay_tests::hosts::{self, Host, wait_until};
use mainstay_tests::site::services::{self, COUNTED};
use mainstay_tests::site::{Decision, Site};

/// Longest that anything may take here before the test calls it missing.
const SOON: Duration = Duration::from_secs(60);

const UNIT: &str = "counted.service";

#[test]
fn a_plan_that_asks_is_carried_out_after_the_operators_yes_and_once() -> Result<()> {
    if !hosts::may_run("a_plan_that_asks_is_carried_out_after_the_operators_yes_and_once") {
        return Ok(());
    }
    let site = asking_site()?;
    let host = site.host("web-1");
    let asks = hurt(&site)?;
    assert_eq!((asks.choice.as_str(), asks.plan.as_str()), ("hold", "unit.restart counted.service"));
    assert_eq!(asks.reason.as_deref(), Some("needs_approval"), "{asks:?}");
    assert_untouched(host, 1)?;

    let approve = ["approvals", "approve", &asks.id, "--reason", "I have looked at it"];
    site.mainstay(&approve)?.ok()?;
    host.wait_unit(UNIT, "active", SOON).with_context(|| host.agent_story())?;
    let acted = site.wait_decision("web-1", "the approved restart", SOON, Decision::helped)?;
    assert!(acted.is_about("service.failed", UNIT), "{acted:?}");
    let why = site.explain(&acted.id)?;
    assert!(why.contains("approved by ops: I have looked at it"), "{why}");
    assert!(site.mainstay(&approve)?.refused()?.contains("no decision"), "what was answered waits no more");

    // The yes was for that time: the next failure asks again, and a copy of the old yes is worth nothing.
    let next = hurt(&site)?;
    assert_ne!(next.id, asks.id);
    let spent: DecisionId = asks.id.parse().context("the id is one")?;
    let old = approval(&site, &next, |_, hash| answer(spent, hash, in_ms(60_000)))?;
    assert_refused(&site, &old.sign(&site.signing_key()?), "does not wait for an answer")?;
    assert_untouched(host, 2)
}

#[test]
fn a_plan_that_the_operator_denies_stays_held_with_his_reason() -> Result<()> {
    if !hosts::may_run("a_plan_that_the_operator_denies_stays_held_with_his_reason") {
        return Ok(());
    }
    let site = asking_site()?;
    let host = site.host("web-1");
    let asks = hurt(&site)?;
    site.mainstay(&["approvals", "deny", &asks.id, "--reason", "the database is being moved"])?.ok()?;
    let held = site.wait_decision("web-1", "the hold that follows the no", SOON, |decision| {
        decision.is_about("service.failed", UNIT) && decision.reason.as_deref() == Some("denied")
    })?;
    let why = site.explain(&held.id)?;
    assert!(why.contains("denied by ops: the database is being moved"), "{why}");
    assert!(site.approvals()?.is_empty(), "what was denied asks no more");
    assert_untouched(host, 1)
}

#[test]
fn a_word_that_is_altered_late_or_about_another_plan_is_refused_on_the_host() -> Result<()> {
    if !hosts::may_run("a_word_that_is_altered_late_or_about_another_plan_is_refused_on_the_host") {
        return Ok(());
    }
    let site = asking_site()?;
    let host = site.host("web-1");
    let asks = hurt(&site)?;
    let key = site.signing_key()?;
    let good = |decision, hash| answer(decision, hash, in_ms(600_000));

    let mut altered = approval(&site, &asks, good)?.sign(&key);
    *altered.bytes.last_mut().context("an order has bytes")? ^= 1;
    let mut turned = approval(&site, &asks, good)?.sign(&key);
    turned.signature[0] ^= 1;
    let stranger = approval(&site, &asks, good)?.sign(&SigningKey::from_bytes(&[7; 32]));
    let late = approval(&site, &asks, |decision, hash| answer(decision, hash, in_ms(-1_000)))?.sign(&key);
    let other_plan = approval(&site, &asks, |decision, mut hash| {
        hash[0] ^= 1;
        good(decision, hash)
    })?;
    let other_decision = approval(&site, &asks, |decision, hash| good(DecisionId(decision.0 ^ 1), hash))?;
    for (signed, words) in [
        (altered, "does not fit the content"),
        (turned, "does not fit the content"),
        (stranger, "which this host does not trust"),
        (late, "order expired"),
        (other_plan.sign(&key), "would do something else than what was answered"),
        (other_decision.sign(&key), "does not wait for an answer on this host"),
    ] {
        assert_refused(&site, &signed, words)?;
        assert_untouched(host, 1)?;
    }

    // What was refused has not used anything up.
    site.mainstay(&["approvals", "approve", &asks.id, "--reason", "this one is mine"])?.ok()?;
    host.wait_unit(UNIT, "active", SOON).with_context(|| host.agent_story())?;
    assert_eq!(services::starts(host)?, 2);
    Ok(())
}

/// A host whose rule asks before it restarts.
fn asking_site() -> Result<Site> {
    let site = Site::enrolled(&["web-1"])?;
    services::start(site.host("web-1"), UNIT, COUNTED)?;
    site.enforce(&[("asks.toml", &services::restart_rule(&[UNIT], "approve"))], &["web-1"])?;
    Ok(site)
}

/// Kills the service and waits until its plan stands in the operator's list.
fn hurt(site: &Site) -> Result<Decision> {
    services::kill(site.host("web-1"), UNIT)?;
    wait_until(SOON, "a plan that waits for an answer", || Ok(site.approvals()?.into_iter().next()))
        .with_context(|| site.host("web-1").agent_story())
}

/// An order about the plan that waits, as `make` makes it of the decision and of what is signed.
fn approval(site: &Site, asks: &Decision, make: impl Fn(DecisionId, [u8; 32]) -> Order) -> Result<Order> {
    let waiting = site.waiting_approvals()?;
    let id = asks.id.parse::<DecisionId>().context("the id is one")?;
    let decision = |view: &mainstay_proto::v1::ApprovalView| view.decision.clone()?.decision.map(|it| it.id);
    let view = waiting.iter().find(|view| decision(view) == Some(id.0)).context("it waits")?;
    let hash = view.plan_hash[..].try_into().context("a hash has 32 bytes")?;
    Ok(make(id, hash))
}

fn answer(decision: DecisionId, plan_hash: [u8; 32], until_ms: i64) -> Order {
    let by = Author { name: "ops".to_owned(), reason: "yes".to_owned() };
    Order::Approval { decision, plan_hash, until_ms, approved: true, by }
}

/// The host says no with these words; whoever ordered hears them, and they stand in the collector's record of commands.
fn assert_refused(site: &Site, signed: &Signed, words: &str) -> Result<()> {
    let said = site.submit("approval", signed, "web-1")??;
    ensure!(said.connected == 1 && !said.done, "wanted: {words}; the host took it: {said:?}");
    ensure!(said.text.contains(words), "wanted: {words}; the host said: {said:?}");
    let audit = site.mainstay(&["audit", "--limit", "1"])?.ok()?;
    ensure!(audit.contains("approval web-1") && audit.contains(words), "wanted: {words}; recorded:\n{audit}");
    Ok(())
}

/// The service is as it was left, and nothing has started it.
fn assert_untouched(host: &Host, starts: u32) -> Result<()> {
    ensure!(services::starts(host)? == starts, "it was started\n{}", host.agent_story());
    ensure!(host.unit_property(UNIT, "ActiveState")? == "failed", "it is not failed\n{}", host.agent_story());
    Ok(())
}

fn in_ms(ms: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX).saturating_add(ms)
}
