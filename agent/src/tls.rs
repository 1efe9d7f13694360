//! TLS towards the collector: mutual with the host's identity, or, for enrolment, with nothing but
//! the fingerprint of the collector's CA from the token. One provider (ring), TLS 1.3 and 1.2.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mainstay_proto::COLLECTOR_NAME;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::{BoxFuture, Service, http::Uri};
use tonic::transport::{Channel, Endpoint};

/// How long connecting may take, handshake included.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Why there is no connection, or no way to make one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key that is none.
    #[error("the {0} is not readable as PEM")]
    Pem(&'static str),
    /// TLS does not take it.
    #[error("cannot set up TLS")]
    Setup(#[from] rustls::Error),
    /// The collector cannot be reached, or is not the one that is meant.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// Where.
        address: String,
        /// Why not, down to its cause.
        why: String,
    },
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS with the host's identity towards the collector whose CA it knows.
///
/// # Errors
/// If certificates or key are damaged.
pub fn mutual(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem, "CA certificate")? {
        roots.add(certificate)?;
    }
    let chain = certificates(certificate_pem, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::Pem("key"))?;
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?)
}

/// TLS without an identity, towards whoever shows a chain up to the CA of this fingerprint.
///
/// # Errors
/// If TLS cannot be set up at all.
pub fn pinned(ca_fingerprint: [u8; 32]) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Arc::new(Pinned { ca_fingerprint, provider: Arc::clone(&provider) });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Every certificate in a PEM text; at least one.
///
/// # Errors
/// If it is none.
pub fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(TlsError::Pem(what))
}

/// Accepts exactly the chains that end in one CA, which the server has to send along.
#[derive(Debug)]
struct Pinned {
    ca_fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_meant = |der: &&CertificateDer<'_>| Sha256::digest(der.as_ref())[..] == self.ca_fingerprint;
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca = intermediates.iter().find(is_meant).ok_or(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Connects a channel to the collector. Whatever the address, its certificate has to be for
/// [`COLLECTOR_NAME`], by the CA that the configuration knows. That the other side is gone is noticed by whoever waits for its
/// answers: pings of HTTP/2 besides would have timers of their own, which wake up a thread that has nothing to do.
///
/// # Errors
/// If it cannot be reached, or is not the one that is meant.
pub async fn connect(address: &str, mut config: ClientConfig) -> Result<Channel, TlsError> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = Connector { address: address.to_owned(), tls: TlsConnector::from(Arc::new(config)) };
    let endpoint = Endpoint::from_static("http://mainstay-collector").connect_timeout(CONNECT_MAX);
    let connected = tokio::time::timeout(CONNECT_MAX, endpoint.connect_with_connector(connector)).await;
    let failed = |why: String| TlsError::Connect { address: address.to_owned(), why };
    match connected {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(failed(innermost(&error))),
        Err(_) => Err(failed(format!("no answer within {} s", CONNECT_MAX.as_secs()))),
    }
}

/// What an error comes down to: the layers above it say only that something went wrong.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[derive(Clone)]
struct Connector {
    address: String,
    tls: TlsConnector,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, tls } = self.clone();
        Box::pin(async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(COLLECTOR_NAME).map_err(io::Error::other)?;
            tls.connect(name, tcp).await.map(TokioIo::new)
        })
    }
}
