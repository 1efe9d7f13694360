//! Making room: what is acknowledged goes first, then the oldest samples, then, when there are
//! nothing but findings, the oldest of those. Records never: they lie in the ledger, and a number
//! that is dropped here is given to them anew.

use std::io;
use std::time::Duration;

use mainstay_core::id::Seq;
use mainstay_core::time::Now;

use super::item::Body;
use super::runs::{Known, Run};
use super::{KEEP_ACKED, KEEP_ACKED_FINDINGS, KEEP_ACKED_FINDINGS_BYTES_MAX, Spool};

/// Why something is missing, as the collector and the operator see it.
const NO_ROOM: &str = "spool full, oldest samples dropped";
const NO_ROOM_FOR_FINDINGS: &str = "spool full of findings, oldest dropped";
const RESTORED: &str = "acknowledged before the collector was restored, no longer kept";

impl Spool {
    pub(super) fn bytes(&self) -> u64 {
        (self.keep.bytes() + self.samples.bytes()) as u64
    }

    /// Deletes what was acknowledged long enough ago.
    pub(super) fn trim(&mut self, now: Now) {
        let is_due = |lane: &super::Lane, age: Duration| {
            let acked_at = lane.segments.front().and_then(|segment| segment.acked_at_ns);
            acked_at.is_some_and(|at| u128::from(now.boot_ns.saturating_sub(at)) >= age.as_nanos())
        };
        loop {
            let is_over = self.keep.bytes() > KEEP_ACKED_FINDINGS_BYTES_MAX;
            let age = if is_over { KEEP_ACKED } else { KEEP_ACKED_FINDINGS };
            if !(is_due(&self.keep, age) && self.drop_acked(true)) {
                break;
            }
        }
        while is_due(&self.samples, KEEP_ACKED) && self.drop_acked(false) {}
    }

    /// Keeps the spool within its bound.
    pub(super) fn make_room(&mut self, now: Now) {
        while self.bytes() > self.settings.bytes_max {
            let made = self.drop_oldest_acked() || self.drop_samples() || self.drop_findings(now);
            if !made {
                break;
            }
        }
        self.tell_lost(now);
    }

    fn drop_oldest_acked(&mut self) -> bool {
        let acked = |lane: &super::Lane| {
            lane.segments.front().filter(|segment| segment.acked_at_ns.is_some()).map(|segment| segment.first)
        };
        match (acked(&self.keep), acked(&self.samples)) {
            (Some(keep), Some(samples)) if keep <= samples => self.drop_acked(true) || self.drop_acked(false),
            (Some(_), None) => self.drop_acked(true),
            (_, Some(_)) => self.drop_acked(false),
            (None, None) => false,
        }
    }

    /// Deletes the oldest segment of a lane, which is acknowledged. The cursor is synced first: what
    /// it says must never be behind what is gone.
    fn drop_acked(&mut self, is_keep: bool) -> bool {
        let synced = self.cursor.write(self.marks).and_then(|()| self.cursor.sync());
        if let Err(error) = synced {
            tracing::warn!(%error, "cannot sync the cursor of the spool, nothing is deleted");
            return false;
        }
        let lane = if is_keep { &mut self.keep } else { &mut self.samples };
        lane.drop_oldest().is_some()
    }

    /// Drops the oldest segment of samples, which nobody has yet.
    fn drop_samples(&mut self) -> bool {
        let is_last = self.samples.segments.len() == 1;
        if is_last && self.samples.segments[0].runs.is_empty() {
            return false;
        }
        if is_last && self.samples.rotate(self.marks.next).is_err() {
            return false;
        }
        let Some(segment) = self.samples.drop_oldest() else { return false };
        let lost = beyond(&segment.runs, self.marks.acked);
        self.dropped += count(&lost);
        self.lost.extend(lost.into_iter().map(|run| (run, NO_ROOM)));
        true
    }

    /// Drops the oldest segment that holds findings; its records and gaps get new numbers.
    fn drop_findings(&mut self, now: Now) -> bool {
        let oldest = self.keep.segments.front().filter(|segment| segment.findings > 0);
        let Some(segment) = oldest.filter(|_| self.keep.segments.len() > 1).cloned() else { return false };
        let items = match self.keep.items(&segment) {
            Ok(items) => items,
            Err(error) => {
                tracing::warn!(%error, "cannot read the oldest segment of the spool, it is kept");
                return false;
            }
        };
        let acked = Seq(self.marks.acked);
        let mut bodies = Vec::new();
        for item in items.into_iter().filter(|item| item.seq > acked) {
            match item.body {
                body @ (Body::Record(_) | Body::Gap(_)) => bodies.push(body),
                Body::Finding(_) | Body::Change(_) | Body::Summary(_) | Body::Recording(_) | Body::Scene(_) => {
                    self.dropped += 1
                }
            }
        }
        if !bodies.is_empty() && self.give_new_numbers(bodies, segment.last(), now).is_err() {
            return false;
        }
        let lost = beyond(&segment.runs, self.marks.acked);
        self.lost.extend(lost.into_iter().map(|run| (run, NO_ROOM_FOR_FINDINGS)));
        self.keep.drop_oldest().is_some()
    }

    /// Appends what was in a segment that goes, and forgets its old numbers.
    fn give_new_numbers(&mut self, bodies: Vec<Body>, last: u64, now: Now) -> io::Result<()> {
        let first = self.keep_all(bodies.clone(), now)?.0;
        self.records.retain(|(seq, _)| *seq > last);
        for (seq, body) in (first..).zip(bodies) {
            self.hold_pending(Seq(seq), now.wall_ms, &body);
        }
        Ok(())
    }

    /// The collector lacks what it had acknowledged: it goes out again as far as it is here. Records
    /// it lacks get new numbers where the old ones are gone.
    pub(super) fn step_back(&mut self, durable: Seq, ledger: u64) -> io::Result<()> {
        tracing::warn!(acked = self.marks.acked, durable = durable.0, "the collector was restored, sending again");
        let mut known = Known::default();
        for lane in [&mut self.keep, &mut self.samples] {
            for segment in &mut lane.segments {
                segment.runs.iter().for_each(|run| known.add(*run));
                if segment.last() > durable.0 {
                    segment.acked_at_ns = None;
                }
            }
        }
        let lost = known.holes(durable.0, self.marks.acked + 1);
        self.lost.extend(lost.into_iter().map(|run| (run, RESTORED)));
        self.marks.acked = durable.0;
        self.marks.record_acked = self.marks.record_acked.min(ledger);
        self.read_pending()?;
        self.cursor.write(self.marks)
    }
}

/// The parts of runs that lie beyond a number.
fn beyond(runs: &[Run], after: u64) -> Vec<Run> {
    let later = runs.iter().filter(|run| run.last > after);
    later.map(|run| Run { first: run.first.max(after + 1), ..*run }).collect()
}

fn count(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.last - run.first + 1).sum()
}
