//! The actuator is killed at any moment of a reclaim: no file is lost, and nothing is done twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mainstay_actuator::dispatch::Actuator;
use mainstay_actuator::load::Ownership;
use mainstay_core::id::{ActionId, IdSource};
use mainstay_core::plan::Undo;
use mainstay_core::verb::{ActionStatus, RefusalReason, Reply, Verb};

use super::world::{CountingUnits, DAY, World, log_text};

const ID: ActionId = ActionId(0xc0ffee);
const FILES: usize = 60;
const KILLS: u64 = 25;

/// The process that is killed: reclaims in the folder it is given.
#[test]
fn child_that_reclaims() {
    let Ok(dir) = std::env::var("MAINSTAY_TEST_CRASH") else { return };
    let world = reopened(Path::new(&dir));
    world.ask_as(ID, world.reclaim(0.0, Undo::For(DAY)));
}

/// A world over a folder that outlives it.
fn reopened(dir: &Path) -> World {
    let mut world = World::over(tempfile::tempdir().unwrap(), dir.join("data"), "");
    world.paths.state = dir.join("state");
    world.units = CountingUnits::leaked();
    world.actuator = Actuator::new(world.paths.clone(), Ownership::AnyOwner, Box::new(world.units));
    world
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_begins_again() {
    let mut moments = IdSource::new(11);
    let (mut in_the_middle, mut finished) = (0, 0);
    for kill in 0..KILLS {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("state")).unwrap();
        let planted: BTreeMap<PathBuf, Vec<u8>> = {
            let world = reopened(dir.path());
            let plant = |n: usize| {
                let contents = log_text(20_000 + n);
                (world.plant(&format!("{}/{n}.log", n % 7), &contents, DAY * 9), contents)
            };
            (0..FILES).map(plant).collect()
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_reclaims", "--nocapture"])
            .env("MAINSTAY_TEST_CRASH", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed when so many files are gone: a moment in the work, not in time.
        let gone_at_kill = usize::try_from(moments.next_u64() % (FILES as u64 + 10) + kill % 2).unwrap();
        let gone = || planted.keys().filter(|path| !path.exists()).count();
        while gone() < gone_at_kill && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();
        let world = reopened(dir.path());
        match world.ask(Verb::Status { action: ID }) {
            Reply::Status(ActionStatus::Interrupted) => {
                in_the_middle += 1;
                let Reply::Refused(refusal) = world.ask_as(ID, world.reclaim(0.0, Undo::For(DAY))) else {
                    panic!("began again")
                };
                assert_eq!(refusal.reason, RefusalReason::Interrupted);
            }
            Reply::Status(ActionStatus::Finished(_)) => finished += 1,
            Reply::Status(ActionStatus::NotSeen) => assert_eq!(gone(), 0),
            other => panic!("{other}"),
        }
        if gone() > 0 {
            let undone = super::world::undone(world.ask(Verb::Undo { action: ID }));
            assert_eq!(undone.conflicts_total, 0, "{undone:?}");
        }
        for (path, contents) in &planted {
            assert_eq!(&fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())), contents);
        }
    }
    assert!(in_the_middle >= 5, "hardly any kill hit the work: {in_the_middle} of {KILLS}, {finished} finished");
}
