//! What operators order hosts to do: approvals, holds, undoing, and changes of what was learned, each signed.
//!
//! The collector only carries orders. Who it is for stands inside what is signed, so it cannot be carried to another
//! host, and so does until when it may be taken, so it cannot be kept and played again later.

use ed25519_dalek::SigningKey;

use super::Glob;
use super::signed::{BadSignature, Signed, TrustedKeys};
use crate::canonical::{Reader, Truncated, Writer};
use crate::id::{ActionId, DecisionId, HostId};
use crate::record::{Author, LearningChange};
use crate::subject::UnitName;

const APPROVAL_TAG: &str = "mainstay-approval-1";
const HOLD_TAG: &str = "mainstay-hold-1";
const UNDO_TAG: &str = "mainstay-undo-1";
const LEARNING_TAG: &str = "mainstay-learning-1";

/// Longest glob of an order, in bytes.
const GLOB_BYTES_MAX: usize = 256;

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldScope {
    /// Every host.
    Fleet,
    /// One host.
    Host(HostId),
    /// One unit on one host.
    Unit(HostId, UnitName),
}

impl HoldScope {
    /// The scope as a host's records write it: `fleet`, `host` or the unit.
    #[must_use]
    pub fn on_host(&self) -> String {
        match self {
            Self::Fleet => "fleet".to_owned(),
            Self::Host(_) => "host".to_owned(),
            Self::Unit(_, unit) => unit.to_string(),
        }
    }

    fn host(&self) -> Option<HostId> {
        match self {
            Self::Fleet => None,
            Self::Host(host) | Self::Unit(host, _) => Some(*host),
        }
    }
}

/// What an operator orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A yes or no to a plan that waits.
    Approval {
        /// The decision that asked.
        decision: DecisionId,
        /// The plan that it showed: [`crate::plan::Plan::hash`].
        plan_hash: [u8; 32],
        /// Until when the answer counts, which is also until when it may be taken.
        until_ms: i64,
        /// Yes or no.
        approved: bool,
        /// Who, and why.
        by: Author,
    },
    /// Acting stops, or may go on.
    Hold {
        /// What.
        scope: HoldScope,
        /// Until when acting stops; `None`: until it is lifted.
        until_ms: Option<i64>,
        /// Whether it stops or may go on.
        held: bool,
        /// Until when the order may be taken.
        not_after_ms: i64,
        /// Who, and why.
        by: Author,
    },
    /// An action is undone.
    Undo {
        /// On which host.
        host: HostId,
        /// Which.
        action: ActionId,
        /// Until when the order may be taken.
        not_after_ms: i64,
        /// Who, and why.
        by: Author,
    },
    /// What a host has learned is changed.
    Learning {
        /// On which host.
        host: HostId,
        /// How.
        change: LearningChange,
        /// Until when the order may be taken.
        not_after_ms: i64,
        /// Who, and why.
        by: Author,
    },
}

/// Why an order is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// The signature.
    #[error("order is not believed: {0}")]
    Signature(#[from] BadSignature),
    /// The bytes.
    #[error("order cannot be read: {0}")]
    Damaged(#[from] Truncated),
    /// Another host's.
    #[error("order is for host {0}")]
    OtherHost(HostId),
    /// Too late.
    #[error("order expired {late_ms} ms ago")]
    Expired {
        /// How late.
        late_ms: i64,
    },
}

impl Order {
    /// The word by which the wire calls it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Hold { .. } => "hold",
            Self::Undo { .. } => "undo",
            Self::Learning { .. } => "learning",
        }
    }

    /// Signs the order.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Signed {
        Signed::sign(self.encode(), key)
    }

    /// Takes an order on a host: the signature first, then whom it is for, then the time.
    ///
    /// # Errors
    /// [`OrderRefusal`].
    pub fn take(signed: &Signed, keys: &TrustedKeys, host: HostId, now_wall_ms: i64) -> Result<Self, OrderRefusal> {
        signed.check(keys)?;
        let order = Self::decode(&signed.bytes)?;
        if let Some(other) = order.host().filter(|named| *named != host) {
            return Err(OrderRefusal::OtherHost(other));
        }
        let late_ms = now_wall_ms.saturating_sub(order.not_after_ms());
        if late_ms > 0 { Err(OrderRefusal::Expired { late_ms }) } else { Ok(order) }
    }

    /// The exact bytes that are signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Approval { decision, plan_hash, until_ms, approved, by } => {
                let mut writer = Writer::new(APPROVAL_TAG);
                writer.u64(decision.0).fixed(plan_hash).i64(*until_ms).u8(u8::from(*approved));
                write_author(writer, by)
            }
            Self::Hold { scope, until_ms, held, not_after_ms, by } => {
                let mut writer = Writer::new(HOLD_TAG);
                write_scope(&mut writer, scope);
                writer.u8(u8::from(until_ms.is_some())).i64(until_ms.unwrap_or(0));
                writer.u8(u8::from(*held)).i64(*not_after_ms);
                write_author(writer, by)
            }
            Self::Undo { host, action, not_after_ms, by } => {
                let mut writer = Writer::new(UNDO_TAG);
                writer.fixed(&host.0).u64(action.0).i64(*not_after_ms);
                write_author(writer, by)
            }
            Self::Learning { host, change, not_after_ms, by } => {
                let mut writer = Writer::new(LEARNING_TAG);
                writer.fixed(&host.0);
                write_change(&mut writer, change);
                writer.i64(*not_after_ms);
                write_author(writer, by)
            }
        }
    }

    /// Reads the exact bytes. Says nothing about whether they are believed.
    ///
    /// # Errors
    /// [`Truncated`] for anything that [`Order::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Truncated> {
        if let Ok(mut reader) = Reader::new(bytes, APPROVAL_TAG) {
            let (decision, plan_hash) = (DecisionId(reader.u64()?), reader.fixed()?);
            let (until_ms, approved) = (reader.i64()?, read_bool(&mut reader)?);
            return Ok(Self::Approval { decision, plan_hash, until_ms, approved, by: read_author(reader)? });
        }
        if let Ok(mut reader) = Reader::new(bytes, HOLD_TAG) {
            let scope = read_scope(&mut reader)?;
            let (has_end, end_ms) = (read_bool(&mut reader)?, reader.i64()?);
            if !has_end && end_ms != 0 {
                return Err(Truncated { at: 0 });
            }
            let (held, not_after_ms) = (read_bool(&mut reader)?, reader.i64()?);
            let until_ms = has_end.then_some(end_ms);
            return Ok(Self::Hold { scope, until_ms, held, not_after_ms, by: read_author(reader)? });
        }
        if let Ok(mut reader) = Reader::new(bytes, LEARNING_TAG) {
            let (host, change) = (HostId(reader.fixed()?), read_change(&mut reader)?);
            return Ok(Self::Learning { host, change, not_after_ms: reader.i64()?, by: read_author(reader)? });
        }
        let mut reader = Reader::new(bytes, UNDO_TAG)?;
        let (host, action) = (HostId(reader.fixed()?), ActionId(reader.u64()?));
        Ok(Self::Undo { host, action, not_after_ms: reader.i64()?, by: read_author(reader)? })
    }

    /// The host that it is for; `None` if it is for all, or for whichever host asked.
    #[must_use]
    pub fn host(&self) -> Option<HostId> {
        match self {
            Self::Approval { .. } => None,
            Self::Hold { scope, .. } => scope.host(),
            Self::Undo { host, .. } | Self::Learning { host, .. } => Some(*host),
        }
    }

    /// Until when it may be taken (wall clock, milliseconds).
    #[must_use]
    pub fn not_after_ms(&self) -> i64 {
        match self {
            Self::Approval { until_ms, .. } => *until_ms,
            Self::Hold { not_after_ms, .. } | Self::Undo { not_after_ms, .. } | Self::Learning { not_after_ms, .. } => {
                *not_after_ms
            }
        }
    }
}

fn write_author(mut writer: Writer, by: &Author) -> Vec<u8> {
    writer.text(&by.name).text(&by.reason);
    writer.finish()
}

/// The author is always last.
fn read_author(mut reader: Reader<'_>) -> Result<Author, Truncated> {
    let by = Author { name: reader.text()?, reason: reader.text()? };
    reader.finish()?;
    Ok(by)
}

fn read_bool(reader: &mut Reader<'_>) -> Result<bool, Truncated> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Truncated { at: 0 }),
    }
}

fn write_scope(writer: &mut Writer, scope: &HoldScope) {
    match scope {
        HoldScope::Fleet => writer.u8(0),
        HoldScope::Host(host) => writer.u8(1).fixed(&host.0),
        HoldScope::Unit(host, unit) => writer.u8(2).fixed(&host.0).text(unit.as_str()),
    };
}

fn read_scope(reader: &mut Reader<'_>) -> Result<HoldScope, Truncated> {
    match reader.u8()? {
        0 => Ok(HoldScope::Fleet),
        1 => Ok(HoldScope::Host(HostId(reader.fixed()?))),
        2 => {
            let host = HostId(reader.fixed()?);
            let unit = reader.text()?.parse().map_err(|_| Truncated { at: 0 })?;
            Ok(HoldScope::Unit(host, unit))
        }
        _ => Err(Truncated { at: 0 }),
    }
}

fn write_change(writer: &mut Writer, change: &LearningChange) {
    match change {
        LearningChange::Reset { metric: None } => writer.u8(0),
        LearningChange::Reset { metric: Some(glob) } => writer.u8(1).text(glob.as_str()),
        LearningChange::Rollback { to_ms: None } => writer.u8(2),
        LearningChange::Rollback { to_ms: Some(to_ms) } => writer.u8(3).i64(*to_ms),
    };
}

fn read_change(reader: &mut Reader<'_>) -> Result<LearningChange, Truncated> {
    Ok(match reader.u8()? {
        0 => LearningChange::Reset { metric: None },
        1 => {
            let glob = Glob::new(&reader.text()?).filter(|glob| glob.as_str().len() <= GLOB_BYTES_MAX);
            LearningChange::Reset { metric: Some(glob.ok_or(Truncated { at: 0 })?) }
        }
        2 => LearningChange::Rollback { to_ms: None },
        3 => LearningChange::Rollback { to_ms: Some(reader.i64()?) },
        _ => return Err(Truncated { at: 0 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: HostId = HostId([1; 16]);
    const THERE: HostId = HostId([2; 16]);

    fn by() -> Author {
        Author { name: "ana@ops".into(), reason: "disk swap".into() }
    }

    fn hold(scope: HoldScope) -> Order {
        Order::Hold { scope, until_ms: Some(5_000), held: true, not_after_ms: 5_000, by: by() }
    }

    fn learning(change: LearningChange) -> Order {
        Order::Learning { host: HERE, change, not_after_ms: 5_000, by: by() }
    }

    fn orders() -> Vec<Order> {
        vec![
            Order::Approval { decision: DecisionId(7), plan_hash: [8; 32], until_ms: 5_000, approved: true, by: by() },
            hold(HoldScope::Fleet),
            hold(HoldScope::Host(HERE)),
            hold(HoldScope::Unit(HERE, "nginx.service".parse().unwrap())),
            Order::Hold { scope: HoldScope::Fleet, until_ms: None, held: false, not_after_ms: 5_000, by: by() },
            Order::Undo { host: HERE, action: ActionId(9), not_after_ms: 5_000, by: by() },
            learning(LearningChange::Reset { metric: None }),
            learning(LearningChange::Reset { metric: Glob::new("unit_cpus*") }),
            learning(LearningChange::Rollback { to_ms: None }),
            learning(LearningChange::Rollback { to_ms: Some(4_000) }),
        ]
    }

    #[test]
    fn orders_are_taken_as_they_were_given() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let keys = TrustedKeys(vec![key.verifying_key()]);
        for order in orders() {
            assert_eq!(Order::take(&order.sign(&key), &keys, HERE, 5_000), Ok(order.clone()));
            let late = Order::take(&order.sign(&key), &keys, HERE, 5_001);
            assert_eq!(late, Err(OrderRefusal::Expired { late_ms: 1 }));
            let elsewhere = Order::take(&order.sign(&key), &keys, THERE, 5_000);
            match order.host() {
                Some(_) => assert_eq!(elsewhere, Err(OrderRefusal::OtherHost(HERE))),
                None => assert_eq!(elsewhere, Ok(order.clone())),
            }
            let stranger = order.sign(&SigningKey::from_bytes(&[2; 32]));
            assert!(matches!(Order::take(&stranger, &keys, HERE, 0), Err(OrderRefusal::Signature(_))));
            let mut changed = order.sign(&key);
            *changed.bytes.last_mut().unwrap() ^= 1;
            assert!(matches!(Order::take(&changed, &keys, HERE, 0), Err(OrderRefusal::Signature(_))));
        }
        let policy = Signed::sign(Writer::new("mainstay-policy-1").finish(), &key);
        assert!(matches!(Order::take(&policy, &keys, HERE, 0), Err(OrderRefusal::Damaged(_))));
    }

    proptest! {
        #[test]
        fn one_order_has_one_encoding(which in 0usize..10, at in any::<usize>(), byte in any::<u8>()) {
            let mut bytes = orders()[which].encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(order) = Order::decode(&bytes) {
                prop_assert_eq!(order.encode(), bytes);
            }
        }
    }
}
