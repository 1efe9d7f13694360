//! The query service: who may ask, and where each answer is made.

use std::sync::Arc;

use mainstay_proto::v1;
use mainstay_proto::v1::query_service_server::QueryService;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    approvals, capacity, changes, decisions, explain, findings, hosts, incidents, ledger, orders, policy, range,
    records, status,
};
use crate::enrol::identity::{Role, peer};
use crate::hub::Hub;
use crate::query::{self, Stop, TIMEOUT, Turns};
use crate::store::keys::OperatorKey;

/// Chunks of a ledger that wait to be sent.
const CHUNKS_MAX: usize = 4;

/// Answers operators.
#[derive(Debug, Clone)]
pub struct Queries {
    hub: Arc<Hub>,
}

impl Queries {
    /// Over one hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Answers on a thread that may wait for the disk, if the caller may ask.
    async fn answer<Q, A>(
        &self,
        request: Request<Q>,
        answer: impl FnOnce(&Hub, &Q) -> Result<A, Status> + Send + 'static,
    ) -> Result<Response<A>, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        self.answer_to(Role::Viewer, request, answer).await
    }

    /// Answers those who have this role.
    async fn answer_to<Q, A>(
        &self,
        least: Role,
        request: Request<Q>,
        answer: impl FnOnce(&Hub, &Q) -> Result<A, Status> + Send + 'static,
    ) -> Result<Response<A>, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        authorised(&self.hub, &request, least)?;
        let (hub, question) = (self.hub.clone(), request.into_inner());
        let answered = tokio::task::spawn_blocking(move || answer(&hub, &question)).await;
        let answered = answered.map_err(|error| Status::internal(format!("the answer could not be made: {error}")))?;
        answered.map(Response::new)
    }

    /// Answers in its turn and for as long as the caller waits.
    async fn answer_in_turn<Q, A>(
        &self,
        turns: impl Fn(&Turns) -> &Semaphore,
        request: Request<Q>,
        answer: impl FnOnce(&Hub, &Q, &Stop) -> Result<A, Status> + Send + 'static,
    ) -> Result<Response<A>, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        authorised(&self.hub, &request, Role::Viewer)?;
        let question = request.into_inner();
        let answer = move |hub: &Hub, stop: &Stop| answer(hub, &question, stop);
        let answered = query::in_turn(&self.hub, turns(&self.hub.turns), Stop::after(TIMEOUT), answer).await;
        answered.map_err(Status::internal)?.map(Response::new)
    }
}

/// The operator that is calling, if the role suffices and the operator has not been removed.
///
/// # Errors
/// Why not.
#[allow(clippy::result_large_err)] // tonic's own type for it
pub fn authorised<Q>(hub: &Hub, request: &Request<Q>, least: Role) -> Result<(String, Role), Status> {
    let peer = peer(request)?;
    let (name, role) = peer.operator(least)?;
    if name.ends_with("@local") {
        return Ok((name.to_owned(), role)); // root on this machine needs no certificate
    }
    let known = hub.store.get_raw(&OperatorKey { name: name.to_owned() })?;
    if known.is_none() {
        return Err(Status::permission_denied(format!("the operator {name} is not known to this collector")));
    }
    Ok((name.to_owned(), role))
}

#[tonic::async_trait]
impl QueryService for Queries {
    type ReadLedgerStream = ReceiverStream<Result<v1::LedgerChunk, Status>>;

    async fn list_hosts(&self, r: Request<v1::ListHostsRequest>) -> Result<Response<v1::ListHostsResponse>, Status> {
        self.answer(r, hosts::list).await
    }

    async fn get_host(&self, r: Request<v1::GetHostRequest>) -> Result<Response<v1::GetHostResponse>, Status> {
        self.answer(r, hosts::get).await
    }

    async fn list_findings(
        &self,
        r: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        self.answer_in_turn(|turns| &turns.searches, r, findings::list).await
    }

    async fn list_incidents(
        &self,
        r: Request<v1::ListIncidentsRequest>,
    ) -> Result<Response<v1::ListIncidentsResponse>, Status> {
        self.answer_in_turn(|turns| &turns.searches, r, incidents::list).await
    }

    async fn get_incident(
        &self,
        r: Request<v1::GetIncidentRequest>,
    ) -> Result<Response<v1::GetIncidentResponse>, Status> {
        self.answer(r, incidents::get).await
    }

    async fn list_decisions(
        &self,
        r: Request<v1::ListDecisionsRequest>,
    ) -> Result<Response<v1::ListDecisionsResponse>, Status> {
        self.answer_in_turn(|turns| &turns.searches, r, decisions::list).await
    }

    async fn explain(&self, r: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        // Scenes hold lines of logs.
        let least = if r.get_ref().evidence { Role::Operator } else { Role::Viewer };
        self.answer_to(least, r, explain::explain).await
    }

    async fn query_range(&self, r: Request<v1::QueryRangeRequest>) -> Result<Response<v1::QueryRangeResponse>, Status> {
        self.answer_in_turn(|turns| &turns.operators, r, range::query).await
    }

    async fn list_approvals(
        &self,
        r: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        self.answer(r, |hub, _| approvals::list(hub)).await
    }

    async fn list_holds(&self, r: Request<v1::ListHoldsRequest>) -> Result<Response<v1::ListHoldsResponse>, Status> {
        self.answer(r, |hub, _| orders::holds(hub)).await
    }

    async fn policy_status(
        &self,
        r: Request<v1::PolicyStatusRequest>,
    ) -> Result<Response<v1::PolicyStatusResponse>, Status> {
        self.answer(r, |hub, _| Ok(policy::status(hub))).await
    }

    async fn get_policy(&self, r: Request<v1::GetPolicyRequest>) -> Result<Response<v1::GetPolicyResponse>, Status> {
        self.answer(r, policy::get).await
    }

    async fn read_ledger(&self, r: Request<v1::ReadLedgerRequest>) -> Result<Response<Self::ReadLedgerStream>, Status> {
        authorised(&self.hub, &r, Role::Viewer)?;
        let (hub, question) = (self.hub.clone(), r.into_inner());
        let (out, stream) = mpsc::channel(CHUNKS_MAX);
        tokio::task::spawn_blocking(move || ledger::read(&hub, &question, &out));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn capacity(&self, r: Request<v1::CapacityRequest>) -> Result<Response<v1::CapacityResponse>, Status> {
        self.answer_in_turn(|turns| &turns.operators, r, capacity::outlook).await
    }

    async fn list_changes(
        &self,
        r: Request<v1::ListChangesRequest>,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        self.answer_in_turn(|turns| &turns.searches, r, changes::list).await
    }

    async fn list_records(
        &self,
        r: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        self.answer_in_turn(|turns| &turns.searches, r, records::list).await
    }

    async fn list_commands(
        &self,
        r: Request<v1::ListCommandsRequest>,
    ) -> Result<Response<v1::ListCommandsResponse>, Status> {
        self.answer(r, ledger::commands).await
    }

    async fn collector_status(
        &self,
        r: Request<v1::CollectorStatusRequest>,
    ) -> Result<Response<v1::CollectorStatusResponse>, Status> {
        self.answer(r, |hub, _| Ok(status::status(hub))).await
    }
}
