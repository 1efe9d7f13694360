//! Policies that a host must refuse: the last good one stays in force and goes on healing, and the collector shows why.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use mainstay_core::policy::bundle::Bundle;
use mainstay_tests::hosts::{self, wait::wait_for, wait_until};
use mainstay_tests::site::Site;
use mainstay_tests::site::services::{self, SLEEPER};

/// Longest until a refusal is seen at the collector.
const SOON: Duration = Duration::from_secs(60);

/// How long the policy may be taken that expires on its way: longer than the push, shorter than patience.
const SHORT_LIFE: Duration = Duration::from_secs(3);

const UNIT: &str = "sleeper.service";

#[test]
fn what_a_host_does_not_believe_or_understand_is_refused_with_the_reason_shown() -> Result<()> {
    if !hosts::may_run("what_a_host_does_not_believe_or_understand_is_refused_with_the_reason_shown") {
        return Ok(());
    }
    let site = healing_site()?;
    let key = site.signing_key()?;
    let stranger = SigningKey::from_bytes(&[7; 32]);
    // Past the command line, which would have refused each of them; the collector cannot, having no key.
    let next = |site: &Site, text: &str| next_bundle(site, text, in_future(Duration::from_secs(600)));

    let strange = next(&site, "version = 1\n")?;
    refused(&site, &strange, &strange.sign(&stranger), "which this host does not trust")?;

    let claimed = next(&site, "version = 1\n")?;
    let mut altered = claimed.sign(&key);
    *altered.bytes.last_mut().context("a policy has bytes")? = b' ';
    refused(&site, &claimed, &altered, "does not fit the content")?;

    let broken = next(&site, &services::restart_rule(&[UNIT], "auto").replace("ladder", "lader"))?;
    refused(&site, &broken, &broken.sign(&key), "web.toml:10:1")?;

    assert_heals(&site)
}

#[test]
fn a_policy_that_expired_on_its_way_is_refused() -> Result<()> {
    if !hosts::may_run("a_policy_that_expired_on_its_way_is_refused") {
        return Ok(());
    }
    let site = healing_site()?;
    site.host("web-1").partition()?;
    let late = next_bundle(&site, "version = 1\n", in_future(SHORT_LIFE))?;
    site.offer_policy(&late.sign(&site.signing_key()?))??;
    wait_for(SOON, "the policy to expire", || Ok(now_ms() > late.not_after_ms))?;
    site.host("web-1").heal()?;
    let row = site.wait_policy_refused("web-1", "policy expired")?;
    assert_eq!((row.offered, row.effective), (late.generation, late.generation - 1), "{row:?}");
    assert_heals(&site)
}

#[test]
fn an_older_policy_is_refused_even_when_the_collector_has_forgotten_the_newer() -> Result<()> {
    if !hosts::may_run("an_older_policy_is_refused_even_when_the_collector_has_forgotten_the_newer") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let collector = site.collector();
    services::start(site.host("web-1"), UNIT, SLEEPER)?;
    site.enforce(&[("web.toml", "version = 1\n")], &["web-1"])?;
    // Set back to an earlier state, as by a restored copy of its disk.
    let state = "/var/lib/mainstay-collector";
    collector.must(&format!("systemctl stop mainstay-collector && cp -a {state} /root/earlier"))?;
    collector.must("systemctl start mainstay-collector")?;
    site.wait_online("web-1")?;
    site.enforce(&[("web.toml", &services::restart_rule(&[UNIT], "auto"))], &["web-1"])?;
    let newest = site.newest_bundle()?.generation;

    collector.must(&format!("systemctl stop mainstay-collector && rm -rf {state} && cp -a /root/earlier {state}"))?;
    collector.must("systemctl start mainstay-collector")?;
    let words = format!("policy generation out of date (got {}, have {newest})", newest - 1);
    let row = site.wait_policy_refused("web-1", &words)?;
    assert_eq!(row.effective, newest, "{row:?}");
    assert_heals(&site)
}

#[test]
fn a_broken_policy_is_refused_with_its_line_before_it_leaves_the_operator() -> Result<()> {
    if !hosts::may_run("a_broken_policy_is_refused_with_its_line_before_it_leaves_the_operator") {
        return Ok(());
    }
    let site = healing_site()?;
    let in_force = generation(&site)?;
    let broken = services::restart_rule(&[UNIT], "auto").replace("ladder", "lader");
    let refused = site.push_policy(&[("web.toml", &broken)])?;
    assert_eq!(refused.code, 2, "{refused:?}");
    let said = refused.refused()?;
    assert!(said.contains("web.toml:10:1"), "{said}");
    assert!(said.contains("ladder"), "{said}");
    assert_eq!(generation(&site)?, in_force);
    Ok(())
}

#[test]
fn the_operator_who_signs_with_a_wrong_key_is_told_by_the_push() -> Result<()> {
    if !hosts::may_run("the_operator_who_signs_with_a_wrong_key_is_told_by_the_push") {
        return Ok(());
    }
    let site = healing_site()?;
    let in_force = generation(&site)?;
    let other = site.fleet.operator().home().join("other");
    fs::create_dir_all(&other)?;
    let key = other.join("ops.key");
    site.mainstay(&["policy", "keygen", "--out", &key.to_string_lossy()])?.ok()?;
    let file = other.join("web.toml");
    fs::write(&file, "version = 1\n")?;
    let pushed =
        site.mainstay(&["policy", "push", "--yes", &file.to_string_lossy(), "--key", &key.to_string_lossy()])?;
    assert_eq!(pushed.code, 1, "{pushed:?}");
    assert!(pushed.stdout.contains("web-1: policy is not believed: signed by key"), "{pushed:?}");
    assert_eq!(generation(&site)?, in_force);
    Ok(())
}

#[test]
fn rollback_is_the_old_content_under_a_new_generation() -> Result<()> {
    if !hosts::may_run("rollback_is_the_old_content_under_a_new_generation") {
        return Ok(());
    }
    let site = healing_site()?;
    let first = site.newest_bundle()?;
    site.enforce(&[("web.toml", &services::restart_rule(&[UNIT], "observe"))], &["web-1"])?;
    let second = generation(&site)?;
    assert!(second > first.generation);
    site.mainstay(&["policy", "rollback", "--yes", "--to", &first.generation.to_string()])?.ok()?;
    wait_until(SOON, "the rollback to be in force", || Ok((generation(&site)? > second).then_some(())))?;
    assert_eq!(site.newest_bundle()?.files, first.files);
    assert_heals(&site)
}

/// A host that restarts its service under a policy of the operator's.
fn healing_site() -> Result<Site> {
    let site = Site::enrolled(&["web-1"])?;
    services::start(site.host("web-1"), UNIT, SLEEPER)?;
    site.enforce(&[("web.toml", &services::restart_rule(&[UNIT], "auto"))], &["web-1"])?;
    Ok(site)
}

/// A policy of one file that would be the next after what the collector has.
fn next_bundle(site: &Site, text: &str, not_after_ms: i64) -> Result<Bundle> {
    let newest = site.newest_bundle()?;
    Ok(Bundle {
        generation: newest.generation + 1,
        prev_hash: newest.hash(),
        not_after_ms,
        files: vec![("web.toml".to_owned(), text.as_bytes().to_vec())],
        ..newest
    })
}

/// The host refuses it with these words, and what was in force before stays so.
fn refused(site: &Site, bundle: &Bundle, signed: &mainstay_core::policy::signed::Signed, words: &str) -> Result<()> {
    let in_force = generation(site)?;
    site.offer_policy(signed)??;
    let row = site.wait_policy_refused("web-1", words)?;
    ensure!((row.offered, row.effective) == (bundle.generation, in_force), "{row:?}, {in_force} was in force");
    Ok(())
}

/// The last good policy is in force and at work.
fn assert_heals(site: &Site) -> Result<()> {
    let host = site.host("web-1");
    services::kill(host, UNIT)?;
    site.wait_decision("web-1", "a restart that helped", SOON, |decision| {
        decision.is_about("service.failed", UNIT) && decision.helped()
    })?;
    host.wait_unit(UNIT, "active", SOON)
}

fn generation(site: &Site) -> Result<u64> {
    Ok(site.policy_of("web-1")?.effective)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn in_future(life: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(life.as_millis()).unwrap_or(i64::MAX))
}
