//! Deleting a host: it is refused, all of it goes, and nothing of anybody else's.

use mainstay_collector::clock::wall_ms;
use mainstay_collector::services::forget;
use mainstay_collector::store::keys::{
    ActionKey, ChangeByTimeKey, ChangeKey, DecisionByHostKey, DecisionByTimeKey, DecisionKey, FindingByTimeKey,
    FindingKey, HostKey, IncidentOfKey, Key, LeaseKey, LedgerKey, MarkKey, OpenRowKey, PieceKey, RecordByTimeKey,
    RecordingKey, RollupKey, SceneKey,
};
use mainstay_collector::store::{Batch, Store};
use mainstay_core::id::HostId;
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;
use tonic::Code;

use crate::agent::{Agent, Book, EPOCH, definitions, finding, hello, item, repair, summary};
use crate::world::{Papers, World, until};

/// How many keys of each kind are there.
fn counts(store: &Store) -> Vec<(u8, usize)> {
    fn of<K: Key>(store: &Store) -> (u8, usize) {
        (K::ORDINAL, store.scan::<K>(&[K::ORDINAL], &[K::ORDINAL]).count())
    }
    vec![
        of::<ActionKey>(store),
        of::<ChangeByTimeKey>(store),
        of::<ChangeKey>(store),
        of::<DecisionByHostKey>(store),
        of::<DecisionByTimeKey>(store),
        of::<DecisionKey>(store),
        of::<FindingByTimeKey>(store),
        of::<FindingKey>(store),
        of::<HostKey>(store),
        of::<LeaseKey>(store),
        of::<LedgerKey>(store),
        of::<MarkKey>(store),
        of::<OpenRowKey>(store),
        of::<PieceKey>(store),
        of::<RecordByTimeKey>(store),
        of::<RecordingKey>(store),
        of::<RollupKey>(store),
        of::<SceneKey>(store),
    ]
}

/// A host that has left something of everything: two days of series, an open finding, a repair, a change, a lease.
async fn lived(world: &World, name: &str, n: u64) -> (Papers, Agent) {
    let papers = world.enrol(name).await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello(name)).await;
    let now = wall_ms();
    let mut book = Book::new(papers.host_id);
    let change = v1::Change {
        at_ms: now,
        kind: "file.changed".to_owned(),
        subject: "/etc/a".to_owned(),
        ..v1::Change::default()
    };
    let mut of = vec![
        v1::item::Of::Finding(finding(n, "a.service", "open", now)),
        v1::item::Of::Recording(v1::FindingRecording { finding: n, ..v1::FindingRecording::default() }),
        v1::item::Of::Scene(v1::Scene { decision: n, action: n, ..v1::Scene::default() }),
        v1::item::Of::Change(change),
    ];
    of.extend(repair(&mut book, n, n, now));
    of.extend((0..288).map(|slot| v1::item::Of::Summary(summary(slot, now - (288 - slot) * 600_000))));
    let items: Vec<_> = (1..).zip(of).map(|(seq, of)| item(seq, of)).collect();
    let last = item(items.len() as u64 + 1, v1::item::Of::Summary(summary(1, now)));
    // The second push seals what the first has brought.
    for items in [items, vec![last]] {
        agent.say(Say::Push(v1::Push { epoch: EPOCH, define: definitions(), items, ..Default::default() })).await;
        assert!(matches!(agent.hear().await, Some(Hear::Ack(_))));
    }
    let store = &world.collector.as_ref().unwrap().hub.store;
    let host = HostId(papers.host_id);
    let mut batch = Batch::default();
    batch.put(&LeaseKey { host, kind: "service.failed".to_owned() }, &v1::Now::default());
    let short = world.collector.as_ref().unwrap().hub.state().hosts[&host].row.short;
    for hour in (now / 3_600_000 - 48)..(now / 3_600_000) {
        store.join_hour(&mut batch, short, u32::try_from(hour).unwrap()).unwrap();
        store.commit(std::mem::take(&mut batch)).await.unwrap();
    }
    (papers, agent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_host_is_refused_and_gone_with_all_that_was_stored_of_it_and_nothing_else() {
    let world = World::start().await;
    let (_stays, _other) = lived(&world, "web-1", 1).await;
    let hub = world.collector.as_ref().unwrap().hub.clone();
    let before = counts(&hub.store);
    assert!(before.iter().all(|(_, count)| *count > 0), "something of everything: {before:?}");
    let (papers, mut agent) = lived(&world, "web-2", 2).await;
    assert!(counts(&hub.store).iter().zip(&before).all(|((_, now), (_, then))| now > then));

    let ops = world.operator("ops", "operator").await;
    let request = v1::DeleteHostRequest { host: "web-2".to_owned() };
    let refused = world.commands(&ops).await.delete_host(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let ann = world.operator("ann", "admin").await;
    let gone = world.commands(&ann).await.delete_host(request.clone()).await.unwrap().into_inner();
    assert_eq!((gone.hostname.as_str(), gone.host_id.as_slice()), ("web-2", &papers.host_id[..]));
    assert!(gone.removed > 50 && gone.removed_bytes > 1_000, "{gone:?}");
    assert_eq!(counts(&hub.store), before, "what is left is the other host's");
    let incidents = IncidentOfKey::of(HostId(papers.host_id));
    assert_eq!(hub.store.scan::<IncidentOfKey>(&incidents, &incidents).count(), 0);
    assert!(agent.rejected().await.text.contains("deleted by an operator"));
    let mut agent = Agent::connect(&world.address(), &papers).await.unwrap();
    agent.say(Say::Hello(hello("web-2"))).await;
    assert_eq!(agent.rejected().await.reason, "not_enrolled");
    let refused = world.commands(&ann).await.delete_host(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);

    let told =
        world.queries(&ops).await.list_commands(v1::ListCommandsRequest { limit: 0 }).await.unwrap().into_inner();
    let told: Vec<_> = told.commands.iter().filter(|one| one.command == "host delete web-2").collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[1].result.starts_with("deleted web-2") && told[1].operator == "ann", "{told:?}");
    let incidents = v1::ListIncidentsRequest::default();
    let open = world.queries(&ops).await.list_incidents(incidents).await.unwrap().into_inner().incidents;
    assert!(open.iter().all(|incident| incident.members.iter().all(|member| member.hostname == "web-1")), "{open:?}");

    let again = world.enrol("web-2").await;
    assert_ne!(again.host_id, papers.host_id);
    let (_agent, welcome) = Agent::open(&world.address(), &again, hello("web-2")).await;
    assert_eq!((welcome.durable_seq, welcome.ledger), (0, None), "it begins anew");
    drop(hub);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_gets_its_room_back() {
    let world = World::start().await;
    let (_papers, _agent) = lived(&world, "web-1", 1).await;
    let hub = world.collector.as_ref().unwrap().hub.clone();
    let of = hub.clone();
    tokio::task::spawn_blocking(move || of.store.give_back()).await.unwrap();
    let full = hub.store.live_bytes();
    let request = v1::DeleteHostRequest { host: "web-1".to_owned() };
    world.admin().await.delete_host(request).await.unwrap();
    until("smaller tables", || async { (hub.store.live_bytes() < full / 2).then_some(()) }).await;
    drop(hub);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_wait_is_told_that_it_goes_on_and_it_does() {
    let world = World::start().await;
    let (papers, _agent) = lived(&world, "web-1", 1).await;
    let hub = world.collector.as_ref().unwrap().hub.clone();
    let (answer, text) = forget::delete_within(&hub, "web-1", std::time::Duration::ZERO).await.unwrap();
    assert!(answer.going_on && answer.hostname == "web-1" && text.contains("goes on"), "{answer:?}, {text}");
    let host = HostId(papers.host_id);
    until("the end of it", || async { (!hub.state().hosts.contains_key(&host)).then_some(()) }).await;
    until("the end of all jobs", || async { hub.jobs.all().is_empty().then_some(()) }).await;
    assert!(counts(&hub.store).iter().all(|(_, count)| *count == 0), "{:?}", counts(&hub.store));
    drop(hub);
    world.stop().await;
}
