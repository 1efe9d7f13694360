//! Enrolment: a token and a request for a certificate in, an identity out.
//!
//! The only call that works without a certificate. A refused one leaves nothing behind: the use of
//! the token and the host are one durable batch, written after everything else has succeeded.

use std::sync::Arc;

use mainstay_core::id::HostId;
use mainstay_proto::v1;
use mainstay_proto::v1::enrol_service_server::EnrolService;
use prost::Message;
use tonic::{Request, Response, Status};

use super::authority::HOST_LIFE;
use super::identity::Peer;
use super::token;
use crate::clock;
use crate::hub::{HostState, Hub};
use crate::metrics::count;
use crate::store::Batch;
use crate::store::keys::HostKey;
use crate::store::values::HostRow;

/// Most bytes of a request for a certificate.
const CSR_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of what a host says of itself.
const FACTS_BYTES_MAX: usize = 16 * 1024;
/// Every refusal takes this long, so that guessing secrets is slow.
const REFUSAL_DELAY: std::time::Duration = std::time::Duration::from_millis(300);

/// The service for hosts that have no identity yet.
#[derive(Debug, Clone)]
pub struct Enrolment {
    hub: Arc<Hub>,
}

impl Enrolment {
    /// Over one hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn enrol_host(&self, request: v1::EnrolRequest) -> Result<v1::EnrolResponse, Status> {
        let facts = request.facts.unwrap_or_default();
        if request.csr.len() > CSR_BYTES_MAX || facts.encoded_len() > FACTS_BYTES_MAX {
            return Err(Status::invalid_argument("the request is larger than any honest one"));
        }
        if facts.hostname.is_empty() {
            return Err(Status::invalid_argument("the host names itself in `facts`"));
        }
        let _one_at_a_time = self.hub.enrolling.lock().await;
        let now_ms = clock::wall_ms();
        let mut batch = Batch::default();
        let store = &self.hub.store;
        let spent = token::spend(store, &mut batch, &request.secret, now_ms)?;
        let (token, token_row) = spent.map_err(|refused| Status::permission_denied(refused.to_string()))?;
        let host = HostId(uuid::Uuid::now_v7().into_bytes());
        let certificate = self
            .hub
            .authority
            .sign(&request.csr, &Peer::Host(host), HOST_LIFE, now_ms)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let labels = if facts.labels.is_empty() { token_row.labels.clone() } else { facts.labels.clone() };
        let short = self.hub.state().hosts.values().map(|h| h.row.short).max().unwrap_or(0) + 1;
        let row = HostRow {
            short,
            facts: Some(v1::HostFacts { labels: labels.clone(), ..facts }),
            enrolled_ms: now_ms,
            revoked_ms: 0,
            machine_id: request.machine_id,
            token: token.id.clone(),
        };
        batch.put(&HostKey { host }, &row);
        store.commit(batch).await?;
        tracing::info!(%host, hostname = row.facts.as_ref().map(|f| f.hostname.as_str()), token = token.id, "host enrolled");
        self.hub.state().hosts.insert(host, HostState { row, heard_ms: now_ms, ..HostState::default() });
        Ok(v1::EnrolResponse {
            host_id: host.0.to_vec(),
            certificate,
            ca: self.hub.authority.ca_pem().to_owned(),
            labels,
            fleet_id: self.hub.fleet_id.to_vec(),
        })
    }
}

#[tonic::async_trait]
impl EnrolService for Enrolment {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        match self.enrol_host(request.into_inner()).await {
            Ok(response) => {
                count(&self.hub.metrics.enrolled);
                Ok(Response::new(response))
            }
            Err(status) => {
                count(&self.hub.metrics.enrol_refused);
                tracing::warn!(reason = status.message(), "enrolment refused");
                tokio::time::sleep(REFUSAL_DELAY).await;
                Err(status)
            }
        }
    }
}
