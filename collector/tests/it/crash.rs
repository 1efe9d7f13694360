//! The real program, killed: what was acknowledged is there, and nothing is there twice.

use std::process::Command;

use mainstay_proto::v1;

use crate::agent::{Agent, Book, hello, item, repair};
use crate::program::{Program, Site};

const WALL: i64 = 1_780_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_keeps_what_it_acknowledged_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::below(folder.path());
    let mut program = Program::start(&site).await;
    let papers = program.enrol().await;
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
        program = Program::start(&site).await;
    }
    let (mut agent, _) = Agent::open(&program.address, &papers, hello("web-1")).await;
    assert_eq!(agent.acked(spool.clone()).await.durable_seq, spool.len() as u64);
    program.expect_ledger(&book).await;
    assert!(program.stop(), "SIGTERM ends it in order");
}

fn book_of_one(book: &mut Book, seq: u64) -> v1::Item {
    let started = v1::record::Started { boot: vec![1; 16], version: "0".to_owned() };
    item(seq, book.add(WALL, v1::record::Body::Started(started)))
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
