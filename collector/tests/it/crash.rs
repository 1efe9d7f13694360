//! The real program, killed: what was acknowledged is there, and nothing is there twice.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay_proto::v1;

use crate::agent::{Agent, Book, hello, item, repair};
use crate::world::{Papers, SOON, enrol_at, local, request};

const WALL: i64 = 1_780_000_000_000;

/// The program as systemd runs it.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    async fn start(folder: &Path) -> Self {
        let config = folder.join("collector.toml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\ncache = \"32MiB\"\ndata = \"{0}/data\"\nadmin_socket = \"{0}/admin.sock\"\n",
            folder.display()
        );
        std::fs::write(&config, text).unwrap();
        let ready = folder.join("notify.sock");
        let _ = std::fs::remove_file(&ready);
        let notified = UnixDatagram::bind(&ready).unwrap();
        notified.set_read_timeout(Some(SOON)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mainstay-collector"))
            .args(["run", "--config"])
            .arg(&config)
            .arg("--drop-ins")
            .arg(folder.join("none"))
            .env("NOTIFY_SOCKET", &ready)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut buffer = [0; 256];
        let length = notified.recv(&mut buffer).expect("the program says that it is ready");
        assert!(buffer[..length].starts_with(b"READY=1"));
        let token = v1::CreateTokenRequest { uses: 1, ttl_ms: 1_000, labels: Vec::new() };
        let address = local(&folder.join("admin.sock")).await.create_token(token).await.unwrap().into_inner().address;
        Self { child, address }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    fn stop(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = std::time::Instant::now() + SOON;
        while std::time::Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().unwrap();
        false
    }
}

async fn enrol(folder: &Path, address: &str) -> Papers {
    let token = v1::CreateTokenRequest { uses: 1, ttl_ms: 60_000, labels: Vec::new() };
    let token = local(&folder.join("admin.sock")).await.create_token(token).await.unwrap().into_inner();
    let ca = std::fs::read_to_string(folder.join("data/ca/ca.pem")).unwrap();
    enrol_at(address, &ca, &token.secret, "web-1").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_keeps_what_it_acknowledged_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path()).await;
    let papers = enrol(folder.path(), &program.address).await;
    let mut book = Book::new(papers.host_id);
    let mut spool: Vec<v1::Item> = Vec::new();
    let mut acknowledged = 0;
    for round in 0..5u64 {
        let (mut agent, welcome) = Agent::open(&program.address, &papers, hello("web-1")).await;
        assert!(welcome.durable_seq >= acknowledged, "round {round}: {} of {acknowledged}", welcome.durable_seq);
        let seq = spool.len() as u64 + 1;
        let records = repair(&mut book, round + 1, round + 1, WALL + round.cast_signed() * 10_000);
        spool.extend((seq..).zip(records).map(|(seq, of)| item(seq, of)));
        acknowledged = agent.acked(spool.clone()).await.durable_seq;
        assert_eq!(acknowledged, spool.len() as u64);
        // One more push is on its way when the program dies.
        let more = book_of_one(&mut book, spool.len() as u64 + 1);
        spool.push(more.clone());
        let message = v1::Push { epoch: crate::agent::EPOCH, items: vec![more], ..Default::default() };
        agent.say(v1::agent_message::Of::Push(message)).await;
        program.kill();
        program = Program::start(folder.path()).await;
    }
    let (mut agent, _) = Agent::open(&program.address, &papers, hello("web-1")).await;
    assert_eq!(agent.acked(spool.clone()).await.durable_seq, spool.len() as u64);
    let chunk = ledger(folder.path(), &program.address).await;
    let indices: Vec<u64> = chunk.entries.iter().map(|e| e.index).collect();
    assert_eq!(indices, (1..=spool.len() as u64).collect::<Vec<_>>());
    assert_eq!(chunk.doubts, Vec::<String>::new());
    assert_eq!(chunk.head.unwrap().hash, book.head.hash);
    assert!(program.stop(), "SIGTERM ends it in order");
}

fn book_of_one(book: &mut Book, seq: u64) -> v1::Item {
    let started = v1::record::Started { boot: vec![1; 16], version: "0".to_owned() };
    item(seq, book.add(WALL, v1::record::Body::Started(started)))
}

async fn ledger(folder: &Path, address: &str) -> v1::LedgerChunk {
    let (key, csr) = request();
    let make = v1::CreateOperatorRequest { name: "ops".to_owned(), role: "viewer".to_owned(), csr };
    let made = local(&folder.join("admin.sock")).await.create_operator(make).await.unwrap().into_inner();
    let papers =
        Papers { certificate: made.certificate, key: key.serialize_pem(), ca: made.ca.clone(), host_id: [0; 16] };
    let channel = crate::world::channel(address, &made.ca, Some(&papers)).await.unwrap();
    let mut queries = mainstay_proto::v1::query_service_client::QueryServiceClient::new(channel);
    let request = v1::ReadLedgerRequest { host: "web-1".to_owned(), from_index: 1 };
    queries.read_ledger(request).await.unwrap().into_inner().message().await.unwrap().unwrap()
}

#[test]
fn check_config_names_every_mistake_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.toml");
    std::fs::write(&file, "lisen = 1\nsilent_after = \"1s\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay-collector"))
        .args(["check-config", "--config"])
        .arg(&file)
        .args(["--drop-ins", "/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in ["collector.toml:1:1: unknown key `lisen`; did you mean `listen`?", "collector.toml:2:16:", "2 errors"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}
