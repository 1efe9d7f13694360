//! Sessions: exactly once, in spite of lost acknowledgements, restarts and liars.

use std::sync::Arc;

use mainstay_collector::clock;
use mainstay_collector::ingest::HANDOVER_MS;
use mainstay_collector::store::keys::{DecisionKey, LedgerKey};
use mainstay_core::id::HostId;
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::time::Now;
use mainstay_proto::convert::{Form, SummaryWriter};
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;
use prost::Message;

use crate::agent::{Agent, Book, EPOCH, definitions, finding, hello, item, repair, summary};
use crate::world::{World, until};

const WALL: i64 = 1_780_000_000_000;

fn numbered(from: u64, of: Vec<v1::item::Of>) -> Vec<v1::Item> {
    (from..).zip(of).map(|(seq, of)| item(seq, of)).collect()
}

fn records(world: &World, host: [u8; 16]) -> usize {
    let prefix = LedgerKey::of(HostId(host));
    world.collector.as_ref().unwrap().hub.store.scan::<LedgerKey>(&prefix, &prefix).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_after_a_lost_acknowledgement_is_stored_once() {
    let mut world = World::start().await;
    let papers = world.enrol("web-1").await;
    let mut book = Book::new(papers.host_id);
    let mut items = numbered(1, vec![v1::item::Of::Finding(finding(5, "nginx.service", "open", WALL))]);
    items.extend(numbered(2, repair(&mut book, 9, 5, WALL)));
    let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert_eq!(welcome.durable_seq, 0);
    assert_eq!(agent.acked(items.clone()).await.durable_seq, 5);
    drop(agent); // the acknowledgement was lost: the agent sends all of it again

    let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert_eq!(welcome.durable_seq, 5);
    assert_eq!(agent.acked(items.clone()).await.durable_seq, 5);
    world.restart().await;
    let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert_eq!(welcome.durable_seq, 5);
    let head = welcome.ledger.unwrap();
    assert_eq!((head.index, head.hash), (4, book.head.hash.to_vec()));
    assert!(head.countersigned_ms > 0);
    agent.acked(items).await;
    assert_eq!(records(&world, papers.host_id), 4);
    let store = &world.collector.as_ref().unwrap().hub.store;
    let decisions: Vec<_> = store.scan_values::<DecisionKey, v1::DecisionView>(&DecisionKey::all()).collect();
    assert_eq!(decisions.len(), 1);
    let view = &decisions[0].as_ref().unwrap().1;
    assert_eq!((view.steps.len(), view.ledger_from, view.ledger_to), (1, 1, 4));
    assert!(view.verification.as_ref().unwrap().recovered);
    drop(agent);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_stops_the_acknowledgement_until_it_is_filled_or_declared_lost() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let one = |seq| item(seq, v1::item::Of::Finding(finding(seq, "a.service", "open", WALL)));
    assert_eq!(agent.acked(vec![one(1), one(4)]).await.durable_seq, 1);
    assert_eq!(agent.acked(vec![one(2)]).await.durable_seq, 2);
    let gap =
        v1::Gap { seq_from: 3, seq_to: 3, wall_from_ms: WALL, wall_to_ms: WALL + 1, reason: "spool full".to_owned() };
    assert_eq!(agent.acked(vec![item(5, v1::item::Of::Gap(gap.clone()))]).await.durable_seq, 5);
    let unreadable = v1::Gap { seq_from: 6, seq_to: 6, ..gap };
    let acked = agent.acked(vec![item(6, v1::item::Of::Gap(unreadable))]).await;
    assert_eq!(acked.durable_seq, 6, "an item that cannot be read stands for its own loss");
    let ops = world.operator("ops", "viewer").await;
    let hosts = world.queries(&ops).await.list_hosts(v1::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!((hosts[0].completeness, hosts[0].gaps.len()), (4.0 / 6.0, 2));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_or_rewritten_ledger_is_doubted_and_shown() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let mut book = Book::new(papers.host_id);
    let items = numbered(1, repair(&mut book, 9, 5, WALL));
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    agent.acked(items).await;
    drop(agent);
    let cut = v1::LedgerHead { index: 2, hash: vec![1; 32], countersigned_ms: 0 };
    let (mut agent, _) =
        Agent::open(&world.address(), &papers, v1::Hello { ledger: Some(cut), ..hello("web-1") }).await;
    let mut other = Book::new(papers.host_id);
    let rewritten = numbered(5, repair(&mut other, 10, 6, WALL + 7));
    agent.acked(rewritten).await;
    assert_eq!(records(&world, papers.host_id), 4, "what was countersigned stays");
    let ops = world.operator("ops", "viewer").await;
    let request = v1::GetHostRequest { host: "web-1".to_owned() };
    let host = world.queries(&ops).await.get_host(request).await.unwrap().into_inner().host.unwrap();
    for said in ["tail was cut", "#1 was rewritten"] {
        assert!(host.notes.iter().any(|note| note.contains(said)), "{said}: {:?}", host.notes);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_honest_agent_says_is_refused_with_the_reason_and_harms_nobody_else() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut honest, _) = Agent::open(&world.address(), &world.enrol("web-2").await, hello("web-2")).await;
    let push = |push: v1::Push| Say::Push(v1::Push { epoch: EPOCH, ..push });
    let bomb = zstd::encode_all(&vec![0u8; 100_000_000][..], 3).unwrap();
    let unknown_series = item(1, v1::item::Of::Summary(summary(1, WALL)));
    let lying_gap = v1::Gap { seq_from: 1, seq_to: u64::MAX, ..Default::default() };
    let entry = v1::LedgerEntry { index: 0, record: Vec::new(), hash: vec![0; 32] };
    let cases: Vec<(&str, Say)> = vec![
        ("too_large", push(v1::Push { zstd: bomb, ..Default::default() })),
        ("malformed", push(v1::Push { zstd: vec![1, 2, 3], ..Default::default() })),
        ("malformed", push(v1::Push { items: vec![unknown_series], ..Default::default() })),
        (
            "malformed",
            push(v1::Push { items: vec![item(0, v1::item::Of::Summary(summary(1, WALL)))], ..Default::default() }),
        ),
        ("malformed", push(v1::Push { items: vec![item(1, v1::item::Of::Gap(lying_gap))], ..Default::default() })),
        ("malformed", push(v1::Push { items: vec![item(1, v1::item::Of::Ledger(entry))], ..Default::default() })),
        ("malformed", push(v1::Push { next: vec![8], ..Default::default() })),
        ("malformed", push(v1::Push { next: vec![8], define: definitions(), ..Default::default() })),
        ("malformed", Say::Push(v1::Push { epoch: EPOCH + 1, ..Default::default() })),
        ("malformed", Say::Hello(hello("web-1"))),
        ("too_large", push(v1::Push { zstd: vec![7; 9 * 1024 * 1024], ..Default::default() })),
    ];
    for (n, (reason, said)) in cases.into_iter().enumerate() {
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
        agent.say(said).await;
        let refusal = agent.rejected().await;
        assert_eq!(refusal.reason, reason, "case {n}: {}", refusal.text);
        assert!(agent.hear().await.is_none(), "the session ends");
    }
    let (agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert_eq!(welcome.durable_seq, 0, "nothing of it was stored");
    drop(agent);
    let fine = item(1, v1::item::Of::Finding(finding(1, "a.service", "open", WALL)));
    assert_eq!(honest.acked(vec![fine]).await.durable_seq, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_summary_follows_the_last_item_and_an_acknowledgement_the_one_before() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let remembers = v1::Hello { capabilities: vec!["brief".to_owned()], ..hello("web-1") };
    let (mut agent, welcome) = Agent::open(&world.address(), &papers, remembers).await;
    assert!(welcome.capabilities.iter().any(|word| word == "coded"));
    let key = Arc::new(SeriesKey::new("node_load1", &[]));
    let summary = |n: u32| Summary {
        at: Now { boot_ns: u64::from(n) * 1_000_000_000, wall_ms: WALL + i64::from(n) * 1_000 },
        window_ms: 1_000,
        samples: 1,
        points: vec![(key.clone(), Point::Counter(f64::from(n)))],
    };
    let mut writer = SummaryWriter::new(Form::of(&welcome.capabilities));
    let mut written = |n: u32| {
        let mut define = Vec::new();
        let of = v1::item::Of::Summary(writer.write(&summary(n), &mut define));
        let push = v1::Push { epoch: EPOCH, define, items: vec![item(n.into(), of)], ..Default::default() };
        writer.brief(push, Some(u64::from(n) - 1)).unwrap_or_else(|push| push)
    };
    let mut acks = Vec::new();
    for n in 1..=3 {
        let push = written(n);
        assert_eq!(push.next.is_empty(), n == 1, "the first names its series");
        agent.say(Say::Push(push)).await;
        let Some(Hear::Ack(ack)) = agent.hear().await else { panic!("{n} is acknowledged") };
        acks.push(ack);
    }
    assert_eq!((acks[0].epoch, acks[0].durable_seq, acks[0].same), (EPOCH, 1, false));
    for (seq, ack) in (2..).zip(&acks[1..]) {
        assert_eq!(*ack, v1::Ack { durable_seq: seq, same: true, ..Default::default() });
    }
    // One that says more than it should is refused with the place, and what was taken stays.
    let mut longer = written(4);
    longer.next.extend([0, 0]);
    agent.say(Say::Push(longer)).await;
    let refusal = agent.rejected().await;
    assert_eq!(refusal.reason, "malformed");
    assert!(refusal.text.contains("item 4") && refusal.text.contains("2 bytes follow"), "{refusal:?}");
    let (_agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert_eq!(welcome.durable_seq, 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_do_not_meet_are_told_so() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let mut agent = Agent::connect(&world.address(), &papers).await.unwrap();
    agent.say(Say::Hello(v1::Hello { version_min: 7, version_max: 9, ..hello("web-1") })).await;
    let refusal = agent.rejected().await;
    assert_eq!(refusal.reason, "unsupported_version");
    assert!(refusal.text.contains("7 to 9") && refusal.retry_after_ms > 0, "{refusal:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_is_turned_away_with_a_time_to_come_back() {
    let world = World::start_with(|settings| settings.sessions_per_second = 1).await;
    let papers = world.enrol("web-1").await;
    let mut agents = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (address, papers) = (world.address(), papers.clone());
        agents.spawn(async move {
            let mut agent = Agent::connect(&address, &papers).await.unwrap();
            agent.say(Say::Hello(hello("web-1"))).await;
            agent.hear().await
        });
    }
    let (mut let_in, mut turned_away) = (0, 0);
    while let Some(heard) = agents.join_next().await {
        match heard.unwrap() {
            Some(Hear::Welcome(_)) => let_in += 1,
            Some(Hear::Reject(refusal)) => {
                assert_eq!(refusal.reason, "rate_limited");
                assert!(refusal.retry_after_ms >= 1_000, "{refusal:?}");
                turned_away += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // Two at once, eight that wait for their turn, and those that came meanwhile.
    assert!(let_in >= 10 && turned_away >= 3, "{let_in} were let in, {turned_away} turned away");
    // The last of them waited for eight seconds, which its clock is not behind.
    let ops = world.operator("ops", "viewer").await;
    let hosts = world.queries(&ops).await.list_hosts(v1::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert!(hosts[0].clock_offset_ms.abs() < 4_000, "{} ms", hosts[0].clock_offset_ms);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_share_of_the_fleet_is_leased_to_act_whatever_happens_to_the_collector() {
    let mut world = World::start().await;
    let mut papers = Vec::new();
    for n in 0..12 {
        papers.push(world.enrol(&format!("web-{n}")).await);
    }
    let mut granted = 0;
    for (n, papers) in papers.iter().enumerate() {
        if n == 6 {
            world.restart().await;
        }
        let (mut agent, _) = Agent::open(&world.address(), papers, hello(&format!("web-{n}"))).await;
        let request =
            v1::LeaseRequest { decision: n as u64, kind: "service.failed".to_owned(), subject: None, share: 0.25 };
        agent.say(Say::Lease(request)).await;
        let Some(Hear::Lease(reply)) = agent.hear().await else { panic!("a lease is answered") };
        assert_eq!(reply.decision, n as u64);
        granted += u32::from(reply.granted);
        assert!(reply.granted || reply.text.contains("3 of at most 3 hosts (12 in all)"), "{}", reply.text);
    }
    assert_eq!(granted, 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconnect_replaces_a_session_and_two_machines_with_one_identity_are_both_held() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut first, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let (mut second, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    first.say(Say::Ping(v1::Ping { wall_ms: WALL })).await;
    assert!(first.rejected().await.text.contains("newer session"), "a reconnect is no quarrel");
    second.say(Say::Ping(v1::Ping { wall_ms: WALL })).await;
    assert!(matches!(second.hear().await, Some(Hear::Pong(_))));

    let mut clone = hello("web-1");
    clone.facts.as_mut().unwrap().boot = vec![2; 16];
    let (mut third, _) = Agent::open(&world.address(), &papers, clone).await;
    // Words that were on their way are no quarrel; after that the first machine goes on talking.
    let handed_over = clock::wall_ms() + HANDOVER_MS;
    until("the end of the handover", || async { (clock::wall_ms() > handed_over).then_some(()) }).await;
    second.say(Say::Ping(v1::Ping { wall_ms: WALL })).await;
    assert!(second.rejected().await.text.contains("another machine"));
    assert!(third.rejected().await.text.contains("another machine"));
    let ops = world.operator("ops", "viewer").await;
    let hosts = world.queries(&ops).await.list_hosts(v1::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert!(hosts[0].notes.iter().any(|note| note.contains("two machines")), "{:?}", hosts[0].notes);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_push_is_stored_like_any_other() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let items = vec![item(1, v1::item::Of::Summary(summary(1, WALL)))];
    let inner = v1::Push { items, define: definitions(), ..Default::default() };
    let zstd = zstd::encode_all(&inner.encode_to_vec()[..], 3).unwrap();
    agent.say(Say::Push(v1::Push { epoch: EPOCH, zstd, ..Default::default() })).await;
    let Some(Hear::Ack(ack)) = agent.hear().await else { panic!("it is acknowledged") };
    assert_eq!(ack.durable_seq, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_push_waits_for_the_disk_is_told_that_the_collector_is_there() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let hub = world.collector.as_ref().unwrap().hub.clone();
    let lock = hub.state().hosts[&HostId(papers.host_id)].lock.clone();
    // What holds a push up for as long as it is held.
    let held = lock.lock().await;
    let heard = agent.push(vec![item(1, v1::item::Of::Finding(finding(5, "app.service", "open", WALL)))]).await;
    assert!(matches!(heard, Some(Hear::Pong(_))), "{heard:?}");
    drop(held);
    let heard = agent.hear().await;
    assert!(matches!(&heard, Some(Hear::Ack(ack)) if ack.durable_seq == 1), "{heard:?}");
    world.stop().await;
}
