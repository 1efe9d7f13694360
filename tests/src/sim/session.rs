//! Sessions between hosts and the collector: what is sent, stored, acknowledged, asked and cut.

use mainstay_core::agent::Input;
use mainstay_core::finding::FindingKind;
use mainstay_core::id::{DecisionId, Seq};
use mainstay_fleet::lease::LeaseAnswer;

use super::Bug;
use super::check::Seen;
use super::collector::Batch;
use super::spool::Parcel;
use super::world::{Event, MILLI, SECOND, World};

/// Items in one batch.
const BATCH: usize = 16;

/// How long a session that nothing comes through takes to be noticed.
const NOTICED_AFTER: u64 = 10 * SECOND;

/// A session younger than this does not count as connected for the checkers: what was decided
/// before it began may still be on its way.
pub const SETTLED_AFTER: u64 = 20 * SECOND;

impl World {
    /// The agent tries to reach the collector, and goes on trying.
    pub(super) fn connect(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life || self.nodes[node].session.is_some() {
            return;
        }
        if !self.reaches(node) {
            let wait = self.rng.between(SECOND, 8 * SECOND); // full jitter below the cap
            return self.after(wait, Event::Connect(node, life));
        }
        let session = self.rng.next_u64();
        let it = &mut self.nodes[node];
        it.session = Some((session, self.at));
        it.sent = self.collector.acknowledged(it.id, it.disk.epoch());
        it.disk.acknowledged(it.disk.epoch(), it.sent);
        self.tell(node, life, Input::UplinkUp);
        let offer = Input::PolicyOffered(Box::new(self.policy.clone()));
        self.after(5 * MILLI, Event::Tell(node, life, Box::new(offer)));
        self.after(MILLI, Event::Send(node, session));
    }

    /// The session of a host ends, and the agent hears of it.
    pub(super) fn disconnect(&mut self, node: usize) {
        if self.nodes[node].session.take().is_none() {
            return;
        }
        let life = self.nodes[node].life;
        self.tell(node, life, Input::UplinkDown);
        let wait = self.rng.between(SECOND / 2, 4 * SECOND);
        self.after(wait, Event::Connect(node, life));
    }

    pub(super) fn send_soon(&mut self, node: usize) {
        if let Some((session, _)) = self.nodes[node].session {
            self.after(20 * MILLI, Event::Send(node, session));
        }
    }

    fn is_session(&self, node: usize, session: u64) -> bool {
        self.nodes[node].session.is_some_and(|(id, _)| id == session)
    }

    /// The host sends what it has and has not sent in this session.
    pub(super) fn send(&mut self, node: usize, session: u64) {
        if !self.is_session(node, session) || self.crashes_here(node, "before sending") {
            return;
        }
        let it = &self.nodes[node];
        let parcels = it.disk.parcels(it.sent, BATCH);
        let Some(last) = parcels.iter().rev().find_map(|parcel| match parcel {
            Parcel::Item(seq, _) => Some(*seq),
            Parcel::Lost(..) => None,
        }) else {
            return;
        };
        let batch = Box::new(Batch { host: it.id, epoch: it.disk.epoch(), parcels });
        self.nodes[node].sent = last;
        let latency = self.rng.between(MILLI, 40 * MILLI);
        let latency = (self.nodes[node].arrives_at + 1).max(self.at + latency) - self.at;
        self.nodes[node].arrives_at = self.at + latency;
        if self.rng.once_in(self.config.duplicate_once_in) && !self.is_calm() {
            // A batch of a session that is about to break arrives late, and again.
            let late = latency + self.rng.between(0, 3 * SECOND);
            self.after(late, Event::Arrive(node, session, batch.clone()));
        }
        self.after(latency, Event::Arrive(node, session, batch));
        self.after(latency, Event::Send(node, session));
    }

    /// A batch arrives: it is stored, and then acknowledged.
    pub(super) fn arrive(&mut self, node: usize, session: u64, batch: Box<Batch>) {
        if !self.reaches(node) {
            self.after(NOTICED_AFTER, Event::Ack(node, session, Seq(u64::MAX)));
            return;
        }
        let life = self.collector.life;
        if self.has(Bug::AcknowledgesBeforeCommit) {
            let upto = batch.parcels.iter().fold(Seq(0), |upto, parcel| match parcel {
                Parcel::Item(seq, _) | Parcel::Lost(_, seq) => upto.max(*seq),
            });
            self.after(2 * MILLI, Event::Ack(node, session, upto));
        }
        // One writer, in the order of arrival.
        let group = self.rng.between(MILLI, 60 * MILLI);
        let group = (self.collector.commits_at + 1).max(self.at + group) - self.at;
        self.collector.commits_at = self.at + group;
        self.after(group, Event::Commit(node, session, life, batch));
    }

    /// A batch reaches the collector's disk.
    pub(super) fn commit(&mut self, node: usize, session: u64, life: u64, batch: &Batch) {
        if !self.collector.up || self.collector.life != life {
            return; // it died before the commit
        }
        let upto = self.collector.commit(batch);
        if self.rng.once_in(self.config.lost_ack_once_in) && !self.is_calm() {
            // The acknowledgement is lost with the session.
            return self.after(MILLI, Event::Ack(node, session, Seq(u64::MAX)));
        }
        if !self.has(Bug::AcknowledgesBeforeCommit) {
            let latency = self.rng.between(MILLI, 40 * MILLI);
            self.after(latency, Event::Ack(node, session, upto));
        }
    }

    /// An acknowledgement arrives; `u64::MAX` stands for a session that turns out to be broken.
    pub(super) fn ack(&mut self, node: usize, session: u64, upto: Seq) {
        if !self.is_session(node, session) {
            return;
        }
        if upto == Seq(u64::MAX) {
            return self.disconnect(node);
        }
        if self.crashes_here(node, "before an acknowledgement is kept") {
            return;
        }
        let disk = &mut self.nodes[node].disk;
        disk.acknowledged(disk.epoch(), upto);
    }

    /// The agent asks for a lease; the answer comes over the same session or not at all.
    pub(super) fn ask_lease(&mut self, node: usize, life: u64, decision: DecisionId, kind: FindingKind, share: f64) {
        let Some((session, _)) = self.nodes[node].session else { return };
        if !self.reaches(node) {
            return self.after(NOTICED_AFTER, Event::Ack(node, session, Seq(u64::MAX)));
        }
        let (host, hosts, now) = (self.nodes[node].id, self.nodes.len(), self.collector_now());
        let input = match self.collector.lease(host, kind, hosts, share, now) {
            LeaseAnswer::Granted { expires_in } => {
                self.seen(node, &Seen::Granted(kind));
                Input::LeaseGranted { decision, expires_in }
            }
            LeaseAnswer::Denied { text, .. } => Input::LeaseDenied { decision, text },
        };
        let latency = self.rng.between(2 * MILLI, 80 * MILLI);
        self.after(latency, Event::Tell(node, life, Box::new(input)));
    }

    /// Whether a host has had a session for a while that works.
    pub(super) fn is_connected(&self, node: usize) -> bool {
        self.reaches(node)
            && self.cut.get(&node).is_none_or(|until| until + SETTLED_AFTER * 3 <= self.at)
            && self.collector_up_for() >= SETTLED_AFTER * 3
            && self.nodes[node].session.is_some_and(|(_, since)| self.at - since >= SETTLED_AFTER)
    }
}
