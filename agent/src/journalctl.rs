//! Lines of the journal that a person is to read: before a unit is restarted, and when somebody asks.
//!
//! They come from journalctl, which knows every form of the journal's files and adds what systemd itself said about a unit. It
//! runs as the agent's own user, which may read the journal, reads from the end, and is ended when it takes too long or says
//! too much. *Invariant:* no line leaves this module but redacted.

use std::process::Command;
use std::time::Duration;

use mainstay_core::host_query::LogsReply;
use mainstay_core::host_query::logs::{LogLine, PRIORITY_MAX};
use mainstay_core::log::{Redaction, redacted};
use mainstay_core::scene;
use mainstay_core::subject::UnitName;
use serde_json::Value;

use crate::child;

/// What reads the journal. A fixed path: nothing is searched for.
pub const JOURNALCTL: &str = "/usr/bin/journalctl";

/// What of a line is wanted.
const FIELDS: &str =
    "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SOURCE_REALTIME_TIMESTAMP,_SYSTEMD_UNIT,UNIT,_TRANSPORT";

/// Most bytes that are read of what it says: five hundred lines of a program that writes kilobytes in each.
const OUTPUT_BYTES_MAX: u64 = 2 << 20;

/// What systemd itself runs in: what it says of a unit is about that one.
const MANAGER: &str = "init.scope";

/// Stands for a line that journalctl does not hand on whole.
const TOO_LONG: &str = "(a line that is too long to be shown)";

/// Which lines are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only this unit's.
    pub unit: Option<UnitName>,
    /// Only those from then on.
    pub since_ms: Option<i64>,
    /// Only those until then.
    pub until_ms: Option<i64>,
    /// Only those that are at least this severe.
    pub priority: u8,
    /// How many lines journalctl is asked for.
    pub read: usize,
    /// How many of them are kept: the last ones.
    pub kept: usize,
    /// What must not leave the host.
    pub redaction: Redaction,
}

/// The last lines that are wanted.
///
/// # Errors
/// Why there are none, in words.
pub fn lines(program: &str, wanted: &Wanted, at_most: Duration) -> Result<LogsReply, String> {
    let mut command = Command::new(program);
    command
        .args(["--quiet", "--no-pager", "--reverse", "--output=json", FIELDS])
        .arg(format!("--lines={}", wanted.read));
    // It knows seconds: what is too late is left out afterwards.
    command.args(wanted.since_ms.map(|since_ms| format!("--since=@{}", since_ms.max(0) / 1_000)));
    command.args(wanted.until_ms.map(|until_ms| format!("--until=@{}", until_ms.max(0) / 1_000 + 1)));
    command.args(Some(wanted.priority).filter(|most| *most < PRIORITY_MAX).map(|most| format!("--priority={most}")));
    command.args(wanted.unit.as_ref().map(|unit| format!("--unit={unit}")));
    Ok(read(&child::said(&mut command, at_most, OUTPUT_BYTES_MAX)?, wanted))
}

/// Lines of `--output=json`, newest first; gives the last ones within the bound, oldest first. What is no line is left out.
fn read(said: &[u8], wanted: &Wanted) -> LogsReply {
    let is_cut = u64::try_from(said.len()).is_ok_and(|bytes| bytes >= OUTPUT_BYTES_MAX);
    let until_ms = wanted.until_ms.unwrap_or(i64::MAX);
    let all = said.split(|byte| *byte == b'\n').filter_map(|line| read_line(line, &wanted.redaction));
    let mut lines: Vec<_> = all.filter(|line| line.wall_ms <= until_ms).take(wanted.kept.saturating_add(1)).collect();
    let has_more = lines.len() > wanted.kept || is_cut;
    lines.truncate(wanted.kept);
    lines.reverse();
    LogsReply { lines, has_more }
}

fn read_line(line: &[u8], redaction: &Redaction) -> Option<LogLine> {
    let fields: Value = serde_json::from_slice(line).ok()?;
    let text = match fields.get("MESSAGE")? {
        Value::Null => TOO_LONG.to_owned(),
        message => redacted(&bytes_of(message)?, redaction),
    };
    // When it was said, where that is known: journald takes it a moment later.
    let moment = |name: &str| fields.get(name)?.as_str()?.parse::<i64>().ok();
    let at_us = moment("_SOURCE_REALTIME_TIMESTAMP").or_else(|| moment("__REALTIME_TIMESTAMP"))?;
    let field = |name: &str| fields.get(name).and_then(Value::as_str);
    let word_of = |name: &str| fields.get(name).and_then(bytes_of).map(|bytes| scene::word(&bytes)).unwrap_or_default();
    let priority = field("PRIORITY").and_then(|text| text.parse::<u8>().ok()).unwrap_or(6).min(PRIORITY_MAX);
    // Anybody can write `UNIT=`; of systemd itself it is true.
    let about = field("UNIT").filter(|_| field("_SYSTEMD_UNIT") == Some(MANAGER));
    let unit = about.or_else(|| field("_SYSTEMD_UNIT")).and_then(|unit| unit.parse::<UnitName>().ok());
    let from = match word_of("SYSLOG_IDENTIFIER") {
        from if from.is_empty() => word_of("_TRANSPORT"),
        from => from,
    };
    let unit = unit.map(|unit| unit.as_str().to_owned()).unwrap_or_default();
    Some(LogLine { wall_ms: at_us / 1_000, priority, unit, from, text })
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
    use std::time::Instant;

    use mainstay_core::policy::Glob;
    use proptest::prelude::*;

    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(30);

    fn wanted() -> Wanted {
        let (unit, redaction) = (None, Redaction::default());
        Wanted { unit, since_ms: None, until_ms: None, priority: PRIORITY_MAX, read: 20, kept: 10, redaction }
    }

    /// A journalctl that is played.
    fn program(folder: &std::path::Path, script: &str) -> String {
        let path = folder.join("journalctl");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn lines_are_read_with_their_secrets_masked_and_oldest_first() {
        let said = concat!(
            r#"{"__REALTIME_TIMESTAMP":"1795392002000000","_TRANSPORT":"kernel","MESSAGE":null}"#,
            "\nno json\n",
            r#"{"__REALTIME_TIMESTAMP":"1","_SOURCE_REALTIME_TIMESTAMP":"1795392001000000","MESSAGE":[104,105,255,27,91,50,74]}"#,
            "\n",
            r#"{"__REALTIME_TIMESTAMP":"1795392000000123","PRIORITY":"3","SYSLOG_IDENTIFIER":"app","MESSAGE":"login failed password=hunter2 for acct-bob"}"#,
        );
        let rules = Redaction::new(vec![Glob::new("acct-*").unwrap()]);
        let LogsReply { lines, has_more } = read(said.as_bytes(), &Wanted { redaction: rules, ..wanted() });
        assert_eq!((lines.len(), has_more), (3, false), "{lines:?}");
        assert_eq!((lines[0].wall_ms, lines[0].priority, lines[0].from.as_str()), (1_795_392_000_000, 3, "app"));
        assert!(lines[0].text.starts_with("login failed"), "{}", lines[0].text);
        assert!(!lines[0].text.contains("hunter2") && !lines[0].text.contains("bob"), "{}", lines[0].text);
        assert_eq!((lines[1].wall_ms, lines[1].priority), (1_795_392_001_000, 6));
        assert!(lines[1].text.starts_with("hi") && !lines[1].text.contains('\u{1b}'), "{:?}", lines[1].text);
        assert_eq!((lines[2].from.as_str(), lines[2].text.as_str()), ("kernel", TOO_LONG));
    }

    #[test]
    fn a_line_is_about_a_unit_by_the_word_of_journald_and_of_systemd_and_nobody_elses() {
        let unit = |fields: &str| {
            let line = format!(r#"{{"__REALTIME_TIMESTAMP":"1","MESSAGE":"x",{fields}}}"#);
            read_line(line.as_bytes(), &Redaction::default()).unwrap().unit
        };
        assert_eq!(unit(r#""_SYSTEMD_UNIT":"app.service""#), "app.service");
        assert_eq!(unit(r#""_SYSTEMD_UNIT":"init.scope","UNIT":"app.service""#), "app.service");
        assert_eq!(unit(r#""_SYSTEMD_UNIT":"evil.service","UNIT":"app.service""#), "evil.service");
        assert_eq!(unit(r#""UNIT":"app.service""#), "");
        assert_eq!(unit(r#""_SYSTEMD_UNIT":"no unit""#), "");
    }

    #[test]
    fn only_the_last_lines_until_the_moment_are_kept_and_that_there_are_more_is_said() {
        let line = |n: usize| format!(r#"{{"__REALTIME_TIMESTAMP":"{n}000","MESSAGE":"line"}}"#);
        let said: Vec<_> = (0..200).rev().map(line).collect();
        let said = said.join("\n");
        let kept = read(said.as_bytes(), &Wanted { until_ms: Some(180), ..wanted() });
        let at: Vec<i64> = kept.lines.iter().map(|line| line.wall_ms).collect();
        assert_eq!((at, kept.has_more), ((171..=180).collect(), true));
        let all = read(said.as_bytes(), &Wanted { kept: 200, ..wanted() });
        assert_eq!((all.lines.len(), all.has_more), (200, false));
    }

    #[test]
    fn what_says_too_much_is_cut_at_its_older_end() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!(r#"{{"__REALTIME_TIMESTAMP":"5000","MESSAGE":"{}"}}"#, "x".repeat(4_000));
        let script = format!("i=0; while [ $i -lt 1000 ]; do echo '{line}'; i=$((i+1)); done");
        let cut = lines(&program(folder.path(), &script), &Wanted { kept: 2_000, read: 2_000, ..wanted() }, TIME_MAX)
            .unwrap();
        assert!(cut.has_more && (400..1_000).contains(&cut.lines.len()), "{}", cut.lines.len());
    }

    #[test]
    fn what_does_not_end_is_ended_and_what_fails_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let ask = |script: &str, at_most| lines(&program(folder.path(), script), &wanted(), at_most);
        let why = ask("exec sleep 600", Duration::from_millis(100)).unwrap_err();
        assert!(why.contains("did not end within 100 ms"), "{why}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        let why = ask("exit 3", TIME_MAX).unwrap_err();
        assert!(why.contains("exit status: 3"), "{why}");
        let why = lines("/nonexistent/journalctl", &wanted(), TIME_MAX).unwrap_err();
        assert!(why.contains("cannot run"), "{why}");
        assert_eq!(ask("exit 0", TIME_MAX), Ok(LogsReply::default()), "there is nothing to say");
    }

    #[test]
    fn it_is_asked_for_what_is_wanted_and_nothing_is_left_to_what_a_unit_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"printf '{"__REALTIME_TIMESTAMP":"5000","MESSAGE":"'; shift 5; printf '%s ' "$@"; echo '"}'"#;
        let program = program(folder.path(), script);
        let said = |wanted: &Wanted| lines(&program, wanted, TIME_MAX).unwrap().lines[0].text.clone();
        assert_eq!(said(&wanted()), "--lines=20");
        let unit = Some("-x.service".parse().unwrap());
        let all = Wanted { unit, since_ms: Some(1_999), until_ms: Some(9_000), priority: 3, ..wanted() };
        assert_eq!(said(&all), "--lines=20 --since=@1 --until=@10 --priority=3 --unit=-x.service");
    }

    proptest! {
        #[test]
        fn any_output_is_read_or_left_alone(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..60) {
            let mut damaged = br#"{"__REALTIME_TIMESTAMP":"5000","PRIORITY":"99","UNIT":["a"],"MESSAGE":[1,2]}"#.to_vec();
            damaged[at] = bytes.first().copied().unwrap_or(b'{');
            for said in [&bytes, &damaged] {
                prop_assert!(read(said, &wanted()).lines.iter().all(|line| line.priority <= PRIORITY_MAX));
            }
        }
    }
}
