//! What was taken comes back, over nothing that is there now, and not after its time.

use std::fs;
use std::time::Duration;

use mainstay_core::id::ActionId;
use mainstay_core::plan::Undo;
use mainstay_core::verb::{Detail, RefusalReason, Reply, Verb};

use super::world::{DAY, World, log_text, reclaimed, refused, undone};

const ID: ActionId = ActionId(500);

#[test]
fn restores_over_nothing_that_is_there_now() {
    let world = World::new();
    let path = world.plant("a.log.1", &log_text(200_000), DAY * 9);
    let other = world.plant("sub/b.log.1", &log_text(300_000), DAY * 9);
    reclaimed(world.ask_as(ID, world.reclaim(0.0, Undo::For(DAY))));
    assert!(!path.exists() && !other.exists());
    world.plant("a.log.1", b"new", Duration::ZERO);
    let done = undone(world.ask(Verb::Undo { action: ID }));
    assert_eq!((done.restored_files, done.conflicts_total), (1, 1), "{done:?}");
    assert!(done.conflicts[0].path.to_string().ends_with("a.log.1") && done.conflicts[0].why.contains("is there now"));
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read(&other).unwrap(), log_text(300_000));
    // Once the way is free, what was left comes back too.
    fs::remove_file(&path).unwrap();
    assert_eq!(undone(world.ask(Verb::Undo { action: ID })).restored_files, 1);
    assert_eq!(fs::read(&path).unwrap(), log_text(200_000));
    assert!(!world.data.join(".mainstay-hold").exists());
    assert_eq!(refused(world.ask(Verb::Undo { action: ID })), RefusalReason::NothingToUndo);
}

#[test]
fn brings_back_extended_attributes() {
    let world = World::new();
    let path = world.plant("a.log.1", &log_text(200_000), DAY * 9);
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&path, "user.note", b"kept", flags).is_err() {
        println!("SKIPPED undo::brings_back_extended_attributes: the filesystem of the temporary folder has none");
        return;
    }
    let before = fs::metadata(&path).unwrap();
    reclaimed(world.ask_as(ID, world.reclaim(0.0, Undo::For(DAY))));
    assert!(!path.exists());
    undone(world.ask(Verb::Undo { action: ID }));
    let mut value = [0; 16];
    let len = rustix::fs::getxattr(&path, "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"kept");
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before.modified().unwrap());
}

#[test]
fn a_damaged_copy_is_not_given_out_as_the_file() {
    let world = World::new();
    let path = world.plant("a.log.1", &log_text(200_000), DAY * 9);
    reclaimed(world.ask_as(ID, world.reclaim(0.0, Undo::For(DAY))));
    let copy = world.data.join(".mainstay-hold/a-00000000000001f4.0/1.copy");
    let mut bytes = fs::read(&copy).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x55;
    fs::write(&copy, bytes).unwrap();
    let done = undone(world.ask(Verb::Undo { action: ID }));
    assert_eq!((done.restored_files, done.conflicts_total), (0, 1));
    assert!(!path.exists() && copy.exists());
}

#[test]
fn a_purge_takes_what_has_expired_and_nothing_else() {
    let world = World::new();
    world.plant("a.log.1", &log_text(200_000), DAY * 9);
    reclaimed(world.ask_as(ID, world.reclaim(0.0, Undo::For(DAY))));
    let kept = world.plant("b.log.1", &log_text(200_000), DAY * 9);
    // Expired at once, as a millisecond passes.
    reclaimed(world.ask_as(ActionId(501), world.reclaim(0.0, Undo::For(Duration::from_millis(1)))));
    assert!(!kept.exists());
    // Held or not: what has expired goes.
    fs::write(&world.paths.hold, "").unwrap();
    let purged = loop {
        match world.ask(Verb::PurgeExpired) {
            Reply::Done(Detail::Purge(purged)) if purged.actions > 0 => break purged,
            Reply::Done(Detail::Purge(_)) => std::thread::yield_now(),
            other => panic!("{other}"),
        }
    };
    fs::remove_file(&world.paths.hold).unwrap();
    assert_eq!((purged.actions, purged.files), (1, 1));
    assert_eq!(refused(world.ask(Verb::Undo { action: ActionId(501) })), RefusalReason::NothingToUndo);
    assert_eq!(undone(world.ask(Verb::Undo { action: ID })).restored_files, 1);
    assert!(!kept.exists());
}

#[test]
fn undo_is_found_after_roots_file_has_changed_and_after_a_restart() {
    let world = World::new();
    let path = world.plant("a.log.1", &log_text(200_000), DAY * 9);
    reclaimed(world.ask_as(ID, world.reclaim(0.0, Undo::For(DAY))));
    fs::write(&world.paths.config, "").unwrap();
    assert_eq!(undone(world.ask(Verb::Undo { action: ID })).restored_files, 1);
    assert!(path.exists());
}

#[test]
fn what_was_purged_at_once_cannot_be_undone() {
    let world = World::new();
    world.plant("a.log.1", b"x", DAY * 9);
    assert_eq!(reclaimed(world.ask_as(ID, world.reclaim(0.0, Undo::None))).undo_until_ms, None);
    assert_eq!(refused(world.ask(Verb::Undo { action: ID })), RefusalReason::NothingToUndo);
    assert!(!world.data.join(".mainstay-hold").exists());
}
