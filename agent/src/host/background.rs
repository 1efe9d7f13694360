//! What no detector needs and operators look back for (errors of UDP, resets, sockets, temperatures, errors of memory, arrays),
//! for summaries: `/metrics` reads it when it is asked, which nobody does where there is no Prometheus.
//!
//! A thread of its own reads it once a minute, as a driver may take its time. What hangs grows old and is told no more.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_core::sample::Background;
use tracing::debug;

use super::clock;
use super::rounds::{Pace, Rounds};
use super::scrape::background;

/// How often it is read.
const EVERY: Duration = Duration::from_secs(60);

/// Most series of it: a machine with many sensors has some hundred.
const READINGS_MAX: usize = 512;

/// The thread, as the loop has it: it ends when this is gone.
#[derive(Debug)]
pub struct Backgrounds {
    last: Arc<Mutex<Option<Arc<Background>>>>,
    rounds: Rounds,
}

impl Backgrounds {
    /// Begins to read the host below `root`: `/` on a real one.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn follow(root: &Path) -> std::io::Result<Self> {
        let last = Arc::new(Mutex::new(None));
        let (into, root): (_, PathBuf) = (Arc::clone(&last), root.to_owned());
        let look = move || {
            // Before it is read: what takes long is as old as its first reading.
            let at = clock::now();
            let mut readings = background(&root);
            if readings.len() > READINGS_MAX {
                debug!(left_out = readings.len() - READINGS_MAX, "readings of sensors are left out of summaries");
                readings.truncate(READINGS_MAX);
            }
            let read = Background { at, readings };
            *into.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(read));
        };
        Ok(Self { last, rounds: Rounds::start("background", Pace::every(EVERY), look)? })
    }

    /// Has it not be read, to keep the agent's budget, or again.
    pub fn set_resting(&mut self, is_resting: bool) {
        self.rounds.set_resting(is_resting);
    }

    /// What was read last; `None` before that.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Background>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
