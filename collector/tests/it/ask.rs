//! Asking a host over its session: who may, whom, and what is said where it cannot be.

use std::time::Duration;

use mainstay_core::host_query::{HostQuery, LogsQuery, ModelsQuery};
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;
use mainstay_proto::v1::host_reply::What;
use tonic::Code;

use crate::agent::{Agent, hello};
use crate::world::{World, until};

fn models() -> HostQuery {
    HostQuery::Models(ModelsQuery::default())
}

fn ask(host: &str) -> v1::AskHostRequest {
    let query = v1::HostQuery { id: 0, what: Some((&models()).into()) };
    v1::AskHostRequest { host: host.to_owned(), query: Some(query) }
}

/// Hello of an agent that can be asked.
fn able(hostname: &str) -> v1::Hello {
    v1::Hello { capabilities: vec!["zstd".to_owned(), models().capability()], ..hello(hostname) }
}

fn reply(id: u64, matching: u32) -> Say {
    Say::Reply(v1::HostReply { id, what: Some(What::Models(v1::ModelsReply { matching, ..Default::default() })) })
}

async fn question(agent: &mut Agent) -> v1::HostQuery {
    match agent.hear().await {
        Some(Hear::Query(query)) => query,
        other => panic!("a question was expected, not {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_asked_and_its_answer_comes_back_and_is_recorded() {
    let world = World::start().await;
    let vic = world.operator("vic", "viewer").await;
    let (one, two) = (world.enrol("web-1").await, world.enrol("web-2").await);
    let (mut agent, _) = Agent::open(&world.address(), &one, able("web-1")).await;
    let (other, _) = Agent::open(&world.address(), &two, able("web-2")).await;
    let mut commands = world.commands(&vic).await;
    let asked = tokio::spawn({
        let mut commands = commands.clone();
        async move { commands.ask_host(ask("web-1")).await }
    });
    let query = question(&mut agent).await;
    assert!(matches!(query.what, Some(v1::host_query::What::Models(_))), "{query:?}");
    // Another host cannot answer in its place, nor an answer to nothing do harm.
    other.say(reply(query.id, 666)).await;
    agent.say(reply(query.id ^ 1, 667)).await;
    agent.say(reply(query.id, 41)).await;
    agent.say(reply(query.id, 668)).await;
    let answer = asked.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.hostname.as_str(), &answer.host_id[..]), ("web-1", &one.host_id[..]));
    let Some(What::Models(models)) = answer.reply.unwrap().what else { panic!("models were asked for") };
    assert_eq!(models.matching, 41);

    let asked = tokio::spawn({
        let mut commands = commands.clone();
        async move { commands.ask_host(ask("web-1")).await }
    });
    let query = question(&mut agent).await;
    let error = Some(What::Error("nothing is known yet".to_owned()));
    agent.say(Say::Reply(v1::HostReply { id: query.id, what: error })).await;
    let said = asked.await.unwrap().unwrap_err();
    assert_eq!((said.code(), said.message()), (Code::FailedPrecondition, "web-1: nothing is known yet"));

    let unknown = v1::AskHostRequest { query: Some(v1::HostQuery::default()), ..ask("web-1") };
    assert_eq!(commands.ask_host(unknown).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(commands.ask_host(ask("web-9")).await.unwrap_err().code(), Code::NotFound);
    let nobody = world.commands(&one).await.ask_host(ask("web-1")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::PermissionDenied, "a host is no operator");

    let request = v1::ListCommandsRequest { limit: 0 };
    let recorded = world.queries(&vic).await.list_commands(request).await.unwrap().into_inner().commands;
    // Those of one millisecond come in no particular order.
    let mut told: Vec<_> = recorded.iter().filter(|c| c.operator == "vic").map(|c| (&*c.command, &*c.result)).collect();
    told.sort_unstable();
    let nothing = "refused: web-1: nothing is known yet";
    let no_host = "refused: no host is called web-9; `mainstay hosts` lists them";
    let all = [("host models web-1", "answered"), ("host models web-1", nothing), ("host models web-9", no_host)];
    assert_eq!(told, all);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_cannot_be_asked_is_said_to_be_so_at_once() {
    let world = World::start_with(|settings| settings.silent_after = Duration::from_millis(300)).await;
    let vic = world.operator("vic", "viewer").await;
    let papers = world.enrol("web-1").await;
    let mut commands = world.commands(&vic).await;

    let old = v1::HostFacts { agent_version: "0.0.9".to_owned(), ..hello("web-1").facts.unwrap() };
    let (agent, _) = Agent::open(&world.address(), &papers, v1::Hello { facts: Some(old), ..hello("web-1") }).await;
    let refused = commands.ask_host(ask("web-1")).await.unwrap_err();
    let said = "web-1 runs mainstay-agent 0.0.9, which cannot be asked for its models; upgrade it";
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, said));

    drop(agent);
    let (mut agent, _) = Agent::open(&world.address(), &papers, able("web-1")).await;
    let asked = tokio::spawn({
        let mut commands = commands.clone();
        async move { commands.ask_host(ask("web-1")).await }
    });
    question(&mut agent).await;
    drop(agent);
    let ended = asked.await.unwrap().unwrap_err();
    assert!(ended.message().contains("the session with web-1 ended before it answered"), "{}", ended.message());

    let silent = until("the host to be silent", || {
        let mut commands = commands.clone();
        async move {
            let refused = commands.ask_host(ask("web-1")).await.unwrap_err();
            refused.message().starts_with("web-1 is silent since ").then_some(refused)
        }
    })
    .await;
    assert_eq!(silent.code(), Code::Unavailable);
    assert!(silent.message().ends_with("s: it cannot be asked"), "{}", silent.message());

    let (mut agent, _) = Agent::open(&world.address(), &papers, able("web-1")).await;
    agent.say(Say::Bye(v1::Bye { reason: "stopping".to_owned(), back_within_ms: 60_000 })).await;
    agent.say(Say::Ping(v1::Ping::default())).await;
    assert!(matches!(agent.hear().await, Some(Hear::Pong(_))), "the goodbye is taken before the ping is answered");
    drop(agent);
    until("the host to be away", || {
        let mut commands = commands.clone();
        async move {
            let refused = commands.ask_host(ask("web-1")).await.unwrap_err();
            refused.message().starts_with("web-1 said goodbye ").then_some(())
        }
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_wait_are_bounded_by_host() {
    let world = World::start().await;
    let vic = world.operator("vic", "viewer").await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, able("web-1")).await;
    let mut commands = world.commands(&vic).await;
    let mut waiting = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..8 {
        let mut commands = commands.clone();
        waiting.push(tokio::spawn(async move { commands.ask_host(ask("web-1")).await }));
        ids.push(question(&mut agent).await.id);
    }
    let refused = commands.ask_host(ask("web-1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("8 questions to web-1"), "{}", refused.message());
    for (n, id) in (0..).zip(&ids) {
        agent.say(reply(*id, n)).await;
    }
    for (n, asked) in (0..).zip(waiting) {
        let Some(What::Models(models)) = asked.await.unwrap().unwrap().into_inner().reply.unwrap().what else {
            panic!("models were asked for")
        };
        assert_eq!(models.matching, n, "each answer goes to who asked");
    }
    let again = tokio::spawn(async move { commands.ask_host(ask("web-1")).await });
    let id = question(&mut agent).await.id;
    agent.say(reply(id, 9)).await;
    assert!(again.await.unwrap().is_ok(), "and there is room again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_the_journal_take_the_role_operator_and_whoever_read_them_is_recorded() {
    let world = World::start().await;
    let (vic, ann) = (world.operator("vic", "viewer").await, world.operator("ann", "operator").await);
    let papers = world.enrol("web-1").await;
    let logs = HostQuery::Logs(LogsQuery::default());
    let capable = v1::Hello { capabilities: vec![logs.capability()], ..hello("web-1") };
    let (mut agent, _) = Agent::open(&world.address(), &papers, capable).await;
    let ask = || {
        let query = v1::HostQuery { id: 0, what: Some((&logs).into()) };
        v1::AskHostRequest { host: "web-1".to_owned(), query: Some(query) }
    };
    let refused = world.commands(&vic).await.ask_host(ask()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{}", refused.message());
    let asked = tokio::spawn({
        let (mut commands, ask) = (world.commands(&ann).await, ask());
        async move { commands.ask_host(ask).await }
    });
    let id = question(&mut agent).await.id;
    let line = v1::LogLine { text: "cannot go on".to_owned(), ..Default::default() };
    let said = v1::LogsReply { lines: vec![line.clone()], has_more: false };
    agent.say(Say::Reply(v1::HostReply { id, what: Some(What::Logs(said)) })).await;
    let Some(What::Logs(logs)) = asked.await.unwrap().unwrap().into_inner().reply.unwrap().what else {
        panic!("lines were asked for")
    };
    assert_eq!(logs.lines, [line]);
    let request = v1::ListCommandsRequest { limit: 0 };
    let recorded = world.queries(&vic).await.list_commands(request).await.unwrap().into_inner().commands;
    let by = |name: &str| recorded.iter().filter(|c| c.operator == name).map(|c| &*c.command).collect::<Vec<_>>();
    assert_eq!(by("ann"), ["host logs web-1"]);
    assert!(recorded.iter().all(|c| !c.result.contains("cannot go on")), "nothing of them is kept: {recorded:?}");
    world.stop().await;
}
