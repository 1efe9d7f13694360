//! Beside Debian's node_exporter on one host: an operator who replaces it by Mainstay misses nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::{self, Base, Fleet, FleetOptions, packages};
use mainstay_tests::parity::{Page, Parity, plant};

/// Families that must be there, in per cent of those that the peer has and we do not leave out.
const COVERED_PERCENT_MIN: usize = 95;

/// Rounds until every value must have been right once. Most are after one or two.
const ROUNDS_MAX: usize = 40;

const PEER: &str = "prometheus-node-exporter";

/// Kernel files of hardware that few machines have.
const HARDWARE: &str = include_str!("../fixtures/hardware.txt");

fn host() -> Result<Fleet> {
    let fleet =
        Fleet::boot_with(FleetOptions { names: vec!["host-1".to_owned()], base: Some(Base::with_packages(&[PEER])?) })?;
    let host = fleet.host("host-1");
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    host.must(&format!("systemctl start {PEER}"))?;
    host.wait_unit("mainstay-agent.service", "active", Duration::from_secs(30))?;
    Ok(fleet)
}

fn judge(parity: &Parity) -> Result<()> {
    let (same, counted) = parity.covered();
    eprintln!("{parity}");
    ensure!(counted > 150, "the peer shows too little to compare with: {counted} families");
    ensure!(same * 100 >= counted * COVERED_PERCENT_MIN, "too few families:\n{parity}");
    ensure!(!parity.to_string().contains("contradiction"), "a value contradicts the peer's:\n{parity}");
    Ok(())
}

#[test]
fn the_agent_shows_what_node_exporter_shows_with_the_same_values() -> Result<()> {
    if !hosts::may_run("the_agent_shows_what_node_exporter_shows_with_the_same_values") {
        return Ok(());
    }
    let fleet = host()?;
    let host = fleet.host("host-1");
    let mut parity = Parity::default();
    let mut rounds = 0;
    while rounds < ROUNDS_MAX && (rounds == 0 || !parity.is_settled()) {
        rounds += 1;
        let ours = "curl --silent --fail --max-time 9 http://127.0.0.1:7445/metrics";
        let peer = "curl --silent --fail --max-time 9 http://127.0.0.1:9100/metrics";
        let pages = host.must(&format!("{ours}; echo; {peer}; echo; {ours}"))?;
        let pages: Vec<Page> = pages.split("\n\n").map(Page::parse).collect::<Result<_>>()?;
        let [before, peer, after] = &pages[..] else { anyhow::bail!("{} pages instead of three", pages.len()) };
        parity.round(before, peer, after);
    }
    judge(&parity)?;
    // Prometheus asks for OpenMetrics.
    let open = host.must(
        "curl --silent --fail --dump-header - -H 'Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5' http://127.0.0.1:7445/metrics",
    )?;
    ensure!(open.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"), "{open:.300}");
    ensure!(open.trim_end().ends_with("\n# EOF"), "the page has no end");
    Ok(())
}

#[test]
fn hardware_that_few_machines_have_is_shown_as_node_exporter_shows_it() -> Result<()> {
    if !hosts::may_run("hardware_that_few_machines_have_is_shown_as_node_exporter_shows_it") {
        return Ok(());
    }
    let fleet = host()?;
    let host = fleet.host("host-1");
    let folder = tempfile::tempdir()?;
    plant(HARDWARE, folder.path())?;
    let archive = folder.path().join("../").canonicalize()?.join(format!("hardware-{}.tar", std::process::id()));
    hosts::command::must("tar", &["-C", &folder.path().to_string_lossy(), "-cf", &archive.to_string_lossy(), "."])?;
    host.copy_in(&archive, "/tmp/hardware.tar", 0o600)?;
    std::fs::remove_file(&archive)?;
    host.must("mkdir /srv/tree && tar -C /srv/tree -xf /tmp/hardware.tar")?;
    let collectors = TREE_COLLECTORS.map(|name| format!("--collector.{name}")).join(" ");
    host.start(
        "peer-tree",
        &format!(
            "{PEER} --web.listen-address=127.0.0.1:9101 --web.disable-exporter-metrics --path.procfs=/srv/tree/proc \
             --path.sysfs=/srv/tree/sys --path.rootfs=/srv/tree --path.udev.data=/srv/tree/run/udev/data \
             --collector.textfile.directory=/srv/tree/var/lib/prometheus/node-exporter --collector.disable-defaults {collectors}"
        ),
    )?;
    let peer =
        host.must("curl --silent --fail --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:9101/metrics")?;
    let ours = host.must("mainstay-agent metrics --root /srv/tree").context("our own reading of the tree")?;
    let mut parity = Parity::of_still_files();
    // The peer names where it was told to look, ours where that would be on the host itself.
    let (ours, peer) = (Page::parse(&ours)?, Page::parse(&peer.replace("/srv/tree/", "/"))?);
    parity.round(&ours, &peer, &ours);
    judge(&parity)
}

/// Collectors that read nothing but files below the folders that the peer can be told.
const TREE_COLLECTORS: [&str; 27] = [
    "arp",
    "bonding",
    "btrfs",
    "conntrack",
    "cpu",
    "cpufreq",
    "diskstats",
    "dmi",
    "edac",
    "fibrechannel",
    "hwmon",
    "infiniband",
    "ipvs",
    "mdadm",
    "nfs",
    "nfsd",
    "nvme",
    "powersupplyclass",
    "rapl",
    "schedstat",
    "softnet",
    "stat",
    "tapestats",
    "textfile",
    "thermal_zone",
    "xfs",
    "zfs",
];
