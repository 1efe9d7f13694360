//! Connections that nothing has come over yet: they end with the collector.
//!
//! A server that shuts down waits for what its clients have begun. Over a connection that was only opened nothing has, so it
//! is closed as if the client had done so.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::transport::server::Connected;

/// Reads from a stream until the collector ends, if nothing was read before.
pub(crate) struct UntilEnding<S> {
    stream: S,
    /// Done when the collector ends; gone once something was read.
    ending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> UntilEnding<S> {
    pub(crate) fn new(stream: S, ending: &watch::Sender<bool>) -> Self {
        let mut ending = ending.subscribe();
        let ended = async move {
            let _ = ending.wait_for(|ending| *ending).await;
        };
        Self { stream, ending: Some(Box::pin(ended)) }
    }
}

impl<S: Connected> Connected for UntilEnding<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for UntilEnding<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if read.is_ready() {
            self.ending = None;
        } else if let Some(ending) = &mut self.ending
            && ending.as_mut().poll(context).is_ready()
        {
            // Nothing was read, which is how a stream says that it has ended.
            self.ending = None;
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for UntilEnding<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
