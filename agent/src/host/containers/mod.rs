//! Which containers run on this host: found by their cgroups, and named where their engine can be asked.
//!
//! A thread of its own walks the folders of the hierarchy that may hold containers: when the kernel tells that something
//! happened in them, every ten seconds at most, and every minute in any case. It asks Docker and Podman for names when there
//! is a container that has none yet. An engine that hangs holds up this thread for some seconds and nothing else; a socket
//! that may not be opened leaves a container with its id.

pub mod api;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_core::parse::container::{Runtime, container, may_hold};
use mainstay_core::sample::{Cgroup, Container};
use rustix::fs::{Dir, FileType, Mode, OFlags, open, openat};
use tracing::info;

use super::rounds::{Pace, Round, Rounds};
use super::watched::Watched;
use api::Named;

/// How often the host is looked at where something happens.
const EVERY: Duration = Duration::from_secs(10);

/// How often all folders are walked though nothing came or went in them, as far as the kernel tells.
const WALK_EVERY: Duration = Duration::from_secs(60);

/// How soon an engine is asked again that did not answer, or did not know a container.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Most containers that are followed.
pub const CONTAINERS_MAX: usize = 256;

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 10;

/// Engines that are asked for names, each at its socket.
const SOCKETS: [(Runtime, &str); 2] =
    [(Runtime::Docker, "run/docker.sock"), (Runtime::Podman, "run/podman/podman.sock")];

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who runs it.
    pub runtime: Runtime,
    /// Its id.
    pub id: String,
    /// The path of its cgroup.
    pub cgroup: String,
    /// What its engine calls it, where that is known.
    pub named: Option<Named>,
}

/// So many digits of an id are what people use, and what engines show.
const ID_DIGITS: usize = 12;

impl Found {
    /// What people call it: `web (docker)`.
    #[must_use]
    pub fn label(&self) -> String {
        self.sampled(None).label()
    }

    /// As it stands in a sample.
    #[must_use]
    pub fn sampled(&self, cgroup: Option<Cgroup>) -> Container {
        let id = self.id.get(..ID_DIGITS).unwrap_or(&self.id).to_owned();
        let named = self.named.clone().unwrap_or_default();
        let name = if named.name.is_empty() { id.clone() } else { named.name };
        Container { runtime: self.runtime.as_str(), id, name, image: named.image, cgroup }
    }
}

/// What was found last.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// By path of the cgroup.
    pub containers: Vec<Found>,
    /// How many more there are.
    pub left_out: usize,
}

/// The thread, as the loop has it: it ends when this is gone.
#[derive(Debug)]
pub struct Containers {
    running: Arc<Mutex<Arc<Running>>>,
    rounds: Rounds,
}

impl Containers {
    /// Begins to follow the host below `root`: `/` on a real one.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn follow(root: &Path) -> std::io::Result<Self> {
        let running = Arc::new(Mutex::new(Arc::default()));
        let round = Following { looker: Looker::at(root), running: Arc::clone(&running) };
        let rounds = Rounds::start("containers", Pace { often: EVERY, seldom: WALK_EVERY }, round)?;
        Ok(Self { running, rounds })
    }

    /// Has the host not be looked at, to keep the agent's budget, or again.
    pub fn set_resting(&mut self, is_resting: bool) {
        self.rounds.set_resting(is_resting);
    }

    /// What was found last.
    #[must_use]
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the thread does.
struct Following {
    looker: Looker,
    running: Arc<Mutex<Arc<Running>>>,
}

impl Round for Following {
    fn look(&mut self) {
        let found = Arc::new(self.looker.look(Instant::now()));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.looker.news()
    }
}

/// Looks at a host, again and again.
#[derive(Debug)]
pub struct Looker {
    hierarchy: PathBuf,
    root: PathBuf,
    named: BTreeMap<String, Named>,
    asked: BTreeMap<Runtime, Instant>,
    /// What the last walk found, the folders that it went through, and when that was; `None` where they are to be walked again
    /// in any case.
    found: Running,
    watched: Watched,
    walked: Option<Instant>,
    /// Whether there is a container that an engine may have a name for.
    is_unnamed: bool,
}

impl Looker {
    /// Looks below `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        let (named, asked) = (BTreeMap::new(), BTreeMap::new());
        let (found, watched) = (Running::default(), Watched::default());
        let (hierarchy, root) = (root.join("sys/fs/cgroup"), root.to_owned());
        Self { hierarchy, root, named, asked, found, watched, walked: None, is_unnamed: false }
    }

    /// Which containers run now.
    pub fn look(&mut self, now: Instant) -> Running {
        self.walk(now);
        let mut running = self.found.clone();
        self.named.retain(|id, _| running.containers.iter().any(|found| found.id == *id));
        for (runtime, socket) in SOCKETS {
            let is_unnamed = |found: &Found| found.runtime == runtime && !self.named.contains_key(&found.id);
            let is_due = self.asked.get(&runtime).is_none_or(|asked| now.duration_since(*asked) >= ASK_AGAIN);
            if is_due && running.containers.iter().any(is_unnamed) {
                self.ask(runtime, &self.root.join(socket), &running, now);
            }
        }
        for found in &mut running.containers {
            found.named = self.named.get(&found.id).cloned();
        }
        let may_be_named = |found: &Found| found.named.is_none() && SOCKETS.iter().any(|(of, _)| *of == found.runtime);
        self.is_unnamed = running.containers.iter().any(may_be_named);
        running
    }

    /// What becomes readable when something came or went; `None` where the host is to be looked at all the same.
    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.watched.events().filter(|_| self.watched.is_whole() && self.walked.is_some() && !self.is_unnamed)
    }

    /// Walks the folders, where something may have come or gone.
    fn walk(&mut self, now: Instant) {
        let is_due = self.walked.is_none_or(|walked| now.duration_since(walked) >= WALK_EVERY);
        // Files of a cgroup are written to all the time; that moves nothing.
        if !is_due && self.watched.is_whole() && !self.watched.news().moved {
            return;
        }
        // What happens from here on is told at the next look.
        self.watched.news();
        let (found, folders) = find(&self.hierarchy);
        // What is only watched from now on was not walked while it was: once more.
        let is_watched = self.watched.is_whole() && self.watched.watches(&folders);
        self.watched.watch(&folders);
        self.walked = is_watched.then_some(now);
        self.found = found;
    }

    fn ask(&mut self, runtime: Runtime, socket: &Path, running: &Running, now: Instant) {
        match api::ask(socket) {
            // A container that is new is asked for at once, one that the engine does not know now and then.
            Ok(Some(named)) => {
                let before = self.named.len();
                let runs = |id: &String| running.containers.iter().any(|found| found.id == *id);
                self.named.extend(named.into_iter().filter(|(id, _)| runs(id)));
                if self.named.len() > before {
                    self.asked.remove(&runtime);
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                if !self.asked.contains_key(&runtime) {
                    let socket = socket.display();
                    info!(%socket, %error, "containers are known by their ids only: their engine cannot be asked");
                }
            }
        }
        self.asked.insert(runtime, now);
    }
}

/// Walks the folders that may hold containers; says which these are.
fn find(hierarchy: &Path) -> (Running, BTreeSet<PathBuf>) {
    let (mut running, mut folders) = (Running::default(), BTreeSet::new());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(root) = open(hierarchy, flags, Mode::empty()) else { return (running, folders) };
    let mut waiting = vec![(root, String::new(), 0)];
    while let Some((folder, path, depth)) = waiting.pop() {
        folders.insert(hierarchy.join(path.trim_start_matches('/')));
        let entries = Dir::read_from(&folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type() == FileType::Directory) {
            let Ok(name) = entry.file_name().to_str() else { continue };
            let below = format!("{path}/{name}");
            if let Some(found) = container(&below) {
                let (runtime, id) = (found.runtime, found.id.to_owned());
                running.containers.push(Found { runtime, id, cgroup: below, named: None });
            } else if may_hold(name)
                && depth < DEPTH_MAX
                && let Ok(child) = openat(&folder, name, flags, Mode::empty())
            {
                waiting.push((child, below, depth + 1));
            }
        }
    }
    running.containers.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    running.left_out = running.containers.len().saturating_sub(CONTAINERS_MAX);
    running.containers.truncate(CONTAINERS_MAX);
    (running, folders)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn id(byte: &str) -> String {
        byte.repeat(32)
    }

    fn host(paths: &[String]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            fs::create_dir_all(root.path().join("sys/fs/cgroup").join(path)).unwrap();
        }
        fs::create_dir_all(root.path().join("run/podman")).unwrap();
        root
    }

    #[test]
    fn containers_are_found_wherever_their_engines_put_them() {
        let root = host(&[
            format!("system.slice/docker-{}.scope/init", id("3a")),
            "system.slice/nginx.service/kubepods/pod1".to_owned(),
            format!("docker/{}", id("4b")),
            format!("machine.slice/libpod-{}.scope/container", id("5c")),
            format!("machine.slice/libpod-conmon-{}.scope", id("5c")),
            format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{}.scope", id("6d")),
        ]);
        let running = Looker::at(root.path()).look(Instant::now());
        let said: Vec<_> = running.containers.iter().map(|found| (found.runtime.as_str(), found.id.clone())).collect();
        let want = [("docker", "4b"), ("containerd", "6d"), ("podman", "5c"), ("docker", "3a")];
        assert_eq!(said, want.map(|(runtime, byte)| (runtime, id(byte))));
        assert_eq!(running.left_out, 0);
        assert!(Looker::at(Path::new("/nonexistent")).look(Instant::now()).containers.is_empty());
    }

    #[test]
    fn folders_are_walked_again_when_one_came_or_went_and_every_minute() {
        let root = host(&["system.slice/app.service".to_owned(), format!("docker/{}", id("3a"))]);
        fs::write(root.path().join("sys/fs/cgroup/docker/cgroup.procs"), "").unwrap();
        let (mut looker, begun) = (Looker::at(root.path()), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut look = |seconds| (looker.look(after(seconds)).containers.len(), looker.walked, looker.news().is_some());
        // Twice at first: nobody watched while it was walked for the first time. The container has no name: nothing tells
        // when it gets one.
        assert_eq!(look(0), (1, None, false));
        assert_eq!(look(10), (1, Some(after(10)), false));
        fs::write(root.path().join("sys/fs/cgroup/docker/cgroup.procs"), "7").unwrap();
        assert_eq!(look(20), (1, Some(after(10)), false), "what is written there moves nothing");
        fs::create_dir(root.path().join("sys/fs/cgroup/docker").join(id("4b"))).unwrap();
        assert_eq!(look(30), (2, Some(after(30)), false));
        fs::remove_dir(root.path().join("sys/fs/cgroup/docker").join(id("3a"))).unwrap();
        fs::remove_dir(root.path().join("sys/fs/cgroup/docker").join(id("4b"))).unwrap();
        assert_eq!(look(40), (0, Some(after(40)), true));
        // A folder that is new is watched from then on.
        fs::create_dir_all(root.path().join("sys/fs/cgroup/machine.slice")).unwrap();
        assert_eq!(look(50), (0, None, false), "walked once more");
        assert_eq!(look(60), (0, Some(after(60)), true));
        fs::create_dir(root.path().join(format!("sys/fs/cgroup/machine.slice/libpod-{}.scope", id("5c")))).unwrap();
        assert_eq!(look(70).0, 1);
        assert_eq!((look(129).1, look(130).1), (Some(after(70)), Some(after(130))), "in any case every minute");
    }

    #[test]
    fn an_engine_is_asked_when_there_is_a_container_without_a_name_and_not_otherwise() {
        let root = host(&[format!("docker/{}", id("3a"))]);
        let listener = UnixListener::bind(root.path().join("run/docker.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let serve = |listener: UnixListener| {
            std::thread::spawn(move || {
                listener.set_nonblocking(false).unwrap();
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 40]).unwrap();
                stream.write_all(include_bytes!("fixtures/docker_containers.http")).unwrap();
                // What was asked beyond that is read, so that closing loses nothing of the answer.
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                stream.read_to_end(&mut Vec::new()).unwrap();
                listener.set_nonblocking(true).unwrap();
                listener
            })
        };
        let (mut looker, now) = (Looker::at(root.path()), Instant::now());
        let served = serve(listener);
        let named = looker.look(now).containers[0].named.clone().unwrap();
        assert_eq!((named.name.as_str(), named.image.as_str()), ("shop-web-1", "nginx:1.27"));
        let found = |named| Found { runtime: Runtime::Docker, id: id("3a"), cgroup: String::new(), named };
        let sampled = found(Some(named)).sampled(None);
        assert_eq!(
            (sampled.name.as_str(), sampled.id.as_str(), sampled.runtime),
            ("shop-web-1", "3a3a3a3a3a3a", "docker")
        );
        assert_eq!(found(None).label(), "3a3a3a3a3a3a (docker)", "without a name it goes by its id");
        let listener = served.join().unwrap();
        assert!(looker.look(now + EVERY).containers[0].named.is_some());
        assert!(listener.accept().is_err(), "all have their names: nothing was asked");
        fs::create_dir(root.path().join("sys/fs/cgroup/docker").join(id("99"))).unwrap();
        let served = serve(listener);
        assert_eq!(looker.look(now + EVERY * 2).containers.iter().filter(|found| found.named.is_none()).count(), 1);
        let listener = served.join().unwrap();
        looker.look(now + EVERY * 3);
        assert!(listener.accept().is_err(), "the engine does not know it: it is asked again later");
    }

    #[test]
    fn more_containers_than_are_followed_are_counted() {
        let all: Vec<_> = (0..CONTAINERS_MAX + 3).map(|n| format!("docker/{n:064x}")).collect();
        let running = Looker::at(host(&all).path()).look(Instant::now());
        assert_eq!((running.containers.len(), running.left_out), (CONTAINERS_MAX, 3));
    }
}
