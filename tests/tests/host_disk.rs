//! Full disks on real hosts: brought under the target, nothing touched that should not be, and brought back by undo.

use std::time::Duration;

use anyhow::{Context, Result};
use mainstay_tests::hosts::{self, Host, wait_until};
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

/// Size of the disk in MiB: small, so that filling it is quick.
const DISK_MIB: u64 = 128;

#[test]
fn a_full_disk_is_brought_under_its_target_and_undo_brings_the_files_back() -> Result<()> {
    if !hosts::may_run("a_full_disk_is_brought_under_its_target_and_undo_brings_the_files_back") {
        return Ok(());
    }
    let site = Site::enrolled(&["db-1"])?;
    let host = site.host("db-1");
    prepare_disk(host)?;
    site.enforce(&[("disk.toml", RECLAIM)], &["db-1"])?;

    // Old files that may go, and three that may not: open, recent, and not listed.
    host.must("for n in 1 2 3 4; do yes \"old $n\" | head -c 20M > /srv/data/logs/old-$n.log; done")?;
    host.must("yes open | head -c 4M > /srv/data/logs/open.log; touch -d '3 days ago' /srv/data/logs/*.log")?;
    host.start("reader", "exec 9< /srv/data/logs/open.log; sleep infinity")?;
    host.must("yes recent | head -c 4M > /srv/data/logs/recent.log")?;
    host.must("yes data | head -c 4M > /srv/data/logs/table.db; touch -d '3 days ago' /srv/data/logs/table.db")?;
    let before = host.must("cd /srv/data && find . -type f -name '*.*' -print0 | sort -z | xargs -0 sha256sum")?;
    fill_to(host, 95)?;

    let decision = healed(&site, host)?;
    assert!(used_percent(host)? < 80, "still {} % used", used_percent(host)?);
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
    prepare_disk(host)?;
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
    fill_to(host, 95)?;

    healed(&site, host)?;
    assert_eq!(host.must(outside)?, before);
    host.must("test -s /srv/data/logs/second-name.log").context("a file with a second name was taken")?;
    Ok(())
}

/// A disk of its own, a directory that root allows to be reclaimed, and the actuator told so.
fn prepare_disk(host: &Host) -> Result<()> {
    host.disk(DISK_MIB, "/srv/data")?;
    host.must("mkdir -p /srv/data/logs")?;
    host.push_file("/etc/mainstay/actuator.d/10-data.toml", ROOTS_LIMITS, 0o644)
}

/// Fills the disk with one file that no plan may touch, to at least `percent`.
fn fill_to(host: &Host, percent: u64) -> Result<()> {
    let line = host.must("df --output=used,avail -B1 /srv/data | tail -1")?;
    let mut words = line.split_whitespace().map(str::parse::<u64>);
    let (used, free) = (words.next().context("df says used")??, words.next().context("df says free")??);
    let more = ((used + free) * percent).div_ceil(100).saturating_sub(used);
    host.must(&format!("head -c {more} /dev/urandom > /srv/data/fill && sync -f /srv/data"))?;
    assert!(used_percent(host)? >= percent, "filled to {} %", used_percent(host)?);
    Ok(())
}

fn used_percent(host: &Host) -> Result<u64> {
    let text = host.must("df --output=pcent /srv/data | tail -1")?;
    Ok(text.trim().trim_end_matches('%').parse()?)
}

fn healed(site: &Site, host: &Host) -> Result<Decision> {
    site.wait_decision("db-1", "a reclaim that helped", HEALED_MAX, |decision| {
        decision.kind.starts_with("disk.") && decision.subject == "/srv/data" && decision.helped()
    })
    .with_context(|| host.journal_tail("mainstay-actuator"))
}
