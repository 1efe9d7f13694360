//! What a hostile or careless neighbour may have planted in a reclaim folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use mainstay_core::plan::Undo;
use mainstay_core::verb::SkipReason;

use super::world::{DAY, World, in_own_mounts, plant, reclaimed, run, skipped};

#[test]
fn links_pipes_and_special_files_lose_nothing() {
    let world = World::new();
    let outside = world.data.with_file_name("outside");
    let victim = plant(&outside.join("victim.log"), b"precious", DAY * 90);
    symlink(&outside, world.data.join("linked-folder")).unwrap();
    symlink(&victim, world.data.join("linked.log")).unwrap();
    fs::hard_link(&victim, world.data.join("second-name.log")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.data.join("pipe.log"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let setuid = world.plant("setuid.log", b"x", DAY * 9);
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    let taken = world.plant("deep/er/plain.log", b"x", DAY * 9);
    let place = reclaimed(world.ask(world.reclaim(0.0, Undo::None))).places.remove(0);
    assert!(!taken.exists());
    assert_eq!(place.purged_files, 1);
    assert_eq!(skipped(&place, SkipReason::NotRegular), 4, "{place:?}");
    assert_eq!(skipped(&place, SkipReason::Linked), 1);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    for name in ["linked-folder", "linked.log", "second-name.log", "pipe.log", "setuid.log"] {
        assert!(world.data.join(name).symlink_metadata().is_ok(), "{name}");
    }
}

#[test]
fn what_is_mounted_below_the_root_loses_nothing() {
    if !in_own_mounts("traps::what_is_mounted_below_the_root_loses_nothing") {
        return;
    }
    let world = World::new();
    let outside = world.data.with_file_name("outside");
    let victim = plant(&outside.join("victim.log"), b"precious", DAY * 90);
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    // The same filesystem, so that comparing device numbers would see nothing.
    let bound = world.data.join("bound");
    fs::create_dir(&bound).unwrap();
    run("mount", &["--bind", &text(&outside), &text(&bound)]);
    let file = world.plant("bound.log", b"cover", DAY * 9);
    run("mount", &["--bind", &text(&victim), &text(&file)]);
    let tmpfs = world.data.join("tmpfs");
    fs::create_dir(&tmpfs).unwrap();
    run("mount", &["-t", "tmpfs", "none", &text(&tmpfs)]);
    let in_tmpfs = plant(&tmpfs.join("in.log"), b"x", DAY * 9);
    let place = reclaimed(world.ask(world.reclaim(0.0, Undo::None))).places.remove(0);
    assert_eq!(place.purged_files, 0, "{place:?}");
    assert_eq!(skipped(&place, SkipReason::OtherFilesystem), 3, "{place:?}");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(in_tmpfs.exists());
}

#[test]
fn a_file_that_is_only_mapped_counts_as_open() {
    let world = World::new();
    let path = world.plant("mapped.log", &[b'x'; 8192], DAY * 9);
    // Held by another process through nothing but a mapping.
    let mut mapper = std::process::Command::new("python3")
        .arg("-c")
        .arg(format!(
            "import mmap,os,sys\nfd=os.open('{}',os.O_RDONLY)\nm=mmap.mmap(fd,0,prot=mmap.PROT_READ)\nos.close(fd)\n\
             [os.close(int(f)) for f in os.listdir('/proc/self/fd') if int(f)>2 and os.path.exists('/proc/self/fd/'+f) \
             and os.readlink('/proc/self/fd/'+f).endswith('mapped.log')]\nprint('mapped',flush=True)\nsys.stdin.read()",
            path.display()
        ))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(mapper.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "mapped\n");
    let place = reclaimed(world.ask(world.reclaim(0.0, Undo::None))).places.remove(0);
    assert!(path.exists());
    assert_eq!(skipped(&place, SkipReason::Open), 1);
    drop(mapper.stdin.take());
    mapper.wait().unwrap();
    reclaimed(world.ask(world.reclaim(0.0, Undo::None)));
    assert!(!path.exists());
}

/// A large file is being copied when somebody wants to open it: he waits for a moment, not for the copy.
#[test]
fn whoever_opens_a_file_that_is_being_taken_gets_it() {
    let world = World::new();
    let contents = super::world::log_text(24 << 20);
    let path = world.plant("large.log", &contents, DAY * 9);
    let hold = world.data.join(".mainstay-hold");
    let opener = std::thread::spawn({
        let path = path.clone();
        move || {
            // The copy is under way as soon as there is one.
            while !hold.join("a-0000000000000001.0/1.copy").exists() {
                std::thread::yield_now();
            }
            fs::read(path)
        }
    });
    let place = reclaimed(world.ask(world.reclaim(0.0, Undo::For(DAY)))).places.remove(0);
    assert_eq!(opener.join().unwrap().unwrap(), contents);
    assert_eq!((place.held_files, skipped(&place, SkipReason::Open)), (0, 1));
    assert_eq!(fs::read(&path).unwrap(), contents);
}

#[test]
fn an_open_a_recent_and_an_unlisted_file_stay() {
    let world = World::new();
    let open = world.plant("open.log", b"x", DAY * 9);
    let recent = world.plant("recent.log", b"x", DAY / 2);
    let unlisted = world.plant("x.db", b"x", DAY * 9);
    let taken = world.plant("old.log", b"x", DAY * 9);
    let writer = fs::OpenOptions::new().append(true).open(&open).unwrap();
    let place = reclaimed(world.ask(world.reclaim(0.0, Undo::None))).places.remove(0);
    assert!(open.exists() && recent.exists() && unlisted.exists() && !taken.exists());
    for reason in [SkipReason::Open, SkipReason::Recent, SkipReason::Unlisted] {
        assert_eq!(skipped(&place, reason), 1, "{reason}");
    }
    drop(writer);
}
