//! A host in a folder: root's file, state, places, and an actuator over them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use mainstay_actuator::dispatch::{Actuator, Paths};
use mainstay_actuator::gate::Peer;
use mainstay_actuator::load::Ownership;
use mainstay_actuator::reclaim::Places;
use mainstay_actuator::settings::Settings;
use mainstay_actuator::units::UnitControl;
use mainstay_core::id::ActionId;
use mainstay_core::plan::{AgedFiles, DiskReclaim, ReclaimPlace, Undo};
use mainstay_core::subject::UnitName;
use mainstay_core::verb::{
    Detail, JobResult, PlaceDone, ReclaimDone, Refusal, RefusalReason, Reply, Request, SkipReason, UndoDone, UnitDone,
    Verb,
};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A systemd that only counts.
#[derive(Debug, Default)]
pub(crate) struct CountingUnits {
    pub(crate) runs: Mutex<Vec<String>>,
}

impl UnitControl for &'static CountingUnits {
    fn check(&self, _unit: &UnitName, _settings: &Settings) -> Result<(), Refusal> {
        Ok(())
    }

    fn control_group(&self, unit: &UnitName, meant: Option<[u8; 16]>) -> Result<Option<String>, Refusal> {
        if meant.is_some_and(|meant| meant != [1; 16]) {
            let text = "another run".to_owned();
            return Err(Refusal { reason: RefusalReason::StartedAnew, text });
        }
        Ok(Some(format!("/system.slice/{unit}")))
    }

    fn run(&self, request: &Request, _settings: &Settings) -> Reply {
        self.runs.lock().unwrap().push(request.verb.to_string());
        Reply::Done(Detail::Unit(UnitDone { job: JobResult::Done, elapsed_ms: 1, main_pid: Some(7) }))
    }
}

impl CountingUnits {
    pub(crate) fn leaked() -> &'static Self {
        Box::leak(Box::default())
    }

    pub(crate) fn count(&self) -> usize {
        self.runs.lock().unwrap().len()
    }
}

pub(crate) struct World {
    pub(crate) actuator: Actuator,
    pub(crate) units: &'static CountingUnits,
    pub(crate) paths: Paths,
    /// The reclaim root.
    pub(crate) data: PathBuf,
    _dir: tempfile::TempDir,
    next_id: AtomicU64,
}

impl World {
    /// A world whose reclaim root is a folder beside its other files.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        Self::over(dir, data, "")
    }

    /// A world whose reclaim root is given, with more lines in root's file.
    pub(crate) fn over(dir: tempfile::TempDir, data: PathBuf, more: &str) -> Self {
        let at = |name: &str| dir.path().join(name);
        for name in ["state", "probes.d", "apt", "coredump", "journal"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let config = format!(
            "{more}\n[units]\nallow = [\"*.service\"]\n[reclaim]\napt_cache = {{ older_than = \"0s\" }}\n\
             core_dumps = {{ older_than = \"0s\" }}\njournal = {{ older_than = \"0s\" }}\n\
             [[reclaim.root]]\npath = \"{}\"\nfiles = [\"*.log*\", \"*.gz\"]\nolder_than = \"1d\"\n",
            data.display()
        );
        fs::write(at("actuator.toml"), config).unwrap();
        let places = Places {
            apt_cache: at("apt"),
            apt_locks: vec![at("apt/lock")],
            core_dumps: at("coredump"),
            journal: at("journal"),
            journald: at("journald.sock"),
        };
        let paths = Paths {
            config: at("actuator.toml"),
            hold: at("hold"),
            state: at("state"),
            probes: at("probes.d"),
            proc: "/proc".into(),
            cgroup: at("cgroup"),
            stacks: at("stacks.sock"),
            places,
        };
        let units = CountingUnits::leaked();
        let actuator = Actuator::new(paths.clone(), Ownership::AnyOwner, Box::new(units));
        Self { actuator, units, paths, data, _dir: dir, next_id: AtomicU64::new(1) }
    }

    pub(crate) fn ask(&self, verb: Verb) -> Reply {
        self.ask_as(ActionId(self.next_id.fetch_add(1, Ordering::Relaxed)), verb)
    }

    pub(crate) fn ask_as(&self, action: ActionId, verb: Verb) -> Reply {
        self.actuator.handle(Peer::Agent, &Request::new(action, verb))
    }

    /// Writes a file below the root, so old.
    pub(crate) fn plant(&self, path: &str, contents: &[u8], age: Duration) -> PathBuf {
        plant(&self.data.join(path), contents, age)
    }

    pub(crate) fn reclaim(&self, until: f64, undo: Undo) -> Verb {
        let from = vec![self.aged(&["*"])];
        Verb::DiskReclaim(DiskReclaim { mount: self.mount(), from, until_used_ratio: until, undo })
    }

    pub(crate) fn aged(&self, files: &[&str]) -> ReclaimPlace {
        ReclaimPlace::Aged(AgedFiles {
            name: "logs".into(),
            under: self.data.to_str().unwrap().into(),
            files: files.iter().map(ToString::to_string).collect(),
            older_than: DAY,
        })
    }

    pub(crate) fn mount(&self) -> mainstay_core::subject::PathBytes {
        self.data.to_str().unwrap().into()
    }
}

pub(crate) fn plant(path: &Path, contents: &[u8], age: Duration) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(contents).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    path.to_owned()
}

/// Text as in logs: it shrinks to a fraction.
pub(crate) fn log_text(bytes: usize) -> Vec<u8> {
    let lines =
        (0..).flat_map(|n| format!("Nov 23 03:{:02} host app[{n}]: request served in 3 ms\n", n % 60).into_bytes());
    lines.take(bytes).collect()
}

/// Bytes that do not shrink.
pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut ids = mainstay_core::id::IdSource::new(seed);
    (0..bytes.div_ceil(8)).flat_map(|_| ids.next_u64().to_le_bytes()).take(bytes).collect()
}

pub(crate) fn reclaimed(reply: Reply) -> ReclaimDone {
    match reply {
        Reply::Done(Detail::Reclaim(done)) => done,
        other => panic!("no reclaim: {other}"),
    }
}

pub(crate) fn undone(reply: Reply) -> UndoDone {
    match reply {
        Reply::Done(Detail::Undo(done)) => done,
        other => panic!("no undo: {other}"),
    }
}

pub(crate) fn refused(reply: Reply) -> RefusalReason {
    match reply {
        Reply::Refused(refusal) => refusal.reason,
        other => panic!("not refused: {other}"),
    }
}

pub(crate) fn skipped(place: &PlaceDone, reason: SkipReason) -> u64 {
    place.skipped.iter().filter(|skip| skip.reason == reason).map(|skip| skip.files).sum()
}

/// Runs the named test again as root in a mount namespace of its own; true there. Without root says that it is skipped.
pub(crate) fn in_own_mounts(test: &str) -> bool {
    if std::env::var_os("MAINSTAY_TEST_MOUNTS").is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs root");
        println!("SKIPPED {test}: needs root");
        return false;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("MAINSTAY_TEST_MOUNTS", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its own mounts");
    false
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An ext4 of its own, mounted in `dir`; gone with the mount namespace.
pub(crate) fn ext4(dir: &Path, mib: u32) -> PathBuf {
    let (image, mount) = (dir.join("disk.img"), dir.join("disk"));
    fs::create_dir(&mount).unwrap();
    let file = fs::File::create(&image).unwrap();
    file.set_len(u64::from(mib) << 20).unwrap();
    drop(file);
    run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
    run("mount", &["-o", "loop", image.to_str().unwrap(), mount.to_str().unwrap()]);
    mount
}
