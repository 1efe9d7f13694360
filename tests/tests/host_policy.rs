//! Policies that a host must refuse: the last good one stays in force, and the collector shows why.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::{self, wait_until};
use mainstay_tests::site::Site;

/// Longest until a refusal is seen at the collector.
const SOON: Duration = Duration::from_secs(60);

const GOOD: &str = r#"
version = 1

[[rule]]
name = "services"
on = ["service.failed"]
units = ["sleeper.service"]
mode = "auto"
ladder = [{ do = "unit.restart" }]
"#;

#[test]
fn a_policy_signed_by_another_key_is_refused_with_the_reason_shown() -> Result<()> {
    if !hosts::may_run("a_policy_signed_by_another_key_is_refused_with_the_reason_shown") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    site.enforce(&[("web.toml", GOOD)], &["web-1"])?;
    let in_force = generation(&site)?;

    let other = site.fleet.operator().home().join("other");
    fs::create_dir_all(&other)?;
    let key = other.join("ops.key");
    site.mainstay(&["--config", &other.to_string_lossy(), "policy", "keygen", "--out", &key.to_string_lossy()])?
        .ok()?;
    let file = other.join("web.toml");
    fs::write(&file, GOOD.replace("sleeper", "anything"))?;
    // The command line or the collector may refuse already; what must never happen is that the host takes it.
    let pushed =
        site.mainstay(&["policy", "push", "--yes", &file.to_string_lossy(), "--key", &key.to_string_lossy()])?;
    if pushed.is_success() {
        wait_until(SOON, "the refusal at the collector", || {
            let status = site.mainstay(&["policy", "status"])?.ok()?;
            ensure!(status.contains("signature") || status.contains("signed"), "{status}");
            Ok(Some(()))
        })?;
    }
    assert_eq!(generation(&site)?, in_force);
    Ok(())
}

#[test]
fn a_broken_policy_is_refused_with_its_line_before_it_leaves_the_operator() -> Result<()> {
    if !hosts::may_run("a_broken_policy_is_refused_with_its_line_before_it_leaves_the_operator") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    site.enforce(&[("web.toml", GOOD)], &["web-1"])?;
    let in_force = generation(&site)?;
    let refused = site.push_policy(&[("web.toml", &GOOD.replace("ladder", "lader"))])?;
    assert_eq!(refused.code, 2, "{refused:?}");
    let said = refused.refused()?;
    assert!(said.contains("web.toml:9:1"), "{said}");
    assert!(said.contains("ladder"), "{said}");
    assert_eq!(generation(&site)?, in_force);
    Ok(())
}

#[test]
fn rollback_is_the_old_content_under_a_new_generation() -> Result<()> {
    if !hosts::may_run("rollback_is_the_old_content_under_a_new_generation") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    site.enforce(&[("web.toml", GOOD)], &["web-1"])?;
    let first = generation(&site)?;
    site.enforce(&[("web.toml", &GOOD.replace("auto", "observe"))], &["web-1"])?;
    let second = generation(&site)?;
    assert!(second > first);
    site.mainstay(&["policy", "rollback", "--yes", "--to", &first.to_string()])?.ok()?;
    wait_until(SOON, "the rollback to be in force", || Ok((generation(&site)? > second).then_some(())))
}

fn generation(site: &Site) -> Result<u64> {
    let rows = site.hosts()?;
    Ok(rows.iter().find(|row| row.host == "web-1").context("web-1 is listed")?.generation())
}
