//! What was learned, as files: the state in force, and dated snapshots to go back to.
//!
//! Snapshots lie in `learned.d` under the state folder, each named for its moment and for why it was
//! taken (`1795392000000-daily`). How many are kept says the core ([`learned::surplus`]). One that
//! cannot be read is renamed to `….unreadable`, said, and kept for a while for whoever wants to know
//! why.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_core::agent::OrderId;
use mainstay_core::detect::Detectors;
use mainstay_core::detect::learned::{self, SnapshotInfo, SnapshotWhy};
use tracing::{error, info, warn};

use super::{Event, Shell, restore};
use crate::durable;
use crate::host::{clock, own};
use crate::keeper::Keeper;

/// What stands behind the name of a snapshot that cannot be read.
const UNREADABLE: &str = ".unreadable";

/// Most bytes of a snapshot that is read: what 512 metrics, 256 filesystems and 1 024 units take, and some.
const SNAPSHOT_BYTES_MAX: u64 = 16 << 20;

/// The snapshots that are there.
#[derive(Debug)]
pub(super) struct Snapshots {
    folder: PathBuf,
    infos: Vec<SnapshotInfo>,
}

impl Snapshots {
    /// Looks what the agent before left behind, and sets aside what cannot be read. A folder that
    /// cannot be made costs the snapshots and nothing else.
    pub(super) fn open(state: &Path) -> Self {
        let folder = state.join("learned.d");
        if let Err(error) = durable::make_dir(&folder) {
            error!(folder = %folder.display(), %error, "no snapshots of what is learned can be kept");
        }
        let mut snapshots = Self { infos: Vec::new(), folder };
        let entries = fs::read_dir(&snapshots.folder).map(|entries| entries.flatten().collect::<Vec<_>>());
        for entry in entries.unwrap_or_default() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(info) = snapshots.look_at(&name) {
                snapshots.infos.push(info);
            }
        }
        for old in learned::surplus(&snapshots.infos) {
            let _ = fs::remove_file(snapshots.path(&old));
            snapshots.infos.retain(|info| *info != old);
        }
        snapshots.sort();
        snapshots
    }

    /// What there is, newest first.
    pub(super) fn infos(&self) -> &[SnapshotInfo] {
        &self.infos
    }

    /// Keeps a snapshot, and drops those that are too many now.
    pub(super) fn keep(&mut self, why: SnapshotWhy, bytes: Vec<u8>, now_ms: i64, keeper: &Keeper) {
        let mut at_ms = now_ms;
        while self.infos.iter().any(|info| info.at_ms == at_ms) {
            at_ms += 1;
        }
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let info = SnapshotInfo { at_ms, why: why.as_str().to_owned(), bytes: size, unreadable: None };
        info!(why = why.as_str(), bytes = size, "a snapshot of what was learned is kept");
        keeper.file(self.path(&info), bytes);
        self.infos.push(info);
        self.sort();
        for old in learned::surplus(&self.infos) {
            keeper.remove(self.path(&old));
            self.infos.retain(|info| *info != old);
        }
    }

    /// The snapshot of this moment, or the newest that can be read.
    fn named(&self, at_ms: Option<i64>) -> Result<(i64, PathBuf), String> {
        let mut usable = self.infos.iter().filter(|info| info.unreadable.is_none());
        let found = match at_ms {
            None => usable.next().ok_or_else(|| "no snapshot of what was learned was taken yet".to_owned()),
            Some(at_ms) => usable.find(|info| info.at_ms == at_ms).ok_or_else(|| {
                "there is no usable snapshot of that moment; `mainstay host models` lists them".to_owned()
            }),
        };
        found.map(|info| (info.at_ms, self.path(info)))
    }

    fn look_at(&self, name: &str) -> Option<SnapshotInfo> {
        let is_aside = name.ends_with(UNREADABLE);
        let (at_ms, why) = name.strip_suffix(UNREADABLE).unwrap_or(name).split_once('-')?;
        let (at_ms, why) = (at_ms.parse().ok()?, SnapshotWhy::named(why)?.as_str().to_owned());
        let path = self.folder.join(name);
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let mut info = SnapshotInfo { at_ms, why, bytes, unreadable: None };
        if is_aside {
            info.unreadable = Some("set aside earlier".to_owned());
        } else if let Err(why) = read(&path).and_then(|bytes| Detectors::check(&bytes).map_err(|e| e.to_string())) {
            warn!(path = %path.display(), why, "a snapshot of what was learned cannot be used and is set aside");
            info.unreadable = Some(why);
            let _ = fs::rename(&path, self.path(&info));
        }
        Some(info)
    }

    fn path(&self, info: &SnapshotInfo) -> PathBuf {
        let aside = if info.unreadable.is_some() { UNREADABLE } else { "" };
        self.folder.join(format!("{}-{}{aside}", info.at_ms, info.why))
    }

    fn sort(&mut self) {
        self.infos.sort_by_key(|info| std::cmp::Reverse(info.at_ms));
    }
}

/// Reads a snapshot, within bounds.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > SNAPSHOT_BYTES_MAX {
        return Err(format!("it has {size} bytes, more than any snapshot ({SNAPSHOT_BYTES_MAX})"));
    }
    fs::read(path).map_err(|error| error.to_string())
}

impl Shell {
    /// Has what was learned written down, and once a day kept as a snapshot.
    pub(super) fn save(&mut self) {
        self.saved = std::time::Instant::now();
        let bytes = self.agent.snapshot();
        let now_ms = clock::now().wall_ms;
        if learned::is_daily_due(self.snapshots.infos(), now_ms) {
            self.snapshots.keep(SnapshotWhy::Daily, bytes.clone(), now_ms, &self.keeper);
        }
        self.store_learned(bytes);
        if let Some(journal) = self.host.journal() {
            journal.save();
        }
        // What it took to save all that is not needed until the next time, and neither is what ran now and then since the last.
        own::settle();
    }

    pub(super) fn store_learned(&self, bytes: Vec<u8>) {
        self.keeper.file(restore::learned_file(&self.settings.state.dir), bytes);
    }

    pub(super) fn keep_snapshot(&mut self, why: SnapshotWhy, bytes: Vec<u8>) {
        self.snapshots.keep(why, bytes, clock::now().wall_ms, &self.keeper);
    }

    /// Reads a snapshot where it holds up nobody.
    pub(super) fn read_snapshot(&self, id: OrderId, at_ms: Option<i64>) {
        let (named, events) = (self.snapshots.named(at_ms), self.events.clone());
        tokio::spawn(async move {
            let read = match named {
                Err(why) => Err(why),
                Ok((at_ms, path)) => match tokio::task::spawn_blocking(move || read(&path)).await {
                    Ok(bytes) => bytes.map(|bytes| (at_ms, bytes)),
                    Err(error) => Err(format!("the snapshot could not be read: {error}")),
                },
            };
            let _ = events.send(Event::SnapshotRead { id, read }).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::detect::Settings;
    use mainstay_core::id::HostId;

    use super::*;
    use crate::ledger::{Ledger, LedgerSettings};

    #[tokio::test(flavor = "current_thread")]
    async fn snapshots_are_bounded_found_again_and_set_aside_when_damaged() {
        let state = tempfile::tempdir().unwrap();
        let settings =
            LedgerSettings { root: state.path().join("ledger"), host: HostId::default(), bytes_max: 8 << 20 };
        let (told, _kept) = tokio::sync::mpsc::unbounded_channel();
        let keeper =
            Keeper::start(Ledger::open(&settings).unwrap(), None, state.path().join("recording"), told).unwrap();
        let mut snapshots = Snapshots::open(state.path());
        assert!(snapshots.named(None).unwrap_err().contains("was taken yet"));
        let bytes = Detectors::new(Settings::default(), 1).snapshot();
        for day in 0..5 {
            snapshots.keep(SnapshotWhy::Daily, bytes.clone(), day * 86_400_000, &keeper);
        }
        snapshots.keep(SnapshotWhy::Reset, bytes.clone(), 4 * 86_400_000, &keeper);
        keeper.flush().await;
        let names = |state: &Path| {
            let entries = fs::read_dir(state.join("learned.d")).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(state.path()), ["172800000-daily", "259200000-daily", "345600000-daily", "345600001-reset"]);

        let damaged = state.path().join("learned.d/345600001-reset");
        let mut half = fs::read(&damaged).unwrap();
        half.truncate(half.len() / 2);
        fs::write(&damaged, half).unwrap();
        fs::write(state.path().join("learned.d/notes.txt"), "not ours").unwrap();
        let again = Snapshots::open(state.path());
        let aside = again.infos().iter().find(|info| info.unreadable.is_some()).unwrap();
        assert_eq!((aside.at_ms, aside.why.as_str()), (345_600_001, "reset"));
        assert!(aside.unreadable.as_ref().unwrap().contains("damaged"), "{aside:?}");
        assert!(names(state.path()).contains(&"345600001-reset.unreadable".to_owned()));
        let (at_ms, path) = again.named(None).unwrap();
        assert_eq!((at_ms, read(&path).unwrap()), (345_600_000, bytes), "the newest that can be read");
        assert!(again.named(Some(345_600_001)).unwrap_err().contains("`mainstay host models` lists them"));
    }
}
