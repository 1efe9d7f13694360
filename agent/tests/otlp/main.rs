//! The whole way of metrics over OTLP: an agent over a root of files sends what it samples to a receiver that reads it by
//! the protocol's own definitions, with TLS, a header from a secret file, and a receiver that is not ready at first.

mod receiver;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_agent::config::{OtlpSettings, SecretFile, Settings};
use mainstay_agent::run::{Paths, run};
use prost_reflect::Value;

use receiver::{Answer, Receiver, points};

/// Longest wait for what must come.
const WAIT_MAX: Duration = Duration::from_secs(60);

const MACHINE: &str = "0f0e0d0c0b0a09080706050403020100";

/// A host of files, and nothing else.
fn made_host(root: &Path) {
    for (path, text) in [
        (
            "proc/stat",
            "cpu  150 0 0 1000 0 0 0 0 0 0\ncpu0 150 0 0 1000 0 7 0 0 0 0\nctxt 5\nbtime 1000\nprocesses 11\nintr 3\nprocs_running 1\nprocs_blocked 0\n",
        ),
        ("proc/loadavg", "0.50 0.25 0.12 1/10 99\n"),
        (
            "proc/net/dev",
            "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n  eth0: 77 4 0 0 0 0 0 0 88 5 0 1 0 0 0 0\n",
        ),
        ("proc/diskstats", " 254 0 vda 4 0 8 1 2 0 1 3 0 2500 4 0 0 0 0\n"),
        ("proc/sys/kernel/hostname", "web-1\n"),
        ("sys/block/vda/size", ""),
        ("etc/machine-id", MACHINE),
        ("etc/os-release", "PRETTY_NAME=\"Test 1\"\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Runs an agent in a thread of this process until that ends; gives where it serves `/metrics`.
fn start_agent(folder: &Path, otlp: OtlpSettings) -> SocketAddr {
    let paths = Paths { root: folder.join("root"), etc: folder.join("etc"), run: folder.join("run") };
    for made in [&paths.root, &paths.etc, &paths.run] {
        fs::create_dir_all(made).unwrap();
    }
    made_host(&paths.root);
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut settings = Settings { metrics: Some(metrics), otlp: Some(otlp), ..Settings::default() };
    settings.labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
    settings.state.dir = folder.join("state");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(run(paths, settings));
        panic!("the agent ended: {ended:?}");
    });
    metrics
}

/// The agent's own page, once it holds these lines.
fn page_with(metrics: SocketAddr, wanted: &[&str]) -> String {
    let begun = Instant::now();
    let mut page = String::new();
    while begun.elapsed() < WAIT_MAX {
        page.clear();
        if let Ok(mut stream) = TcpStream::connect(metrics) {
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nConnection: close\r\n\r\n")
                .unwrap();
            let _ = stream.read_to_string(&mut page);
        }
        if wanted.iter().all(|line| page.lines().any(|has| has == *line)) {
            return page;
        }
    }
    panic!("{wanted:?} never stand in\n{page}");
}

#[test]
fn what_is_sampled_arrives_as_the_protocol_has_it_after_a_receiver_was_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let answers = vec![
        Answer { status: 503, retry_after: Some("2"), rejected: None },
        Answer { status: 200, retry_after: None, rejected: Some((3, "too many")) },
    ];
    let receiver = Receiver::start(folder.path(), answers);
    let headers = folder.path().join("headers");
    fs::write(&headers, "Authorization: Bearer sesame\n").unwrap();
    let metrics = start_agent(
        folder.path(),
        OtlpSettings {
            url: format!("https://127.0.0.1:{}/v1/metrics", receiver.port),
            every: Duration::from_secs(1),
            headers_file: Some(SecretFile(headers.to_str().unwrap().to_owned())),
            ca_file: Some(receiver.ca_file.clone()),
        },
    );
    let [first, again, next] = [(); 3].map(|()| receiver.requests.recv_timeout(WAIT_MAX).unwrap());
    for request in [&first, &again, &next] {
        assert_eq!(request.head, "POST /v1/metrics application/x-protobuf Bearer sesame");
    }
    assert_eq!(first.body, again.body, "the same export was sent again");
    assert!(again.at - first.at >= Duration::from_secs(2), "as late as was asked for: {:?}", again.at - first.at);
    assert_ne!(again.body, next.body);

    let (resource, points) = points(&first.body);
    for (key, want) in [
        ("host.name", "web-1"),
        ("host.id", MACHINE),
        ("os.type", "linux"),
        ("os.description", "Test 1"),
        ("service.name", "mainstay-agent"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("mainstay.label.role", "web"),
    ] {
        assert_eq!(resource[key], want, "{key}");
    }
    for (series, want) in [
        ("system.cpu.time{cpu.logical_number=0,cpu.mode=user}", Value::F64(1.5)),
        ("system.cpu.time{cpu.logical_number=0,cpu.mode=interrupt}", Value::F64(0.07)),
        ("system.network.io{network.interface.name=eth0,network.io.direction=receive}", Value::I64(77)),
        ("system.network.packet.dropped{network.interface.name=eth0,network.io.direction=transmit}", Value::I64(1)),
        ("system.disk.io{disk.io.direction=read,system.device=vda}", Value::I64(8 * 512)),
        ("system.process.created{}", Value::I64(11)),
        ("node_load1{}", Value::F64(0.5)),
    ] {
        let found = points.get(series).unwrap_or_else(|| panic!("{series} is not in {points:#?}"));
        assert_eq!(found.value, want, "{series}");
        let is_gauge = series.starts_with("node_load1");
        assert_eq!(found.is_monotonic_sum, !is_gauge, "{series}");
        assert!(is_gauge || (found.start_ns > 0 && found.start_ns < found.at_ns), "{found:?}");
    }
    let later = receiver::points(&next.body).1;
    let (before, after) = (&points["system.uptime{}"], &later["system.uptime{}"]);
    assert!(after.at_ns > before.at_ns);
    assert_eq!(after.start_ns, before.start_ns, "sums go on");

    let page = page_with(
        metrics,
        &["mainstay_agent_otlp_attempts_failed_total 1", "mainstay_agent_otlp_points_rejected_total 3"],
    );
    assert!(page.contains("mainstay_agent_otlp_exports_total{ended=\"refused\"} 0\n"), "{page}");
    assert!(page.contains("\nmainstay_agent_ticks_late_total 0\n"), "the tick did not wait:\n{page}");
}
