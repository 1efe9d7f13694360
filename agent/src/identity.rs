//! The host's identity: its key, the certificate that the collector gave for it, and whom it obeys.
//!
//! One folder below the state folder, `identity`, written whole beside its place and then moved
//! there, so that there is an old identity or a new one and never a part. The key is made on the
//! host and never leaves it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_core::token::PolicyKeys;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::durable;
use crate::tls::{self, TlsError};

const FOLDER: &str = "identity";
const ABOUT: &str = "about.json";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const CA: &str = "ca.pem";

/// Who the host is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the collector named it.
    pub host: HostId,
    /// The fleet that its policies have to be for.
    pub fleet: Vec<u8>,
    /// Where the collector is reached: `host:port`.
    pub address: String,
    /// Whose policies it obeys; `None` is nobody's.
    pub policy_keys: Option<PolicyKeys>,
    /// Labels from the token.
    pub labels: Vec<(String, String)>,
    /// PEM of the collector's CA.
    pub ca: String,
    /// PEM of the certificate, leaf first.
    pub certificate: String,
    /// PEM of the key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("host", &self.host).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why there is no identity to be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file or folder.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that says something else than it should.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
}

/// What stands in `about.json`.
#[derive(Serialize, Deserialize)]
struct About {
    host_id: String,
    fleet_id: String,
    collector: String,
    policy_key: Option<String>,
    policy_recovery_key: Option<String>,
    labels: Vec<(String, String)>,
}

/// How long a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when, in milliseconds since 1970.
    pub from_ms: i64,
    /// Until when.
    pub until_ms: i64,
}

impl Validity {
    /// When a new one is asked for: at half of its life.
    #[must_use]
    pub fn renew_at_ms(self) -> i64 {
        self.from_ms + (self.until_ms - self.from_ms) / 2
    }
}

impl Identity {
    /// Reads the identity below a state folder; `None` if the host is not enrolled.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn load(state: &Path) -> Result<Option<Self>, IdentityError> {
        let folder = state.join(FOLDER);
        let about_path = folder.join(ABOUT);
        let about = match fs::read(&about_path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => return Ok(None),
            Err(source) => return Err(IdentityError::File { what: "read", path: about_path, source }),
        };
        let damaged = |why: String| IdentityError::Damaged { path: about_path.clone(), why };
        let about: About = serde_json::from_slice(&about).map_err(|error| damaged(error.to_string()))?;
        let primary = about.policy_key.as_deref().map(key_bytes).transpose().map_err(damaged)?;
        let recovery = about.policy_recovery_key.as_deref().map(key_bytes).transpose().map_err(damaged)?;
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| IdentityError::File { what: "read", path, source })
        };
        Ok(Some(Self {
            host: about.host_id.parse().map_err(|error| damaged(format!("{error}")))?,
            fleet: unhex(&about.fleet_id).ok_or_else(|| damaged("fleet_id is not hex".to_owned()))?,
            address: about.collector,
            policy_keys: primary.map(|primary| PolicyKeys { primary, recovery }),
            labels: about.labels,
            ca: read(CA)?,
            certificate: read(CERTIFICATE)?,
            key: read(KEY)?,
        }))
    }

    /// Writes the identity below a state folder, in place of another one if there is one: that one
    /// stands until this one is there whole. What is written belongs to the owner of the folder.
    ///
    /// # Errors
    /// If it cannot be written; nothing is left behind then.
    pub fn save(&self, state: &Path) -> Result<(), IdentityError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { what, path, source }
        };
        let building = state.join(format!("{FOLDER}.new"));
        let _ = fs::remove_dir_all(&building);
        let placed = self.write_to(&building).map_err(failed("write", &building)).and_then(|()| {
            put_in_place(&building, &state.join(FOLDER)).map_err(failed("replace", &state.join(FOLDER)))
        });
        let _ = fs::remove_dir_all(&building);
        placed
    }

    fn write_to(&self, folder: &Path) -> io::Result<()> {
        durable::make_dir(folder)?;
        let about = About {
            host_id: self.host.to_string(),
            fleet_id: hex(&self.fleet),
            collector: self.address.clone(),
            policy_key: self.policy_keys.map(|keys| hex(&keys.primary)),
            policy_recovery_key: self.policy_keys.and_then(|keys| keys.recovery).map(|key| hex(&key)),
            labels: self.labels.clone(),
        };
        let about = serde_json::to_vec_pretty(&about)?;
        let files = [(ABOUT, &about[..]), (KEY, self.key.as_bytes())];
        let more = [(CERTIFICATE, self.certificate.as_bytes()), (CA, self.ca.as_bytes())];
        for (name, bytes) in files.into_iter().chain(more) {
            durable::write_new(&folder.join(name), bytes, 0o600)?;
        }
        give_to_owner_of(folder.parent().unwrap_or(folder), folder)?;
        durable::sync_dir(folder)
    }

    /// Puts a renewed certificate in.
    ///
    /// # Errors
    /// If it cannot be written; the old one stands then.
    pub fn renew(&mut self, state: &Path, certificate: &str, ca: &str) -> Result<(), IdentityError> {
        let folder = state.join(FOLDER);
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            durable::write_atomic(&path, text.as_bytes(), 0o600).map_err(|source| IdentityError::File {
                what: "write",
                path,
                source,
            })
        };
        // The CA first: a certificate by a CA that is not known yet would be of no use.
        write(CA, ca)?;
        write(CERTIFICATE, certificate)?;
        (self.certificate, self.ca) = (certificate.to_owned(), ca.to_owned());
        Ok(())
    }

    /// TLS with this identity.
    ///
    /// # Errors
    /// If its files are damaged.
    pub fn tls(&self) -> Result<ClientConfig, TlsError> {
        tls::mutual(&self.ca, &self.certificate, &self.key)
    }

    /// How long the certificate holds.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        let leaf = tls::certificates(&self.certificate, "certificate").ok()?.into_iter().next()?;
        let (_, certificate) = X509Certificate::from_der(&leaf).ok()?;
        let validity = certificate.validity();
        let ms = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1000);
        Some(Validity { from_ms: ms(validity.not_before), until_ms: ms(validity.not_after) })
    }

    /// What `mainstay-agent identity` prints.
    #[must_use]
    pub fn describe(&self, now_ms: i64) -> String {
        let day = Duration::from_secs(86_400).as_millis();
        let days = |ms: i64| ms / i64::try_from(day).unwrap_or(1);
        let certificate = self.validity().map_or_else(
            || "damaged".to_owned(),
            |validity| {
                let (left, renewal) = (days(validity.until_ms - now_ms), days(validity.renew_at_ms() - now_ms));
                format!("holds for {left} days, renewed in {renewal}")
            },
        );
        let keys = match self.policy_keys {
            None => "none: the host obeys no policy but its own".to_owned(),
            Some(keys) => keys.iter().map(|key| hex(&key)).collect::<Vec<_>>().join(", "),
        };
        let labels: Vec<_> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!(
            "host id      {}\nfleet id     {}\ncollector    {}\ncertificate  {certificate}\npolicy keys  {keys}\nlabels       {}\n",
            self.host,
            hex(&self.fleet),
            self.address,
            labels.join(" "),
        )
    }
}

/// Moves a folder to where another may be, both at once where the filesystem can.
fn put_in_place(building: &Path, place: &Path) -> io::Result<()> {
    let dir = place.parent().unwrap_or(place);
    if place.exists() {
        // The old one is now where the new one was built, and is removed there.
        renameat_with(CWD, building, CWD, place, RenameFlags::EXCHANGE)?;
    } else {
        fs::rename(building, place)?;
    }
    durable::sync_dir(dir)
}

/// Enrolling is done by root, the agent runs as somebody else.
fn give_to_owner_of(state: &Path, folder: &Path) -> io::Result<()> {
    let owner = fs::metadata(state)?;
    if owner.uid() == fs::metadata(folder)?.uid() && owner.gid() == fs::metadata(folder)?.gid() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        chown(entry?.path(), Some(owner.uid()), Some(owner.gid()))?;
    }
    chown(folder, Some(owner.uid()), Some(owner.gid()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect())?
}

fn key_bytes(text: &str) -> Result<[u8; 32], String> {
    let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "a policy key is not 64 hex digits".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn identity(host: u8) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        Identity {
            host: HostId([host; 16]),
            fleet: vec![1, 2, 0xff],
            address: "collector:7443".to_owned(),
            policy_keys: Some(PolicyKeys { primary: [1; 32], recovery: Some([2; 32]) }),
            labels: vec![("role".to_owned(), "web".to_owned())],
            ca: certificate.clone(),
            certificate,
            key: key.serialize_pem(),
        }
    }

    #[test]
    fn an_identity_is_read_as_it_was_saved_and_only_by_its_owner() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Identity::load(state.path()).unwrap(), None);
        let saved = identity(7);
        saved.save(state.path()).unwrap();
        assert_eq!(Identity::load(state.path()).unwrap(), Some(saved));
        let folder = state.path().join(FOLDER);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_new_identity_takes_the_place_of_the_old_one_whole() {
        let state = tempfile::tempdir().unwrap();
        identity(7).save(state.path()).unwrap();
        let new = identity(8);
        new.save(state.path()).unwrap();
        assert_eq!(Identity::load(state.path()).unwrap(), Some(new));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_damaged_identity_is_an_error_and_not_a_host_without_one() {
        let state = tempfile::tempdir().unwrap();
        identity(7).save(state.path()).unwrap();
        fs::write(state.path().join(FOLDER).join(ABOUT), "{}").unwrap();
        assert!(Identity::load(state.path()).unwrap_err().to_string().contains("about.json is damaged"));
        fs::remove_file(state.path().join(FOLDER).join(ABOUT)).unwrap();
        assert!(Identity::load(state.path()).is_err());
    }

    #[test]
    fn the_secret_parts_are_not_shown() {
        let identity = identity(7);
        let shown = format!("{identity:?}{}", identity.describe(0));
        assert!(shown.contains(&identity.host.to_string()) && !shown.contains("PRIVATE"), "{shown}");
        assert!(shown.contains(&"01".repeat(32)) && shown.contains("role=web"), "{shown}");
    }
}
