//! A ledger that was tampered with is named by `mainstay ledger verify`, with its first bad record.

use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, Output, packages, wait_until};
use mainstay_tests::site::services::{self, SLEEPER};
use mainstay_tests::site::{Decision, Site};

const SOON: Duration = Duration::from_secs(90);

/// Where the agent keeps it.
const LEDGER: &str = "/var/lib/mainstay/ledger";

const UNIT: &str = "sleeper.service";

#[test]
fn a_flipped_byte_is_named_with_its_record() -> Result<()> {
    if !hosts::may_run("a_flipped_byte_is_named_with_its_record") {
        return Ok(());
    }
    let site = healed_once()?;
    let host = site.host("web-1");
    host.install_deb(&packages::deb("mainstay")?)?;
    host.must("systemctl stop mainstay-agent.service")?;
    let rows = site.hosts()?;
    let id = &rows.first().context("a host is listed")?.host_id;
    let folder = host.must(&format!("dirname \"$(find {LEDGER} -name '*.shard' | sort | head -1)\""))?;
    let verify = format!("mainstay ledger verify --dir '{folder}' --host-id {id}");
    let sound = host.must(&verify)?;
    assert!(sound.contains("chain intact"), "{sound}");

    // One byte amid what is written, in the first shard.
    host.must(&format!(
        "printf X | dd of=\"$(ls {folder}/*.shard | head -1)\" bs=1 seek=300 conv=notrunc status=none"
    ))?;
    let said = host.run(&verify)?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("record ") && said.stdout.contains(" is bad at byte "), "{said:?}");
    Ok(())
}

#[test]
fn a_ledger_set_back_to_an_earlier_state_is_found_against_the_countersigned_head() -> Result<()> {
    if !hosts::may_run("a_ledger_set_back_to_an_earlier_state_is_found_against_the_countersigned_head") {
        return Ok(());
    }
    let site = healed_once()?;
    let host = site.host("web-1");
    let first = newest_helped(&site, None)?;
    host.must(&format!("systemctl stop mainstay-agent.service && cp -a {LEDGER} /root/earlier"))?;
    host.must("systemctl start mainstay-agent.service")?;
    site.wait_online("web-1")?;
    services::kill(host, UNIT)?;
    newest_helped(&site, Some(&first))?;
    assert!(verified(&site)?.is_success());

    // The chain of the copy is sound in itself; only the collector knows that there was more.
    host.must(&format!("systemctl stop mainstay-agent.service && rm -rf {LEDGER} && cp -a /root/earlier {LEDGER}"))?;
    host.must("systemctl start mainstay-agent.service")?;
    wait_until(SOON, "the cut to be named", || Ok((verified(&site)?.code == 1).then_some(())))?;
    let said = verified(&site)?.stdout;
    assert!(said.contains("web-1") && !said.contains("chain intact"), "{said}");
    Ok(())
}

/// A host whose ledger has a whole action in it.
fn healed_once() -> Result<Site> {
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    services::start(host, UNIT, SLEEPER)?;
    site.enforce(&[("services.toml", &services::restart_rule(&[UNIT], "auto"))], &["web-1"])?;
    services::kill(host, UNIT)?;
    newest_helped(&site, None)?;
    Ok(site)
}

/// Waits for a repair that helped, other than `not`, and gives its id.
fn newest_helped(site: &Site, not: Option<&str>) -> Result<String> {
    let wanted = |decision: &Decision| decision.helped() && Some(decision.id.as_str()) != not;
    Ok(site.wait_decision("web-1", "a restart that helped", SOON, wanted)?.id)
}

fn verified(site: &Site) -> Result<Output> {
    site.mainstay(&["ledger", "verify", "--host", "web-1"])
}
