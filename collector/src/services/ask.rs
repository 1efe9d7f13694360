//! Questions to a host, over its session: passed on, and answered within seconds or not at all.
//!
//! Nothing is kept: a host that has no session cannot be asked, and is said to be away instead. So
//! is an agent that is older than the question, which it would not understand.

use std::time::Duration;

use mainstay_core::host_query::HostQuery;
use mainstay_core::id::HostId;
use mainstay_fleet::silence::Presence;
use mainstay_proto::v1::collector_message::Of;
use mainstay_proto::{HOST_REPLY_BYTES_MAX, v1};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::Status;

use super::find;
use crate::enrol::identity::Role;
use crate::hub::{HostState, Hub};
use crate::{clock, random};

/// Longest wait for a host's answer: agents answer at once, and a line across the world is a second.
const REPLY_MAX: Duration = Duration::from_secs(15);
/// Most bytes of a question.
const QUERY_BYTES_MAX: usize = 16 * 1024;
/// Most questions that wait for answers, of one host and in all.
const ASKED_PER_HOST_MAX: usize = 8;
const ASKED_MAX: usize = 256;

/// A question that waits.
#[derive(Debug)]
pub struct Asked {
    /// Which host was asked.
    host: HostId,
    /// On which of its sessions.
    session: u64,
    /// Where its answer goes.
    answer: oneshot::Sender<v1::HostReply>,
}

/// Takes a question off the list when whoever asked has waited enough, or is gone.
struct Waiting<'h> {
    hub: &'h Hub,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hub.state().asked.remove(&self.id);
    }
}

/// Reads a question, and says who may ask it.
///
/// # Errors
/// Where it is none that this collector knows.
#[allow(clippy::result_large_err)] // tonic's own type for it
pub fn read(query: Option<&v1::HostQuery>) -> Result<(HostQuery, Role), Status> {
    let what = query.filter(|query| query.encoded_len() <= QUERY_BYTES_MAX).and_then(|query| query.what.clone());
    let what = what.ok_or_else(|| {
        Status::invalid_argument("there is no question, or one that this collector does not know; upgrade it")
    })?;
    let query = HostQuery::try_from(what)
        .map_err(|error| Status::invalid_argument(format!("the question cannot be read: {error}")))?;
    let role = match &query {
        HostQuery::Models(_) | HostQuery::Record(_) | HostQuery::Top(_) | HostQuery::Connections(_) => Role::Viewer,
        // As the lines of a scene: whatever a program wrote, redacted or not.
        HostQuery::Logs(_) => Role::Operator,
    };
    Ok((query, role))
}

/// Asks a host.
///
/// # Errors
/// Why it cannot be asked, or what it says instead of an answer.
pub async fn ask(hub: &Hub, name: &str, query: &HostQuery) -> Result<v1::AskHostResponse, Status> {
    let id = random::number();
    let (answer, answered) = oneshot::channel();
    let (host, hostname) = {
        let mut state = hub.state();
        let host = find::host(&state, name)?;
        let known = state.hosts.get(&host).ok_or_else(|| Status::not_found(format!("no host is called {name}")))?;
        let hostname = known.hostname().to_owned();
        let session = known.live.as_ref().ok_or_else(|| cannot_be_asked(hub, known))?;
        if !session.capabilities.contains(&query.capability()) {
            let version = known.row.facts.as_ref().map_or("", |facts| &facts.agent_version);
            return Err(Status::failed_precondition(format!(
                "{hostname} runs mainstay-agent {version}, which cannot be asked for its {}; upgrade it",
                query.name()
            )));
        }
        let session = session.id;
        let of_host = state.asked.values().filter(|asked| asked.host == host).count();
        if of_host >= ASKED_PER_HOST_MAX || state.asked.len() >= ASKED_MAX {
            return Err(Status::resource_exhausted(format!(
                "{of_host} questions to {hostname} and {} in all wait for answers (at most {ASKED_PER_HOST_MAX} and {ASKED_MAX}); try again in a moment",
                state.asked.len()
            )));
        }
        state.asked.insert(id, Asked { host, session, answer });
        (host, hostname)
    };
    let waiting = Waiting { hub, id };
    let wire = v1::HostQuery { id, what: Some(query.into()) };
    if !hub.send(host, Of::Query(wire)) {
        return Err(Status::unavailable(format!("{hostname} takes no messages at this moment; try again")));
    }
    let reply = match timeout(REPLY_MAX, answered).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => {
            return Err(Status::unavailable(format!(
                "the session with {hostname} ended before it answered; ask again"
            )));
        }
        Err(_) => {
            return Err(Status::deadline_exceeded(format!(
                "{hostname} did not answer within {} s",
                REPLY_MAX.as_secs()
            )));
        }
    };
    drop(waiting);
    match &reply.what {
        None => Err(Status::unimplemented(format!(
            "{hostname} answered with something that this collector does not know; upgrade the collector"
        ))),
        Some(v1::host_reply::What::Error(text)) => Err(Status::failed_precondition(format!("{hostname}: {text}"))),
        Some(_) => {
            Ok(v1::AskHostResponse { host_id: host.0.to_vec(), hostname, reply: Some(reply), now_ms: clock::wall_ms() })
        }
    }
}

/// An agent answered. What nobody waits for, or another host was asked, is dropped.
pub fn answered(hub: &Hub, host: HostId, mut reply: v1::HostReply) {
    let bytes = reply.encoded_len();
    if bytes > HOST_REPLY_BYTES_MAX {
        let text = format!("the answer has {bytes} bytes, more than the {HOST_REPLY_BYTES_MAX} of one; ask for less");
        reply.what = Some(v1::host_reply::What::Error(text));
    }
    let asked = {
        let mut state = hub.state();
        let is_asked = state.asked.get(&reply.id).is_some_and(|asked| asked.host == host);
        is_asked.then(|| state.asked.remove(&reply.id)).flatten()
    };
    if let Some(asked) = asked {
        // Whoever asked may no longer wait.
        let _ = asked.answer.send(reply);
    }
}

/// A session ended: what was asked on it is not answered any more, and those who wait are told.
pub fn session_ended(hub: &Hub, host: HostId, session: u64) {
    hub.state().asked.retain(|_, asked| asked.host != host || asked.session != session);
}

/// Why a host without a session cannot be asked, in words.
fn cannot_be_asked(hub: &Hub, host: &HostState) -> Status {
    let now_ms = clock::wall_ms();
    let hostname = host.hostname();
    if host.is_revoked() {
        return Status::failed_precondition(format!("{hostname} was revoked: it cannot be asked"));
    }
    let ago = |then_ms: i64| short(now_ms.saturating_sub(then_ms));
    let text = match host.presence(hub.silence(), now_ms) {
        Presence::Silent { since_ms } => format!("{hostname} is silent since {}: it cannot be asked", ago(since_ms)),
        Presence::Away { .. } => {
            let last_ms = host.heard_ms.max(host.mark.last_seen_ms);
            format!("{hostname} said goodbye {} ago: it cannot be asked before it is back", ago(last_ms))
        }
        Presence::Unknown => {
            format!("{hostname} has not been heard of since this collector started: it cannot be asked")
        }
        Presence::Online => format!("{hostname} has just lost its session: ask again in a moment"),
    };
    Status::unavailable(text)
}

/// A length of time in one unit: `40s`, `4m`, `3h`, `12d`.
fn short(ms: i64) -> String {
    match ms.max(0) / 1_000 {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}
