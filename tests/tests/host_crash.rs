//! The agent dies in the middle of an action, again and again: the cure still comes, and it never comes twice.

use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, Fleet, packages, wait::wait_for};
use mainstay_tests::site::services::{self, COUNTED, starts};

const SOON: Duration = Duration::from_secs(60);

/// How far into an action the agent is killed: from before it has noticed to after all is done.
const DELAYS_MS: [u32; 12] = [0, 5, 10, 20, 30, 40, 60, 80, 120, 200, 400, 1_100];

const UNIT: &str = "counted.service";

#[test]
fn an_agent_killed_anywhere_in_an_action_never_acts_twice() -> Result<()> {
    if !hosts::may_run("an_agent_killed_anywhere_in_an_action_never_acts_twice") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    let host = fleet.host("host-1");
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    services::start(host, UNIT, COUNTED)?;
    // Root's own rules: an agent that nobody has enrolled acts on them.
    host.push_file("/etc/mainstay/policy.d/counted.toml", services::restart_rule(&[UNIT], "auto"), 0o644)?;
    host.must("systemctl restart mainstay-agent.service")?;

    for (round, delay) in (1_u32..).zip(DELAYS_MS) {
        host.wait_unit("mainstay-agent.service", "active", SOON)?;
        let kill = format!(
            "systemctl kill --signal=SIGKILL counted.service; sleep {}; systemctl kill --signal=SIGKILL mainstay-agent.service",
            f64::from(delay) / 1000.0
        );
        host.must(&kill)?;
        wait_for(SOON, &format!("the cure after a crash {delay} ms into it"), || {
            Ok(starts(host)? > round && host.unit_property("counted.service", "ActiveState")? == "active")
        })
        .with_context(|| host.agent_story())?;
        // The agent is back and has looked at what it left; an action that it repeats would be counted by now.
        host.wait_unit("mainstay-agent.service", "active", SOON)?;
        assert_eq!(starts(host)?, round + 1, "crash {delay} ms into the action: acted twice\n{}", host.agent_story());
    }
    Ok(())
}
