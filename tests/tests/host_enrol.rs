//! Enrolment on real hosts: a token works as often as it says, and a refusal leaves nothing behind.

use anyhow::Result;
use mainstay_tests::hosts::{self, Host};
use mainstay_tests::site::Site;

#[test]
fn a_spent_or_wrong_token_is_refused_and_leaves_nothing_behind() -> Result<()> {
    if !hosts::may_run("a_spent_or_wrong_token_is_refused_and_leaves_nothing_behind") {
        return Ok(());
    }
    let site = Site::installed(&["web-1", "web-2"], None)?;
    site.make_operator()?;
    site.make_policy_key()?;
    let token = site.token(1)?;
    site.enrol("web-1", &token)?.ok()?;
    site.wait_online("web-1")?;

    let before = state_of(site.host("web-2"))?;
    let said = site.enrol("web-2", &token)?.refused()?;
    assert!(said.contains("spent") || said.contains("used"), "the refusal does not say why: {said}");
    assert!(!said.contains(token.trim()), "the refusal shows the token");

    let cut = token.trim().get(..token.trim().len() - 6).unwrap_or_default();
    let said = site.enrol("web-2", cut)?.refused()?;
    assert!(said.contains("token"), "the refusal does not say what is wrong: {said}");
    assert_eq!(state_of(site.host("web-2"))?, before, "a refused enrolment left something");

    let rows = site.hosts()?;
    assert_eq!(rows.iter().map(|row| row.host.as_str()).collect::<Vec<_>>(), ["web-1"]);
    Ok(())
}

#[test]
fn an_unenrolled_agent_runs_and_observes() -> Result<()> {
    if !hosts::may_run("an_unenrolled_agent_runs_and_observes") {
        return Ok(());
    }
    let site = Site::installed(&["web-1"], None)?;
    let host = site.host("web-1");
    host.wait_unit("mainstay-agent.service", "active", std::time::Duration::from_secs(30))?;
    assert_eq!(host.unit_property("mainstay-agent.service", "NRestarts")?, "0");
    Ok(())
}

/// Names of all that an enrolment could leave: identity, keys, certificates. Ledger and spool grow by themselves.
fn state_of(host: &Host) -> Result<String> {
    host.must("cd /var/lib/mainstay && find . -path ./ledger -prune -o -path ./spool -prune -o -type f -print | sort")
}
