//! A neighbour who swaps a folder and a symlink as fast as it can, while files are being reclaimed.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use mainstay_core::plan::Undo;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::world::{DAY, World, plant, reclaimed};

/// Reclaims against the attacker. Deleting by path loses the victim once in some thousands of tries.
const ROUNDS: usize = 150;

#[test]
fn an_attacker_who_swaps_folders_for_symlinks_gets_nothing_deleted_outside() {
    let world = World::new();
    let outside = world.data.with_file_name("outside");
    let names: Vec<String> = (0..20).map(|n| format!("{n}.log")).collect();
    for name in &names {
        plant(&outside.join(name), b"precious", DAY * 90);
    }
    let (folder, link) = (world.data.join("spool"), world.data.join("swap"));
    fs::create_dir(&folder).unwrap();
    symlink(&outside, &link).unwrap();
    let is_over = AtomicBool::new(false);
    let mut swaps = 0u64;
    let mut taken = 0;
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let mut swaps = 0u64;
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        for _ in 0..ROUNDS {
            for name in &names {
                // Into whichever of the two is the folder just now; into the outside it would be the victim's own name.
                for base in [&folder, &link] {
                    if base.symlink_metadata().is_ok_and(|meta| meta.is_dir()) && !base.join(name).exists() {
                        let _ = fs::write(base.join(format!("x{name}")), b"x").and_then(|()| {
                            let old = std::time::SystemTime::now() - DAY * 9;
                            fs::File::options().append(true).open(base.join(format!("x{name}")))?.set_modified(old)
                        });
                    }
                }
            }
            let plan = mainstay_core::plan::DiskReclaim {
                mount: world.mount(),
                from: vec![world.aged(&["*"])],
                until_used_ratio: 0.0,
                undo: Undo::None,
            };
            let settings = world.actuator.settings().unwrap();
            let context = mainstay_actuator::reclaim::Context {
                places: &world.paths.places,
                state_dir: &world.paths.state,
                hold_file: &world.paths.hold,
                owner: rustix::process::geteuid().as_raw(),
                wall_ms: mainstay_actuator::clock::wall_ms(),
            };
            let id = mainstay_core::id::ActionId(taken);
            let reply = mainstay_actuator::reclaim::engine::run(&plan, id, &settings, &context);
            taken += 1 + reclaimed(reply).places[0].purged_files;
        }
        is_over.store(true, Ordering::Relaxed);
        swaps = attacker.join().unwrap();
    });
    for name in &names {
        assert_eq!(fs::read(outside.join(name)).unwrap(), b"precious", "{name}");
    }
    assert!(swaps > 1000, "the attacker hardly tried: {swaps} swaps");
}
