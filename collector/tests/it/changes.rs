//! Changes of hosts and marks of deployments: taken, listed, shown with incidents, and kept within bounds.

use mainstay_collector::clock::wall_ms;
use mainstay_proto::v1;
use mainstay_proto::v1::item::Of;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::agent::{Agent, finding, hello, item};
use crate::world::{Papers, World, until};

fn change(kind: &str, subject: &str, at_ms: i64) -> v1::Change {
    let (kind, subject) = (kind.to_owned(), subject.to_owned());
    let after = Some("1.2".to_owned());
    v1::Change { at_ms, seen_ms: at_ms, kind, subject, after, ..v1::Change::default() }
}

async fn listed(world: &World, ops: &Papers, request: v1::ListChangesRequest) -> Vec<(String, String, String)> {
    let answer = world.queries(ops).await.list_changes(request).await.unwrap().into_inner();
    let row = |view: v1::ChangeView| {
        let change = view.change.unwrap_or_default();
        (view.hostname, change.kind, change.subject)
    };
    answer.changes.into_iter().map(row).collect()
}

fn rows(rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    rows.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

fn of(host: &str) -> Option<v1::Selector> {
    Some(v1::Selector { host: host.to_owned(), labels: Vec::new() })
}

fn deploy(name: &str, selector: Option<v1::Selector>, at_ms: i64) -> v1::MarkEventRequest {
    let (kind, name) = ("deploy".to_owned(), name.to_owned());
    v1::MarkEventRequest { kind, name, selector, text: "commit 1a2b".to_owned(), at_ms }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_listed_newest_first_by_host_and_kind_and_outlive_the_collector() {
    let mut world = World::start().await;
    let ops = world.operator("ann", "operator").await;
    let now = wall_ms();
    let (one, two) = (world.enrol("web-1").await, world.enrol("web-2").await);
    let (mut first, welcome) = Agent::open(&world.address(), &one, hello("web-1")).await;
    assert!(welcome.capabilities.iter().any(|one| one == "changes"), "{welcome:?}");
    let upgraded = change("package.upgraded", "nginx", now - 50_000);
    first
        .acked(vec![
            item(1, Of::Change(upgraded.clone())),
            item(2, Of::Change(change("file.changed", "/etc/a", now - 10_000))),
        ])
        .await;
    // Told again, as after a crash of its agent: it is the same one.
    first.acked(vec![item(3, Of::Change(upgraded))]).await;
    let (mut second, _) = Agent::open(&world.address(), &two, hello("web-2")).await;
    second.acked(vec![item(1, Of::Change(change("unit.restarted", "app.service", now + 900_000_000)))]).await;
    drop((first, second));
    world.restart().await;

    let all = |selector, kind: &str| {
        let search = Some(v1::Search { kind: kind.to_owned(), ..Default::default() });
        v1::ListChangesRequest { selector, search, limit: 0 }
    };
    let want = rows(&[
        ("web-2", "unit.restarted", "app.service"),
        ("web-1", "file.changed", "/etc/a"),
        ("web-1", "package.upgraded", "nginx"),
    ]);
    assert_eq!(listed(&world, &ops, all(None, "")).await, want);
    assert_eq!(listed(&world, &ops, all(of("web-1"), "")).await, want[1..]);
    assert_eq!(listed(&world, &ops, all(None, "package")).await, want[2..]);
    let search = Some(v1::Search { since_ms: now - 30_000, until_ms: now - 1, ..Default::default() });
    let since = v1::ListChangesRequest { search, ..Default::default() };
    assert_eq!(listed(&world, &ops, since).await, want[1..2]);
    let answer = world.queries(&ops).await.list_changes(v1::ListChangesRequest { limit: 2, ..all(None, "") }).await;
    let answer = answer.unwrap().into_inner();
    assert!(answer.truncated && answer.changes.len() == 2);
    let newest = answer.changes[0].change.clone().unwrap();
    assert!(newest.at_ms <= wall_ms(), "nothing was changed in a time to come: {newest:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_no_agent_would_send_ends_the_session() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let long = change("file.changed", &"x".repeat(2_000), wall_ms());
    agent
        .say(v1::agent_message::Of::Push(v1::Push {
            epoch: crate::agent::EPOCH,
            items: vec![item(1, Of::Change(long))],
            ..Default::default()
        }))
        .await;
    let reject = agent.rejected().await;
    assert!(reject.reason == "malformed" && reject.text.contains("2000 bytes"), "{reject:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_shows_among_the_changes_of_the_hosts_that_it_meant_and_with_incidents_that_follow() {
    let world = World::start().await;
    let (ops, viewer) = (world.operator("ann", "operator").await, world.operator("vic", "viewer").await);
    let now = wall_ms();
    let (one, two) = (world.enrol("web-1").await, world.enrol("web-2").await);
    let (mut agent, _) = Agent::open(&world.address(), &one, hello("web-1")).await;
    let (mut second, _) = Agent::open(&world.address(), &two, hello("web-2")).await;
    let early = change("package.upgraded", "long-ago", now - 9_000_000);
    agent
        .acked(vec![item(1, Of::Change(early)), item(2, Of::Change(change("file.changed", "/etc/a", now - 5_000)))])
        .await;

    let refused = world.commands(&viewer).await.mark_event(deploy("shop 1.42", of("web-1"), 0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for (wrong, code) in [
        (deploy("", of("web-1"), 0), Code::InvalidArgument),
        (deploy("a\nb", of("web-1"), 0), Code::InvalidArgument),
        (deploy("x", of("web-9"), 0), Code::NotFound),
        (deploy("x", of("web-1"), now + 99_000_000), Code::InvalidArgument),
    ] {
        assert_eq!(world.commands(&ops).await.mark_event(wrong).await.unwrap_err().code(), code);
    }
    let marked = world.commands(&ops).await.mark_event(deploy("shop 1.42", of("web-1"), now - 2_000)).await;
    assert_eq!(marked.unwrap().into_inner(), v1::MarkEventResponse { hosts: 1, at_ms: now - 2_000 });
    let label = v1::Label { name: "role".to_owned(), value: "web".to_owned() };
    let role = Some(v1::Selector { labels: vec![label], host: String::new() });
    let marked = world.commands(&ops).await.mark_event(deploy("agent 2", role, now - 1_000)).await;
    assert_eq!(marked.unwrap().into_inner().hosts, 2);

    let all = |selector| v1::ListChangesRequest { selector, ..Default::default() };
    let subjects = |rows: Vec<(String, String, String)>| rows.into_iter().map(|row| row.2).collect::<Vec<_>>();
    assert_eq!(subjects(listed(&world, &ops, all(of("web-2"))).await), ["agent 2"]);
    let of_one = subjects(listed(&world, &ops, all(of("web-1"))).await);
    assert_eq!(of_one, ["agent 2", "shop 1.42", "/etc/a", "long-ago"]);

    // Two hosts alike fail alike.
    agent.acked(vec![item(3, Of::Finding(finding(7, "app.service", "open", now)))]).await;
    second.acked(vec![item(1, Of::Finding(finding(7, "app.service", "open", now)))]).await;
    let incidents = || async {
        let request = v1::ListIncidentsRequest::default();
        let found = world.queries(&ops).await.list_incidents(request).await.unwrap().into_inner().incidents;
        found.into_iter().next()
    };
    let incident = until("the incident", incidents).await;
    let request = v1::GetIncidentRequest { id: format!("i-{:016x}", incident.id) };
    let shown = world.queries(&ops).await.get_incident(request).await.unwrap().into_inner();
    let before: Vec<String> = shown.changes.iter().map(|view| view.change.clone().unwrap().subject).collect();
    assert_eq!(before, ["agent 2", "shop 1.42", "/etc/a"], "what is older than an hour is not shown");

    let recorded = world.queries(&ops).await.list_commands(v1::ListCommandsRequest { limit: 0 }).await.unwrap();
    let recorded = recorded.into_inner().commands;
    assert!(recorded.iter().any(|c| c.command == "event deploy shop 1.42" && c.operator == "ann"), "{recorded:?}");
    world.stop().await;
}

/// What the hook answers to a body: the status line and the text.
async fn posted(world: &World, token: Option<&str>, body: &str) -> String {
    let address = world.collector.as_ref().unwrap().http;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let request = format!(
        "POST /hooks/deploy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_marks_its_deployments_with_its_token_and_can_do_nothing_else() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let closed = World::start().await;
    assert!(posted(&closed, Some(TOKEN), "{}").await.starts_with("HTTP/1.1 404"));
    closed.stop().await;

    let world = World::start_with(|settings| settings.deploy_token = Some(mainstay_collector::hook::hash(TOKEN))).await;
    let ops = world.operator("ann", "operator").await;
    world.enrol("web-1").await;
    let body = r#"{"name": "shop 1.42", "host": "web-1", "by": "pipeline 7", "text": "commit 1a2b"}"#;
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(17_000));
    for (token, body, status) in [
        (None, body, "401"),
        (Some("0123456789abcdef0123456789abcdee"), body, "401"),
        (Some(TOKEN), "{\"nam\": 1}", "400"),
        (Some(TOKEN), r#"{"name": "x", "host": "web-9"}"#, "404"),
        (Some(TOKEN), long.as_str(), "413"),
    ] {
        let answer = posted(&world, token, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    let answer = posted(&world, Some(TOKEN), body).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("marked on 1 host\n"), "{answer}");
    let search = Some(v1::Search { kind: "deploy".to_owned(), ..Default::default() });
    let request = v1::ListChangesRequest { search, ..Default::default() };
    let marks = world.queries(&ops).await.list_changes(request).await.unwrap().into_inner().changes;
    assert_eq!(marks.len(), 1, "{marks:?}");
    let mark = marks[0].change.clone().unwrap();
    assert_eq!(
        (mark.by.as_deref(), mark.text.as_str(), mark.subject.as_str()),
        (Some("pipeline 7"), "commit 1a2b", "shop 1.42")
    );
    let recorded = world.queries(&ops).await.list_commands(v1::ListCommandsRequest { limit: 0 }).await.unwrap();
    let recorded = recorded.into_inner().commands;
    assert!(recorded.iter().any(|c| c.operator == "deploy-hook@local" && c.command == "event deploy shop 1.42"));
    world.stop().await;
}
