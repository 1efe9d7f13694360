//! The agent's own budget on a real host that is short of everything: it reads less, says so, and heals as quickly as ever;
//! and a bus that is stopped there holds up nothing. No collector is needed for any of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mainstay_tests::hosts::{self, Base, Fleet, FleetOptions, Host, packages, wait_until};
use mainstay_tests::site::services::{self, SLEEPER, restart_rule};
use mainstay_tests::site::workload;

const UNIT: &str = "sleeper.service";

/// Longest that the agent takes to go down two steps, each at most a minute after ten seconds.
const DOWN_MAX: Duration = Duration::from_secs(240);

/// Longest that anything else takes.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Three periods of sampling: what a service may be down for before it runs again.
const PERIODS: Duration = Duration::from_secs(3);

/// What systemd holds the agent to: a fifth of a core, and little more memory than it needs.
const HELD: &str = "[Service]\nCPUQuota=20%\nMemoryMax=96M\n";

/// Less than a third of what the agent takes, so that fewer processes are not enough.
const BUDGET: &str = "[budget]\ncpu = \"0.1%\"\n";

fn page(host: &Host, words: &[&str], deadline: Duration) -> Result<String> {
    wait_until(deadline, &format!("{words:?}"), || {
        let page = host.must("mainstay-agent status")?;
        ensure!(words.iter().all(|word| page.contains(word)), "{page}");
        Ok(Some(page))
    })
    .with_context(|| host.agent_story())
}

/// Kills the service, and gives how long it was down by systemd's own clock.
fn down(host: &Host) -> Result<Duration> {
    let stamp = |name: &str| -> Result<u64> { Ok(host.unit_property(UNIT, name)?.trim().parse()?) };
    let before = stamp("ActiveEnterTimestampMonotonic")?;
    services::kill(host, UNIT)?;
    let after = wait_until(WAIT_MAX, "the service to run again", || {
        let now = stamp("ActiveEnterTimestampMonotonic")?;
        Ok((now > before && host.unit_property(UNIT, "ActiveState")? == "active").then_some(now))
    })
    .with_context(|| host.agent_story())?;
    Ok(Duration::from_micros(after.saturating_sub(stamp("InactiveEnterTimestampMonotonic")?)))
}

#[test]
fn an_agent_that_is_held_short_reads_less_says_so_and_heals_in_time() -> Result<()> {
    if !hosts::may_run("an_agent_that_is_held_short_reads_less_says_so_and_heals_in_time") {
        return Ok(());
    }
    let base = Some(Base::with_packages(&["stress-ng"])?);
    let fleet = Fleet::boot_with(FleetOptions { names: vec!["web-1".to_owned()], base })?;
    let host = fleet.host("web-1");
    services::start(host, UNIT, SLEEPER)?;
    workload::start_batch(host)?;
    host.must("mkdir -p /etc/systemd/system/mainstay-agent.service.d /etc/mainstay/agent.d /etc/mainstay/policy.d")?;
    host.push_file("/etc/systemd/system/mainstay-agent.service.d/held.conf", HELD, 0o644)?;
    host.push_file("/etc/mainstay/agent.d/budget.toml", BUDGET, 0o644)?;
    host.push_file("/etc/mainstay/policy.d/restart.toml", restart_rule(&[UNIT], "auto"), 0o644)?;
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    page(host, &["root's own rules", "actuator reached"], WAIT_MAX)?;
    workload::break_by(host, "stress", 1)?;

    let said = page(host, &["agent.degraded host", "the host is read a fifth as often"], DOWN_MAX)?;
    for words in [
        "of a core over a minute",
        "its limit of 0.1 %",
        "no longer seen: processes one by one",
        "[budget] in agent.toml",
    ] {
        ensure!(said.contains(words), "{words}: {said}");
    }
    for round in 1..=3 {
        let down = down(host)?;
        println!("under stress-ng, reading less: down for {down:?}");
        ensure!(down < PERIODS, "{down:?} the {round}. time\n{}", host.agent_story());
    }
    Ok(())
}

#[test]
fn a_bus_that_is_stopped_on_a_host_is_unknown_and_what_fails_meanwhile_is_healed_afterwards() -> Result<()> {
    if !hosts::may_run("a_bus_that_is_stopped_on_a_host_is_unknown_and_what_fails_meanwhile_is_healed_afterwards") {
        return Ok(());
    }
    let fleet = Fleet::boot_named(&["web-1"])?;
    let host = fleet.host("web-1");
    services::start(host, UNIT, SLEEPER)?;
    host.must("mkdir -p /etc/mainstay/policy.d")?;
    host.push_file("/etc/mainstay/policy.d/restart.toml", restart_rule(&[UNIT], "auto"), 0o644)?;
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    page(host, &["root's own rules", "actuator reached"], WAIT_MAX)?;
    let before = host.unit_property(UNIT, "MainPID")?;
    host.must("systemctl kill -s STOP dbus.service")?;
    // By its process: systemctl would do, but nothing on this host has to answer for it.
    host.must(&format!("kill -9 {before}"))?;
    page(host, &["units unknown (no D-Bus)"], WAIT_MAX)?;
    host.must("systemctl kill -s CONT dbus.service")?;
    wait_until(WAIT_MAX, "the service to run again", || {
        let now = host.unit_property(UNIT, "MainPID")?;
        Ok((now != "0" && now != before).then_some(()))
    })
    .with_context(|| host.agent_story())
}
