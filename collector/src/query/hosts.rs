//! Hosts, read one after the other: of each the series that a selector means, and how much of what should be there was.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use mainstay_fleet::block::Which;
use mainstay_fleet::rollup::{Tally, Tier, is_stale};
use mainstay_fleet::silence::SilenceSettings;
use mainstay_promql::{EvalError, Fold, Label, Labels, Make, Matcher, Take, TakeMade, Wanted};

use super::Stop;
use super::question::Question;
use super::rolled::{self, Asked};
use super::standing::Standing;
use crate::hub::HostState;
use crate::remote::sources::Source;
use crate::services::coverage::Windows;
use crate::store::StoreError;
use crate::store::piece::Piece;
use crate::store::read::{Read, Reader};
use crate::store::schema::Schema;
use crate::store::view::View;

/// A host as it was when the query came.
pub(super) struct Host {
    pub(super) short: u32,
    pub(super) labels: Arc<[Label]>,
    /// Its id, if another host has the same labels and name.
    pub(super) id: Option<Label>,
    /// Whom it stands for, if it is no host.
    source: Option<Arc<Source>>,
    enrolled_ms: i64,
    heard_ms: i64,
    /// Since when nothing comes any more, of one that may not connect.
    ended_ms: Option<i64>,
    /// Whether it is not there, or its clock off.
    pub(super) standing: Option<Arc<Standing>>,
}

impl Host {
    pub(super) fn new(state: &HostState, silence: SilenceSettings, now_ms: i64) -> Self {
        Self {
            short: state.row.short,
            labels: state.query_labels(),
            id: None,
            source: None,
            enrolled_ms: state.row.enrolled_ms,
            heard_ms: state.heard_ms.max(state.mark.last_seen_ms),
            ended_ms: state.is_revoked().then_some(state.mark.last_seen_ms),
            standing: Standing::of(state, silence, now_ms).map(Arc::new),
        }
    }

    /// What others have written of a target: read as a host's series are.
    pub(super) fn of_source(source: Arc<Source>) -> Self {
        let until_ms = source.until_ms();
        Self {
            short: source.short,
            labels: source.labels.clone(),
            id: None,
            enrolled_ms: source.first_ms,
            // What does not come is not known to be missing.
            heard_ms: 0,
            ended_ms: Some(until_ms),
            standing: None,
            source: Some(source),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.label(if self.source.is_some() { "instance" } else { "host" })
    }

    /// Whether what it is known by says all about a label of its series.
    fn decides(&self, label: &str) -> bool {
        self.source.as_ref().map_or(label == "host", |source| source.key.decides(label))
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter().chain(&self.id)
    }

    /// Whether it may have any of the series at all: decided without reading a block.
    pub(super) fn may_be_meant(&self, wanted: &Wanted<'_>) -> bool {
        let holds = |matcher: &Matcher| !self.decides(&matcher.label) || matcher.holds(self.label(&matcher.label));
        !self.is_over(wanted.from_ms) && wanted.matchers.iter().all(holds)
    }

    /// Whether a question from a moment on is about it, by the labels that it has. A series of it may have another value of
    /// its own: such a one does not say how fine the answer is.
    pub(super) fn is_asked_for(&self, matchers: &[Matcher], from_ms: i64) -> bool {
        let holds = |matcher: &Matcher| match self.label(&matcher.label) {
            "" if !self.decides(&matcher.label) => true,
            value => matcher.holds(value),
        };
        !self.is_over(from_ms) && matchers.iter().all(holds)
    }

    fn is_over(&self, from_ms: i64) -> bool {
        self.ended_ms.is_some_and(|ended| ended < from_ms)
    }

    pub(super) fn label(&self, name: &str) -> &str {
        self.labels().find(|(known, _)| &**known == name).map_or("", |(_, value)| value)
    }
}

/// What was made of the series of some hosts, on its way from where they were read to where the query is evaluated.
pub(super) struct Held<'a, 'h> {
    pub(super) made: Vec<(Labels, Vec<f64>)>,
    /// How much of it is of which host.
    pub(super) hosts: Vec<(&'h Host, usize, Found)>,
    /// The most that is held of one of them, as [`numbers`] counts.
    pub(super) of_host: usize,
    /// Those that were not read, as there was no room for what others had.
    pub(super) unread: &'a [&'h Host],
}

/// How many numbers what was made of a series takes the room of, with its labels and what holds them together.
pub(super) fn numbers(labels: &Labels, made: &[f64]) -> usize {
    made.len() + 16 + 4 * labels.iter().count()
}

/// What a host came to besides its series.
pub(super) struct Found {
    /// The share of the range that is there, if it has any of the series.
    pub(super) share: Option<f64>,
    /// The time of its last row in the range, whatever it has.
    pub(super) last_ms: Option<i64>,
    /// What it is rolled up to, if it is.
    pub(super) tier: Option<Tier>,
    pub(super) damaged: Vec<String>,
    pub(super) read: Read,
}

/// Reads hosts one after the other, with what is worked out once for all of them.
pub(super) struct Lane<'v, 'q> {
    reader: Reader<'v>,
    question: Question<'q>,
    wanted: &'q Wanted<'q>,
    tier: Option<Tier>,
    columns: Columns,
    windows: Windows,
}

impl<'v, 'q> Lane<'v, 'q> {
    pub(super) fn of(view: &'v View<'_>, wanted: &'q Wanted<'q>) -> Self {
        let question = Question::of(wanted.matchers);
        let tier = Tier::ALL.into_iter().find(|tier| tier.ms() == wanted.resolution_ms);
        Self { reader: view.reader(), question, wanted, tier, columns: Columns::default(), windows: Windows::default() }
    }

    /// Reads hosts until there is no more room, or `stop` says why not to go on.
    pub(super) fn hosts<'a, 'h>(
        &mut self,
        hosts: &'a [&'h Host],
        make: &Make<'_>,
        stop: impl Fn() -> Result<(), EvalError>,
    ) -> Result<Held<'a, 'h>, EvalError> {
        let mut made = Vec::new();
        let (mut seen, mut unread, mut most, mut all) = (Vec::with_capacity(hosts.len()), hosts, 0, 0);
        while let Some((host, after)) = unread.split_first().filter(|_| all < PIECE_MAX) {
            stop()?;
            let (before, mut of_host) = (made.len(), 0);
            let found = self.made(host, make, &mut |labels, values| {
                of_host += numbers(&labels, &values);
                made.push((labels, values));
                Ok(())
            })?;
            seen.push((*host, made.len() - before, found));
            (most, all, unread) = (most.max(of_host), all + of_host, after);
        }
        Ok(Held { made, hosts: seen, of_host: most, unread })
    }

    /// Hands over what is made of each series of a host, if anything is.
    pub(super) fn made(&mut self, host: &Host, make: &Make<'_>, take: &mut TakeMade<'_>) -> Result<Found, EvalError> {
        self.host(host, &mut |labels, at, values| make(at, values)?.map_or(Ok(()), |made| take(labels, made)))
    }

    pub(super) fn host(&mut self, host: &Host, take: &mut Take<'_>) -> Result<Found, EvalError> {
        let Self { reader, question, wanted, tier, columns, windows } = self;
        let (from_ms, to_ms) = (wanted.from_ms, wanted.to_ms);
        let span = from_ms..=to_ms;
        let before = reader.read();
        let holds = question.holds(host);
        windows.clear();
        let asking = RefCell::new(&mut *question);
        let mut take_piece = |piece: &mut Piece<'_, '_>| {
            let mut question = asking.borrow_mut();
            let meant = question.candidates(piece.schema);
            let before = windows.len();
            let rows = rows_of(piece, &span);
            windows.add(&piece.times[rows.clone()], &piece.windows[rows]);
            for candidate in meant.iter().filter(|candidate| candidate.is_of(&holds)) {
                let column = columns.of(candidate.slot);
                if piece.tier.is_some() {
                    let asked = Asked::of(question.suffix_of(candidate.slot), candidate.which, wanted.fold);
                    column.add_rolled(piece, candidate.at, asked, &span)?;
                } else {
                    column.add(piece, (candidate.at, candidate.which), &span)?;
                }
            }
            if piece.is_damaged() {
                // Rows of which what is asked for cannot be read are missing.
                windows.truncate(before);
            }
            Ok(())
        };
        let read = match *tier {
            None => {
                let mut ask = |schema: &Arc<Schema>, asked: &mut Vec<(usize, Which)>| {
                    let meant = asking.borrow_mut().candidates(schema);
                    let meant = meant.iter().filter(|candidate| candidate.is_of(&holds));
                    asked.extend(meant.map(|candidate| (candidate.at, candidate.which)));
                };
                reader.host_again(host.short, (from_ms, to_ms), &mut ask, &mut take_piece)
            }
            tier => reader.host(host.short, tier, (from_ms, to_ms), &mut take_piece),
        };
        read.map_err(|error| failed(&error))?;
        let mut any = false;
        columns.each(|slot, column| {
            any = true;
            if let Some(tier) = *tier {
                column.roll(tier, question.suffix_of(slot), wanted.fold);
            }
            column.sort();
            take(question.labels(slot, host, wanted.only), &column.at, &column.values)
        })?;
        let last_ms = windows.last_ms();
        let damaged = reader.damaged();
        // What is damaged may have been all that it had.
        let is_counted = any || !damaged.is_empty();
        let share = is_counted.then(|| windows.share((from_ms, to_ms), host.enrolled_ms, host.heard_ms));
        let tier = tier.filter(|_| any);
        Ok(Found { share, last_ms, tier, damaged, read: reader.read().since(before) })
    }
}

/// The rows of a piece in a span: they are in the order of their times.
fn rows_of(piece: &Piece<'_, '_>, span: &RangeInclusive<i64>) -> Range<usize> {
    // Mostly all of them.
    if let (Some(first), Some(last)) = (piece.times.first(), piece.times.last())
        && span.contains(first)
        && span.contains(last)
    {
        return 0..piece.times.len();
    }
    let from = piece.times.partition_point(|at| at < span.start());
    from..piece.times.partition_point(|at| at <= span.end()).max(from)
}

/// Points of the series of one host, by their slots. Most slots may be of others: where each host has series that no other has,
/// there are as many as in the whole fleet.
#[derive(Default)]
struct Columns {
    /// By slot: one more than its place among the columns, or 0.
    places: Vec<usize>,
    /// Which have a place.
    slots: Vec<usize>,
    columns: Vec<Column>,
}

impl Columns {
    /// The one of a slot.
    fn of(&mut self, slot: usize) -> &mut Column {
        if slot >= self.places.len() {
            self.places.resize(slot + 1, 0);
        }
        if self.places[slot] == 0 {
            self.slots.push(slot);
            self.places[slot] = self.slots.len();
            if self.columns.len() < self.slots.len() {
                self.columns.push(Column::default());
            }
        }
        &mut self.columns[self.places[slot] - 1]
    }

    /// Goes through those that have points, in the order of their slots, and empties all, until one fails.
    fn each<E>(&mut self, mut see: impl FnMut(usize, &mut Column) -> Result<(), E>) -> Result<(), E> {
        let mut seen = Ok(());
        self.slots.sort_unstable();
        for slot in self.slots.drain(..) {
            let column = &mut self.columns[std::mem::take(&mut self.places[slot]) - 1];
            if seen.is_ok() && !column.at.is_empty() {
                seen = see(slot, column);
            }
            column.clear();
        }
        seen
    }
}

/// Points of one series of one host.
#[derive(Default)]
struct Column {
    at: Vec<i64>,
    values: Vec<f64>,
    /// How many of them, which came first, stand for stretches already.
    rolled: usize,
}

impl Column {
    /// Adds the points that a cell of a piece has in a span.
    fn add(
        &mut self,
        piece: &mut Piece<'_, '_>,
        (cell, which): (usize, Which),
        span: &RangeInclusive<i64>,
    ) -> Result<(), StoreError> {
        let rows = rows_of(piece, span);
        if piece.add_whole(cell, which, rows.clone(), &mut self.values) {
            self.at.extend_from_slice(&piece.times[rows]);
            return Ok(());
        }
        piece.each_value(cell, which, &mut |at, value| {
            if span.contains(&at) {
                self.at.push(at);
                self.values.push(value);
            }
        })
    }

    /// Adds what a tier has of the series in a place of the schema.
    fn add_rolled(
        &mut self,
        piece: &mut Piece<'_, '_>,
        series: usize,
        asked: Asked,
        span: &RangeInclusive<i64>,
    ) -> Result<(), StoreError> {
        let from = self.at.len();
        self.add(piece, asked.cell(series), span)?;
        self.rolled = self.at.len();
        if let Asked::Times(_) = asked {
            let mut counts = Self::default();
            counts.add(piece, Asked::Tally(Tally::Count).cell(series), span)?;
            // Where there were no points, as of a series that has ended, there is nothing to multiply.
            let times = |value: f64, count: f64| if is_stale(count) { count } else { value * count };
            self.values[from..].iter_mut().zip(counts.values).for_each(|(value, count)| *value = times(*value, count));
        }
        Ok(())
    }

    /// Rolls up what was not.
    fn roll(&mut self, tier: Tier, suffix: &str, fold: Fold) {
        let rest = Self { at: self.at.split_off(self.rolled), values: self.values.split_off(self.rolled), rolled: 0 };
        let points: BTreeMap<i64, f64> = rest.at.into_iter().zip(rest.values).collect();
        let points: Vec<(i64, f64)> = points.into_iter().collect();
        for (at, value) in rolled::together(&points, tier, suffix, fold) {
            self.at.push(at);
            self.values.push(value);
        }
    }

    fn clear(&mut self) {
        self.at.clear();
        self.values.clear();
        self.rolled = 0;
    }

    /// Blocks of one slot may overlap; of points of one time the last that was read counts.
    fn sort(&mut self) {
        if self.at.is_sorted_by(|a, b| a < b) {
            return;
        }
        let points: BTreeMap<i64, f64> = self.at.drain(..).zip(self.values.drain(..)).collect();
        (self.at, self.values) = points.into_iter().unzip();
    }
}

/// Most hosts of a piece: waking who takes it costs as much as reading some hosts.
const TOGETHER_MAX: usize = 64;
/// Pieces that each thread is to have at least, so that none is long done before another.
const PIECES_OF_LANE: usize = 4;
/// Most pieces that are read ahead.
const AHEAD_MAX: usize = 6;
/// Numbers that are held ahead: 64 MiB. A host of each piece may go beyond.
const HELD_MAX: usize = 8 << 20;
/// Of these, what a piece may hold before it leaves the rest of its hosts.
const PIECE_MAX: usize = HELD_MAX / AHEAD_MAX;

/// How far ahead hosts are read, by what the hosts before them had.
pub(super) struct Pace {
    together_max: usize,
    together: Cell<usize>,
    ahead: Cell<usize>,
    /// The most numbers that are held of a host so far.
    of_host: Cell<usize>,
}

impl Pace {
    /// For so many hosts and threads. Two hosts at first: what they have is not known yet.
    pub(super) fn of(hosts: usize, lanes: usize) -> Self {
        let together_max = (hosts / (lanes.max(1) * PIECES_OF_LANE)).clamp(1, TOGETHER_MAX);
        Self { together_max, together: Cell::new(1), ahead: Cell::new(2), of_host: Cell::new(1) }
    }

    /// How many pieces may be under way.
    pub(super) fn ahead(&self) -> usize {
        self.ahead.get()
    }

    /// Hosts in pieces of as many as are to be read together when each is begun.
    pub(super) fn pieces<'a, T>(&self, mut rest: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        std::iter::from_fn(move || {
            let (piece, after) = rest.split_at(self.together.get().min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// Learns from how many numbers are held of a host.
    pub(super) fn after(&self, of_host: usize) {
        let of_host = self.of_host.get().max(of_host);
        self.of_host.set(of_host);
        self.together.set((PIECE_MAX / of_host).clamp(1, self.together_max));
        self.ahead.set((HELD_MAX / self.together.get() / of_host).clamp(1, AHEAD_MAX));
    }
}

pub(super) fn failed(error: &StoreError) -> EvalError {
    EvalError::Source(error.to_string())
}

pub(super) fn check(stop: &Stop) -> Result<(), EvalError> {
    stop.now().map_or(Ok(()), |why| Err(EvalError::Interrupted(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_of_the_slots_of_one_host_whatever_others_have() {
        let mut columns = Columns::default();
        for host in 0..1_000usize {
            // One slot that all have, and two of its own.
            for slot in [host * 2 + 2, 0, host * 2 + 1, 0] {
                columns.of(slot).at.push(i64::try_from(slot).unwrap());
                columns.of(slot).values.push(1.0);
            }
            columns.of(5_000);
            let mut seen = Vec::new();
            let see = |slot, column: &mut Column| {
                seen.push((slot, column.at.len()));
                if host == 7 { Err(()) } else { Ok(()) }
            };
            assert_eq!(columns.each(see).is_err(), host == 7);
            let all = [(0, 2), (host * 2 + 1, 1), (host * 2 + 2, 1)];
            assert_eq!(seen, all[..if host == 7 { 1 } else { 3 }], "of the host {host}");
        }
        assert_eq!(columns.columns.len(), 4, "room of a host, not of the fleet");
    }

    #[test]
    fn hosts_are_read_ahead_as_far_as_there_is_room_for_what_they_have() {
        let pace = Pace::of(1_000, 2);
        let mut pieces = pace.pieces(&[0; 68]);
        assert_eq!((pieces.next().map(<[_]>::len), pace.ahead()), (Some(1), 2), "of the first nothing is known");
        pace.after(360);
        assert_eq!((pieces.next().map(<[_]>::len), pace.ahead()), (Some(64), 6));
        // One value of each of ten thousand series, with its labels.
        let many = 10_000 * numbers(&Labels::from_text(&[("host", "web-1"), ("role", "web")]), &[1.0]);
        for (of_host, together, ahead) in
            [(many, 5, 6), (1 << 20, 1, 6), (3 << 20, 1, 2), (360, 1, 2), (16 << 20, 1, 1)]
        {
            pace.after(of_host);
            assert_eq!((pace.together.get(), pace.ahead()), (together, ahead), "{of_host} numbers");
            assert!(pace.together.get() * pace.ahead() * of_host <= HELD_MAX.max(of_host));
        }
        assert_eq!((pieces.next().map(<[_]>::len), pieces.next().map(<[_]>::len)), (Some(1), Some(1)));
    }

    #[test]
    fn few_hosts_are_shared_out_too() {
        for (hosts, lanes, together) in [(64, 2, 8), (100, 2, 12), (700, 2, 64), (5, 2, 1), (64, 0, 16)] {
            let pace = Pace::of(hosts, lanes);
            pace.after(1);
            assert_eq!(pace.together.get(), together, "{hosts} hosts by {lanes}");
        }
    }
}
