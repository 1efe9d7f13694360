//! Enrolment: a token in, an identity out.
//!
//! The key is made here and stays here. The collector is believed only with a chain up to the CA
//! that the token names; it gives a host id and a certificate, and nothing that would say whose
//! policies to obey or which labels to go by: those stand in the token. What is refused leaves
//! nothing behind.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_core::sample::HostFacts;
use mainstay_core::token::{BadToken, TOKEN_BYTES_MAX, Token};
use mainstay_proto::v1::enrol_service_client::EnrolServiceClient;
use mainstay_proto::v1::{EnrolRequest, EnrolResponse};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use sha2::{Digest as _, Sha256};

use crate::identity::{Identity, IdentityError};
use crate::tls::{self, TlsError};

/// How long the collector may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Why the host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token's file.
    #[error("cannot read the token from {from}")]
    Read {
        /// Where from.
        from: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The token itself.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// There is an identity already.
    #[error("this host is enrolled already, as {host} (use --force to enrol it anew)")]
    Already {
        /// As what.
        host: HostId,
    },
    /// The way to the collector.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The collector's answer.
    #[error("the collector refused: {0}")]
    Refused(String),
    /// It could not be asked, or its answer is no answer.
    #[error("the collector did not answer as it should: {0}")]
    Answer(String),
    /// The key.
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
    /// Writing the identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What becomes of an identity that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is kept, and enrolment refused.
    Keep,
    /// It is replaced, when the new one is there (`--force`).
    Replace,
}

/// Reads a token from a file, or from standard input for `-`.
///
/// # Errors
/// If it cannot be read or is none.
pub fn read_token(path: &Path) -> Result<Token, EnrolError> {
    let from = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let mut text = String::new();
    let bytes_max = TOKEN_BYTES_MAX as u64 + 64;
    let read = if path == Path::new("-") {
        io::stdin().lock().take(bytes_max).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(bytes_max).read_to_string(&mut text))
    };
    read.map_err(|source| EnrolError::Read { from, source })?;
    Ok(text.parse()?)
}

/// Enrols the host: asks the collector that the token names for an identity and writes it below
/// the state folder. `machine_id` is evidence only, to tell clones.
///
/// # Errors
/// If it is refused, or anything fails on the way; the state folder is as it was then.
pub async fn enrol(
    token: &Token,
    facts: &HostFacts,
    machine_id: &[u8],
    state: &Path,
    existing: Existing,
) -> Result<Identity, EnrolError> {
    if existing == Existing::Keep
        && let Some(identity) = Identity::load(state)?
    {
        return Err(EnrolError::Already { host: identity.host });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let channel = tls::connect(&token.address, tls::pinned(token.ca_fingerprint)?).await?;
    let request = EnrolRequest {
        secret: token.secret.clone(),
        csr,
        facts: Some(facts.into()),
        machine_id: machine_id.to_owned(),
    };
    let asked = tokio::time::timeout(ANSWER_MAX, EnrolServiceClient::new(channel).enrol(request)).await;
    let response = match asked {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(refusal(&status)),
        Err(_) => return Err(EnrolError::Answer(format!("nothing within {} s", ANSWER_MAX.as_secs()))),
    };
    let identity = identity_from(token, &key, response)?;
    identity.save(state)?;
    Ok(identity)
}

fn refusal(status: &tonic::Status) -> EnrolError {
    use tonic::Code;
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled => {
            EnrolError::Answer(status.message().to_owned())
        }
        _ => EnrolError::Refused(status.message().to_owned()),
    }
}

/// Holds the answer against the token before anything of it is kept.
fn identity_from(token: &Token, key: &KeyPair, response: EnrolResponse) -> Result<Identity, EnrolError> {
    let wrong = |what: &str| EnrolError::Answer(what.to_owned());
    let host: [u8; 16] = response.host_id[..].try_into().map_err(|_| wrong("it gave no host id"))?;
    let ca = tls::certificates(&response.ca, "CA certificate")?;
    if !ca.iter().any(|der| Sha256::digest(der)[..] == token.ca_fingerprint) {
        return Err(wrong("it gave another CA than the token names"));
    }
    let identity = Identity {
        host: HostId(host),
        fleet: response.fleet_id,
        address: token.address.clone(),
        policy_keys: token.policy_keys,
        labels: token.labels.clone(),
        ca: response.ca,
        certificate: response.certificate,
        key: key.serialize_pem(),
    };
    // A certificate for another key does not go with ours.
    identity.tls()?;
    if identity.validity().is_none() {
        return Err(wrong("it gave a certificate that cannot be read"));
    }
    Ok(identity)
}
