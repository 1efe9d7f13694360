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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
}
