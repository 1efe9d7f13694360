//! The CA, encrypted: whoever has its key makes certificates for the whole fleet, and backups lie about.
//!
//! In: the operator's key of 32 random bytes and the files of the CA. Out: one file. Each is encrypted under a key of its
//! own, drawn from the operator's by a random salt (HKDF-SHA-256), with ChaCha20-Poly1305, and bound to the manifest.

use prost::Message;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

/// What it begins with; the number is its version.
const MAGIC: &[u8] = b"mainstay-keys-1\n";
const SALT_BYTES: usize = 32;
const INFO: &[u8] = b"mainstay backup: CA";
/// Most bytes of it: a CA has a few kilobytes.
pub const BYTES_MAX: u64 = 1024 * 1024;

/// What backups are encrypted with.
#[derive(Clone)]
pub struct BackupKey([u8; 32]);

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupKey(…)")
    }
}

impl BackupKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn for_salt(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let drawn = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let key = UnboundKey::from(drawn.expand(&[INFO], &CHACHA20_POLY1305).ok()?);
        Some(LessSafeKey::new(key))
    }
}

/// A file of the CA.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyFile {
    /// Its name, without folders.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What stands in it.
    #[prost(bytes = "vec", tag = "2")]
    pub bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyFiles {
    #[prost(message, repeated, tag = "1")]
    files: Vec<KeyFile>,
}

/// Each key is used once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// Encrypts the files, bound to the digest of the manifest.
///
/// # Errors
/// If they are too long for the cipher, which no CA is.
pub fn seal(key: &BackupKey, digest: [u8; 32], files: Vec<KeyFile>) -> Result<Vec<u8>, String> {
    let salt = crate::random::bytes::<SALT_BYTES>();
    let mut bytes = KeyFiles { files }.encode_to_vec();
    let key = key.for_salt(&salt).ok_or_else(|| "no key could be drawn".to_owned())?;
    key.seal_in_place_append_tag(nonce(), Aad::from(digest), &mut bytes).map_err(|_| "cannot encrypt".to_owned())?;
    Ok([MAGIC, &salt, &bytes].concat())
}

/// Decrypts the files.
///
/// # Errors
/// If it is not what was sealed under this key for this manifest.
pub fn open(key: &BackupKey, digest: [u8; 32], sealed: &[u8]) -> Result<Vec<KeyFile>, String> {
    let rest = sealed.strip_prefix(MAGIC).ok_or_else(|| "it is no encrypted CA of this version".to_owned())?;
    let (salt, rest) = rest.split_at_checked(SALT_BYTES).ok_or_else(|| "it is cut off".to_owned())?;
    let mut bytes = rest.to_vec();
    let key = key.for_salt(salt).ok_or_else(|| "no key could be drawn".to_owned())?;
    let opened = key.open_in_place(nonce(), Aad::from(digest), &mut bytes);
    let opened =
        opened.map_err(|_| "it does not decrypt: another key, or it or the list of files was changed".to_owned())?;
    let files = KeyFiles::decode(&*opened).map_err(|error| error.to_string())?.files;
    let is_plain = |file: &KeyFile| !file.name.is_empty() && !file.name.starts_with('.') && !file.name.contains('/');
    if files.is_empty() || !files.iter().all(is_plain) {
        return Err("what is in it are no files of a CA".to_owned());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<KeyFile> {
        ["ca.key", "ca.pem"].map(|name| KeyFile { name: name.to_owned(), bytes: vec![7; 300] }).to_vec()
    }

    #[test]
    fn only_the_key_and_the_manifest_that_it_was_made_with_open_it() {
        let key = BackupKey::new([1; 32]);
        let sealed = seal(&key, [2; 32], files()).unwrap();
        assert_eq!(open(&key, [2; 32], &sealed), Ok(files()));
        assert!(open(&BackupKey::new([3; 32]), [2; 32], &sealed).unwrap_err().contains("another key"));
        assert!(open(&key, [4; 32], &sealed).unwrap_err().contains("list of files"));
        assert_ne!(seal(&key, [2; 32], files()).unwrap(), sealed, "each under a salt of its own");
        assert!(!sealed.windows(6).any(|bytes| bytes == b"ca.key" || bytes == [7; 6]));
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(open(&key, [2; 32], &flipped).is_err(), "byte {at}");
            assert!(open(&key, [2; 32], &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let key = BackupKey::new([1; 32]);
        for name in ["../db/x", "", ".x", "/etc/x"] {
            let file = KeyFile { name: name.to_owned(), bytes: vec![1] };
            assert!(open(&key, [0; 32], &seal(&key, [0; 32], vec![file]).unwrap()).is_err(), "{name}");
        }
    }
}
