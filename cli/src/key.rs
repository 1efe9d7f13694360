//! The operator's signing key: an Ed25519 key in PKCS#8 PEM, as `openssl genpkey -algorithm ed25519`
//! makes one too. It is read where something is signed, and nowhere else.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::context::read_text;
use crate::exit::{Exit, Failure};

/// Permission bits of others and of the group.
const MODE_OTHERS: u32 = 0o077;

/// Draws a new key.
pub(crate) fn generate() -> Result<SigningKey, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// The private key as PEM.
pub(crate) fn private_pem(key: &SigningKey) -> Result<String, Failure> {
    key.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).map_err(|error| Failure::new(Exit::Failed, error))
}

/// The public key as PEM.
pub(crate) fn public_pem(key: &VerifyingKey) -> Result<String, Failure> {
    key.to_public_key_pem(LineEnding::LF).map_err(|error| Failure::new(Exit::Failed, error))
}

/// Reads a signing key. A file that others may read is refused: whoever has it commands the fleet.
pub(crate) fn read_private(path: &Path) -> Result<SigningKey, Failure> {
    let text = read_secret(path)?;
    SigningKey::from_pkcs8_pem(&text).map_err(|_| {
        Failure::usage(format!(
            "{} is no Ed25519 private key in PEM (`mainstay policy keygen` makes one)",
            path.display()
        ))
    })
}

/// Reads the key that backups are encrypted with.
pub(crate) fn read_backup_key(path: &Path) -> Result<[u8; 32], Failure> {
    let text = read_secret(path)?;
    mainstay_proto::backup_key::read(&text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))
}

/// Reads a file that must be its owner's alone.
fn read_secret(path: &Path) -> Result<String, Failure> {
    let text = read_text(path)?;
    let mode = std::fs::metadata(path)?.mode();
    if mode & MODE_OTHERS != 0 {
        return Err(Failure::usage(format!(
            "{} can be read by others (mode {:04o}): `chmod 600 {}` first",
            path.display(),
            mode & 0o7777,
            path.display()
        )));
    }
    Ok(text)
}

/// Reads a public key.
pub(crate) fn read_public(path: &Path) -> Result<VerifyingKey, Failure> {
    VerifyingKey::from_public_key_pem(&read_text(path)?)
        .ok()
        // Under a weak key anybody could sign.
        .filter(|key| !key.is_weak())
        .ok_or_else(|| Failure::usage(format!("{} is no Ed25519 public key in PEM", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn written(mode: u32, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ops.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = generate().unwrap();
        let (_folder, path) = written(0o600, &private_pem(&key).unwrap());
        assert_eq!(read_private(&path).unwrap().to_bytes(), key.to_bytes());
        let (_folder, path) = written(0o644, &public_pem(&key.verifying_key()).unwrap());
        assert_eq!(read_public(&path).unwrap(), key.verifying_key());
    }

    #[test]
    fn a_key_under_which_anybody_could_sign_is_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let weak = VerifyingKey::from_bytes(&neutral).unwrap();
        let (_folder, path) = written(0o644, &public_pem(&weak).unwrap());
        assert_eq!(read_public(&path).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let (_folder, path) = written(0o640, &private_pem(&generate().unwrap()).unwrap());
        let failure = read_private(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("chmod 600"), "{failure}");
    }

    #[test]
    fn a_file_that_is_no_key_is_named_and_not_shown() {
        let (_folder, path) = written(0o600, "-----BEGIN SECRET");
        let failure = read_private(&path).unwrap_err().to_string();
        assert!(failure.contains("ops.key") && !failure.contains("BEGIN SECRET"), "{failure}");
    }
}
