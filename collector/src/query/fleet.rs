//! The fleet as a source of series: host by host, straight from the blocks.
//!
//! Of each host the parts of blocks that hold the asked series, and its open rows, are read in the range, and
//! everything is forgotten before the next host. A series has the
//! labels of its host, the host's name as `host`, and its own, which win. `NAME:min`, `NAME:max` and
//! `NAME:mean` stand beside `NAME` for gauges, where a query names them outright.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mainstay_core::id::HostId;
use mainstay_core::series::SeriesKey;
use mainstay_promql::{EvalError, Label, Labels, Matcher, NAME, Source, Take, Test, Wanted};

use super::Stop;
use crate::hub::{HostState, Hub};
use crate::services::range::coverage;
use crate::store::StoreError;
use crate::store::read::{Read, View};
use crate::store::schema::Schema;
use crate::store::series::which;

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
}

impl Seen {
    /// Hosts that had any of the series.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.shares.len()
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

struct Host {
    short: u32,
    labels: Arc<[Label]>,
    /// Its id, if another host has the same labels and name.
    id: Option<Label>,
    enrolled_ms: i64,
    heard_ms: i64,
    /// Since when nothing comes any more, of one that may not connect.
    ended_ms: Option<i64>,
}

impl Host {
    fn new(state: &HostState) -> Self {
        Self {
            short: state.row.short,
            labels: state.query_labels(),
            id: None,
            enrolled_ms: state.row.enrolled_ms,
            heard_ms: state.heard_ms.max(state.mark.last_seen_ms),
            ended_ms: state.is_revoked().then_some(state.mark.last_seen_ms),
        }
    }

    fn name(&self) -> &str {
        self.label("host")
    }

    fn labels(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter().chain(&self.id)
    }

    /// Whether it may have any of the series at all: decided without reading a block.
    fn may_be_meant(&self, wanted: &Wanted<'_>) -> bool {
        let is_over = self.ended_ms.is_some_and(|ended| ended < wanted.from_ms);
        !is_over && wanted.matchers.iter().all(|matcher| matcher.label != "host" || matcher.holds(self.name()))
    }

    fn label(&self, name: &str) -> &str {
        self.labels().find(|(known, _)| &**known == name).map_or("", |(_, value)| value)
    }
}

/// The hosts as they were when the query came.
pub struct Fleet<'h> {
    view: Arc<View<'h>>,
    /// In the order of their numbers, in which they are read.
    hosts: Vec<Host>,
    stop: &'h Stop,
    seen: RefCell<Seen>,
}

impl std::fmt::Debug for Fleet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}

impl<'h> Fleet<'h> {
    /// All hosts of a hub.
    #[must_use]
    pub fn of(hub: &'h Hub, stop: &'h Stop) -> Self {
        let mut hosts: Vec<(HostId, Host)> = {
            let state = hub.state();
            state.hosts.iter().map(|(id, host)| (*id, Host::new(host))).collect()
        };
        // Two machines may have one name, such as one that was installed anew: their ids tell them apart.
        let mut alike: HashMap<Arc<[Label]>, usize> = HashMap::with_capacity(hosts.len());
        for (_, host) in &hosts {
            *alike.entry(host.labels.clone()).or_default() += 1;
        }
        for (id, host) in &mut hosts {
            if alike.get(&host.labels).is_some_and(|count| *count > 1) {
                host.id = Some((Arc::from("host_id"), Arc::from(id.to_string())));
            }
        }
        let mut hosts: Vec<Host> = hosts.into_iter().map(|(_, host)| host).collect();
        hosts.sort_by_key(|host| host.short);
        Self { view: Arc::new(hub.store.view()), hosts, stop, seen: RefCell::default() }
    }

    /// The same as a fleet of each host alone, with the number by which the store knows it.
    pub fn each(self) -> impl Iterator<Item = (u32, Self)> {
        let (view, stop) = (self.view, self.stop);
        self.hosts.into_iter().map(move |host| {
            (host.short, Self { view: view.clone(), hosts: vec![host], stop, seen: RefCell::default() })
        })
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The labels of all hosts.
    pub(super) fn host_labels(&self) -> impl Iterator<Item = &Label> {
        self.hosts.iter().flat_map(Host::labels)
    }

    /// Hands over the labels of every series that fits and may have points in a range, without reading any.
    pub(super) fn labels(
        &self,
        wanted: &Wanted<'_>,
        take: &mut dyn FnMut(Labels) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let mut question = Question::of(wanted.matchers);
        let mut reader = self.view.reader();
        for host in self.hosts.iter().filter(|host| host.may_be_meant(wanted)) {
            self.check()?;
            let holds = question.holds(host);
            let mut slots = BTreeSet::new();
            let read = reader.host(host.short, (wanted.from_ms, wanted.to_ms), &mut |piece| {
                let meant = question.candidates(&piece.schema);
                slots.extend(meant.iter().filter(|candidate| candidate.is_of(&holds)).map(|candidate| candidate.slot));
                Ok(())
            });
            read.map_err(|error| failed(&error))?;
            self.note(host, reader.damaged());
            slots.into_iter().try_for_each(|slot| take(question.labels(slot, host)))?;
        }
        self.seen.borrow_mut().read.add(reader.read());
        Ok(())
    }

    fn check(&self) -> Result<(), EvalError> {
        self.stop.now().map_or(Ok(()), |why| Err(EvalError::Interrupted(why)))
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

fn failed(error: &StoreError) -> EvalError {
    EvalError::Source(error.to_string())
}

impl Source for Fleet<'_> {
    fn series(&self, wanted: &Wanted<'_>, take: &mut Take<'_>) -> Result<(), EvalError> {
        let mut question = Question::of(wanted.matchers);
        let mut columns: Vec<Column> = Vec::new();
        let mut windows: Vec<(i64, i64)> = Vec::new();
        let mut reader = self.view.reader();
        let span = wanted.from_ms..=wanted.to_ms;
        for host in self.hosts.iter().filter(|host| host.may_be_meant(wanted)) {
            self.check()?;
            let holds = question.holds(host);
            windows.clear();
            let read = reader.host(host.short, (wanted.from_ms, wanted.to_ms), &mut |piece| {
                let meant = question.candidates(&piece.schema);
                columns.resize_with(question.keys.len(), Column::default);
                let rows = piece.times.iter().copied().zip(piece.windows.iter().copied());
                windows.extend(rows.filter(|(at, _)| span.contains(at)));
                for candidate in meant.iter().filter(|candidate| candidate.is_of(&holds)) {
                    let Some(which) = which(question.suffix, candidate.gauge) else { continue };
                    let column = &mut columns[candidate.slot];
                    piece.each_value(candidate.at, which, &mut |at, value| {
                        if span.contains(&at) {
                            column.at.push(at);
                            column.values.push(value);
                        }
                    })?;
                }
                Ok(())
            });
            read.map_err(|error| failed(&error))?;
            self.note(host, reader.damaged());
            let mut any = false;
            for (slot, column) in columns.iter_mut().enumerate().filter(|(_, column)| !column.at.is_empty()) {
                any = true;
                column.sort();
                take(question.labels(slot, host), &column.at, &column.values)?;
                column.at.clear();
                column.values.clear();
            }
            if any {
                let share = coverage(&mut windows, (wanted.from_ms, wanted.to_ms), host.enrolled_ms, host.heard_ms);
                let mut seen = self.seen.borrow_mut();
                seen.shares.entry(host.short).and_modify(|least| *least = share.min(*least)).or_insert(share);
            }
        }
        self.seen.borrow_mut().read.add(reader.read());
        Ok(())
    }
}

/// Points of one series of one host.
#[derive(Default)]
struct Column {
    at: Vec<i64>,
    values: Vec<f64>,
}

impl Column {
    /// Blocks of one slot may overlap; of points of one time the last that was read counts.
    fn sort(&mut self) {
        if self.at.is_sorted_by(|a, b| a < b) {
            return;
        }
        let points: BTreeMap<i64, f64> = self.at.drain(..).zip(self.values.drain(..)).collect();
        (self.at, self.values) = points.into_iter().unzip();
    }
}

/// A series of a schema that may be meant, if its host is.
struct Candidate {
    /// Its place in the schema.
    at: usize,
    gauge: bool,
    /// Its place among all series of the question.
    slot: usize,
    /// Matchers that its own labels do not decide.
    open: Vec<usize>,
}

impl Candidate {
    fn is_of(&self, holds: &[bool]) -> bool {
        self.open.iter().all(|matcher| holds[*matcher])
    }
}

/// The matchers of a selector, and which series of which schema they mean.
struct Question<'q> {
    names: Vec<Matcher>,
    rest: Vec<&'q Matcher>,
    /// What of a gauge is asked for.
    suffix: &'q str,
    schemas: BTreeMap<[u8; 16], Arc<Vec<Candidate>>>,
    slots: BTreeMap<Arc<SeriesKey>, usize>,
    /// By slot: the labels that a series has by itself.
    keys: Vec<Vec<Label>>,
}

impl<'q> Question<'q> {
    fn of(matchers: &'q [Matcher]) -> Self {
        let (names, rest): (Vec<_>, Vec<_>) = matchers.iter().partition(|matcher| matcher.label == NAME);
        let mut suffix = "";
        let names = names.into_iter().map(|matcher| match &matcher.test {
            Test::Is(name) => match name.rsplit_once(':') {
                Some((base, of @ ("min" | "max" | "mean"))) => {
                    suffix = of;
                    Matcher::is(NAME, base)
                }
                _ => matcher.clone(),
            },
            _ => matcher.clone(),
        });
        let names = names.collect();
        Self { names, rest, suffix, schemas: BTreeMap::new(), slots: BTreeMap::new(), keys: Vec::new() }
    }

    /// Which matchers hold by a host's labels.
    fn holds(&self, host: &Host) -> Vec<bool> {
        self.rest.iter().map(|matcher| matcher.holds(host.label(&matcher.label))).collect()
    }

    /// The series of a schema that may be meant; worked out once for all hosts that share it.
    fn candidates(&mut self, schema: &Schema) -> Arc<Vec<Candidate>> {
        if let Some(known) = self.schemas.get(&schema.id) {
            return known.clone();
        }
        let mut candidates = Vec::new();
        for (at, (key, gauge)) in schema.keys.iter().zip(&schema.gauge).enumerate() {
            let own = |label: &str| key.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str());
            let mut open = Vec::new();
            let refused = self.rest.iter().enumerate().any(|(n, matcher)| match own(&matcher.label) {
                Some(value) => !matcher.holds(value),
                None => {
                    open.push(n);
                    false
                }
            });
            let wanted = !refused && self.names.iter().all(|matcher| matcher.holds(&key.name));
            if !wanted || (!gauge && !self.suffix.is_empty()) {
                continue;
            }
            let slot = *self.slots.entry(key.clone()).or_insert_with(|| {
                let name =
                    if self.suffix.is_empty() { key.name.clone() } else { format!("{}:{}", key.name, self.suffix) };
                let labels =
                    key.labels.iter().map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())));
                self.keys.push(labels.chain([(Arc::from(NAME), Arc::from(name))]).collect());
                self.keys.len() - 1
            });
            candidates.push(Candidate { at, gauge: *gauge, slot, open });
        }
        let candidates = Arc::new(candidates);
        self.schemas.insert(schema.id, candidates.clone());
        candidates
    }

    /// The labels of a series on a host: the host's, and its own, which win.
    fn labels(&self, slot: usize, host: &Host) -> Labels {
        Labels::of(host.labels().chain(&self.keys[slot]).cloned())
    }
}
