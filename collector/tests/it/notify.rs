//! People outside are told: incidents by a webhook, the collector's life by a heartbeat.

use std::time::Duration;

use mainstay_collector::config::Heartbeat;
use mainstay_collector::store::keys::NoticeKey;
use mainstay_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::agent::{Agent, finding, hello, item};
use crate::world::{SOON, World, until};

/// Takes POSTs, refuses the first `refusals` of them, and hands their bodies on.
async fn listener(refusals: u32) -> (String, mpsc::Receiver<String>) {
    listener_but_for("nothing of that", refusals).await
}

/// The same, where the bodies that hold this do not go down well, however often they come.
async fn listener_but_for(bad: &'static str, mut refusals: u32) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
    let (bodies, taken) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = Vec::new();
            let mut chunk = [0; 4096];
            // The body is one JSON object: it is here when the last brace is.
            while !text.ends_with(b"}") {
                let length = stream.read(&mut chunk).await.unwrap();
                assert!(length > 0, "the request is whole");
                text.extend(&chunk[..length]);
            }
            let body = String::from_utf8(text).unwrap();
            let is_bad = body.contains(bad);
            let answer = if refusals > 0 || is_bad { "503 Service Unavailable" } else { "200 OK" };
            stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
            match (refusals, is_bad) {
                (0, false) => drop(bodies.send(body).await),
                (0, true) => {}
                _ => refusals -= 1,
            }
        }
    });
    (url, taken)
}

async fn next(taken: &mut mpsc::Receiver<String>) -> String {
    tokio::time::timeout(SOON, taken.recv()).await.expect("something is posted").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_told_to_the_webhook_even_if_it_was_down_at_first() {
    let (url, mut taken) = listener(1).await;
    let world = World::start_with(|settings| settings.webhook = Some(url)).await;
    for name in ["web-1", "web-2"] {
        let (mut agent, _) = Agent::open(&world.address(), &world.enrol(name).await, hello(name)).await;
        let now = mainstay_collector::clock::wall_ms();
        agent.acked(vec![item(1, v1::item::Of::Finding(finding(5, "app.service", "open", now)))]).await;
    }
    let body = next(&mut taken).await;
    for part in
        ["POST /secret-path HTTP/1.1", "\"event\":\"opened\"", "service.failed app.service on web-1", "(2 findings)"]
    {
        assert!(body.contains(part), "{part}: {body}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_the_webhook_chokes_on_holds_up_no_other() {
    let (url, mut taken) = listener_but_for("app.service", 0).await;
    let world = World::start_with(|settings| settings.webhook = Some(url)).await;
    let papers = [("web-1", world.enrol("web-1").await), ("web-2", world.enrol("web-2").await)];
    let now = mainstay_collector::clock::wall_ms();
    // So far apart that they are two incidents.
    for (seq, unit, opened_ms) in [(1, "app.service", now - 600_000), (2, "db.service", now)] {
        for (name, papers) in &papers {
            let (mut agent, _) = Agent::open(&world.address(), papers, hello(name)).await;
            let told = finding(seq, unit, "open", opened_ms);
            agent.acked(vec![item(seq, v1::item::Of::Finding(told))]).await;
        }
        if seq == 1 {
            until("a notice that waits", async || (waiting(&world) == 1).then_some(())).await;
        }
    }
    let body = next(&mut taken).await;
    assert!(body.contains("service.failed db.service on web-"), "{body}");
    until("only the other waits", async || (waiting(&world) == 1).then_some(())).await;
    world.stop().await;
}

fn waiting(world: &World) -> usize {
    let store = &world.collector.as_ref().unwrap().hub.store;
    store.scan::<NoticeKey>(&NoticeKey::all(), &NoticeKey::all()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_told_before_the_collector_ended_is_told_after_its_next_start() {
    let (down, _) = listener(u32::MAX).await;
    let mut world = World::start_with(|settings| settings.webhook = Some(down)).await;
    let hosts = [("web-1", world.enrol("web-1").await), ("web-2", world.enrol("web-2").await)];
    let now = mainstay_collector::clock::wall_ms();
    for (name, papers) in &hosts {
        let (mut agent, _) = Agent::open(&world.address(), papers, hello(name)).await;
        agent.acked(vec![item(1, v1::item::Of::Finding(finding(5, "app.service", "open", now)))]).await;
    }
    until("a notice that waits", async || (waiting(&world) == 1).then_some(())).await;
    let (url, mut taken) = listener(0).await;
    world.restart_with(|settings| settings.webhook = Some(url.clone())).await;
    let body = next(&mut taken).await;
    assert!(body.contains("\"event\":\"opened\"") && body.contains("service.failed app.service on web-"), "{body}");
    until("nothing that waits", async || (waiting(&world) == 0).then_some(())).await;
    // It is not told again: what comes next is what happens next.
    world.restart_with(|settings| settings.webhook = Some(url)).await;
    for (name, papers) in &hosts {
        let (mut agent, _) = Agent::open(&world.address(), papers, hello(name)).await;
        agent.acked(vec![item(2, v1::item::Of::Finding(finding(5, "app.service", "cleared", now + 1_000)))]).await;
    }
    let body = next(&mut taken).await;
    assert!(body.contains("\"event\":\"cleared\""), "{body}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heartbeat_goes_on_while_the_collector_lives() {
    let (url, mut taken) = listener(0).await;
    let every = Duration::from_millis(50);
    let world = World::start_with(|settings| settings.heartbeat = Some(Heartbeat { url, every })).await;
    for _ in 0..3 {
        assert!(next(&mut taken).await.contains("\"alive\":true"));
    }
    world.stop().await;
    while taken.try_recv().is_ok() {}
    // Longer than any beat would take.
    let beat = tokio::time::timeout(4 * every, taken.recv()).await;
    assert!(beat.is_err(), "a stopped collector is silent: {beat:?}");
}
