//! A real ext4 that fills up.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::plan::{DiskReclaim, ReclaimPlace, Undo};
use mainstay_core::verb::{SkipReason, StopReason, Verb};
use rustix::fs::statvfs;

use super::world::{DAY, World, ext4, in_own_mounts, log_text, noise, plant, reclaimed, refused, run, skipped, undone};

/// A disk of 64 MiB with 20 rotated logs of 2 MiB and, to reach 95 %, something that may not be touched.
fn full_disk(more: &str) -> (World, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let data = ext4(dir.path(), 64);
    let world = World::over(dir, data, more);
    let logs = (0..20).map(|n| world.plant(&format!("app/x.log.{n}"), &log_text(2 << 20), DAY * (40 - n))).collect();
    let mut ballast = fs::File::create(world.data.join("database")).unwrap();
    while used_ratio(&world) < 0.95 && ballast.write_all(&[7; 64 << 10]).is_ok() {}
    ballast.sync_all().unwrap();
    (world, logs)
}

fn used_ratio(world: &World) -> f64 {
    let stat = statvfs(&world.data).unwrap();
    let used = stat.f_blocks - stat.f_bfree;
    used as f64 / (used + stat.f_bavail) as f64
}

#[test]
fn a_full_disk_is_brought_under_its_target_and_undo_brings_all_back() {
    if !in_own_mounts("disk::a_full_disk_is_brought_under_its_target_and_undo_brings_all_back") {
        return;
    }
    let (world, logs) = full_disk("");
    let open = fs::File::open(&logs[0]).unwrap();
    let recent = world.plant("app/recent.log", &log_text(1 << 16), DAY / 2);
    let unlisted = world.plant("app/precious.db", &log_text(1 << 16), DAY * 90);
    let before: Vec<_> = logs.iter().map(|path| (fs::read(path).unwrap(), fs::metadata(path).unwrap())).collect();
    assert!(used_ratio(&world) > 0.94);

    let id = mainstay_core::id::ActionId(77);
    let done = reclaimed(world.ask_as(id, world.reclaim(0.80, Undo::For(DAY))));
    assert_eq!(done.stopped, StopReason::TargetMet, "{done:?}");
    assert!(used_ratio(&world) <= 0.80 && (done.used_ratio_after - used_ratio(&world)).abs() < 0.01);
    let place = &done.places[0];
    assert_eq!(skipped(place, SkipReason::Open), 1);
    assert!(recent.exists() && unlisted.exists() && logs[0].exists());
    drop(open);
    // Oldest first, and not one more than needed.
    let gone = logs.iter().filter(|path| !path.exists()).count();
    assert_eq!(gone as u64, place.held_files);
    assert!(logs[1..=gone].iter().all(|path| !path.exists()) && logs[gone + 1..].iter().all(|path| path.exists()));
    let one_file = 2.0 / 60.0;
    assert!(done.used_ratio_after > 0.80 - one_file - 0.01, "took more than needed: {}", done.used_ratio_after);

    let back = undone(world.ask(Verb::Undo { action: id }));
    assert_eq!((back.restored_files, back.conflicts_total), (place.held_files, 0), "{back:?}");
    for (path, (contents, meta)) in logs.iter().zip(&before) {
        assert_eq!(&fs::read(path).unwrap(), contents);
        let now = fs::metadata(path).unwrap();
        let attributes = |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
        assert_eq!(attributes(&now), attributes(meta));
    }
}

#[test]
fn works_when_not_one_byte_is_free() {
    if !in_own_mounts("disk::works_when_not_one_byte_is_free") {
        return;
    }
    let (world, _logs) = full_disk("");
    // As root the blocks kept for root go, too.
    let mut rest = fs::File::create(world.data.join("rest")).unwrap();
    for size in [64 << 10, 4096, 1] {
        while rest.write_all(&vec![1; size]).is_ok() {}
    }
    let _ = rest.sync_all();
    // Nothing can be held before something has gone, so what can be made again comes first.
    plant(&world.paths.places.journal.join("m/system@1.journal"), &noise(1 << 20, 1), DAY);
    let done = world.ask(world.reclaim(0.80, Undo::For(DAY)));
    let mainstay_core::verb::Reply::Refused(refusal) = &done else { panic!("{done}") };
    assert!(refusal.text.contains("space"), "{}", refusal.text);
    let done = reclaimed(world.ask(world.reclaim(0.80, Undo::None)));
    assert_eq!(done.stopped, StopReason::TargetMet, "{done:?}");
    assert!(used_ratio(&world) <= 0.80);
}

#[test]
fn what_does_not_shrink_is_not_held_on_its_own_disk() {
    if !in_own_mounts("disk::what_does_not_shrink_is_not_held_on_its_own_disk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = ext4(dir.path(), 32);
    let world = World::over(dir, data, "");
    let path = world.plant("a.log.gz", &noise(4 << 20, 3), DAY * 9);
    let reply = world.ask(world.reclaim(0.01, Undo::For(DAY)));
    let mainstay_core::verb::Reply::Refused(refusal) = &reply else { panic!("{reply}") };
    assert_eq!(refusal.reason, mainstay_core::verb::RefusalReason::UndoUnavailable);
    assert!(refusal.text.starts_with("1 files would free nothing") && refusal.text.contains("undo.dir"), "{reply}");
    assert!(path.exists());
    assert!(!world.data.join(".mainstay-hold").join("a-0000000000000001.0").exists());
    // Beside others it is left and counted, and the others go.
    let log = world.plant("b.log", &log_text(4 << 20), DAY * 9);
    let reply = world.ask(world.reclaim(0.01, Undo::For(DAY)));
    assert!(reply.to_string().ends_with("; left in logs: 1 would_not_shrink"), "{reply}");
    let done = reclaimed(reply);
    assert_eq!((done.places[0].held_files, skipped(&done.places[0], SkipReason::WouldNotShrink)), (1, 1));
    assert!(path.exists() && !log.exists());
    // Where nothing is to be kept it goes, too.
    assert_eq!(reclaimed(world.ask(world.reclaim(0.01, Undo::None))).places[0].purged_files, 1);
    assert!(!path.exists());
}

#[test]
fn a_root_that_the_unit_may_not_write_is_refused_with_the_drop_in_to_write() {
    if !in_own_mounts("disk::a_root_that_the_unit_may_not_write_is_refused_with_the_drop_in_to_write") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = ext4(dir.path(), 16);
    let world = World::over(dir, data, "");
    let path = world.plant("a.log", &log_text(1 << 20), DAY * 9);
    // As ProtectSystem=strict has it: the same filesystem, read-only through this mount.
    let shown = world.data.to_str().unwrap();
    run("mount", &["--bind", shown, shown]);
    run("mount", &["-o", "remount,bind,ro", shown]);
    for undo in [Undo::None, Undo::For(DAY)] {
        let reply = world.ask(world.reclaim(0.0, undo));
        let mainstay_core::verb::Reply::Refused(refusal) = &reply else { panic!("{reply}") };
        assert_eq!(refusal.reason, mainstay_core::verb::RefusalReason::NotAllowed);
        let drop_in = "/etc/systemd/system/mainstay-actuator.service.d/reclaim.conf";
        assert!(refusal.text.contains(drop_in) && refusal.text.contains("ReadWritePaths="), "{reply}");
    }
    assert!(path.exists());
}

#[test]
fn journald_is_asked_to_archive_only_when_what_is_archived_does_not_suffice() {
    if !in_own_mounts("disk::journald_is_asked_to_archive_only_when_what_is_archived_does_not_suffice") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = ext4(dir.path(), 64);
    let mut world = World::over(dir, disk.clone(), "");
    let journal = disk.join("journal");
    world.paths.places.journal = journal.clone();
    world.actuator = mainstay_actuator::dispatch::Actuator::new(
        world.paths.clone(),
        mainstay_actuator::load::Ownership::AnyOwner,
        Box::new(world.units),
    );
    let archived = plant(&journal.join("m/system@1-2.journal"), &noise(8 << 20, 1), DAY);
    plant(&journal.join("m/system.journal"), &noise(16 << 20, 2), DAY);
    // A journald that archives what it writes, and counts how often it was asked.
    let listener = std::os::unix::net::UnixListener::bind(&world.paths.places.journald).unwrap();
    let folder = journal.join("m");
    let journald = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        std::io::BufRead::read_until(&mut std::io::BufReader::new(&stream), 0, &mut asked).unwrap();
        fs::rename(folder.join("system.journal"), folder.join("system@3-4.journal")).unwrap();
        plant(&folder.join("system.journal"), &noise(1 << 20, 3), Duration::ZERO);
        stream.write_all(b"{\"parameters\":{}}\0").unwrap();
        String::from_utf8(asked).unwrap()
    });
    let used = used_ratio(&world);
    let reclaim = |until_used_ratio| {
        let (mount, from) = (disk.to_str().unwrap().into(), vec![ReclaimPlace::Journal]);
        Verb::DiskReclaim(DiskReclaim { mount, from, until_used_ratio, undo: Undo::None })
    };
    let done = reclaimed(world.ask(reclaim(used - 0.05)));
    assert_eq!((done.stopped, done.places[0].purged_files), (StopReason::TargetMet, 1), "{done:?}");
    assert!(!archived.exists() && !journald.is_finished(), "nobody had to be asked");
    let done = reclaimed(world.ask(reclaim(used - 0.25)));
    assert_eq!((done.stopped, done.places[0].purged_files), (StopReason::TargetMet, 1), "{done:?}");
    assert_eq!(journald.join().unwrap(), "{\"method\":\"io.systemd.Journal.Rotate\"}\0");
    assert!(journal.join("m/system.journal").exists(), "what journald writes now stays");
    // Nobody answers any more: what can be done without it is done.
    let done = reclaimed(world.ask(reclaim(0.0)));
    assert_eq!((done.stopped, done.places[0].purged_files), (StopReason::PlacesExhausted, 0), "{done:?}");
}

#[test]
fn a_declared_undo_folder_on_another_disk_takes_what_does_not_shrink() {
    if !in_own_mounts("disk::a_declared_undo_folder_on_another_disk_takes_what_does_not_shrink") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let undo = dir.path().join("undo");
    fs::create_dir(&undo).unwrap();
    std::os::unix::fs::chown(&undo, Some(0), Some(0)).unwrap();
    fs::set_permissions(&undo, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let data = ext4(dir.path(), 32);
    let more = format!("[undo]\ndir = \"{}\"\n", undo.display());
    let world = World::over(dir, data, &more);
    let contents = noise(4 << 20, 3);
    let path = world.plant("a.log.gz", &contents, DAY * 9);
    let id = mainstay_core::id::ActionId(9);
    let done = reclaimed(world.ask_as(id, world.reclaim(0.01, Undo::For(DAY))));
    assert_eq!(done.places[0].held_files, 1, "{done:?}");
    // All but the block of our own folder.
    assert!(done.freed_bytes > (4 << 20) - 8192, "{}", done.freed_bytes);
    assert!(!path.exists());
    assert_eq!(undone(world.ask(Verb::Undo { action: id })).restored_files, 1);
    assert_eq!(fs::read(&path).unwrap(), contents);
    assert_eq!(fs::read_dir(&undo).unwrap().count(), 0);
}

#[test]
fn places_go_in_order_and_the_first_that_suffices_is_the_last() {
    if !in_own_mounts("disk::places_go_in_order_and_the_first_that_suffices_is_the_last") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = ext4(dir.path(), 64);
    let mut world = World::over(dir, disk.clone(), "");
    // The places lie on the disk in question.
    let at = |name: &str| disk.join(name);
    for name in ["apt", "coredump", "journal/m"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    world.paths.places.apt_cache = at("apt");
    world.paths.places.journal = at("journal");
    world.paths.places.core_dumps = at("coredump");
    world.actuator = mainstay_actuator::dispatch::Actuator::new(
        world.paths.clone(),
        mainstay_actuator::load::Ownership::AnyOwner,
        Box::new(world.units),
    );
    let deb = plant(&at("apt/a_1_amd64.deb"), &noise(8 << 20, 1), DAY);
    let archived = plant(&at("journal/m/system@0001-0002.journal"), &noise(8 << 20, 2), DAY);
    let in_use = plant(&at("journal/m/system.journal"), &noise(1 << 20, 3), DAY);
    let dump = plant(&at("coredump/core.app.1000.zst"), &noise(8 << 20, 4), DAY);
    let used = used_ratio(&world);
    let from = vec![ReclaimPlace::Journal, ReclaimPlace::AptCache, ReclaimPlace::CoreDumps];
    // Two of the three have to go.
    let until_used_ratio = used - 0.22;
    let reclaim = DiskReclaim { mount: world.mount(), from, until_used_ratio, undo: Undo::For(DAY) };
    let done = reclaimed(world.ask(Verb::DiskReclaim(reclaim)));
    assert_eq!(done.stopped, StopReason::TargetMet, "{done:?}");
    assert!(!archived.exists() && !deb.exists());
    assert!(in_use.exists() && dump.exists());
    assert_eq!(done.undo_until_ms, None);
    assert!(done.places[0].freed_bytes > (8 << 20) - 8192, "{done:?}");
}

#[test]
fn packages_stay_while_apt_is_at_work() {
    if !in_own_mounts("disk::packages_stay_while_apt_is_at_work") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let world = World::over(dir, ext4(tempfile::tempdir().unwrap().keep().as_path(), 16), "");
    let apt = &world.paths.places.apt_cache;
    let deb = plant(&apt.join("a_1_amd64.deb"), &noise(1 << 20, 1), DAY);
    plant(&apt.join("lock"), b"", DAY);
    // Locked by another process, as locks of one process do not stand in its own way.
    let mut apt_at_work = std::process::Command::new("python3")
        .arg("-c")
        .arg(format!(
            "import fcntl,sys\nf=open('{}','r+')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint('locked',flush=True)\nsys.stdin.read()",
            apt.join("lock").display()
        ))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(apt_at_work.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "locked\n");
    let mount = apt.to_str().unwrap().into();
    let reclaim = |world: &World| {
        let from = vec![ReclaimPlace::AptCache];
        let plan = DiskReclaim { mount: world_mount(&mount), from, until_used_ratio: 0.0, undo: Undo::None };
        world.ask(Verb::DiskReclaim(plan))
    };
    let done = reclaimed(reclaim(&world));
    assert!(deb.exists());
    assert_eq!(skipped(&done.places[0], SkipReason::Open), 1);
    drop(apt_at_work.stdin.take());
    apt_at_work.wait().unwrap();
    assert_eq!(reclaimed(reclaim(&world)).places[0].purged_files, 1);
    assert!(!deb.exists());
}

fn world_mount(mount: &mainstay_core::subject::PathBytes) -> mainstay_core::subject::PathBytes {
    mount.clone()
}

#[test]
fn nothing_is_touched_when_the_disk_is_under_its_target_or_the_plan_is_refused() {
    let world = World::new();
    let path = world.plant("a.log", b"x", DAY * 9);
    assert_eq!(reclaimed(world.ask(world.reclaim(0.9999, Undo::None))).stopped, StopReason::NothingToDo);
    std::os::unix::fs::symlink(&world.data, world.data.with_file_name("link")).unwrap();
    let config = fs::read_to_string(&world.paths.config).unwrap();
    let linked = config.replace("/data\"", "/link\"");
    fs::write(&world.paths.config, linked).unwrap();
    let mut plan = world.reclaim(0.0, Undo::None);
    if let Verb::DiskReclaim(DiskReclaim { from, .. }) = &mut plan
        && let ReclaimPlace::Aged(aged) = &mut from[0]
    {
        aged.under = world.data.with_file_name("link").to_str().unwrap().into();
    }
    assert_eq!(refused(world.ask(plan)), mainstay_core::verb::RefusalReason::NotAllowed);
    fs::write(&world.paths.config, config).unwrap();
    fs::set_permissions(&world.data, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(refused(world.ask(world.reclaim(0.0, Undo::None))), mainstay_core::verb::RefusalReason::NotAllowed);
    assert!(path.exists());
}
