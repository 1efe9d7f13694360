//! Whatever the tree: what a plan selects goes, all else stays, and undo brings every bit of it back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mainstay_core::id::ActionId;
use mainstay_core::plan::{DiskReclaim, Undo};
use mainstay_core::verb::Verb;
use proptest::prelude::*;

use super::world::{DAY, World, log_text, reclaimed, undone};

#[derive(Debug, Clone)]
struct Planted {
    path: String,
    age_hours: u32,
    is_open: bool,
    has_second_link: bool,
    size: usize,
    mode: u32,
}

fn planted() -> impl Strategy<Value = Planted> {
    let name = prop_oneof!["[ab]{1,2}\\.log", "[ab]{1,2}\\.log\\.1", "[ab]{1,2}\\.gz", "[ab]{1,2}\\.db", "[ab]{1,2}"];
    let folder = prop_oneof![Just(""), Just("x/"), Just("x/y/"), Just("z/")];
    let mode = prop_oneof![Just(0o644), Just(0o600), Just(0o440)];
    let rare = prop::bool::weighted(0.15);
    (folder, name, 0u32..72, rare, prop::bool::weighted(0.15), 9_000usize..60_000, mode).prop_map(
        |(folder, name, age_hours, is_open, has_second_link, size, mode)| Planted {
            path: format!("{folder}{name}"),
            age_hours,
            is_open,
            has_second_link,
            size,
            mode,
        },
    )
}

/// What undo must bring back of a file: contents, then mode, owner, group and time.
type Brought = (Vec<u8>, u32, u32, u32, i64, i64);

/// Everything below a folder that is a file.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, Brought> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            if meta.is_dir() && entry.file_name() != ".mainstay-hold" {
                folders.push(path);
            } else if meta.is_file() {
                let attributes = (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
                let (mode, uid, gid, mtime, nanos) = attributes;
                found.insert(path.clone(), (fs::read(&path).unwrap(), mode, uid, gid, mtime, nanos));
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn exactly_what_is_selected_goes_and_all_of_it_comes_back(
        files in proptest::collection::vec(planted(), 1..14),
        globs in proptest::sample::subsequence(vec!["*.log", "*.log.1", "*.gz", "*.db", "a*"], 1..4),
        hours in 24u64..60,
    ) {
        let world = World::new();
        let outside = world.data.with_file_name("outside");
        fs::create_dir(&outside).unwrap();
        let mut files: BTreeMap<String, Planted> = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        let mut open = Vec::new();
        for (number, file) in files.values_mut().enumerate() {
            let path = world.plant(&file.path, &log_text(file.size), std::time::Duration::from_secs(u64::from(file.age_hours) * 3600));
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(file.mode)).unwrap();
            if file.has_second_link { fs::hard_link(&path, outside.join(number.to_string())).unwrap(); }
            if file.is_open { open.push(fs::File::open(&path).unwrap()); }
        }
        let before = snapshot(&world.data);
        let mut place = world.aged(&globs);
        if let mainstay_core::plan::ReclaimPlace::Aged(aged) = &mut place {
            aged.older_than = std::time::Duration::from_secs(hours * 3600);
        }
        let plan = DiskReclaim { mount: world.mount(), from: vec![place], until_used_ratio: 0.0, undo: Undo::For(DAY) };
        reclaimed(world.ask_as(ActionId(1000), Verb::DiskReclaim(plan)));

        let selected = |file: &Planted| {
            let name = file.path.rsplit('/').next().unwrap();
            let is_like = |glob: &str| mainstay_core::policy::Glob::new(glob).unwrap().matches(name.as_bytes());
            globs.iter().any(|glob| is_like(glob))
                // Root's own globs.
                && ["*.log*", "*.gz"].iter().any(|glob| is_like(glob))
                && u64::from(file.age_hours) >= hours && !file.is_open && !file.has_second_link
        };
        for file in files.values() {
            let is_there = world.data.join(&file.path).exists();
            prop_assert_eq!(is_there, !selected(file), "{:?} globs {:?} hours {}", file, globs, hours);
        }
        let held = files.values().filter(|file| selected(file)).count() as u64;
        if held > 0 {
            let done = undone(world.ask(Verb::Undo { action: ActionId(1000) }));
            prop_assert_eq!((done.restored_files, done.conflicts_total), (held, 0));
        }
        prop_assert_eq!(snapshot(&world.data), before);
    }
}
