//! How long a killed service without `Restart=` is down: repaired by Mainstay, and by Debian's monit polling every second.
//!
//! One real host, the same service, 20 kills each, one healer at a time. Down is from leaving `active` to being `active`
//! again, by systemd's own monotonic clock. Kills come at spread moments of the second, as a poller's luck depends on it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::{Base, Host, wait_until};
use mainstay_tests::site::Site;

/// Kills for each healer.
const KILLS: u32 = 20;

/// Longest one repair may take before the run is called failed.
const REPAIR_MAX: Duration = Duration::from_secs(60);

const UNIT: &str = "sleeper.service";

const SERVICE: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/usr/bin/sleep infinity\n\
    ExecStartPost=/bin/sh -c 'echo $MAINPID > /run/sleeper.pid'\n";

const POLICY: &str = r#"
version = 1

[[rule]]
name = "restart"
on = ["service.failed"]
units = ["sleeper.service"]
mode = "auto"
cooldown = "0s"
budget = "1000 per 1h"
ladder = [{ do = "unit.restart" }]
verify = { stable_for = "1s" }
"#;

const MONIT: &str = "set daemon 1\nset log /var/log/monit.log\n\
    check process sleeper with pidfile /run/sleeper.pid\n\
    \x20 start program = \"/usr/bin/systemctl start sleeper.service\"\n\
    \x20 if does not exist then start\n";

fn main() -> Result<()> {
    let site = Site::installed(&["web-1"], Some(Base::with_packages(&["monit"])?))?;
    let host = site.host("web-1");
    host.push_file(&format!("/etc/systemd/system/{UNIT}"), SERVICE, 0o644)?;
    // The rate limit of root's file is for hosts in trouble, not for a bench.
    host.push_file("/etc/mainstay/actuator.d/10-bench.toml", "[per_hour]\n\"unit.restart\" = 150\n", 0o644)?;
    host.must(&format!("systemctl daemon-reload && systemctl start {UNIT}"))?;

    host.must("systemctl stop mainstay-agent.service")?;
    host.push_file("/etc/monit/monitrc", MONIT, 0o600)?;
    host.must("systemctl start monit.service")?;
    wait_until(REPAIR_MAX, "monit to watch", || {
        Ok(host.run("test -s /var/log/monit.log && pgrep -x monit")?.is_success().then_some(()))
    })?;
    let monit = down_times(host, || Ok(()))?;
    host.must("systemctl stop monit.service")?;

    host.must("systemctl start mainstay-agent.service")?;
    site.make_operator()?;
    site.make_policy_key()?;
    site.enrol("web-1", &site.token(1)?)?.ok()?;
    site.wait_online("web-1")?;
    site.enforce(&[("bench.toml", POLICY)], &["web-1"])?;
    // The next kill waits until the last repair is verified, or it would be told apart by nobody.
    let mut known = 0;
    let mainstay = down_times(host, || {
        known = wait_until(REPAIR_MAX, "the repair to be verified", || {
            let helped = site.decisions("web-1")?.iter().filter(|decision| decision.helped()).count();
            Ok((helped > known).then_some(helped))
        })?;
        Ok(())
    })?;

    println!("killed service without Restart=, {KILLS} kills each, down time in seconds:");
    report("mainstay", mainstay);
    report("monit, daemon 1", monit);
    Ok(())
}

/// Kills the service again and again; `settled` says when the healer is ready for the next one.
fn down_times(host: &Host, mut settled: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for kill in 0..KILLS {
        // Spread over the second: 37 ms further each time, in the host, so that nothing else is in between.
        let phase = f64::from(kill * 37 % 1000) / 1000.0 + 1.0;
        let before = host.unit_property(UNIT, "ActiveEnterTimestampMonotonic")?;
        host.must(&format!("sleep {phase}; systemctl kill --signal=SIGKILL {UNIT}"))?;
        let down = wait_until(REPAIR_MAX, "the service to be repaired", || {
            let shown = host.must(&format!(
                "systemctl show -p ActiveState -p ActiveEnterTimestampMonotonic -p ActiveExitTimestampMonotonic {UNIT}"
            ))?;
            let value = |name: &str| {
                shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).context("systemd shows it")
            };
            let (entered, exited) = (value("ActiveEnterTimestampMonotonic")?, value("ActiveExitTimestampMonotonic")?);
            if value("ActiveState")? != "active" || entered == before {
                return Ok(None);
            }
            let (entered, exited) = (entered.parse::<f64>()?, exited.parse::<f64>()?);
            ensure!(entered > exited, "active since {entered} but inactive since {exited}");
            Ok(Some((entered - exited) / 1e6))
        })?;
        times.push(down);
        settled()?;
    }
    Ok(times)
}

fn report(name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let median = (times[times.len() / 2] + times[(times.len() - 1) / 2]) / 2.0;
    println!("  {name:<18} median {median:6.3}   least {:6.3}   most {:6.3}", times[0], times[times.len() - 1]);
}
