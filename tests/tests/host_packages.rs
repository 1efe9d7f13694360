//! The packages on real hosts: what install, upgrade, removal and purge do, and how the services are confined.

use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, Base, Fleet, FleetOptions, Host, packages, wait::wait_for};
use mainstay_tests::site::Site;

const SOON: Duration = Duration::from_secs(60);

/// Longest until packages are told of: a look every ten seconds, two after the last of rpm's work.
const TOLD_MAX: Duration = Duration::from_secs(90);

/// What an agent's package may weigh: it goes to every host of a fleet, edge machines too.
const AGENT_BYTES_MAX: u64 = 15 * 1024 * 1024;

#[test]
fn the_agents_package_is_small_and_its_services_are_confined() -> Result<()> {
    if !hosts::may_run("the_agents_package_is_small_and_its_services_are_confined") {
        return Ok(());
    }
    let deb = packages::deb("mainstay-agent")?;
    let bytes = deb.metadata()?.len();
    assert!(bytes <= AGENT_BYTES_MAX, "{} has {bytes} bytes", deb.display());

    let fleet = Fleet::boot(1)?;
    let host = fleet.host("host-1");
    host.install_deb(&deb)?;
    host.install_deb(&packages::deb("mainstay-collector")?)?;
    // Exposure in tenths, as systemd-analyze takes it. One of the agent's is for netlink: which sockets there are.
    for (unit, most) in
        [("mainstay-agent", 21), ("mainstay-collector", 20), ("mainstay-actuator", 25), ("mainstay-stacks@1", 40)]
    {
        let verdict = host.run(&format!("systemd-analyze security --no-pager --threshold={most} {unit}.service"))?;
        let last = verdict.stdout.lines().last().unwrap_or_default().to_owned();
        assert!(verdict.is_success(), "{unit}: more than {most} tenths: {last}");
    }
    Ok(())
}

#[test]
fn removal_keeps_state_and_purge_deletes_it() -> Result<()> {
    if !hosts::may_run("removal_keeps_state_and_purge_deletes_it") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    let host = fleet.host("host-1");
    for (package, unit, state) in [
        ("mainstay-agent", "mainstay-agent.service", "/var/lib/mainstay"),
        ("mainstay-collector", "mainstay-collector.service", "/var/lib/mainstay-collector"),
    ] {
        host.install_deb(&packages::deb(package)?)?;
        host.wait_unit(unit, "active", SOON).with_context(|| host.journal_tail(unit))?;
        host.must(&format!("systemctl is-enabled {unit}"))?;
        host.must(&format!("test -n \"$(ls -A {state})\"")).context("a running service has state")?;
        host.must(&format!("dpkg --remove {package}"))?;
        host.run(&format!("systemctl is-active {unit}"))?.refused()?;
        let sockets = "test -e /run/mainstay/actuator.sock || test -e /run/mainstay-stacks.sock";
        host.run(sockets)?.refused().context("removal left a socket")?;
        host.must(&format!("test -n \"$(ls -A {state})\"")).context("removal took the state")?;
        host.must(&format!("dpkg --purge {package}"))?;
        host.run(&format!("test -e {state}"))?.refused().context("purge left the state")?;
    }
    host.run("ls -A /etc/mainstay")?.refused().context("purge left config files")?;
    Ok(())
}

#[test]
fn an_upgrade_keeps_identity_config_and_state() -> Result<()> {
    if !hosts::may_run("an_upgrade_keeps_identity_config_and_state") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    let id = site.mainstay(&["-o", "json", "hosts"])?.ok()?;
    host.must("printf '\\n# ours\\n' >> /etc/mainstay/agent.toml")?;
    let identity = fingerprint(host)?;
    let before = host.unit_property("mainstay-agent.service", "MainPID")?;

    let newer = packages::next_version(&packages::deb("mainstay-agent")?, site.fleet.dir())?;
    host.install_deb(&newer)?;
    host.wait_unit("mainstay-agent.service", "active", SOON)?;
    assert_ne!(host.unit_property("mainstay-agent.service", "MainPID")?, before, "the new version is not running");
    assert_eq!(fingerprint(host)?, identity, "the upgrade changed the host's identity");
    host.must("grep -q '# ours' /etc/mainstay/agent.toml").context("the upgrade took a changed config file")?;
    site.wait_online("web-1")?;
    assert_eq!(site.hosts()?.len(), 1, "the host came back as another one, first it was:\n{id}");
    let verified = site.mainstay(&["ledger", "verify", "--host", "web-1"])?.ok()?;
    assert!(verified.contains("intact"), "{verified}");
    Ok(())
}

#[test]
fn the_rpm_starts_the_agent_which_tells_of_others_and_its_removal_keeps_state() -> Result<()> {
    if !hosts::may_run("the_rpm_starts_the_agent_which_tells_of_others_and_its_removal_keeps_state") {
        return Ok(());
    }
    let base = Some(Base::with_packages(&["rpm"])?);
    let fleet = Fleet::boot_with(FleetOptions { names: vec!["host-1".to_owned()], base })?;
    let host = fleet.host("host-1");
    // Debian's rpm has its database in the home of whoever calls it; systems that live on rpm have it here.
    host.push_file("/etc/rpm/macros", "%_dbpath /var/lib/rpm\n", 0o644)?;
    host.copy_in(&packages::rpm("mainstay-agent")?, "/var/cache/agent.rpm", 0o644)?;
    // Debian has what the package requires, but not in rpm's database.
    host.must("rpm --install --nodeps /var/cache/agent.rpm")?;
    host.wait_unit("mainstay-agent.service", "active", SOON).with_context(|| host.agent_story())?;
    host.must("systemctl is-enabled mainstay-agent.service mainstay-actuator.socket")?;
    // What rpm has is known when its database was left alone for a while; from then on packages are told by name.
    let known = "tr '\\0' ' ' < /var/lib/mainstay/changes | LC_ALL=C grep -Eqa 'mainstay-agent.{1,9}0\\.1\\.0-1'";
    wait_for(TOLD_MAX, "the agent to know what rpm has", || Ok(host.run(known)?.is_success()))
        .with_context(|| host.agent_story())?;
    host.copy_in(&packages::rpm("mainstay")?, "/var/cache/cli.rpm", 0o644)?;
    host.must("rpm --install --nodeps /var/cache/cli.rpm")?;
    let told = "journalctl -q -u mainstay-agent.service -o cat | grep package.installed | grep -w mainstay";
    wait_for(TOLD_MAX, "the agent to tell of a package", || Ok(host.run(told)?.is_success()))
        .with_context(|| host.agent_story())?;
    host.must("rpm --erase mainstay-agent")?;
    host.run("systemctl is-active mainstay-agent.service")?.refused()?;
    host.must("test -n \"$(ls -A /var/lib/mainstay)\"").context("removal took the state")?;
    Ok(())
}

/// Hash over all files of the host's identity, whatever their names.
fn fingerprint(host: &Host) -> Result<String> {
    host.must("find /var/lib/mainstay/identity* -type f -print0 | sort -z | xargs -0 sha256sum")
}
