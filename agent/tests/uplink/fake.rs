//! A collector for the tests of the uplink: real TLS and gRPC on loopback, a store in memory that
//! can lose what the tests want it to lose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_core::id::{Epoch, Seq};
use mainstay_core::series::Summary;
use mainstay_core::token::Token;
use mainstay_fleet::dedup::{Admit, Gap, Marks};
use mainstay_proto::convert::SummaryReader;
use mainstay_proto::v1::agent_message::Of as Said;
use mainstay_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use mainstay_proto::v1::collector_message::Of as Say;
use mainstay_proto::v1::enrol_service_server::{EnrolService, EnrolServiceServer};
use mainstay_proto::{COLLECTOR_NAME, v1};
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, date_time_ymd,
};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// The token's secret that it takes, once.
pub(crate) const SECRET: &str = "open sesame";

/// What it knows and how it behaves.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) hellos: Vec<v1::Hello>,
    pub(crate) marks: Marks,
    pub(crate) items: BTreeMap<u64, v1::Item>,
    pub(crate) gaps: Vec<v1::Gap>,
    pub(crate) series: BTreeMap<u32, v1::SeriesKey>,
    pub(crate) duplicates: u64,
    pub(crate) pushes: u64,
    pub(crate) ledger: u64,
    pub(crate) said: Vec<Said>,
    pub(crate) renewals: u64,
    pub(crate) spent: bool,
    /// Answers Hello with this, so often.
    pub(crate) reject: Option<(v1::Reject, u32)>,
    /// Takes so many pushes without acknowledging them, and ends the session after the last.
    pub(crate) lose_acks: u32,
    /// Acknowledges nothing while this is set.
    pub(crate) withhold: bool,
    pub(crate) credit: u32,
    /// Reads pushes without taking them, as where there is no room; gives credit again at the next ping.
    pub(crate) full: bool,
    pub(crate) left: u64,
    paused: bool,
    /// Takes summaries as columns; they are read as they come.
    pub(crate) columns: bool,
    /// Takes coded summaries, those that follow without an envelope, and says only what is new in acknowledgements.
    pub(crate) coded: bool,
    pub(crate) briefs: u64,
    last_seq: Option<u64>,
    told: v1::Ack,
    /// Takes recordings and scenes.
    pub(crate) evidence: bool,
    /// Takes changes of the host.
    pub(crate) changes: bool,
    pub(crate) reader: SummaryReader,
    pub(crate) summaries: BTreeMap<u64, Summary>,
    /// Says this after Welcome.
    pub(crate) after_welcome: Vec<Say>,
}

impl State {
    fn capabilities(&self) -> Vec<String> {
        let columns = self.columns.then_some("columns").into_iter();
        let evidence = ["recordings", "scenes"].into_iter().filter(|_| self.evidence);
        let changes = self.changes.then_some("changes");
        let coded = self.coded.then_some("coded");
        columns.chain(evidence).chain(changes).chain(coded).map(str::to_owned).collect()
    }

    pub(crate) fn durable(&self) -> u64 {
        let epoch = self.hellos.last().map_or(0, |hello| hello.epoch);
        self.marks.acknowledged(Epoch(epoch)).0
    }

    fn epoch(&self) -> u64 {
        self.hellos.last().map_or(0, |hello| hello.epoch)
    }

    fn open(&mut self, push: v1::Push) -> v1::Push {
        let inner = if push.next.is_empty() {
            assert_eq!(push.epoch, self.epoch());
            v1::Push::decode(&*zstd::bulk::decompress(&push.zstd, 8 << 20).unwrap()).unwrap()
        } else {
            assert!(self.coded && push.zstd.is_empty());
            self.briefs += 1;
            let summary = v1::Summary { columns: push.next, ..v1::Summary::default() };
            let of = Some(v1::item::Of::Summary(summary));
            let items = vec![v1::Item { seq: self.last_seq.unwrap() + 1, of }];
            v1::Push { items, ..v1::Push::default() }
        };
        self.last_seq = inner.items.last().map(|item| item.seq);
        v1::Push { epoch: self.epoch(), ..inner }
    }

    fn brief(&mut self, ack: v1::Ack) -> v1::Ack {
        let same = v1::Ack { durable_seq: ack.durable_seq, ..self.told.clone() };
        if self.coded && ack == same {
            return v1::Ack { durable_seq: ack.durable_seq, same: true, ..v1::Ack::default() };
        }
        self.told = ack.clone();
        ack
    }

    fn take(&mut self, push: v1::Push) {
        let push = self.open(push);
        let (epoch, inner) = (push.epoch, push);
        self.pushes += 1;
        for def in inner.define {
            self.reader.definitions.define(def.clone(), Arc::new).unwrap();
            self.series.insert(def.id, def.key.unwrap());
        }
        for item in inner.items {
            if let Some(v1::item::Of::Summary(summary)) = &item.of {
                self.summaries.insert(item.seq, self.reader.read(summary.clone()).unwrap());
            }
            match self.marks.admit(Epoch(epoch), Seq(item.seq)) {
                Admit::New => {}
                Admit::Duplicate => self.duplicates += 1,
                Admit::Refused { .. } => panic!("out of order: {item:?}"),
            }
            match &item.of {
                Some(v1::item::Of::Gap(gap)) => {
                    let lost = Gap { first: Seq(gap.seq_from), last: Seq(gap.seq_to) };
                    self.marks.declare_lost(Epoch(epoch), lost);
                    self.gaps.push(gap.clone());
                }
                Some(v1::item::Of::Ledger(entry)) => self.ledger = self.ledger.max(entry.index),
                _ => {}
            }
            self.items.insert(item.seq, item);
        }
    }

    fn leave(&mut self, push: v1::Push) {
        let inner = self.open(push);
        for def in inner.define {
            self.reader.definitions.define(def, Arc::new).unwrap();
        }
        for item in inner.items {
            if let Some(v1::item::Of::Summary(summary)) = item.of {
                self.reader.read(summary).unwrap();
            }
        }
        self.left += 1;
        self.paused = true;
    }

    fn head(&self) -> Option<v1::LedgerHead> {
        let entry = self.items.values().filter_map(|item| match &item.of {
            Some(v1::item::Of::Ledger(entry)) => Some(entry),
            _ => None,
        });
        let last = entry.max_by_key(|entry| entry.index)?;
        Some(v1::LedgerHead { index: last.index, hash: last.hash.clone(), countersigned_ms: 1 })
    }
}

/// The collector, running until it is dropped with the runtime.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
    pub(crate) address: String,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![COLLECTOR_NAME.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(format!("{}{}", leaf.pem(), issuer.pem()), key.serialize_pem()))
            .client_ca_root(Certificate::from_pem(issuer.pem()))
            .client_auth_optional(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            state: Arc::new(Mutex::new(State { credit: 1 << 20, ..State::default() })),
            changed: watch::Sender::new(0),
            address: listener.local_addr().unwrap().to_string(),
            issuer: Arc::new(issuer),
        };
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(AgentServiceServer::new(fake.clone()))
            .add_service(EnrolServiceServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { server.await.unwrap() });
        fake
    }

    /// A token that enrols here.
    pub(crate) fn token(&self) -> Token {
        Token {
            address: self.address.clone(),
            ca_fingerprint: Sha256::digest(self.issuer.der()).into(),
            secret: SECRET.to_owned(),
            policy_keys: None,
            labels: vec![("role".to_owned(), "web".to_owned())],
        }
    }

    /// Looks at what it knows, or changes it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !self.with(|state| so(state)) {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "waited in vain until {what}");
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = self.with(change);
        self.changed.send_modify(|n| *n += 1);
        changed
    }

    fn sign(&self, csr: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// A host's certificate with a life from the beginning of one year to that of another.
    pub(crate) fn sign_for_key(&self, key: &str, from: i32, until: i32) -> String {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        params.signed_by(&KeyPair::from_pem(key).unwrap(), &self.issuer).unwrap().pem()
    }

    async fn talk(
        self,
        mut stream: Streaming<v1::AgentMessage>,
        out: mpsc::Sender<Result<v1::CollectorMessage, Status>>,
    ) {
        let send = async |of| drop(out.send(Ok(v1::CollectorMessage { of: Some(of) })).await);
        let Ok(Some(v1::AgentMessage { of: Some(Said::Hello(hello)) })) = stream.message().await else { return };
        let rejected = self.change(|state| {
            state.hellos.push(hello);
            let (reject, times) = state.reject.take()?;
            if times > 1 {
                state.reject = Some((reject.clone(), times - 1));
            }
            Some(reject)
        });
        if let Some(reject) = rejected {
            return send(Say::Reject(reject)).await;
        }
        let (welcome, more) = self.with(|state| {
            // Both sides of a session begin with nothing.
            state.reader = SummaryReader::default();
            (state.last_seq, state.told) = (None, v1::Ack::default());
            let welcome = v1::Welcome {
                version: 1,
                capabilities: state.capabilities(),
                durable_seq: state.durable(),
                ledger: state.head(),
                credit_bytes: state.credit,
                wall_ms: 1_000_000,
                ping_every_ms: 1000,
            };
            (welcome, std::mem::take(&mut state.after_welcome))
        });
        send(Say::Welcome(welcome)).await;
        for of in more {
            send(of).await;
        }
        while let Ok(Some(message)) = stream.message().await {
            match message.of {
                Some(Said::Push(push)) => {
                    let (ack, end) = self.change(|state| {
                        if state.full {
                            state.leave(push);
                            let (durable_seq, ledger) = (state.durable(), state.head());
                            let ack = v1::Ack { epoch: state.epoch(), durable_seq, ledger, ..v1::Ack::default() };
                            return (Some(state.brief(ack)), false);
                        }
                        state.take(push);
                        if state.lose_acks > 0 {
                            state.lose_acks -= 1;
                            return (None, state.lose_acks == 0);
                        }
                        if state.withhold {
                            return (None, false);
                        }
                        let ack = v1::Ack {
                            epoch: state.epoch(),
                            durable_seq: state.durable(),
                            ledger: state.head(),
                            credit_bytes: state.credit,
                            same: false,
                        };
                        (Some(state.brief(ack)), false)
                    });
                    if let Some(ack) = ack {
                        send(Say::Ack(ack)).await;
                    }
                    if end {
                        return;
                    }
                }
                Some(Said::Ping(_)) => {
                    send(Say::Pong(v1::Pong::default())).await;
                    let again = self.with(|state| {
                        if state.full || !std::mem::take(&mut state.paused) {
                            return None;
                        }
                        let (durable_seq, ledger, credit_bytes) = (state.durable(), state.head(), state.credit);
                        let ack = v1::Ack { epoch: state.epoch(), durable_seq, ledger, credit_bytes, same: false };
                        Some(state.brief(ack))
                    });
                    if let Some(ack) = again {
                        send(Say::Ack(ack)).await;
                    }
                }
                Some(said) => self.change(|state| state.said.push(said)),
                None => {}
            }
        }
    }
}

#[tonic::async_trait]
impl AgentService for Fake {
    type SessionStream = ReceiverStream<Result<v1::CollectorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if request.peer_certs().is_none_or(|certs| certs.is_empty()) {
            return Err(Status::unauthenticated("no certificate"));
        }
        let (out, stream) = mpsc::channel(16);
        tokio::spawn(self.clone().talk(request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let certificate = self.sign(&request.into_inner().csr);
        self.change(|state| state.renewals += 1);
        Ok(Response::new(v1::RenewResponse { certificate, ca: self.issuer.pem() }))
    }
}

#[tonic::async_trait]
impl EnrolService for Fake {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let request = request.into_inner();
        let spent = self.change(|state| std::mem::replace(&mut state.spent, true));
        if spent || request.secret != SECRET {
            return Err(Status::permission_denied("the token is spent"));
        }
        Ok(Response::new(v1::EnrolResponse {
            host_id: vec![7; 16],
            certificate: self.sign(&request.csr),
            ca: self.issuer.pem(),
            labels: vec![v1::Label { name: "role".to_owned(), value: "database".to_owned() }],
            fleet_id: vec![9; 16],
        }))
    }
}
