//! The command service: who may order, and the record of every order with what came of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use mainstay_proto::v1;
use mainstay_proto::v1::command_service_server::CommandService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::query::authorised;
use super::{ask, backups, changes, find, forget, orders, policy};
use crate::backup::Trouble;
use crate::backup::create::Made;
use crate::enrol::authority::OPERATOR_LIFE;
use crate::enrol::identity::{Peer, Role, check_name};
use crate::enrol::token;
use crate::hub::Hub;
use crate::ingest::push::reject;
use crate::listen::Reached;
use crate::metrics::count;
use crate::store::Batch;
use crate::store::keys::{CommandKey, HostKey, OperatorKey, TokenKey};
use crate::store::values::{CommandRow, OperatorRow, TokenRow};
use crate::{clock, random, words};

/// Most labels that a token gives.
const LABELS_MAX: usize = 32;

/// Takes operators' orders.
#[derive(Debug, Clone)]
pub struct Commands {
    hub: Arc<Hub>,
}

/// An order that is being carried out, to be recorded.
struct Order {
    operator: String,
    role: Role,
    command: String,
}

impl Commands {
    /// Over one hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Lets the caller order, if the role suffices. A refusal is recorded too.
    async fn begin<Q>(&self, request: &Request<Q>, least: Role, command: String) -> Result<Order, Status> {
        count(&self.hub.metrics.commands);
        match authorised(&self.hub, request, least) {
            Ok((operator, role)) => Ok(Order { operator, role, command }),
            Err(status) => {
                if let Ok(Peer::Operator { name: operator, role }) = crate::enrol::identity::peer(request) {
                    self.record(Order { operator, role, command }, Err(&status)).await;
                }
                Err(status)
            }
        }
    }

    /// Writes the order down with what came of it, and answers.
    async fn end<A>(&self, order: Order, result: Result<(A, String), Status>) -> Result<Response<A>, Status> {
        match result {
            Ok((answer, text)) => {
                self.record(order, Ok(&text)).await;
                Ok(Response::new(answer))
            }
            Err(status) => {
                self.record(order, Err(&status)).await;
                Err(status)
            }
        }
    }

    /// Records a command that came another way than as a call.
    pub(crate) async fn record_of(&self, operator: &str, role: Role, command: &str, result: Result<&str, &Status>) {
        let order = Order { operator: operator.to_owned(), role, command: command.to_owned() };
        self.record(order, result).await;
    }

    async fn record(&self, order: Order, result: Result<&str, &Status>) {
        let result = result.map_or_else(|status| format!("refused: {}", status.message()), str::to_owned);
        let Order { operator, role, command } = order;
        tracing::info!(operator, %role, command, result, "command");
        let mut batch = Batch::default();
        let row = CommandRow { operator, role: role.to_string(), command, result };
        batch.put(&CommandKey { at_ms: clock::wall_ms(), id: random::ascending() }, &row);
        if let Err(error) = self.hub.store.commit(batch).await {
            tracing::error!(%error, command = row.command, "a command could not be recorded");
        }
    }

    async fn make_token(
        &self,
        request: v1::CreateTokenRequest,
        by: &str,
        reached: Option<SocketAddr>,
    ) -> Result<(v1::CreateTokenResponse, String), Status> {
        if request.uses == 0 || request.uses > token::USES_MAX {
            return Err(Status::invalid_argument(format!("a token is for 1 to {} hosts", token::USES_MAX)));
        }
        if request.ttl_ms == 0 || request.ttl_ms > token::TTL_MS_MAX {
            return Err(Status::invalid_argument("a token lives for a month at most, and longer than no time"));
        }
        if request.labels.len() > LABELS_MAX {
            return Err(Status::invalid_argument(format!("a token gives at most {LABELS_MAX} labels")));
        }
        let (key, row, secret) = token::make(request.uses, request.ttl_ms, request.labels, by, clock::wall_ms());
        let mut batch = Batch::default();
        batch.put(&key, &row);
        self.hub.store.commit(batch).await?;
        let text = format!("made {}", key.id);
        let response = v1::CreateTokenResponse {
            id: key.id,
            secret,
            address: self.hub.address(reached),
            ca_fingerprint: self.hub.authority.fingerprint().to_vec(),
            expires_ms: row.expires_ms,
        };
        Ok((response, text))
    }

    async fn revoke(&self, id: &str) -> Result<(v1::RevokeTokenResponse, String), Status> {
        let _one_at_a_time = self.hub.enrolling.lock().await;
        let key = TokenKey { id: id.to_owned() };
        if self.hub.store.get_raw(&key)?.is_none() {
            return Err(Status::not_found(format!("no token {id}; `mainstay token list` shows them")));
        }
        let mut batch = Batch::default();
        batch.delete(&key);
        self.hub.store.commit(batch).await?;
        Ok((v1::RevokeTokenResponse {}, "revoked".to_owned()))
    }

    async fn revoke_one(&self, asked: &str) -> Result<(v1::RevokeHostResponse, String), Status> {
        let (host, mut row) = {
            let state = self.hub.state();
            let host = find::host(&state, asked)?;
            (host, state.hosts.get(&host).map(|h| h.row.clone()).unwrap_or_default())
        };
        row.revoked_ms = clock::wall_ms();
        let mut batch = Batch::default();
        batch.put(&HostKey { host }, &row);
        self.hub.store.commit(batch).await?;
        let live = {
            let mut state = self.hub.state();
            let known = state.hosts.get_mut(&host);
            known.and_then(|h| {
                h.row.revoked_ms = row.revoked_ms;
                h.live.take()
            })
        };
        if let Some(live) = live {
            live.end.send_replace(Some(reject("revoked", "this host was revoked by an operator", 3_600_000)));
        }
        Ok((v1::RevokeHostResponse {}, format!("revoked {host}")))
    }

    async fn make_operator(
        &self,
        request: v1::CreateOperatorRequest,
        by: &str,
    ) -> Result<(v1::CreateOperatorResponse, String), Status> {
        check_name(&request.name).map_err(Status::invalid_argument)?;
        if request.name.ends_with("@local") {
            return Err(Status::invalid_argument("names that end in @local are the collector's own"));
        }
        let role: Role = request.role.parse().map_err(Status::invalid_argument)?;
        let now_ms = clock::wall_ms();
        let peer = Peer::Operator { name: request.name.clone(), role };
        let certificate = self
            .hub
            .authority
            .sign(&request.csr, &peer, OPERATOR_LIFE, now_ms)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let row = OperatorRow {
            role: role.to_string(),
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(i64::try_from(OPERATOR_LIFE.as_millis()).unwrap_or(i64::MAX)),
            created_by: by.to_owned(),
        };
        let mut batch = Batch::default();
        batch.put(&OperatorKey { name: request.name.clone() }, &row);
        self.hub.store.commit(batch).await?;
        let response = v1::CreateOperatorResponse {
            certificate,
            ca: self.hub.authority.ca_pem().to_owned(),
            address: self.hub.address(None),
        };
        Ok((response, format!("{} is {role} for {} days", request.name, OPERATOR_LIFE.as_secs() / 86_400)))
    }
}

#[tonic::async_trait]
impl CommandService for Commands {
    type CreateBackupStream = ReceiverStream<Result<v1::BackupProgress, Status>>;
    type VerifyBackupStream = ReceiverStream<Result<v1::BackupProgress, Status>>;

    async fn push_policy(&self, r: Request<v1::PushPolicyRequest>) -> Result<Response<v1::PushPolicyResponse>, Status> {
        let order = self.begin(&r, Role::Admin, "policy push".to_owned()).await?;
        let pushed = policy::push(&self.hub, r.into_inner().policy, &order.operator).await;
        let result = pushed.map(|answer| {
            let text = format!("generation {} for {}", answer.generation, words::hosts(answer.hosts));
            (answer, text)
        });
        self.end(order, result).await
    }

    async fn submit(&self, r: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        let (kind, host) = (r.get_ref().kind.clone(), r.get_ref().host.clone());
        let order = self.begin(&r, Role::Operator, format!("{kind} {host}").trim_end().to_owned()).await?;
        let submitted = orders::submit(&self.hub, r.into_inner()).await;
        let result = submitted.map(|answer| {
            let text = format!("{} of {} reached. {}", answer.connected, words::hosts(answer.hosts), answer.text);
            (answer, text.trim_end().to_owned())
        });
        self.end(order, result).await
    }

    async fn ask_host(&self, r: Request<v1::AskHostRequest>) -> Result<Response<v1::AskHostResponse>, Status> {
        let host = r.get_ref().host.clone();
        let (query, role) = ask::read(r.get_ref().query.as_ref())?;
        let order = self.begin(&r, role, format!("host {} {host}", query.name())).await?;
        let result = ask::ask(&self.hub, &host, &query).await.map(|answer| (answer, "answered".to_owned()));
        self.end(order, result).await
    }

    async fn mark_event(&self, r: Request<v1::MarkEventRequest>) -> Result<Response<v1::MarkEventResponse>, Status> {
        let command = format!("event {} {}", r.get_ref().kind, r.get_ref().name);
        let order = self.begin(&r, Role::Operator, command).await?;
        let result = changes::mark(&self.hub, r.into_inner(), &order.operator).await;
        let result = result.map(|answer| (answer, format!("marked on {}", words::hosts(answer.hosts))));
        self.end(order, result).await
    }

    async fn create_token(
        &self,
        r: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let order = self.begin(&r, Role::Admin, format!("token create --uses {}", r.get_ref().uses)).await?;
        let reached = r.extensions().get::<Reached>().map(|reached| reached.0);
        let result = self.make_token(r.into_inner(), &order.operator, reached).await;
        self.end(order, result).await
    }

    async fn list_tokens(&self, r: Request<v1::ListTokensRequest>) -> Result<Response<v1::ListTokensResponse>, Status> {
        authorised(&self.hub, &r, Role::Admin)?;
        let now_ms = clock::wall_ms();
        let mut tokens = Vec::new();
        for item in self.hub.store.scan_values::<TokenKey, TokenRow>(&TokenKey::all()) {
            let (key, row) = item?;
            let TokenRow { uses, uses_left, expires_ms, created_by, labels, .. } = row;
            tokens.push(v1::TokenView { id: key.id, uses_left, uses, expires_ms, created_by, labels });
        }
        Ok(Response::new(v1::ListTokensResponse { tokens, now_ms }))
    }

    async fn revoke_token(
        &self,
        r: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let order = self.begin(&r, Role::Admin, format!("token revoke {}", r.get_ref().id)).await?;
        let result = self.revoke(&r.get_ref().id).await;
        self.end(order, result).await
    }

    async fn revoke_host(&self, r: Request<v1::RevokeHostRequest>) -> Result<Response<v1::RevokeHostResponse>, Status> {
        let order = self.begin(&r, Role::Admin, format!("host revoke {}", r.get_ref().host)).await?;
        let result = self.revoke_one(&r.get_ref().host).await;
        self.end(order, result).await
    }

    async fn delete_host(&self, r: Request<v1::DeleteHostRequest>) -> Result<Response<v1::DeleteHostResponse>, Status> {
        let order = self.begin(&r, Role::Admin, format!("host delete {}", r.get_ref().host)).await?;
        let result = forget::delete(&self.hub, &r.get_ref().host).await;
        self.end(order, result).await
    }

    async fn create_backup(
        &self,
        r: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let order = self.begin(&r, Role::Admin, backup_command("create", &r.get_ref().path)).await?;
        let asked = r.into_inner();
        let read = backups::folder(&self.hub, &asked.path).and_then(|root| Ok((root, backups::key(&asked.key)?)));
        let (root, key) = match read {
            Ok(read) => read,
            Err(refused) => return self.end(order, Err(refused)).await,
        };
        let (out, stream) = mpsc::channel(backups::TOLD_MAX);
        let this = self.clone();
        tokio::spawn(async move {
            let made = backups::make(&this.hub, root, key, asked.keep, &out).await;
            this.told(order, made.map(|made| created(&made)), &out).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_backups(
        &self,
        r: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        authorised(&self.hub, &r, Role::Admin)?;
        let root = backups::folder(&self.hub, &r.get_ref().path)?;
        backups::list(root).await.map(Response::new)
    }

    async fn verify_backup(
        &self,
        r: Request<v1::VerifyBackupRequest>,
    ) -> Result<Response<Self::VerifyBackupStream>, Status> {
        let order = self.begin(&r, Role::Admin, backup_command("verify", &r.get_ref().name)).await?;
        let asked = r.into_inner();
        let read = backups::folder(&self.hub, &asked.path).and_then(|root| Ok((root, backups::key(&asked.key)?)));
        let (root, key) = match read {
            Ok(read) => read,
            Err(refused) => return self.end(order, Err(refused)).await,
        };
        let (out, stream) = mpsc::channel(backups::TOLD_MAX);
        let this = self.clone();
        tokio::spawn(async move {
            let read = backups::verify(&this.hub, root, asked.name, key, &out).await;
            this.told(order, read.map(|(path, troubles, bytes)| verified(&path, &troubles, bytes)), &out).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn create_operator(
        &self,
        r: Request<v1::CreateOperatorRequest>,
    ) -> Result<Response<v1::CreateOperatorResponse>, Status> {
        let command = format!("operator create {} --role {}", r.get_ref().name, r.get_ref().role);
        let order = self.begin(&r, Role::Admin, command).await?;
        let result = self.make_operator(r.into_inner(), &order.operator).await;
        self.end(order, result).await
    }
}

impl Commands {
    /// Records what a backup came to, and tells whoever asked.
    async fn told(&self, order: Order, last: Result<v1::BackupProgress, Status>, out: &backups::Out) {
        self.record(order, last.as_ref().map(|last| last.text.as_str())).await;
        // Whoever asked may be gone.
        let _ = out.send(last).await;
    }
}

fn backup_command(what: &str, of: &str) -> String {
    format!("backup {what} {of}").trim_end().to_owned()
}

fn created(made: &Made) -> v1::BackupProgress {
    let mut text = format!("{} bytes, {} of them new", made.bytes, made.added_bytes);
    if !made.removed.is_empty() {
        text.push_str(&format!("; removed {}", made.removed.join(", ")));
    }
    v1::BackupProgress {
        done_bytes: made.bytes,
        total_bytes: made.bytes,
        added_bytes: made.added_bytes,
        text,
        finished: true,
        path: made.path.display().to_string(),
        problems: Vec::new(),
    }
}

fn verified(path: &Path, troubles: &[Trouble], bytes: u64) -> v1::BackupProgress {
    let text = match troubles.len() {
        0 => "every file is what was written, every checksum holds, and the CA decrypts".to_owned(),
        wrong => format!("{wrong} {}", if wrong == 1 { "thing is wrong" } else { "things are wrong" }),
    };
    v1::BackupProgress {
        done_bytes: bytes,
        total_bytes: bytes,
        text,
        finished: true,
        path: path.display().to_string(),
        problems: troubles.iter().map(ToString::to_string).collect(),
        added_bytes: 0,
    }
}
