//! A ledger that was tampered with is named by `mainstay ledger verify`, with its first bad record.

use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, Host};
use mainstay_tests::site::Site;

const SOON: Duration = Duration::from_secs(90);

const RESTART: &str = r#"
version = 1

[[rule]]
name = "services"
on = ["service.failed"]
units = ["sleeper.service"]
mode = "auto"
cooldown = "1s"
budget = "10 per 1h"
ladder = [{ do = "unit.restart" }]
verify = { stable_for = "2s" }
"#;

#[test]
fn a_flipped_byte_and_a_cut_tail_are_named() -> Result<()> {
    if !hosts::may_run("a_flipped_byte_and_a_cut_tail_are_named") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    host.push_file("/etc/systemd/system/sleeper.service", "[Service]\nExecStart=/usr/bin/sleep infinity\n", 0o644)?;
    host.must("systemctl daemon-reload && systemctl start sleeper.service")?;
    site.enforce(&[("services.toml", RESTART)], &["web-1"])?;
    host.must("systemctl kill -s SIGKILL sleeper.service")?;
    site.wait_decision("web-1", "a restart that helped", SOON, |decision| decision.helped())?;
    host.must("systemctl stop mainstay-agent.service")?;
    let folder = "/var/lib/mainstay/ledger";
    let verify = format!("mainstay-agent ledger verify {folder}");
    let sound = host.must(&verify)?;
    assert!(sound.contains("intact"), "{sound}");
    host.must(&format!("cp -a {folder} /root/ledger"))?;

    // One byte in the middle of what is written.
    let shard = first_shard(host, folder)?;
    host.must(&format!("printf X | dd of={shard} bs=1 seek=200 conv=notrunc status=none"))?;
    let said = host.run(&verify)?.refused()?;
    assert!(said.contains('#') || said.contains("record"), "the bad record is not named: {said}");
    host.must(&format!("rm -rf {folder} && cp -a /root/ledger {folder}"))?;
    host.must(&verify)?;
    Ok(())
}

fn first_shard(host: &Host, folder: &str) -> Result<String> {
    let name = host.must(&format!("ls {folder} | head -1"))?;
    Some(format!("{folder}/{name}")).filter(|path| !path.ends_with('/')).context("the ledger has a shard")
}
