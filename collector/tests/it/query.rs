//! Series, findings and incidents: stored by sessions, asked by operators.

use std::sync::LazyLock;

use mainstay_core::id::FindingId;
use mainstay_core::recording::{FindingRecording, Recording};
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::time::Now;
use mainstay_proto::convert::{Form, SummaryWriter};
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;

use crate::agent::{Agent, Book, EPOCH, definitions, finding, hello, item, repair, summary};
use crate::world::{World, until};

/// Two hours ago, at the beginning of a slot: within every retention.
static WALL: LazyLock<i64> = LazyLock::new(|| (mainstay_collector::clock::wall_ms() - 7_200_000) / 600_000 * 600_000);

async fn fill(world: &World, agent: &mut Agent, count: i64) {
    for n in 0..count {
        let items = vec![item(n.cast_unsigned() + 1, v1::item::Of::Summary(summary(n, *WALL + n * 10_000)))];
        let define = if n == 0 { definitions() } else { Vec::new() };
        agent.say(Say::Push(v1::Push { epoch: EPOCH, define, items, ..Default::default() })).await;
        let Some(Hear::Ack(_)) = agent.hear().await else {
            panic!("summary {n} is acknowledged by {}", world.address())
        };
    }
}

fn question(name: &str, matchers: &[(&str, &str, &str)]) -> v1::QueryRangeRequest {
    let matcher = |(label, op, value): &(&str, &str, &str)| v1::Matcher {
        label: (*label).to_owned(),
        op: (*op).to_owned(),
        value: (*value).to_owned(),
    };
    v1::QueryRangeRequest {
        name: name.to_owned(),
        matchers: matchers.iter().map(matcher).collect(),
        from_ms: *WALL - 1_000,
        to_ms: *WALL + 10_000_000,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_comes_back_from_open_rows_and_sealed_blocks_alike() {
    let mut world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    fill(&world, &mut agent, 200).await;
    let ops = world.operator("ops", "viewer").await;
    for round in 0..2 {
        let mut queries = world.queries(&ops).await;
        let mean =
            queries.query_range(question("node_load1:mean", &[("host", "=", "web-1")])).await.unwrap().into_inner();
        assert_eq!(mean.series.len(), 1, "round {round}");
        let expected: Vec<(i64, f64)> = (0..200).map(|n| (*WALL + n * 10_000, n as f64 + 0.25)).collect();
        let series = &mean.series[0];
        let found: Vec<(i64, f64)> = series.at_ms.iter().copied().zip(series.values.iter().copied()).collect();
        assert_eq!(found, expected, "round {round}");
        let user = [("mode", "=~", "us.*"), ("cpu", "!=", "1"), ("role", "=", "web")];
        let cpu = queries.query_range(question("node_cpu_seconds_total", &user)).await.unwrap().into_inner();
        assert_eq!(cpu.series[0].values.len(), 200);
        for none in [("mode", "=", "system"), ("host", "=~", "db-.*"), ("cpu", "!~", "0")] {
            let answer = queries.query_range(question("node_cpu_seconds_total", &[none])).await.unwrap().into_inner();
            assert_eq!(answer.series.len(), 0, "{none:?}");
        }
        let stepped = v1::QueryRangeRequest { step_ms: 60_000, from_ms: *WALL, ..question("node_load1", &[]) };
        let answer = queries.query_range(stepped).await.unwrap().into_inner();
        assert_eq!(answer.series[0].values[..3], [0.0, 6.0, 12.0], "the last point of each step");
        world.restart().await;
    }
    let store = &world.collector.as_ref().unwrap().hub.store;
    let prefix = mainstay_collector::store::keys::OpenRowKey::all();
    let open = store.scan::<mainstay_collector::store::keys::OpenRowKey>(&prefix, &prefix).count();
    assert!(open <= 121, "{open} rows are open: the slots before are sealed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_summaries_join_the_block_that_was_sealed_without_them() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    fill(&world, &mut agent, 130).await;
    // Between the first and the second, long after their slot was sealed; then on in the present, twice.
    for (seq, at) in [(131, *WALL + 5_000), (132, *WALL + 1_300_000), (133, *WALL + 1_310_000)] {
        agent.acked(vec![item(seq, v1::item::Of::Summary(summary(1, at)))]).await;
    }
    let ops = world.operator("ops", "viewer").await;
    let answer = world.queries(&ops).await.query_range(question("node_load1", &[])).await.unwrap().into_inner();
    assert_eq!(answer.series[0].at_ms.len(), 133);
    assert_eq!(answer.series[0].at_ms[1], *WALL + 5_000);
    world.stop().await;
}

/// Summaries of one gauge as columns, and what has to be defined first.
fn columns(values: &[f64]) -> (Vec<v1::SeriesDef>, Vec<v1::item::Of>) {
    let (mut writer, mut define) = (SummaryWriter::new(Form::Columns), Vec::new());
    let key = std::sync::Arc::new(SeriesKey::new("node_load1", &[]));
    let summaries = (0..).zip(values).map(|(n, value)| {
        let point = Point::Gauge { last: *value, min: *value, max: *value, mean: *value };
        let at = Now { boot_ns: 0, wall_ms: *WALL + n * 10_000 };
        Summary { at, window_ms: 10_000, samples: 10, points: vec![(key.clone(), point)] }
    });
    let of = summaries.map(|summary| v1::item::Of::Summary(writer.write(&summary, &mut define))).collect();
    (define, of)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn summaries_in_columns_are_read_also_where_they_are_known_already() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (define, of) = columns(&[1.5, 2.5, 0.25, 8.0]);
    let items: Vec<_> = (1..).zip(of).map(|(seq, of)| item(seq, of)).collect();
    let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert!(welcome.capabilities.iter().any(|one| one == "columns"), "{welcome:?}");
    let push = v1::Push { epoch: EPOCH, define: define.clone(), items: items[..2].to_vec(), ..Default::default() };
    agent.say(Say::Push(push)).await;
    assert!(matches!(agent.hear().await, Some(Hear::Ack(ack)) if ack.durable_seq == 2));
    drop(agent);
    // The acknowledgement was lost: a new session, and all of it once more.
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    agent.say(Say::Push(v1::Push { epoch: EPOCH, define, items, ..Default::default() })).await;
    assert!(matches!(agent.hear().await, Some(Hear::Ack(ack)) if ack.durable_seq == 4));
    let ops = world.operator("ops", "viewer").await;
    let answer = world.queries(&ops).await.query_range(question("node_load1", &[])).await.unwrap().into_inner();
    assert_eq!(answer.series[0].values, [1.5, 2.5, 0.25, 8.0]);

    let lie = v1::Summary { columns: vec![0, 1, 2, 3], ..v1::Summary::default() };
    agent
        .say(Say::Push(v1::Push {
            epoch: EPOCH,
            items: vec![item(5, v1::item::Of::Summary(lie))],
            ..Default::default()
        }))
        .await;
    let refused = agent.rejected().await;
    assert_eq!(refused.reason, "malformed");
    assert!(refused.text.contains("item 5") && refused.text.contains("columns."), "{}", refused.text);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_query_says_what_is_wrong() {
    let world = World::start().await;
    let ops = world.operator("ops", "viewer").await;
    let mut queries = world.queries(&ops).await;
    for (request, said) in [
        (question("", &[]), "name a metric"),
        (question("x", &[("a", "~", "b")]), "is not a matcher"),
        (question("x", &[("a", "=~", "(")]), "unclosed group"),
        (v1::QueryRangeRequest { to_ms: 0, ..question("x", &[]) }, "ends before it begins"),
    ] {
        let refused = queries.query_range(request).await.unwrap_err();
        assert!(refused.message().contains(said), "{said}: {}", refused.message());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_is_explained_and_its_chain_is_proved() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let mut book = Book::new(papers.host_id);
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let mut items = vec![v1::item::Of::Finding(finding(5, "nginx.service", "open", *WALL))];
    items.extend(repair(&mut book, 0xd1 << 56, 5, *WALL));
    items.extend(repair(&mut book, 0xd2 << 56, 6, *WALL + 60_000));
    agent.acked((1..).zip(items).map(|(seq, of)| item(seq, of)).collect()).await;
    let ops = world.operator("ops", "viewer").await;
    let mut queries = world.queries(&ops).await;
    let told =
        queries.explain(v1::ExplainRequest { id: "d-d1".to_owned(), ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((told.helped, told.tried, told.chain_intact), (2, 2, true));
    assert_eq!(told.finding.unwrap().evidence[0].text, "killed by SIGKILL");
    let view = told.decision.unwrap();
    assert_eq!((view.ledger_from, view.ledger_to, view.steps.len()), (1, 4, 1));
    assert_eq!(view.steps[0].outcome.as_ref().unwrap().ended, "done");
    let newest = queries.explain(v1::ExplainRequest::default()).await.unwrap().into_inner();
    assert_eq!(newest.decision.unwrap().ledger_from, 5);
    for (id, said) in [("d-d", "several decisions"), ("d-77", "no decision begins"), ("x-1", "is not a decision id")] {
        let refused =
            queries.explain(v1::ExplainRequest { id: id.to_owned(), ..Default::default() }).await.unwrap_err();
        assert!(refused.message().contains(said), "{said}: {}", refused.message());
    }
    let mut ledger = queries
        .read_ledger(v1::ReadLedgerRequest { host: "web-1".to_owned(), from_index: 2 })
        .await
        .unwrap()
        .into_inner();
    let chunk = ledger.message().await.unwrap().unwrap();
    assert_eq!((chunk.entries.len(), chunk.entries[0].index, chunk.doubts.len()), (7, 2, 0));
    assert_eq!(chunk.head.unwrap().hash, book.head.hash);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_hosts_alike_are_one_incident_and_outlive_a_restart() {
    let mut world = World::start().await;
    let names = ["web-1", "web-2"];
    let mut agents = Vec::new();
    for name in names {
        let papers = world.enrol(name).await;
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello(name)).await;
        let now = mainstay_collector::clock::wall_ms();
        agent.acked(vec![item(1, v1::item::Of::Finding(finding(5, "app.service", "open", now)))]).await;
        agents.push((agent, papers));
    }
    let ops = world.operator("ops", "viewer").await;
    let queries = world.queries(&ops).await;
    let open = until("an incident", || {
        let mut queries = queries.clone();
        async move {
            let answer = queries.list_incidents(v1::ListIncidentsRequest::default()).await.unwrap().into_inner();
            answer.incidents.into_iter().next()
        }
    })
    .await;
    assert_eq!((open.members.len(), open.hosts, open.state.as_str()), (2, 2, "open"));
    assert!(open.evidence.iter().any(|e| e.contains("role=web")), "{:?}", open.evidence);
    let findings =
        queries.clone().list_findings(v1::ListFindingsRequest::default()).await.unwrap().into_inner().findings;
    assert!(findings.iter().all(|f| f.incident == Some(open.id)), "{findings:?}");

    world.restart().await;
    for (at, (_, papers)) in agents.iter().enumerate() {
        let (mut agent, _) = Agent::open(&world.address(), papers, hello(names[at])).await;
        let cleared = finding(5, "app.service", "cleared", mainstay_collector::clock::wall_ms());
        agent.acked(vec![item(2, v1::item::Of::Finding(cleared))]).await;
    }
    let mut queries = world.queries(&ops).await;
    let id = format!("i-{:016x}", open.id);
    let told = until("the incident to clear", || {
        let (mut queries, id) = (queries.clone(), id.clone());
        async move {
            let told =
                queries.get_incident(v1::GetIncidentRequest { id }).await.unwrap().into_inner().incident.unwrap();
            (told.state == "cleared").then_some(told)
        }
    })
    .await;
    assert_eq!(told.members.len(), 2);
    let none = queries.list_incidents(v1::ListIncidentsRequest::default()).await.unwrap().into_inner().incidents;
    assert_eq!(none.len(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_gone_quiet_is_silent_and_one_that_said_goodbye_is_away() {
    let world = World::start_with(|settings| settings.silent_after = std::time::Duration::from_millis(300)).await;
    let quiet = world.enrol("web-1").await;
    let polite = world.enrol("web-2").await;
    let (first, _) = Agent::open(&world.address(), &quiet, hello("web-1")).await;
    let (mut second, _) = Agent::open(&world.address(), &polite, hello("web-2")).await;
    second.say(Say::Bye(v1::Bye { reason: "upgrade".to_owned(), back_within_ms: 60_000 })).await;
    let ops = world.operator("ops", "viewer").await;
    let queries = world.queries(&ops).await;
    let state = |hosts: &[v1::HostView], at: usize| hosts[at].state.clone();
    let hosts = || {
        let mut queries = queries.clone();
        async move { queries.list_hosts(v1::ListHostsRequest::default()).await.unwrap().into_inner().hosts }
    };
    // The stream is in order: what comes after the goodbye is answered when the goodbye is known.
    second.say(Say::Ping(v1::Ping::default())).await;
    while !matches!(second.hear().await, Some(mainstay_proto::v1::collector_message::Of::Pong(_))) {}
    drop((first, second));
    until("silence", || async {
        let hosts = hosts().await;
        (state(&hosts, 0) == "silent" && hosts[0].findings.iter().any(|f| f.kind == "host.silent")).then_some(())
    })
    .await;
    assert_eq!(state(&hosts().await, 1), "away");
    // Whatever is asked says so of those that it is about, by their names and labels.
    let now = mainstay_collector::clock::wall_ms();
    let stored = |host: &str| v1::QueryRangeRequest {
        name: "up".to_owned(),
        matchers: vec![v1::Matcher { label: "host".to_owned(), op: "=~".to_owned(), value: host.to_owned() }],
        from_ms: now - 60_000,
        to_ms: now,
        ..Default::default()
    };
    let promql = |promql: &str| v1::QueryRangeRequest { promql: promql.to_owned(), to_ms: now, ..Default::default() };
    let both = vec![("web-1", "silent"), ("web-2", "away")];
    for (request, expected) in [
        (stored("web-.*"), both.clone()),
        (stored("web-2"), both[1..].to_vec()),
        (stored("db.*"), vec![]),
        (promql("sum(up) or sum(down)"), both.clone()),
        (promql("up{host=\"web-1\"}"), both[..1].to_vec()),
        (promql("1"), vec![]),
    ] {
        let answer = queries.clone().query_range(request.clone()).await.unwrap().into_inner();
        let told =
            answer.hosts.iter().map(|host| (host.facts.as_ref().unwrap().hostname.as_str(), host.state.as_str()));
        assert_eq!(told.collect::<Vec<_>>(), expected, "{request:?}");
    }
    let answer = crate::promql::get(&world, "/api/v1/query?query=up%7Bhost%3D%22web-1%22%7D").await;
    let about = &answer["mainstay"];
    assert_eq!((&about["hosts_not_there"], &about["not_there"][0]["host"]), (&1.into(), &"web-1".into()), "{answer}");
    assert_eq!((&about["hosts_clock_off"], &about["clocks_off"]), (&0.into(), &serde_json::json!([])), "{answer}");
    for (path, hosts, not_there) in [
        ("label/host/values", 2, vec!["web-1", "web-2"]),
        ("labels?match[]=up%7Bhost%3D%22web-2%22%7D", 0, vec!["web-2"]),
        ("series?match[]=up%7Bhost%3D%22web-1%22%7D&match[]=up%7Bhost%3D%22db-1%22%7D", 0, vec!["web-1"]),
    ] {
        let answer = crate::promql::get(&world, &format!("/api/v1/{path}")).await;
        let about = &answer["mainstay"];
        let told: Vec<_> =
            about["not_there"].as_array().unwrap().iter().map(|host| host["host"].as_str().unwrap()).collect();
        assert_eq!((&about["hosts"], told), (&hosts.into(), not_there), "{path}: {answer}");
    }
    let (back, _) = Agent::open(&world.address(), &quiet, hello("web-1")).await;
    // A clock that is ahead is told beside answers as well.
    let off = until("its clock to be told", || async {
        back.say(Say::Ping(v1::Ping { wall_ms: mainstay_collector::clock::wall_ms() + 90_000 })).await;
        let answer = crate::promql::get(&world, "/api/v1/query?query=up%7Bhost%3D%22web-1%22%7D").await;
        let about = &answer["mainstay"];
        (about["hosts_clock_off"] == 1).then(|| about["clocks_off"][0].clone())
    })
    .await;
    assert_eq!(off["host"], "web-1");
    assert!((85_000..=90_000).contains(&off["offset_ms"].as_i64().unwrap()), "{off}");
    until("the finding to clear", || async {
        back.say(Say::Ping(v1::Ping { wall_ms: mainstay_collector::clock::wall_ms() })).await;
        hosts().await[0].findings.is_empty().then_some(())
    })
    .await;
    world.stop().await;
}

/// A minute around a finding.
fn recording(finding: u64) -> v1::FindingRecording {
    let at = (0..60).map(|n| Now { boot_ns: n * 1_000_000_000, wall_ms: *WALL + n.cast_signed() * 1_000 });
    let recording = Recording { at: at.collect(), ..Recording::default() };
    (&FindingRecording { finding: FindingId(finding), opened_ms: *WALL, recording }).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seconds_around_a_finding_are_kept_with_it_and_shown_with_its_decision_and_incident() {
    let mut world = World::start().await;
    let now = mainstay_collector::clock::wall_ms();
    let mut first = None;
    for (name, id) in [("web-1", 3), ("web-2", 4)] {
        let papers = world.enrol(name).await;
        let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello(name)).await;
        assert!(welcome.capabilities.iter().any(|one| one == "recordings"), "{welcome:?}");
        let mut of = vec![v1::item::Of::Finding(finding(id, "nginx.service", "open", now))];
        of.extend(repair(&mut Book::new(papers.host_id), 9 + id, id, now + id.cast_signed()));
        of.push(v1::item::Of::Recording(recording(id)));
        agent.acked((1..).zip(of).map(|(seq, of)| item(seq, of)).collect()).await;
        first.get_or_insert(papers);
    }
    world.restart().await;
    let ops = world.operator("ops", "viewer").await;
    let mut queries = world.queries(&ops).await;
    let explained = queries.explain(v1::ExplainRequest::default()).await.unwrap().into_inner();
    let kept = FindingRecording::try_from(explained.recording.unwrap()).unwrap();
    assert_eq!((kept.finding, kept.recording.at.len()), (FindingId(4), 60), "of the newest decision");
    let incidents = until("the incident", || {
        let mut queries = queries.clone();
        async move {
            let answer = queries.list_incidents(v1::ListIncidentsRequest::default()).await.unwrap().into_inner();
            Some(answer.incidents).filter(|incidents| !incidents.is_empty())
        }
    })
    .await;
    let id = mainstay_core::id::IncidentId(incidents[0].id).to_string();
    let incident = queries.get_incident(v1::GetIncidentRequest { id }).await.unwrap().into_inner();
    let other = if incidents[0].cause == 3 { 4 } else { 3 };
    assert_eq!(incident.recordings, [recording(incidents[0].cause), recording(other)], "the cause's first");

    let papers = first.unwrap();
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let long = v1::FindingRecording { columns: vec![0; 200 * 1024], ..recording(4) };
    agent.push(vec![item(7, v1::item::Of::Recording(long))]).await.map_or_else(
        || panic!("a refusal was expected"),
        |heard| assert!(matches!(&heard, Hear::Reject(why) if why.reason == "malformed"), "{heard:?}"),
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_before_an_action_is_shown_to_operators_and_counted_for_viewers() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, welcome) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    assert!(welcome.capabilities.iter().any(|one| one == "scenes"), "{welcome:?}");
    let mut book = Book::new(papers.host_id);
    let scene = |action: u64, wall_ms: i64| v1::Scene {
        action,
        decision: 9,
        unit: "nginx.service".to_owned(),
        at: Some(v1::Now { boot_ns: 1, wall_ms }),
        lines: vec![v1::SceneLine { text: "cannot go on".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let mut of = repair(&mut book, 9, 3, *WALL);
    of.extend([scene(2, *WALL + 2), scene(1, *WALL + 1)].map(v1::item::Of::Scene));
    agent.acked((1..).zip(of).map(|(seq, of)| item(seq, of)).collect()).await;
    let (vic, ops) = (world.operator("vic", "viewer").await, world.operator("ops", "operator").await);
    let (plain, whole) =
        (v1::ExplainRequest::default(), v1::ExplainRequest { evidence: true, ..v1::ExplainRequest::default() });
    let seen = world.queries(&vic).await.explain(plain).await.unwrap().into_inner();
    assert_eq!((seen.scenes_kept, seen.scenes.len()), (2, 0));
    let refused = world.queries(&vic).await.explain(whole.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let seen = world.queries(&ops).await.explain(whole).await.unwrap().into_inner();
    let order: Vec<u64> = seen.scenes.iter().map(|scene| scene.action).collect();
    assert_eq!(order, [1, 2], "in the order in which they were seen");
    assert_eq!(seen.scenes[0].lines[0].text, "cannot go on");
    let long = v1::Scene { notes: vec!["x".repeat(200 * 1024)], ..scene(3, *WALL) };
    let heard = agent.push(vec![item(7, v1::item::Of::Scene(long))]).await;
    assert!(matches!(&heard, Some(Hear::Reject(why)) if why.reason == "malformed"), "{heard:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_one_name_are_told_apart_by_their_ids() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for n in [1, 2] {
        let papers = world.enrol("web-1").await;
        let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
        let items = vec![item(1, v1::item::Of::Summary(summary(n, mainstay_collector::clock::wall_ms())))];
        agent.say(Say::Push(v1::Push { epoch: EPOCH, define: definitions(), items, ..Default::default() })).await;
        assert!(matches!(agent.hear().await, Some(Hear::Ack(_))));
        ids.push((n as f64, mainstay_core::id::HostId(papers.host_id).to_string()));
    }
    let ops = world.operator("ops", "viewer").await;
    let mut queries = world.queries(&ops).await;
    let now = mainstay_collector::clock::wall_ms();
    let name = "node_load1".to_owned();
    let range = v1::QueryRangeRequest { name, from_ms: now - 60_000, to_ms: now + 1_000, ..Default::default() };
    let answer = queries.query_range(range.clone()).await.unwrap().into_inner();
    let told = |series: &v1::SeriesPoints| {
        let id = series.key.as_ref()?.labels.iter().find(|label| label.name == "host_id")?.value.clone();
        Some((*series.values.first()?, id))
    };
    let mut found: Vec<_> = answer.series.iter().filter_map(told).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(found, ids);
    let only = v1::Matcher { label: "host_id".to_owned(), op: "=".to_owned(), value: ids[1].1.clone() };
    let one = queries.query_range(v1::QueryRangeRequest { matchers: vec![only], ..range }).await.unwrap().into_inner();
    assert_eq!(one.series.iter().filter_map(told).collect::<Vec<_>>(), ids[1..]);
    world.stop().await;
}
