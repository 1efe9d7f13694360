//! Hosts that are kept for a shorter time than others: they go, the disk has their room back, and nothing else is lost.

use std::time::Duration;

use mainstay_fleet::rollup::Tier;

use super::super::keys::{RollupKey, ThinnedKey};
use super::super::retention::Retention;
use super::super::rollup::number;
use super::super::thin::Ages;
use super::*;

pub(super) const HOUR_MS: i64 = 3_600_000;
/// So many hours of each host.
pub(super) const HOURS: u32 = 4;

impl World {
    /// Hours of some hosts, joined and rolled up, in tables.
    pub(super) async fn with_hosts(hosts: std::ops::RangeInclusive<u32>) -> Self {
        let world = Self::new();
        let rows = world.rows();
        for hour in 0..HOURS {
            let shifted = |row: &Row| Row { at_ms: row.at_ms + i64::from(hour) * HOUR_MS, ..row.clone() };
            let rows: Vec<Row> = rows.iter().map(shifted).collect();
            for host in hosts.clone() {
                world.put(host, &rows).await;
                world.seal(host, 0).await;
                assert!(world.join_hour(host, HOUR + hour).await);
            }
        }
        world.store.give_back();
        world
    }

    /// The hours that a host has in pieces of a tier.
    fn hours_of(&self, host: u32, tier: Option<Tier>) -> BTreeSet<u32> {
        match tier {
            None => self.pieces().into_iter().filter(|key| key.host == host).map(|key| key.hour).collect(),
            Some(tier) => {
                let all = [RollupKey::ORDINAL, number(tier)];
                let keys = self.store.scan::<RollupKey>(&all, &all).map(|item| item.unwrap().0);
                keys.filter(|key| key.host == host).map(|key| key.stretch).collect()
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_a_shorter_age_goes_sooner_and_the_disk_has_the_room_back() {
    let world = World::with_hosts(1..=8).await;
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let default = Retention { series: hours(400 * 24), series_5m: hours(400 * 24), ..Retention::default() };
    let short = Retention { series: hours(2), series_5m: hours(3), ..default };
    // Neighbours and one alone; half of all.
    let ages = Ages { default, of: [(2, short), (3, short), (4, short), (7, short)].into() };
    let now = WALL + i64::from(HOURS) * HOUR_MS;
    let numbers: Vec<u32> = (1..=8).collect();
    let before: Vec<_> = [1, 5, 6, 8].map(|host| world.values(host, 0, Which::Last, ALL).0).into();
    let full = world.store.live_bytes();

    world.store.retain(&[], ages.clone(), now).await.unwrap();
    assert_eq!(world.hours_of(2, None).len(), HOURS as usize, "whole files go by the longest age only");
    let thin = |ages: Ages, numbers: Vec<u32>| {
        let store = &world.store;
        tokio::task::block_in_place(move || store.thin(&numbers, &ages, now).unwrap())
    };
    assert!(thin(ages.clone(), numbers.clone()) > 0);
    for host in [2, 3, 4, 7] {
        assert_eq!(world.hours_of(host, None), [HOUR + 2, HOUR + 3].into(), "host {host}");
        assert_eq!(world.hours_of(host, Some(Tier::Minutes5)), [HOUR + 1, HOUR + 2, HOUR + 3].into(), "host {host}");
        assert_eq!(world.hours_of(host, Some(Tier::Hour)).len(), 1, "host {host}: the day is kept as for all");
        let (values, _, damaged) = world.values(host, 0, Which::Last, ALL);
        assert_eq!((values.len(), damaged), (2 * 360, Vec::new()), "host {host}");
    }
    let after: Vec<_> = [1, 5, 6, 8].map(|host| world.values(host, 0, Which::Last, ALL).0).into();
    assert_eq!(before, after, "nothing of the others is lost");
    for host in [1, 5, 6, 8] {
        assert_eq!(world.hours_of(host, Some(Tier::Minutes5)).len(), HOURS as usize);
    }
    // Half of the hosts lost half of their rows: nearly a quarter of all.
    let left = world.store.live_bytes();
    assert!(left < full - full / 6, "{left} of {full} bytes are left");

    assert_eq!(thin(ages.clone(), numbers.clone()), 0, "what was done is not done again");
    // One whose age grows has what it still has; one whose age shrinks loses the rest.
    let ages = Ages { default, of: [(1, short), (2, default), (3, short), (4, short), (7, short)].into() };
    assert!(thin(ages, numbers) > 0);
    assert_eq!((world.hours_of(1, None).len(), world.hours_of(2, None).len()), (2, 2));
    assert_eq!(world.hours_of(5, None).len(), HOURS as usize);

    // A host that is deleted leaves nothing behind that its number's next host would have to do with.
    let store = &world.store;
    tokio::task::block_in_place(|| store.forget(mainstay_core::id::HostId([9; 16]), 7, &|_| {})).unwrap();
    assert!(store.get_raw(&ThinnedKey::of(None, 7)).unwrap().is_none());
    assert!(store.get_raw(&ThinnedKey::of(None, 4)).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_a_longer_age_stays_when_all_others_go() {
    let world = World::with_hosts(1..=3).await;
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let default = Retention { series: hours(1), series_5m: hours(1), series_1h: hours(1), ..Retention::default() };
    let long = Retention { series: hours(1_000), ..default };
    let ages = Ages { default, of: [(2, long)].into() };
    let now = WALL + (i64::from(HOURS) + 200) * HOUR_MS;
    world.store.retain(&[], ages.clone(), now).await.unwrap();
    tokio::task::block_in_place(|| world.store.thin(&[1, 2, 3], &ages, now)).unwrap();
    let left: BTreeSet<u32> = world.pieces().into_iter().map(|key| key.host).collect();
    assert_eq!(left, [2].into());
    assert_eq!(world.values(2, 0, Which::Last, ALL).0.len(), HOURS as usize * 360);
    assert_eq!(world.hours_of(2, Some(Tier::Minutes5)), BTreeSet::new());
}
