//! Room on the disk: what is reserved is kept, and said.

use mainstay_collector::config::Settings;

use crate::agent::{Agent, Book, definitions, finding, hello, item, repair, summary};
use crate::world::World;

/// Asks the HTTP port.
pub(crate) async fn get(world: &World, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(world.collector.as_ref().unwrap().http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: collector\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_what_is_reserved_agents_keep_what_they_have_until_there_is_room() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let collector = world.collector.as_ref().unwrap();
    assert!(get(&world, "/-/ready").await.starts_with("HTTP/1.1 200"));

    collector.reload(Settings { min_free: u64::MAX, ..Settings::for_tests(world.folder.path()) }).unwrap();
    let ready = get(&world, "/-/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("min_free"), "{ready}");
    assert!(get(&world, "/metrics").await.contains("mainstay_collector_store_full 1"));
    let mut book = Book::new(papers.host_id);
    // Some of everything: records, a finding, a summary.
    let now_ms = mainstay_collector::clock::wall_ms();
    let mut all = repair(&mut book, 1, 1, 0);
    all.push(mainstay_proto::v1::item::Of::Finding(finding(9, "nginx.service", "open", now_ms)));
    all.push(mainstay_proto::v1::item::Of::Summary(summary(7, now_ms)));
    let items: Vec<_> = (1..).zip(all).map(|(seq, of)| item(seq, of)).collect();
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    agent
        .say(mainstay_proto::v1::agent_message::Of::Push(mainstay_proto::v1::Push {
            epoch: crate::agent::EPOCH,
            define: definitions(),
            items: items.clone(),
            ..Default::default()
        }))
        .await;
    assert_eq!(agent.rejected().await.reason, "storage_full");
    let waiting = mainstay_proto::v1::Hello { capabilities: vec!["waits".to_owned()], ..hello("web-1") };
    let (mut waiting, _) = Agent::open(&world.address(), &papers, waiting).await;
    let left = waiting.acked_defined(definitions(), items.clone()).await;
    assert_eq!((left.durable_seq, left.credit_bytes), (0, 0), "one that waits keeps its session");
    // Operators can still do what makes room or says so.
    assert!(!world.token(1, 60_000).await.secret.is_empty());

    collector.reload(Settings::for_tests(world.folder.path())).unwrap();
    let left = waiting.acked_defined(definitions(), items.clone()).await;
    assert_eq!((left.durable_seq, left.credit_bytes), (0, 0), "what was on its way is not taken before it knows");
    waiting.say(mainstay_proto::v1::agent_message::Of::Ping(mainstay_proto::v1::Ping::default())).await;
    assert!(matches!(waiting.hear().await, Some(mainstay_proto::v1::collector_message::Of::Pong(_))));
    let Some(mainstay_proto::v1::collector_message::Of::Ack(again)) = waiting.hear().await else {
        panic!("credit is given again")
    };
    assert!(again.durable_seq == 0 && again.credit_bytes > 0, "{again:?}");
    assert!(get(&world, "/metrics").await.contains("mainstay_collector_pushes_left_total 2"));
    let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert_eq!(welcome.durable_seq, 0);
    let all = items.len() as u64;
    assert_eq!(agent.acked_defined(definitions(), items).await.durable_seq, all);
    let stored = crate::promql::get(&world, "/api/v1/query?query=count_over_time(node_load1%5B10m%5D)").await;
    assert_eq!(stored["data"]["result"][0]["value"][1], "1", "the summary is there, and once: {stored}");
    let ops = world.operator("ops", "viewer").await;
    let hosts = world.queries(&ops).await.list_hosts(mainstay_proto::v1::ListHostsRequest::default()).await.unwrap();
    assert_eq!(hosts.into_inner().hosts[0].findings.len(), 1, "and so is the finding");
    assert!(get(&world, "/-/ready").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_takes_long_leaves_its_agent_less_credit() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let mut book = Book::new(papers.host_id);
    let mut items = (1..).zip(repair(&mut book, 1, 1, 0)).map(|(seq, of)| item(seq, of));
    let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let one = vec![items.next().unwrap()];
    // What a slow disk does: the push before holds the host up.
    let hub = world.collector.as_ref().unwrap().hub.clone();
    let lock = hub.state().hosts.values().next().unwrap().lock.clone();
    let held = lock.lock_owned().await;
    let push = mainstay_proto::v1::Push { epoch: crate::agent::EPOCH, items: one, ..Default::default() };
    agent.say(mainstay_proto::v1::agent_message::Of::Push(push)).await;
    let early = tokio::time::timeout(std::time::Duration::from_secs(1), agent.hear()).await;
    assert!(early.is_err(), "acknowledged while it is held up: {early:?}");
    drop(held);
    let Some(mainstay_proto::v1::collector_message::Of::Ack(slow)) = agent.hear().await else {
        panic!("it is acknowledged")
    };
    assert!(slow.credit_bytes < welcome.credit_bytes / 2, "{} of {}", slow.credit_bytes, welcome.credit_bytes);
    let prompt = agent.acked(items.collect()).await;
    assert!(prompt.credit_bytes > slow.credit_bytes, "{} after {}", prompt.credit_bytes, slow.credit_bytes);
}
