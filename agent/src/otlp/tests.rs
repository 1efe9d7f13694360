//! When an export is due, whose it is, and what is refused for good.

use std::collections::BTreeMap;
use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn settings(url: &str, every: Duration) -> OtlpSettings {
    OtlpSettings { url: url.to_owned(), every, headers_file: None, ca_file: None }
}

fn facts() -> HostFacts {
    let labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
    HostFacts { hostname: "web-1".into(), agent_version: "1.2.3".into(), labels, ..HostFacts::default() }
}

#[tokio::test(flavor = "current_thread")]
async fn an_export_is_made_when_it_is_due_and_what_was_missed_is_not_made_up_for() {
    let settings = settings("http://127.0.0.1:9/v1/metrics", Duration::from_secs(10));
    let mut otlp = Otlp::start(&settings, Path::new("/nonexistent"), &facts(), None, 3_000_000_000);
    let first = Now { boot_ns: otlp.next_ns, ..clock::now() };
    let from_start = Duration::from_nanos(first.boot_ns.saturating_sub(clock::now().boot_ns));
    assert!(from_start <= Duration::from_secs(3), "{from_start:?}");
    // The task that sends has no turn before something is awaited.
    let mut waiting_after = |second: u64| {
        otlp.sampled(&Sample { at: first.plus(Duration::from_secs(second)), ..Sample::default() });
        otlp.shared.waiting().len()
    };
    assert_eq!([0, 1, 9, 10, 45, 49, 50].map(&mut waiting_after), [1, 1, 1, 2, 3, 3, 4]);
    let early = Sample { at: Now::default(), ..Sample::default() };
    otlp.sampled(&early);
    assert_eq!(otlp.shared.waiting().len(), 4);
}

#[test]
fn the_resource_says_which_host_and_what_sends() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    let machine = "0f0e0d0c0b0a09080706050403020100";
    fs::write(root.path().join("etc/machine-id"), machine).unwrap();
    let of = |host| resource(root.path(), &facts(), host).into_iter().collect::<BTreeMap<_, _>>();
    let alone = of(None);
    assert_eq!((alone["host.id"].as_str(), alone["service.instance.id"].as_str()), (machine, machine));
    assert_eq!((alone["host.name"].as_str(), alone["mainstay.label.role"].as_str()), ("web-1", "web"));
    assert_eq!((alone["service.version"].as_str(), alone["os.type"].as_str()), ("1.2.3", "linux"));
    // What is not known is left out.
    assert!(!alone.contains_key("mainstay.host.id") && !alone.contains_key("os.description"));
    let host = HostId([7; 16]);
    assert_eq!(of(Some(host))["service.instance.id"], host.to_string());
}

/// Reads a request to its end, so that closing loses nothing of the answer; gives its head in small letters.
async fn head_of_whole_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0, "it broke off");
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if request.len() == end + 4 + length.parse::<usize>().unwrap() {
            return head;
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_refused_for_good_is_sent_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let mut otlp = Otlp::start(&settings(&url, Duration::from_nanos(1)), Path::new("/"), &facts(), None, 0);
    for (answer, want) in [("400 Bad", (1, 0)), ("401 Who", (2, 0)), ("200 OK", (2, 1))] {
        otlp.sampled(&Sample { at: clock::now(), ..Sample::default() });
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head_of_whole_request(&mut stream).await;
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
        drop(stream);
        let counts = &otlp.shared.counts;
        let ended = || (counts.refused.load(Ordering::Relaxed), counts.taken.load(Ordering::Relaxed));
        while ended() != want {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(otlp.shared.counts.attempts_failed.load(Ordering::Relaxed), 2);
}
