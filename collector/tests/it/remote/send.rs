//! The sender: what agents report reaches a target once and in order, whatever the target says at first.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_collector::clock::wall_ms;
use mainstay_collector::config::Settings;
use mainstay_collector::remote::message::WriteRequest;
use mainstay_collector::remote::target::{Headers, RemoteWrite};
use mainstay_collector::store::keys::RemoteKey;
use mainstay_collector::store::values::SentRow;
use mainstay_proto::v1;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::agent::{Agent, definitions, hello, item, summary};
use crate::room::get;
use crate::world::{Papers, World, until};

/// What a target has taken: by labels the samples, in the order in which they came.
type Taken = BTreeMap<String, Vec<(i64, f64)>>;

/// A target that answers as it is told, then 204.
#[derive(Clone, Default)]
struct Target {
    taken: Arc<Mutex<Taken>>,
    answers: Arc<Mutex<Vec<u16>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Target {
    async fn listen(answers: &[u16]) -> (Self, SocketAddr) {
        Self::behind(answers, None).await
    }

    async fn behind(answers: &[u16], tls: Option<TlsAcceptor>) -> (Self, SocketAddr) {
        let target = Self { answers: Arc::new(Mutex::new(answers.to_vec())), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let of = target.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => of.serve(stream),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => of.serve(stream),
                        // Who does not believe the certificate goes away.
                        Err(_) => continue,
                    },
                }
            }
        });
        (target, at)
    }

    fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let of = self.clone();
        let answer = service_fn(move |request| {
            let of = of.clone();
            async move { Ok::<_, Infallible>(of.answer(request).await) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        self.heads.lock().unwrap().push(format!("{} {:?}", request.uri(), request.headers()));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let status = {
            let mut answers = self.answers.lock().unwrap();
            if answers.is_empty() { 204 } else { answers.remove(0) }
        };
        if status == 204 {
            let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            let mut taken = self.taken.lock().unwrap();
            for series in WriteRequest::decode(plain.as_slice()).unwrap().timeseries {
                let labels: Vec<String> = series.labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect();
                assert!(labels.is_sorted(), "{labels:?}");
                let samples = series.samples.iter().map(|sample| (sample.timestamp, sample.value));
                taken.entry(labels.join(" ")).or_default().extend(samples);
            }
        }
        hyper::Response::builder().status(status).body(Full::new(Bytes::from_static(b"said\n"))).unwrap()
    }

    fn of(&self, name: &str) -> Vec<(i64, f64)> {
        let taken = self.taken.lock().unwrap();
        taken
            .iter()
            .find(|(labels, _)| labels.contains(&format!("__name__={name} ")))
            .map_or_else(Vec::new, |(_, s)| s.clone())
    }
}

pub(super) fn to(name: &str, url: String) -> RemoteWrite {
    RemoteWrite { name: name.to_owned(), url, headers: Headers::default(), roots: Vec::new(), series: String::new() }
}

pub(super) async fn push(agent: &mut Agent, seq: u64, n: i64, wall_ms: i64) {
    let items = vec![item(seq, v1::item::Of::Summary(summary(n, wall_ms)))];
    let define = if seq == 1 { definitions() } else { Vec::new() };
    agent
        .say(v1::agent_message::Of::Push(v1::Push { epoch: crate::agent::EPOCH, define, items, ..Default::default() }))
        .await;
    let heard = agent.hear().await;
    assert!(matches!(heard, Some(v1::collector_message::Of::Ack(_))), "{heard:?}");
}

pub(super) async fn start(targets: Vec<RemoteWrite>) -> (World, Papers) {
    let world = World::start_with(|settings| settings.remote_write = targets).await;
    let papers = world.enrol("web-1").await;
    // Rows from before the first mark are not sent: it has to be there.
    until("the targets' marks", async || {
        get(&world, "/metrics").await.contains("remote_write_lag_seconds{").then_some(())
    })
    .await;
    (world, papers)
}

async fn restart(world: &mut World, targets: Vec<RemoteWrite>) {
    world.collector.take().unwrap().stop().await;
    let settings = Settings { remote_write: targets, ..Settings::for_tests(world.folder.path()) };
    world.collector = Some(mainstay_collector::collector::Collector::start(settings).await.unwrap());
}

/// Whether it is stored that the only host was sent up to there, and what came late too.
fn is_noted(world: &World, upto_ms: i64) -> bool {
    let store = &world.collector.as_ref().unwrap().hub.store;
    let (late, marks) = (RemoteKey::all(RemoteKey::LATE), RemoteKey::all(RemoteKey::MARK));
    let is_late = store.scan::<RemoteKey>(&late, &late).count() > 0;
    let mut marks = store.scan_values::<RemoteKey, SentRow>(&marks).map(Result::unwrap);
    !is_late && marks.any(|(key, row)| key.number != 0 && row.upto_ms == upto_ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_report_is_handed_on_once_in_order_and_goes_on_after_a_restart() {
    // The door is closed, then the target is ill, then it refuses one request for good.
    let (target, at) = Target::listen(&[401, 503, 400]).await;
    let (narrow, narrow_at) = Target::listen(&[]).await;
    let headers = Headers([("X-Scope-OrgID".to_owned(), "fleet-a".parse().unwrap())].into());
    let targets = || {
        let series = "{__name__=\"node_load1\"}".to_owned();
        let narrow = RemoteWrite { series, ..to("narrow", format!("http://{narrow_at}/")) };
        vec![RemoteWrite { headers: headers.clone(), ..to("all", format!("http://{at}/push?a=b")) }, narrow]
    };
    let (mut world, papers) = start(vec![targets().remove(0)]).await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let begin = wall_ms() + 60_000;
    let row = |n: i64| begin + n * 10_000;
    push(&mut agent, 1, 0, row(0)).await;
    until("one request that is refused for good", async || {
        let metrics = get(&world, "/metrics").await;
        let count = |line: &str| metrics.contains(&format!("mainstay_collector_remote_write_{line}\n"));
        (count("samples_skipped_total{target=\"all\"} 2") && count("failures_total{target=\"all\"} 2")).then_some(())
    })
    .await;
    for n in 1..20i64 {
        push(&mut agent, n.cast_unsigned() + 1, n, row(n)).await;
    }
    until("all that has come", async || (target.of("node_load1").len() == 19).then_some(())).await;
    // One that comes late: the clock of the host was set back.
    push(&mut agent, 21, 100, row(5) + 5_000).await;
    let loads = || {
        let mut samples = target.of("node_load1");
        samples.sort_by(|a, b| a.partial_cmp(b).unwrap());
        samples
    };
    let mut expected: Vec<(i64, f64)> = (1..20).map(|n| (row(n), n as f64)).collect();
    expected.insert(5, (row(5) + 5_000, 100.0));
    until("every sample but the refused one, once", async || (loads() == expected).then_some(())).await;
    let in_order: Vec<(i64, f64)> = target.of("node_load1").into_iter().filter(|(_, value)| *value < 100.0).collect();
    assert!(in_order.is_sorted_by(|a, b| a.0 < b.0), "{in_order:?}");
    let heads = target.heads.lock().unwrap().clone();
    for part in ["/push?a=b", "fleet-a", "snappy", "application/x-protobuf", "0.1.0"] {
        assert!(heads[0].contains(part), "{part}: {}", heads[0]);
    }
    // What is not noted as sent when it is stopped would be sent again.
    until("the note of all that was sent", async || is_noted(&world, row(19)).then_some(())).await;
    drop(agent);
    // Another target from now on: it gets what comes from now on, and of one series only.
    restart(&mut world, targets()).await;
    until("the new target's mark", async || {
        get(&world, "/metrics").await.contains("remote_write_lag_seconds{target=\"narrow\"} 0\n").then_some(())
    })
    .await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let items = vec![item(22, v1::item::Of::Summary(summary(20, row(20))))];
    let define = definitions();
    agent
        .say(v1::agent_message::Of::Push(v1::Push { epoch: crate::agent::EPOCH, define, items, ..Default::default() }))
        .await;
    agent.hear().await.unwrap();
    expected.push((row(20), 20.0));
    until("the last row at the one, which has had the others", async || (loads() == expected).then_some(())).await;
    until("the last row at the new one", async || narrow.of("node_load1").contains(&(row(20), 20.0)).then_some(()))
        .await;
    assert_eq!(target.of("node_cpu_seconds_total").len(), expected.len());
    assert!(narrow.of("node_cpu_seconds_total").is_empty(), "it is to have one series only");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_away_holds_up_nobody() {
    // A port that nobody listens on.
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (target, at) = Target::listen(&[]).await;
    let targets = vec![to("away", format!("http://{away}/")), to("there", format!("http://{at}/"))];
    let (world, papers) = start(targets).await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let begin = wall_ms() + 60_000;
    for n in 0..50i64 {
        push(&mut agent, n.cast_unsigned() + 1, n, begin + n * 1_000).await;
    }
    until("all of it at the other", async || (target.of("node_load1").len() == 50).then_some(())).await;
    until("that the one which is away was tried", async || has_failed(&world, "away").await).await;
    world.stop().await;
}

/// Whether a target was tried for nothing.
async fn has_failed(world: &World, target: &str) -> Option<()> {
    let metrics = get(world, "/metrics").await;
    let name = format!("mainstay_collector_remote_write_failures_total{{target=\"{target}\"}} ");
    let failures = metrics.lines().find_map(|line| line.strip_prefix(&name));
    (failures? != "0").then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_is_believed_by_its_certificate_alone() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let (target, at) = Target::behind(&[], Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = format!("https://localhost:{}/", at.port());
    let believed = RemoteWrite {
        roots: vec![made.cert.der().to_vec()],
        series: "{__name__=\"node_load1\"}".to_owned(),
        ..to("believed", url.clone())
    };
    let (world, papers) = start(vec![to("doubted", url), believed]).await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    push(&mut agent, 1, 1, wall_ms() + 60_000).await;
    until("what the one gets that believes", async || (target.of("node_load1").len() == 1).then_some(())).await;
    until("that the other was refused", async || has_failed(&world, "doubted").await).await;
    assert!(target.of("node_cpu_seconds_total").is_empty(), "nothing went to whom is not believed");
    world.stop().await;
}
