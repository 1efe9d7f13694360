//! The collector's own CA: made at the first start, kept in a folder that only the collector reads.
//!
//! In: certificate requests, of which only the key is taken. Out: certificates whose identity is
//! what the collector says. The server's own certificate is made anew at every start, under a fixed
//! name that every client checks, and its CA goes with it, so that an agent that knows only the
//! CA's fingerprint can check it.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_proto::COLLECTOR_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::Peer;

/// Life of an agent's certificate. It is renewed at half of it, so that a host may be away for six weeks. A host that
/// is to be shut out is revoked (`mainstay host revoke`), which does not wait for this.
pub const HOST_LIFE: Duration = days(90);
/// Life of an operator's certificate.
pub const OPERATOR_LIFE: Duration = days(365);
const CA_LIFE: Duration = days(365 * 20);
const SERVER_LIFE: Duration = days(90);
/// Certificates begin this much before now, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(3_600);

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// Why a certificate cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The CA's files cannot be read or made.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The CA's files are not a CA.
    #[error("{path} is not the CA that this collector made: {text}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// The request is none, or its signature is wrong.
    #[error("the certificate request cannot be taken: {0}")]
    Request(String),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// TLS does not take what was made.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// The CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    folder: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the CA in a folder, or makes it.
    ///
    /// # Errors
    /// If its files cannot be read, made or understood. A half of a CA is never replaced.
    pub fn open_or_make(folder: &Path, now_ms: i64) -> Result<Self, AuthorityError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !certificate.exists() && !key.exists() {
            make(folder, &certificate, &key, now_ms)?;
        }
        let ca_pem = fs::read_to_string(&certificate).map_err(failed("read", &certificate))?;
        let key_pem = fs::read_to_string(&key).map_err(failed("read", &key))?;
        let damaged = |path: &Path| {
            let path = path.to_owned();
            move |text: String| AuthorityError::Damaged { path, text }
        };
        let ca_der =
            CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|e| damaged(&certificate)(e.to_string()))?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|e| damaged(&key)(e.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, pair).map_err(|e| damaged(&certificate)(e.to_string()))?;
        Ok(Self { issuer, ca_pem, ca_der, folder: folder.to_owned() })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// SHA-256 over the CA's certificate, which tokens carry.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.ca_der).into()
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A certificate for the key in a request. Nothing else of the request is taken.
    ///
    /// # Errors
    /// If the request is none, or not signed by its own key.
    pub fn sign(&self, csr_pem: &str, peer: &Peer, life: Duration, now_ms: i64) -> Result<String, AuthorityError> {
        let request =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(|e| AuthorityError::Request(e.to_string()))?;
        let mut params = params(&peer.uri(), life, now_ms);
        let uri = peer.uri().try_into().map_err(|e: rcgen::Error| AuthorityError::Request(e.to_string()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }

    /// What the listener needs: a new server certificate, and the CA that clients' certificates are
    /// checked against. A client without one is let in; what it may call is decided later.
    ///
    /// # Errors
    /// If a name is no name, or TLS does not take the certificate.
    pub fn server_config(&self, names: &[String], now_ms: i64) -> Result<ServerConfig, AuthorityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(COLLECTOR_NAME, SERVER_LIFE, now_ms);
        let fixed = [COLLECTOR_NAME.to_owned(), "localhost".to_owned()];
        for name in fixed.iter().chain(names) {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.clone().try_into()?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&pair, &self.issuer)?;
        let tls = |e: &dyn std::error::Error| AuthorityError::Tls(e.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone()).map_err(|e| tls(&e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| tls(&e))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone(), self.ca_der.clone()], key)
            .map_err(|e| tls(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn make(folder: &Path, certificate: &Path, key: &Path, now_ms: i64) -> Result<(), AuthorityError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make the folder", folder))?;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params(&format!("Mainstay {}", crate::random::hex(&crate::random::bytes::<4>())), CA_LIFE, now_ms);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = params.self_signed(&pair)?;
    // The key first: a certificate without its key would look like a CA that was lost.
    write_private(key, pair.serialize_pem().as_bytes())?;
    write_private(certificate, ca.pem().as_bytes())?;
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed("sync", folder))?;
    tracing::info!(path = %certificate.display(), "made the collector's CA");
    Ok(())
}

/// Whether a key in PEM belongs to the certificate of a CA.
///
/// # Errors
/// What is wrong with them.
pub fn check_pair(certificate_pem: &str, key_pem: &str) -> Result<(), String> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|error| error.to_string())?;
    let (_, certificate) = X509Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
    let key = KeyPair::from_pem(key_pem).map_err(|error| error.to_string())?;
    if certificate.public_key().subject_public_key.data != key.public_key_raw() {
        return Err("its key belongs to another certificate".to_owned());
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed("make", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::File { what, path, source }
}

fn params(common_name: &str, life: Duration, now_ms: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(now_ms.max(0).cast_unsigned());
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
    let mut serial = crate::random::bytes::<16>();
    serial[0] &= 0x7f; // positive
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mainstay_core::id::HostId;

    use super::*;

    fn request(names: &[&str]) -> String {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        CertificateParams::new(names).unwrap().serialize_request(&pair).unwrap().pem().unwrap()
    }

    #[test]
    fn the_ca_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ca");
        let first = Authority::open_or_make(&folder, crate::clock::wall_ms()).unwrap();
        let again = Authority::open_or_make(&folder, crate::clock::wall_ms()).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        for name in ["ca.pem", "ca.key"] {
            let mode = fs::metadata(folder.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::remove_file(folder.join("ca.pem")).unwrap();
        assert!(Authority::open_or_make(&folder, 0).is_err(), "half of a CA is not replaced");
    }

    #[test]
    fn the_identity_is_ours_whatever_the_request_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_make(&folder.path().join("ca"), crate::clock::wall_ms()).unwrap();
        let peer = Peer::Host(HostId([7; 16]));
        let pem = authority.sign(&request(&["mainstay-collector"]), &peer, HOST_LIFE, crate::clock::wall_ms()).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(Peer::of_certificate(&der), peer);
        assert!(!String::from_utf8_lossy(&der).contains("mainstay-collector"));
        assert!(authority.sign("not a request", &peer, HOST_LIFE, 0).is_err());
        assert!(authority.server_config(&["127.0.0.1".to_owned()], crate::clock::wall_ms()).is_ok());
    }
}
