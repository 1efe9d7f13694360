//! Names of things: hosts, boots, findings, decisions, actions, and where they stand in a stream.
//!
//! Identifiers made on a host are 64 bits from a seed that the shell draws once, so that this
//! crate needs no randomness and a simulation repeats itself. On the screen they are a letter and
//! sixteen hex digits; commands accept any unambiguous beginning.

use std::fmt;
use std::str::FromStr;

/// Text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct BadId {
    /// The text that was given.
    pub text: String,
    /// What was expected, with an example.
    pub what: &'static str,
}

macro_rules! short_id {
    ($(#[$doc:meta])* $name:ident, $letter:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "-{:016x}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix(concat!($letter, "-"))
                    .filter(|hex| hex.len() == 16)
                    .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                    .map(Self)
                    .ok_or_else(|| BadId { text: text.to_owned(), what: $what })
            }
        }
    };
}

short_id!(
    /// A finding, from its opening to its clearing.
    FindingId, "f", "a finding id such as f-00c0ffee00c0ffee"
);
short_id!(
    /// A decision about a finding. The same id stands in logs, ledger, messages and on the screen.
    DecisionId, "d", "a decision id such as d-00c0ffee00c0ffee"
);
short_id!(
    /// One step that was handed to the actuator. Carrying it out is idempotent under this id.
    ActionId, "a", "an action id such as a-00c0ffee00c0ffee"
);
short_id!(
    /// An incident, as the collector groups findings.
    IncidentId, "i", "an incident id such as i-00c0ffee00c0ffee"
);

macro_rules! uuid_like {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (at, byte) in self.0.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = || BadId { text: text.to_owned(), what: $what };
                let hex: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
                if hex.len() != 32 || !hex.iter().all(u8::is_ascii_hexdigit) {
                    return Err(bad());
                }
                let mut bytes = [0; 16];
                for (to, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
                    *to = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

uuid_like!(
    /// A host, as the collector named it when it was enrolled (UUIDv7). It stands in the agent's
    /// certificate, and nothing else is believed.
    HostId, "a host id (a UUID)"
);
uuid_like!(
    /// One boot of a machine (`/proc/sys/kernel/random/boot_id`). Evidence, never identity.
    BootId, "a boot id (a UUID)"
);

/// The life of one spool: a random number made with it. With a new spool, numbering starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// The place of an item in its spool: 1, 2, 3 … without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// Draws identifiers from a seed (SplitMix64): well spread, and the same again from the same seed.
#[derive(Debug, Clone)]
pub struct IdSource {
    state: u64,
}

impl IdSource {
    /// Starts from `seed`, which the shell draws from the kernel at every start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_as_they_are_written() {
        let decision = DecisionId(0xc0ff_ee00);
        assert_eq!(decision.to_string(), "d-00000000c0ffee00");
        assert_eq!(decision.to_string().parse(), Ok(decision));
        assert!("f-00000000c0ffee00".parse::<DecisionId>().is_err());
        let host = HostId([7; 16]);
        assert_eq!(host.to_string(), "07070707-0707-0707-0707-070707070707");
        assert_eq!(host.to_string().parse(), Ok(host));
        assert!("07".parse::<HostId>().is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_identifiers() {
        let draw = |seed| {
            let mut ids = IdSource::new(seed);
            (0..4).map(|_| ids.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
