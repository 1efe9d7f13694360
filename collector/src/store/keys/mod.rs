//! The key space as code: one file per key kind.
//!
//! A key is its kind's ordinal followed by its fields, big-endian, so that keys sort as their fields
//! do. Ordinals are stable for ever: a kind that is no longer used keeps its number. Text stands
//! last, because it has no length of its own.

use mainstay_core::id::{ActionId, DecisionId, FindingId, HostId, IncidentId};

use super::columns::Column;

mod action;
mod backup;
mod block;
mod change;
mod command;
mod counter;
mod decision;
mod finding;
mod hold;
mod host;
mod incident;
mod lease;
mod ledger;
mod mark;
mod open_row;
mod operator;
mod order;
mod piece;
mod policy;
mod remote;
mod restored;
mod rollup;
mod schema;
mod scrub;
mod thinned;
mod token;

pub use action::ActionKey;
pub use backup::BackupsKey;
pub use block::BlockKey;
pub use change::{ChangeByTimeKey, ChangeKey, EventKey};
pub use command::CommandKey;
pub use counter::CounterKey;
pub use decision::{DecisionByHostKey, DecisionByTimeKey, DecisionKey, SceneKey};
pub use finding::{FindingByTimeKey, FindingKey, RecordingKey};
pub use hold::HoldKey;
pub use host::HostKey;
pub use incident::{IncidentByTimeKey, IncidentKey, IncidentOfKey, NoticeKey};
pub use lease::LeaseKey;
pub use ledger::{LedgerKey, RecordByTimeKey};
pub use mark::MarkKey;
pub use open_row::OpenRowKey;
pub use operator::OperatorKey;
pub use order::OrderKey;
pub use piece::PieceKey;
pub use policy::PolicyKey;
pub use remote::RemoteKey;
pub use restored::RestoredKey;
pub use rollup::RollupKey;
pub use schema::SchemaKey;
pub use scrub::ScrubKey;
pub use thinned::ThinnedKey;
pub use token::TokenKey;

/// The value of an index by opening: when what it lists ended, in milliseconds since 1970, eight bytes with the highest first;
/// empty while it has not.
#[must_use]
pub fn ended(ended_ms: Option<i64>) -> Vec<u8> {
    ended_ms.map_or_else(Vec::new, |ended_ms| ended_ms.to_be_bytes().to_vec())
}

/// When that ended. `None`: it has not, or an older collector has written this and what is listed says.
#[must_use]
pub fn ended_ms(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_be_bytes)
}

/// Bytes that are no key of the kind they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} bytes are not a key of kind {kind} (ordinal {ordinal}): {bytes:02x?}", bytes.len())]
pub struct BadKey {
    /// The name of the kind.
    pub kind: &'static str,
    /// Its ordinal.
    pub ordinal: u8,
    /// What was read.
    pub bytes: Vec<u8>,
}

/// A kind of key.
pub trait Key: Sized {
    /// The column family that it lives in.
    const COLUMN: Column;
    /// Its first byte.
    const ORDINAL: u8;
    /// The bytes.
    fn encode(&self) -> Vec<u8>;
    /// The key that the bytes are.
    ///
    /// # Errors
    /// If they are not exactly one key of this kind.
    fn decode(bytes: &[u8]) -> Result<Self, BadKey>;
}

/// A field of a key, in bytes that sort as its values do.
pub(super) trait Part: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! whole_parts {
    ($($type:ty),+) => {$(
        impl Part for $type {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.to_be_bytes());
            }
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_be_bytes(*head))
            }
        }
    )+};
}
whole_parts!(u8, u16, u32, u64);

/// Times sort before and after 1970: the sign bit is turned over.
impl Part for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        (self.cast_unsigned() ^ (1 << 63)).write(out);
    }
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        u64::read(bytes).map(|raw| (raw ^ (1 << 63)).cast_signed())
    }
}

impl Part for [u8; 16] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self);
    }
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*head)
    }
}

impl Part for HostId {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Part::read(bytes).map(Self)
    }
}

macro_rules! id_parts {
    ($($type:ident),+) => {$(
        impl Part for $type {
            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                u64::read(bytes).map(Self)
            }
        }
    )+};
}
id_parts!(FindingId, DecisionId, ActionId, IncidentId);

/// Takes all that is left: only as the last field.
impl Part for String {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.as_bytes());
    }
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.to_owned();
        *bytes = &[];
        Some(text)
    }
}

/// Declares one kind of key: its name, column family, ordinal and fields in their order.
macro_rules! key {
    ($(#[$doc:meta])* $name:ident in $column:ident as $ordinal:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::store::keys::Key for $name {
            const COLUMN: $crate::store::columns::Column = $crate::store::columns::Column::$column;
            const ORDINAL: u8 = $ordinal;

            fn encode(&self) -> Vec<u8> {
                let mut out = vec![$ordinal];
                $($crate::store::keys::Part::write(&self.$field, &mut out);)*
                out
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::store::keys::BadKey> {
                let read = || -> Option<Self> {
                    let mut rest = bytes.strip_prefix(&[$ordinal])?;
                    let key = Self { $($field: $crate::store::keys::Part::read(&mut rest)?,)* };
                    rest.is_empty().then_some(key)
                };
                read().ok_or_else(|| $crate::store::keys::BadKey {
                    kind: stringify!($name),
                    ordinal: $ordinal,
                    bytes: bytes.to_vec(),
                })
            }
        }
    };
}
pub(super) use key;

/// The ordinal followed by some leading fields: where a scan begins, and what all it meets begins with.
macro_rules! prefix {
    ($name:ident $(, $value:expr)*) => {{
        #[allow(unused_mut)]
        let mut out = vec![<$name as $crate::store::keys::Key>::ORDINAL];
        $($crate::store::keys::Part::write(&$value, &mut out);)*
        out
    }};
}
pub(super) use prefix;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
