//! The agent dies by SIGKILL exactly before or after each write and each send: nothing happens twice, nothing is lost.
//!
//! The agent's failpoints fire once each, and only on a host where root made `/etc/mainstay/allow-failpoints`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::{self, Fleet, Host, packages, wait::wait_for};
use mainstay_tests::site::services::{self, COUNTED, starts};
use mainstay_tests::site::{Decision, Site};

const SOON: Duration = Duration::from_secs(60);

/// Every boundary that an action passes on its host, in order.
const OF_AN_ACTION: [&str; 8] = [
    "before_intent_persisted",
    "after_intent_persisted",
    "before_step",
    "after_step",
    "before_outcome_persisted",
    "after_outcome_persisted",
    "before_verified_persisted",
    "after_verified_persisted",
];

/// Every boundary on the way of a record to the collector, in order.
const OF_THE_WAY_UP: [&str; 6] =
    ["before_spooled", "after_spooled", "before_send", "after_send", "before_acknowledged", "after_acknowledged"];

const UNIT: &str = "counted.service";

#[test]
fn an_agent_killed_at_every_write_of_an_action_acts_once() -> Result<()> {
    if !hosts::may_run("an_agent_killed_at_every_write_of_an_action_acts_once") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    let host = fleet.host("host-1");
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    // Root's own rules: a signed policy would be given up when the agent crashes under it.
    host.push_file("/etc/mainstay/policy.d/counted.toml", services::restart_rule(&[UNIT], "auto"), 0o644)?;
    prepare(host)?;
    for (round, name) in (1_u32..).zip(OF_AN_ACTION) {
        arm(host, name)?;
        wait_armed(host, name)?;
        services::kill(host, UNIT)?;
        wait_fired(host, name)?;
        wait_cured(host, round + 1).with_context(|| format!("killed at {name}\n{}", host.agent_story()))?;
        settled(host).with_context(|| format!("killed at {name}\n{}", host.agent_story()))?;
        ensure!(starts(host)? == round + 1, "killed at {name}: acted twice\n{}", host.agent_story());
    }
    Ok(())
}

#[test]
fn an_agent_killed_at_every_step_to_the_collector_loses_and_doubles_nothing() -> Result<()> {
    if !hosts::may_run("an_agent_killed_at_every_step_to_the_collector_loses_and_doubles_nothing") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    prepare(host)?;
    for (round, name) in (1_u32..).zip(OF_THE_WAY_UP) {
        // It fires with the first thing that the agent has to tell, which is that it started.
        arm(host, name)?;
        wait_fired(host, name)?;
        host.wait_unit("mainstay-agent.service", "active", SOON)?;
        site.wait_online("web-1")?;
        site.enforce(&[("counted.toml", &services::restart_rule(&[UNIT], "auto"))], &["web-1"])?;
        services::kill(host, UNIT)?;
        wait_cured(host, round + 1).with_context(|| format!("killed at {name}\n{}", host.agent_story()))?;
        // Proved, and known at the collector: trouble in the middle of a proof would count against the policy.
        wait_for(SOON, "the cure at the collector", || {
            Ok(acted(&site)?.iter().filter(|decision| decision.helped()).count() >= usize::try_from(round)?)
        })
        .with_context(|| format!("killed at {name}\n{}", host.agent_story()))?;
    }
    let rounds = OF_THE_WAY_UP.len();
    let acted = acted(&site)?;
    assert_eq!(acted.len(), rounds, "each cure once: {acted:?}");
    assert_eq!(starts(host)?, u32::try_from(rounds)? + 1);
    let verified = site.mainstay(&["ledger", "verify", "--host", "web-1"])?.ok()?;
    assert!(verified.contains("chain intact"), "{verified}");
    Ok(())
}

/// The decisions that were acted on, as the collector knows them.
fn acted(site: &Site) -> Result<Vec<Decision>> {
    let decisions = site.decisions("web-1")?;
    Ok(decisions.into_iter().filter(|decision| decision.choice == "act").collect())
}

fn prepare(host: &Host) -> Result<()> {
    host.push_file("/etc/mainstay/allow-failpoints", "", 0o644)?;
    services::start(host, UNIT, COUNTED)
}

/// Has the agent start anew, to die at this point.
fn arm(host: &Host, name: &str) -> Result<()> {
    let drop_in = format!("[Service]\nEnvironment=MAINSTAY_FAILPOINT={name}\n");
    host.push_file("/etc/systemd/system/mainstay-agent.service.d/failpoint.conf", drop_in, 0o644)?;
    host.must("systemctl daemon-reload && systemctl restart --no-block mainstay-agent.service")?;
    Ok(())
}

/// The restart is not waited for by systemctl, because the agent may die on the way up.
fn wait_armed(host: &Host, name: &str) -> Result<()> {
    let armed = format!("journalctl -u mainstay-agent.service | grep -q 'failpoint armed.*{name}'");
    wait_for(SOON, &format!("the agent to be armed with {name}"), || Ok(host.run(&armed)?.is_success()))?;
    host.wait_unit("mainstay-agent.service", "active", SOON)
}

fn wait_fired(host: &Host, name: &str) -> Result<()> {
    let hit = format!("test -e /var/lib/mainstay/failpoint-{name}.hit");
    wait_for(SOON, &format!("the agent to die at {name}"), || Ok(host.run(&hit)?.is_success()))
        .with_context(|| host.agent_story())
}

fn wait_cured(host: &Host, starts_wanted: u32) -> Result<()> {
    wait_for(SOON, "the cure", || {
        Ok(starts(host)? >= starts_wanted && host.unit_property("counted.service", "ActiveState")? == "active")
    })
}

/// Waits until the agent is back and has nothing under way: an action that it repeats is counted by then.
fn settled(host: &Host) -> Result<()> {
    host.wait_unit("mainstay-agent.service", "active", SOON)?;
    // That it crashes again and again is found too, and is true.
    wait_for(SOON, "the agent to see that it runs", || {
        Ok(!host.must("mainstay-agent status")?.contains("service.failed counted.service"))
    })
}
