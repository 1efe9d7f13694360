//! The collector, as the loop sees it: what is asked of it and what it says.
//!
//! Nothing hangs on it: while it is away, or before the host is enrolled, the loop goes on healing.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_core::agent::{Input, OrderId, PolicyState};
use mainstay_core::decision::PolicyRef;
use mainstay_core::finding::FindingKind;
use mainstay_core::id::{DecisionId, HostId};
use mainstay_core::policy::signed::{KeyId, Signed, TrustedKeys};
use mainstay_core::sample::HostFacts;
use mainstay_core::subject::Subject;
use tokio::sync::mpsc::{Receiver, Sender};
use tracing::{error, info, warn};

use super::Shell;
use crate::config::Settings;
use crate::ledger::Ledger;
use crate::metrics::Exposition;
use crate::spool::SpoolHandle;
use crate::uplink::message::{Inbound, OutMessage, PolicyStanding, SignedBytes};

/// The agent expects to be back after a restart.
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// The way to the collector.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    session: Option<(Sender<OutMessage>, Receiver<Inbound>)>,
    connected: bool,
    away: String,
    clock_offset_ms: i64,
    dropped: u64,
}

/// Who this host is to its collector.
#[derive(Debug)]
pub(super) struct Identity;

/// Reads the identity; `None` before the host is enrolled.
pub(super) fn identity(_settings: &Settings) -> anyhow::Result<Option<Identity>> {
    Ok(None)
}

pub(super) fn host_id(_: &Identity) -> HostId {
    HostId::default()
}

pub(super) fn labels(_: &Identity) -> BTreeMap<String, String> {
    BTreeMap::new()
}

pub(super) fn operator_keys(_: &Identity) -> TrustedKeys {
    TrustedKeys::default()
}

pub(super) fn fleet(_: &Identity) -> [u8; 16] {
    [0; 16]
}

impl Uplink {
    /// Starts the session, and the spool that feeds it.
    pub(super) fn start(
        _settings: &Settings,
        _identity: Option<Identity>,
        _facts: &HostFacts,
        _ledger: &Ledger,
    ) -> anyhow::Result<(Self, Option<SpoolHandle>)> {
        Ok((Self::default(), None))
    }

    /// The next thing that the collector says; never, where there is none.
    pub(super) async fn recv(&mut self) -> Inbound {
        loop {
            match &mut self.session {
                Some((_, inbound)) => match inbound.recv().await {
                    Some(inbound) => return inbound,
                    None => {
                        error!("the session with the collector has ended for good");
                        self.session = None;
                    }
                },
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn policy(&mut self, state: PolicyState) {
        let offered = (state.offered != PolicyRef::default()).then_some(state.offered);
        self.send(OutMessage::Policy(PolicyStanding {
            offered,
            effective: state.effective,
            confirmed: state.confirmed,
            refused: state.refused,
        }));
    }

    pub(super) fn lease(&mut self, decision: DecisionId, kind: FindingKind, subject: Subject, share: f64) {
        self.send(OutMessage::Lease { decision, kind, subject, share });
    }

    pub(super) fn order_done(&mut self, id: OrderId, done: bool, text: String) {
        self.send(OutMessage::Result { id: id.0, done, text });
    }

    /// The agent stops on purpose.
    pub(super) async fn bye(&mut self) {
        self.send(OutMessage::Bye { reason: "stopping".to_owned(), back_within: BACK_WITHIN });
    }

    /// What does not fit is dropped and counted: the core asks again, or the session says it anew.
    fn send(&mut self, message: OutMessage) {
        if let Some((out, _)) = &self.session
            && out.try_send(message).is_err()
        {
            self.dropped += 1;
        }
    }

    /// In words, for a person.
    pub(super) fn describe(&self) -> String {
        match (&self.session, self.connected) {
            (None, _) => "none (not enrolled)".to_owned(),
            (Some(_), true) => "connected".to_owned(),
            (Some(_), false) => format!("away: {}", self.away),
        }
    }

    pub(super) fn expose(&self, text: &mut Exposition) {
        #[allow(clippy::cast_precision_loss, reason = "clock offsets stay below 2^53 ms")]
        text.gauge("mainstay_agent_clock_offset_seconds", &[], self.clock_offset_ms as f64 / 1e3);
        text.counter("mainstay_agent_uplink_messages_dropped_total", &[], self.dropped);
    }
}

impl Shell {
    pub(super) fn inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Connected { clock_offset_ms, round_trip } => {
                info!(clock_offset_ms, round_trip_ms = round_trip.as_millis(), "collector connected");
                (self.uplink.connected, self.uplink.clock_offset_ms) = (true, clock_offset_ms);
                self.feed(Input::UplinkUp);
            }
            Inbound::Disconnected { why } => {
                warn!(why, "collector away; healing goes on");
                (self.uplink.connected, self.uplink.away) = (false, why);
                self.feed(Input::UplinkDown);
            }
            Inbound::Degraded { why } => {
                if let Some(why) = &why {
                    error!(why, "an operator is needed");
                }
                self.state_note = why;
                self.tell_status();
            }
            Inbound::PolicyOffer(bytes) => self.feed(Input::PolicyOffered(Box::new(signed(bytes)))),
            Inbound::Lease { decision, granted: true, ttl, .. } => {
                self.feed(Input::LeaseGranted { decision, expires_in: ttl });
            }
            Inbound::Lease { decision, granted: false, text, .. } => self.feed(Input::LeaseDenied { decision, text }),
            Inbound::Order { id, signed: bytes, .. } => {
                self.feed(Input::Order { id: OrderId(id), signed: Box::new(signed(bytes)) });
            }
            Inbound::Acked { ledger, .. } => {
                if let Some(head) = ledger {
                    self.keeper.countersign(head);
                }
            }
        }
    }
}

/// A key id or a signature of a wrong length is of no key, and the core refuses it as such.
fn signed(bytes: SignedBytes) -> Signed {
    let key_id = KeyId(bytes.key_id.try_into().unwrap_or_default());
    Signed { bytes: bytes.bytes, key_id, signature: bytes.signature.try_into().unwrap_or([0; 64]) }
}
