//! Containers as Debian's Podman and Docker really run them, on a host with its own systemd: known by their cgroups alone,
//! and by name and image where the engine's socket is opened to the agent as docs/OPERATING.md says. Their image is made on
//! the host, of a static busybox; nothing is fetched.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mainstay_tests::hosts::{self, Base, Fleet, FleetOptions, Host, packages, wait_until};

/// What runs containers, and what is in them.
const DEBIAN: [&str; 4] = ["busybox-static", "docker.io", "podman", "runc"];

/// Longest until something is seen: the agent looks for containers every ten seconds.
const SEEN_MAX: Duration = Duration::from_secs(45);

/// Makes the image `localhost/tiny:1` with the engine.
const IMPORT: &str = "mkdir -p /tmp/tiny/bin && cp /bin/busybox /tmp/tiny/bin/ && tar -C /tmp/tiny -c . | ENGINE import - localhost/tiny:1";

/// What runs in a container.
const WORK: &str = "localhost/tiny:1 /bin/busybox sleep 1000000";

/// A host of these tests has no controllers of cgroups and no overlay on its overlay, and may not lock the memory that crun
/// wants to.
const PODMAN: &str = "[containers]\npids_limit = 0\n[engine]\nruntime = \"runc\"\n";
const STORAGE: &str = "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\n\
    graphroot = \"/var/lib/containers/storage\"\n";
const DOCKER: &str = "{\"storage-driver\": \"vfs\", \"iptables\": false, \"ip-forward\": false, \"bridge\": \"none\", \
    \"exec-opts\": [\"native.cgroupdriver=systemd\"]}\n";

fn boot() -> Result<Fleet> {
    let fleet =
        Fleet::boot_with(FleetOptions { names: vec!["box-1".to_owned()], base: Some(Base::with_packages(&DEBIAN)?) })?;
    fleet.host("box-1").install_deb(&packages::deb("mainstay-agent")?)?;
    Ok(fleet)
}

/// The series of a container's CPU time: one for each that the agent knows.
fn series(host: &Host) -> Result<Vec<String>> {
    let page = host.must("curl --silent --fail --max-time 9 http://127.0.0.1:7445/metrics")?;
    let of_cpu = page.lines().filter_map(|line| line.strip_prefix("mainstay_container_cpu_seconds_total"));
    Ok(of_cpu.map(str::to_owned).collect())
}

/// Waits until the agent knows exactly these containers, each by name, id, image and runtime.
fn until_known(host: &Host, wanted: &[[&str; 4]]) -> Result<()> {
    let labels = |[name, id, image, runtime]: &[&str; 4]| {
        format!("{{container=\"{name}\",id=\"{id}\",image=\"{image}\",runtime=\"{runtime}\"}} ")
    };
    let wanted: Vec<String> = wanted.iter().map(labels).collect();
    wait_until(SEEN_MAX, &format!("{wanted:?}"), || {
        let series = series(host)?;
        let is_all = wanted.iter().all(|wanted| series.iter().any(|series| series.starts_with(wanted)));
        ensure!(is_all && series.len() == wanted.len(), "{series:#?}");
        Ok(Some(()))
    })
    .with_context(|| host.agent_story())
}

/// Starts a container and gives its id as people use it.
fn start(host: &Host, engine: &str, name: &str) -> Result<String> {
    let id = host.must(&format!("{engine} run --detach --network none --name {name} {WORK}"))?;
    ensure!(id.len() == 64, "{engine} gave no id: {id}");
    Ok(id[..12].to_owned())
}

#[test]
fn containers_of_podman_are_known_by_name_and_image_and_without_its_socket_by_their_cgroups() -> Result<()> {
    if !hosts::may_run("containers_of_podman_are_known_by_name_and_image_and_without_its_socket_by_their_cgroups") {
        return Ok(());
    }
    let fleet = boot()?;
    let host = fleet.host("box-1");
    host.push_file("/etc/containers/containers.conf", PODMAN, 0o644)?;
    host.push_file("/etc/containers/storage.conf", STORAGE, 0o644)?;
    host.must(&IMPORT.replace("ENGINE", "podman"))?;
    let cache = start(host, "podman", "cache")?;
    until_known(host, &[[&cache, &cache, "", "podman"]])?;

    // As docs/OPERATING.md has it.
    let open = "[Socket]\nSocketGroup=mainstay\nExecStartPost=/bin/chmod 0711 /run/podman\n";
    host.push_file("/etc/systemd/system/podman.socket.d/mainstay.conf", open, 0o644)?;
    host.must("systemctl daemon-reload && systemctl start podman.socket && systemctl restart mainstay-agent")?;
    until_known(host, &[["cache", &cache, "localhost/tiny:1", "podman"]])?;
    let top = host.must("mainstay-agent top")?;
    ensure!(top.contains("cache (podman)"), "{top}");

    // The engine is gone: what was asked before is remembered, what is new has its id. Without systemd, too.
    host.must("systemctl stop podman.socket podman.service")?;
    let queue = start(host, "podman --cgroup-manager cgroupfs", "queue")?;
    let by_name = ["cache", &cache, "localhost/tiny:1", "podman"];
    until_known(host, &[by_name, [&queue, &queue, "", "podman"]])?;

    host.must("podman rm --force --time 0 queue cache")?;
    until_known(host, &[])
}

#[test]
fn containers_of_docker_are_known_by_name_and_image_and_without_its_socket_by_their_cgroups() -> Result<()> {
    if !hosts::may_run("containers_of_docker_are_known_by_name_and_image_and_without_its_socket_by_their_cgroups") {
        return Ok(());
    }
    let fleet = boot()?;
    let host = fleet.host("box-1");
    host.push_file("/etc/docker/daemon.json", DOCKER, 0o644)?;
    // Not as a service: systemd-nspawn forbids those of a host the keyrings and device filters that runc makes. What a test
    // runs in a host is not held by that; the containers are, as always, put into scopes of the host's systemd.
    host.must("setsid dockerd > /var/log/dockerd.log 2>&1 < /dev/null &")?;
    wait_until(SEEN_MAX, "dockerd", || host.must("docker info").map(Some)).with_context(|| {
        host.run("tail -n 30 /var/log/dockerd.log").map_or_else(|_| String::new(), |log| log.stdout)
    })?;
    host.must(&IMPORT.replace("ENGINE", "docker"))?;
    let shop = start(host, "docker", "shop")?;
    until_known(host, &[[&shop, &shop, "", "docker"]])?;

    // As docs/OPERATING.md has it.
    host.must("usermod --append --groups docker mainstay && systemctl restart mainstay-agent")?;
    until_known(host, &[["shop", &shop, "localhost/tiny:1", "docker"]])?;
    let top = host.must("mainstay-agent top")?;
    ensure!(top.contains("shop (docker)"), "{top}");

    host.must("docker rm --force shop")?;
    until_known(host, &[])
}
