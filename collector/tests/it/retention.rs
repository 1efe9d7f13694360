//! Retention: what is too old goes, what is open or young stays, and the disk gets its room back.

use std::time::Duration;

use mainstay_collector::ages::Override;
use mainstay_collector::clock::wall_ms;
use mainstay_collector::config::Settings;
use mainstay_collector::store::Batch;
use mainstay_collector::store::keys::{
    ChangeByTimeKey, ChangeKey, CommandKey, DecisionKey, FindingKey, IncidentByTimeKey, IncidentKey, IncidentOfKey,
    Key, LedgerKey, OpenRowKey, PieceKey, RecordByTimeKey, RecordingKey, SceneKey, SchemaKey,
};
use mainstay_collector::store::piece::Piece;
use mainstay_collector::store::retention::Retention;
use mainstay_collector::store::values::{CommandRow, IncidentRow, MemberRow};
use mainstay_core::id::{FindingId, HostId, IncidentId};
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;

use crate::agent::{Agent, Book, EPOCH, definitions, finding, hello, item, repair, summary};
use crate::world::World;

fn count<K: Key>(world: &World, prefix: &[u8]) -> usize {
    world.collector.as_ref().unwrap().hub.store.scan::<K>(prefix, prefix).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_and_what_is_open_or_young_stays() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let now = wall_ms();
    let old = now - 3 * 3_600_000;
    let mut book = Book::new(papers.host_id);
    let mut of = vec![
        v1::item::Of::Finding(finding(1, "a.service", "open", old)),
        v1::item::Of::Finding(finding(2, "b.service", "cleared", old)),
        v1::item::Of::Finding(finding(3, "c.service", "cleared", now)),
    ];
    for at_ms in [old, now] {
        let (kind, subject) = ("file.changed".to_owned(), "/etc/a".to_owned());
        of.push(v1::item::Of::Change(v1::Change { at_ms, kind, subject, ..v1::Change::default() }));
    }
    of.extend(repair(&mut book, 1, 1, old));
    of.extend(repair(&mut book, 2, 3, now));
    of.extend(
        [1, 2, 3].map(|finding| {
            v1::item::Of::Recording(v1::FindingRecording { finding, ..v1::FindingRecording::default() })
        }),
    );
    of.extend(
        [(1, 1), (1, 2), (2, 3)]
            .map(|(decision, action)| v1::item::Of::Scene(v1::Scene { decision, action, ..v1::Scene::default() })),
    );
    for at in [old, old + 700_000, now - 700_000, now] {
        of.push(v1::item::Of::Summary(summary(1, at)));
    }
    for (seq, of) in (1..).zip(of) {
        let items = vec![item(seq, of)];
        agent.say(Say::Push(v1::Push { epoch: EPOCH, define: definitions(), items, ..Default::default() })).await;
        assert!(matches!(agent.hear().await, Some(v1::collector_message::Of::Ack(_))), "item {seq}");
    }
    let hour = Duration::from_secs(3_600);
    let retention =
        Retention { series: 2 * hour, findings: hour, decisions: hour, changes: hour, ..Retention::default() };
    let host = HostId(papers.host_id);
    let store = &world.collector.as_ref().unwrap().hub.store;
    let pieces_before = count::<PieceKey>(&world, &[PieceKey::ORDINAL]);
    store.retain(&[host], retention, now).await.unwrap();
    let pieces = count::<PieceKey>(&world, &[PieceKey::ORDINAL]);
    assert!(pieces < pieces_before, "{pieces} of {pieces_before} pieces of blocks");
    let rows = |from_ms, to_ms| {
        let mut rows = 0;
        let count = |piece: &mut Piece<'_, '_>| {
            rows += piece.times.len();
            Ok(())
        };
        store.view().reader().host(1, None, (from_ms, to_ms), &mut { count }).unwrap();
        rows
    };
    assert_eq!(rows(now - 1_000_000, now + 1), 2, "young rows stay");
    assert_eq!(rows(0, old + 1), 0);
    let findings: Vec<u64> =
        store.scan::<FindingKey>(&FindingKey::all(), &FindingKey::all()).map(|f| f.unwrap().0.finding.0).collect();
    assert_eq!(findings, [1, 3], "the open one and the young one");
    assert_eq!(count::<RecordingKey>(&world, &[RecordingKey::ORDINAL]), 2, "the seconds around them go with them");
    assert_eq!(count::<DecisionKey>(&world, &DecisionKey::all()), 1);
    assert_eq!(count::<SceneKey>(&world, &[SceneKey::ORDINAL]), 1);
    let changes: Vec<i64> =
        store.scan::<ChangeKey>(&ChangeKey::of(host), &ChangeKey::of(host)).map(|c| c.unwrap().0.at_ms).collect();
    assert_eq!((changes, count::<ChangeByTimeKey>(&world, &ChangeByTimeKey::all())), (vec![now], 1));
    let records: Vec<u64> = store
        .scan::<LedgerKey>(&LedgerKey::of(host), &LedgerKey::of(host))
        .map(|record| record.unwrap().0.index)
        .collect();
    assert_eq!(records, [5, 6, 7, 8], "what is left of the ledger is one chain");
    assert_eq!(count::<RecordByTimeKey>(&world, &RecordByTimeKey::all()), 4, "and listed");
    assert!(count::<OpenRowKey>(&world, &OpenRowKey::all()) >= 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_without_any_series_left_go_and_come_back_when_they_are_used_again() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let (now, day) = (wall_ms(), 86_400_000);
    let push = |seq, at| v1::Push {
        epoch: EPOCH,
        define: definitions(),
        items: vec![item(seq, v1::item::Of::Summary(summary(1, at)))],
        ..Default::default()
    };
    agent.say(Say::Push(push(1, now))).await;
    assert!(matches!(agent.hear().await, Some(v1::collector_message::Of::Ack(_))));
    let store = &world.collector.as_ref().unwrap().hub.store;
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let retention = Retention { series: days(10), series_5m: days(20), series_1h: days(30), ..Retention::default() };
    store.retain(&[], retention, now + 31 * day).await.unwrap();
    assert_eq!(count::<SchemaKey>(&world, &SchemaKey::all()), 1, "a rollup may still have it");
    store.retain(&[], retention, now + 35 * day).await.unwrap();
    assert_eq!(count::<SchemaKey>(&world, &SchemaKey::all()), 0);
    let metrics = |store: &mainstay_collector::store::Store| store.all_names(|all| all.metrics().len()).unwrap();
    assert_eq!(metrics(store), 0, "and they are not remembered");
    agent.say(Say::Push(push(2, now + 10_000))).await;
    assert!(matches!(agent.hear().await, Some(v1::collector_message::Of::Ack(_))));
    let named = store.last_row(1).unwrap().unwrap().0;
    assert_eq!((named.keys.len(), metrics(store)), (2, 2), "the same names are written again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incidents_that_are_over_and_commands_go_with_their_age_and_open_incidents_stay() {
    let world = World::start().await;
    let store = &world.collector.as_ref().unwrap().hub.store;
    let (now, day) = (wall_ms(), 86_400_000);
    let host = HostId([7; 16]);
    let mut batch = Batch::default();
    let mut incident = |id: u64, opened_ms: i64, row: IncidentRow| {
        let members = vec![MemberRow { host: host.0.to_vec(), finding: id }];
        batch.put(&IncidentKey { incident: IncidentId(id) }, &IncidentRow { opened_ms, members, ..row });
        batch.put_raw(&IncidentByTimeKey { opened_ms, incident: IncidentId(id) }, Vec::new());
        batch.put_raw(&IncidentOfKey { host, finding: FindingId(id) }, id.to_be_bytes().to_vec());
    };
    let cleared = |cleared_ms| IncidentRow { cleared_ms, ..IncidentRow::default() };
    incident(1, now - 20 * day, cleared(now - 19 * day));
    incident(2, now - 20 * day, IncidentRow::default());
    incident(3, now - 20 * day, cleared(now - day));
    incident(4, now - 2 * day, cleared(now - day));
    // Of an incident whose opening moved back, and of one that is part of another.
    batch.put_raw(&IncidentByTimeKey { opened_ms: now - 19 * day, incident: IncidentId(3) }, Vec::new());
    batch.put(&IncidentKey { incident: IncidentId(5) }, &IncidentRow { merged_into: 2, ..IncidentRow::default() });
    batch.put_raw(&IncidentByTimeKey { opened_ms: now - 20 * day, incident: IncidentId(5) }, Vec::new());
    for (id, at_ms) in [(1, now - 40 * day), (2, now - 5 * day)] {
        batch.put(&CommandKey { at_ms, id }, &CommandRow { command: format!("command {id}"), ..CommandRow::default() });
    }
    store.commit(batch).await.unwrap();
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let retention = Retention { findings: days(10), commands: days(30), ..Retention::default() };
    store.retain(&[], retention, now).await.unwrap();
    let left = |prefix: Vec<u8>| store.scan::<IncidentKey>(&prefix, &prefix).map(|item| item.unwrap().0.incident.0);
    assert_eq!(left(IncidentKey::all()).collect::<Vec<_>>(), [2, 3, 4], "open, cleared since, and young");
    let all = IncidentByTimeKey::all();
    let listed = store.scan::<IncidentByTimeKey>(&all, &all).map(|item| item.unwrap().0);
    let listed: Vec<_> = listed.map(|key| (key.incident.0, (now - key.opened_ms) / day)).collect();
    assert_eq!(listed, [(2, 20), (3, 20), (4, 2)]);
    assert_eq!(count::<IncidentOfKey>(&world, &IncidentOfKey::of(host)), 3);
    let all = CommandKey::all();
    let commands: Vec<u64> = store.scan::<CommandKey>(&all, &all).map(|item| item.unwrap().0.id).collect();
    assert_eq!(commands, [2]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_gets_the_finest_that_the_hosts_have_that_it_is_about() {
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let default = Retention { series: hours(1), ..Retention::default() };
    let databases = Override {
        name: "databases".to_owned(),
        hosts: "{role=\"db\"}".to_owned(),
        series: Some(hours(100)),
        series_5m: None,
        series_1h: None,
    };
    let mut world = World::start_with(|settings| {
        (settings.retention, settings.overrides) = (default, vec![databases]);
    })
    .await;
    let now = wall_ms();
    let mut numbers = Vec::new();
    for (name, role) in [("web-1", "web"), ("db-1", "db")] {
        let papers = world.enrol(name).await;
        let mut hello = hello(name);
        let labels = vec![v1::Label { name: "role".to_owned(), value: role.to_owned() }];
        hello.facts = hello.facts.map(|facts| v1::HostFacts { labels, ..facts });
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello).await;
        let of = |n: i64| item(n.unsigned_abs() + 1, v1::item::Of::Summary(summary(n, now - (36 - n) * 600_000)));
        // The second push seals what the first has brought.
        for items in [(0..36).map(of).collect(), vec![of(36)]] {
            agent.say(Say::Push(v1::Push { epoch: EPOCH, define: definitions(), items, ..Default::default() })).await;
            assert!(matches!(agent.hear().await, Some(v1::collector_message::Of::Ack(_))));
        }
        let hub = &world.collector.as_ref().unwrap().hub;
        let short = hub.state().hosts[&HostId(papers.host_id)].row.short;
        for hour in (now / 3_600_000 - 7)..(now / 3_600_000) {
            let mut batch = Batch::default();
            hub.store.join_hour(&mut batch, short, u32::try_from(hour).unwrap()).unwrap();
            hub.store.commit(batch).await.unwrap();
        }
        numbers.push(short);
    }
    let ops = world.operator("ops", "viewer").await;
    let ask = async |world: &World, promql: &str, matchers: &[(&str, &str)]| {
        let matcher = |(label, value): &(&str, &str)| v1::Matcher {
            label: (*label).to_owned(),
            op: "=".to_owned(),
            value: (*value).to_owned(),
        };
        let request = v1::QueryRangeRequest {
            from_ms: now - 4 * 3_600_000,
            to_ms: now,
            step_ms: 600_000,
            promql: promql.to_owned(),
            name: if promql.is_empty() { "node_load1" } else { "" }.to_owned(),
            matchers: matchers.iter().map(matcher).collect(),
            ..Default::default()
        };
        let answer = world.queries(&ops).await.query_range(request).await.unwrap().into_inner();
        assert!(!answer.series.is_empty() && answer.completeness > 0.99, "{promql} {matchers:?}: {answer:?}");
        answer.resolution
    };
    let all = async |world: &World| {
        let mut found = Vec::new();
        for promql in [
            "node_load1{role=\"db\"}",
            "max_over_time(node_load1{host=\"db-1\"}[20m])",
            "node_load1{host=\"web-1\"}",
            "max_over_time(node_load1{role=~\"w.*\"}[20m])",
            "node_load1",
        ] {
            found.push(ask(world, promql, &[]).await);
        }
        for matchers in [&[("host", "db-1")][..], &[("role", "web")], &[]] {
            found.push(ask(world, "", matchers).await);
        }
        found
    };
    let expected = ["raw", "raw", "5m", "5m", "5m", "raw", "5m", "5m"];
    assert_eq!(all(&world).await, expected, "what is about to go is not counted on");
    let hub = world.collector.as_ref().unwrap().hub.clone();
    let ages = mainstay_collector::ages::of(&hub);
    assert!(tokio::task::block_in_place(|| hub.store.thin(&numbers, &ages, wall_ms())).unwrap() > 0);
    assert_eq!(all(&world).await, expected);
    // What is gone does not come back with a longer age.
    let longer = Settings { retention: Retention::default(), ..Settings::for_tests(world.folder.path()) };
    world.collector.as_ref().unwrap().reload(longer).unwrap();
    assert_eq!(all(&world).await, expected);
    drop(hub);
    world.restart().await;
    assert_eq!(all(&world).await, expected, "nor after a start");
    world.stop().await;
}
