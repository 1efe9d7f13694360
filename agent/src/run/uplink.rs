//! The collector, as the loop sees it: what is asked of it and what it says.
//!
//! Nothing hangs on it: while it is away, or before the host is enrolled, the loop goes on healing.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use ed25519_dalek::VerifyingKey;
use mainstay_core::agent::{Input, OrderId, PolicyState};
use mainstay_core::decision::PolicyRef;
use mainstay_core::exposition::Exposition;
use mainstay_core::finding::FindingKind;
use mainstay_core::host_query::HostReply;
use mainstay_core::id::{DecisionId, Epoch, HostId, IdSource};
use mainstay_core::policy::signed::{KeyId, Signed, TrustedKeys};
use mainstay_core::sample::HostFacts;
use mainstay_core::subject::Subject;
use mainstay_core::token::PolicyKeys;
use tokio::sync::mpsc::{Receiver, channel};
use tracing::{error, info, warn};

use super::Shell;
use super::exposition::count;
use crate::config::Settings;
use crate::host::clock;
use crate::identity::Identity;
use crate::ledger::Ledger;
use crate::spool::{SpoolHandle, SpoolSettings};
use crate::uplink::message::{Inbound, OutMessage, PolicyStanding, SignedBytes};
use crate::uplink::{self, Sources, UplinkHandle, UplinkSettings};

/// The agent expects to be back after a restart.
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// Longest wait for the last messages to leave when the agent stops.
const BYE_GRACE: Duration = Duration::from_secs(2);

/// What the collector says waits here; while it is full the session reads no further.
const INBOUND_MAX: usize = 64;

/// The way to the collector.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    session: Option<(UplinkHandle, Receiver<Inbound>)>,
    identity: String,
    connected: bool,
    away: String,
    clock_offset_ms: i64,
}

/// What the core has to know of an identity.
#[derive(Debug, Default)]
pub(super) struct Enrolled {
    pub(super) host: Option<HostId>,
    pub(super) fleet: [u8; 16],
    pub(super) keys: TrustedKeys,
    pub(super) labels: BTreeMap<String, String>,
}

impl Enrolled {
    /// Takes an identity apart.
    ///
    /// # Errors
    /// Where it holds what no collector gives.
    pub(super) fn of(identity: &Identity) -> anyhow::Result<Self> {
        let fleet = identity.fleet.as_slice().try_into().context("the fleet in the identity is not 16 bytes")?;
        let keys = identity.policy_keys.iter().flat_map(PolicyKeys::iter);
        let keys = keys.map(|key| VerifyingKey::from_bytes(&key)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            host: Some(identity.host),
            fleet,
            keys: TrustedKeys(keys.context("a policy key in the identity is none")?),
            labels: identity.labels.iter().cloned().collect(),
        })
    }
}

impl Uplink {
    /// Opens the spool and starts the session. Before the host is enrolled there is neither.
    ///
    /// # Errors
    /// Where the spool cannot be opened.
    pub(super) fn start(
        settings: &Settings,
        identity: Option<Identity>,
        facts: &HostFacts,
        ledger: &Ledger,
        ids: &mut IdSource,
    ) -> anyhow::Result<(Self, Option<SpoolHandle>)> {
        let Some(identity) = identity else { return Ok((Self::default(), None)) };
        let now = clock::now();
        let spool_settings = SpoolSettings {
            root: settings.state.dir.join("spool"),
            host: identity.host,
            bytes_max: settings.state.spool_bytes_max,
            new_epoch: Epoch(ids.next_u64()),
            countersigned: ledger.countersigned().map_or(0, |head| head.index),
        };
        let spool = SpoolHandle::open(spool_settings, now).context("cannot open the spool")?;
        let described = identity.describe(now.wall_ms);
        let uplink_settings = UplinkSettings {
            identity,
            state: settings.state.dir.clone(),
            address: settings.collector.clone(),
            facts: facts.clone(),
            seed: ids.next_u64(),
            clock: clock::now,
        };
        let sources = Sources { spool: spool.clone(), ledger: ledger.reader(), heads: ledger.heads() };
        let (inbound, said) = channel(INBOUND_MAX);
        let handle = uplink::spawn(uplink_settings, sources, inbound);
        let away = "no session yet".to_owned();
        Ok((Self { session: Some((handle, said)), identity: described, away, ..Self::default() }, Some(spool)))
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

    pub(super) fn policy(&self, state: PolicyState) {
        let offered = (state.offered != PolicyRef::default()).then_some(state.offered);
        self.send(OutMessage::Policy(PolicyStanding {
            offered,
            effective: state.effective,
            confirmed: state.confirmed,
            refused: state.refused,
        }));
    }

    pub(super) fn lease(&self, decision: DecisionId, kind: FindingKind, subject: Subject, share: f64) {
        self.send(OutMessage::Lease { decision, kind, subject, share });
    }

    pub(super) fn order_done(&self, id: OrderId, done: bool, text: String) {
        self.send(OutMessage::Result { id: id.0, done, text });
    }

    pub(super) fn reply(&self, id: u64, reply: Result<HostReply, String>) {
        self.send(OutMessage::Reply { id, reply });
    }

    /// The agent stops on purpose.
    pub(super) async fn bye(&mut self) {
        if let Some((handle, _)) = self.session.take() {
            handle.stop("stopping", BACK_WITHIN, BYE_GRACE).await;
        }
    }

    /// What does not fit is dropped and counted: the core asks again, or the session says it anew.
    fn send(&self, message: OutMessage) {
        if let Some((handle, _)) = &self.session {
            handle.send(message);
        }
    }

    /// Whether there is a collector that takes what is sent.
    pub(super) fn is_enrolled(&self) -> bool {
        self.session.is_some()
    }

    /// Who the host is to its collector, in lines for a person. Empty before it is enrolled.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// In words, for a person.
    pub(super) fn describe(&self) -> String {
        match (&self.session, self.connected) {
            (None, _) => "none (not enrolled)".to_owned(),
            (Some(_), true) => "connected".to_owned(),
            (Some(_), false) => format!("away ({})", self.away),
        }
    }

    pub(super) fn expose(&self, text: &mut Exposition) {
        let help = "How far the clock of the collector is ahead.";
        #[allow(clippy::cast_precision_loss, reason = "clock offsets stay below 2^53 ms")]
        text.gauge("mainstay_agent_clock_offset_seconds", help, self.clock_offset_ms as f64 / 1e3);
        let Some((handle, _)) = &self.session else { return };
        let counters = handle.counters();
        for (name, help, counter) in [
            ("sessions_total", "Sessions with the collector.", &counters.sessions),
            ("pushed_bytes_total", "Bytes sent to the collector.", &counters.pushed_bytes),
            ("items_total", "Items that the collector has acknowledged.", &counters.items),
            ("messages_dropped_total", "Messages to the collector that no session took.", &counters.dropped),
            ("renewals_total", "Times that the certificate was renewed.", &counters.renewals),
        ] {
            text.counter(&format!("mainstay_agent_uplink_{name}"), help, count(counter.load(Ordering::Relaxed)));
        }
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
            Inbound::Asked { id, query } => self.asked(id, query),
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
