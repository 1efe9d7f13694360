//! Operators: roles, records of what they ordered, policies and orders on their way to hosts.

use ed25519_dalek::SigningKey;
use mainstay_core::id::{ActionId, HostId};
use mainstay_core::policy::bundle::Bundle;
use mainstay_core::policy::order::{HoldScope, Order};
use mainstay_core::policy::signed::Signed;
use mainstay_core::record::Author;
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;
use tonic::Code;

use crate::agent::{Agent, hello};
use crate::world::World;

const FOREVER: i64 = i64::MAX / 2;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn wire(signed: Signed) -> v1::Signed {
    v1::Signed { bytes: signed.bytes, key_id: signed.key_id.0.to_vec(), signature: signed.signature.to_vec() }
}

async fn fleet_id(world: &World, ops: &crate::world::Papers) -> [u8; 16] {
    let request = v1::GetPolicyRequest { generation: 0 };
    world.queries(ops).await.get_policy(request).await.unwrap().into_inner().fleet_id.try_into().unwrap()
}

fn bundle(fleet_id: [u8; 16], generation: u64, not_after_ms: i64) -> v1::PushPolicyRequest {
    let bundle = Bundle { fleet_id, generation, prev_hash: [0; 32], not_after_ms, files: Vec::new() };
    v1::PushPolicyRequest { policy: Some(wire(bundle.sign(&key()))) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_orders_what_it_may_and_every_order_is_recorded() {
    let world = World::start().await;
    let viewer = world.operator("vic", "viewer").await;
    let admin = world.operator("ann", "admin").await;
    let request = v1::CreateTokenRequest { uses: 1, ttl_ms: 1_000, labels: Vec::new() };
    let refused = world.commands(&viewer).await.create_token(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("needs the role admin, vic has the role viewer"), "{}", refused.message());
    world.commands(&admin).await.create_token(request).await.unwrap();
    let nobody = v1::RevokeHostRequest { host: "web-9".to_owned() };
    let refused = world.commands(&admin).await.revoke_host(nobody).await.unwrap_err();
    assert!(refused.message().contains("`mainstay hosts` lists them"), "{}", refused.message());
    let recorded =
        world.queries(&viewer).await.list_commands(v1::ListCommandsRequest { limit: 0 }).await.unwrap().into_inner();
    let told: Vec<_> = recorded
        .commands
        .iter()
        .map(|c| (c.operator.as_str(), c.command.as_str(), c.result.starts_with("refused")))
        .collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(told[0], ("ann", "host revoke web-9", true));
    assert_eq!(told[1], ("ann", "token create --uses 1", false));
    assert_eq!(told[2], ("vic", "token create --uses 1", true));
    // Both may fall into one millisecond.
    assert!(told[3].1.starts_with("operator create ann"), "{told:?}");
    assert!(told[4].1.starts_with("operator create vic"), "{told:?}");
    let host = world.enrol("web-1").await;
    let refused = world.queries(&host).await.list_hosts(v1::ListHostsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "a host is no operator");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_goes_to_hosts_that_have_another_and_only_newer_ones_are_taken() {
    let mut world = World::start().await;
    let ann = world.operator("ann", "admin").await;
    let fleet = fleet_id(&world, &ann).await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let mut commands = world.commands(&ann).await;
    let pushed = commands.push_policy(bundle(fleet, 2, FOREVER)).await.unwrap().into_inner();
    assert_eq!((pushed.generation, pushed.hosts, pushed.connected), (2, 1, 1));
    let Some(Hear::PolicyOffer(offer)) = agent.hear().await else { panic!("the policy is offered") };
    assert_eq!(Bundle::decode(&offer.bytes).unwrap().generation, 2);
    for (request, said) in [
        (bundle(fleet, 2, FOREVER), "got 2, have 2"),
        (bundle(fleet, 1, FOREVER), "got 1, have 2"),
        (bundle([9; 16], 3, FOREVER), "another fleet"),
        (bundle(fleet, 3, 5), "expired"),
        (
            v1::PushPolicyRequest {
                policy: Some(v1::Signed { bytes: vec![1], key_id: vec![0; 8], signature: vec![0; 64] }),
            },
            "cannot be read",
        ),
    ] {
        let refused = commands.push_policy(request).await.unwrap_err();
        assert!(refused.message().contains(said), "{said}: {}", refused.message());
    }
    let status = |generation, refused: Option<&str>| v1::PolicyStatus {
        effective: Some(v1::PolicyRef { generation, hash: vec![1; 32] }),
        refused: refused.map(str::to_owned),
        ..Default::default()
    };
    agent.say(Say::Policy(status(1, Some("web.toml:3:1: unknown key `x`")))).await;
    agent.say(Say::Ping(v1::Ping::default())).await;
    assert!(matches!(agent.hear().await, Some(Hear::Pong(_))), "the status is taken before the ping is answered");
    let told = world.queries(&ann).await.policy_status(v1::PolicyStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((told.generation, told.pushed_by.as_str()), (2, "ann"));
    assert_eq!(told.hosts[0].status.as_ref().unwrap().refused.as_deref(), Some("web.toml:3:1: unknown key `x`"));
    drop(agent);
    world.restart().await;
    let (mut agent, _) =
        Agent::open(&world.address(), &papers, v1::Hello { policy: Some(status(1, None)), ..hello("web-1") }).await;
    assert!(matches!(agent.hear().await, Some(Hear::PolicyOffer(_))), "one that is behind is offered it again");
    let (mut agent, _) =
        Agent::open(&world.address(), &papers, v1::Hello { policy: Some(status(2, None)), ..hello("web-1") }).await;
    agent.say(Say::Ping(v1::Ping::default())).await;
    assert!(matches!(agent.hear().await, Some(Hear::Pong(_))), "one that has it is left alone");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_waits_for_its_host_and_its_answer_comes_back() {
    let world = World::start().await;
    let ann = world.operator("ann", "operator").await;
    let papers = world.enrol("web-1").await;
    let by = Author { name: "ann".to_owned(), reason: "mistake".to_owned() };
    let host = HostId(papers.host_id);
    let undo = Order::Undo { host, action: ActionId(3), not_after_ms: FOREVER, by: by.clone() };
    let submit = |order: &Order, host: &str| v1::SubmitRequest {
        kind: order.kind().to_owned(),
        signed: Some(wire(order.sign(&key()))),
        host: host.to_owned(),
    };
    let mut commands = world.commands(&ann).await;
    let away = commands.submit(submit(&undo, "web-1")).await.unwrap().into_inner();
    assert_eq!((away.hosts, away.connected, away.done), (1, 0, false));
    assert!(away.text.contains("not connected"), "{}", away.text);
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let Some(Hear::Order(order)) = agent.hear().await else { panic!("the order waited") };
    agent.say(Say::Result(v1::CommandResult { id: order.id, done: true, text: "restored 3 files".to_owned() })).await;

    let waiting = tokio::spawn({
        let (mut commands, request) = (commands.clone(), submit(&undo, ""));
        async move { commands.submit(request).await }
    });
    let Some(Hear::Order(order)) = agent.hear().await else { panic!("the order comes") };
    agent.say(Say::Result(v1::CommandResult { id: order.id, done: false, text: "already undone".to_owned() })).await;
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.done, answer.text.as_str()), (false, "already undone"));

    let hold = Order::Hold { scope: HoldScope::Fleet, until_ms: Some(FOREVER), held: true, not_after_ms: FOREVER, by };
    let ordered = tokio::spawn({
        let (mut commands, request) = (commands.clone(), submit(&hold, ""));
        async move { commands.submit(request).await }
    });
    let Some(Hear::Order(order)) = agent.hear().await else { panic!("the hold comes") };
    agent.say(Say::Result(v1::CommandResult { id: order.id, done: true, text: "held".to_owned() })).await;
    assert!(ordered.await.unwrap().unwrap().into_inner().done);
    let holds = world.queries(&ann).await.list_holds(v1::ListHoldsRequest {}).await.unwrap().into_inner().holds;
    assert_eq!((holds[0].scope.as_str(), holds[0].by.as_ref().unwrap().reason.as_str()), ("fleet", "mistake"));
    let (mut again, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    again.say(Say::Ping(v1::Ping::default())).await;
    assert!(matches!(again.hear().await, Some(Hear::Pong(_))), "what was answered does not come again");

    let wrong = v1::SubmitRequest { kind: "hold".to_owned(), ..submit(&undo, "") };
    let refused = commands.submit(wrong).await.unwrap_err();
    assert!(refused.message().contains("a signed undo was submitted as hold"), "{}", refused.message());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_host_is_put_out_and_stays_out() {
    let world = World::start().await;
    let ann = world.operator("ann", "admin").await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    world.commands(&ann).await.revoke_host(v1::RevokeHostRequest { host: "web-1".to_owned() }).await.unwrap();
    assert_eq!(agent.rejected().await.reason, "revoked");
    let mut agent = Agent::connect(&world.address(), &papers).await.unwrap();
    agent.say(Say::Hello(hello("web-1"))).await;
    assert_eq!(agent.rejected().await.reason, "revoked");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_health_are_told_on_loopback() {
    let world = World::start().await;
    let http = world.collector.as_ref().unwrap().http;
    let get = |path: &'static str| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    world.enrol("web-1").await;
    let metrics = get("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    for line in ["mainstay_collector_hosts 1", "mainstay_collector_enrolled_total 1", "mainstay_collector_sessions 0"] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    assert!(get("/-/ready").await.contains("is ready"));
    assert!(get("/nothing").await.starts_with("HTTP/1.1 404"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_only_opened_hold_no_stop_up() {
    let world = World::start().await;
    let admin = tokio::net::UnixStream::connect(world.socket()).await.unwrap();
    let tcp = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    // Both are taken before it stops: one that comes later is.
    world.operator("ann", "admin").await;
    let began = std::time::Instant::now();
    world.stop().await;
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    drop((admin, tcp));
}
