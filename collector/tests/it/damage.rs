//! Flipped bits in the store's files, and disks that no longer give them back: what is lost is named, the rest is served, and it can be built anew of what is left.

use std::fs;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use mainstay_collector::clock::wall_ms;
use mainstay_collector::collector::{Collector, StartError};
use mainstay_collector::config::Settings;
use mainstay_collector::repair::repair;
use mainstay_collector::scrub;
use mainstay_collector::store::keys::ScrubKey;
use mainstay_collector::store::values::ScrubRow;
use mainstay_collector::store::{Batch, Store};
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;

use crate::agent::{Agent, EPOCH, definitions, hello, item, summary};
use crate::backup::create;
use crate::room::get;
use crate::world::{Papers, World, until};

/// A host with a day of series, in tables.
async fn lived() -> (World, Papers) {
    let world = World::start().await;
    let papers = world.enrol("web-1").await;
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let now = wall_ms();
    let of = |n: i64| item(n.unsigned_abs() + 1, v1::item::Of::Summary(summary(n, now - (144 - n) * 600_000)));
    for items in [(0..144).map(of).collect(), vec![of(144)]] {
        agent.say(Say::Push(v1::Push { epoch: EPOCH, define: definitions(), items, ..Default::default() })).await;
        assert!(matches!(agent.hear().await, Some(Hear::Ack(_))));
    }
    create(&world).await;
    (world, papers)
}

fn files(world: &World, is_meant: impl Fn(&str, &[u8]) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.folder.path().join("data/db")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| is_meant(path.file_name().unwrap().to_str().unwrap(), &fs::read(path).unwrap())).collect()
}

/// The tables of a column: each says in its properties whose it is.
fn tables(world: &World, column: &str) -> Vec<PathBuf> {
    let named = format!("name{column}").into_bytes();
    files(world, |name, bytes| name.ends_with(".sst") && bytes.windows(named.len()).any(|part| part == named))
}

fn flip(file: &Path, at: usize) {
    // A backup has the same file under another name, which is to stay as it is.
    let mut bytes = fs::read(file).unwrap();
    bytes[at..at + 3].iter_mut().for_each(|byte| *byte ^= 0x10);
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Every read of a file that this process has open fails from now on as one of a broken disk does. The kernel says the same
/// of memory where nothing is mapped, which is so of the first of it that a table's places lie in.
#[allow(unsafe_code)]
fn break_disk_under(file: &Path) {
    let (nothing, file) = (fs::File::open("/proc/self/mem").unwrap(), file.canonicalize().unwrap());
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let of_file: Vec<PathBuf> = open.filter(|fd| fs::read_link(fd).is_ok_and(|of| of == file)).collect();
    assert!(!of_file.is_empty(), "{} is open", file.display());
    for fd in of_file {
        let fd: RawFd = fd.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // SAFETY: it is open, and it stays RocksDB's: it is lent for this one call, and not closed.
        // JUSTIFICATION: nothing else makes a disk fail that a test can have without root.
        let mut theirs = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) });
        rustix::io::dup2(&nothing, &mut theirs).unwrap();
    }
}

async fn start(world: &mut World) {
    world.collector = Some(Collector::start(Settings::for_tests(world.folder.path())).await.unwrap());
}

async fn ask(world: &World, promql: &str) -> v1::QueryRangeResponse {
    let ops = world.operator("ops", "viewer").await;
    let now = wall_ms();
    let mut request =
        v1::QueryRangeRequest { from_ms: now - 20 * 3_600_000, to_ms: now, step_ms: 600_000, ..Default::default() };
    if promql.is_empty() {
        request.name = "node_load1".to_owned();
    } else {
        request.promql = promql.to_owned();
    }
    world.queries(&ops).await.query_range(request).await.unwrap().into_inner()
}

async fn status(world: &World) -> v1::CollectorStatusResponse {
    let ops = world.operator("ops", "viewer").await;
    world.queries(&ops).await.collector_status(v1::CollectorStatusRequest {}).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_whose_series_are_damaged_serves_the_rest_says_what_is_lost_and_can_be_repaired() {
    let (mut world, papers) = lived().await;
    let whole = ask(&world, "").await;
    assert_eq!((whole.completeness, whole.damaged.len()), (1.0, 0));
    world.collector.take().unwrap().stop().await;
    let tables = tables(&world, "series");
    assert!(!tables.is_empty());
    tables.iter().for_each(|table| flip(table, 100));
    start(&mut world).await;

    for promql in ["", "max_over_time(node_load1[10m])"] {
        let answer = ask(&world, promql).await;
        assert!(
            !answer.damaged.is_empty() && answer.damaged[0].starts_with("web-1: "),
            "{promql}: {:?}",
            answer.damaged
        );
        assert!(answer.completeness < 0.9, "{promql}: {}", answer.completeness);
    }
    let damaged = until("what is lost", || async {
        let damaged = status(&world).await.damaged;
        damaged.iter().any(|one| one.is_searched).then_some(damaged)
    })
    .await;
    assert!(damaged[0].column == "series" && damaged[0].said.contains("checksum"), "{damaged:?}");
    assert!(tables.iter().any(|table| table.ends_with(&damaged[0].table)), "{damaged:?}");
    assert!(damaged[0].lost.iter().any(|lost| lost.what == "series as they came"), "{damaged:?}");
    let metrics = get(&world, "/metrics").await;
    assert!(metrics.contains(&format!("mainstay_collector_store_damaged_tables {}\n", damaged.len())), "{metrics}");
    assert!(get(&world, "/-/healthy").await.contains("mainstay status"));
    // The host goes on to bring what it has.
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let more = item(200, v1::item::Of::Summary(summary(200, wall_ms())));
    agent
        .say(Say::Push(v1::Push { epoch: EPOCH, define: definitions(), items: vec![more], ..Default::default() }))
        .await;
    assert!(matches!(agent.hear().await, Some(Hear::Ack(_))));
    world.collector.take().unwrap().stop().await;
    drop(agent);

    let data = world.folder.path().join("data");
    let repaired = repair(&data, wall_ms(), &mut |_, _| {}).unwrap();
    assert!(
        repaired.damaged.exists() && !repaired.rebuilt.lost.is_empty() && repaired.rebuilt.entries > 10,
        "{repaired:?}"
    );
    start(&mut world).await;
    // Names that were written again lay among those that are lost; they come back with the host.
    let (mut agent, _) = Agent::open(&world.address(), &papers, hello("web-1")).await;
    let more = item(201, v1::item::Of::Summary(summary(201, wall_ms())));
    agent
        .say(Say::Push(v1::Push { epoch: EPOCH, define: definitions(), items: vec![more], ..Default::default() }))
        .await;
    assert!(matches!(agent.hear().await, Some(Hear::Ack(_))));
    let answer = ask(&world, "").await;
    assert_eq!(answer.damaged, Vec::<String>::new(), "what is lost is lost, and nothing is damaged");
    assert_eq!(status(&world).await.damaged, []);
    assert!(answer.series.iter().any(|series| series.values == [143.0, 201.0]), "rows that could be read: {answer:?}");
    assert_eq!(world.collector.as_ref().unwrap().hub.state().hosts.len(), 1);
    world.stop().await;
}

/// How many rows a host has, and what of them is said to be damaged.
fn rows(store: &Store, host: u32) -> (usize, Vec<String>) {
    let view = store.view();
    let (mut reader, mut rows) = (view.reader(), 0);
    let read = reader.host(host, None, (0, wall_ms()), &mut |piece| {
        rows += piece.times.len();
        Ok(())
    });
    read.unwrap();
    (rows, reader.damaged())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_disk_no_longer_gives_back_is_lost_as_what_it_gives_back_wrongly_is() {
    let (mut world, _) = lived().await;
    let collector = world.collector.take().unwrap();
    let host = collector.hub.state().hosts.values().next().unwrap().row.short;
    collector.stop().await;
    let path = world.folder.path().join("data/db");
    let whole = rows(&Store::open(&path, 32 << 20, 0).unwrap(), host);
    assert_eq!(whole, (145, Vec::new()));
    let broken = tables(&world, "series");

    let store = Store::open(&path, 32 << 20, 0).unwrap();
    broken.iter().for_each(|table| break_disk_under(table));
    let (left, damaged) = rows(&store, host);
    assert!(left < whole.0 && !damaged.is_empty(), "{left} rows: {damaged:?}");
    let found = store.survey().unwrap();
    for damage in &found {
        assert!(damage.said.contains("Input/output error"), "{damage:?}");
        assert!(broken.iter().any(|table| table.ends_with(&damage.table)), "{damage:?}");
        assert!(damage.lost.as_ref().is_some_and(|lost| !lost.is_empty()), "{damage:?}");
    }
    assert!(!found.is_empty());
    // The rest goes on.
    let mut batch = Batch::default();
    batch.put(&ScrubKey { number: 0 }, &ScrubRow::default());
    store.commit(batch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_cannot_start_names_the_file_and_what_to_do() {
    for what in ["a table of what it begins with", "a footer", "the list of tables"] {
        let (mut world, _) = lived().await;
        world.collector.take().unwrap().stop().await;
        let (file, at) = match what {
            "a table of what it begins with" => (tables(&world, "meta").remove(0), 60),
            "a footer" => {
                let file = tables(&world, "ledger").into_iter().chain(tables(&world, "series")).next().unwrap();
                let length = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
                (file, length - 20)
            }
            _ => (files(&world, |name, _| name.starts_with("MANIFEST-")).remove(0), 60),
        };
        flip(&file, at);
        let refused = Collector::start(Settings::for_tests(world.folder.path())).await.unwrap_err();
        let StartError::Damaged { text, .. } = &refused else { panic!("{what}: {refused:?}") };
        assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{what}: {text}");
        let said = refused.to_string();
        assert!(
            said.contains("mainstay backup restore") && said.contains("mainstay-collector repair"),
            "{what}: {said}"
        );
        let data = world.folder.path().join("data");
        let repaired = repair(&data, wall_ms(), &mut |_, _| {});
        if what == "the list of tables" {
            let said = format!("{:#}", repaired.unwrap_err());
            assert!(said.contains("restore a backup"), "{said}");
        } else {
            assert!(!repaired.unwrap().rebuilt.lost.is_empty(), "{what}");
            start(&mut world).await;
            world.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_read_through_and_it_is_known_when_and_what_came_of_it() {
    let (mut world, _) = lived().await;
    let hub = world.collector.as_ref().unwrap().hub.clone();
    assert_eq!(status(&world).await.scrub.unwrap().ended_ms, 0);
    assert!(!get(&world, "/metrics").await.contains("mainstay_collector_scrub_age_seconds "));
    scrub::through(&hub).await.unwrap();
    let good = status(&world).await;
    assert!(good.jobs.is_empty() && good.damaged.is_empty(), "{good:?}");
    let good = good.scrub.unwrap();
    assert!(good.ended_ms > wall_ms() - 60_000 && good.bytes > 10_000 && good.damaged == 0, "{good:?}");
    assert!(get(&world, "/metrics").await.contains("mainstay_collector_scrub_age_seconds "));
    // One that was broken off near the end goes on there.
    let mut batch = Batch::default();
    let broken =
        ScrubRow { began_ms: 5, column: "incidents".to_owned(), at: vec![0xff], bytes: 7, ..hub.scrubs.known() };
    batch.put(&ScrubKey { number: 0 }, &broken);
    hub.store.commit(batch).await.unwrap();
    drop(hub);
    world.collector.take().unwrap().stop().await;
    tables(&world, "series").iter().for_each(|table| flip(table, 100));
    start(&mut world).await;
    assert_eq!(status(&world).await.scrub, Some(good), "it is known after a start");
    let hub = world.collector.as_ref().unwrap().hub.clone();
    scrub::through(&hub).await.unwrap();
    assert_eq!(status(&world).await.scrub.unwrap().bytes, 7);
    scrub::through(&hub).await.unwrap();
    let bad = status(&world).await;
    assert!(bad.scrub.unwrap().damaged > 0 && bad.damaged.iter().all(|one| one.column == "series"), "{bad:?}");
    assert_eq!(bad.scrub.unwrap().damaged as usize, bad.damaged.len());
    drop(hub);
    world.stop().await;
}
