//! The operator's services without the command line in front of them: for what a careless or a hostile client would send.
//!
//! It has an operator's certificate, as whoever steals one has; what it sends is signed by whoever the test says.

use std::fs;

use anyhow::{Context as _, Result, anyhow};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use mainstay_core::policy::bundle::Bundle;
use mainstay_core::policy::signed::Signed;
use mainstay_proto::v1;
use mainstay_proto::v1::command_service_client::CommandServiceClient;
use mainstay_proto::v1::query_service_client::QueryServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Response, Status};

use super::Site;
use crate::hosts::netns;

impl Site {
    /// The key that this fleet's policies and orders are signed with.
    ///
    /// # Errors
    /// When the operator has none.
    pub fn signing_key(&self) -> Result<SigningKey> {
        let pem = fs::read_to_string(self.policy_key()).context("cannot read the policy key")?;
        SigningKey::from_pkcs8_pem(&pem).context("the policy key is no Ed25519 key")
    }

    /// The newest policy that the collector keeps, and the fleet that it is for.
    ///
    /// # Errors
    /// When the collector does not answer, or has none.
    pub fn newest_bundle(&self) -> Result<Bundle> {
        let answer = self.ask(async |channel| {
            QueryServiceClient::new(channel).get_policy(v1::GetPolicyRequest { generation: 0 }).await
        })?;
        let newest = answer?.policy.context("the collector has no policy")?;
        Bundle::decode(&newest.bytes).context("the collector's policy cannot be read")
    }

    /// Offers a policy to the fleet, whatever it is. The inner error is the collector's refusal.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn offer_policy(&self, signed: &Signed) -> Result<Result<v1::PushPolicyResponse>> {
        let request = v1::PushPolicyRequest { policy: Some(to_wire(signed)) };
        self.ask(async |channel| CommandServiceClient::new(channel).push_policy(request).await)
    }

    /// Decisions that wait for an answer, with the hashes that an answer has to name.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn waiting_approvals(&self) -> Result<Vec<v1::ApprovalView>> {
        let answer = self
            .ask(async |channel| QueryServiceClient::new(channel).list_approvals(v1::ListApprovalsRequest {}).await)?;
        Ok(answer?.approvals)
    }

    /// Has an order carried to a host, whatever it is. The inner error is the collector's refusal; the host's own answer
    /// is in the response.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn submit(&self, kind: &str, signed: &Signed, host: &str) -> Result<Result<v1::SubmitResponse>> {
        let (kind, signed, host) = (kind.to_owned(), Some(to_wire(signed)), host.to_owned());
        let request = v1::SubmitRequest { kind, signed, host };
        self.ask(async |channel| CommandServiceClient::new(channel).submit(request).await)
    }

    /// Asks the collector from the operator's network. A thread of its own: what it connects, it connects in there.
    fn ask<T: Send>(
        &self,
        question: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status> + Send,
    ) -> Result<Result<T>> {
        let endpoint = self.endpoint()?;
        let space = self.fleet.operator().netns();
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| -> Result<Result<T>> {
                netns::enter(&space)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let channel = endpoint.connect().await.context("cannot reach the collector")?;
                    let answer = question(channel).await;
                    Ok(answer.map(Response::into_inner).map_err(|status| anyhow!("{}", status.message())))
                })
            });
            asking.join()
        });
        asked.map_err(|_| anyhow!("the thread that asks panicked"))?
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let folder = self.operator_folder();
        let read = |name: &str| fs::read(folder.join(name)).with_context(|| format!("the operator has no {name}"));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")?))
            .identity(Identity::from_pem(read("operator.crt")?, read("operator.key")?))
            .domain_name(mainstay_proto::COLLECTOR_NAME);
        Ok(Endpoint::from_shared(format!("https://{}", self.collector_address()))?.tls_config(tls)?)
    }
}

fn to_wire(signed: &Signed) -> v1::Signed {
    v1::Signed { bytes: signed.bytes.clone(), key_id: signed.key_id.0.to_vec(), signature: signed.signature.to_vec() }
}
