//! The collector away, and back: healing goes on, and afterwards its ledger is whole.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, listen::Listener, wait::wait_for, wait_until};
use mainstay_tests::site::Site;
use mainstay_tests::site::services::{self, SLEEPER};

/// Longest that anything may take here before the test calls it missing.
const SOON: Duration = Duration::from_secs(90);

#[test]
fn healing_goes_on_without_the_collector_and_its_ledger_is_whole_afterwards() -> Result<()> {
    if !hosts::may_run("healing_goes_on_without_the_collector_and_its_ledger_is_whole_afterwards") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    for unit in ["sleeper-1.service", "sleeper-2.service"] {
        services::start(host, unit, SLEEPER)?;
    }
    site.enforce(&[("services.toml", &services::restart_rule(&["sleeper-*.service"], "auto"))], &["web-1"])?;

    // Once by a cut cable, once by a collector that is killed.
    host.partition()?;
    services::kill(host, "sleeper-1.service")?;
    host.wait_unit("sleeper-1.service", "active", SOON)?;
    host.heal()?;
    site.collector()
        .must("systemctl kill -s SIGKILL mainstay-collector.service && systemctl stop mainstay-collector.service")?;
    services::kill(host, "sleeper-2.service")?;
    host.wait_unit("sleeper-2.service", "active", SOON)?;
    site.collector().must("systemctl start mainstay-collector.service")?;

    for unit in ["sleeper-1.service", "sleeper-2.service"] {
        site.wait_decision("web-1", &format!("the restart of {unit} at the collector"), SOON, |decision| {
            decision.is_about("service.failed", unit) && decision.helped()
        })?;
    }
    let acted: Vec<_> = site.decisions("web-1")?.into_iter().filter(|decision| decision.choice == "act").collect();
    assert_eq!(acted.len(), 2, "each was repaired once, and each is known once: {acted:?}");
    wait_until(SOON, "a complete account", || {
        let rows = site.hosts()?;
        let row = rows.iter().find(|row| row.host == "web-1").context("web-1 is listed")?;
        anyhow::ensure!(row.completeness >= 1.0, "completeness is {}", row.completeness);
        Ok(Some(()))
    })?;
    let verified = site.mainstay(&["ledger", "verify", "--host", "web-1"])?.ok()?;
    assert!(verified.contains("chain intact"), "{verified}");
    Ok(())
}

#[test]
fn a_host_gone_quiet_is_silent_at_the_collector() -> Result<()> {
    if !hosts::may_run("a_host_gone_quiet_is_silent_at_the_collector") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    site.host("web-1").kill_power()?;
    site.wait_state("web-1", &["silent"], Duration::from_secs(180))?;
    site.host("web-1").boot()?;
    site.wait_online("web-1")
}

/// Between two heartbeats in the test, and after how many missing ones a watcher outside gives the collector up.
const BEAT_EVERY: Duration = Duration::from_secs(1);
const BEATS_MISSED_MAX: u32 = 5;

#[test]
fn people_outside_hear_of_incidents_and_of_the_collectors_own_death() -> Result<()> {
    if !hosts::may_run("people_outside_hear_of_incidents_and_of_the_collectors_own_death") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1", "web-2"])?;
    let operator = site.fleet.operator();
    let seat = format!("{}:0", operator.address());
    let webhook = Listener::webhook(&operator.netns(), &seat)?;
    let watcher = Listener::webhook(&operator.netns(), &seat)?;
    let settings = format!(
        "[webhook]\nurl = \"http://{}/incidents\"\n[heartbeat]\nurl = \"http://{}/alive\"\nevery = \"{}s\"\n",
        webhook.address(),
        watcher.address(),
        BEAT_EVERY.as_secs()
    );
    site.collector().push_file("/etc/mainstay/collector.d/10-outside.toml", settings, 0o644)?;
    site.collector().must("systemctl reload mainstay-collector.service")?;
    wait_for(SOON, "three heartbeats", || Ok(watcher.received().len() >= 3))
        .with_context(|| site.collector().journal_tail("mainstay-collector"))?;
    let beat = watcher.received().remove(0);
    assert!(beat.starts_with("POST /alive HTTP/1.1") && beat.contains("\"alive\":true"), "{beat}");

    // The same service fails on two hosts: one incident, told once when it opens and once when it clears.
    for name in ["web-1", "web-2"] {
        services::start(site.host(name), "sleeper-1.service", SLEEPER)?;
        services::kill(site.host(name), "sleeper-1.service")?;
    }
    let told = |event: &str| {
        let event = format!("\"event\":\"{event}\"");
        webhook.received().into_iter().filter(|text| text.contains(&event)).collect::<Vec<_>>()
    };
    wait_for(SOON, "the incident to be told", || Ok(!told("opened").is_empty()))
        .with_context(|| site.collector().journal_tail("mainstay-collector"))?;
    assert!(told("opened")[0].contains("sleeper-1.service"), "{:?}", webhook.received());
    for name in ["web-1", "web-2"] {
        site.host(name).must("systemctl start sleeper-1.service")?;
    }
    wait_for(SOON, "its end to be told", || Ok(!told("cleared").is_empty()))?;
    assert_eq!((told("opened").len(), told("cleared").len()), (1, 1), "{:?}", webhook.received());

    // A crash is mended by systemd within the watcher's patience; the machine's death is not, and silence says so.
    site.collector().must("systemctl kill --signal=SIGKILL mainstay-collector.service")?;
    let after_crash = watcher.received().len();
    wait_for(SOON, "heartbeats after a crash", || Ok(watcher.received().len() >= after_crash + 3))?;
    site.collector().kill_power()?;
    let (mut beats, mut last) = (watcher.received().len(), Instant::now());
    wait_for(SOON, "a watcher outside to miss the collector", || {
        if watcher.received().len() > beats {
            (beats, last) = (watcher.received().len(), Instant::now());
        }
        Ok(last.elapsed() > BEAT_EVERY * BEATS_MISSED_MAX)
    })?;
    site.collector().boot()?;
    wait_for(SOON, "heartbeats after the repair", || Ok(watcher.received().len() >= beats + 3))
        .with_context(|| site.collector().journal_tail("mainstay-collector"))
}
