//! The harness itself: hosts are real, separate, and gone afterwards.

use std::time::Duration;

use mainstay_tests::hosts::{self, Fleet, listen::Listener, wait::wait_for};

#[test]
fn hosts_boot_reach_each_other_and_can_be_parted() -> anyhow::Result<()> {
    if !hosts::may_run("hosts_boot_reach_each_other_and_can_be_parted") {
        return Ok(());
    }
    let fleet = Fleet::boot(2)?;
    let (one, two) = (fleet.host("host-1"), fleet.host("host-2"));
    assert_eq!(one.must("hostname")?, "host-1");
    assert_ne!(one.must("cat /etc/machine-id")?, two.must("cat /etc/machine-id")?);

    two.must("systemctl start nginx")?;
    let fetch = "curl --silent --fail --max-time 2 --output /dev/null http://host-2/";
    one.must(fetch)?;
    two.partition()?;
    one.run(fetch)?.refused()?;
    two.heal()?;
    wait_for(Duration::from_secs(20), "host-2 to be reached again", || Ok(one.run(fetch)?.is_success()))
}

#[test]
fn a_disk_fills_and_is_the_hosts_own() -> anyhow::Result<()> {
    if !hosts::may_run("a_disk_fills_and_is_the_hosts_own") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    let host = fleet.host("host-1");
    // Its root is not this machine's disk: how full that is says nothing about a host.
    let root: u64 = host.must("df --output=used -BM / | tail -1 | tr -dc 0-9")?.parse()?;
    assert!(root < 100, "a new host has {root} MiB on its disk");
    host.disk(64, "/srv/data")?;
    host.must("mountpoint /srv/data")?;
    host.run("head -c 200M /dev/zero > /srv/data/fill")?.refused()?;
    let used = host.must("df --output=pcent /srv/data | tail -1")?;
    assert_eq!(used.trim(), "100%");
    Ok(())
}

#[test]
fn a_power_cut_keeps_the_disk_and_its_identity() -> anyhow::Result<()> {
    if !hosts::may_run("a_power_cut_keeps_the_disk_and_its_identity") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    let host = fleet.host("host-1");
    let machine_id = host.must("cat /etc/machine-id")?;
    host.push_file("/var/lib/kept", "yes", 0o600)?;
    host.kill_power()?;
    assert!(host.run("true").is_err(), "a host without power answers nobody");
    host.boot()?;
    assert_eq!(host.must("cat /var/lib/kept")?, "yes");
    assert_eq!(host.must("cat /etc/machine-id")?, machine_id);
    host.power_off()
}

#[test]
fn a_message_to_the_operators_listener_is_kept() -> anyhow::Result<()> {
    if !hosts::may_run("a_message_to_the_operators_listener_is_kept") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    let operator = fleet.operator();
    let listener = Listener::webhook(&operator.netns(), &format!("{}:0", operator.address()))?;
    let host = fleet.host("host-1");
    host.must(&format!("curl --silent --fail --max-time 5 --data 'help' http://{}/page", listener.address()))?;
    wait_for(Duration::from_secs(5), "the message to be kept", || Ok(listener.received().len() == 1))?;
    let received = listener.received();
    assert!(received[0].starts_with("POST /page HTTP/1.1"), "{received:?}");
    assert!(received[0].ends_with("\r\n\r\nhelp"), "{received:?}");
    Ok(())
}

#[test]
fn nothing_is_left_after_a_fleet_is_dropped() -> anyhow::Result<()> {
    if !hosts::may_run("nothing_is_left_after_a_fleet_is_dropped") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    fleet.hosts()[0].disk(16, "/srv/data")?;
    let (dir, space) = (fleet.dir().to_owned(), fleet.hosts()[0].netns());
    let run = dir.file_name().expect("a run has a name").to_string_lossy().into_owned();
    let cgroup = hosts::sweep::cgroup_of(&run)?;
    assert!(cgroup.exists());
    drop(fleet);
    assert!(!cgroup.exists(), "processes or cgroups stay");
    assert!(!dir.exists(), "files stay");
    assert!(!hosts::netns::space_path(&space).exists(), "namespaces stay");
    assert!(!std::fs::read_to_string("/proc/self/mounts")?.contains(&run), "mounts stay");
    wait_for(Duration::from_secs(5), "loop devices to be free", || {
        Ok(!hosts::command::must("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"])?.contains(&run))
    })
}

#[test]
fn what_a_killed_run_left_is_swept_by_the_next() -> anyhow::Result<()> {
    if !hosts::may_run("what_a_killed_run_left_is_swept_by_the_next") {
        return Ok(());
    }
    let fleet = Fleet::boot(1)?;
    let (dir, leader) = (fleet.dir().to_owned(), fleet.hosts()[0].leader()?);
    hosts::sweep::sweep()?;
    assert!(dir.exists(), "a living run was swept");
    fleet.abandon()?;
    hosts::sweep::sweep()?;
    assert!(!dir.exists(), "files of the dead run stay");
    // What is left of PID 1 is at most a zombie, which maps no memory.
    let status = std::fs::read_to_string(format!("/proc/{leader}/status")).unwrap_or_default();
    assert!(!status.contains("VmRSS"), "its processes stay: {status}");
    Ok(())
}
