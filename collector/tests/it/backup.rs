//! Backups: made while everything runs, read back, put onto an empty machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mainstay_collector::backup::restore::{self, MARK, Order};
use mainstay_collector::backup::seal::BackupKey;
use mainstay_collector::backup::{Trouble, shelf};
use mainstay_collector::clock::wall_ms;
use mainstay_collector::collector::{Collector, StartError};
use mainstay_collector::config::Settings;
use mainstay_proto::v1;
use tonic::{Status, Streaming};

use crate::agent::{Agent, EPOCH, definitions, hello, item, summary};
use crate::room::get;
use crate::world::{Papers, World};

pub(crate) const KEY: [u8; 32] = [5; 32];

/// Takes what is told until it is over; the last of it says what came out.
async fn told(mut progress: Streaming<v1::BackupProgress>) -> Result<Vec<v1::BackupProgress>, Status> {
    let mut told = Vec::new();
    while let Some(said) = progress.message().await? {
        assert!(said.done_bytes <= said.total_bytes, "{said:?}");
        told.push(said);
    }
    assert!(told.last().is_some_and(|last| last.finished), "{told:?}");
    Ok(told)
}

async fn last(progress: Streaming<v1::BackupProgress>) -> Result<v1::BackupProgress, Status> {
    Ok(told(progress).await?.pop().unwrap())
}

async fn create_in(world: &World, root: &Path, keep: u32) -> Result<v1::BackupProgress, Status> {
    let request = v1::CreateBackupRequest { path: root.display().to_string(), key: KEY.to_vec(), keep };
    last(world.admin().await.create_backup(request).await?.into_inner()).await
}

/// Makes a backup and says where it is.
pub(crate) async fn create(world: &World) -> PathBuf {
    create_in(world, &root(world), 0).await.unwrap().path.into()
}

fn root(world: &World) -> PathBuf {
    world.folder.path().join("backups")
}

async fn verify(world: &World, backup: &Path, key: [u8; 32]) -> Vec<String> {
    let (path, name) = (backup.parent().unwrap().display().to_string(), backup.file_name().unwrap().to_str().unwrap());
    let request = v1::VerifyBackupRequest { path, name: name.to_owned(), key: key.to_vec() };
    last(world.admin().await.verify_backup(request).await.unwrap().into_inner()).await.unwrap().problems
}

/// Restores a backup below another folder, as the program does.
pub(crate) async fn restored(backup: &Path, folder: &Path) -> Result<Settings, Trouble> {
    let settings = Settings::for_tests(folder);
    let (backup, data, socket) = (backup.to_owned(), settings.data.clone(), settings.admin_socket.clone());
    let work = move || {
        let key = BackupKey::new(KEY);
        let order = Order { backup: &backup, data: &data, socket: &socket, key: &key, now_ms: wall_ms() };
        restore::restore(&order, &mut |_, _| {})
    };
    tokio::task::spawn_blocking(work).await.unwrap().map(|_| settings)
}

/// Hours of summaries of one host, so that there are tables to share.
async fn filled() -> (World, Papers, Agent) {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    push(&mut agent, 1).await;
    (world, papers, agent)
}

/// Pushes a summary for each ten minutes of a day, from the item `first` on.
async fn push(agent: &mut Agent, first: u64) {
    let begin_ms = 1_780_000_000_000 + i64::try_from(first).unwrap() * 600_000;
    let items = (0..144).map(|n| {
        let summary = summary(n, begin_ms + n * 600_000);
        item(first + n.unsigned_abs(), v1::item::Of::Summary(summary))
    });
    let push = v1::Push { epoch: EPOCH, define: definitions(), items: items.collect(), ..Default::default() };
    agent.say(v1::agent_message::Of::Push(push)).await;
    let Some(v1::collector_message::Of::Ack(ack)) = agent.hear().await else { panic!("Ack was expected") };
    assert_eq!(ack.durable_seq, first + 143);
}

fn tables(backup: &Path) -> Vec<PathBuf> {
    let mut tables: Vec<PathBuf> =
        fs::read_dir(backup.join("db")).unwrap().map(|entry| entry.unwrap().path()).collect();
    tables.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    tables.sort();
    tables
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_shares_unchanged_tables_with_the_one_before_and_needs_none_of_it() {
    let (world, papers, mut agent) = filled().await;
    let first = create(&world).await;
    push(&mut agent, 145).await;
    let second = create_in(&world, &root(&world), 0).await.unwrap();
    let (second, added, total) = (PathBuf::from(second.path), second.added_bytes, second.total_bytes);
    let common: Vec<_> =
        tables(&first).into_iter().filter(|path| second.join("db").join(path.file_name().unwrap()).exists()).collect();
    assert!(!common.is_empty(), "{:?} and {:?}", tables(&first), tables(&second));
    let mut shared = 0;
    for path in &common {
        assert_eq!(inode(path), inode(&second.join("db").join(path.file_name().unwrap())), "{path:?}");
        shared += fs::metadata(path).unwrap().len();
    }
    assert_eq!(added, total - shared, "what is shared was not copied");

    let listed = world.admin().await.list_backups(v1::ListBackupsRequest::default()).await.unwrap().into_inner();
    let names: Vec<_> = listed.backups.iter().map(|backup| backup.name.as_str()).collect();
    assert_eq!(names, [&second, &first].map(|path| path.file_name().unwrap().to_str().unwrap()), "the newest first");
    assert!(listed.backups.iter().all(|backup| backup.problem.is_empty() && backup.own_bytes < backup.bytes));

    let third = create_in(&world, &root(&world), 1).await.unwrap();
    assert!(third.text.contains("removed"), "{}", third.text);
    assert!(!first.exists() && !second.exists(), "one is kept");
    let third = PathBuf::from(third.path);
    assert_eq!(verify(&world, &third, KEY).await, Vec::<String>::new(), "it has lost nothing with them");
    assert_eq!(verify(&world, &third, KEY).await, Vec::<String>::new(), "reading it has left nothing");

    let elsewhere = world.folder.path().join("elsewhere");
    let settings = restored(&third, &elsewhere).await.unwrap();
    let again = Collector::start(settings).await.unwrap();
    let (_agent, welcome) = Agent::open(&again.address.to_string(), &papers, hello("web-1")).await;
    assert_eq!(welcome.durable_seq, 288, "the CA knows the host, the store its items");
    again.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_a_backup_has_come_is_told_as_it_is_made_and_read() {
    let (world, _papers, _agent) = filled().await;
    let mut admin = world.admin().await;
    let path = root(&world).display().to_string();
    let request = v1::CreateBackupRequest { path: path.clone(), key: KEY.to_vec(), keep: 0 };
    let made = told(admin.create_backup(request).await.unwrap().into_inner()).await.unwrap();
    let name = Path::new(&made.last().unwrap().path).file_name().unwrap().to_str().unwrap().to_owned();
    let request = v1::VerifyBackupRequest { path, name, key: KEY.to_vec() };
    let read = told(admin.verify_backup(request).await.unwrap().into_inner()).await.unwrap();
    for mut told in [made, read] {
        let end = told.pop().unwrap();
        assert!(!told.iter().any(|said| said.finished) && end.problems.is_empty(), "{end:?}");
        let done: Vec<u64> = told.iter().map(|said| said.done_bytes).collect();
        // What whoever asked is too slow for is not told, but for the first of it.
        assert!(done.len() > 2 && done.is_sorted_by(|a, b| a < b), "{done:?}");
        let total = told[0].total_bytes;
        assert!(total > 0 && told.iter().all(|said| said.total_bytes == total && !said.text.is_empty()), "{told:?}");
        assert!(done[0] == 0 && (1..total).contains(&done[1]), "{done:?} of {total}");
    }
    world.stop().await;
}

/// Another filesystem than the store's; where there is none, nothing can be said.
fn other_filesystem(world: &World) -> tempfile::TempDir {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(shm.path()), device(world.folder.path()), "tests run with /dev/shm on a filesystem of its own");
    shm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_another_filesystem_unchanged_tables_are_copied_once() {
    let (world, _papers, mut agent) = filled().await;
    let shm = other_filesystem(&world);
    let first = create_in(&world, shm.path(), 0).await.unwrap();
    assert_eq!(first.added_bytes, first.total_bytes, "all of it was copied");
    push(&mut agent, 145).await;
    let second = create_in(&world, shm.path(), 0).await.unwrap();
    assert!(second.added_bytes < second.total_bytes, "{second:?}");
    let (first, second) = (PathBuf::from(first.path), PathBuf::from(second.path));
    let common: Vec<_> = tables(&first)
        .into_iter()
        .map(|path| (second.join("db").join(path.file_name().unwrap()), path))
        .filter(|(other, _)| other.exists())
        .collect();
    assert!(!common.is_empty());
    assert!(common.iter().all(|(one, other)| inode(one) == inode(other)));
    assert!(!world.folder.path().join("data/checkpoint").exists(), "what was copied from is gone");
    for backup in [&first, &second] {
        assert_eq!(verify(&world, backup, KEY).await, Vec::<String>::new());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_a_missing_file_a_stranger_and_a_wrong_key_are_found_and_not_restored() {
    let (world, _papers, _agent) = filled().await;
    let backup = create(&world).await;
    let table = tables(&backup).pop().unwrap();
    let wrong = verify(&world, &backup, [6; 32]).await;
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains("keys.sealed") && wrong[0].contains("another key"), "{wrong:?}");

    // The store goes on with the same file: what is damaged here is a copy.
    let whole = fs::read(&table).unwrap();
    fs::remove_file(&table).unwrap();
    let listed = world.admin().await.list_backups(v1::ListBackupsRequest::default()).await.unwrap().into_inner();
    assert!(listed.backups[0].problem.contains("is missing"), "{}", listed.backups[0].problem);
    let said = verify(&world, &backup, KEY).await;
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(said.len() == 1 && said[0].contains(name) && said[0].contains("take an older one"), "{said:?}");

    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    fs::write(&table, &flipped).unwrap();
    let said = verify(&world, &backup, KEY).await;
    assert!(said.len() == 1 && said[0].contains(name) && said[0].contains("hash"), "{said:?}");
    let target = tempfile::tempdir().unwrap();
    let refused = restored(&backup, target.path()).await.unwrap_err();
    assert!(refused.path.ends_with(name) && refused.next.contains("older"), "{refused}");
    assert_eq!(fs::read_dir(target.path().join("data")).unwrap().count(), 0, "nothing is left of it");

    fs::write(&table, &whole).unwrap();
    fs::write(backup.join("db/999999.sst"), b"x").unwrap();
    let said = verify(&world, &backup, KEY).await;
    assert!(said.len() == 1 && said[0].contains("999999.sst"), "{said:?}");
    fs::remove_file(backup.join("db/999999.sst")).unwrap();

    let manifest = backup.join("MANIFEST");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replacen("file ", "file 0", 1)).unwrap();
    let said = verify(&world, &backup, KEY).await;
    assert!(said.len() == 1 && said[0].contains("MANIFEST") && said[0].contains("changed or damaged"), "{said:?}");
    fs::write(&manifest, text).unwrap();
    assert_eq!(verify(&world, &backup, KEY).await, Vec::<String>::new());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_damaged_before_the_backup_is_found_by_its_own_checksum() {
    let (world, _papers, _agent) = filled().await;
    let first = create(&world).await;
    // The store's own table, which is the backup's too: damaged in place, as a disk does it.
    let table = tables(&first).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&table).unwrap();
    bytes[20] ^= 1;
    let stamp = fs::metadata(&table).unwrap().modified().unwrap();
    fs::write(&table, &bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(&table)
        .unwrap()
        .set_modified(stamp.checked_add(std::time::Duration::from_secs(1)).unwrap())
        .unwrap();
    let second = create(&world).await;
    let said = verify(&world, &second, KEY).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("damaged before this backup was made"), "{said:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_empty_folder_is_restored_into_and_a_half_restore_is_not_started_from() {
    let (world, _papers, _agent) = filled().await;
    let backup = create(&world).await;
    let key = BackupKey::new(KEY);
    let settings = Settings::for_tests(world.folder.path());
    let order = Order { backup: &backup, data: &settings.data, socket: &settings.admin_socket, key: &key, now_ms: 0 };
    let refused = restore::restore(&order, &mut |_, _| {}).unwrap_err();
    assert!(refused.text.contains("runs on this machine") && refused.next.contains("systemctl stop"), "{refused}");
    let nowhere = world.folder.path().join("nobody.sock");
    let refused = restore::restore(&Order { socket: &nowhere, ..order }, &mut |_, _| {}).unwrap_err();
    assert!(refused.text.contains("not empty") && refused.next.starts_with("move what is there away"), "{refused}");

    let target = tempfile::tempdir().unwrap();
    let settings = Settings::for_tests(target.path());
    let half = settings.data.join("db");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("000001.sst"), b"half").unwrap();
    fs::write(settings.data.join(MARK), b"").unwrap();
    let refused = Collector::start(settings.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::HalfRestored { .. }), "{refused}");
    assert!(refused.to_string().contains("restore it again"), "{refused}");
    // Brought along by whoever restores.
    fs::create_dir(settings.data.join("backups")).unwrap();
    restored(&backup, target.path()).await.unwrap();
    assert!(!half.join("000001.sst").exists() && !settings.data.join(MARK).exists());
    for (path, mode) in [("ca", 0o700), ("ca/ca.key", 0o600), ("db", 0o700)] {
        assert_eq!(fs::metadata(settings.data.join(path)).unwrap().mode() & 0o777, mode, "{path}");
    }
    Collector::start(settings).await.unwrap().stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_wrongly_is_refused_with_what_to_do() {
    let world = World::start().await;
    let mut admin = world.admin().await;
    let request =
        |path: &str, key: &[u8]| v1::CreateBackupRequest { path: path.to_owned(), key: key.to_vec(), keep: 0 };
    let refused = admin.create_backup(request("", b"")).await.unwrap_err();
    assert!(refused.message().contains("`mainstay backup keygen` makes one"), "{}", refused.message());
    let refused = admin.create_backup(request("relative", &KEY)).await.unwrap_err();
    assert!(refused.message().contains("absolute path"), "{}", refused.message());
    let file = world.folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let refused = create_in(&world, &file, 0).await.unwrap_err();
    assert!(refused.message().contains(file.to_str().unwrap()), "{}", refused.message());
    let request = v1::VerifyBackupRequest { key: KEY.to_vec(), ..Default::default() };
    let refused = last(admin.verify_backup(request).await.unwrap().into_inner()).await.unwrap_err();
    assert!(refused.message().contains("no backup is in it; `mainstay backup list`"), "{}", refused.message());
    let one = world.collector.as_ref().unwrap().hub.backing_up.clone().lock_owned().await;
    let refused = create_in(&world, &root(&world), 0).await.unwrap_err();
    assert!(refused.message().contains("another backup"), "{}", refused.message());
    drop(one);
    // What was made by nobody of ours is left alone, what a killed collector left is not.
    fs::create_dir_all(root(&world).join("letters")).unwrap();
    fs::create_dir_all(root(&world).join(".20270115T080000.000Z.making/db")).unwrap();
    fs::create_dir_all(root(&world).join("20270115T080000.000Z")).unwrap();
    create_in(&world, &root(&world), 1).await.unwrap();
    let mut left: Vec<_> =
        fs::read_dir(root(&world)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(left[2], "letters");
    let listed = shelf::list(&root(&world)).unwrap();
    let unusable = listed.iter().find(|backup| backup.name == "20270115T080000.000Z").unwrap();
    assert!(unusable.whole.is_err(), "one that cannot be used is shown and stays");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_known_when_the_last_backup_was_made_and_what_came_of_reading_it() {
    let (mut world, _, agent) = filled().await;
    drop(agent);
    assert!(
        !get(&world, "/metrics").await.contains("mainstay_collector_backup_"),
        "nothing is said of what is not known"
    );
    let backup = create(&world).await;
    assert_eq!(verify(&world, &backup, KEY).await, Vec::<String>::new());
    let metrics = get(&world, "/metrics").await;
    let age = metrics.lines().find_map(|line| line.strip_prefix("mainstay_collector_backup_age_seconds ")).unwrap();
    assert!(
        age.parse::<u64>().unwrap() < 60 && metrics.contains("mainstay_collector_backup_problems 0\n"),
        "{metrics}"
    );
    let table = tables(&backup).remove(0);
    let mut bytes = fs::read(&table).unwrap();
    bytes[20] ^= 1;
    fs::remove_file(&table).unwrap();
    fs::write(&table, bytes).unwrap();
    assert_eq!(verify(&world, &backup, KEY).await.len(), 1);
    world.restart().await;
    let metrics = get(&world, "/metrics").await;
    assert!(metrics.contains("mainstay_collector_backup_problems 1\n"), "it is known after a start: {metrics}");
    let known = world.collector.as_ref().unwrap().hub.backups.known();
    assert_eq!((Path::new(&known.path), known.problems.len()), (backup.as_path(), 1));
    world.stop().await;
}
