//! Notices that the agent panics again and again, so that it comes up observing only.
//!
//! A panic is a bug: it is noted and ends the process, and systemd starts it again. Whatever caused
//! it must not be made worse by acting on the host meanwhile.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::clock;

/// So many panics within [`WITHIN`] make the next start observe only.
const PANICS_MAX: usize = 3;

/// How far back panics count.
const WITHIN: Duration = Duration::from_secs(600);

/// From now on every panic, of whatever thread, is noted in `state` and ends the process.
pub fn end_on_panic(state: &Path) {
    let path = file(state);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(&path) {
            let _ = writeln!(file, "{}", clock::now().wall_ms);
            let _ = file.sync_all();
        }
        std::process::abort();
    }));
}

/// Says why to observe only, if the agent has panicked too often lately.
#[must_use]
pub fn too_many(state: &Path, wall_ms: i64) -> Option<String> {
    let path = file(state);
    let text = std::fs::read_to_string(&path).ok()?;
    let within_ms = i64::try_from(WITHIN.as_millis()).unwrap_or(i64::MAX);
    let recent = text.lines().filter_map(|line| line.parse::<i64>().ok());
    let recent = recent.filter(|at| (0..within_ms).contains(&wall_ms.saturating_sub(*at))).count();
    if recent == 0 {
        let _ = std::fs::remove_file(path);
    }
    let minutes = WITHIN.as_secs() / 60;
    (recent >= PANICS_MAX).then(|| format!("the agent crashed {recent} times within {minutes} min"))
}

fn file(state: &Path) -> PathBuf {
    state.join("panics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_panics_within_ten_minutes_make_it_observe_only_and_old_ones_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(too_many(folder.path(), 0), None);
        std::fs::write(file(folder.path()), "1000\n2000\n500000\n").unwrap();
        assert!(too_many(folder.path(), 501_000).unwrap().contains("3 times"));
        assert_eq!(too_many(folder.path(), 700_000), None);
        assert_eq!(too_many(folder.path(), 5_000_000), None);
        assert!(!file(folder.path()).exists());
    }
}
