//! Who has which series, asked of the whole fleet: as the plain way has it, which knows every row that was written and looks
//! at each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_core::series::{Point, SeriesKey};
use mainstay_fleet::block::Row;
use mainstay_promql::{Interrupted, Label, Labels, Matcher, NAME, Source as _, Wanted, all_hold, parse_selector};
use mainstay_proto::v1;

use super::fleet::Fleet;
use super::names::{self, Names};
use super::{AT_ONCE, Stop, TIMEOUT, in_turn};
use crate::config::Settings;
use crate::enrol::authority::Authority;
use crate::hub::Hub;
use crate::store::keys::HostKey;
use crate::store::retention::Retention;
use crate::store::schema::Schema;
use crate::store::series::{SLOT_MS, slot_of};
use crate::store::values::HostRow;
use crate::store::{Batch, Store};

/// The beginning of an hour.
const WALL: i64 = 1_800_000_000_000;
const HOUR: u32 = 500_000;
const HOUR_MS: i64 = 3_600_000;
/// More than are read where the query is evaluated.
const HOSTS: u32 = 80;
/// Between two rows of a host: coarse, so that spans lie between rows.
const STEP_MS: i64 = 130_000;

const SELECTORS: [&str; 12] = [
    "{__name__=~\".+\"}",
    "disk_free",
    "{role=\"web\"}",
    "{role=~\"web|db\",rack!=\"r1\",__name__=~\"net_.*\"}",
    "{role=\"\",host!=\"\"}",
    "{device!=\"\"}",
    "net_bytes{device=~\"[ab]\",role!~\"db\"}",
    "{host=~\"host-1.?\"}",
    "{host=\"host-7\",device=\"a\"}",
    "{role=\"own\"}",
    "{nothing=\"\",empty=\"\",rack=~\"r[12]\"}",
    "{empty=\"kept\"}",
];

fn key(name: &str, labels: &[(&str, &str)]) -> Arc<SeriesKey> {
    Arc::new(SeriesKey::new(name, labels))
}

/// Three kinds of hosts: labels of series that hosts have too win, and one that is empty takes the host's away.
fn schemas() -> Vec<Arc<Schema>> {
    let of = |keys: Vec<Arc<SeriesKey>>| {
        let all: BTreeMap<_, _> = keys.into_iter().enumerate().map(|(n, key)| (key, n % 2 == 0)).collect();
        Arc::new(Schema::of(&all))
    };
    let net = |device| key("net_bytes", &[("device", device)]);
    vec![
        of(vec![key("load", &[]), net("a"), net("b"), key("disk_free", &[("mount", "/")])]),
        of(vec![key("load", &[]), net("c"), key("net_errors", &[("device", "c")]), key("unit", &[("role", "own")])]),
        of(vec![key("load", &[("empty", "")]), net("a"), key("disk_free", &[("mount", "/srv"), ("rack", "")])]),
    ]
}

struct Dice(u64);

impl Dice {
    fn of(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 11) % u64::from(sides)).unwrap()
    }
}

fn id(host: u32) -> HostId {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&host.to_be_bytes());
    HostId(id)
}

fn host_row(host: u32, rack: u32) -> HostRow {
    let label = |name: &str, value: String| v1::Label { name: name.to_owned(), value };
    let mut labels = vec![label("rack", format!("r{rack}"))];
    if !host.is_multiple_of(5) {
        labels.push(label("role", ["web", "db"][host as usize % 2].to_owned()));
    }
    if host.is_multiple_of(7) {
        labels.push(label("empty", "kept".to_owned()));
    }
    // Two of one name and one kind, which their ids tell apart.
    let name = if host == HOSTS { HOSTS - 2 } else { host };
    let facts = Some(v1::HostFacts { hostname: format!("host-{name}"), labels, ..Default::default() });
    HostRow { short: host, facts, ..HostRow::default() }
}

/// Every row, and what hosts are known by.
#[derive(Default)]
struct Plain {
    hosts: BTreeMap<u32, Vec<Label>>,
    open: BTreeMap<(u32, i64), usize>,
    sealed: BTreeSet<(u32, i64, usize)>,
}

impl Plain {
    fn told(&self, row: &HostRow) -> Vec<Label> {
        let facts = row.facts.as_ref().unwrap();
        let labels = facts.labels.iter().map(|label| (Arc::from(&*label.name), Arc::from(&*label.value)));
        labels.chain([(Arc::from("host"), Arc::from(&*facts.hostname))]).collect()
    }

    fn set(&mut self, row: &HostRow) {
        let mut labels = self.told(row);
        labels.sort();
        self.hosts.insert(row.short, labels);
    }

    fn rows(&self) -> impl Iterator<Item = (u32, i64, usize)> {
        self.open.iter().map(|((host, at), schema)| (*host, *at, *schema)).chain(self.sealed.iter().copied())
    }

    fn seal(&mut self, host: u32, open: u32) {
        let sealed = self.open.extract_if(.., |(of, at), _| *of == host && slot_of(*at) != open);
        self.sealed.extend(sealed.map(|((host, at), schema)| (host, at, schema)));
    }

    /// All labels that any series has in a span.
    fn series(&self, schemas: &[Arc<Schema>], matchers: &[Matcher], span: (i64, i64)) -> BTreeSet<Labels> {
        let mut found = BTreeSet::new();
        let there: BTreeSet<(u32, usize)> = self
            .rows()
            .filter(|(_, at, _)| (span.0..=span.1).contains(at))
            .map(|(host, _, schema)| (host, schema))
            .collect();
        for (host, schema) in there {
            let Some(labels) = self.hosts.get(&host) else { continue };
            let alike = self.hosts.values().filter(|others| *others == labels).count() > 1;
            let id = alike.then(|| (Arc::from("host_id"), Arc::from(id(host).to_string())));
            for key in &schemas[schema].keys {
                let own = key.labels.iter().map(|(name, value)| (Arc::from(&**name), Arc::from(&**value)));
                let name = (Arc::from(NAME), Arc::from(&*key.name));
                let all = Labels::of(labels.iter().cloned().chain(id.clone()).chain(own).chain([name]));
                if all_hold(matchers, &all) {
                    found.insert(all);
                }
            }
        }
        found
    }
}

struct World {
    hub: Arc<Hub>,
    schemas: Vec<Arc<Schema>>,
    plain: Plain,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::for_tests(folder.path());
        std::fs::create_dir_all(&settings.data).unwrap();
        let store = Store::open(&settings.data.join("db"), settings.cache_bytes, 0).unwrap();
        let schemas = schemas();
        let (mut batch, mut plain) = (Batch::default(), Plain::default());
        for host in 1..=HOSTS {
            let row = host_row(host, host % 4);
            plain.set(&row);
            batch.put(&HostKey { host: id(host) }, &row);
        }
        schemas.iter().for_each(|schema| store.put_schema(&mut batch, schema, WALL).unwrap());
        store.commit(batch).await.unwrap();
        let authority = Authority::open_or_make(&settings.data.join("ca"), WALL).unwrap();
        let at = ([127, 0, 0, 1], 1).into();
        let hub = Hub::start(store, authority, Arc::new(settings), at).await.unwrap();
        Self { hub, schemas, plain, _folder: folder }
    }

    async fn put(&mut self, host: u32, at_ms: i64, schema: usize) {
        let of = &self.schemas[schema];
        let gauge = |value: f64| Point::Gauge { last: value, min: value, max: value, mean: value };
        let cells = of.gauge.iter().map(|is_gauge| Some(if *is_gauge { gauge(1.0) } else { Point::Counter(2.0) }));
        let row = Row { at_ms, window_ms: 10_000, samples: 10, cells: cells.collect() };
        let mut batch = Batch::default();
        self.hub.store.put_row(&mut batch, host, of, &row);
        self.hub.store.commit(batch).await.unwrap();
        self.plain.open.insert((host, at_ms), schema);
    }

    async fn seal(&mut self, host: u32, open: u32) {
        let mut batch = Batch::default();
        self.hub.store.seal_except(&mut batch, host, open).unwrap();
        self.hub.store.commit(batch).await.unwrap();
        self.plain.seal(host, open);
    }

    async fn join(&self, host: u32, hour: u32) {
        let mut batch = Batch::default();
        self.hub.store.join_hour(&mut batch, host, hour).unwrap();
        self.hub.store.commit(batch).await.unwrap();
    }

    fn relabel(&mut self, host: u32, rack: u32) {
        let row = host_row(host, rack);
        self.plain.set(&row);
        self.hub.state().hosts.get_mut(&id(host)).unwrap().set_row(row);
    }

    fn forget(&mut self, host: u32) {
        self.hub.state().hosts.remove(&id(host));
        tokio::task::block_in_place(|| self.hub.store.forget(id(host), host, &|_| {})).unwrap();
        self.plain.hosts.remove(&host);
        self.plain.open.retain(|(of, _), _| *of != host);
        self.plain.sealed.retain(|(of, ..)| *of != host);
    }

    /// Removes all hours before one, in every tier.
    async fn retain_from(&mut self, hour: u32) {
        let age = Duration::from_secs(3_600);
        let now_ms = (i64::from(hour) + 1) * HOUR_MS;
        let retention = Retention { series: age, series_5m: age, series_1h: age, ..Retention::default() };
        self.hub.store.retain(&[], retention, now_ms).await.unwrap();
        let first_ms = i64::from(hour) * HOUR_MS;
        self.plain.open.retain(|(_, at), _| *at >= first_ms);
        self.plain.sealed.retain(|(_, at, _)| *at >= first_ms);
    }

    /// Asks all there is to ask of a selector, and compares it. A block is of all series that its host had in its hour, so that
    /// names may be told that had no points in the span itself; points are told only where they are.
    fn compare(&self, text: &str, span: (i64, i64), why: &str) -> usize {
        let matchers = parse_selector(text).unwrap();
        let plain = self.plain.series(&self.schemas, &matchers, span);
        let hours = (span.0 / HOUR_MS * HOUR_MS, (span.1 / HOUR_MS).saturating_add(1).saturating_mul(HOUR_MS));
        let wide = self.plain.series(&self.schemas, &matchers, hours);
        let stop = Stop::after(TIMEOUT);
        let names = Names { selectors: vec![matchers.clone()], span, limit: usize::MAX };
        let series = names::series(&self.hub, &names, &stop).unwrap().all;
        assert!(series.is_sorted_by(|a, b| a < b), "{text} {span:?} {why}");
        let series: BTreeSet<Labels> = series.into_iter().collect();
        assert!(plain.is_subset(&series), "{text} {span:?} {why}: {series:?} is not all of {plain:?}");
        assert!(series.is_subset(&wide), "{text} {span:?} {why}: {series:?} is more than {wide:?}");
        let labels: BTreeSet<String> = series.iter().flat_map(Labels::iter).map(|(name, _)| name.to_owned()).collect();
        assert_eq!(
            names::labels(&self.hub, &names, &stop).unwrap().all,
            Vec::from_iter(labels),
            "{text} {span:?} {why}"
        );
        for label in [NAME, "host", "role", "rack", "device", "mount", "empty", "host_id", "nothing"] {
            let values: BTreeSet<&str> =
                series.iter().map(|of| of.get(label)).filter(|value| !value.is_empty()).collect();
            let found = names::values(&self.hub, label, &names, &stop).unwrap().all;
            assert_eq!(found, Vec::from_iter(values), "{label} of {text} {span:?} {why}");
        }
        let wanted = Wanted::all_of(&matchers, span);
        let mut found = BTreeSet::new();
        let read = Fleet::of(&self.hub, &stop).series(&wanted, &mut |labels, at, _| {
            assert!(!at.is_empty());
            found.insert(labels);
            Ok(())
        });
        read.unwrap();
        assert_eq!(found, plain, "points of {text} {span:?} {why}");
        plain.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_which_series_is_as_the_plain_way_has_it_whatever_is_written_in_between() {
    // Each in a store of its own: while one waits for the disk, which it mostly does, the others go on.
    let seeds: Vec<_> = (1..=6).map(|seed| tokio::spawn(as_the_plain_way_has_it(seed))).collect();
    let (mut asked, mut known, mut found) = (0, 0, 0);
    for seed in seeds {
        let of = seed.await.unwrap();
        (asked, known, found) = (asked + of.asked, known + of.known, found + of.found);
    }
    assert!(known > asked / 2 && found > 10_000, "{known} of {asked} were known, {found} series");
}

/// How often was asked, how often who has what was known, and how many series there were.
#[derive(Default)]
struct Compared {
    asked: usize,
    known: usize,
    found: usize,
}

async fn as_the_plain_way_has_it(seed: u64) -> Compared {
    let Compared { mut asked, mut known, mut found } = Compared::default();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut world = World::start().await;
    let mut next = [0i64; HOSTS as usize + 1];
    let mut kind: Vec<usize> = (0..=HOSTS as usize).map(|host| host % 3).collect();
    let mut first_hour = HOUR;
    let mut gone = BTreeSet::new();
    for step in 0..60 {
        for _ in 0..dice.of(120) {
            let host = 1 + dice.of(HOSTS);
            let at = host as usize;
            if gone.contains(&host) {
                continue;
            }
            let at_ms = WALL + next[at] * STEP_MS + i64::from(host);
            match dice.of(100) {
                0..4 => world.seal(host, slot_of(at_ms)).await,
                // Rollups reach back further than rows after a day's retention: each in worlds of its own.
                4..8 if seed.is_multiple_of(2) => world.join(host, first_hour + dice.of(4)).await,
                8..10 => kind[at] = dice.of(3) as usize,
                10..13 if next[at] > 1 => {
                    // Late: a row of its own, or in the place of one that may have been of another schema.
                    let back = 1 + i64::from(dice.of(u32::try_from(next[at] - 1).unwrap()));
                    let late = at_ms - back * STEP_MS + i64::from(dice.of(2) * 700);
                    if late >= i64::from(first_hour) * HOUR_MS {
                        world.put(host, late, dice.of(3) as usize).await;
                    }
                }
                // Somebody is away for a while.
                13..15 => next[at] += i64::from(dice.of(20)),
                15 => world.relabel(host, dice.of(4)),
                _ => {
                    world.put(host, at_ms, kind[at]).await;
                    next[at] += 1;
                }
            }
        }
        match dice.of(30) {
            0 => {
                let host = 1 + dice.of(HOSTS);
                if gone.insert(host) {
                    world.forget(host);
                }
            }
            1..3 if !seed.is_multiple_of(2) => {
                first_hour += 1;
                world.retain_from(first_hour).await;
                let begun = (i64::from(first_hour) * HOUR_MS - WALL).div_euclid(STEP_MS) + 1;
                next.iter_mut().for_each(|next| *next = (*next).max(begun));
            }
            3..12 => drop(world.hub.store.tend().unwrap()),
            _ => {}
        }
        let from = i64::from(first_hour) * HOUR_MS + i64::from(dice.of(3 * 3_600_000));
        let length = [i64::from(dice.of(100_000)), i64::from(dice.of(2_000_000)), 4 * HOUR_MS][dice.of(3) as usize];
        let span = if dice.of(5) == 0 { (0, i64::MAX) } else { (from, from + length) };
        let why = format!("seed {seed} step {step}");
        known += usize::from(world.hub.store.hosts_within(&world.hub.store.view(), span).is_some());
        asked += 1;
        found += world.compare(SELECTORS[dice.of(12) as usize], span, &why);
    }
    world.hub.store.tend().unwrap();
    for text in SELECTORS {
        found += world.compare(text, (WALL, WALL + 10 * HOUR_MS), "at last");
    }
    Compared { asked, known, found }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_have_nothing_of_a_selector_are_not_read() {
    let mut world = World::start().await;
    for host in 1..=HOSTS {
        for n in 0..12 {
            world.put(host, WALL + n * 60_000, host as usize % 3).await;
        }
        world.seal(host, slot_of(WALL + SLOT_MS)).await;
    }
    let read = |text: &str| {
        let (stop, matchers) = (Stop::after(TIMEOUT), parse_selector(text).unwrap());
        let fleet = Fleet::of(&world.hub, &stop);
        let wanted = Wanted::all_of(&matchers, (WALL, WALL + HOUR_MS));
        let mut found = 0;
        world.hub.store.warm.forget();
        fleet
            .series(&wanted, &mut |_, _, _| {
                found += 1;
                Ok(())
            })
            .unwrap();
        (found, fleet.seen().read.blocks)
    };
    let of_kind = |kind: u32| (1..=HOSTS).filter(|host| host % 3 == kind).count();
    let before = read("net_errors");
    assert_eq!(before, (of_kind(1), u64::from(HOSTS)));
    assert!(world.hub.store.tend().unwrap());
    assert_eq!(read("net_errors"), (of_kind(1), of_kind(1) as u64), "only some schemas have it");
    let webs = (1..=HOSTS).filter(|host| host % 5 != 0 && host % 2 == 0).count();
    assert_eq!(read("load{role=\"web\"}"), (webs, webs as u64), "nobody else has the label");
    assert_eq!(read("load{role=\"nobody\"}"), (0, 0));
    // What is known takes no look into the store, and has its bytes.
    let names =
        Names { selectors: vec![parse_selector("{role=\"web\"}").unwrap()], span: (WALL, WALL + HOUR_MS), limit: 9 };
    assert_eq!(names::values(&world.hub, "device", &names, &Stop::after(TIMEOUT)).unwrap().all, ["a", "b", "c"]);
    assert!(world.hub.store.presence.bytes() > 0 && world.hub.store.presence.hours() > 0);
    assert_eq!(
        world.compare("{role=\"web\"}", (WALL, WALL + HOUR_MS), "whole"),
        world.compare("{role=\"web\"}", (WALL, WALL + 2 * HOUR_MS), "and longer")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_take_turns_and_end_when_nobody_waits_for_them() {
    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        Begun(usize),
        Ended(usize, Interrupted),
    }
    let world = World::start().await;
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let ask = |n: usize| {
        let (hub, say) = (world.hub.clone(), say.clone());
        let answer = move |_: &Hub, stop: &Stop| {
            say.send(Said::Begun(n)).unwrap();
            let why = loop {
                if let Some(why) = stop.now() {
                    break why;
                }
                std::thread::sleep(Duration::from_millis(1)); // between two looks
            };
            say.send(Said::Ended(n, why)).unwrap();
        };
        tokio::spawn(async move { in_turn(&hub, &hub.turns.http, Stop::after(TIMEOUT), answer).await })
    };
    let mut asked: BTreeMap<usize, _> = (0..=AT_ONCE).map(|n| (n, ask(n))).collect();
    let mut waiting: BTreeSet<usize> = asked.keys().copied().collect();
    for _ in 0..AT_ONCE {
        let Some(Said::Begun(n)) = heard.recv().await else { panic!("nothing ends by itself") };
        waiting.remove(&n);
    }
    assert_eq!((waiting.len(), world.hub.turns.http.available_permits()), (1, 0), "one waits for its turn");
    assert_eq!(world.hub.turns.operators.available_permits(), AT_ONCE, "operators do not wait for dashboards");
    let begun = *asked.keys().find(|n| !waiting.contains(n)).unwrap();
    asked.remove(&begun).unwrap().abort();
    let said = [heard.recv().await.unwrap(), heard.recv().await.unwrap()];
    assert!(said.contains(&Said::Ended(begun, Interrupted::Cancelled)), "{said:?}");
    assert!(said.contains(&Said::Begun(*waiting.first().unwrap())), "{said:?}");
    asked.into_values().for_each(|one| one.abort());
}
