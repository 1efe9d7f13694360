//! What an engine says of its containers: names and images, over its socket.
//!
//! One `GET /containers/json` by HTTP/1.0, which Docker and Podman both answer with the same list: the answer ends with
//! the connection, so there is nothing to take apart but a head and a body. Bounded in time and bytes.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::scene::word;
use serde::Deserialize;

/// Longest exchange.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Most bytes of an answer: some 2 KiB a container.
const ANSWER_BYTES_MAX: usize = 4 << 20;

const REQUEST: &[u8] = b"GET /containers/json HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n";

/// What a container is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its image, as it was named when the container was made.
    pub image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    image: String,
}

/// Asks the engine behind a socket. `None` if there is none.
///
/// # Errors
/// Why it does not answer, or what it answers instead.
pub fn ask(socket: &Path) -> io::Result<Option<BTreeMap<String, Named>>> {
    let begun = Instant::now();
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_write_timeout(Some(TIME_MAX))?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut part = vec![0; 16 << 10];
    loop {
        let left = TIME_MAX.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?))?;
        match stream.read(&mut part) {
            Ok(0) => return read(&answer).map(Some).map_err(io::Error::other),
            Ok(bytes) => answer.extend_from_slice(part.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other(format!("its answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
    }
}

/// Reads an answer: containers by their ids.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(answer: &[u8]) -> Result<BTreeMap<String, Named>, String> {
    const BLANK: &[u8] = b"\r\n\r\n";
    let end = answer.windows(BLANK.len()).position(|window| window == BLANK).ok_or("its answer is no HTTP")?;
    let (head, body) = answer.split_at(end);
    let body = body.get(BLANK.len()..).unwrap_or_default();
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if line.split(|byte| *byte == b' ').nth(1) != Some(b"200") {
        return Err(format!("it answers {:?}", word(line)));
    }
    let listed: Vec<Listed> = serde_json::from_slice(body).map_err(|error| format!("its list is none: {error}"))?;
    let named = listed.into_iter().map(|one| {
        // The first is its own; links of others follow.
        let name = one.names.first().map(|name| word(name.trim_start_matches('/').as_bytes())).unwrap_or_default();
        (one.id, Named { name, image: word(one.image.as_bytes()) })
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use proptest::prelude::*;

    use super::*;

    const DOCKER: &[u8] = include_bytes!("fixtures/docker_containers.http");
    const PODMAN: &[u8] = include_bytes!("fixtures/podman_containers.http");

    fn named(name: &str, image: &str) -> Named {
        Named { name: name.into(), image: image.into() }
    }

    #[test]
    fn both_engines_list_names_and_images_by_id() {
        let docker = read(DOCKER).unwrap();
        assert_eq!(docker.len(), 2);
        assert_eq!(docker[&"3a".repeat(32)], named("shop-web-1", "nginx:1.27"));
        assert_eq!(docker[&"4b".repeat(32)], named("db", "postgres:16"), "a link of another one is not its name");
        let podman = read(PODMAN).unwrap();
        assert_eq!(podman[&"5c".repeat(32)], named("cache", "docker.io/library/redis:7"));
    }

    #[test]
    fn what_is_no_list_is_said_to_be_so() {
        assert_eq!(read(b"").unwrap_err(), "its answer is no HTTP");
        assert!(read(b"HTTP/1.0 403 Forbidden\r\n\r\n[]").unwrap_err().contains("403"));
        assert!(read(b"HTTP/1.0 200 OK\r\n\r\n{\"Id\":1}").unwrap_err().starts_with("its list is none: "));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n[]"), Ok(BTreeMap::new()));
        let odd = b"HTTP/1.0 200 OK\r\n\r\n[{\"Id\":\"a\",\"Names\":[\"/x\\u001b[2J\"]}]";
        assert_eq!(read(odd).unwrap()["a"], named("x [2J", ""));
    }

    #[test]
    fn an_engine_is_asked_over_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        assert_eq!(ask(&path).unwrap(), None, "no socket");
        let listener = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; REQUEST.len()];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(DOCKER).unwrap();
            request.to_vec()
        });
        assert_eq!(ask(&path).unwrap().unwrap().len(), 2);
        assert_eq!(served.join().unwrap(), REQUEST);
    }

    #[test]
    fn an_engine_that_goes_on_and_on_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let part = [b' '; 64 << 10];
            while stream.write_all(&part).is_ok() {}
        });
        let error = ask(&path).unwrap_err();
        assert!(error.to_string().contains("more than 4194304 bytes"), "{error}");
        served.join().unwrap();
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(
            which in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut answer = if which { DOCKER.to_vec() } else { PODMAN.to_vec() };
            let index = at.index(answer.len());
            answer[index] = byte;
            answer.truncate(cut.index(answer.len() + 1));
            let _ = read(&answer);
        }
    }
}
