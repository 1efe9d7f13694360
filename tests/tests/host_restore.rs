//! The collector's machine is lost: its backup is put onto an empty one, and the hosts go on where they were.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::{self, Fleet, FleetOptions, packages, wait_until};
use mainstay_tests::site::services::{self, SLEEPER};
use mainstay_tests::site::{COLLECTOR, Site};

/// Longest that anything may take here before the test calls it missing.
const SOON: Duration = Duration::from_secs(120);
const UNIT: &str = "sleeper-1.service";
/// The empty machine.
const SPARE: &str = "spare";
const AGENTS: [&str; 2] = ["web-1", "web-2"];

/// Kills a service, and sees that it was restarted.
fn heals(site: &Site) -> Result<()> {
    let host = site.host("web-1");
    services::kill(host, UNIT)?;
    host.wait_unit(UNIT, "active", SOON)
}

/// Waits until the collector knows of so many repairs that helped, each of them once.
fn knows_of(site: &Site, repairs: usize) -> Result<()> {
    wait_until(SOON, &format!("{repairs} repairs at the collector"), || {
        let acted: Vec<_> = site.decisions("web-1")?.into_iter().filter(|decision| decision.choice == "act").collect();
        ensure!(acted.len() <= repairs, "some are known twice: {acted:?}");
        Ok((acted.len() == repairs && acted.iter().all(|decision| decision.helped())).then_some(()))
    })
    .with_context(|| site.host("web-1").agent_story())
}

fn highest_generation(site: &Site) -> Result<u64> {
    site.hosts()?.iter().map(|row| row.generation()).max().context("no host is listed")
}

#[test]
fn a_fleet_goes_on_at_a_collector_that_was_restored_on_another_machine() -> Result<()> {
    if !hosts::may_run("a_fleet_goes_on_at_a_collector_that_was_restored_on_another_machine") {
        return Ok(());
    }
    let names = [COLLECTOR, AGENTS[0], AGENTS[1], SPARE].map(str::to_owned).to_vec();
    let site = Site { fleet: Fleet::boot_with(FleetOptions { names, base: None })? };
    for name in [COLLECTOR, SPARE] {
        site.host(name).install_deb(&packages::deb("mainstay-collector")?)?;
        site.host(name).install_deb(&packages::deb("mainstay")?)?;
    }
    site.make_operator()?;
    site.make_policy_key()?;
    for name in AGENTS {
        site.host(name).install_deb(&packages::deb("mainstay-agent")?)?;
        site.enrol(name, &site.token(1)?)?.ok()?;
        site.wait_online(name)?;
    }
    services::start(site.host("web-1"), UNIT, SLEEPER)?;
    let policy = services::restart_rule(&["sleeper-*.service"], "auto");
    site.enforce(&[("services.toml", &policy)], &AGENTS)?;
    heals(&site)?;
    knows_of(&site, 1)?;

    site.mainstay(&["backup", "keygen"])?.ok()?;
    site.mainstay(&["backup", "create"])?.ok()?;
    let backup = site.collector().must("tar -C /var/lib/mainstay-collector/backups -cf - . | base64 -w 0")?;

    // What the backup lacks: a policy, a repair that the collector hears of, and one that it does not.
    site.enforce(&[("services.toml", &policy)], &AGENTS)?;
    heals(&site)?;
    knows_of(&site, 2)?;
    let before = highest_generation(&site)?;
    site.collector().kill_power()?;
    // Its network would go on to answer for its address.
    site.collector().partition()?;
    heals(&site)?;

    // As OPERATING.md has it, on an empty machine that gets the old one's address.
    let spare = site.host(SPARE);
    spare.run_with_input("mkdir -p /mnt/backups && base64 -d | tar -C /mnt/backups -xf -", backup.as_bytes())?.ok()?;
    spare.copy_in(&site.operator_folder().join("backup.key"), "/root/backup.key", 0o600)?;
    spare.must(
        "systemctl stop mainstay-collector && mv /var/lib/mainstay-collector /var/lib/mainstay-collector.fresh",
    )?;
    spare.must("mainstay backup restore /mnt/backups --key /root/backup.key")?;
    spare.must(&format!(
        "ip addr add {}/24 dev eth0 && systemctl start mainstay-collector",
        site.collector().address()
    ))?;

    for name in AGENTS {
        site.wait_online(name).with_context(|| spare.journal_tail("mainstay-collector"))?;
    }
    knows_of(&site, 3)?;
    wait_until(SOON, "a complete account", || {
        let rows = site.hosts()?;
        Ok(rows.iter().all(|row| row.completeness >= 1.0).then_some(()))
    })
    .with_context(|| site.host("web-1").agent_story())?;
    let verified = site.mainstay(&["ledger", "verify", "--host", "web-1"])?.ok()?;
    assert!(verified.contains("chain intact"), "{verified}");

    // Nobody goes back to an older policy, and the next one is newer than any that a host has seen.
    assert!(highest_generation(&site)? >= before, "{:?}", site.hosts()?);
    site.enforce(&[("services.toml", &policy)], &AGENTS)?;
    assert!(highest_generation(&site)? > before, "{:?}", site.hosts()?);
    Ok(())
}
