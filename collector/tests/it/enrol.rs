//! Enrolment: a token works as often and as long as it says, and a refusal leaves nothing.

use mainstay_collector::clock;
use mainstay_collector::store::keys::HostKey;
use mainstay_collector::store::values::HostRow;
use mainstay_proto::v1;
use tonic::Code;

use crate::agent::{Agent, hello};
use crate::world::{Papers, World, channel, enrol_at, request, until};

fn hosts(world: &World) -> usize {
    world.collector.as_ref().unwrap().hub.store.scan_values::<HostKey, HostRow>(&HostKey::all()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_wrong_or_expired_token_is_refused_and_leaves_nothing() {
    let world = World::start().await;
    let once = world.token(1, 60_000).await;
    enrol_at(&world.address(), &world.ca(), &once.secret, "web-1").await.unwrap();
    let expired = world.token(1, 1).await;
    until("the end of the token", || async { (clock::wall_ms() > expired.expires_ms).then_some(()) }).await;
    let before = hosts(&world);
    for (secret, said) in [
        (once.secret.as_str(), "is spent: it was for 1 host,"),
        ("0000", "unknown"),
        (expired.secret.as_str(), "has expired"),
    ] {
        let refused = enrol_at(&world.address(), &world.ca(), secret, "web-2").await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains(said), "{said}: {}", refused.message());
        assert!(!refused.message().contains(secret) || secret == "0000", "the secret is shown");
    }
    assert_eq!(hosts(&world), before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_taken_one_by_one_even_when_many_come_at_once() {
    let world = World::start().await;
    let token = world.token(3, 60_000).await;
    let tries = (0..8).map(|n| {
        let (address, ca, secret) = (world.address(), world.ca(), token.secret.clone());
        tokio::spawn(async move { enrol_at(&address, &ca, &secret, &format!("web-{n}")).await.is_ok() })
    });
    let mut enrolled = 0;
    for attempt in tries.collect::<Vec<_>>() {
        enrolled += usize::from(attempt.await.unwrap());
    }
    assert_eq!((enrolled, hosts(&world)), (3, 3));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_only_enrol_works() {
    let world = World::start().await;
    let channel = channel(&world.address(), &world.ca(), None).await.unwrap();
    let mut queries = mainstay_proto::v1::query_service_client::QueryServiceClient::new(channel.clone());
    let refused = queries.list_hosts(v1::ListHostsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("mainstay operator create"), "{}", refused.message());
    let mut agents = mainstay_proto::v1::agent_service_client::AgentServiceClient::new(channel);
    let refused = agents.session(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca_is_no_identity() {
    let world = World::start().await;
    let other = World::start().await;
    let stranger = other.enrol("web-1").await;
    let papers = Papers { ca: world.ca(), ..stranger };
    let mut refused = false;
    if let Ok(channel) = channel(&world.address(), &papers.ca, Some(&papers)).await {
        // TLS 1.3 tells the client of a refused certificate only after it has sent something.
        let mut agents = mainstay_proto::v1::agent_service_client::AgentServiceClient::new(channel);
        refused |= agents.session(tokio_stream::empty()).await.is_err();
    } else {
        refused = true;
    }
    assert!(refused);
    world.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolled_host_gets_the_tokens_labels_and_renews_its_certificate() {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let ops = world.operator("ops", "viewer").await;
    let hosts = world.queries(&ops).await.list_hosts(v1::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(hosts[0].facts.as_ref().unwrap().labels[0].value, "web");
    assert_eq!(hosts[0].state, "online");
    drop(agent);
    let channel = channel(&world.address(), &papers.ca, Some(&papers)).await.unwrap();
    let (key, csr) = request();
    let mut agents = mainstay_proto::v1::agent_service_client::AgentServiceClient::new(channel);
    let renewed = agents.renew(v1::RenewRequest { csr }).await.unwrap().into_inner();
    let papers = Papers { certificate: renewed.certificate, key: key.serialize_pem(), ..papers };
    Agent::open(&world.address(), &papers, hello("web-1")).await;
    world.stop().await;
}
