//! Real hosts that have learned six days of themselves (by replay, see `learning`): quiet ones raise nothing, disturbed ones are
//! noticed with the right unit to blame, and what was learned outlives restarts and upgrades, and is an operator's to change.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::{self, Base, Fleet, FleetOptions, Host, on_all, packages, wait_until};
use mainstay_tests::site::Site;
use mainstay_tests::site::learning::{self, Opened, learn, now_ms, opened};
use mainstay_tests::site::workload::{self, BATCH, PROBES, WORKER};
use serde_json::Value;

const START_MAX: Duration = Duration::from_secs(60);

/// How long the host is left alone before it is disturbed.
const QUIET: Duration = Duration::from_secs(30);

/// Longest that a gross disturbance may go unnoticed.
const NOTICED_MAX: Duration = Duration::from_secs(100);

/// What the leak takes in a second, in bytes: half a GiB in half a minute.
const LEAK: u64 = 16 << 20;

/// A leak that has taken this much is noticed or missed; it goes no further, for the sake of the machine.
const LEAKED_MAX: Duration = Duration::from_secs(60);

#[test]
fn learned_hosts_are_quiet_until_a_unit_burns_or_leaks_and_then_it_is_blamed() -> Result<()> {
    if !hosts::may_run("learned_hosts_are_quiet_until_a_unit_burns_or_leaks_and_then_it_is_blamed") {
        return Ok(());
    }
    let names = ["quiet", "burns", "leaks"];
    let base = Some(Base::with_packages(&["stress-ng"])?);
    let fleet = Fleet::boot_with(FleetOptions { names: names.map(str::to_owned).to_vec(), base })?;
    on_all(fleet.hosts(), |host| {
        learning::prepare(host, PROBES)?;
        workload::start(host)?;
        workload::start_batch(host)?;
        host.install_deb(&packages::deb("mainstay-agent")?)?;
        host.wait_unit("mainstay-agent.service", "active", START_MAX)?;
        println!("{}: {}", host.name(), learn(host, PROBES, 1)?);
        Ok(())
    })?;
    let began = now_ms();
    stretch(&fleet, QUIET)?;
    for host in fleet.hosts() {
        ensure!(own(host, began)?.is_empty(), "{} was not quiet: {:?}", host.name(), own(host, began)?);
    }

    let (burns, leaks) = (fleet.host("burns"), fleet.host("leaks"));
    let disturbed = now_ms();
    workload::break_by(burns, "stress", 1)?;
    workload::break_by(leaks, "leak", LEAK)?;
    let leak = wait_until(LEAKED_MAX, "the leak to be noticed", || noticed(leaks, disturbed));
    workload::break_by(leaks, "leak", 0)?;
    let leak = leak.with_context(|| leaks.agent_story())?;
    let burn = wait_until(NOTICED_MAX, "stress-ng to be noticed", || noticed(burns, disturbed))
        .with_context(|| burns.agent_story())?;
    println!(
        "leak after {} ms: {leak:?}\nstress-ng after {} ms: {burn:?}",
        leak.opened_ms - disturbed,
        burn.opened_ms - disturbed
    );
    assert!(leak.blames(WORKER) && leak.evidence.contains("unit_memory_bytes"), "{leak:?}");
    assert!(burn.blames(BATCH), "{burn:?}");

    // What stands and what is known outlives a restart and the package of the next release.
    let known = models(leaks)?;
    for change in [restart as fn(&Fleet, &Host) -> Result<()>, upgrade] {
        let started = now_ms();
        change(&fleet, leaks)?;
        let told = wait_until(START_MAX, "what stands to be told again", || {
            let page = leaks.must("mainstay-agent status")?;
            Ok(page.contains(&leak.id).then_some(page))
        })
        .with_context(|| leaks.agent_story())?;
        assert!(told.contains("metric.anomalous host"), "{told}");
        assert!(own(leaks, started)?.is_empty(), "opened anew: {:?}", own(leaks, started)?);
        let now = models(leaks)?;
        let is_known = |line: &str| line.starts_with("metric.anomalous ") && line.contains(": learned, ");
        assert!(now.lines().any(is_known) && !now.contains("learned anew"), "{now}");
        assert_eq!(shown(&now, "cpu_busy_ratio")?, shown(&known, "cpu_busy_ratio")?);
    }

    let quiet = own(fleet.host("quiet"), 0)?;
    assert!(quiet.is_empty(), "the quiet host raised {quiet:?}");
    Ok(())
}

#[test]
fn what_a_host_has_learned_is_shown_forgotten_and_rolled_back_through_the_collector() -> Result<()> {
    if !hosts::may_run("what_a_host_has_learned_is_shown_forgotten_and_rolled_back_through_the_collector") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    learning::prepare(host, "version = 1\n")?;
    workload::start(host)?;
    learn(host, "version = 1\n", 1)?;
    site.wait_online("web-1")?;
    let models = |args: &[&str]| site.mainstay(&[&["host", "models", "web-1"][..], args].concat());
    let document = || -> Result<Value> { Ok(serde_json::from_str(&models(&["-o", "json", "--limit", "0"])?.ok()?)?) };

    let text = models(&["--metric", "*worker*"])?.ok()?;
    for word in ["metric.anomalous", "memory.leak", r#"unit_cpus{unit="worker.service"}"#] {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
    let before = document()?;
    let days = 5 * 86_400_000;
    assert!(trained_ms(&before, WORKER_CPUS) > days, "{}", trained_ms(&before, WORKER_CPUS));
    assert!(of_all(&before, "learning_ms").iter().all(|left| left.is_null()), "{}", before["models"]);

    let reason = "the service was rewritten";
    models(&["reset", "--metric", "*worker*", "--reason", reason])?.ok()?;
    let forgotten = document()?;
    assert!(trained_ms(&forgotten, WORKER_CPUS) < 600_000, "{}", trained_ms(&forgotten, WORKER_CPUS));
    assert!(trained_ms(&forgotten, "cpu_busy_ratio") > days, "what was not meant is forgotten too");
    let snapshots = forgotten["snapshots"].as_array().context("no snapshots are listed")?;
    assert!(snapshots.iter().any(|snapshot| snapshot["why"] == "reset"), "{snapshots:?}");

    models(&["rollback", "--reason", "it was not"])?.ok()?;
    let back = document()?;
    assert!(trained_ms(&back, WORKER_CPUS) > days, "{}", trained_ms(&back, WORKER_CPUS));
    assert!(of_all(&back, "rolled_back").iter().all(|at| at.is_string()), "{}", back["models"]);

    // The orders stand in the ledger, and the state on the disk is the one in force.
    let verified = site.mainstay(&["ledger", "verify", "--host", "web-1"])?.ok()?;
    assert!(verified.contains("intact"), "{verified}");
    host.must("systemctl restart mainstay-agent.service")?;
    site.wait_online("web-1")?;
    assert!(trained_ms(&document()?, WORKER_CPUS) > days, "the agent went back to another state");
    Ok(())
}

const WORKER_CPUS: &str = r#"unit_cpus{unit="worker.service"}"#;

/// For how long a metric was learned; what was forgotten is there again at once, with nothing learned.
fn trained_ms(document: &Value, name: &str) -> u64 {
    let subjects = document["subjects"].as_array().into_iter().flatten();
    let found = subjects.filter(|subject| subject["subject"] == name);
    found.map(|subject| subject["trained_ms"].as_u64().unwrap_or_default()).max().unwrap_or_default()
}

/// What is said of every model.
fn of_all<'d>(document: &'d Value, key: &str) -> Vec<&'d Value> {
    document["models"].as_array().into_iter().flatten().map(|model| &model[key]).collect()
}

/// Waits until every agent has taken as many samples as there are seconds in a stretch.
fn stretch(fleet: &Fleet, length: Duration) -> Result<()> {
    let until = now_ms() + i64::try_from(length.as_millis())?;
    wait_until(length * 2, "the stretch to pass", || Ok((now_ms() >= until).then_some(())))?;
    on_all(fleet.hosts(), |host| host.wait_unit("mainstay-agent.service", "active", START_MAX))
}

/// What a host raised of its own.
fn own(host: &Host, since_ms: i64) -> Result<Vec<Opened>> {
    Ok(opened(host, since_ms)?.into_iter().filter(|finding| !finding.is_the_machines()).collect())
}

/// The first alarm since a moment.
fn noticed(host: &Host, since_ms: i64) -> Result<Option<Opened>> {
    Ok(own(host, since_ms)?.into_iter().find(|finding| finding.kind == "metric.anomalous"))
}

fn models(host: &Host) -> Result<String> {
    host.must("mainstay-agent models")
}

/// For how long a metric was shown, in the words of the page.
fn shown(page: &str, metric: &str) -> Result<String> {
    let line = page.lines().find(|line| line.trim_start().starts_with(metric)).context("the metric is not known")?;
    Ok(line.rsplit("; ").next().unwrap_or_default().to_owned())
}

fn restart(_: &Fleet, host: &Host) -> Result<()> {
    host.must("systemctl restart mainstay-agent.service").map(drop)
}

fn upgrade(fleet: &Fleet, host: &Host) -> Result<()> {
    let next = packages::next_version(&packages::deb("mainstay-agent")?, fleet.dir())?;
    host.install_deb(&next)?;
    host.wait_unit("mainstay-agent.service", "active", START_MAX)
}
