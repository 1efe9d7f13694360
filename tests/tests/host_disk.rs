//! Full disks on real hosts: brought under the target, nothing touched that should not be, and brought back by undo.

use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, Fleet, Host, packages, wait_until};
use mainstay_tests::site::{Decision, Site};

/// Longest that a reclaim with its verification may take before the test calls it missing.
const HEALED_MAX: Duration = Duration::from_secs(120);

/// What root allows on the host; no policy reaches beyond it.
const ROOTS_LIMITS: &str = r#"
[[reclaim.root]]
path = "/srv/data/logs"
files = ["*.log"]
older_than = "1h"
"#;

const RECLAIM: &str = r#"
version = 1
description = "keep the data disk from filling"

[[rule]]
name = "data-disk"
on = ["disk.full", "disk.filling"]
mounts = ["/srv/data"]
mode = "auto"
confidence = 0.9
cooldown = "5s"
budget = "5 per 1h"
ladder = [{ do = "disk.reclaim", from = ["logs"], until = "used < 80%", undo_for = "24h" }]
verify = { stable_for = "2s" }

[reclaim.logs]
under = "/srv/data/logs"
files = ["*.log"]
older_than = "1d"
"#;

/// Where the disk is.
const DATA: &str = "/srv/data";

/// Where journald keeps what outlives a boot.
const JOURNAL: &str = "/var/log/journal";

/// Size of the disk in MiB: small, so that filling it is quick.
const DISK_MIB: u64 = 128;

#[test]
fn a_full_disk_is_brought_under_its_target_and_undo_brings_the_files_back() -> Result<()> {
    if !hosts::may_run("a_full_disk_is_brought_under_its_target_and_undo_brings_the_files_back") {
        return Ok(());
    }
    let site = Site::enrolled(&["db-1"])?;
    let host = site.host("db-1");
    prepare_disk(host, DATA)?;
    site.enforce(&[("disk.toml", RECLAIM)], &["db-1"])?;

    // Old files that may go, and three that may not: open, recent, and not listed.
    host.must("for n in 1 2 3 4; do yes \"old $n\" | head -c 20M > /srv/data/logs/old-$n.log; done")?;
    host.must("yes open | head -c 4M > /srv/data/logs/open.log; touch -d '3 days ago' /srv/data/logs/*.log")?;
    host.start("reader", "exec 9< /srv/data/logs/open.log; sleep infinity")?;
    host.must("yes recent | head -c 4M > /srv/data/logs/recent.log")?;
    host.must("yes data | head -c 4M > /srv/data/logs/table.db; touch -d '3 days ago' /srv/data/logs/table.db")?;
    let before = host.must("cd /srv/data && find . -type f -name '*.*' -print0 | sort -z | xargs -0 sha256sum")?;
    fill_to(host, DATA, 95)?;

    let decision = healed(&site, host, DATA)?;
    assert!(used_percent(host, DATA)? < 80, "still {} % used", used_percent(host, DATA)?);
    let step = &decision.steps[0];
    assert_eq!(step.kind, "disk.reclaim");
    assert!(step.freed_bytes.is_some_and(|bytes| bytes > 10 << 20), "{step:?}");
    for kept in ["open.log", "recent.log", "table.db"] {
        host.must(&format!("test -s /srv/data/logs/{kept}")).with_context(|| format!("{kept} was touched"))?;
    }

    host.must("rm /srv/data/fill")?;
    site.mainstay(&["undo", &step.action, "--host", "db-1", "--reason", "the test wants its files"])?.ok()?;
    wait_until(HEALED_MAX, "undo to bring the files back", || {
        let now = host.must("cd /srv/data && find . -type f -name '*.*' -print0 | sort -z | xargs -0 sha256sum")?;
        anyhow::ensure!(before.lines().all(|line| now.contains(line)), "before:\n{before}\nnow:\n{now}");
        Ok(Some(()))
    })
}

#[test]
fn traps_in_a_reclaim_directory_lose_nothing_outside() -> Result<()> {
    if !hosts::may_run("traps_in_a_reclaim_directory_lose_nothing_outside") {
        return Ok(());
    }
    let site = Site::enrolled(&["db-1"])?;
    let host = site.host("db-1");
    prepare_disk(host, DATA)?;
    site.enforce(&[("disk.toml", RECLAIM)], &["db-1"])?;

    // Outside: the same filesystem but beside the directory, and another filesystem.
    host.must("mkdir -p /srv/data/beside /srv/other /srv/data/logs/bind /srv/data/logs/deep")?;
    host.must(
        "for d in /srv/data/beside /srv/other; do for n in 1 2; do yes keep | head -c 1M > $d/keep-$n.log; done; done",
    )?;
    host.must("touch -d '3 days ago' /srv/data/beside/* /srv/other/*")?;
    // The traps: links to a file and to a folder, a second name of a file outside, a bind mount.
    host.must("ln -s /srv/other/keep-1.log /srv/data/logs/link.log && ln -s /srv/other /srv/data/logs/dir")?;
    host.must("ln -s ../../beside /srv/data/logs/deep/up")?;
    host.must("ln /srv/data/beside/keep-1.log /srv/data/logs/second-name.log")?;
    host.must("mount --bind /srv/other /srv/data/logs/bind")?;
    host.must("for n in 1 2 3 4; do yes \"old $n\" | head -c 20M > /srv/data/logs/old-$n.log; done; touch -d '3 days ago' /srv/data/logs/old-*.log")?;
    let outside = "sha256sum /srv/data/beside/* /srv/other/* && readlink /srv/data/logs/link.log /srv/data/logs/dir";
    let before = host.must(outside)?;
    fill_to(host, DATA, 95)?;

    healed(&site, host, DATA)?;
    assert_eq!(host.must(outside)?, before);
    host.must("test -s /srv/data/logs/second-name.log").context("a file with a second name was taken")?;
    Ok(())
}

#[test]
fn what_journald_still_writes_is_archived_and_reclaimed_when_nothing_older_suffices() -> Result<()> {
    if !hosts::may_run("what_journald_still_writes_is_archived_and_reclaimed_when_nothing_older_suffices") {
        return Ok(());
    }
    let site = Site::enrolled(&["db-1"])?;
    let host = site.host("db-1");
    host.disk(DISK_MIB, JOURNAL)?;
    let settings = "[Journal]\nStorage=persistent\nSystemMaxUse=100M\nSystemMaxFileSize=100M\nSystemKeepFree=1M\nRateLimitIntervalSec=0\n";
    host.push_file("/etc/systemd/journald.conf.d/test.conf", settings, 0o644)?;
    host.must("systemctl restart systemd-journald && journalctl --flush")?;
    host.must("head -c 30M /dev/urandom | base64 -w 4000 | systemd-cat && journalctl --sync")?;
    host.run(&format!("ls {JOURNAL}/*/*@*"))?.refused().context("nothing is archived yet")?;
    let policy = "version = 1\n[[rule]]\nname = \"journal\"\non = [\"disk.full\"]\nmounts = [\"/var/log/journal\"]\n\
                  mode = \"auto\"\nladder = [{ do = \"disk.reclaim\", from = [\"journal\"], until = \"used < 80%\" }]\n\
                  verify = { stable_for = \"2s\" }\n";
    site.enforce(&[("disk.toml", policy)], &["db-1"])?;
    fill_to(host, JOURNAL, 95)?;

    healed(&site, host, JOURNAL)?;
    assert!(used_percent(host, JOURNAL)? < 80, "still {} % used", used_percent(host, JOURNAL)?);
    // And it goes on writing.
    host.must("echo written after the reclaim | systemd-cat && journalctl --sync")?;
    host.must("journalctl -q --no-pager | grep -q 'written after the reclaim'").map(drop)
}

#[test]
fn the_drop_in_that_a_refusal_names_is_what_it_takes() -> Result<()> {
    if !hosts::may_run("the_drop_in_that_a_refusal_names_is_what_it_takes") {
        return Ok(());
    }
    // Root's own rules on a host that nobody enrolled: a signed policy may be given up for the refusal.
    let fleet = Fleet::boot_named(&["db-1"])?;
    let host = fleet.host("db-1");
    // Where the unit lets the actuator read and not write.
    let mount = "/home/data";
    prepare_disk(host, mount)?;
    let policy = RECLAIM.replace(DATA, mount).replace("cooldown = \"5s\"", "cooldown = \"1s\"\nbackoff = 1");
    host.push_file("/etc/mainstay/policy.d/disk.toml", policy, 0o644)?;
    host.must(&format!("yes old | head -c 60M > {mount}/logs/old.log && touch -d '3 days ago' {mount}/logs/old.log"))?;
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    fill_to(host, mount, 95)?;

    let refused = "journalctl -q --no-pager -o cat -u mainstay-actuator | grep -m1 'refused (not_allowed)'";
    let why = wait_until(HEALED_MAX, "a refusal", || {
        let said = host.run(refused)?;
        Ok(said.is_success().then_some(said.stdout))
    })
    .with_context(|| host.agent_story())?;
    let (_, rest) = why.split_once("As root: ").with_context(|| format!("the refusal says no way out: {why}"))?;
    let (command, _) = rest.split_once(" (its socket").context("the command has an end")?;
    host.must(command)?;
    wait_until(HEALED_MAX, "the reclaim", || Ok((used_percent(host, mount)? < 80).then_some(())))
        .with_context(|| host.journal_tail("mainstay-actuator"))
}

/// A disk of its own, a directory that root allows to be reclaimed, and the actuator told so.
fn prepare_disk(host: &Host, mount: &str) -> Result<()> {
    host.disk(DISK_MIB, mount)?;
    host.must(&format!("mkdir -p {mount}/logs"))?;
    host.push_file("/etc/mainstay/actuator.d/10-data.toml", ROOTS_LIMITS.replace(DATA, mount), 0o644)
}

/// Fills the disk with one file that no plan may touch, to at least `percent`.
fn fill_to(host: &Host, mount: &str, percent: u64) -> Result<()> {
    let line = host.must(&format!("df --output=used,avail -B1 {mount} | tail -1"))?;
    let mut words = line.split_whitespace().map(str::parse::<u64>);
    let (used, free) = (words.next().context("df says used")??, words.next().context("df says free")??);
    let more = ((used + free) * percent).div_ceil(100).saturating_sub(used);
    host.must(&format!("head -c {more} /dev/urandom > {mount}/fill && sync -f {mount}"))?;
    assert!(used_percent(host, mount)? >= percent, "filled to {} %", used_percent(host, mount)?);
    Ok(())
}

fn used_percent(host: &Host, mount: &str) -> Result<u64> {
    let text = host.must(&format!("df --output=pcent {mount} | tail -1"))?;
    Ok(text.trim().trim_end_matches('%').parse()?)
}

fn healed(site: &Site, host: &Host, mount: &str) -> Result<Decision> {
    site.wait_decision("db-1", "a reclaim that helped", HEALED_MAX, |decision| {
        decision.kind.starts_with("disk.") && decision.subject == mount && decision.helped()
    })
    .with_context(|| host.journal_tail("mainstay-actuator"))
}
