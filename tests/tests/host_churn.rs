//! Processes, services and containers that come and go leave nothing in the agent. `bench/churn.rs` goes on for an hour.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mainstay_tests::hosts::{self, Fleet, packages, wait_until};
use mainstay_tests::site::churn::{self, Look};

/// Longest that anything takes.
const WAIT_MAX: Duration = Duration::from_secs(180);

/// Containers at one time, and services that came and went, until it is enough.
const CONTAINERS: f64 = 20.0;
const SERVICES: u32 = 40;

/// Samples after which everything that stays open was opened.
const SAMPLES: f64 = 15.0;

/// What one look more or less may have open: a folder that is being listed, a question that is being answered.
const FDS_MORE_MAX: f64 = 4.0;

/// A thread that waits for another question for some seconds before it ends.
const THREADS_MORE_MAX: f64 = 1.0;

/// What the agent may have learned meanwhile of the units that stay.
const ANONYMOUS_KIB_MORE_MAX: f64 = 2048.0;

#[test]
fn what_comes_and_goes_leaves_nothing_in_the_agent() -> Result<()> {
    if !hosts::may_run("what_comes_and_goes_leaves_nothing_in_the_agent") {
        return Ok(());
    }
    let fleet = Fleet::boot_named(&["web-1"])?;
    let host = fleet.host("web-1");
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    wait_until(WAIT_MAX, "the agent to have read everything", || {
        Ok((churn::figure(host, "samples_total")? >= SAMPLES && churn::figure(host, "units")? > 0.0).then_some(()))
    })
    .with_context(|| host.agent_story())?;
    let (pid, begun) = (churn::pid(host)?, Instant::now());
    let (units, before) = (churn::figure(host, "units")?, Look::at(host, pid, begun)?);

    churn::start(host)?;
    let made = format!("job-{SERVICES}.service");
    wait_until(WAIT_MAX, "containers and services", || {
        let named = host.must(&format!("journalctl -q -o cat | grep -c -F {made} || true"))?;
        let containers = churn::figure(host, "containers")?;
        ensure!(containers >= CONTAINERS, "{containers} containers");
        Ok((named.trim() != "0").then_some(()))
    })
    .with_context(|| host.agent_story())?;
    let amid = Look::at(host, pid, begun)?;
    ensure!(amid.fds > before.fds, "the cgroups of containers are kept open: {before:?} {amid:?}");
    churn::stop(host)?;

    wait_until(WAIT_MAX, "the agent to be as before", || {
        let now = Look::at(host, pid, begun)?;
        let (containers, left) = (churn::figure(host, "containers")?, churn::figure(host, "units")?);
        ensure!(containers == 0.0 && left <= units, "{containers} containers, {left} units of {units}");
        let [fds, threads] = [now.fds - before.fds, now.threads - before.threads];
        ensure!(
            fds <= FDS_MORE_MAX && threads <= THREADS_MORE_MAX,
            "{fds} files, {threads} threads: {before:?} {now:?}"
        );
        let more = now.anonymous_kib - before.anonymous_kib;
        ensure!(more <= ANONYMOUS_KIB_MORE_MAX, "{more} KiB more: {before:?} {now:?}");
        Ok(Some(()))
    })
    .with_context(|| host.agent_story())?;
    ensure!(churn::pid(host)? == pid, "the agent was restarted\n{}", host.agent_story());
    Ok(())
}
