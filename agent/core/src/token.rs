//! The enrolment token: what a host has to know before it talks to a collector for the first time.
//!
//! `mainstay1.` and base64url over: address, SHA-256 of the CA certificate, the secret, the
//! operator's public policy keys, labels, and a CRC against slips in copying. The CLI makes it, and
//! adds what must not come from the collector: whose policies to obey and which labels to go by.
//! Who has the text can enrol, so it is never logged: `Debug` hides the secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What the text begins with; the digit is the version.
const PREFIX: &str = "mainstay1.";

/// Most bytes of the text.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// The operator's public keys (Ed25519) that policies may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyKeys {
    /// The key in use.
    pub primary: [u8; 32],
    /// The one kept away, for when the first is lost.
    pub recovery: Option<[u8; 32]>,
}

impl PolicyKeys {
    /// The keys, the one in use first.
    pub fn iter(&self) -> impl Iterator<Item = [u8; 32]> {
        [Some(self.primary), self.recovery].into_iter().flatten()
    }
}

/// What an enrolment token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Where the collector is reached: `host:port`.
    pub address: String,
    /// SHA-256 over the DER of the collector's CA certificate.
    pub ca_fingerprint: [u8; 32],
    /// What the collector knows the token by.
    pub secret: String,
    /// Whose policies the host will obey. `None`: nobody's; the host only observes.
    pub policy_keys: Option<PolicyKeys>,
    /// Labels for the host, where its own file says nothing else.
    pub labels: Vec<(String, String)>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("address", &self.address)
            .field("ca_fingerprint", &Hex(&self.ca_fingerprint))
            .field("policy_keys", &self.policy_keys)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why text is no token. Never holds any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Something else altogether.
    #[error("this is no enrolment token (one begins with `{PREFIX}`)")]
    Prefix,
    /// Of a later version.
    #[error("the enrolment token is of a newer version; upgrade mainstay-agent")]
    Version,
    /// Characters that base64url does not have, or too few.
    #[error("the enrolment token is damaged or incomplete (was all of it copied?)")]
    Damaged,
    /// More than a token can be.
    #[error("the enrolment token is too long (more than {TOKEN_BYTES_MAX} bytes)")]
    TooLong,
}

impl Token {
    /// The text that is handed to the host.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        put(&mut bytes, self.address.as_bytes());
        bytes.extend_from_slice(&self.ca_fingerprint);
        put(&mut bytes, self.secret.as_bytes());
        let keys: Vec<_> = self.policy_keys.iter().flat_map(PolicyKeys::iter).collect();
        put_count(&mut bytes, keys.len());
        keys.iter().for_each(|key| bytes.extend_from_slice(key));
        put_count(&mut bytes, self.labels.len());
        for (name, value) in &self.labels {
            put(&mut bytes, name.as_bytes());
            put(&mut bytes, value.as_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = BadToken;

    /// Reads the text; white space around it is ignored.
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::TooLong);
        }
        let Some(body) = text.strip_prefix(PREFIX) else {
            let newer =
                text.strip_prefix("mainstay").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            return Err(if newer { BadToken::Version } else { BadToken::Prefix });
        };
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| BadToken::Damaged)?;
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BadToken::Damaged)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(BadToken::Damaged);
        }
        read(body).ok_or(BadToken::Damaged)
    }
}

/// Reads what the text stands for, to its last byte.
fn read(mut from: &[u8]) -> Option<Token> {
    let from = &mut from;
    let address = take_text(from)?;
    let ca_fingerprint = take_array(from)?;
    let secret = take_text(from)?;
    let policy_keys = match take_array::<1>(from)? {
        [0] => None,
        [1] => Some(PolicyKeys { primary: take_array(from)?, recovery: None }),
        [2] => Some(PolicyKeys { primary: take_array(from)?, recovery: Some(take_array(from)?) }),
        _ => return None,
    };
    let [count] = take_array::<1>(from)?;
    let labels = (0..count).map(|_| Some((take_text(from)?, take_text(from)?))).collect::<Option<_>>()?;
    from.is_empty().then_some(Token { address, ca_fingerprint, secret, policy_keys, labels })
}

fn put(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.push(u8::try_from(count).unwrap_or(u8::MAX));
}

fn take_array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*array)
}

fn take_text(from: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(take_array(from)?));
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token {
            address: "collector.example:7443".to_owned(),
            ca_fingerprint: [0xca; 32],
            secret: "s3cret-words".to_owned(),
            policy_keys: Some(PolicyKeys { primary: [1; 32], recovery: Some([2; 32]) }),
            labels: vec![("role".to_owned(), "web".to_owned())],
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("collector.example:7443") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        assert_eq!("hello".parse::<Token>(), Err(BadToken::Prefix));
        assert_eq!("mainstay2.AAAA".parse::<Token>(), Err(BadToken::Version));
        assert_eq!("mainstay1.AAAA".parse::<Token>(), Err(BadToken::Damaged));
        assert_eq!(format!("mainstay1.{}", "A".repeat(9000)).parse::<Token>(), Err(BadToken::TooLong));
        let text = token().encode();
        assert_eq!(format!("  {text}\n").parse(), Ok(token()));
        for cut in PREFIX.len()..text.len() {
            assert_eq!(text[..cut].parse::<Token>(), Err(BadToken::Damaged), "cut to {cut}");
        }
    }

    proptest! {
        #[test]
        fn tokens_are_read_as_they_are_written(
            address in "[a-z.]{1,40}:[0-9]{1,5}",
            secret in "\\PC{0,40}",
            keys in prop::option::of((any::<[u8; 32]>(), prop::option::of(any::<[u8; 32]>()))),
            labels in prop::collection::vec(("[a-z]{1,9}", "\\PC{0,9}"), 0..4),
        ) {
            let policy_keys = keys.map(|(primary, recovery)| PolicyKeys { primary, recovery });
            let token = Token { address, ca_fingerprint: [3; 32], secret, policy_keys, labels };
            prop_assert_eq!(token.encode().parse(), Ok(token));
        }

        #[test]
        fn a_changed_letter_is_noticed(at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_-]") {
            let text = token().encode();
            let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
            let changed = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            prop_assert!(changed == text || changed.parse::<Token>().is_err());
        }
    }
}
