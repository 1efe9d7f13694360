//! Listening: TLS for agents and operators, the root-only socket, and who is calling on each.
//!
//! Handshakes are bounded in number and time, so that a storm or a dead peer holds up nobody. The
//! identity is put into every request here, and nowhere else.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mainstay_proto::MESSAGE_BYTES_MAX;
use mainstay_proto::v1::agent_service_server::AgentServiceServer;
use mainstay_proto::v1::command_service_server::CommandServiceServer;
use mainstay_proto::v1::enrol_service_server::EnrolServiceServer;
use mainstay_proto::v1::query_service_server::QueryServiceServer;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo};
use tonic::{Request, Status};

use crate::connection::UntilEnding;
use crate::enrol::identity::{Peer, Role};
use crate::enrol::service::Enrolment;
use crate::hub::Hub;
use crate::ingest::session::Agents;
use crate::metrics::count;
use crate::services::command::Commands;
use crate::services::query::Queries;

/// Longest TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Most handshakes at once: each is some 2 ms of a core.
const HANDSHAKES_MAX: usize = 64;
/// Most streams of one connection. An agent has one, an operator's tool a few.
const STREAMS_MAX: u32 = 32;
/// A connection without a sign of life is closed after these two together.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_MAX: Duration = Duration::from_secs(10);
/// Most bytes of a request that is not a push.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// The TLS settings in force; replaced when the server certificate is made anew.
pub type Tls = Arc<RwLock<Arc<ServerConfig>>>;

/// Serves agents and operators on a bound port until the collector ends.
#[must_use]
pub fn serve_tls(hub: Arc<Hub>, listener: TcpListener, tls: Tls) -> JoinHandle<()> {
    let (ready, incoming) = mpsc::channel(HANDSHAKES_MAX);
    tokio::spawn(accept(hub.clone(), listener, tls, ready));
    tokio::spawn(async move {
        let mut ending = hub.ending.subscribe();
        let agents = AgentServiceServer::new(Agents::new(hub.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let enrol = EnrolServiceServer::new(Enrolment::new(hub.clone())).max_decoding_message_size(REQUEST_BYTES_MAX);
        let served = builder()
            .add_service(InterceptedService::new(agents, tls_peer))
            .add_service(InterceptedService::new(enrol, tls_peer))
            .add_service(InterceptedService::new(queries(&hub), tls_peer))
            .add_service(InterceptedService::new(commands(&hub), tls_peer))
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async move {
                let _ = ending.wait_for(|ending| *ending).await;
            })
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "serving agents and operators ended");
        }
    })
}

/// Serves the root-only socket until the collector ends.
///
/// # Errors
/// If the socket cannot be made.
pub fn serve_admin(hub: Arc<Hub>, path: &Path) -> io::Result<JoinHandle<()>> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let of = hub.clone();
    let incoming =
        UnixListenerStream::new(listener).map(move |stream| Ok::<_, io::Error>(UntilEnding::new(stream?, &of.ending)));
    Ok(tokio::spawn(async move {
        let mut ending = hub.ending.subscribe();
        let served = builder()
            .add_service(InterceptedService::new(queries(&hub), local_peer))
            .add_service(InterceptedService::new(commands(&hub), local_peer))
            .serve_with_incoming_shutdown(incoming, async move {
                let _ = ending.wait_for(|ending| *ending).await;
            })
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "serving the admin socket ended");
        }
    }))
}

fn builder() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .tcp_nodelay(true)
}

fn queries(hub: &Arc<Hub>) -> QueryServiceServer<Queries> {
    QueryServiceServer::new(Queries::new(hub.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn commands(hub: &Arc<Hub>) -> CommandServiceServer<Commands> {
    CommandServiceServer::new(Commands::new(hub.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A connection whose handshake is done.
type Ready = io::Result<UntilEnding<TlsStream<TcpStream>>>;

async fn accept(hub: Arc<Hub>, listener: TcpListener, tls: Tls, ready: mpsc::Sender<Ready>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut ending = hub.ending.subscribe();
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.changed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: waiting lets some close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(tls.read().unwrap_or_else(PoisonError::into_inner).clone());
        let (ready, hub) = (ready.clone(), hub.clone());
        tokio::spawn(async move {
            handshake(&hub, acceptor, stream, from, ready).await;
            drop(permit);
        });
    }
}

async fn handshake(hub: &Hub, acceptor: TlsAcceptor, stream: TcpStream, from: SocketAddr, ready: mpsc::Sender<Ready>) {
    let mut ending = hub.ending.subscribe();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)) => shaken,
        () = async { let _ = ending.wait_for(|ending| *ending).await; } => return,
    };
    match shaken {
        Ok(Ok(stream)) => {
            // The server is gone only when the collector ends.
            let _ = ready.send(Ok(UntilEnding::new(stream, &hub.ending))).await;
        }
        Ok(Err(error)) => {
            count(&hub.metrics.handshakes_failed);
            tracing::info!(%from, %error, "TLS handshake failed");
        }
        Err(_) => {
            count(&hub.metrics.handshakes_failed);
            tracing::info!(%from, "TLS handshake took too long");
        }
    }
}

/// The address of ours that a connection came in at.
#[derive(Debug, Clone, Copy)]
pub struct Reached(pub SocketAddr);

/// The identity in the certificate of the connection.
#[allow(clippy::result_large_err)] // tonic's own type for it
fn tls_peer(mut request: Request<()>) -> Result<Request<()>, Status> {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let certificates = info.and_then(TlsConnectInfo::peer_certs);
    let peer = certificates.as_deref().and_then(|c| c.first()).map_or(Peer::Nobody, |leaf| Peer::of_certificate(leaf));
    let reached = info.and_then(|info| info.get_ref().local_addr).map(Reached);
    request.extensions_mut().insert(peer);
    if let Some(reached) = reached {
        request.extensions_mut().insert(reached);
    }
    Ok(request)
}

/// Root, or the collector's own user, by the kernel's word.
#[allow(clippy::result_large_err)] // tonic's own type for it
fn local_peer(mut request: Request<()>) -> Result<Request<()>, Status> {
    let uid = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred).map(|cred| cred.uid());
    let own = rustix::process::geteuid().as_raw();
    let name = match uid {
        Some(0) => "root",
        Some(uid) if uid == own => "collector",
        _ => return Err(Status::permission_denied("this socket is for root")),
    };
    request.extensions_mut().insert(Peer::Operator { name: format!("{name}@local"), role: Role::Admin });
    Ok(request)
}
