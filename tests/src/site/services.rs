//! Services to be hurt, and the rule under which they are repaired.

use std::time::Duration;

use anyhow::Result;

use crate::hosts::Host;

/// Longest that a unit without any work of its own takes to start.
const START_MAX: Duration = Duration::from_secs(10);

/// A service that nothing but Mainstay brings back: no `Restart=`.
pub const SLEEPER: &str = "[Service]\nExecStart=/usr/bin/sleep infinity\n";

/// As [`SLEEPER`], and counts its starts; [`starts`] reads them. Without systemd's own limit on them.
pub const COUNTED: &str = "[Unit]\nStartLimitIntervalSec=0\n\
    [Service]\nExecStart=/bin/sh -c 'echo started >> /var/lib/starts; exec sleep infinity'\n";

/// A policy file that restarts these units when they have failed, in this mode: no cooldown, a wide budget, quickly proved.
#[must_use]
pub fn restart_rule(units: &[&str], mode: &str) -> String {
    format!(
        "version = 1\n\n[[rule]]\nname = \"restart\"\non = [\"service.failed\"]\nunits = {units:?}\nmode = \"{mode}\"\n\
         cooldown = \"0s\"\nbudget = \"100 per 1h\"\nladder = [{{ do = \"unit.restart\" }}]\n\
         verify = {{ stable_for = \"1s\" }}\n"
    )
}

/// Installs a unit and waits until it runs.
///
/// # Errors
/// When systemd refuses it or it does not come up.
pub fn start(host: &Host, unit: &str, text: &str) -> Result<()> {
    host.push_file(&format!("/etc/systemd/system/{unit}"), text, 0o644)?;
    host.must(&format!("systemctl daemon-reload && systemctl start {unit}"))?;
    host.wait_unit(unit, "active", START_MAX)
}

/// Kills a service as a crash would.
///
/// # Errors
/// When systemctl fails.
pub fn kill(host: &Host, unit: &str) -> Result<()> {
    host.must(&format!("systemctl kill --signal=SIGKILL {unit}")).map(drop)
}

/// How often [`COUNTED`] was started.
///
/// # Errors
/// When it never was.
pub fn starts(host: &Host) -> Result<u32> {
    Ok(host.must("wc -l < /var/lib/starts")?.trim().parse()?)
}
