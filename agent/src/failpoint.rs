//! Places at which a test can have the agent killed, as by `kill -9`.
//!
//! `MAINSTAY_FAILPOINT=NAME` in the environment arms one of [`NAMES`], but only while
//! `/etc/mainstay/allow-failpoints` exists and belongs to root: no installed host has it. A point
//! fires once: it leaves `failpoint-NAME.hit` in the state folder and does nothing while that is
//! there, so that the agent comes up again after it was killed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::{error, warn};

use crate::durable;

/// The boundaries of an action at which an agent can die, in the order in which they are passed.
pub const NAMES: &[&str] = &[
    "before_intent_persisted",
    "after_intent_persisted",
    "before_step",
    "after_step",
    "before_outcome_persisted",
    "after_outcome_persisted",
    "before_verified_persisted",
    "after_verified_persisted",
    "before_spooled",
    "after_spooled",
    "before_send",
    "after_send",
    "before_acknowledged",
    "after_acknowledged",
];

/// Root makes this file on test hosts.
const ALLOWED: &str = "allow-failpoints";

static ARMED: OnceLock<Armed> = OnceLock::new();

#[derive(Debug)]
struct Armed {
    name: String,
    hit: PathBuf,
}

/// Takes what the environment says, once. `true` if this host allows failpoints at all.
pub fn arm(etc: &Path, state: &Path) -> bool {
    let allowed = etc.join(ALLOWED).metadata().is_ok_and(|marker| marker.uid() == 0);
    let Ok(name) = std::env::var("MAINSTAY_FAILPOINT") else { return allowed };
    if !allowed || !NAMES.contains(&name.as_str()) {
        error!(name, allowed, "failpoint refused: unknown, or not allowed on this host");
        return allowed;
    }
    let hit = state.join(format!("failpoint-{name}.hit"));
    if hit.exists() {
        warn!(name, "failpoint has fired before and stays silent");
    } else {
        warn!(name, "failpoint armed: the agent will be killed there");
        let _ = ARMED.set(Armed { name, hit });
    }
    true
}

/// Dies here if this point is armed.
pub fn pass(name: &str) {
    let Some(armed) = ARMED.get().filter(|armed| armed.name == name) else { return };
    // Durable before the end, or the agent would die here again and again.
    if durable::write_atomic(&armed.hit, b"", 0o600).is_ok() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_without_roots_marker_and_an_unarmed_point_is_passed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!arm(folder.path(), folder.path()));
        pass("before_step");
    }
}
