//! Connections as agents make them, whose bytes are counted below TLS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use mainstay_proto::COLLECTOR_NAME;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::papers::Papers;

/// How long an agent waits for a connection, handshake included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Sessions come from so many addresses of loopback: one has 28,000 ports.
const ADDRESSES: u32 = 16;

/// Bytes of TCP's payload, of all connections.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
}

/// Connects a host.
pub(crate) async fn connect(
    address: SocketAddr,
    host: u32,
    papers: &Papers,
    traffic: &Arc<Traffic>,
) -> Result<Channel> {
    let tls = TlsConnector::from(Arc::new(papers.tls()?));
    let traffic = traffic.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, traffic) = (tls.clone(), traffic.clone());
        async move {
            let socket = TcpSocket::new_v4()?;
            let from = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + 1 + host % ADDRESSES);
            socket.bind(SocketAddr::from((from, 0)))?;
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(COLLECTOR_NAME).map_err(io::Error::other)?;
            tls.connect(name, Counted { stream, traffic }).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://mainstay-collector")
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let connected = tokio::time::timeout(CONNECT_MAX, endpoint.connect_with_connector(connector)).await;
    Ok(connected.context("no answer in time")??)
}

struct Counted {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.traffic.down.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.traffic.up.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
