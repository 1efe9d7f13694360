//! What hosts get when they enrol: a key and a certificate each.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use mainstay_proto::v1::enrol_service_client::EnrolServiceClient;
use mainstay_proto::{COLLECTOR_NAME, v1};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinSet;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::process::Process;

/// How many enrol at a time.
const LANES: usize = 8;

/// Who a host is.
pub(crate) struct Papers {
    pub(crate) fleet: [u8; 16],
    name: String,
    certificate: String,
    key: String,
    ca: String,
}

impl Papers {
    /// TLS as an agent sets it up for each session: with nothing left of an earlier one.
    pub(crate) fn tls(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Enrols so many hosts, over connections that have no certificate, as agents do.
pub(crate) async fn enrol(process: &Process, hosts: usize) -> Result<Vec<Papers>> {
    let token = process.token(u32::try_from(hosts)?).await?;
    let ca = process.ca()?;
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca)).domain_name(COLLECTOR_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", process.address))?.tls_config(tls)?;
        let secret = token.secret.clone();
        lanes.spawn(async move {
            let mut client = EnrolServiceClient::new(endpoint.connect().await?);
            let mut papers = Vec::new();
            for host in (lane..hosts).step_by(LANES) {
                papers.push(enrol_one(&mut client, &secret, host).await?);
            }
            Ok::<_, anyhow::Error>(papers)
        });
    }
    let mut papers = Vec::with_capacity(hosts);
    while let Some(lane) = lanes.join_next().await {
        papers.extend(lane??);
    }
    Ok(papers)
}

async fn enrol_one(
    client: &mut EnrolServiceClient<tonic::transport::Channel>,
    secret: &str,
    host: usize,
) -> Result<Papers> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let name = format!("host-{host:05}");
    let facts = Some(v1::HostFacts { hostname: name.clone(), ..Default::default() });
    let request = v1::EnrolRequest { secret: secret.to_owned(), csr, facts, machine_id: vec![3; 16] };
    let made = client.enrol(request).await.context("a host cannot enrol")?.into_inner();
    let fleet = made.fleet_id.try_into().ok().context("a fleet id has 16 bytes")?;
    Ok(Papers { fleet, name, certificate: made.certificate, key: key.serialize_pem(), ca: made.ca })
}
