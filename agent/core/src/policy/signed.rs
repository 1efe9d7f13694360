//! What operators sign, and the keys that hosts trust.
//!
//! The bytes that are signed begin with a tag that says what they are, so a signature under one thing can never pass as
//! one under another. The collector never has the signing key: it passes [`Signed`] on as it is. Signatures are ed25519,
//! checked strictly; no other scheme is known, so there is nothing to be talked down to.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Most bytes of anything signed: a policy bundle is the largest.
pub const SIGNED_BYTES_MAX: usize = 4 << 20;

/// What the text of a key file begins with.
const SECRET_PREFIX: &str = "mainstay-secret-key-1:";
const PUBLIC_PREFIX: &str = "mainstay-public-key-1:";

/// A short name of a public key: the first 8 bytes of its hash. Finds the key; proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// The name of a key.
    #[must_use]
    pub fn of(key: &VerifyingKey) -> Self {
        let hash = key_hash(key);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// SHA-256 over the bytes of a public key: what an enrolment token names.
#[must_use]
pub fn key_hash(key: &VerifyingKey) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Why something signed is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// By a key that this host does not trust.
    #[error("signed by key {got}, which this host does not trust (it trusts {trusted})")]
    UnknownKey {
        /// The key.
        got: KeyId,
        /// Those trusted.
        trusted: String,
    },
    /// The signature is not over these bytes.
    #[error("signature by key {0} does not fit the content")]
    Wrong(KeyId),
    /// More than anything signed may have.
    #[error("signed content is too large (got {got} bytes, at most {SIGNED_BYTES_MAX})")]
    TooLarge {
        /// How many.
        got: usize,
    },
}

/// Something signed by an operator's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Exactly what was signed.
    pub bytes: Vec<u8>,
    /// By which key.
    pub key_id: KeyId,
    /// The signature.
    pub signature: [u8; 64],
}

impl Signed {
    /// Signs bytes. They must begin with their tag: [`crate::canonical::Writer::new`].
    #[must_use]
    pub fn sign(bytes: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(&bytes).to_bytes();
        Self { bytes, key_id: KeyId::of(&key.verifying_key()), signature }
    }

    /// Checks the signature against the keys that are trusted.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn check(&self, keys: &TrustedKeys) -> Result<KeyId, BadSignature> {
        if self.bytes.len() > SIGNED_BYTES_MAX {
            return Err(BadSignature::TooLarge { got: self.bytes.len() });
        }
        let Some(key) = keys.0.iter().find(|key| KeyId::of(key) == self.key_id) else {
            return Err(BadSignature::UnknownKey { got: self.key_id, trusted: keys.to_string() });
        };
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.bytes, &signature).map_err(|_| BadSignature::Wrong(self.key_id))?;
        Ok(self.key_id)
    }
}

/// The operator's keys that a host trusts: those named by its enrolment token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedKeys(pub Vec<VerifyingKey>);

impl fmt::Display for TrustedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let ids: Vec<String> = self.0.iter().map(|key| KeyId::of(key).to_string()).collect();
        f.write_str(&ids.join(", "))
    }
}

/// A key file that cannot be read. Never shows any of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a file of a secret key.
    #[error("not a secret key (expected one line that begins with mainstay-secret-key-1:)")]
    Secret,
    /// Not a file of a public key.
    #[error("not a public key (expected one line that begins with mainstay-public-key-1:)")]
    Public,
}

/// The text of a secret key's file.
#[must_use]
pub fn secret_key_text(key: &SigningKey) -> String {
    format!("{SECRET_PREFIX}{}\n", hex(key.as_bytes()))
}

/// The text of a public key's file.
#[must_use]
pub fn public_key_text(key: &VerifyingKey) -> String {
    format!("{PUBLIC_PREFIX}{}\n", hex(key.as_bytes()))
}

/// Reads a secret key's file.
///
/// # Errors
/// [`BadKey::Secret`].
pub fn read_secret_key(text: &str) -> Result<SigningKey, BadKey> {
    let bytes = text.trim().strip_prefix(SECRET_PREFIX).and_then(unhex).ok_or(BadKey::Secret)?;
    Ok(SigningKey::from_bytes(&bytes))
}

/// Reads a public key's file.
///
/// # Errors
/// [`BadKey::Public`], also for a key under which anybody could sign.
pub fn read_public_key(text: &str) -> Result<VerifyingKey, BadKey> {
    let bytes = text.trim().strip_prefix(PUBLIC_PREFIX).and_then(unhex).ok_or(BadKey::Public)?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).ok_or(BadKey::Public)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (to, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *to = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn trusted(seeds: &[u8]) -> TrustedKeys {
        TrustedKeys(seeds.iter().map(|seed| key(*seed).verifying_key()).collect())
    }

    #[test]
    fn believes_what_a_trusted_key_signed_and_nothing_else() {
        let signed = Signed::sign(b"content".to_vec(), &key(1));
        assert_eq!(signed.check(&trusted(&[2, 1])), Ok(signed.key_id));
        let unknown = signed.check(&trusted(&[2])).unwrap_err();
        assert!(matches!(unknown, BadSignature::UnknownKey { .. }), "{unknown}");
        assert!(unknown.to_string().contains(&KeyId::of(&key(2).verifying_key()).to_string()));
        assert!(signed.check(&TrustedKeys::default()).unwrap_err().to_string().ends_with("(it trusts none)"));

        let changed = Signed { bytes: b"Content".to_vec(), ..signed.clone() };
        assert_eq!(changed.check(&trusted(&[1])), Err(BadSignature::Wrong(signed.key_id)));
        let claimed = Signed { key_id: KeyId::of(&key(2).verifying_key()), ..signed.clone() };
        assert_eq!(claimed.check(&trusted(&[1, 2])), Err(BadSignature::Wrong(claimed.key_id)));
        let large = Signed { bytes: vec![0; SIGNED_BYTES_MAX + 1], ..signed };
        assert!(matches!(large.check(&trusted(&[1])), Err(BadSignature::TooLarge { .. })));
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_errors_show_none_of_them() {
        let secret = key(7);
        assert_eq!(read_secret_key(&secret_key_text(&secret)).unwrap().to_bytes(), secret.to_bytes());
        assert_eq!(read_public_key(&public_key_text(&secret.verifying_key())), Ok(secret.verifying_key()));
        let text = secret_key_text(&secret).replace('7', "x");
        let error = read_secret_key(&text).unwrap_err();
        assert!(!error.to_string().contains("070707") && !format!("{error:?}").contains('x'));
        assert_eq!(read_public_key(&secret_key_text(&secret)), Err(BadKey::Public));
        assert_eq!(read_secret_key("mainstay-secret-key-1:éé"), Err(BadKey::Secret));
        // The neutral element of the curve: whoever trusts it trusts everybody.
        let weak = format!("{PUBLIC_PREFIX}01{}", "00".repeat(31));
        assert_eq!(read_public_key(&weak), Err(BadKey::Public));
    }
}
