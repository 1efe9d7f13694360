//! The collector away, and back: healing goes on, and afterwards its ledger is whole.

use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, wait_until};
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
