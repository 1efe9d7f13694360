//! Listeners inside a fleet, for what Mainstay sends out: a webhook and a mail server that keep all they were given.
//! Also the way in: a port of this machine's loopback that leads to a port inside a host.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netns;

/// How often an idle listener looks whether it should end.
const IDLE_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Longest a client may stay silent in the middle of a conversation.
const CLIENT_SILENT_MAX: Duration = Duration::from_secs(10);

/// A listener on a thread inside a namespace; dropping it closes the port.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// An HTTP server in namespace `space` that answers every request with 200 and keeps head and body.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn webhook(space: &str, address: &str) -> Result<Self> {
        Self::start(space, address, answer_http)
    }

    /// A mail server in namespace `space` that accepts every mail and keeps envelope and text.
    ///
    /// # Errors
    /// As [`Listener::webhook`].
    pub fn smtp(space: &str, address: &str) -> Result<Self> {
        Self::start(space, address, answer_smtp)
    }

    /// Where it listens; the port is chosen by the kernel when the address asked for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that came in so far, oldest first.
    ///
    /// # Panics
    /// When the listener's thread panicked.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        self.received.lock().expect("listener thread lives").clone()
    }

    fn start(space: &str, address: &str, answer: fn(TcpStream) -> Result<String>) -> Result<Self> {
        let (space, address) = (space.to_owned(), address.to_owned());
        let (received, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (Arc::clone(&received), Arc::clone(&stop));
        let (bound, is_bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let listener = match bind_in(&space, &address) {
                Ok((listener, at)) => {
                    let _ = bound.send(Ok(at));
                    listener
                }
                Err(error) => {
                    let _ = bound.send(Err(error));
                    return;
                }
            };
            while let Some(stream) = accept(&listener, &stopped) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    if let Ok(text) = answer(stream) {
                        kept.lock().expect("no panic while a message is kept").push(text);
                    }
                });
            }
        });
        let address = is_bound.recv().context("listener thread ended")??;
        Ok(Self { address, received, stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Forwards connections to a free port on this machine's loopback into namespace `space`, as long as the process lives.
///
/// # Errors
/// When no port can be bound.
pub fn forward_to(space: &str, inside: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot bind on loopback")?;
    let address = listener.local_addr()?;
    let space = space.to_owned();
    std::thread::spawn(move || {
        for outer in listener.incoming().flatten() {
            let space = space.clone();
            std::thread::spawn(move || {
                let connected = netns::enter(&space).and_then(|()| Ok(TcpStream::connect(inside)?));
                if let Ok(inner) = connected {
                    let _ = splice(outer, inner);
                }
            });
        }
    });
    Ok(address)
}

fn bind_in(space: &str, address: &str) -> Result<(TcpListener, SocketAddr)> {
    netns::enter(space)?;
    let listener = TcpListener::bind(address).with_context(|| format!("cannot bind {address}"))?;
    listener.set_nonblocking(true)?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

fn accept(listener: &TcpListener, stopped: &AtomicBool) -> Option<TcpStream> {
    loop {
        if let Ok((stream, _)) = listener.accept() {
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(CLIENT_SILENT_MAX));
            return Some(stream);
        }
        if stopped.load(Ordering::Relaxed) {
            return None;
        }
        // Until somebody comes, or it is time to look again. An error only brings the next look forward.
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&IDLE_LOOK));
    }
}

fn answer_http(stream: TcpStream) -> Result<String> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut stream = reader.into_inner();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(format!("{head}\r\n{}", String::from_utf8_lossy(&body)))
}

fn answer_smtp(stream: TcpStream) -> Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let (mut mail, mut in_data) = (String::new(), false);
    writer.write_all(b"220 test ESMTP\r\n")?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let word = line.trim_end().to_ascii_uppercase();
        let reply: Option<&[u8]> = match (in_data, word.as_str()) {
            (true, ".") => {
                in_data = false;
                Some(b"250 kept\r\n")
            }
            (true, _) => None,
            (false, "DATA") => {
                in_data = true;
                Some(b"354 go on\r\n")
            }
            (false, "QUIT") => {
                writer.write_all(b"221 bye\r\n")?;
                break;
            }
            (false, _) => Some(b"250 test\r\n"),
        };
        mail.push_str(&line);
        if let Some(reply) = reply {
            writer.write_all(reply)?;
        }
        line.clear();
    }
    Ok(mail)
}

fn splice(outer: TcpStream, inner: TcpStream) -> Result<()> {
    let (mut from_outer, mut to_inner) = (outer.try_clone()?, inner.try_clone()?);
    let (mut from_inner, mut to_outer) = (inner, outer);
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_outer, &mut to_inner);
        let _ = to_inner.shutdown(std::net::Shutdown::Write);
    });
    std::io::copy(&mut from_inner, &mut to_outer)?;
    let _ = to_outer.shutdown(std::net::Shutdown::Write);
    let _ = up.join();
    Ok(())
}
