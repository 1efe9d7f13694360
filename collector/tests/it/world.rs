//! A collector with a folder of its own, and the people and hosts around it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mainstay_collector::collector::Collector;
use mainstay_collector::config::Settings;
use mainstay_proto::v1::command_service_client::CommandServiceClient;
use mainstay_proto::v1::enrol_service_client::EnrolServiceClient;
use mainstay_proto::v1::query_service_client::QueryServiceClient;
use mainstay_proto::{COLLECTOR_NAME, v1};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

/// Longest that anything here may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A folder, and the collector that runs in it.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) collector: Option<Collector>,
}

/// A key and what the collector says it is.
#[derive(Clone)]
pub(crate) struct Papers {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) ca: String,
    pub(crate) host_id: [u8; 16],
}

/// Makes a key and a request for a certificate.
pub(crate) fn request() -> (KeyPair, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let collector = Some(Collector::start(Settings::for_tests(folder.path())).await.unwrap());
        Self { folder, collector }
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::for_tests(folder.path());
        change(&mut settings);
        Self { collector: Some(Collector::start(settings).await.unwrap()), folder }
    }

    /// Stops and starts again on the same folder.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(|_| {}).await;
    }

    /// The same with other settings.
    pub(crate) async fn restart_with(&mut self, change: impl FnOnce(&mut Settings)) {
        self.collector.take().unwrap().stop().await;
        let mut settings = Settings::for_tests(self.folder.path());
        change(&mut settings);
        self.collector = Some(Collector::start(settings).await.unwrap());
    }

    pub(crate) async fn stop(mut self) {
        self.collector.take().unwrap().stop().await;
    }

    pub(crate) fn address(&self) -> String {
        self.collector.as_ref().unwrap().address.to_string()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    pub(crate) async fn admin(&self) -> CommandServiceClient<Channel> {
        local(&self.socket()).await
    }

    /// A token's secret.
    pub(crate) async fn token(&self, uses: u32, ttl_ms: u64) -> v1::CreateTokenResponse {
        let labels = vec![v1::Label { name: "role".to_owned(), value: "web".to_owned() }];
        let request = v1::CreateTokenRequest { uses, ttl_ms, labels };
        self.admin().await.create_token(request).await.unwrap().into_inner()
    }

    /// Enrols a host with a new token.
    pub(crate) async fn enrol(&self, hostname: &str) -> Papers {
        let token = self.token(1, 60_000).await;
        enrol_at(&self.address(), &self.ca(), &token.secret, hostname).await.unwrap()
    }

    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/ca/ca.pem")).unwrap()
    }

    /// An operator with a certificate.
    pub(crate) async fn operator(&self, name: &str, role: &str) -> Papers {
        let (key, csr) = request();
        let request = v1::CreateOperatorRequest { name: name.to_owned(), role: role.to_owned(), csr };
        let made = self.admin().await.create_operator(request).await.unwrap().into_inner();
        Papers { certificate: made.certificate, key: key.serialize_pem(), ca: made.ca, host_id: [0; 16] }
    }

    pub(crate) async fn queries(&self, papers: &Papers) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(channel(&self.address(), &papers.ca, Some(papers)).await.unwrap())
    }

    pub(crate) async fn commands(&self, papers: &Papers) -> CommandServiceClient<Channel> {
        CommandServiceClient::new(channel(&self.address(), &papers.ca, Some(papers)).await.unwrap())
    }
}

/// Connects over the root-only socket.
pub(crate) async fn local(socket: &Path) -> CommandServiceClient<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://local.invalid").connect_with_connector(connector).await.unwrap();
    CommandServiceClient::new(channel)
}

/// Connects over TLS, with a certificate or without one.
pub(crate) async fn channel(
    address: &str,
    ca: &str,
    papers: Option<&Papers>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(COLLECTOR_NAME);
    if let Some(papers) = papers {
        tls = tls.identity(Identity::from_pem(&papers.certificate, &papers.key));
    }
    Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await
}

/// Enrols with a secret.
pub(crate) async fn enrol_at(address: &str, ca: &str, secret: &str, hostname: &str) -> Result<Papers, tonic::Status> {
    let (key, csr) = request();
    let facts = v1::HostFacts { hostname: hostname.to_owned(), boot: vec![1; 16], ..Default::default() };
    let request = v1::EnrolRequest { secret: secret.to_owned(), csr, facts: Some(facts), machine_id: vec![3; 16] };
    let mut client = EnrolServiceClient::new(channel(address, ca, None).await.unwrap());
    let made = client.enrol(request).await?.into_inner();
    let host_id = made.host_id.try_into().unwrap();
    Ok(Papers { certificate: made.certificate, key: key.serialize_pem(), ca: made.ca, host_id })
}

/// Asks again and again until the answer is there.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
