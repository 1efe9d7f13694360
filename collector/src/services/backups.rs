//! Backups as operators order them: one at a time, on a thread of its own, told of as it goes.

use std::path::PathBuf;
use std::sync::Arc;

use mainstay_proto::v1;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tonic::Status;

use crate::backup::create::{Made, Order, create};
use crate::backup::seal::BackupKey;
use crate::backup::{Trouble, check, shelf};
use crate::clock;
use crate::hub::Hub;

/// Where what is told goes to.
pub type Out = mpsc::Sender<Result<v1::BackupProgress, Status>>;

/// What is told waits, at most so many; what is told while nobody takes it is left out.
pub const TOLD_MAX: usize = 4;
/// It is told at each hundredth.
const PARTS: u64 = 100;

/// The folder that is meant.
///
/// # Errors
/// If it is not an absolute path.
pub fn folder(hub: &Hub, asked: &str) -> Result<PathBuf, Status> {
    if asked.is_empty() {
        return Ok(hub.settings().backups.clone());
    }
    let path = PathBuf::from(asked);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Status::invalid_argument("the folder that holds the backups is an absolute path on the collector's machine"))
}

/// The key that was sent.
///
/// # Errors
/// If there is none.
pub fn key(bytes: &[u8]) -> Result<BackupKey, Status> {
    let none = "a backup needs a key that its CA is encrypted with; `mainstay backup keygen` makes one";
    Ok(BackupKey::new(bytes.try_into().map_err(|_| Status::invalid_argument(none))?))
}

/// The right to make or read a backup.
///
/// # Errors
/// If another has it.
pub fn turn(hub: &Hub) -> Result<OwnedMutexGuard<()>, Status> {
    hub.backing_up
        .clone()
        .try_lock_owned()
        .map_err(|_| Status::failed_precondition("another backup is being made or read; try again when it is done"))
}

fn refused(trouble: &Trouble) -> Status {
    Status::failed_precondition(trouble.to_string())
}

/// Tells of every hundredth that is done, without waiting for whoever listens.
fn teller(out: Out, text: &'static str) -> impl FnMut(u64, u64) + Send {
    let mut told = None;
    move |done, total| {
        let part = done.saturating_mul(PARTS) / total.max(1);
        if told != Some(part) {
            told = Some(part);
            let progress = v1::BackupProgress {
                done_bytes: done,
                total_bytes: total,
                text: text.to_owned(),
                ..Default::default()
            };
            // Whoever asked may be gone or slow; the work goes on all the same.
            let _ = out.try_send(Ok(progress));
        }
    }
}

/// Makes a backup.
///
/// # Errors
/// What is in the way.
pub async fn make(hub: &Arc<Hub>, root: PathBuf, key: BackupKey, keep: u32, out: &Out) -> Result<Made, Status> {
    let turn = turn(hub)?;
    let (of, mut tell) = (hub.clone(), teller(out.clone(), "copying the store"));
    let work = move || {
        let (_turn, hub) = (turn, of);
        let order = Order {
            root: &root,
            ca: hub.authority.folder(),
            key: &key,
            keep: usize::try_from(keep).unwrap_or(usize::MAX),
            fleet: hub.fleet_id,
            now_ms: clock::wall_ms(),
        };
        create(&hub.store, &order, &mut tell)
    };
    let made = tokio::task::spawn_blocking(work).await;
    let made = made.map_err(|error| Status::internal(format!("the backup broke off: {error}")))?;
    let made = made.map_err(|trouble| refused(&trouble))?;
    hub.backups.made(&hub.store, &made.path, clock::wall_ms()).await;
    Ok(made)
}

/// Reads a backup whole: its folder, and what is wrong with it.
///
/// # Errors
/// If there is no such backup.
pub async fn verify(
    hub: &Arc<Hub>,
    root: PathBuf,
    name: String,
    key: BackupKey,
    out: &Out,
) -> Result<(PathBuf, Vec<Trouble>, u64), Status> {
    let turn = turn(hub)?;
    let mut tell = teller(out.clone(), "reading the backup");
    let work = move || {
        let _turn = turn;
        let backup = shelf::find(&root, &name)?;
        Ok(match check::verify(&backup, &key, &mut tell) {
            Ok((manifest, troubles)) => (backup, troubles, manifest.bytes()),
            Err(trouble) => (backup, vec![trouble], 0),
        })
    };
    let read = tokio::task::spawn_blocking(work).await;
    let read = read.map_err(|error| Status::internal(format!("reading broke off: {error}")))?;
    let (backup, troubles, bytes) = read.map_err(|trouble: Trouble| refused(&trouble))?;
    hub.backups.verified(&hub.store, &backup, &troubles, clock::wall_ms()).await;
    Ok((backup, troubles, bytes))
}

/// The backups of a folder.
///
/// # Errors
/// If it cannot be read.
pub async fn list(root: PathBuf) -> Result<v1::ListBackupsResponse, Status> {
    let path = root.display().to_string();
    let listed = tokio::task::spawn_blocking(move || shelf::list(&root)).await;
    let listed = listed.map_err(|error| Status::internal(error.to_string()))?.map_err(|trouble| refused(&trouble))?;
    let view = |listed: shelf::Listed| {
        let (whole, problem) = match listed.whole {
            Ok(whole) => (Some(whole), String::new()),
            Err(trouble) => (None, trouble.to_string()),
        };
        let manifest = whole.map(|whole| whole.manifest);
        v1::BackupView {
            name: listed.name,
            made_ms: manifest.as_ref().map_or(0, |manifest| manifest.made_ms),
            bytes: listed.bytes,
            own_bytes: listed.own_bytes,
            files: manifest.as_ref().map_or(0, |manifest| u32::try_from(manifest.files.len()).unwrap_or(u32::MAX)),
            version: manifest.map(|manifest| manifest.version).unwrap_or_default(),
            problem,
        }
    };
    let backups = listed.into_iter().map(view).collect();
    Ok(v1::ListBackupsResponse { backups, path, now_ms: clock::wall_ms() })
}
