//! The scene before a unit is restarted or stopped: what the actuator sees of its processes, in at most [`TIME_MAX`], and
//! its last lines of the journal from before. An action does not wipe these away, so they are read when it has ended or
//! has taken a while ([`JOURNAL_AFTER`]): journald has written by then what was said last.
//!
//! The lines come from [`journalctl`]. What cannot be had is a note in the scene. Nothing here can fail: the action goes on
//! in any case.

use std::time::{Duration, Instant};

use mainstay_core::host_query::LogsReply;
use mainstay_core::host_query::logs::{LogLine, PRIORITY_MAX};
use mainstay_core::id::{ActionId, DecisionId};
use mainstay_core::log::Redaction;
use mainstay_core::plan::Step;
use mainstay_core::scene::{LINES_MAX, Scene, SceneLine, UnitScene};
use mainstay_core::subject::UnitName;
use mainstay_core::time::Now;
use tokio::time::timeout;

use crate::actuate::Actuator;
use crate::journalctl::{self, JOURNALCTL, Wanted};

/// By how much an action may be later for its scene.
pub const TIME_MAX: Duration = Duration::from_millis(1_500);

/// When the journal is read at the latest, after the action was begun.
pub const JOURNAL_AFTER: Duration = Duration::from_secs(1);

/// Longest wait for it.
const JOURNAL_MAX: Duration = Duration::from_secs(5);

/// How far back its lines go.
const BACK_MS: i64 = 3_600_000;

/// Lines that are read: those that the action adds within its first second come last, and are left out.
const LINES_READ_MAX: usize = 2 * LINES_MAX;

/// Before which action of which decision.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// The action.
    pub action: ActionId,
    /// Its decision.
    pub decision: DecisionId,
    /// The run of the unit that is meant.
    pub invocation: Option<[u8; 16]>,
}

/// The unit whose scene a step wipes away.
#[must_use]
pub fn wiped_by(step: &Step) -> Option<&UnitName> {
    match step {
        Step::UnitRestart { unit, .. } | Step::UnitStop { unit } | Step::UnitStart { unit, .. } => Some(unit),
        Step::UnitReload { .. } | Step::DiskReclaim(_) | Step::Notify { .. } => None,
    }
}

/// A scene without the lines of the journal, which an action does not wipe away.
#[derive(Debug)]
pub struct Begun {
    unit: UnitName,
    before: Before,
    at: Now,
    elapsed_ms: u64,
    processes: Result<UnitScene, String>,
}

/// Looks at what the action is about to wipe away. The action waits for this.
pub async fn begin(actuator: &Actuator, unit: &UnitName, before: Before, now: Now) -> Begun {
    let begun = Instant::now();
    let seen = timeout(TIME_MAX, actuator.scene(unit, before, TIME_MAX)).await;
    let processes = seen.unwrap_or_else(|_| Err(format!("nothing was seen within {} ms", TIME_MAX.as_millis())));
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Begun { unit: unit.clone(), before, at: now, elapsed_ms, processes }
}

impl Begun {
    /// Adds the unit's last lines from before the action, without what the rules redact; none where they must not leave the host.
    pub async fn with_journal(self, redaction: Option<Redaction>) -> Scene {
        self.with_lines_of(JOURNALCTL, redaction).await
    }

    async fn with_lines_of(self, program: &'static str, redaction: Option<Redaction>) -> Scene {
        let read = match redaction {
            Some(redaction) => {
                let wanted = self.wanted(redaction);
                let read = tokio::task::spawn_blocking(move || journalctl::lines(program, &wanted, JOURNAL_MAX)).await;
                read.unwrap_or_else(|lost| Err(lost.to_string()))
            }
            None => Err("[journal] lines = false in agent.toml".to_owned()),
        };
        let mut notes = Vec::new();
        let mut note = |what: &str, why: String| notes.push(format!("{what}: {why}"));
        let processes = self.processes.unwrap_or_else(|why| {
            note("processes", why);
            UnitScene::default()
        });
        let read = read.unwrap_or_else(|why| {
            note("journal", why);
            LogsReply::default()
        });
        let lines = read.lines.into_iter().map(line).collect();
        let Self { unit, before: Before { action, decision, .. }, at, elapsed_ms, .. } = self;
        Scene { action, decision, unit, at, elapsed_ms, lines, processes, notes }
    }

    fn wanted(&self, redaction: Redaction) -> Wanted {
        let looked_ms = i64::try_from(self.elapsed_ms).unwrap_or(0);
        Wanted {
            unit: Some(self.unit.clone()),
            since_ms: Some(self.at.wall_ms.saturating_sub(BACK_MS)),
            until_ms: Some(self.at.wall_ms.saturating_add(looked_ms)),
            priority: PRIORITY_MAX,
            read: LINES_READ_MAX,
            kept: LINES_MAX,
            redaction,
        }
    }
}

/// All lines of a scene are about its unit.
fn line(line: LogLine) -> SceneLine {
    let LogLine { wall_ms, priority, from, text, .. } = line;
    SceneLine { wall_ms, priority, from, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> UnitName {
        "app.service".parse().unwrap()
    }

    const BEFORE: Before = Before { action: ActionId(7), decision: DecisionId(8), invocation: None };

    #[tokio::test(flavor = "current_thread")]
    async fn a_scene_that_cannot_be_seen_says_so_and_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("actuator.sock");
        // It takes requests and never answers.
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let began = Instant::now();
        let begun = begin(&Actuator::at(&socket), &unit(), BEFORE, Now::default()).await;
        assert!(began.elapsed() < TIME_MAX + Duration::from_secs(1), "{:?}", began.elapsed());
        let scene = begun.with_lines_of("/nonexistent/journalctl", Some(Redaction::default())).await;
        assert_eq!(scene.notes.len(), 2, "{:?}", scene.notes);
        assert!(
            scene.notes[0].starts_with("processes: ") && scene.notes[1].starts_with("journal: "),
            "{:?}",
            scene.notes
        );
        assert_eq!((scene.action, scene.decision), (ActionId(7), DecisionId(8)));
        assert_eq!(scene.processes, UnitScene::default());
        let begun = begin(&Actuator::at(folder.path().join("none")), &unit(), BEFORE, Now::default()).await;
        let scene = begun.with_journal(None).await;
        assert_eq!(scene.notes[1], "journal: [journal] lines = false in agent.toml");
    }

    #[test]
    fn only_lines_from_the_hour_before_it_was_looked_at_are_wanted() {
        let at = Now { boot_ns: 0, wall_ms: 7_200_000 };
        let begun = Begun { unit: unit(), before: BEFORE, at, elapsed_ms: 84, processes: Err(String::new()) };
        let wanted = begun.wanted(Redaction::default());
        assert_eq!((wanted.since_ms, wanted.until_ms), (Some(3_600_000), Some(7_200_084)));
        assert_eq!((wanted.unit, wanted.kept), (Some(unit()), LINES_MAX));
    }

    #[test]
    fn what_starts_and_stops_units_wipes_something_away() {
        let keep = mainstay_core::plan::ResetFailed::Keep;
        assert!(wiped_by(&Step::UnitRestart { unit: unit(), reset_failed: keep }).is_some());
        assert!(wiped_by(&Step::UnitStop { unit: unit() }).is_some());
        assert!(wiped_by(&Step::UnitReload { unit: unit() }).is_none());
        assert!(wiped_by(&Step::Notify { to: "ops".to_owned() }).is_none());
    }
}
