//! The fleet as a source of series: host by host, straight from the blocks.
//!
//! Of each host the parts of blocks that hold the asked series, and its open rows, are read in the range, and
//! everything is forgotten before the next host. Many hosts are read by two threads, some hosts ahead, which also make of
//! their series what is asked for. A series has the labels of its host, the host's name as `host`, and its own, which win.
//! `NAME:min`, `NAME:max` and `NAME:mean` stand beside `NAME` for gauges, where a query names them outright.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_core::id::HostId;
use mainstay_fleet::presence::HostSet;
use mainstay_fleet::rollup::Tier;
use mainstay_promql::{EvalError, Interrupted, Labels, Make, Matcher, Source, Take, TakeMade, Wanted};

use super::Stop;
use super::choice::Group;
use super::hosts::{Found, Held, Host, Lane, Pace, check, failed, numbers};
use super::lanes::Lanes;
use super::question::Question;
use super::roster::Roster;
use super::standing::Standing;
use crate::ages::Rules;
use crate::clock;
use crate::hub::Hub;
use crate::store::piece::Piece;
use crate::store::presence::Hosts;
use crate::store::read::Read;
use crate::store::retention::later;
use crate::store::schema::Schema;
use crate::store::series::hour_of;
use crate::store::view::View;
use crate::store::{Store, StoreError};

/// Damaged blocks that are named in an answer; the rest is counted.
const DAMAGED_MAX: usize = 10;

/// How much of what should be there was there.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Of each host that had a series, the share of the range that its rows cover.
    shares: BTreeMap<u32, f64>,
    /// Blocks that could not be read, in words.
    pub damaged: Vec<String>,
    /// More of them.
    pub damaged_more: usize,
    /// What was read for it.
    pub read: Read,
    /// The coarsest that any of it is of; `None` is every summary.
    pub tier: Option<Tier>,
    /// Of the hosts that it is about, those that are not there or whose clock is off.
    standing: BTreeMap<u32, Arc<Standing>>,
}

impl Seen {
    /// Hosts that had any of the series.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.shares.len()
    }

    /// Of the hosts that the question is about, by their labels, those that are not there or whose clock is off.
    pub fn standing(&self) -> impl Iterator<Item = &Standing> {
        self.standing.values().map(|standing| &**standing)
    }

    /// Hosts whose rows do not cover the range.
    #[must_use]
    pub fn incomplete(&self) -> usize {
        self.shares.values().filter(|share| **share < 1.0).count()
    }

    /// The share of the range that is there, over the hosts that had any of it.
    #[must_use]
    pub fn completeness(&self) -> f64 {
        if self.shares.is_empty() { 1.0 } else { self.shares.values().sum::<f64>() / self.shares.len() as f64 }
    }
}

/// Takes a series of a host, by the host's number.
pub(crate) type TakeOf<'t> = dyn FnMut(u32, Labels, &[i64], &[f64]) -> Result<(), EvalError> + 't;
/// Is told that a host is done.
pub(crate) type After<'t> = dyn FnMut(u32, bool, Option<i64>) -> bool + 't;

/// Threads that read many hosts. Several questions are answered at once, so more would only wait for each other.
const LANES: usize = 2;
/// Fewer hosts than this are read where the query is evaluated.
const FEW: usize = 64;
/// So are as many as can be in this time, which is a few times what starting threads takes.
const ALONE: Duration = Duration::from_micros(500);

/// The hosts as they were when the query came.
pub struct Fleet<'h> {
    view: Arc<View<'h>>,
    /// In the order of their numbers, in which they are read.
    hosts: Vec<Host>,
    roster: Arc<Roster>,
    store: &'h Store,
    stop: &'h Stop,
    lanes: usize,
    /// For so long they are read where the query is evaluated.
    alone: Duration,
    rules: Arc<Rules>,
    now_ms: i64,
    seen: RefCell<Seen>,
}

impl std::fmt::Debug for Fleet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}

impl<'h> Fleet<'h> {
    /// All hosts of a hub, and who brings series over remote write.
    #[must_use]
    pub fn of(hub: &'h Hub, stop: &'h Stop) -> Self {
        let mut hosts: Vec<(Option<HostId>, Host)> = {
            let (silence, now_ms) = (hub.silence(), clock::wall_ms());
            let state = hub.state();
            state.hosts.iter().map(|(id, host)| (Some(*id), Host::new(host, silence, now_ms))).collect()
        };
        hosts.extend(hub.sources.all().into_iter().map(|source| (None, Host::of_source(source))));
        hosts.sort_by_key(|(_, host)| host.short);
        let roster = hub.rosters.of(&hosts);
        let mut hosts: Vec<Host> = hosts.into_iter().map(|(_, host)| host).collect();
        hosts.iter_mut().for_each(|host| host.id = roster.id(host.short).cloned());
        let view = Arc::new(hub.store.view());
        Self {
            view,
            hosts,
            roster,
            store: &hub.store,
            stop,
            lanes: LANES,
            alone: ALONE,
            rules: Arc::new(Rules::of(&hub.settings())),
            now_ms: clock::wall_ms(),
            seen: RefCell::default(),
        }
    }

    /// The same, with many hosts read by so many threads from the first on: for measurements. One is the thread that
    /// evaluates.
    #[must_use]
    pub fn in_lanes(self, lanes: usize) -> Self {
        Self { lanes, alone: Duration::ZERO, ..self }
    }

    /// The same as a fleet of each host alone, with the number by which the store knows it.
    pub fn each(self) -> impl Iterator<Item = (u32, Self)> {
        let Self { view, hosts, roster, store, stop, lanes, alone, rules, now_ms, .. } = self;
        hosts.into_iter().map(move |host| {
            let (short, hosts, seen) = (host.short, vec![host], RefCell::default());
            let (view, roster, rules) = (view.clone(), roster.clone(), rules.clone());
            (short, Self { view, hosts, roster, store, stop, lanes, alone, rules, now_ms, seen })
        })
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Who has which labels.
    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The one of a number.
    pub(super) fn host(&self, short: u32) -> Option<&Host> {
        self.hosts.binary_search_by_key(&short, |host| host.short).ok().map(|at| &self.hosts[at])
    }

    /// In the order of their numbers.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// Who had series in a range, where that is known without a look into the store.
    pub(super) fn hosts_within(&self, wanted: &Wanted<'_>) -> Option<Hosts> {
        self.store.hosts_within(&self.view, (wanted.from_ms, wanted.to_ms))
    }

    /// The names of a schema.
    pub(super) fn schema(&self, id: [u8; 16]) -> Result<Option<Arc<Schema>>, StoreError> {
        self.store.schema(id)
    }

    /// Who has which series that fit and may have points in a range, without reading any of their points.
    pub(super) fn labels(&self, question: &mut Question<'_>, wanted: &Wanted<'_>) -> Result<Vec<Group>, EvalError> {
        let choice = self.choose(question, wanted)?;
        let is_read = |host: &Host| choice.as_ref().is_none_or(|choice| choice.unread.contains(host.short));
        let mut read: BTreeMap<Vec<usize>, HostSet> = BTreeMap::new();
        let mut reader = self.view.reader();
        let tier = self.finest(wanted.matchers, wanted.from_ms);
        for host in self.hosts.iter().filter(|host| is_read(host) && host.may_be_meant(wanted)) {
            self.check()?;
            let holds = question.holds(host);
            let mut slots = BTreeSet::new();
            let span = (wanted.from_ms, wanted.to_ms);
            let mut take_piece = |piece: &mut Piece<'_, '_>| {
                if piece.times.iter().any(|at| (span.0..=span.1).contains(at)) {
                    let meant = question.candidates(piece.schema);
                    let meant = meant.iter().filter(|candidate| candidate.is_of(&holds));
                    slots.extend(meant.map(|candidate| candidate.slot));
                }
                Ok(())
            };
            let read_host = match tier {
                // What stands in the heads of blocks and in rows is enough.
                None => reader.host_again(host.short, span, &mut |_, _| {}, &mut take_piece),
                tier => reader.host(host.short, tier, span, &mut take_piece),
            };
            read_host.map_err(|error| failed(&error))?;
            self.note(host, reader.damaged());
            read.entry(slots.into_iter().collect()).or_default().insert(host.short);
        }
        let mut seen = self.seen.borrow_mut();
        seen.read.add(reader.read());
        if read.keys().any(|slots| !slots.is_empty()) {
            seen.tier = seen.tier.max(tier);
        }
        drop(seen);
        let read = read.into_iter().map(|(slots, hosts)| Group { hosts, slots });
        Ok(choice.map(|choice| choice.groups).into_iter().flatten().chain(read).collect())
    }

    /// Hands over the series of some hosts, by their numbers, as they are stored. After each host `after` is told whether
    /// any of its series can be meant, and the time of its last row in the range, and says whether to go on.
    ///
    /// # Errors
    /// What `take` returned, at once; or that the store cannot be read.
    pub(crate) fn of_hosts(
        &self,
        wanted: &Wanted<'_>,
        hosts: &BTreeSet<u32>,
        take: &mut TakeOf<'_>,
        after: &mut After<'_>,
    ) -> Result<(), EvalError> {
        let mut lane = Lane::of(&self.view, wanted);
        for host in self.hosts.iter().filter(|host| hosts.contains(&host.short)) {
            self.check()?;
            let is_meant = host.may_be_meant(wanted);
            let mut last_ms = None;
            if is_meant {
                let found = lane.host(host, &mut |labels, at, values| take(host.short, labels, at, values))?;
                last_ms = found.last_ms;
                self.receive(host, found);
            }
            if !after(host.short, is_meant, last_ms) {
                break;
            }
        }
        Ok(())
    }

    /// The finest that all hosts have that a question is about: a coarser one is taken where only some have a finer one.
    pub(super) fn finest(&self, matchers: &[Matcher], from_ms: i64) -> Option<Tier> {
        let (view, now_ms) = (&self.view, self.now_ms);
        let every = view.first_hours_of_every(&self.rules.shortest(), now_ms);
        let alike = self.rules.of_all().map(|ages| ages.first_hours(now_ms));
        // Mostly hosts are alike, or what is asked for is so young that every host has all of it.
        let kept = if alike == Some(every) || hour_of(from_ms.max(0)) >= every[0] {
            every
        } else {
            let asked = self.hosts.iter().filter(|host| host.is_asked_for(matchers, from_ms));
            let of = |host: &Host| view.first_hours(host.short, self.rules.of_host(&host.labels), now_ms);
            asked.map(of).reduce(later).unwrap_or(every)
        };
        view.finest(from_ms, kept, now_ms)
    }

    pub(super) fn check(&self) -> Result<(), EvalError> {
        check(self.stop)
    }

    /// Notes what a host came to besides its series.
    fn receive(&self, host: &Host, found: Found) {
        self.note(host, found.damaged);
        let mut seen = self.seen.borrow_mut();
        seen.read.add(found.read);
        seen.tier = seen.tier.max(found.tier);
        if let Some(share) = found.share {
            seen.shares.entry(host.short).and_modify(|least| *least = share.min(*least)).or_insert(share);
        }
    }

    /// Notes what of a host cannot be read.
    fn note(&self, host: &Host, damaged: Vec<String>) {
        if damaged.is_empty() {
            return;
        }
        let mut seen = self.seen.borrow_mut();
        for damaged in damaged {
            tracing::error!(host = host.name(), damaged, "a part of the series cannot be read");
            if seen.damaged.len() < DAMAGED_MAX {
                seen.damaged.push(format!("{}: {damaged}", host.name()));
            } else {
                seen.damaged_more += 1;
            }
        }
    }
}

impl Fleet<'_> {
    /// Notes which of the hosts that a question from a moment on is about are not there.
    pub(super) fn note_standing(&self, matchers: &[Matcher], from_ms: i64) {
        let said = self.hosts.iter().filter_map(|host| Some((host, host.standing.as_ref()?)));
        let said = said.filter(|(host, _)| host.is_asked_for(matchers, from_ms));
        self.seen.borrow_mut().standing.extend(said.map(|(host, standing)| (host.short, standing.clone())));
    }

    /// The hosts that may have any of the series, in their order. Notes which of those that are asked for are not there.
    fn meant(&self, wanted: &Wanted<'_>) -> Result<Vec<&Host>, EvalError> {
        self.note_standing(wanted.matchers, wanted.from_ms);
        let mut meant: Vec<&Host> = self.hosts.iter().filter(|host| host.may_be_meant(wanted)).collect();
        if meant.len() >= FEW
            && let Some(choice) = self.choose(&mut Question::of(wanted.matchers), wanted)?
        {
            let chosen = choice.hosts();
            meant.retain(|host| chosen.contains(host.short));
        }
        Ok(meant)
    }

    /// Makes of the series of many hosts what is asked for in some threads, ahead of who takes it. `lane` reads those for which
    /// there was no room.
    fn made_ahead<'v>(
        &'v self,
        (hosts, pace): (&[&Host], &Pace),
        (lane, wanted): (&mut Lane<'v, '_>, &Wanted<'_>),
        make: &Make<'_>,
        take: &mut TakeMade<'_>,
    ) -> Result<(), EvalError> {
        let (view, stop, is_over) = (&*self.view, self.stop, AtomicBool::new(false));
        let mut take_all = |held: Held<'_, '_>| {
            pace.after(held.of_host);
            let mut made = held.made.into_iter();
            for (host, count, found) in held.hosts {
                made.by_ref().take(count).try_for_each(|(labels, made)| take(labels, made))?;
                self.receive(host, found);
            }
            for host in held.unread {
                self.check()?;
                let found = lane.made(host, make, take)?;
                self.receive(host, found);
            }
            Ok(())
        };
        Lanes { count: self.lanes, ahead: || pace.ahead() }.each(
            pace.pieces(hosts),
            || Lane::of(view, wanted),
            // When nobody takes any more, what is under way is given up.
            |lane, hosts| {
                lane.hosts(hosts, make, || {
                    if is_over.load(Ordering::Relaxed) {
                        Err(EvalError::Interrupted(Interrupted::Cancelled))
                    } else {
                        check(stop)
                    }
                })
            },
            |held| take_all(held).inspect_err(|_| is_over.store(true, Ordering::Relaxed)),
        )
    }
}

impl Source for Fleet<'_> {
    fn series(&self, wanted: &Wanted<'_>, take: &mut Take<'_>) -> Result<(), EvalError> {
        let mut lane = Lane::of(&self.view, wanted);
        for host in self.meant(wanted)? {
            self.check()?;
            let found = lane.host(host, take)?;
            self.receive(host, found);
        }
        Ok(())
    }

    fn made(&self, wanted: &Wanted<'_>, make: &Make<'_>, take: &mut TakeMade<'_>) -> Result<(), EvalError> {
        let meant = self.meant(wanted)?;
        let (mut rest, began, pace) = (&meant[..], Instant::now(), Pace::of(meant.len(), self.lanes));
        let mut lane = Lane::of(&self.view, wanted);
        while let Some((host, after)) = rest.split_first() {
            if self.lanes > 1 && rest.len() >= FEW && began.elapsed() >= self.alone {
                return self.made_ahead((rest, &pace), (&mut lane, wanted), make, take);
            }
            self.check()?;
            let mut of_host = 0;
            let found = lane.made(host, make, &mut |labels, made| {
                of_host += numbers(&labels, &made);
                take(labels, made)
            })?;
            pace.after(of_host);
            self.receive(host, found);
            rest = after;
        }
        Ok(())
    }

    fn resolution_ms(&self, matchers: &[Matcher], from_ms: i64) -> i64 {
        self.finest(matchers, from_ms).map_or(0, Tier::ms)
    }
}
