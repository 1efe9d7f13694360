//! From the places of a plan and root's file to what the engine works through: folder, globs, age, and what becomes of it.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::plan::{ReclaimPlace, Undo};
use mainstay_core::verb::{Refusal, RefusalReason};

use super::Places;
use crate::gate;
use crate::settings::Settings;
use mainstay_core::policy::Glob;

/// What becomes of a file that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Gone at once: it can be made again, or the rule said so.
    Purge,
    /// Kept until its time is over.
    Hold(Duration),
}

/// One place to work through.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// As it stands in the reply.
    pub name: String,
    /// The folder that is opened and checked.
    pub root: PathBuf,
    /// Where below the root to look; empty for the root itself.
    pub below: PathBuf,
    /// A file name must match one glob of every group.
    pub globs: Vec<Vec<Glob>>,
    /// Least age by modification time.
    pub older_than: Duration,
    /// Deepest folder below `below`.
    pub depth_max: u32,
    /// What becomes of a file.
    pub keep: Keep,
    /// Files to be locked for as long as this place is worked on.
    pub locks: Vec<PathBuf>,
    /// journald's socket: when what is archived was not enough, it is asked to archive what it still writes.
    pub rotates: Option<PathBuf>,
}

impl Target {
    /// Whether a file name is selected.
    #[must_use]
    pub fn selects(&self, name: &[u8]) -> bool {
        !self.globs.is_empty() && self.globs.iter().all(|group| group.iter().any(|glob| glob.matches(name)))
    }
}

/// Makes the target of one place. [`gate::check`] has let the plan through; what it checked is checked again, since
/// nothing but this stands between a selector and the files.
///
/// # Errors
/// Why root's file does not allow it.
pub fn target(place: &ReclaimPlace, undo: Undo, settings: &Settings, places: &Places) -> Result<Target, Refusal> {
    let reclaim = &settings.reclaim;
    let made_again = |name: &str, root: &PathBuf, globs: &[&str], older_than: Option<Duration>, depth_max| {
        let older_than = older_than.ok_or_else(|| not_allowed(name))?;
        Ok(Target {
            name: name.to_owned(),
            root: root.clone(),
            below: PathBuf::new(),
            globs: vec![globs.iter().filter_map(|glob| Glob::new(glob)).collect()],
            older_than,
            depth_max,
            keep: Keep::Purge,
            locks: Vec::new(),
            rotates: None,
        })
    };
    match place {
        ReclaimPlace::AptCache => {
            let target = made_again("apt-cache", &places.apt_cache, &["*.deb"], reclaim.apt_cache, 0)?;
            Ok(Target { locks: places.apt_locks.clone(), ..target })
        }
        ReclaimPlace::CoreDumps => made_again("core-dumps", &places.core_dumps, &["core.*"], reclaim.core_dumps, 0),
        // Archived files carry an `@` and are never written again; those in use do not. `~` ends what was found damaged.
        ReclaimPlace::Journal => {
            let target = made_again("journal", &places.journal, &["*@*.journal", "*@*.journal~"], reclaim.journal, 1)?;
            // What was written until now is never old enough for a least age.
            let rotates = target.older_than.is_zero().then(|| places.journald.clone());
            Ok(Target { rotates, ..target })
        }
        ReclaimPlace::Aged(aged) => {
            let root = gate::allowed_root(settings, aged)?;
            let under = gate::clean_components(&aged.under.0).unwrap_or_default();
            let below = under.strip_prefix(&root.path).map_err(|_| not_allowed(&aged.name))?.to_owned();
            let asked = aged.files.iter().filter_map(|glob| Glob::new(glob)).collect();
            Ok(Target {
                name: aged.name.clone(),
                root: root.path.clone(),
                below,
                globs: vec![asked, root.files.clone()],
                older_than: aged.older_than.max(root.older_than),
                depth_max: reclaim.depth_max,
                keep: match undo {
                    Undo::None => Keep::Purge,
                    Undo::For(time) => Keep::Hold(time),
                },
                locks: Vec::new(),
                rotates: None,
            })
        }
    }
}

fn not_allowed(name: &str) -> Refusal {
    Refusal { reason: RefusalReason::NotAllowed, text: format!("actuator.toml does not allow to reclaim `{name}`") }
}
