//! What is kept from one question to the next goes with what it was read of, and nothing else does: when it is thinned,
//! dropped for its age, deleted with its host, found damaged, or repaired.

use std::fs;
use std::time::Duration;

use mainstay_core::id::HostId;

use super::super::rebuild::rebuild;
use super::super::retention::Retention;
use super::super::thin::Ages;
use super::damage::{HOSTS as DAMAGED_HOSTS, table};
use super::thin::{HOUR_MS, HOURS};
use super::warm::{ASKED, Found, again_with_damage, stored_with_damage};
use super::*;

const ONE: &[(usize, Which)] = &[ASKED[0]];

impl World {
    /// Asks for one series of a host as a question does that may be asked again, and holds it against what is stored. Says
    /// what there was, and how much of it was kept.
    fn ask_again(&self, host: u32) -> (Found, u64, Vec<String>) {
        let view = self.store.view();
        let (found, read, damaged) = again_with_damage(&view, host, ONE, ALL);
        let found = (found, damaged);
        assert!(found == stored_with_damage(&view, host, ONE, ALL), "host {host}");
        (found.0, read.kept, found.1)
    }

    /// The same of some hosts until all of it is kept, and of each how many values there are.
    fn ask_until_kept(&self, hosts: &[u32], kept: u64) -> Vec<usize> {
        hosts.iter().for_each(|host| drop(self.ask_again(*host)));
        let of = |host: &u32| {
            let (found, read, damaged) = self.ask_again(*host);
            assert_eq!((read, damaged), (kept, Vec::new()), "host {host}");
            found.len()
        };
        hosts.iter().map(of).collect()
    }
}

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3_600)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_thinned_or_dropped_for_its_age_is_no_longer_kept() {
    let world = World::with_hosts(1..=3).await;
    let whole = HOURS as usize * 360;
    // The hours, and that there are no open rows.
    let all_kept = u64::from(HOURS);
    assert_eq!(world.ask_until_kept(&[1, 2, 3], all_kept), [whole; 3]);
    let default = Retention { series: hours(1_000), ..Retention::default() };
    let ages = Ages { default, of: [(2, Retention { series: hours(2), ..default })].into() };
    let now = WALL + i64::from(HOURS) * HOUR_MS;
    // A question goes on meanwhile, as the store was before.
    let before = world.store.view();
    assert!(tokio::task::block_in_place(|| world.store.thin(&[1, 2, 3], &ages, now)).unwrap() > 0);
    assert_eq!(again_with_damage(&before, 2, ONE, ALL).0.len(), whole, "as it was then");
    let of = |host| {
        let (found, kept, damaged) = world.ask_again(host);
        assert_eq!(damaged, Vec::<String>::new(), "host {host}");
        (found.len(), kept)
    };
    assert_eq!(of(2), (2 * 360, 2), "what is thinned is gone at once, and the rest of it is kept");
    assert_eq!([1, 3].map(of), [(whole, all_kept); 2], "nothing of the others is let go");
    drop(before);

    let before = world.store.view();
    let shorter = Retention { series: hours(1), ..default };
    world.store.retain(&[], shorter, now).await.unwrap();
    // Files that are dropped are dropped under a question that goes on, too; it must not keep what it sees.
    (1..=3).for_each(|host| drop(again_with_damage(&before, host, ONE, ALL)));
    drop(before);
    assert_eq!([1, 2, 3].map(of), [(360, 1); 3], "the hour that stays is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_that_removes_nothing_lets_nothing_go() {
    let world = World::with_hosts(1..=3).await;
    let rows = world.rows();
    world.put(3, &[Row { at_ms: WALL + i64::from(HOURS) * HOUR_MS, ..rows[0].clone() }]).await;
    let kept = [1, 2, 3].map(|host| u64::from(HOURS) + u64::from(host == 3));
    [1, 2, 3].into_iter().zip(kept).for_each(|(host, kept)| drop(world.ask_until_kept(&[host], kept)));
    let now = WALL + i64::from(HOURS) * HOUR_MS;
    // So long that nothing is too old, and of one host just so long.
    let default = Retention { series: hours(1_000), ..Retention::default() };
    let ages = Ages { default, of: [(2, Retention { series: hours(u64::from(HOURS)), ..default })].into() };
    world.store.retain(&[], ages.clone(), now).await.unwrap();
    tokio::task::block_in_place(|| world.store.thin(&[1, 2, 3], &ages, now)).unwrap();
    assert_eq!([1, 2, 3].map(|host| world.ask_again(host).1), kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_rows_that_are_too_old_are_no_longer_kept() {
    let world = World::new();
    let rows = world.rows();
    world.put(HOST, &rows[..90]).await;
    assert_eq!(world.ask_until_kept(&[HOST], 1), [90]);
    // Rows of a host that never came back to have them sealed.
    let now = rows[60].at_ms + 3_600_000;
    world.store.retain(&[], Retention { series: hours(1), ..Retention::default() }, now).await.unwrap();
    assert_eq!(world.ask_again(HOST).0.len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_deleted_host_is_kept_for_the_next_of_its_number() {
    let world = World::with_hosts(1..=2).await;
    let rows = world.rows();
    world.put(2, &[Row { at_ms: WALL + i64::from(HOURS) * HOUR_MS, ..rows[0].clone() }]).await;
    let all_kept = u64::from(HOURS) + 1;
    assert_eq!(world.ask_until_kept(&[2], all_kept), [HOURS as usize * 360 + 1]);
    let before = world.store.view();
    tokio::task::block_in_place(|| world.store.forget(HostId([9; 16]), 2, &|_| {})).unwrap();
    // A question that goes on keeps nothing of it either.
    assert_eq!(again_with_damage(&before, 2, ONE, ALL).0.len(), HOURS as usize * 360 + 1, "as it was then");
    drop(before);
    assert_eq!(world.ask_again(2).0.len(), 0);
    world.put(2, &rows[..3]).await;
    assert_eq!(world.ask_again(2).0.len(), 3, "the next host has what it brought");
    assert_eq!(world.ask_until_kept(&[1], u64::from(HOURS)), [HOURS as usize * 360]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_a_damaged_table_is_told_alike_whether_it_was_asked_for_before_or_not() {
    let (world, rows) = World::with_hours().await;
    let hosts: Vec<u32> = (1..=DAMAGED_HOSTS).collect();
    assert_eq!(world.ask_until_kept(&hosts, 1), [360; DAMAGED_HOSTS as usize]);
    let file = table(&world.store, Column::Series);
    let (path, warm) = (world.store.path().to_owned(), world.store.warm.clone());
    let World { store, schema, folder } = world;
    drop(store);
    let mut bytes = fs::read(&file).unwrap();
    // But for what is at the end: the index, which is read first.
    let end = bytes.len() * 9 / 10;
    (40_000..end).step_by(100_000).for_each(|at| bytes[at] ^= 0x10);
    fs::write(&file, &bytes).unwrap();
    // RocksDB has nothing of it in memory, and what was kept is still there.
    let world = World { store: Store::open_with(&path, 32 << 20, 0, warm).unwrap(), schema, folder };
    assert!(world.store.warm.bytes() > 0);
    // Others ask for other series, and meet it.
    for at in (0..SERIES).step_by(24) {
        hosts.iter().for_each(|host| drop(world.values(*host, at, Which::Last, ALL)));
    }
    assert!(!world.store.damages().all().is_empty());
    let mut named = 0;
    for host in &hosts {
        let (found, kept, damaged) = world.ask_again(*host);
        assert!(found.len() == 360 || !damaged.is_empty(), "host {host}: {} values, and nobody says so", found.len());
        named += usize::from(found.len() < 360);
        assert_eq!(kept, 0, "host {host}");
    }
    assert!(named > 0, "the series that was asked for lies where bits were flipped");
    // With what is written next what can be read is kept again, and what cannot is told again.
    world.put(900, &rows[..1]).await;
    for host in &hosts {
        let (once, again) = (world.ask_again(*host), world.ask_again(*host));
        assert_eq!(once.0, again.0, "host {host}");
        assert_eq!(again.1, u64::from(again.0.len() == 360), "host {host}");
    }

    // Of the store that is built of it nothing was read yet.
    let World { store, schema, folder } = world;
    drop(store);
    let new = tempfile::tempdir().unwrap();
    assert!(!rebuild(&path, new.path(), &mut |_| {}).unwrap().lost.is_empty());
    let world = World { store: Store::open(new.path(), 32 << 20, 0).unwrap(), schema, folder };
    for host in &hosts {
        let (once, again) = (world.ask_again(*host), world.ask_again(*host));
        assert_eq!((once.1, &once.0), (0, &again.0), "host {host}");
        assert_eq!(again.1, u64::from(again.0.len() == 360), "host {host}");
    }
}
