//! The scene before a unit is restarted or stopped: what the actuator sees of its processes, in at most [`TIME_MAX`], and
//! its last lines of the journal from before. An action does not wipe these away, so they are read when it has ended or
//! has taken a while ([`JOURNAL_AFTER`]): journald has written by then what was said last.
//!
//! The lines come from journalctl, which knows every form of the journal's files and adds what systemd itself said about
//! the unit; it runs as the agent's own user, which may read the journal, and is ended when it takes too long. What cannot
//! be had is a note in the scene. Nothing here can fail: the action goes on in any case.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mainstay_core::id::{ActionId, DecisionId};
use mainstay_core::log::{Redaction, redacted};
use mainstay_core::plan::Step;
use mainstay_core::scene::{self, LINES_MAX, Scene, SceneLine, UnitScene};
use mainstay_core::subject::UnitName;
use mainstay_core::time::Now;
use serde_json::Value;
use tokio::time::timeout;

use crate::actuate::Actuator;

/// By how much an action may be later for its scene.
pub const TIME_MAX: Duration = Duration::from_millis(1_500);

/// When the journal is read at the latest, after the action was begun.
pub const JOURNAL_AFTER: Duration = Duration::from_secs(1);

/// Longest wait for it.
const JOURNAL_MAX: Duration = Duration::from_secs(5);

/// What reads the journal. A fixed path: nothing is searched for.
const JOURNALCTL: &str = "/usr/bin/journalctl";

/// What of a line is wanted.
const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SOURCE_REALTIME_TIMESTAMP";

/// How far back its lines go.
const SINCE: &str = "--since=-1h";

/// Lines that are read: those that the action adds within its first second come last, and are left out.
const LINES_READ_MAX: usize = 2 * LINES_MAX;

/// Most bytes that are read of what it says: fifty lines of a program that writes kilobytes in each.
const OUTPUT_BYTES_MAX: u64 = 512 * 1024;

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
    /// Adds the unit's last lines from before the action.
    pub async fn with_journal(self) -> Scene {
        self.with_lines_of(JOURNALCTL).await
    }

    async fn with_lines_of(self, program: &'static str) -> Scene {
        let looked_ms = i64::try_from(self.elapsed_ms).unwrap_or(0);
        let (name, until_ms) = (self.unit.clone(), self.at.wall_ms.saturating_add(looked_ms));
        let read = tokio::task::spawn_blocking(move || lines(program, &name, until_ms, JOURNAL_MAX)).await;
        let read = read.unwrap_or_else(|lost| Err(lost.to_string()));
        let mut notes = Vec::new();
        let mut note = |what: &str, why: String| notes.push(format!("{what}: {why}"));
        let processes = self.processes.unwrap_or_else(|why| {
            note("processes", why);
            UnitScene::default()
        });
        let lines = read.unwrap_or_else(|why| {
            note("journal", why);
            Vec::new()
        });
        let Self { unit, before: Before { action, decision, .. }, at, elapsed_ms, .. } = self;
        Scene { action, decision, unit, at, elapsed_ms, lines, processes, notes }
    }
}

/// The unit's last lines.
///
/// # Errors
/// Why there are none, in words.
fn lines(program: &str, unit: &UnitName, until_ms: i64, at_most: Duration) -> Result<Vec<SceneLine>, String> {
    let child = Command::new(program)
        .args(["--quiet", "--no-pager", "--output=json", FIELDS, SINCE])
        .arg(format!("--until=@{}", until_ms / 1_000 + 1))
        .arg(format!("--lines={LINES_READ_MAX}"))
        .arg(format!("--unit={unit}"))
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| format!("cannot run {program}: {error}"))?;
    let said = output(&mut child, at_most);
    // Over its time, or done: it ends either way, and leaves no zombie.
    let _ = child.kill();
    let status = child.wait();
    let said = said.ok_or_else(|| format!("{program} did not end within {} ms", at_most.as_millis()))?;
    match status {
        Ok(status) if said.is_empty() && !status.success() => Err(format!("{program} ended with {status}")),
        _ => Ok(read(&said, until_ms)),
    }
}

/// All that a child says, if it is done in time.
fn output(child: &mut Child, at_most: Duration) -> Option<Vec<u8>> {
    let stdout = child.stdout.take()?;
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).is_ok() {
            // Nobody listens any more when it took too long.
            let _ = sender.send(bytes);
        }
    });
    said.recv_timeout(at_most).ok()
}

/// Lines of `--output=json` until a moment, the last ones within the bound. What is no line is left out.
fn read(said: &[u8], until_ms: i64) -> Vec<SceneLine> {
    let redaction = Redaction::default();
    let all = said.split(|byte| *byte == b'\n').filter_map(|line| read_line(line, &redaction));
    let mut lines: Vec<_> = all.filter(|line| line.wall_ms <= until_ms).collect();
    let surplus = lines.len().saturating_sub(LINES_MAX);
    lines.drain(..surplus);
    lines
}

fn read_line(line: &[u8], redaction: &Redaction) -> Option<SceneLine> {
    let fields: Value = serde_json::from_slice(line).ok()?;
    let message = bytes_of(fields.get("MESSAGE")?)?;
    // When it was said, where that is known: journald takes it a moment later.
    let moment = |name: &str| fields.get(name)?.as_str()?.parse::<i64>().ok();
    let at_us = moment("_SOURCE_REALTIME_TIMESTAMP").or_else(|| moment("__REALTIME_TIMESTAMP"))?;
    let priority = fields.get("PRIORITY").and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(6);
    let from = fields.get("SYSLOG_IDENTIFIER").and_then(bytes_of).unwrap_or_default();
    let text = redacted(&message, redaction);
    Some(SceneLine { wall_ms: at_us / 1_000, priority, from: scene::word(&from), text })
}

/// Text, or bytes that are none, as journalctl writes them.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Array(bytes) => bytes.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn unit() -> UnitName {
        "app.service".parse().unwrap()
    }

    const BEFORE: Before = Before { action: ActionId(7), decision: DecisionId(8), invocation: None };

    /// A journalctl that is played.
    fn program(folder: &std::path::Path, script: &str) -> String {
        let path = folder.join("journalctl");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn lines_are_read_with_their_secrets_masked() {
        let said = concat!(
            r#"{"__REALTIME_TIMESTAMP":"1795392000000123","PRIORITY":"3","SYSLOG_IDENTIFIER":"app","MESSAGE":"login failed password=hunter2 for bob"}"#,
            "\n",
            r#"{"__REALTIME_TIMESTAMP":"1","_SOURCE_REALTIME_TIMESTAMP":"1795392001000000","MESSAGE":[104,105,255,27,91,50,74]}"#,
            "\nno json\n",
            r#"{"__REALTIME_TIMESTAMP":"1795392002000000","MESSAGE":null}"#,
        );
        let lines = read(said.as_bytes(), i64::MAX);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!((lines[0].wall_ms, lines[0].priority, lines[0].from.as_str()), (1_795_392_000_000, 3, "app"));
        assert!(lines[0].text.contains("login failed") && !lines[0].text.contains("hunter2"), "{}", lines[0].text);
        assert_eq!(lines[1].wall_ms, 1_795_392_001_000);
        assert!(lines[1].text.starts_with("hi") && !lines[1].text.contains('\u{1b}'), "{:?}", lines[1].text);
    }

    #[test]
    fn only_the_last_lines_from_before_are_kept() {
        let line = |n: usize| format!(r#"{{"__REALTIME_TIMESTAMP":"{n}000","MESSAGE":"line"}}"#);
        let said: Vec<_> = (0..200).map(line).collect();
        let lines = read(said.join("\n").as_bytes(), 180);
        assert_eq!((lines.len(), lines[LINES_MAX - 1].wall_ms), (LINES_MAX, 180));
    }

    #[test]
    fn what_does_not_end_is_ended_and_what_fails_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let why = lines(&program(folder.path(), "exec sleep 600"), &unit(), 9, Duration::from_millis(100)).unwrap_err();
        assert!(why.contains("did not end within 100 ms"), "{why}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        let why = lines(&program(folder.path(), "exit 3"), &unit(), 9, JOURNAL_MAX).unwrap_err();
        assert!(why.contains("exit status: 3"), "{why}");
        let why = lines("/nonexistent/journalctl", &unit(), 9, JOURNAL_MAX).unwrap_err();
        assert!(why.contains("cannot run"), "{why}");
        let script =
            r#"[ "$6$8" = --until=@1--unit=app.service ] && echo '{"__REALTIME_TIMESTAMP":"5000","MESSAGE":"ok"}'"#;
        assert_eq!(lines(&program(folder.path(), script), &unit(), 9, JOURNAL_MAX).unwrap()[0].text, "ok");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_scene_that_cannot_be_seen_says_so_and_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("actuator.sock");
        // It takes requests and never answers.
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let began = Instant::now();
        let begun = begin(&Actuator::at(&socket), &unit(), BEFORE, Now::default()).await;
        assert!(began.elapsed() < TIME_MAX + Duration::from_secs(1), "{:?}", began.elapsed());
        let scene = begun.with_lines_of("/nonexistent/journalctl").await;
        assert_eq!(scene.notes.len(), 2, "{:?}", scene.notes);
        assert!(
            scene.notes[0].starts_with("processes: ") && scene.notes[1].starts_with("journal: "),
            "{:?}",
            scene.notes
        );
        assert_eq!((scene.action, scene.decision), (ActionId(7), DecisionId(8)));
        assert_eq!(scene.processes, UnitScene::default());
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
