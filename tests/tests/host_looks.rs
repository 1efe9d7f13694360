//! What root on a real host is told when it asks who uses what, and who talks to whom: units by their own names, deleted
//! files that are open, containers, connections with their round-trip times. The agent runs as its own user and asks the actuator for
//! what it may not see. No collector is needed for any of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mainstay_tests::hosts::{self, Fleet, Host, packages, wait_until};

/// Longest until something is seen: connections are looked at every 30 s, deleted files once a minute.
const SEEN_MAX: Duration = Duration::from_secs(90);

/// A client that asks once and stays.
const CALLER: &str = "exec 3<>/dev/tcp/127.0.0.1/80; printf \"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\" >&3; \
    read -r line <&3; exec sleep infinity";

/// Asks again until every one of these is in one line of the answer.
fn until_line(host: &Host, command: &str, words: &[&str]) -> Result<String> {
    wait_until(SEEN_MAX, &format!("{words:?} in {command}"), || {
        let page = host.must(command)?;
        let line = page.lines().find(|line| words.iter().all(|word| line.contains(word)));
        ensure!(line.is_some(), "{page}");
        Ok(line.map(str::to_owned))
    })
    .with_context(|| host.agent_story())
}

#[test]
fn who_uses_what_and_who_talks_to_whom_is_told_by_unit() -> Result<()> {
    if !hosts::may_run("who_uses_what_and_who_talks_to_whom_is_told_by_unit") {
        return Ok(());
    }
    let fleet = Fleet::boot_named(&["web-1"])?;
    let host = fleet.host("web-1");
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    host.must("systemctl start nginx.service")?;
    host.must(&format!("systemd-run --quiet --unit=caller --collect -- bash -c '{CALLER}'"))?;
    host.start("busy", "while :; do :; done")?;
    let hold = "exec 9> /var/tmp/gone; head -c 32M /dev/zero >&9; rm /var/tmp/gone; exec sleep infinity";
    host.start("holder", hold)?;

    let line = until_line(host, "mainstay-agent top --limit 3", &["busy.service", "sh", "R"])?;
    ensure!(line.contains(" %"), "{line}");
    // The agent may not look into other users' processes: the actuator counted them.
    until_line(host, "mainstay-agent top --by io", &["holder.service", "32.0 MiB"])?;
    let page = host.must("mainstay-agent top --unit holder.service")?;
    ensure!(!page.contains("unknown") && !page.contains("busy.service"), "{page}");

    what_short_programs_use_is_told_of_who_starts_them(host)?;
    a_container_is_told_by_its_name(host)?;

    until_line(host, "mainstay-agent connections", &["nginx.service", "0.0.0.0:80", "0/"])?;
    until_line(host, "mainstay-agent connections", &["caller.service", "to", "127.0.0.1", "80", " ms"])?;
    until_line(host, "mainstay-agent connections --unit 'nginx*'", &["nginx.service", "from", "127.0.0.1", " ms"])?;
    host.must("systemctl stop caller.service")?;
    until_line(host, "mainstay-agent connections", &["caller.service", "to", "127.0.0.1", "ago"]).map(drop)
}

#[test]
fn a_disk_of_which_smartd_warns_is_found_without_asking_the_disk() -> Result<()> {
    if !hosts::may_run("a_disk_of_which_smartd_warns_is_found_without_asking_the_disk") {
        return Ok(());
    }
    let fleet = Fleet::boot_named(&["web-1"])?;
    let host = fleet.host("web-1");
    // As smartd leaves it: written by root, read by everybody. The host has no such disk; one behind a controller looks the same.
    let failing = include_bytes!("../../agent/core/src/parse/fixtures/smartd_failing.ata.txt");
    host.push_file("/var/lib/smartmontools/smartd.ACME_1000-S1.ata.state", failing, 0o644)?;
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    until_line(host, "mainstay-agent status", &["disk.failing", "ACME_1000_S1"])?;
    until_line(host, "mainstay-agent status", &["the disk itself says that it fails"])?;
    until_line(
        host,
        "mainstay-agent metrics",
        &["mainstay_disk_smart_raw{attribute=\"197\",device=\"ACME_1000_S1\"} 24"],
    )
    .map(drop)
}

/// The cells of a unit's line.
fn cells(page: &str, unit: &str) -> Option<Vec<String>> {
    let line = page.lines().find(|line| line.starts_with(&format!("{unit} ")))?;
    Some(line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect())
}

/// A loop that starts nothing but short programs uses little itself; what they used is told as its own, and how many the
/// host begins in a second.
fn what_short_programs_use_is_told_of_who_starts_them(host: &Host) -> Result<()> {
    host.start("forker", "while :; do /bin/true; done")?;
    let percent = |cell: &str| cell.strip_suffix(" %").and_then(|number| number.parse::<f64>().ok());
    wait_until(SEEN_MAX, "what the loop's children use", || {
        let page = host.must("mainstay-agent top --limit 10")?;
        // UNIT, PROCESSES, NEW, THREADS, TASKS, CPU, OF ENDED, …
        let cells = cells(&page, "forker.service").with_context(|| page.clone())?;
        let used = percent(&cells[6]).with_context(|| page.clone())?;
        let begun =
            page.lines().next().and_then(|line| line.split(", ").find_map(|part| part.strip_suffix(" begun a second")));
        let begun: f64 = begun.and_then(|number| number.parse().ok()).with_context(|| page.clone())?;
        ensure!((5.0..=400.0).contains(&used) && begun >= 10.0, "{page}");
        Ok(Some(()))
    })
    .with_context(|| host.agent_story())?;
    // Nothing counts twice: what ended long ago is not told again.
    host.must("systemctl stop forker.service")?;
    wait_until(SEEN_MAX, "the host to be quiet", || {
        let page = host.must("mainstay-agent top --limit 100")?;
        let of_systemd =
            cells(&page, "init.scope").and_then(|cells| percent(&cells[6])).with_context(|| page.clone())?;
        ensure!(of_systemd < 50.0 && cells(&page, "forker.service").is_none(), "{page}");
        Ok(Some(()))
    })
}

/// A scope that is named as Docker names those of its containers; no engine runs here that would know its name.
fn a_container_is_told_by_its_name(host: &Host) -> Result<()> {
    let scope = format!("docker-{}.scope", "3a".repeat(32));
    host.must(&format!(
        "systemd-run --quiet --scope --unit={scope} sh -c 'while :; do :; done' >/dev/null 2>&1 </dev/null & \
         until systemctl --quiet is-active {scope}; do sleep 0.1; done"
    ))?;
    wait_until(SEEN_MAX, "the container", || {
        let page = host.must("mainstay-agent top --unit '3a3a*'")?;
        let line = page.lines().find(|line| line.starts_with("3a3a3a3a3a3a  ")).with_context(|| page.clone())?;
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        // CONTAINER, BY, IMAGE, PROCESSES, TASKS, CPU, MEMORY, …
        ensure!(cells[1..4] == ["docker", "–", "1"] && cells[5].ends_with(" %") && cells[5] != "0.0 %", "{page}");
        ensure!(cells[6].ends_with("iB") || cells[6].contains("iB/"), "{page}");
        Ok(Some(()))
    })
    .with_context(|| host.agent_story())?;
    host.must(&format!("systemctl stop {scope}")).map(drop)
}

#[test]
fn a_full_disk_says_which_unit_holds_deleted_files() -> Result<()> {
    if !hosts::may_run("a_full_disk_says_which_unit_holds_deleted_files") {
        return Ok(());
    }
    let fleet = Fleet::boot_named(&["db-1"])?;
    let host = fleet.host("db-1");
    host.disk(128, "/srv/data")?;
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    let size = host.must("df --output=avail -B1 /srv/data | tail -1")?.trim().parse::<u64>()? * 97 / 100;
    let hold = format!("exec 9> /srv/data/gone; head -c {size} /dev/zero >&9; rm /srv/data/gone; exec sleep infinity");
    host.start("holder", &hold)?;
    until_line(host, "mainstay-agent status", &["held by deleted files that are still open", "holder.service"])?;
    let page = host.must("mainstay-agent status")?;
    ensure!(page.contains("disk.full /srv/data"), "{page}");

    // What it says is so: closing the file frees the disk.
    host.must("systemctl stop holder.service")?;
    wait_until(SEEN_MAX, "the finding to clear", || {
        let page = host.must("mainstay-agent status")?;
        ensure!(!page.contains("disk.full"), "{page}");
        Ok(Some(()))
    })
}
