//! What only a kernel of its own can show: memory limits, an OOM kill, a reboot.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mainstay_tests::hosts::{self, Machine, packages};

/// Emulation is slow, and slower when other tests run beside it.
const BOOT_MAX: Duration = Duration::from_secs(240);
const STEP_MAX: Duration = Duration::from_secs(240);

/// Takes more than its limit on its first start; on later ones it stays small.
const LEAK: &str = "\
[Service]
ExecStart=/usr/bin/python3 -c 'import os,time; first = not os.path.exists(\"/leaked\"); open(\"/leaked\",\"w\").close(); \
hoard = [bytearray(1 << 20) for _ in range(400 if first else 1)]; time.sleep(100000)'
MemoryMax=64M
MemorySwapMax=0
OOMPolicy=stop
Restart=no
";

const POLICY: &str = "\
version = 1
description = \"this machine's own rules\"

[[rule]]
name = \"leak\"
on = [\"service.failed\"]
units = [\"leak.service\"]
mode = \"auto\"
confidence = 0.9
cooldown = \"5s\"
budget = \"3 per 1h\"
ladder = [{ do = \"unit.restart\" }]
verify = { stable_for = \"5s\" }
";

/// First boot: a service is killed for its memory, and runs again. Second boot: nothing was forgotten.
const SCRIPT: &str = r#"
say() { echo "MACHINE: $*"; }
ask() { for _ in $(seq 600); do eval "$1" >/dev/null 2>&1 && return 0; sleep 0.2; done; say "gave up: $1"; return 1; }
metric() { curl -s http://127.0.0.1:7445/metrics | grep -F "$1" | head -n 1; }

ask 'systemctl is-active mainstay-agent.service'
say "agent=$(systemctl is-active mainstay-agent.service)"
say "boot=$(cat /proc/sys/kernel/random/boot_id)"
if [ ! -e /second ]; then
  touch /second
  systemctl start --no-block leak.service
  ask 'journalctl -k -g "Killed process.*python3" -q'
  say "oom=$(journalctl -k -q -o cat -g 'Killed process.*python3' | head -n 1)"
  ask '[ "$(systemctl is-active leak.service)" = active ]'
  say "leak=$(systemctl is-active leak.service)"
  ask 'metric "mainstay_unit_memory_bytes{unit=\"leak.service\"}" | grep -q leak'
  say "memory=$(metric 'mainstay_unit_memory_bytes{unit="leak.service"}')"
  ask 'ledger_knows() { grep -rqa "leak.service" /var/lib/mainstay/ledger; }; ledger_knows'
  sync
  say rebooting
  systemctl reboot
else
  say "restarts=$(journalctl -b -u leak.service -q -o cat | grep -c Started)"
  say "records=$(mainstay ledger verify --dir "$(dirname "$(find /var/lib/mainstay/ledger -name '*.shard' | head -n 1)")" --host-id 00000000-0000-0000-0000-000000000000 2>&1)"
  say done
  systemctl poweroff
fi
"#;

/// The `key=value` lines that the script has said.
fn values(said: &[String]) -> BTreeMap<&str, &str> {
    said.iter().filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn a_service_killed_for_its_memory_runs_again_and_a_reboot_forgets_nothing() -> Result<()> {
    if !hosts::may_run("a_service_killed_for_its_memory_runs_again_and_a_reboot_forgets_nothing") {
        return Ok(());
    }
    let debs = [packages::deb("mainstay-agent")?, packages::deb("mainstay")?];
    let files = [("/etc/systemd/system/leak.service", LEAK), ("/etc/mainstay/policy.d/machine.toml", POLICY)];
    let mut machine = Machine::make(&debs, &files, SCRIPT)?;

    machine.boot()?;
    let first = machine.wait_for("rebooting", BOOT_MAX + STEP_MAX)?;
    let seen = values(&first);
    ensure!(seen.get("agent") == Some(&"active"), "the agent did not start: {first:?}");
    ensure!(seen.get("oom").is_some_and(|line| line.contains("python3")), "nothing was killed: {first:?}");
    ensure!(seen.get("leak") == Some(&"active"), "the service was not restarted: {first:?}");
    let memory: f64 = seen
        .get("memory")
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("no memory of the unit in /metrics: {first:?}"))?;
    ensure!(memory > 1e6 && memory < 64.0 * 1024.0 * 1024.0, "memory of the unit is {memory}: {first:?}");
    let first_boot = seen.get("boot").context("no boot id")?.to_string();
    machine.wait_off(STEP_MAX)?;

    machine.boot()?;
    let second = machine.wait_for("done", BOOT_MAX + STEP_MAX)?;
    let seen = values(&second);
    ensure!(seen.get("boot").is_some_and(|boot| *boot != first_boot), "it was no other boot: {second:?}");
    ensure!(seen.get("agent") == Some(&"active"), "the agent did not start again: {second:?}");
    ensure!(seen.get("records").is_some_and(|line| line.contains("chain intact")), "the ledger: {second:?}");
    machine.wait_off(STEP_MAX)
}
